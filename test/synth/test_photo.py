"""What the camera adds to a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dkt_ros.synth.camera import camera_matrix
from dkt_ros.synth.photo import Photo, develop, motion_between, smear, take

_GREY = np.full((40, 64, 3), 0.2)
_STILL = np.zeros((40, 64, 2), np.float32)


def shot(photo: Photo, linear: np.ndarray = _GREY, motion: np.ndarray = _STILL) -> np.ndarray:
    return take(linear, photo, motion, 3, np.random.default_rng(0)).astype(float)


def test_a_faultless_camera_only_develops() -> None:
    np.testing.assert_array_equal(shot(Photo()), develop(_GREY))


def test_each_fault_shows() -> None:
    plain = shot(Photo())
    assert shot(Photo(stops=-1)).mean() < plain.mean() - 20
    warm = shot(Photo(gains=(1.3, 0.8)))
    assert warm[..., 0].mean() > warm[..., 2].mean() + 20
    corner = shot(Photo(vignette=0.4))
    assert corner[0, 0].mean() < corner[20, 32].mean() - 15
    noisy = shot(Photo(shot_noise=0.05, read_noise=0.01))
    assert 2 < noisy.std() < 20
    assert abs(noisy.mean() - plain.mean()) < 3
    edge = np.where(np.arange(64)[None, :, None] < 29, 0.05, 0.6) * np.ones((40, 1, 3))
    step = np.abs(np.diff(shot(Photo(), edge)[20, :, 0])).max()
    assert np.abs(np.diff(shot(Photo(defocus=1.0), edge)[20, :, 0])).max() < 0.6 * step
    assert np.ptp(shot(Photo(sharpening=0.8), edge)) > np.ptp(shot(Photo(), edge)) + 5
    assert 0 < np.abs(shot(Photo(jpeg=40), edge) - shot(Photo(), edge)).max() < 60
    drifting = Photo(drift=0.5, drift_period=12)
    assert shot(drifting).mean() > plain.mean() + 5


def test_noise_is_drawn_anew_for_each_generator() -> None:
    photo = Photo(read_noise=0.02)
    first, second = (take(_GREY, photo, _STILL, 0, np.random.default_rng(seed)) for seed in (1, 2))
    assert (first != second).mean() > 0.3


def test_motion_blurs_along_itself_alone() -> None:
    picture = np.zeros((40, 64, 3), np.float32)
    picture[20, 32] = 1
    moved = np.zeros((40, 64, 2), np.float32)
    moved[..., 0] = 6
    blurred = smear(picture, moved)
    assert blurred[20, 28:37].sum() == pytest.approx(3, rel=0.05)
    assert (blurred[20, 30:35, 0] > 0).all()
    assert blurred[:19].max() == blurred[21:].max() == 0
    half = shot(replace(Photo(), shutter=0.5), picture, moved)
    whole = shot(Photo(shutter=1.0), picture, moved)
    assert (half[20, :, 0] > 0).sum() < (whole[20, :, 0] > 0).sum()


def test_motion_is_that_of_the_surface_seen() -> None:
    matrix = camera_matrix(np.radians(60), 64, 40)
    after = np.eye(4)
    after[0, 3] = -0.01
    depth = np.full((40, 64), 0.5)
    depth[:, 32:] = np.nan
    motion = motion_between(depth, matrix, np.eye(4), after)
    np.testing.assert_allclose(motion[:, :32, 0], -0.01 / 0.5 * matrix[0, 0], rtol=1e-5)
    assert np.abs(motion[:, 32:, 0]).max() < 0.2
    assert np.abs(motion[..., 1]).max() < 1e-5
