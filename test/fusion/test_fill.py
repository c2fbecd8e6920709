"""Holes that a driver fills with a distance are holes again; nothing true is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame

from dkt_ros.fusion.fill import fill_value, without_fill, without_runs

HEIGHT, WIDTH = 288, 480


def scene(nearest_m: float = 0.6, noise: float = 0.003) -> np.ndarray:
    """(H, W) metres in whole millimetres: a table that is nearer below, and a box on it."""
    rng = np.random.default_rng(0)
    depth = np.linspace(2.5, 1.2, HEIGHT)[:, None].repeat(WIDTH, axis=1)
    depth[150:230, 200:300] = 1.0
    depth = depth * nearest_m * (1 + noise * rng.standard_normal(depth.shape))
    return np.round(depth, 3).astype(np.float32)


def holes(share: float) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    side = int(np.sqrt(share * mask.size))
    mask[40 : 40 + side, 60 : 60 + side] = True
    return mask


@pytest.mark.parametrize("value", [0.001, 0.05, 0.1, 0.15, 0.2])
@pytest.mark.parametrize("share", [0.02, 0.13, 0.3])
def test_what_a_driver_fills_holes_with_is_unknown(value: float, share: float) -> None:
    raw, hole = scene(), holes(share)
    raw[hole] = value
    raw[0, :5] = [0.03, 0.04, 0.11, 0.16, 0.21]  # stray readings
    mended, found = without_fill(raw)
    assert found == pytest.approx(value)
    assert np.isnan(mended[hole]).all()
    np.testing.assert_array_equal(mended[~hole], raw[~hole])


def test_holes_that_are_unknown_already_are_left_alone() -> None:
    raw = scene()
    for unknown in (0.0, np.nan, np.inf):
        raw[holes(0.2)] = unknown
        assert fill_value(raw) is None


@pytest.mark.parametrize("nearest_m", [0.05, 0.1, 0.15, 0.2, 0.6])
def test_surfaces_of_a_sensor_are_no_filling_however_near(nearest_m: float) -> None:
    assert fill_value(scene(nearest_m)) is None


@pytest.mark.parametrize("noise", [0.0, 0.0005])
def test_a_flat_wall_held_straight_is_no_filling(noise: float) -> None:
    """16UC1 has one value for most of it."""
    rng = np.random.default_rng(0)
    wall = np.round(0.15 * (1 + noise * rng.standard_normal((HEIGHT, WIDTH))), 3)
    assert fill_value(wall.astype(np.float32)) is None
    box = scene(noise=0.0)
    box[holes(0.1)] = 0.5  # the top of a box, rendered
    assert fill_value(box) is None


def test_a_near_wall_before_a_scene_is_no_filling() -> None:
    """Of a real sensor, whose readings spread by a step or two."""
    rng = np.random.default_rng(0)
    raw, hole = scene(), holes(0.1)
    raw[hole] = np.round(0.15 + 0.0005 * rng.standard_normal(int(hole.sum())), 3)
    assert fill_value(raw) is None


@pytest.mark.parametrize("value", [4.0, 4.096, 10.0, 65.534, 3e38])
@pytest.mark.parametrize("share", [0.02, 0.13, 0.3])
def test_what_lies_beyond_the_range_and_is_one_value_is_a_filling(
    value: float, share: float
) -> None:
    raw, hole = scene(), holes(share)
    raw[hole] = value
    raw[0, :5] = [4.001, 5.0, 9.0, 21.0, 50.0]  # stray readings
    mended, found = without_fill(raw, range_m=4.0)
    assert found == pytest.approx(value)
    assert np.isnan(mended[hole]).all()
    np.testing.assert_array_equal(mended[~hole], raw[~hole])
    rendered = scene(noise=0.0)
    rendered[hole] = value
    assert fill_value(rendered, range_m=4.0) == pytest.approx(value)
    assert fill_value(rendered) is None, "a flat thing held straight"


@pytest.mark.parametrize("value", [0.5, 3.0, 4.096])
@pytest.mark.parametrize("sensor", ["fine", "coarse"])
def test_one_value_alone_within_the_range_is_a_filling_of_a_sensor_that_has_noise(
    value: float, sensor: str
) -> None:
    steps = 300.0 if sensor == "coarse" else 1e6  # of disparity, at 1 m
    for raw in (scene(0.8), np.where(sensed() > 0, sensed(), np.nan)):
        raw = (steps / np.round(steps / raw)).astype(np.float32)
        assert fill_value(raw) is None
        hole = holes(0.1)[: raw.shape[0], : raw.shape[1]]
        raw[hole] = value
        assert fill_value(raw) == pytest.approx(value)
    among = scene(0.8)
    among[holes(0.1)] = 1.5
    assert fill_value(among) is None, "where a surface is too"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.45])
def test_what_was_clipped_is_unknown(share: float) -> None:
    for raw in (scene(0.8), np.where(sensed() > 0, sensed(), np.float32(np.nan))):
        limit = np.round(np.nanquantile(raw, 1 - share), 3)
        mended, found = without_fill(np.minimum(raw, np.float32(limit)))
        assert found == pytest.approx(limit)
        np.testing.assert_array_equal(np.isnan(mended), np.isnan(raw) | (raw >= limit))


def test_the_farthest_thing_that_a_sensor_sees_was_not_clipped() -> None:
    rng = np.random.default_rng(0)
    for noise, steps in ((0.001, 1e6), (0.003, 1e6), (0.003, 300.0), (0.003, 120.0)):
        wall = np.where(holes(0.3), 1.3, scene(0.4)) * (
            1 + noise * rng.standard_normal((HEIGHT, WIDTH))
        )
        read = np.round(steps / np.round(steps / wall), 3).astype(np.float32)
        assert fill_value(read) is None, (noise, steps)


def test_what_a_sensor_sees_beyond_the_range_is_no_filling() -> None:
    raw, hole = scene(), holes(0.2)
    rng = np.random.default_rng(0)
    raw[hole] = np.round(12.0 * (1 + 0.02 * rng.standard_normal(int(hole.sum()))), 3)
    assert fill_value(raw, range_m=10.0) is None
    raw[: int(0.6 * HEIGHT)] = 12.0
    assert fill_value(raw, range_m=10.0) is None, "most of all there is"
    assert fill_value(1e3 * scene(), range_m=10.0) is None, "millimetres sent as metres"
    assert fill_value(np.full_like(raw, 12.0), range_m=10.0) is None, "nothing of a scene"


def sensed() -> np.ndarray:
    """(H, W) metres of a rendered sensor in whole millimetres, 0 unknown."""
    return np.nan_to_num(np.round(rendered_frame().raw, 3)).astype(np.float32)


def filled_from_the_left(raw: np.ndarray) -> np.ndarray:
    """As a driver's filter does it: each hole is the last reading before it in its row."""
    columns = np.where(raw > 0, np.arange(raw.shape[1]), 0)
    return np.take_along_axis(raw, np.maximum.accumulate(columns, axis=1), axis=1)


def filled_from_around(raw: np.ndarray) -> np.ndarray:
    """The same from the farthest of what is above, below and before it."""
    rows = raw.tolist()
    for above, row, below in zip(rows[:-2], rows[1:-1], rows[2:], strict=True):
        for x in range(1, len(row)):
            if row[x] == 0:
                row[x] = max(above[x - 1], above[x], row[x - 1], below[x - 1], below[x])
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("filled", "least"), [(filled_from_the_left, 0.5), (filled_from_around, 0.08)]
)
def test_holes_that_are_filled_from_beside_them_are_told(
    filled: Callable[[np.ndarray], np.ndarray], least: float
) -> None:
    raw = sensed()
    hole = raw == 0
    for turned in (filled(raw), filled(raw)[:, ::-1], filled(raw)[::-1, ::-1]):
        _, share = without_runs(turned)
        assert share > 0.5 * least * hole.mean()
    mended, _ = without_runs(filled(raw))
    lost = np.isnan(mended)
    assert lost[hole].mean() > least
    assert lost[~hole].mean() < 0.03
    np.testing.assert_array_equal(mended[~lost], filled(raw)[~lost])


def test_what_a_sensor_reads_and_a_simulator_renders_was_not_filled() -> None:
    flat = scene(noise=0.0)  # a box before a table, of one value along each row
    whole = np.round(50 / np.where(sensed() > 0, sensed(), np.inf))  # disparities
    stairs = np.divide(50, whole, out=np.zeros_like(whole), where=whole > 0)
    floats = np.float32(2) + 0.3 * np.tri(HEIGHT, WIDTH, 40, dtype=np.float32)
    tiny, truth = np.ones((2, 3), np.float32), np.round(rendered_frame().truth, 3)
    coarse = sensed()[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)
    coarse = np.where(coarse > 0, coarse, filled_from_around(coarse))  # three pixels are twelve
    for raw in (sensed(), scene(), truth, flat, np.round(flat, 3), stairs, floats, tiny):
        raw = raw.astype(np.float32)
        mended, share = without_runs(raw)
        assert share == 0.0
        assert mended is raw


def coarse() -> np.ndarray:
    """As of a Kinect, Xtion or Astra: eighths of a pixel of disparity, smoothed over blocks."""
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:480, :640]
    depth = np.where(columns < 320, 2.8, 2.8 + 0.003 * (columns - 320))
    depth[240:] *= 240 / rows[240:]
    for left in range(330, 600, 60):  # posts before the slanted part of the wall, and shadows
        depth[60:400, left : left + 25] = np.minimum(1.6, depth[60:400, left : left + 25])
        depth[60:400, left - 8 : left] = np.nan
    noise = cv2.GaussianBlur(rng.standard_normal(depth.shape), (0, 0), 3)
    disparity = 585 * 0.075 / depth + 0.06 * noise / noise.std()
    raw = np.round(585 * 0.075 / (np.round(disparity * 8) / 8), 3)
    return np.nan_to_num(raw).astype(np.float32)


def test_a_sensor_of_coarse_steps_has_runs_beside_its_jumps_as_elsewhere() -> None:
    raw = coarse()
    mended, share = without_runs(raw)
    assert share == 0.0
    assert mended is raw
    _, share = without_runs(filled_from_the_left(raw))
    assert share > 0.02


@pytest.mark.parametrize("height_m", [0.0, 0.02, 0.06])
@pytest.mark.parametrize("nearest_m", [0.12, 0.16, 0.2])
def test_a_gripper_before_the_camera_is_not_filled(nearest_m: float, height_m: float) -> None:
    """Two fingers, sloping: so near there is less noise than a whole millimetre."""
    raw, rng = scene(), np.random.default_rng(0)
    for left in (140, 290):
        rows, columns = np.mgrid[170:HEIGHT, left : left + 50]
        along, across = (rows - 170) / (HEIGHT - 170), (columns - left) / 50
        finger = nearest_m + height_m * (along + 0.1 * across)
        finger += rng.normal(0, 0.0001, finger.shape)
        raw[170:, left : left + 50] = np.round(finger, 3)
        raw[168:, left - 14 : left] = 0  # what the other imager does not see behind it
    mended, share = without_runs(raw)
    assert share == 0.0
    assert mended is raw
