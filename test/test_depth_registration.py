"""Depth of one camera as another one sees it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dkt_ros.depth_registration import DepthRegistration, Lens
from dkt_ros.errors import DktError
from dkt_ros.geometry import Intrinsics

SMALL = Intrinsics(100.0, 100.0, 59.5, 33.5, 120, 68)
LARGE = Intrinsics(320.0, 320.0, 191.5, 107.5, 384, 216)


def aside(metres: float) -> np.ndarray:
    """The other camera stands to the right by so much."""
    pose = np.eye(4)
    pose[0, 3] = -metres
    return pose


def wall(metres: float) -> np.ndarray:
    return np.full((SMALL.height, SMALL.width), metres, np.float32)


def test_the_same_camera_sees_the_same() -> None:
    depth = np.asarray(np.random.default_rng(0).uniform(0.3, 4.0, wall(1.0).shape), np.float32)
    depth[10:20, 30:40] = np.nan
    seen = DepthRegistration(Lens(SMALL), Lens(SMALL), np.eye(4)).apply(depth)
    np.testing.assert_array_equal(seen, depth)


def test_a_finer_picture_has_no_gaps() -> None:
    seen = DepthRegistration(Lens(SMALL), Lens(LARGE), aside(0.02)).apply(wall(0.7))
    inside = seen[:, : -round(0.02 * 320 / 0.7) - 2]
    assert np.isfinite(inside).mean() > 0.99
    np.testing.assert_allclose(seen[np.isfinite(seen)], 0.7, rtol=1e-5)


def test_a_surface_lies_where_the_other_camera_sees_it() -> None:
    depth = wall(2.0)
    depth[20:40, 50:70] = 0.5
    seen = DepthRegistration(Lens(SMALL), Lens(SMALL), aside(0.05)).apply(depth)
    # 100 px of focal length, 5 cm aside, half a metre and two metres away.
    box = np.full_like(depth, np.nan)
    box[20:40, 40:60] = 0.5
    np.testing.assert_allclose(seen[20:40, 40:60], 0.5)
    # What the box hid from the depth camera stays unknown, and what it hides now is not shown.
    row = seen[30]
    assert np.isnan(row[60:67]).all()
    np.testing.assert_allclose(row[70:110], 2.0)
    np.testing.assert_allclose(row[5:39], 2.0)
    from_the_left = DepthRegistration(Lens(SMALL), Lens(SMALL), aside(-0.05)).apply(depth)
    np.testing.assert_allclose(from_the_left[20:40, 60:80], 0.5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_camera_that_is_mounted_turned_sees_the_picture_turned(quarters: int) -> None:
    square = Intrinsics(100.0, 100.0, 29.5, 29.5, 60, 60)
    depth = np.asarray(np.random.default_rng(0).uniform(0.3, 4.0, (60, 60)), np.float32)
    turned = np.eye(4)
    turned[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.0, quarters * np.pi / 2]))[0]
    seen = DepthRegistration(Lens(square), Lens(square), turned).apply(depth)
    np.testing.assert_array_equal(seen, np.rot90(depth, -quarters))


def test_a_wall_is_slanted_before_a_camera_that_looks_askew() -> None:
    askew = np.eye(4)
    askew[:3, :3] = cv2.Rodrigues(np.array([-0.1, 0.3, 0.0]))[0]
    seen = DepthRegistration(Lens(SMALL), Lens(SMALL), askew).apply(wall(1.0))
    v, u = np.mgrid[: SMALL.height, : SMALL.width]
    rays = np.stack([(u - SMALL.cx) / SMALL.fx, (v - SMALL.cy) / SMALL.fy, np.ones(u.shape)], -1)
    off = seen - 1 / (rays @ askew[:3, 2])
    assert np.isfinite(off).mean() > 0.5
    assert np.nanmax(np.abs(off)) < 0.003, "a pixel or so"
    assert abs(np.nanmean(off)) < 0.001, "to no side"


def test_what_lies_at_the_other_camera_s_lens_hides_nothing() -> None:
    ahead = np.eye(4)
    ahead[2, 3] = -0.03
    depth = wall(1.0)
    depth[33, 59] = 0.032
    seen = DepthRegistration(Lens(SMALL), Lens(LARGE), ahead).apply(depth)
    assert np.nanmin(seen) > 0.9


def test_lenses_bend() -> None:
    bent = Lens(LARGE, "plumb_bob", (0.12, -0.2, 0.001, -0.002, 0.03))
    rng = np.random.default_rng(1)
    rays = rng.uniform(-0.4, 0.4, (200, 2)).astype(np.float32)
    points = np.column_stack([rays, np.ones(200, np.float32)]) * np.float32(1.7)
    pixels = bent.pixels(points)
    assert np.abs(pixels - Lens(LARGE).pixels(points)).max() > 2.0
    np.testing.assert_allclose(bent.rays(pixels.astype(np.float64)), rays, atol=2e-3)
    fisheye = Lens(LARGE, "equidistant", (0.05, -0.01, 0.002, 0.0))
    pixels = fisheye.pixels(points)
    np.testing.assert_allclose(fisheye.rays(pixels.astype(np.float64)), rays, atol=1e-4)
    depth = DepthRegistration(Lens(SMALL), bent, np.eye(4)).apply(wall(1.0))
    known, straight = np.isfinite(depth), DepthRegistration(Lens(SMALL), Lens(LARGE), np.eye(4))
    assert not np.array_equal(known, np.isfinite(straight.apply(wall(1.0))))


@pytest.mark.parametrize("bends", [(-0.3, 0.0, 0.0, 0.0), (-0.3, 0.1, 0.0, 0.0, -0.02)])
def test_what_only_a_wider_camera_sees_is_not_folded_into_the_picture(
    bends: tuple[float, ...],
) -> None:
    """Far outside a lens's polynomial turns back, and would have a room's corners in the middle."""
    wide = Intrinsics(30.0, 30.0, 59.5, 33.5, 120, 68)
    depth = wall(1.0)
    depth[:, :12] = 0.3
    bent = Lens(LARGE, "plumb_bob", bends)
    seen = DepthRegistration(Lens(wide), bent, np.eye(4)).apply(depth)
    np.testing.assert_allclose(seen[np.isfinite(seen)], 1.0)
    assert np.isfinite(seen).mean() > 0.95


def test_nothing_lies_behind_the_other_camera() -> None:
    turned = np.eye(4)
    turned[:3, :3] = cv2.Rodrigues(np.array([0.0, np.pi, 0.0]))[0]
    seen = DepthRegistration(Lens(SMALL), Lens(SMALL), turned).apply(wall(1.0))
    assert np.isnan(seen).all()


def test_refuses_what_is_no_camera_or_pose() -> None:
    with pytest.raises(DktError, match="distortion model is 'ftheta': expected one of"):
        Lens(SMALL, "ftheta", (0.1,))
    for bad in ((0.1, 0.0, 0.0), (np.nan, 0.0, 0.0, 0.0), (0.1, np.inf, 0.0, 0.0)):
        for model in ("plumb_bob", "equidistant"):
            with pytest.raises(DktError, match=rf"distortion {model} by D=\[.*\]: expected 4"):
                Lens(SMALL, model, bad)
    with pytest.raises(DktError, match=r"stand 30 m apart: expected .* in metres"):
        DepthRegistration(Lens(SMALL), Lens(SMALL), aside(30.0))
    with pytest.raises(DktError, match="expected a rotation"):
        DepthRegistration(Lens(SMALL), Lens(SMALL), np.eye(4) * 1000)
    with pytest.raises(DktError, match=r"expected \(4, 4\)"):
        DepthRegistration(Lens(SMALL), Lens(SMALL), np.eye(3))
    registration = DepthRegistration(Lens(SMALL), Lens(LARGE), np.eye(4))
    with pytest.raises(DktError, match="depth image of 384x216, its camera_info is for 120x68"):
        registration.apply(np.ones((216, 384), np.float32))
