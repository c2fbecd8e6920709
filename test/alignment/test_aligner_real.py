"""Alignment to what a RealSense D435 really sees of plastic bottles and cups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.glass_scenes import (
    REAL_SCENES,
    GlassScene,
    least_squares,
    read_real_scene,
    with_network_error,
)

from dkt_ros.alignment.aligner import Aligner, AlignmentState

LIMIT = 0.002


@pytest.fixture(scope="module", params=REAL_SCENES)
def scene(request: pytest.FixtureRequest, shared_folder: Path) -> GlassScene:
    return read_real_scene(shared_folder / "cleargrasp_d435", request.param)


@pytest.mark.parametrize(
    ("gain", "offset"), [(1.0, 0.0), (0.5, 0.3), (0.8, 0.0), (0.9, 0.1), (0.1, 0.6)]
)
def test_objects_within_two_thousandths(scene: GlassScene, gain: float, offset: float) -> None:
    """The truth distorted affinely in disparity, aligned to the sensor's own depth."""
    distorted = scene.squeezed(gain, offset)
    alignment = Aligner().update(distorted.disparity, distorted.raw)
    assert alignment.state is AlignmentState.OK
    assert distorted.object_error(alignment.scale, alignment.shift) < LIMIT / 4
    assert alignment.residual_m < 0.003
    assert alignment.uncertainty < 0.003


def test_least_squares_misses_the_limit(shared_folder: Path) -> None:
    """The bound above means something: the usual fit is 1.2% off on the bottles."""
    scene = read_real_scene(shared_folder / "cleargrasp_d435", REAL_SCENES[0])
    line = least_squares(scene.disparity, scene.raw)
    assert scene.object_error(*line) > 5 * LIMIT
    alignment = Aligner().update(scene.disparity, scene.raw)
    assert scene.object_error(alignment.scale, alignment.shift) < LIMIT


def test_with_disparity_at_every_pixel(scene: GlassScene) -> None:
    """A network leaves no holes; here they are filled from their surroundings."""
    holes = ~np.isfinite(scene.disparity)
    filled = cv2.inpaint(
        np.nan_to_num(scene.disparity).astype(np.float32), holes.astype(np.uint8), 3, cv2.INPAINT_NS
    )
    full = replace(scene, disparity=np.asarray(filled, np.float32))
    alignment = Aligner().update(full.disparity, full.raw)
    assert alignment.state is AlignmentState.OK
    assert full.object_error(alignment.scale, alignment.shift) < LIMIT


@pytest.mark.parametrize("seed", range(3))
def test_half_missing_and_two_fifths_of_the_rest_see_through(scene: GlassScene, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = scene.raw.copy()
    through = rng.random(raw.shape) < 0.4
    raw[through] += rng.uniform(0.02, 0.2, int(through.sum())).astype(np.float32)
    raw[rng.random(raw.shape) < 0.5] = 0
    alignment = Aligner().update(scene.disparity, raw)
    assert alignment.state is AlignmentState.OK
    assert alignment.scale == pytest.approx(scene.scale, rel=0.01)
    assert alignment.shift == pytest.approx(scene.shift, rel=0.01)
    worse = scene.object_error(*least_squares(scene.disparity, raw))
    assert scene.object_error(alignment.scale, alignment.shift) < LIMIT < worse / 10


@pytest.mark.parametrize("share", [0.01, 0.03])
def test_no_worse_than_the_network(scene: GlassScene, share: float) -> None:
    wrong = with_network_error(scene, 3, share)
    alignment = Aligner().update(wrong.disparity, wrong.raw)
    assert alignment.state is AlignmentState.OK
    error = wrong.object_error(alignment.scale, alignment.shift)
    assert error < wrong.object_error(wrong.scale, wrong.shift) + 0.002
