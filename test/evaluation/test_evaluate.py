"""The comparison of methods on a video, and how figures are averaged."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fixtures.evaluated_scenes import RANGE, EveryOther, oracle, table_with_glass

from dkt_ros.datasets.iterate import Skipped
from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import (
    Methods,
    Result,
    evaluate_video,
    mean_regions,
    summarise,
    summarise_sets,
)
from dkt_ros.evaluation.judge import Figures
from dkt_ros.evaluation.models import DepthModel, ExactModel, LiveModel


def test_a_perfect_network_beats_the_baselines_where_glass_is() -> None:
    video = table_with_glass()
    methods = Methods([ExactModel(oracle(video))])
    summary = summarise(evaluate_video(video, methods, RANGE))
    assert summary["dkt exact, video"]["transparent"].rel < 1e-3
    assert summary["dkt exact, online"]["transparent"].rel < 5e-3
    assert summary["plane"]["transparent"].rel > 0.2
    assert summary["plane"]["rest"].rel < 1e-3
    assert summary["raw"]["transparent"].coverage == 0.0
    assert math.isnan(summary["raw"]["transparent"].rel)
    assert math.isnan(summary["dkt exact, video"]["reflective"].rel)
    assert summary["plane"]["transparent/reflective"].rel == summary["plane"]["transparent"].rel


def test_the_plane_is_off_by_what_the_glass_stands_out() -> None:
    # Glass 0.5 1/m nearer: z = 1/(d + .5) against 1/d, so |p - g|/g = .5 / d, d = .6 + row/48.
    video = table_with_glass(1)
    figures = summarise(evaluate_video(video, Methods(), RANGE))["plane"]["transparent"]
    rows = np.arange(10, 26)
    assert figures.rel == pytest.approx(np.mean(0.5 / (0.6 + rows / 48)), rel=1e-3)


def test_without_raw_depth_there_is_nothing_to_complete_or_to_align_to() -> None:
    video = table_with_glass(raw=False)
    results = evaluate_video(video, Methods([ExactModel(oracle(video))]), RANGE)
    assert [r.method for r in results] == ["truth", "dkt exact, video"]


def test_a_single_picture_is_predicted_once() -> None:
    video = table_with_glass(1)
    good, calls = oracle(video), []

    def counted(rgb: np.ndarray, /) -> np.ndarray:
        calls.append(len(rgb))
        return good(rgb)

    summary = summarise(evaluate_video(video, Methods([ExactModel(counted)]), RANGE))
    assert calls == [1]
    assert summary["dkt exact, online"]["all"].rel < 5e-3
    evaluate_video(video, Methods([ExactModel(counted)], ("online",)), RANGE)
    assert calls == [1, 1]


def test_alignments_are_those_asked_for() -> None:
    video = table_with_glass()
    results = evaluate_video(video, Methods([ExactModel(oracle(video))], ("online",)), RANGE)
    assert [r.method for r in results if "dkt" in r.method] == ["dkt exact, online"]


def test_depth_beyond_the_range_counts_online_as_it_does_per_video() -> None:
    video = table_with_glass()

    def far_glass(rgb: np.ndarray, /) -> np.ndarray:
        disparity = oracle(video)(rgb)
        disparity[:, 12:14, 22:30] = (0.2 - 0.5) / 2.0  # 5 m, in a range that ends at 2 m
        return disparity

    results = evaluate_video(video, Methods([ExactModel(far_glass)]), (0.1, 2.0))
    glass = {r.method: r.regions["transparent"] for r in results}
    assert glass["dkt exact, online"].coverage == 1.0
    assert glass["dkt exact, online"].rel > 0.05


def test_truth_outside_the_range_does_not_count() -> None:
    video = table_with_glass()
    video.truth[:, 0] = 50.0
    assert summarise(evaluate_video(video, Methods(), RANGE))["nearest fill"]["all"].rmse_m < 1.0


def test_a_video_without_truth_in_the_range_is_named() -> None:
    skipped = Skipped()
    assert evaluate_video(table_with_glass(), Methods(), (5.0, 6.0), skipped) == []
    assert skipped.reasons == {"made up": "no true depth from 5 to 6 m"}


def test_a_network_that_cannot_be_aligned_is_named_and_the_baselines_stay() -> None:
    video = table_with_glass()
    flat = ExactModel(lambda rgb: np.full(rgb.shape[:3], 0.5, np.float32))
    skipped = Skipped()
    results = evaluate_video(video, Methods([flat]), RANGE, skipped)
    assert {r.method for r in results} >= {"raw", "Telea"}
    assert not any("dkt" in r.method for r in results)
    (reason,) = skipped.reasons.items()
    assert reason[0] == "made up, dkt exact"
    assert "cannot align" in reason[1]


def test_live_is_compared_with_exact_on_its_own_frames() -> None:
    video = table_with_glass(4)
    truth = video.truth.copy()
    good = oracle(video)

    def worse_later(rgb: np.ndarray, /) -> np.ndarray:
        """The exact sampler errs in frames 1 and 3, which live passes over."""
        disparity = good(rgb)
        disparity[1::2] += np.linspace(0.0, 0.2, disparity.shape[2], dtype=np.float32)
        return disparity

    models: list[DepthModel] = [ExactModel(worse_later), LiveModel(lambda size: EveryOther(good))]
    results = evaluate_video(video, Methods(models, ("video",)), RANGE)
    summary = summarise(results)
    exact, live = summary["dkt exact, video"]["all"], summary["dkt live, video"]["all"]
    shared = summary["dkt exact, video, live frames"]["all"]
    assert live.coverage == shared.coverage == 0.5
    assert exact.coverage == 1.0
    assert live.rel < 1e-3
    assert live.rel < shared.rel < exact.rel
    np.testing.assert_array_equal(video.truth, truth)


def test_live_alone_and_live_on_every_frame_have_no_second_row() -> None:
    video = table_with_glass(3)

    class EveryFrame(EveryOther):
        def push(self, rgb: np.ndarray, /):  # type: ignore[no-untyped-def]
            self._count = 0
            return super().push(rgb)

    live = LiveModel(lambda size: EveryFrame(oracle(video)))
    both = evaluate_video(video, Methods([ExactModel(oracle(video)), live]), RANGE)
    assert not any("live frames" in r.method for r in both)
    alone = evaluate_video(
        video, Methods([LiveModel(lambda size: EveryOther(oracle(video)))]), RANGE
    )
    assert [r.method for r in alone if "dkt" in r.method] == ["dkt live, video", "dkt live, online"]


def test_a_normals_network_that_fails_is_named_and_the_rest_goes_on() -> None:
    def fail(rgb: np.ndarray) -> np.ndarray:
        raise DktError("no")

    skipped = Skipped()
    results = evaluate_video(table_with_glass(), Methods(predict_normals=fail), RANGE, skipped)
    assert "plane" in [r.method for r in results]
    assert skipped.reasons == {"made up, dkt normals": "no"}


def test_a_normals_network_is_measured_by_its_normals_alone() -> None:
    video = table_with_glass()
    normals = video.normals
    assert normals is not None
    methods = Methods(predict_normals=lambda rgb: normals)
    figures = summarise(evaluate_video(video, methods, RANGE))["dkt normals"]["all"]
    assert figures.mean_deg == pytest.approx(0.0, abs=1e-4)
    assert figures.normal_coverage == 1.0
    assert math.isnan(figures.rel)


def test_videos_count_alike_and_so_do_sets() -> None:
    def result(video: str, rel: float) -> Result:
        return Result("m", video, {"all": Figures(rel=rel)})

    first = summarise([result("a", 0.1), result("b", 0.3)])
    second = summarise([result("c", 0.8)])
    assert first["m"]["all"].rel == pytest.approx(0.2)
    assert summarise_sets([first, second])["m"]["all"].rel == pytest.approx(0.5)
    lone = {"other": first["m"]}
    assert summarise_sets([lone, second])["m"]["all"].rel == pytest.approx(0.8)


def test_live_and_exact_are_means_over_the_same_videos() -> None:
    """Of a picture live has every frame, so that exact has no second row there."""

    def result(video: str, method: str, rel: float) -> Result:
        return Result(f"dkt {method}", video, {"all": Figures(rel=rel)})

    picture = [result("a", "exact, video", 0.1), result("a", "live, video", 0.1)]
    failed = [result("b", "exact, video", 0.9)]
    long = [
        result("c", "exact, video", 0.3),
        result("c", "live, video", 0.5),
        result("c", "exact, video, live frames", 0.4),
    ]
    summary = summarise([*picture, *failed, *long])
    assert summary["dkt live, video"]["all"].rel == pytest.approx(0.3)
    assert summary["dkt exact, video, live frames"]["all"].rel == pytest.approx(0.25)
    over_sets = summarise_sets([summarise(picture), summarise(failed), summarise(long)])
    for name, regions in summary.items():
        assert over_sets[name]["all"].rel == pytest.approx(regions["all"].rel)


def test_regions_that_one_row_lacks_are_the_mean_of_the_others() -> None:
    rows = [
        {"all": Figures(rel=0.1)},
        {"all": Figures(rel=0.3), "rest": Figures(rel=0.7)},
        {"rest": Figures(), "all": Figures(rel=math.nan, tae=0.5)},
    ]
    means = mean_regions(rows)
    assert list(means) == ["all", "rest"]
    assert means["all"].rel == pytest.approx(0.2)
    assert means["all"].tae == 0.5
    assert means["rest"].rel == pytest.approx(0.7)


def test_frames_count_alike_within_a_video() -> None:
    video = table_with_glass(2)
    assert video.raw is not None
    raw = video.raw.copy()
    raw[0] *= 1.3
    raw[1, 5:] = np.nan
    figures = summarise(evaluate_video(replace(video, raw=raw), Methods(), RANGE))["raw"]["all"]
    assert figures.rel == pytest.approx(0.15, abs=1e-5)  # not weighted by pixels
