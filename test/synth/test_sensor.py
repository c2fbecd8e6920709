"""The simulated stereo sensor on pairs whose disparity is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dkt_ros.synth.camera import camera_matrix
from dkt_ros.synth.sensor import (
    StereoSensor,
    level,
    match,
    refine,
    register,
    sense,
    stereo_poses,
)

_SENSOR = StereoSensor()
_WIDTH, _HEIGHT = 160, 96
_COLOUR = camera_matrix(np.radians(50), _WIDTH, _HEIGHT)


def dots(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    picture = (random.random(shape) < 0.12).astype(np.float32) * 200 + 20
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def wall(depth: float, plain: slice | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A pair that sees a dotted wall at a depth; columns in `plain` have no texture."""
    width, height = _SENSOR.infrared_size(_COLOUR, _WIDTH, _HEIGHT)
    scene = dots((height, width + 200))
    if plain is not None:
        scene[:, plain] = 20
    shift = _SENSOR.focal * _SENSOR.baseline / depth
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    left = cv2.remap(scene, columns + 100, rows, cv2.INTER_CUBIC)
    right = cv2.remap(scene, columns + 100 + np.float32(shift), rows, cv2.INTER_CUBIC)
    return left, right


@pytest.mark.parametrize("depth", [0.5, 0.8, 1.3])
def test_a_dotted_wall_is_measured(depth: float) -> None:
    raw = sense(*wall(depth), _SENSOR, _COLOUR, _WIDTH, _HEIGHT, np.random.default_rng(0))
    assert raw.shape == (_HEIGHT, _WIDTH)
    assert raw.dtype == np.float32
    inner = raw[8:-8]  # with all that the search needs beside the colour camera's view
    assert np.isfinite(inner).mean() > 0.97
    # An eighth of a pixel of disparity.
    allowed = depth**2 / (_SENSOR.focal * _SENSOR.baseline) / 8
    assert abs(np.nanmedian(inner) - depth) < allowed
    assert np.isfinite(raw[:4, 8:-8]).mean() > 0.97, "up to the picture's edge"
    known = raw[np.isfinite(raw)] * 1000
    np.testing.assert_allclose(known, np.rint(known), atol=1e-3)


def test_dots_that_saturate_are_measured_too() -> None:
    left, right = (np.minimum(4 * picture, 255) for picture in wall(0.8))
    raw = sense(left, right, _SENSOR, _COLOUR, _WIDTH, _HEIGHT, np.random.default_rng(0))
    assert np.isfinite(raw).mean() > 0.97


def test_refining_moves_nothing_by_more_than_a_pixel() -> None:
    """Neither where two surfaces meet nor where brightness differs and nothing tells by how far."""
    picture = level(dots((40, 120)))
    found = np.full(picture.shape, 20, np.float32)
    found[:, 60:] = 30
    found[:8] = -1
    plain = np.broadcast_to(np.linspace(100, 101, 120, dtype=np.float32), picture.shape)
    for left, right in ((picture, picture), (plain + 30, plain)):
        moved = refine(left, right, found) - found
        assert np.abs(moved).max() < 1
        assert (moved[:8] == 0).all()


def test_what_is_out_of_range_is_not_measured() -> None:
    far = 1.2 * _SENSOR.farthest
    raw = sense(*wall(far), _SENSOR, _COLOUR, _WIDTH, _HEIGHT, np.random.default_rng(0))
    assert np.isnan(raw).mean() > 0.99


@pytest.mark.parametrize("shift", [20.0, 20.25, 20.5, 27.3])
def test_disparities_do_not_lean_towards_whole_pixels(shift: float) -> None:
    """Dots drawn where they belong: resampling a picture would err by as much as is asserted."""
    random = np.random.default_rng(0)
    height, width = 60, 300
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    pair = np.full((2, height, width), 20, np.float32)
    for y, x in random.uniform((0, -20), (height, width + 60), (1400, 2)):
        for picture, place in zip(pair, (x, x - shift), strict=True):
            around = slice(max(int(y) - 3, 0), int(y) + 5), slice(max(int(place) - 3, 0), None)
            near = around[0], slice(around[1].start, max(int(place), 0) + 5)
            square = (columns[near] - place) ** 2 + (rows[near] - y) ** 2
            picture[near] += 150 * np.exp(-square / (2 * 0.8**2))
    noisy = np.clip(pair + random.normal(0, 2, pair.shape), 0, 255).astype(np.uint8)
    found = match(noisy[0], noisy[1], _SENSOR)[8:-8, 90:-8]
    assert np.isfinite(found).mean() > 0.95
    assert abs(np.nanmedian(found) - shift) < 0.05
    assert np.nanmedian(np.abs(found - shift)) < 0.06
    assert np.nanstd(found) < 0.05


def test_a_slanted_wall_is_smooth() -> None:
    left = dots((90, 460))
    rows, columns = np.mgrid[:90, :460].astype(np.float32)
    # The right picture's pixel x shows the left's x + shift; shift grows by 0.04 a row.
    shift = 22 + 0.04 * rows
    right = cv2.remap(left, columns + shift, rows, cv2.INTER_CUBIC)
    found = match(left.astype(np.uint8), right.astype(np.uint8), _SENSOR)[10:-10, 110:-30]
    error = found - shift[10:-10, 110:-30]
    assert np.nanmedian(np.abs(error)) < 0.06


def test_pixels_of_one_surface_are_averaged_in_registration() -> None:
    random = np.random.default_rng(0)
    disparity = (25 + random.normal(0, 0.1, (121, 201))).astype(np.float32)
    raw = register(disparity, _SENSOR, _COLOUR, _WIDTH, _HEIGHT)
    depth = _SENSOR.focal * _SENSOR.baseline / 25
    assert abs(np.nanmean(raw) - depth) < 2e-4
    assert np.nanstd(raw) < 0.75 * depth * 0.1 / 25


def test_a_plain_patch_is_a_hole() -> None:
    width, _ = _SENSOR.infrared_size(_COLOUR, _WIDTH, _HEIGHT)
    middle = 100 + width // 2
    patch = slice(middle - 60, middle + 60)
    raw = sense(*wall(0.8, patch), _SENSOR, _COLOUR, _WIDTH, _HEIGHT, np.random.default_rng(0))
    # The patch lies where the left imager, half a baseline aside, sees it.
    centre = (_WIDTH - 1) / 2 - 0.5 * _SENSOR.baseline / 0.8 * _COLOUR[0, 0]
    hole = raw[10:-10, round(centre) - 12 : round(centre) + 12]
    assert np.isnan(hole).mean() > 0.6
    assert np.isfinite(raw[10:-10, -30:-8]).mean() > 0.95


def test_registration_moves_each_pixel_by_its_parallax() -> None:
    disparity = np.full((121, 201), np.nan, np.float32)
    disparity[60, 100] = 40.0
    disparity[110, 120] = 20.0
    colour = _COLOUR * [[1, 1, 1], [1, 1.2, 1], [1, 1, 1]]
    raw = register(disparity, _SENSOR, colour, _WIDTH, _HEIGHT)
    for row, column, pixels in ((60, 100, 40.0), (110, 120, 20.0)):
        z = _SENSOR.focal * _SENSOR.baseline / pixels
        x = (column - 100) / _SENSOR.focal * z - 0.5 * _SENSOR.baseline
        u = colour[0, 0] * x / z + colour[0, 2]
        v = colour[1, 1] * (row - 60) / _SENSOR.focal + colour[1, 2]
        found = np.argwhere(np.isclose(raw, round(z, 3)))
        assert len(found) >= 1
        assert np.abs(found - [v, u]).max() <= 1.0


def test_a_finer_colour_picture_has_no_holes_between_depth_pixels() -> None:
    size = 640, 384
    raw = register(
        np.full((121, 201), 25, np.float32), _SENSOR, camera_matrix(np.radians(20), *size), *size
    )
    assert np.isfinite(raw[100:-100, 100:-100]).all()


def test_the_nearest_surface_wins_in_registration() -> None:
    disparity = np.full((121, 201), 20.0, np.float32)
    disparity[:, 80:140] = 40.0
    raw = register(disparity, _SENSOR, _COLOUR, _WIDTH, _HEIGHT)
    assert np.nanmin(raw) == pytest.approx(0.5, abs=1e-3)
    covered = np.isclose(raw[_HEIGHT // 2], 0.5)
    expected = 60 / _SENSOR.focal * _COLOUR[0, 0]
    assert covered.sum() == pytest.approx(expected, abs=2)


def test_nothing_seen_is_nothing_measured() -> None:
    raw = register(np.full((50, 60), np.nan, np.float32), _SENSOR, _COLOUR, _WIDTH, _HEIGHT)
    assert np.isnan(raw).all()


def test_levelling_undoes_brightness_and_contrast() -> None:
    picture = dots((60, 80)).astype(np.uint8)
    dim = (0.5 * picture.astype(np.float32) + 30).astype(np.uint8)
    difference = np.abs(level(picture).astype(int) - level(dim).astype(int))
    assert np.median(difference) < 6


def test_the_imagers_stand_left_and_right_of_the_colour_camera() -> None:
    left, right = stereo_poses(np.eye(4), 0.05)
    centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in (left, right)]
    np.testing.assert_allclose(centres, [[-0.025, 0, 0], [0.025, 0, 0]])
