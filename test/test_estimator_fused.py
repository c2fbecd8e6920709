"""The estimator's fused depth: the sensor's where it is right, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame

from dkt_ros.alignment.aligner import AlignmentConfig, AlignmentState
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig
from dkt_ros.frames import FlushReason, Frame, frames_of
from dkt_ros.fusion.colours import brightened
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.consistency import ConsistencyConfig
from dkt_ros.fusion.fused import Source
from dkt_ros.geometry import Intrinsics
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

OK, HELD, UNALIGNED, SENSOR = AlignmentState
SCENE = rendered_frame()
HEIGHT, WIDTH = SCENE.raw.shape
CAMERA = Intrinsics(WIDTH, WIDTH, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
RAW = SCENE.raw
HOLES = ~np.isfinite(RAW)
GOOD = ~HOLES & ~SCENE.glass
RIGHT = GOOD & (np.abs(RAW - SCENE.truth) < 0.02 * SCENE.truth)


class Network(Predictor):
    """Gives what it is told."""

    def __init__(self, disparity: np.ndarray) -> None:
        super().__init__(PredictorInfo("told"))
        self.disparity = disparity.astype(np.float32)

    def push(self, frame: Frame) -> Prediction:
        return Prediction(frame.rgb, self.disparity)


def frame(index: int, raw: np.ndarray | None = RAW) -> Frame:
    return Frame(SCENE.rgb, raw, CAMERA, index * 100_000_000, "camera")


def fused(disparity: np.ndarray = SCENE.disparity, **config: Any) -> DepthEstimator:
    return DepthEstimator(Network(disparity), EstimatorConfig(**config))


def push(estimator: DepthEstimator, one: Frame) -> DepthEstimate:
    estimate = estimator.push(one)
    assert estimate is not None
    return estimate


def test_where_the_sensor_is_right_its_depth_is_published_to_the_last_bit() -> None:
    """However wrong the network is there."""
    estimate = push(fused(), frame(0))
    assert RIGHT.sum() > 0.8 * GOOD.sum()
    assert (estimate.depth[RIGHT] == RAW[RIGHT]).mean() > 0.98
    assert (estimate.source[RIGHT] == Source.SENSOR).mean() > 0.99
    assert (estimate.depth[GOOD] == RAW[GOOD]).mean() > 0.95
    assert (estimate.source[GOOD] == Source.SENSOR).mean() > 0.97
    assert estimate.alignment.state is OK
    assert estimate.alignment.inlier_ratio > 0.8
    assert estimate.confidence is not None
    assert estimate.confidence.shape == RAW.shape


def test_a_network_whose_scale_the_frame_hardly_tells_still_gives_the_glass_its_shape() -> None:
    """A line too uncertain for depth of its own is good enough to be corrected by the readings."""
    picky = AlignmentConfig(max_uncertainty=0.0005)
    rough = push(fused(alignment=picky), frame(0))
    assert rough.line is not None
    assert rough.line.state is UNALIGNED
    assert np.isnan(rough.line.scale)
    assert rough.alignment.state is OK
    assert np.isfinite([rough.alignment.scale, rough.alignment.uncertainty]).all()
    sure = push(fused(), frame(0))
    assert SCENE.rel(rough.depth, SCENE.glass) < 1.1 * SCENE.rel(sure.depth, SCENE.glass)
    network = push(fused(depth="network", alignment=picky), frame(0))
    assert np.isnan(network.depth).all()


def test_frames_of_two_cameras_by_turns_have_each_its_own_depth_and_state() -> None:
    """Whose frame it is no state tells: docs/depth.md, and diagnostics."""
    raws = RAW, np.ascontiguousarray(RAW[:, ::-1]) * np.float32(1.3)
    pictures = SCENE.rgb, np.ascontiguousarray(SCENE.rgb[:, ::-1])
    rights = RIGHT, RIGHT[:, ::-1]
    network = Network(SCENE.disparity)
    estimator = DepthEstimator(network)
    for index in range(12):
        which = index % 2
        network.disparity = SCENE.disparity[:, ::-1] if which else SCENE.disparity
        estimate = push(estimator, replace(frame(index, raws[which]), rgb=pictures[which]))
        assert estimate.alignment.state is OK
        assert estimate.suspicions == ()
        right = rights[which]
        assert (estimate.depth[right] == raws[which][right]).mean() > 0.95


def test_holes_have_depth_and_say_that_it_is_the_networks() -> None:
    estimate = push(fused(), frame(0))
    assert HOLES.any()
    assert np.isfinite(estimate.depth[HOLES]).all()
    assert (estimate.source[HOLES] == Source.NETWORK).all()
    network = push(fused(depth="network"), frame(0))
    assert (network.source == Source.NETWORK).all()
    assert network.confidence is None
    assert SCENE.rel(estimate.depth, GOOD) < 0.5 * SCENE.rel(network.depth, GOOD)


@pytest.mark.parametrize(
    ("value", "end"), [(0.15, "near"), (10.0, "far"), (65.504, "far"), (3.4e38, "far")]
)
def test_a_distance_that_a_driver_fills_holes_with_is_no_reading_and_is_named(
    value: float, end: str
) -> None:
    filled, estimator = np.where(HOLES, np.float32(value), RAW), fused()
    estimate, expected = push(estimator, frame(0, filled)), push(fused(), frame(0))
    np.testing.assert_array_equal(estimate.depth, expected.depth)
    assert estimate.alignment.state is OK
    (told,) = estimate.suspicions
    assert told.cause == "fill"
    assert f"are {value:g} m to the bit and nothing else is as {end}" in told.advice
    assert "leave such pixels at 0 or NaN" in told.advice
    assert push(estimator, frame(0, filled)) is estimate, "the same picture"
    assert push(fused(), frame(0)).suspicions == ()


@pytest.mark.parametrize("end", ["min", "max"])
def test_readings_that_are_wanted_and_left_out_are_told(end: str) -> None:
    """As where max_depth_m was raised alone."""
    bound = float(np.nanpercentile(RAW, 70 if end == "max" else 30))
    raw, wanted = {f"{end}_raw_depth": bound}, {f"{end}_depth": bound}
    near = FusionConfig(**raw)  # type: ignore[arg-type]
    estimate = push(fused(fusion=near), frame(0))
    (told,) = (one for one in estimate.suspicions if one.cause == "cut off")
    share = np.count_nonzero(bound < RAW if end == "max" else bound > RAW) / RAW.size
    assert float(told.text.split("%")[0]) == pytest.approx(100 * share, abs=2)
    assert "of the raw depth is in the wanted range of 0.1 .. 10 m but" in told.advice
    assert "Set raw_min_depth_m and raw_max_depth_m" in told.advice
    assert not told.certain
    asked = push(fused(fusion=near, **wanted), frame(0))  # type: ignore[arg-type]
    assert "cut off" not in {one.cause for one in asked.suspicions}, "nor is it wanted"


def test_a_filter_that_fills_holes_is_named_and_what_it_filled_is_no_reading() -> None:
    columns = np.maximum.accumulate(np.where(HOLES, 0, np.arange(WIDTH)), axis=1)
    filled = np.take_along_axis(np.nan_to_num(np.round(RAW, 3)), columns, axis=1)
    estimate = push(fused(), frame(0, filled))
    told = {suspicion.cause: suspicion.advice for suspicion in estimate.suspicions}
    assert "up to a jump" in told["filter"]
    assert "hole_filling_filter" in told["filter"]
    assert estimate.alignment.state is OK
    assert (estimate.source[HOLES] == Source.NETWORK).mean() > 0.5


def test_depth_that_was_mixed_with_its_holes_is_named() -> None:
    small = np.nan_to_num(RAW)[::2, ::2]
    mixed = np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))
    estimate = push(fused(), frame(0, mixed))
    told = {suspicion.cause: suspicion.advice for suspicion in estimate.suspicions}
    assert "falls towards the camera within" in told["ramps"]
    assert "take the nearest pixel" in told["ramps"]
    wrong = (mixed > 0) & (np.abs(mixed - SCENE.truth) > 0.3 * SCENE.truth) & ~SCENE.glass
    left = np.abs(estimate.depth - SCENE.truth)[wrong] > 0.3 * SCENE.truth[wrong]
    assert wrong.sum() > 200
    assert np.mean(left) < 0.2


def test_a_network_that_contradicts_the_sensor_is_not_used() -> None:
    noise = np.random.default_rng(0).random(RAW.shape, dtype=np.float32)
    estimate = push(fused(noise), frame(0))
    assert estimate.alignment.state is SENSOR
    assert "network was not used" in estimate.alignment.reason
    assert np.isfinite(estimate.depth[GOOD]).all(), "never NaN where a reading is good"
    assert SCENE.rel(estimate.depth, GOOD) < 1.5 * SCENE.rel(RAW, GOOD)


def test_without_raw_depth_the_scale_is_the_past_s_and_says_so() -> None:
    estimator = fused()
    assert push(estimator, frame(0, None)).alignment.state is UNALIGNED
    nothing = push(estimator, frame(1, None))
    assert np.isnan(nothing.depth).all()
    assert nothing.suspicions == (), "no limit took it away"
    assert nothing.confidence is not None
    assert not nothing.confidence.any(), "where there is no depth"
    push(estimator, frame(2))
    held = push(estimator, frame(3, None))
    assert held.alignment.state is HELD
    assert "no raw depth" in held.alignment.reason
    assert SCENE.rel(held.depth, GOOD) < 0.1
    assert (held.source == Source.NETWORK).all()
    assert held.confidence is not None


class Shown(Network):
    """On the readings' own scale where a frame has any, else on one of its own."""

    def __init__(self) -> None:
        super().__init__(SCENE.disparity)
        self._metric = (1 / SCENE.truth).astype(np.float32)
        self._was_shown: bool | None = None

    def push(self, frame: Frame) -> Prediction:
        shown, before = frame.raw_depth is not None, self._was_shown
        self._was_shown = shown
        anew = FlushReason.RANGE if before not in (None, shown) else None
        disparity = self._metric if shown else self.disparity
        return Prediction(frame.rgb, disparity, on_scale=shown, restarted=anew)


@pytest.mark.parametrize("depth", ["fused", "network"])
def test_a_network_that_is_shown_readings_keeps_their_scale_where_they_end(depth: str) -> None:
    estimator = DepthEstimator(Shown(), EstimatorConfig(depth=depth))
    told = [push(estimator, frame(i, RAW if i in (0, 1, 4) else None)) for i in range(5)]
    assert [one.alignment.state for one in told] == [OK, OK, HELD, HELD, OK]
    assert [one.flush for one in told[2:]] == [FlushReason.RANGE, None, FlushReason.RANGE]
    for one in told[2:4]:
        assert SCENE.rel(one.depth, GOOD) < 0.05
        assert "no raw depth" in one.alignment.reason
    late = push(estimator, replace(frame(5, None), stamp_ns=int(4e9)))
    assert late.alignment.state is UNALIGNED, "max_gap_s later, another stream"


class Witness(Network):
    """On the readings' scale; keeps what it is shown."""

    def __init__(self, disparity: np.ndarray, sees_depth: bool = True, frames: int = 1) -> None:
        super().__init__(disparity)
        self.shown: list[np.ndarray | None] = []
        self.frames = frames
        self.sees_depth = sees_depth
        self.held = 0

    def push(self, frame: Frame) -> Prediction:
        self.shown.append(frame.raw_depth)
        self.held = min(self.held + 1, self.frames)
        return Prediction(frame.rgb, self.disparity, on_scale=self.sees_depth, frames=self.held)

    def reset(self) -> None:
        self.held = 0


BEHIND = np.where(SCENE.glass & ~HOLES, RAW * np.float32(1.3), RAW)
"""The glass seen through."""
METRIC = (1 / SCENE.truth).astype(np.float32)


def withheld(shown: np.ndarray | None) -> np.ndarray:
    assert shown is not None
    assert ((shown == BEHIND) | np.isnan(shown)).all()
    return np.asarray(np.isnan(shown) & ~HOLES)


def test_a_network_is_not_shown_readings_that_were_not_trusted() -> None:
    network = Witness(METRIC, frames=5)
    estimator = DepthEstimator(network)
    told = [push(estimator, frame(i, BEHIND)) for i in range(3)]
    assert [one.window for one in told] == [1, 2, 3], "of the first look nothing is left"
    first, again, *later = network.shown
    assert first is BEHIND, "nothing was known of it"
    assert len(later) == 2, "a stream's first frame alone is looked at twice"
    seen_through = SCENE.glass & ~HOLES
    for one in (again, *later):
        assert withheld(one)[seen_through].mean() > 0.6
        assert withheld(one)[GOOD].mean() < 0.1
    for estimate in told:
        assert estimate.frame.raw_depth is BEHIND
        assert estimate.fused is not None
        assert estimate.alignment.inliers == estimate.fused.trusted < estimate.fused.readings
    assert told[0].timings_s["total"] == pytest.approx(
        sum(told[0].timings_s[part] for part in ("predict", "align", "fuse"))
    )
    estimator.reset()
    push(estimator, frame(9, BEHIND))
    assert network.shown[4] is BEHIND, "of another stream nothing is known"


def test_a_network_that_saw_colour_alone_is_a_witness_against_the_sensor() -> None:
    """Right on glass that the sensor sees through; one that was shown the readings may follow."""
    raw = np.where(SCENE.glass & np.isfinite(SCENE.truth), 1.08 * SCENE.truth, RAW)
    raw = raw.astype(np.float32)

    class Right(Network):
        on_scale = False

        def push(self, frame: Frame) -> Prediction:
            return Prediction(frame.rgb, self.disparity, on_scale=self.on_scale)

    class Follows(Right):
        on_scale = True

    error = []
    for kind in (Right, Follows):
        estimator = DepthEstimator(kind(1 / np.nan_to_num(SCENE.truth, nan=5.0)))
        estimate = push(estimator, frame(0, raw))
        assert estimate.alignment.state is OK
        error.append(SCENE.rel(estimate.depth, SCENE.glass))
    assert error[0] < 0.85 * error[1]


def test_what_is_farther_than_all_else_is_shown() -> None:
    """No glass is seen through to where nothing else is: without it a network has no room there."""
    far, there = RAW.copy(), (slice(10, 22), slice(10, 22))
    far[there] = 2 * np.nanmax(RAW)
    network = Witness(METRIC)
    estimator = DepthEstimator(network)
    for index in range(2):
        estimate = push(estimator, frame(index, far))
    assert (estimate.source[there] == Source.NETWORK).mean() > 0.5, "it is not trusted"
    shown = network.shown[-1]
    assert shown is not None
    assert (shown[there] == far[there]).all()


def test_readings_that_are_trusted_again_are_shown_again() -> None:
    network = Witness(METRIC)
    estimator = DepthEstimator(network)
    for index in range(2):
        push(estimator, frame(index, BEHIND))
    for index in range(2, 12):
        push(estimator, frame(index, SCENE.truth))
    shown = network.shown[-1]
    assert shown is not None
    assert np.isnan(shown).mean() < 0.5 * withheld(network.shown[2]).mean()


@pytest.mark.parametrize(
    ("disparity", "sees_depth"),
    [(METRIC, False), (np.random.default_rng(0).random(RAW.shape), True)],
)
def test_all_is_shown_where_nobody_could_tell_better(
    disparity: np.ndarray, sees_depth: bool
) -> None:
    """A network that is shown none, one that was not used."""
    network = Witness(disparity, sees_depth)
    estimator = DepthEstimator(network)
    for index in range(3):
        push(estimator, frame(index, BEHIND))
    assert all(shown is BEHIND for shown in network.shown)
    assert len(network.shown) == 3


def test_a_stream_that_has_begun_is_not_begun_again_to_look_twice() -> None:
    network = Witness(METRIC, frames=5)
    estimator = DepthEstimator(network)
    push(estimator, frame(0, None))
    for index in (1, 2):
        push(estimator, frame(index, BEHIND))
    assert len(network.shown) == 3
    assert withheld(network.shown[2]).any()


RAYS = np.hypot(1, np.hypot(*((np.mgrid[:HEIGHT, :WIDTH].T - CAMERA.matrix[1::-1, 2]).T / WIDTH)))


@pytest.mark.parametrize(
    ("causes", "raw"),
    [
        ({"mirrored", "foreign"}, RAW[:, ::-1].copy()),
        ({"ray"}, (RAW * RAYS).astype(np.float32)),
    ],
)
def test_what_a_stream_shows_to_be_wrong_denies_the_network(
    causes: set[str], raw: np.ndarray
) -> None:
    estimator = fused()
    for index in range(5):
        estimate = push(estimator, frame(index, raw))
    assert causes & {one.cause for one in estimate.suspicions if one.certain}
    assert estimate.alignment.state is SENSOR


def test_the_same_picture_again_is_no_new_evidence() -> None:
    estimator = fused()
    told = [push(estimator, frame(index)).alignment.uncertainty for index in range(6)]
    assert min(told) >= 0.95 * told[0]


def test_less_trusted_pixels_become_unknown_on_demand() -> None:
    free = push(fused(), frame(0))
    assert free.confidence is not None
    limit = float(np.quantile(free.confidence, 0.3))
    estimator = fused(fusion=FusionConfig(min_confidence=limit))
    strict = push(estimator, frame(0))
    np.testing.assert_array_equal(np.isnan(strict.depth), free.confidence < limit)
    assert (strict.source[np.isnan(strict.depth)] == Source.NOTHING).all()
    assert strict.shares.nothing == pytest.approx(np.isnan(strict.depth).mean())
    estimator.min_confidence = 0.0
    assert np.isfinite(push(estimator, frame(1)).depth).all()


@pytest.mark.parametrize(
    "limits", [{"min_depth": 9.0}, {"fusion": FusionConfig(min_confidence=1.0)}]
)
def test_limits_that_leave_no_depth_at_all_are_told(limits: dict[str, Any]) -> None:
    estimate = push(fused(**limits), frame(0))
    assert np.isnan(estimate.depth).all()
    (told,) = (one for one in estimate.suspicions if one.cause == "nothing left")
    assert "min_confidence" in told.advice
    assert not told.certain
    assert "nothing left" not in [one.cause for one in push(fused(), frame(0)).suspicions]


@pytest.mark.parametrize("end", ["min_depth", "max_depth"])
def test_fused_depth_outside_the_range_is_unknown(end: str) -> None:
    free = push(fused(), frame(0)).depth
    limit = float(np.median(free))
    estimator = fused(min_depth=limit) if end == "min_depth" else fused(max_depth=limit)
    estimate = push(estimator, frame(0))
    outside = free < limit if end == "min_depth" else free > limit
    np.testing.assert_array_equal(estimate.depth, np.where(outside, np.nan, free))


@pytest.mark.parametrize(("limit", "farthest"), [(0.1, np.nanmin), (10.0, np.nanmax)])
def test_the_network_s_depth_outside_the_range_is_unknown(limit: float, farthest: Any) -> None:
    """Beyond all readings, which lie within."""
    unit = 1.04 * limit / farthest(RAW) if limit < 1 else 0.96 * limit / farthest(RAW)
    wrong = np.where(HOLES, 2.0 if limit < 1 else 0.5, 1.0)
    depth = push(fused(METRIC * wrong), frame(0, RAW * np.float32(unit))).depth
    assert np.isnan(depth[HOLES]).any()
    assert np.nanmin(depth) >= 0.1
    assert np.nanmax(depth) <= 10.0


@pytest.mark.parametrize("end", ["reset", "gap", "failure"])
def test_nothing_of_an_ended_stream_is_in_the_next_one(end: str) -> None:
    network, fresh = Witness(METRIC / 2, frames=5), Witness(METRIC, frames=5)
    estimator = DepthEstimator(network)
    for index in range(2):
        push(estimator, frame(index, 2 * BEHIND))
    if end == "reset":
        estimator.reset()
    if end == "failure":
        network.disparity = np.full_like(METRIC, np.nan)
        with pytest.raises(DktError, match="not finite"):
            estimator.push(frame(2, BEHIND))
    network.disparity = METRIC
    next_one, before = frame(100 if end == "gap" else 3), len(network.shown)
    after, expected = push(estimator, next_one), push(DepthEstimator(fresh), next_one)
    np.testing.assert_array_equal(after.depth, expected.depth)
    assert after.suspicions == expected.suspicions == ()
    assert network.shown[before] is RAW, "what was not trusted is of the stream before"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DktError, match="depth is 'sensor', expected one of fused, network"):
        EstimatorConfig(depth="sensor")


def test_colour_without_information_is_said_and_the_network_is_not_used() -> None:
    estimator = fused()
    assert push(estimator, frame(0)).alignment.state is OK
    estimator.reset()
    for index in range(3):
        dark = replace(frame(index), rgb=np.zeros_like(SCENE.rgb))
        estimate = push(estimator, dark)
    assert estimate.alignment.state is SENSOR
    assert any(one.certain for one in estimate.suspicions)
    assert estimate.alignment.reason == "; ".join(
        one.text for one in estimate.suspicions if one.certain
    )
    assert (estimate.depth[GOOD] == RAW[GOOD]).mean() > 0.5


def test_depth_where_none_is_expected_is_said() -> None:
    near = ConsistencyConfig(expected_depth_m=(0.1, 0.2))
    estimate = push(fused(consistency=near), frame(0))
    assert estimate.alignment.state is SENSOR
    assert "expected" in estimate.alignment.reason


def test_depth_that_is_all_beyond_range_is_said_to_be_in_another_unit() -> None:
    estimate = push(fused(), frame(0, RAW * np.float32(1000)))
    assert estimate.alignment.state is UNALIGNED
    assert "is the depth in the right unit?" in estimate.alignment.reason
    assert estimate.alignment.reason == "; ".join(
        one.text for one in estimate.suspicions if one.certain
    )


def test_a_picture_without_anything_in_it_never_gives_the_network_s_depth() -> None:
    dark = replace(frame(0), rgb=np.zeros_like(frame(0).rgb))
    estimate = push(fused(), dark)
    assert "the colour image is black" in estimate.alignment.reason
    assert estimate.alignment.state is SENSOR


def test_depth_of_too_few_pixels_to_be_relied_on_is_not_ok() -> None:
    def told(side: int, **config: Any) -> AlignmentState:
        def small(picture: np.ndarray, how: int) -> np.ndarray:
            return np.asarray(cv2.resize(picture, (side, side), interpolation=how))

        rgb, raw = small(SCENE.rgb, cv2.INTER_AREA), small(RAW, cv2.INTER_NEAREST)
        disparity = small(SCENE.disparity, cv2.INTER_AREA)
        estimator = fused(disparity, alignment=AlignmentConfig(**config))
        (one,) = (push(estimator, one) for one in frames_of([(rgb, raw)]))
        if one.alignment.state is HELD:
            assert f"the images are {side}x{side}, too few pixels" in one.alignment.reason
            assert one.alignment.uncertainty > 0.05
        return one.alignment.state

    assert told(40) is HELD
    assert told(40, max_uncertainty=0.2) is OK
    assert told(80) is OK


class Watching(Network):
    """Keeps what it was shown."""

    shown: np.ndarray

    def push(self, frame: Frame) -> Prediction:
        self.shown = frame.rgb
        return super().push(frame)


def in_the_dark(share: float) -> Frame:
    """As a night exposure of 8 bits shows it, with the camera's noise."""
    noise = np.random.default_rng(0).normal(0, 1, SCENE.rgb.shape)
    rgb = np.clip(np.rint(SCENE.rgb * share + noise), 0, 255).astype(np.uint8)
    return replace(frame(0), rgb=rgb)


def test_a_dark_picture_that_can_be_read_is_shown_to_the_network_as_by_day() -> None:
    def shown(given: Frame) -> tuple[np.ndarray, DepthEstimate]:
        network = Watching(SCENE.disparity)
        estimate = push(DepthEstimator(network), given)
        assert estimate.frame is given, "what is published is the camera's own"
        return network.shown, estimate

    dark, day = in_the_dark(0.1), frame(0)
    assert np.quantile(dark.rgb, 0.98) < 30
    rgb, estimate = shown(dark)
    assert np.corrcoef(rgb.ravel(), day.rgb.ravel())[0, 1] > 0.85
    assert 90 < np.quantile(rgb, 0.98) < 150
    assert (estimate.alignment.state, estimate.suspicions) == (OK, ())
    assert shown(day)[0] is day.rgb
    capped = in_the_dark(0.0)
    rgb, estimate = shown(capped)
    assert rgb is capped.rgb
    assert estimate.alignment.state is SENSOR
    assert "the colour image is black" in estimate.alignment.reason


def test_noise_of_a_dark_picture_makes_no_steps_of_its_brightness() -> None:
    """Depth would follow them: in holes it differed by 2 to 9 % with and without."""
    random = np.random.default_rng(0)
    for share in np.geomspace(0.2, 0.1, 24):
        noisy = [SCENE.rgb * share + random.normal(0, 3, SCENE.rgb.shape) for _ in range(4)]
        dark = [np.clip(one, 0, 255).astype(np.uint8) for one in noisy]
        factors = [brightened(one).mean() / one.mean() for one in dark]
        assert max(factors) < 1.3 * min(factors), share


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(1, 1), (1, 8), (8, 1), (2, 2), (3, 5), (1, 300), (300, 1)])
def test_the_smallest_pictures_are_fused(size: tuple[int, int]) -> None:
    """Without a warning, and from nothing but them."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, *size, 3), np.uint8)
    disparity = random.uniform(0.5, 1.0, size)
    raw = (1 / disparity).astype(np.float32)
    unknown = np.full_like(raw, np.nan)
    first, second = (
        [
            push(estimator, one).depth
            for one in frames_of(zip(pictures, (raw, unknown, raw), strict=True))
        ]
        for estimator in (fused(disparity), fused(disparity))
    )
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first[0]).all()
