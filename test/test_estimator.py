"""DepthEstimator: frames in, metric depth out, whatever the network and the sensor do."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.glass_scenes import GlassScene, see_through, table_with_glass, with_holes, with_noise

from dkt_ros.alignment.aligner import AlignmentConfig, AlignmentState
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig, load_estimator
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.fusion.fused import Source
from dkt_ros.geometry import Intrinsics
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

OK, HELD, UNALIGNED = AlignmentState.OK, AlignmentState.HELD, AlignmentState.UNALIGNED
CAMERA = Intrinsics(120.0, 120.0, 63.5, 47.5, 128, 96)
TENTH_NS = 100_000_000


def scene(seed: int = 0) -> GlassScene:
    made = see_through(table_with_glass(3, (96, 128)), 3, 0.3)
    return with_holes(with_noise(made, seed), seed, 0.3)


def frame(index: int, raw: bool = True) -> Frame:
    return Frame(
        rgb=np.add.outer(np.arange(96), np.arange(128) + index)
        .astype(np.uint8)[..., None]
        .repeat(3, -1),
        raw_depth=scene(index).raw if raw else None,
        intrinsics=CAMERA,
        stamp_ns=index * TENTH_NS,
        frame_id="camera_optical",
    )


class Network(Predictor):
    """Knows the truth; notes what it was asked, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__(PredictorInfo("truth"))
        self.seen: list[int] = []
        self.stream: list[int] = []
        self.fails: Exception | None = None
        self.answer: np.ndarray | None = None

    def push(self, frame: Frame) -> Prediction:
        self.seen.append(int(frame.rgb[0, 0, 0]))
        self.stream.append(self.seen[-1])
        if self.fails:
            raise self.fails
        answer = scene().disparity if self.answer is None else self.answer
        return Prediction(frame.rgb, answer, frames=len(self.stream))

    def reset(self) -> None:
        self.stream.clear()


class Estimator(DepthEstimator):
    """One whose network answers every frame, and whose depth is the network's."""

    def __init__(self, network: Predictor, config: EstimatorConfig | None = None) -> None:
        super().__init__(network, replace(config or EstimatorConfig(), depth="network"))

    def push(self, frame: Frame) -> DepthEstimate:
        estimate = super().push(frame)
        assert estimate is not None
        return estimate


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def estimator(network: Network) -> Estimator:
    return Estimator(network, EstimatorConfig(max_gap_s=0.5))


class TestPush:
    def test_metric_depth_of_the_newest_frame(self, estimator: Estimator) -> None:
        for index in range(7):
            pushed = frame(index)
            estimate = estimator.push(pushed)
            assert estimate.frame is pushed
            assert estimate.flush is None
            assert estimate.alignment.state is OK
            assert estimate.depth.dtype == np.float32
            np.testing.assert_allclose(estimate.depth, scene().truth, rtol=0.005)
            np.testing.assert_array_equal(estimate.disparity, scene().disparity)

    def test_it_says_how_many_frames_the_network_saw(self, estimator: Estimator) -> None:
        assert [estimator.push(frame(index)).window for index in range(3)] == [1, 2, 3]

    def test_timings_add_up(self, estimator: Estimator) -> None:
        timings = estimator.push(frame(0)).timings_s
        assert set(timings) == {"predict", "align", "convert", "total"}
        assert all(seconds > 0 for seconds in timings.values())
        parts = timings["predict"] + timings["align"] + timings["convert"]
        assert timings["total"] == pytest.approx(parts)

    def test_depth_outside_the_range_is_unknown(self, network: Network) -> None:
        estimator = Estimator(network, EstimatorConfig(min_depth=0.5, max_depth=0.9))
        depth = estimator.push(frame(0)).depth
        truth = scene().truth
        assert np.isnan(depth[(truth < 0.49) | (truth > 0.92)]).all()
        assert np.isfinite(depth[(truth > 0.51) & (truth < 0.88)]).all()

    def test_alignment_s_own_settings_are_used(self, network: Network) -> None:
        strict = AlignmentConfig(min_inlier_ratio=0.99)
        estimator = Estimator(network, EstimatorConfig(alignment=strict))
        assert estimator.push(frame(0)).alignment.state is UNALIGNED

    def test_the_same_frame_again_costs_nothing(
        self, network: Network, estimator: Estimator
    ) -> None:
        first = estimator.push(frame(0))
        assert estimator.push(frame(0)) is first
        assert len(network.seen) == 1

    def test_another_picture_with_the_same_stamp_gets_no_depth_of_the_first(
        self, network: Network, estimator: Estimator
    ) -> None:
        first = frame(0)
        assert first.raw_depth is not None
        estimate = estimator.push(first)
        for other in (
            replace(first, rgb=first.rgb + np.uint8(1)),
            replace(first, raw_depth=first.raw_depth * np.float32(0.5)),
            replace(first, raw_depth=None),
        ):
            with pytest.raises(DktError, match="another picture with this stamp"):
                estimator.push(other)
        assert estimator.push(first) is estimate
        estimator.reset()
        estimator.push(replace(first, raw_depth=None))
        assert len(network.seen) == 2

    @pytest.mark.parametrize("limits", [(0.0, 1.0), (1.0, 0.5)])
    def test_an_impossible_range(self, limits: tuple[float, float]) -> None:
        with pytest.raises(DktError, match="min_depth"):
            Estimator(Network(), EstimatorConfig(min_depth=limits[0], max_depth=limits[1]))

    def test_another_range_acts_at_once(self, estimator: Estimator) -> None:
        estimator.push(frame(0))
        estimator.depth_range = (0.1, 0.2)
        assert np.isnan(estimator.push(frame(1)).depth).all()
        with pytest.raises(DktError, match="min_depth"):
            estimator.depth_range = (2.0, 1.0)


class TestOneStreamAtATime:
    def test_a_second_thread_is_refused_and_the_first_goes_on(
        self, estimator: Estimator, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inside, go_on, answer = threading.Event(), threading.Event(), network.push

        def slow(frame: Frame) -> Prediction:
            inside.set()
            assert go_on.wait(60)
            return answer(frame)

        monkeypatch.setattr(network, "push", slow)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(estimator.push, frame(0))
            assert inside.wait(60)
            with pytest.raises(DktError, match="another thread is within push"):
                estimator.push(frame(1))
            go_on.set()
            assert first.result(30).frame.stamp_ns == 0
        assert estimator.push(frame(1)).window == 2

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_a_copy_is_refused(self, estimator: Estimator, copied: Callable[[Any], Any]) -> None:
        with pytest.raises(DktError, match="expected one for each, by load_estimator"):
            copied(estimator)

    def test_a_forked_one_is_refused_lest_it_waits_for_ever(self, estimator: Estimator) -> None:
        threads, context = torch.get_num_threads(), multiprocessing.get_context("fork")
        mine, theirs = context.Pipe()

        def child() -> None:
            for act in (
                lambda n: estimator.push(frame(0)),
                lambda n: load_estimator(cpu_threads=n),
            ):
                for several in (2, 1):
                    torch.set_num_threads(several)
                    try:
                        act(several)
                        theirs.send("done")
                    except DktError as error:
                        theirs.send(str(error)[-43:])

        process = context.Process(target=child)
        process.start()
        said = [mine.recv() if mine.poll(60) else "nothing" for _ in range(4)]
        process.kill()
        refused = "an estimator loaded in the fork with cpu_threads=1"[-43:]
        assert said == [refused, "done", refused, "done"]
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("depth", ["fused", "network"])
@pytest.mark.parametrize(
    "given",
    [
        lambda values: values.clone().requires_grad_(),  # a network called without torch.no_grad
        lambda values: values.bfloat16(),
    ],
)
def test_tensors_as_networks_give_them(
    network: Network, depth: str, given: Callable[[torch.Tensor], Any]
) -> None:
    network.answer = given(torch.from_numpy(scene().disparity))
    config = EstimatorConfig(depth=depth)
    estimate = DepthEstimator(network, config).push(frame(0))
    assert estimate is not None
    assert estimate.depth.dtype == np.float32
    assert np.isfinite(estimate.depth).mean() > 0.9
    assert network.video([frame(0)]).shape == (1, 96, 128)


class TestWithoutRawDepth:
    def test_unaligned_from_the_start(self, estimator: Estimator) -> None:
        estimate = estimator.push(frame(0, raw=False))
        assert estimate.alignment.state is UNALIGNED
        assert "no raw depth" in estimate.alignment.reason
        assert np.isnan(estimate.depth).all()
        assert np.isfinite(estimate.disparity).all()

    def test_held_after_a_good_frame(self, estimator: Estimator) -> None:
        estimator.push(frame(0))
        estimate = estimator.push(frame(1, raw=False))
        assert estimate.alignment.state is HELD
        np.testing.assert_allclose(estimate.depth, scene().truth, rtol=0.005)

    def test_held_by_the_frames_stamps(self, network: Network) -> None:
        config = EstimatorConfig(max_gap_s=10, alignment=AlignmentConfig(max_held_s=1.0))
        estimator = Estimator(network, config)
        estimator.push(frame(0))
        states = [estimator.push(frame(i, raw=False)).alignment.state for i in (5, 10, 11)]
        assert states == [HELD, HELD, UNALIGNED]


class TestFlush:
    @pytest.mark.parametrize(
        ("newcomer", "reason"),
        [
            (replace(frame(1), stamp_ns=5), FlushReason.STAMP_BACKWARDS),
            (replace(frame(9), stamp_ns=90 * TENTH_NS), FlushReason.GAP),
            (
                replace(frame(9), intrinsics=replace(CAMERA, fx=99.0)),
                FlushReason.INTRINSICS_CHANGED,
            ),
        ],
    )
    def test_frames_and_scale_are_forgotten(
        self, network: Network, estimator: Estimator, newcomer: Frame, reason: FlushReason
    ) -> None:
        for index in range(1, 7):
            estimator.push(frame(index))
        estimate = estimator.push(replace(newcomer, raw_depth=None))
        assert estimate.flush is reason
        assert estimate.window == 1
        assert estimate.alignment.state is UNALIGNED
        follower = replace(newcomer, stamp_ns=newcomer.stamp_ns + TENTH_NS)
        assert estimator.push(follower).flush is None

    def test_reset(self, estimator: Estimator) -> None:
        for index in range(5):
            estimator.push(frame(index))
        estimator.reset()
        estimate = estimator.push(frame(5, raw=False))
        assert (estimate.window, estimate.flush) == (1, None)
        assert estimate.alignment.state is UNALIGNED


class TestFailure:
    def test_the_next_push_works(self, network: Network, estimator: Estimator) -> None:
        for index in range(4):
            estimator.push(frame(index))
        network.fails = RuntimeError("CUDA out of memory")
        with pytest.raises(RuntimeError, match="out of memory"):
            estimator.push(frame(4))
        network.fails = None
        estimate = estimator.push(frame(5))
        assert estimate.alignment.state is OK
        assert network.stream == [5], "what a failed stream holds is good for nothing"

    def test_the_failed_frame_can_be_tried_again(
        self, network: Network, estimator: Estimator
    ) -> None:
        estimator.push(frame(0))
        network.fails = RuntimeError("once")
        with pytest.raises(RuntimeError):
            estimator.push(frame(1))
        network.fails = None
        estimate = estimator.push(frame(1))
        assert estimate.frame.stamp_ns == TENTH_NS
        assert len(network.seen) == 3

    def test_a_flush_is_reported_by_the_first_estimate_after_it(
        self, network: Network, estimator: Estimator
    ) -> None:
        estimator.push(frame(0))
        network.fails = RuntimeError("once")
        with pytest.raises(RuntimeError):
            estimator.push(frame(90))
        network.fails = None
        assert estimator.push(frame(91)).flush is FlushReason.GAP
        assert estimator.push(frame(92)).flush is None

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (np.zeros((48, 64), np.float32), "shape"),
            (np.zeros((1, 96, 128), np.float32), "shape"),
            (np.full((96, 128), np.nan, np.float32), "not finite"),
            (np.full((96, 128), np.inf, np.float32), "not finite"),
        ],
    )
    def test_unusable_disparity_is_an_error(
        self, network: Network, estimator: Estimator, answer: np.ndarray, words: str
    ) -> None:
        network.answer = answer
        with pytest.raises(DktError, match=words):
            estimator.push(frame(0))
        network.answer = None
        assert estimator.push(frame(1)).alignment.state is OK

    @pytest.mark.parametrize("pushed", [None, [frame(0)], frame(0).rgb])
    def test_what_is_no_frame(self, estimator: Estimator, pushed: Any) -> None:
        with pytest.raises(DktError, match=r"frame of .*: expected a Frame; frames_of makes"):
            estimator.push(pushed)

    @pytest.mark.parametrize("predictor", [None, "dkt-1.3b", frame])
    def test_what_is_no_predictor(self, predictor: Any) -> None:
        with pytest.raises(DktError, match=r"predictor of .*: expected a Predictor"):
            DepthEstimator(predictor)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (np.zeros((96, 128), np.float32), r"\(96, 128\) float32: expected a Prediction"),
            (Prediction(frame(0).rgb, [[0.5]]), "disparity of type list: expected an array"),
            (Prediction(frame(0).rgb, depth=[[0.5]]), "depth of type list: expected an array"),
        ],
    )
    def test_what_is_no_prediction(
        self, estimator: Estimator, monkeypatch: pytest.MonkeyPatch, answer: Any, words: str
    ) -> None:
        monkeypatch.setattr(estimator.predictor, "push", lambda frame: answer)
        with pytest.raises(DktError, match=words):
            estimator.push(frame(0))

    def test_one_pixel_that_is_not_finite(self, network: Network, estimator: Estimator) -> None:
        network.answer = scene().disparity.copy()
        network.answer[50, 60] = np.nan
        with pytest.raises(DktError, match="not finite"):
            estimator.push(frame(0))

    def test_double_precision_disparity_is_fine(
        self, network: Network, estimator: Estimator
    ) -> None:
        network.answer = scene().disparity.astype(np.float64)
        estimate = estimator.push(frame(0))
        assert estimate.disparity.dtype == np.float32
        assert estimate.alignment.state is OK

    def test_the_estimate_does_not_change_with_the_network_s_memory(
        self, network: Network, estimator: Estimator
    ) -> None:
        network.answer = scene().disparity.copy()
        estimate = estimator.push(frame(0))
        network.answer[:] = 0
        np.testing.assert_array_equal(estimate.disparity, scene().disparity)


class Metric(Network):
    """Gives metres of its own, as a network that knows raw depth may."""

    def push(self, frame: Frame) -> Prediction:
        assert frame.raw_depth is not None
        depth = scene().truth.astype(np.float32)
        depth[0] = np.nan
        confidence = np.full(depth.shape, 0.9, np.float32)
        return Prediction(frame.rgb, depth=depth, confidence=confidence)


class TestMetricNetwork:
    def test_its_depth_is_published_as_it_is(self) -> None:
        estimate = Estimator(Metric()).push(frame(0))
        np.testing.assert_allclose(estimate.depth[1:], scene().truth[1:], rtol=1e-6)
        assert np.isnan(estimate.depth[0]).all()
        assert estimate.confidence is not None
        assert not estimate.confidence[0].any(), "where there is no depth"
        np.testing.assert_array_equal(estimate.confidence[1:], np.float32(0.9))
        assert (estimate.source[0] == Source.NOTHING).all()
        assert (estimate.source[1:] == Source.NETWORK).all()
        assert (estimate.alignment.scale, estimate.alignment.shift) == (1.0, 0.0)
        assert estimate.alignment.state is OK

    def test_raw_depth_tells_how_far_it_agrees(self) -> None:
        right = Estimator(Metric()).push(frame(0)).alignment
        far = replace(frame(0), raw_depth=scene().truth.astype(np.float32) * 1.5)
        wrong = Estimator(Metric()).push(far).alignment
        assert right.uncertainty < 0.02
        assert right.inlier_ratio > 0.6
        assert wrong.uncertainty == pytest.approx(0.5, rel=0.01)
        assert wrong.inlier_ratio == 0.0
        assert wrong.state is HELD
        assert "0% of the raw depth agrees" in wrong.reason

    def test_fused_too_it_is_told_why_its_depth_was_not_used(self) -> None:
        far = replace(frame(0), raw_depth=scene().truth.astype(np.float32) * 1.5)
        told = DepthEstimator(Metric(), EstimatorConfig()).push(far)
        assert told is not None
        assert told.alignment.state is AlignmentState.SENSOR
        assert "the network was not used" in told.alignment.reason
        assert "is that in metres?" in told.alignment.reason

    @pytest.mark.parametrize(
        ("factor", "state"),
        [(-1.0, UNALIGNED), (0.0, UNALIGNED), (np.inf, UNALIGNED), (1000.0, HELD)],
    )
    def test_metres_that_are_none_are_told(self, factor: float, state: AlignmentState) -> None:
        class Odd(Metric):
            def push(self, frame: Frame) -> Prediction:
                return Prediction(frame.rgb, depth=(scene().truth * factor).astype(np.float32))

        estimate = Estimator(Odd()).push(frame(0))
        assert estimate.alignment.state is state
        assert "expected" in estimate.alignment.reason
        assert "no raw depth" not in estimate.alignment.reason, "there is"
        assert np.isnan(estimate.depth).all()

    @pytest.mark.parametrize("depth", ["fused", "network"])
    def test_pixels_without_depth_are_unknown_however_they_are_marked(self, depth: str) -> None:
        given, hole = frame(0), np.s_[40:60, 50:80]
        assert given.raw_depth is not None
        given.raw_depth[hole] = np.nan

        class Marked(Metric):
            mark = np.nan

            def push(self, frame: Frame) -> Prediction:
                answer = scene().truth.astype(np.float32)
                answer[hole] = self.mark
                return Prediction(frame.rgb, depth=answer)

        found = []
        for mark in (np.nan, 0.0, -1.0, np.inf):
            network = Marked()
            network.mark = mark
            estimate = DepthEstimator(network, EstimatorConfig(depth=depth)).push(given)
            assert estimate is not None
            found.append(estimate.depth)
        assert np.isnan(found[0][hole]).all() == (depth == "network")
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])

    def test_an_answer_without_depth_is_not_the_raw_depth_s_fault(self) -> None:
        class Blind(Metric):
            def push(self, frame: Frame) -> Prediction:
                return Prediction(frame.rgb, depth=np.full((96, 128), np.nan, np.float32))

        told = Estimator(Blind()).push(frame(0)).alignment
        assert told.state is UNALIGNED
        reason = told.reason
        assert "gives no depth where there is raw depth" in reason
        for config in (EstimatorConfig(depth="network"), EstimatorConfig()):
            without = DepthEstimator(Blind(), config).push(frame(0, raw=False))
            assert without is not None
            assert without.alignment.state is UNALIGNED
            assert "no raw depth to" in without.alignment.reason

    def test_an_answer_is_disparity_or_depth(self) -> None:
        rgb, answer = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.float32)
        for values in (None, answer):
            with pytest.raises(DktError, match="expected one"):
                Prediction(rgb, disparity=values, depth=values)
