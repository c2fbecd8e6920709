"""The estimator's fused depth: the sensor's where it is right, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures.glass_scenes import (
    GlassScene,
    see_through,
    table_with_glass,
    with_holes,
    with_network_error,
    with_noise,
)

from dkt_ros.alignment.aligner import AlignmentState
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig
from dkt_ros.frames import Frame
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.fuser import Source
from dkt_ros.geometry import Intrinsics
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

SIZE = (192, 256)
CAMERA = Intrinsics(240.0, 240.0, 127.5, 95.5, SIZE[1], SIZE[0])
OK, HELD, UNALIGNED, SENSOR = AlignmentState


def scene(error: float = 0.0) -> GlassScene:
    made = see_through(table_with_glass(3, SIZE), 3, 0.3)
    made = with_holes(with_noise(made, 0), 0, 0.3)
    return with_network_error(made, 0, error) if error else made


class Network(Predictor):
    """Gives what it is told."""

    def __init__(self, disparity: np.ndarray) -> None:
        super().__init__(PredictorInfo("told"))
        self.disparity = disparity.astype(np.float32)

    def push(self, frame: Frame) -> Prediction:
        return Prediction(frame.rgb, self.disparity)


def frame(index: int, raw: np.ndarray | None) -> Frame:
    depth = None if raw is None else raw.astype(np.float32)
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    return Frame(rgb, depth, CAMERA, index * 100_000_000, "camera")


def push(estimator: DepthEstimator, one: Frame) -> DepthEstimate:
    estimate = estimator.push(one)
    assert estimate is not None
    return estimate


def test_where_the_sensor_is_right_its_depth_is_published_to_the_last_bit() -> None:
    """However wrong the network is there."""
    made = scene(error=0.1)
    estimate = push(DepthEstimator(Network(made.disparity)), frame(0, made.raw))
    known = np.isfinite(made.raw) & ~made.glass
    same = estimate.depth[known] == made.raw[known].astype(np.float32)
    assert same.mean() > 0.8
    assert (estimate.source[known] == Source.SENSOR).mean() > 0.8
    assert estimate.alignment.state is OK
    assert estimate.confidence is not None
    assert estimate.confidence.shape == SIZE


def test_holes_have_depth_and_say_that_it_is_the_networks() -> None:
    made = scene()
    estimate = push(DepthEstimator(Network(made.disparity)), frame(0, made.raw))
    holes = np.isnan(made.raw)
    assert np.isfinite(estimate.depth[holes]).all()
    assert (estimate.source[holes] == Source.NETWORK).all()
    network = push(
        DepthEstimator(Network(made.disparity), EstimatorConfig(depth="network")),
        frame(0, made.raw),
    )
    assert (network.source == Source.NETWORK).all()
    assert network.confidence is None


def test_a_network_that_contradicts_the_sensor_is_not_used() -> None:
    made = scene()
    noise = np.random.default_rng(0).random(SIZE, dtype=np.float32)
    estimate = push(DepthEstimator(Network(noise)), frame(0, made.raw))
    assert estimate.alignment.state is SENSOR
    assert "network was not used" in estimate.alignment.reason
    good = np.isfinite(made.raw) & ~made.glass
    error = np.abs(estimate.depth[good] / made.truth[good] - 1)
    assert np.isfinite(error).all(), "never NaN where a reading is good"
    assert np.median(error) < 0.01


def test_without_raw_depth_the_scale_is_the_past_s_and_says_so() -> None:
    made = scene()
    estimator = DepthEstimator(Network(made.disparity))
    assert push(estimator, frame(0, None)).alignment.state is UNALIGNED
    assert np.isnan(push(estimator, frame(1, None)).depth).all()
    push(estimator, frame(2, made.raw))
    held = push(estimator, frame(3, None))
    assert held.alignment.state is HELD
    assert "no raw depth" in held.alignment.reason
    np.testing.assert_allclose(held.depth, made.truth, rtol=0.02)
    assert held.confidence is not None


def test_the_same_picture_again_is_no_new_evidence() -> None:
    made = scene(error=0.05)
    estimator = DepthEstimator(Network(made.disparity))
    told = [push(estimator, frame(i, made.raw)).alignment.uncertainty for i in range(6)]
    assert min(told) >= 0.9 * told[0]


def test_less_trusted_pixels_become_unknown_on_demand() -> None:
    made = scene(error=0.1)
    free = push(DepthEstimator(Network(made.disparity)), frame(0, made.raw))
    assert free.confidence is not None
    limit = float(np.quantile(free.confidence, 0.3))
    estimator = DepthEstimator(
        Network(made.disparity), EstimatorConfig(fusion=FusionConfig(min_confidence=limit))
    )
    strict = push(estimator, frame(0, made.raw))
    np.testing.assert_array_equal(np.isnan(strict.depth), free.confidence < limit)
    assert (strict.source[np.isnan(strict.depth)] == Source.NOTHING).all()
    assert strict.fused is not None
    assert strict.fused.shares.nothing == pytest.approx(0.3, abs=0.02)
    estimator.min_confidence = 0.0
    again = push(estimator, replace(frame(1, made.raw)))
    assert np.isfinite(again.depth).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DktError, match="depth is 'sensor', expected one of fused, network"):
        EstimatorConfig(depth="sensor")
