"""Noise of single pixels is no reading; whatever spreads over several pixels is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.fused_scenes import read_frames, rendered_frame

from dkt_ros.estimator import DepthEstimator
from dkt_ros.frames import Frame, frames_of
from dkt_ros.fusion.speckles import without_speckles
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

SIZE = 120, 160


def table() -> np.ndarray:
    """A table that recedes, in steps of a millimetre, with a box and a hole."""
    depth = np.repeat(np.linspace(1.2, 0.5, SIZE[0])[:, None], SIZE[1], axis=1)
    depth[30:60, 40:80] = 0.45
    depth[70:90, 100:130] = np.nan
    return np.round(depth, 3).astype(np.float32)


def speckled(raw: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth with such a share of readings anywhere, and where they are."""
    rng = np.random.default_rng(0)
    where = (rng.random(raw.shape) < share) & np.isfinite(raw)
    wrong = raw * rng.choice([0.4, 0.6, 1.6, 2.5], raw.shape)
    return np.where(where, wrong, raw).astype(np.float32), where


@pytest.mark.parametrize("share", [0.003, 0.02])
def test_speckles_are_no_readings(share: float) -> None:
    raw = table()
    dirty, where = speckled(raw, share)
    clean, told = without_speckles(dirty)
    assert np.isnan(clean[where]).mean() > 0.8  # at borders of holes there are none around them
    np.testing.assert_array_equal(clean[~where], raw[~where])
    assert told == pytest.approx((np.isnan(clean) & ~np.isnan(dirty)).mean())


def test_what_is_seen_stays() -> None:
    raw = table()
    raw[10, 20:140] = 0.4  # a wire
    raw[20:110, 10] = 0.3
    rows = np.arange(50)
    raw[rows + 20, rows + 60] = 0.35  # and one askew
    raw[100, 50:52] = 0.9
    for depth in (raw, np.where(raw < 0.4, raw, 0.0), np.nan_to_num(raw, nan=np.inf)):
        clean, share = without_speckles(np.asarray(depth, np.float32))
        np.testing.assert_array_equal(clean, depth)
        assert share == 0.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 3)])
def test_any_size(shape: tuple[int, int]) -> None:
    raw = np.full(shape, 1.0, np.float32)
    assert without_speckles(raw)[0] is raw


def test_readings_that_lie_apart_stay() -> None:
    raw = np.zeros(SIZE, np.float32)
    raw[::3, ::3] = np.random.default_rng(0).uniform(0.5, 2, (40, 54))
    raw[50] = np.linspace(0.5, 3, SIZE[1]) * np.random.default_rng(1).uniform(0.9, 1.1, SIZE[1])
    assert without_speckles(raw)[0] is raw


def test_real_sensors_depth_stays(shared_folder: Path) -> None:
    for frame in read_frames(shared_folder / "cleargrasp_d435"):
        assert without_speckles(frame.raw)[0] is frame.raw


class Follower(Predictor):
    """Answers with the disparity that it was given at first, and keeps what it is shown."""

    def __init__(self, disparity: np.ndarray) -> None:
        super().__init__(PredictorInfo("follower"))
        self.disparity = disparity
        self.shown: list[np.ndarray | None] = []

    def push(self, frame: Frame) -> Prediction:
        self.shown.append(frame.raw_depth)
        return Prediction(frame.rgb, self.disparity)

    def reset(self) -> None:
        pass


def test_depth_is_as_without_them() -> None:
    """1% of the readings: they were published, and took a third of glass's precision along."""
    frame = rendered_frame()
    dirty, where = speckled(frame.raw, 0.01)
    errors = {}
    for name, raw in (("clean", frame.raw), ("dirty", dirty)):
        predictor = Follower(frame.disparity)
        (pushed,) = frames_of([(frame.rgb, raw)])
        estimate = DepthEstimator(predictor).push(pushed)
        assert estimate is not None
        assert estimate.frame is pushed
        errors[name] = [frame.rel(estimate.depth, part) for part in (frame.glass, ~frame.glass)]
    assert errors["dirty"][0] < 1.1 * errors["clean"][0]
    assert errors["dirty"][1] < 1.1 * errors["clean"][1]
    shown = predictor.shown[0]
    assert shown is not None
    assert np.isnan(shown[where]).mean() > 0.7


@pytest.mark.parametrize(("share", "is_told"), [(0.01, False), (0.05, True)])
def test_many_of_them_are_told(share: float, is_told: bool) -> None:
    frame = rendered_frame()
    (pushed,) = frames_of([(frame.rgb, speckled(frame.raw, share)[0])])
    estimate = DepthEstimator(Follower(frame.disparity)).push(pushed)
    assert estimate is not None
    assert ("speckles" in {one.cause for one in estimate.suspicions}) == is_told
