"""The estimator around a predictor that remembers the stream."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.alignment.aligner import AlignmentState
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimator, EstimatorConfig
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

NETWORK = EstimatorConfig(depth="network")
HEIGHT, WIDTH = 24, 32
SECOND = 1_000_000_000


class EveryOther(Predictor):
    """A stream that knows depth of every second frame; near on the left, far on the right."""

    def __init__(self) -> None:
        super().__init__(PredictorInfo("every other"))
        self.pushed = self.resets = 0
        self.broken = False
        self.cut: FlushReason | None = None
        self.shape = (HEIGHT, WIDTH)

    def push(self, frame: Frame) -> Prediction | None:
        self.pushed += 1
        if self.pushed % 2 == 0:
            return None
        ramp = np.linspace(1.0, 0.1, self.shape[1], dtype=np.float32)
        if self.broken:
            ramp[0] = np.nan
        disparity = np.tile(ramp, (self.shape[0], 1))
        return Prediction(frame.rgb, disparity, frames=self.pushed, restarted=self.cut)

    def reset(self) -> None:
        self.resets += 1
        self.pushed = 0


def frame(stamp_s: float, scale: float = 2.0) -> Frame:
    ramp = np.linspace(1.0, 0.1, WIDTH, dtype=np.float32)
    raw = np.tile(1.0 / (scale * ramp), (HEIGHT, 1)).astype(np.float32)
    grey = (250 * ramp).astype(np.uint8)
    rgb = np.tile(grey[None, :, None], (HEIGHT, 1, 3))
    intrinsics = Intrinsics(30.0, 30.0, 16.0, 12.0, WIDTH, HEIGHT)
    return Frame(rgb, raw, intrinsics, int(stamp_s * SECOND), "camera")


def test_frames_without_depth_have_no_estimate() -> None:
    stream = EveryOther()
    estimator = DepthEstimator(stream, NETWORK)
    estimates = [estimator.push(frame(i / 10)) for i in range(5)]
    assert [e is not None for e in estimates] == [True, False, True, False, True]
    last = estimates[4]
    assert last is not None
    assert (last.window, last.flush) == (5, None)
    assert last.frame.stamp_ns == int(0.4 * SECOND)
    assert last.alignment.state is AlignmentState.OK
    assert last.frame.raw_depth is not None
    np.testing.assert_allclose(last.depth, last.frame.raw_depth, rtol=0.02)


def test_a_frame_is_pushed_once() -> None:
    stream = EveryOther()
    estimator = DepthEstimator(stream, NETWORK)
    first = estimator.push(frame(0.0))
    assert estimator.push(frame(0.0)) is first
    assert estimator.push(frame(0.1)) is None
    assert estimator.push(frame(0.1)) is None
    assert stream.pushed == 2


@pytest.mark.parametrize(
    ("stamp_s", "reason"), [(10.0, FlushReason.GAP), (-1.0, FlushReason.STAMP_BACKWARDS)]
)
def test_a_break_resets_the_stream(stamp_s: float, reason: FlushReason) -> None:
    stream = EveryOther()
    estimator = DepthEstimator(stream, NETWORK)
    estimator.push(frame(0.0))
    estimator.push(frame(0.1))
    after = estimator.push(frame(stamp_s))
    assert stream.resets == 1
    assert after is not None
    assert (after.flush, after.window) == (reason, 1)


@pytest.mark.parametrize("reason", [FlushReason.SCENE_CUT, FlushReason.DRIFT])
def test_a_stream_that_began_anew_by_itself_forgets_the_scale(reason: FlushReason) -> None:
    stream = EveryOther()
    estimator = DepthEstimator(stream, NETWORK)
    for i in range(10):
        estimator.push(frame(i / 10))
    stream.cut = reason
    after = estimator.push(frame(1.0, scale=4.0))
    assert stream.resets == 0, "the stream began anew by itself"
    assert after is not None
    assert after.flush is reason
    assert after.alignment.scale == pytest.approx(4.0, rel=0.02)


def test_reset_reaches_the_stream() -> None:
    stream = EveryOther()
    estimator = DepthEstimator(stream, NETWORK)
    estimator.push(frame(0.0))
    estimator.reset()
    assert stream.resets == 1
    again = estimator.push(frame(0.0))
    assert again is not None
    assert again.window == 1


def test_a_stream_that_fails_begins_anew_with_a_scale_of_its_own() -> None:
    stream = EveryOther()
    estimator = DepthEstimator(stream, NETWORK)
    for i in range(10):
        estimator.push(frame(i / 10))
    stream.broken = True
    with pytest.raises(DktError, match="not finite"):
        estimator.push(frame(1.0))
    assert stream.resets == 1
    stream.broken = False
    after = estimator.push(frame(1.1, scale=2.06))
    assert after is not None
    assert after.window == 1
    assert after.alignment.scale == pytest.approx(2.06, rel=1e-3), "nothing of the old scale"


def test_disparity_of_another_size_is_refused() -> None:
    stream = EveryOther()
    stream.shape = (HEIGHT, WIDTH // 2)
    with pytest.raises(DktError, match="shape"):
        DepthEstimator(stream, NETWORK).push(frame(0.0))
