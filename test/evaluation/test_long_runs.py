"""Error over time: a network that forgets what it saw at first is found out."""

from __future__ import annotations

import numpy as np
import pytest
from fixtures.evaluated_scenes import RANGE, Told, oracle, table_with_glass

from dkt_ros.evaluation.long_runs import Curve, long_runs, mean_curves
from dkt_ros.frames import Frame
from dkt_ros.predict.predictor import Prediction


class Forgetful(Told):
    """Right at first; of later frames it says less and less, and in the end nothing."""

    def push(self, frame: Frame) -> Prediction | None:
        answer = super().push(frame)
        if answer is None:
            return None
        assert answer.disparity is not None
        share = min(1.0, self._count / 200)
        noise = np.random.default_rng(self._count).random(answer.disparity.shape)
        mixed = (1 - share) * np.asarray(answer.disparity) + share * noise
        return Prediction(answer.rgb, mixed.astype(np.float32))


def test_a_network_that_stays_right_has_a_flat_curve() -> None:
    video = table_with_glass(frames=4)
    curves = long_runs(Told(oracle(video)), video, 300, RANGE)
    assert set(curves) == {"standing", "moving"}
    for curve in curves.values():
        assert curve.frames == tuple(range(300))
        assert curve.first == pytest.approx(0.0, abs=1e-5)
        assert curve.last == pytest.approx(0.0, abs=1e-5)


class Watched(Told):
    """Notes which pictures come and when, and which frame it heard of a new stream before."""

    def reset(self) -> None:
        super().reset()
        self.seen: list[tuple[int, int]] = []

    def push(self, frame: Frame) -> Prediction | None:
        self.seen.append((int(frame.rgb[0, 0, 0]), frame.stamp_ns))
        self.last = list(self.seen)
        return super().push(frame)


def test_a_moving_run_goes_forth_and_back_as_a_camera_would() -> None:
    video = table_with_glass(frames=4)
    video.rgb[:] = np.arange(4, dtype=np.uint8)[:, None, None, None]
    watched = Watched(oracle(video))
    long_runs(watched, video, 9, RANGE)
    pictures, stamps = zip(*watched.last, strict=True)
    assert pictures == (0, 1, 2, 3, 2, 1, 0, 1, 2)
    assert np.unique(np.diff(stamps)).tolist() == [100_000_000]
    assert watched.seen == [], "whoever asks next begins a stream"


def test_truth_outside_of_the_range_does_not_count() -> None:
    video = table_with_glass(frames=1)
    right = oracle(video)
    video.truth[:, :10], video.truth[:, 10:14] = 20.0, 0.05
    assert long_runs(Told(right), video, 3, RANGE)["standing"].rel == pytest.approx(
        (0, 0, 0), abs=1e-5
    )


class Metric(Told):
    """Tells metres, and nothing of the first rows, in one of many ways."""

    def push(self, frame: Frame) -> Prediction | None:
        answer = super().push(frame)
        assert answer is not None
        depth = 1 / np.asarray(answer.disparity)
        depth[:6] = np.array([np.nan, 0.0, np.inf, -1.0, np.nan, 0.0])[:, None]
        return Prediction(answer.rgb, depth=depth.astype(np.float32))


def test_what_a_metric_network_tells_nothing_of_does_not_count() -> None:
    video = table_with_glass(frames=2)
    for curve in long_runs(Metric(oracle(video)), video, 3, RANGE).values():
        assert curve.rel == pytest.approx((0, 0, 0), abs=1e-5)


def test_one_that_drifts_is_worse_at_the_end_and_begins_each_run_anew() -> None:
    video = table_with_glass(frames=4)
    for curve in long_runs(Forgetful(oracle(video)), video, 300, RANGE).values():
        assert curve.rel[0] < 0.01
        assert curve.last > 2 * curve.first
        assert curve.last == pytest.approx(np.mean(curve.rel[250:]))


def test_frames_without_an_answer_are_none_of_the_curve() -> None:
    video = table_with_glass(frames=2)
    curves = long_runs(Told(oracle(video), answers_every=4), video, 10, RANGE)
    assert curves["standing"].frames == (0, 4, 8)
    picture = table_with_glass(frames=1)
    assert set(long_runs(Told(oracle(picture)), picture, 3, RANGE)) == {"standing"}


def test_what_says_nothing_has_no_error() -> None:
    video = table_with_glass(frames=2)
    flat = Told(lambda rgb: np.full(rgb.shape[:3], 0.5, np.float32))
    curve = long_runs(flat, video, 4, RANGE)["standing"]
    assert np.isnan(curve.rel).all()
    assert np.isnan(curve.last)


def test_the_mean_over_videos_is_frame_by_frame() -> None:
    one, two = ({"standing": Curve(2, (0, 1), rel)} for rel in ((0.1, 0.2), (0.3, 0.6)))
    curve = mean_curves([one, two])["standing"]
    assert curve.rel == pytest.approx((0.2, 0.4))
    assert [curve.first, curve.last] == pytest.approx([0.2, 0.4])


def test_videos_whose_streams_begin_anew_at_other_places_have_a_mean() -> None:
    """In mode live answers come every so many frames, counted from there."""
    one = {"moving": Curve(6, (0, 2, 4), (0.1, 0.2, 0.3))}
    two = {"moving": Curve(6, (0, 3), (0.3, 0.6))}
    three = {"moving": Curve(6, (0, 2), (float("nan"), 0.4))}
    curve = mean_curves([one, two, three])["moving"]
    assert curve.frames == (0, 2, 3, 4)
    assert curve.rel == pytest.approx((0.2, 0.3, 0.6, 0.3))
    assert [curve.first, curve.last] == pytest.approx([0.25, 0.45])
