"""Geometry: exact projection both ways, unknown depth in every guise, filters that drop points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dkt_ros.errors import DktError
from dkt_ros.geometry import (
    Box,
    Intrinsics,
    backproject,
    is_reading,
    known_depth,
    known_points,
    normals,
    remove_flying_pixels,
    resize_nearest,
    with_readings_between,
)

CAMERA = Intrinsics(fx=921.0, fy=915.5, cx=642.25, cy=359.0, width=1280, height=720)
SMALL = Intrinsics(fx=50.0, fy=52.0, cx=15.5, cy=11.25, width=32, height=24)
UNKNOWN = [0.0, -1.0, np.nan, np.inf, -np.inf]


def depths(shape: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    known = st.floats(0.125, 16, width=32)
    return arrays.arrays(np.float32, shape, elements=known | st.sampled_from(UNKNOWN))


def project(points: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """Points (..., 3) to pixels (..., 2) by the camera's matrix."""
    pixels = points.astype(float) @ camera.matrix.T
    return pixels[..., :2] / pixels[..., 2:]


class TestIntrinsics:
    def test_matrix_and_back(self) -> None:
        np.testing.assert_array_equal(
            CAMERA.matrix, [[921.0, 0.0, 642.25], [0.0, 915.5, 359.0], [0.0, 0.0, 1.0]]
        )
        assert Intrinsics.from_matrix(CAMERA.matrix, 1280, 720) == CAMERA

    def test_x_and_y_scale_apart(self) -> None:
        scaled = CAMERA.scaled_to(640, 480)
        assert (scaled.width, scaled.height) == (640, 480)
        assert scaled.fx == pytest.approx(CAMERA.fx / 2)
        assert scaled.fy == pytest.approx(CAMERA.fy * 2 / 3)

    @settings(max_examples=50, deadline=None)
    @given(
        width=st.integers(1, 4000),
        height=st.integers(1, 4000),
        u=st.floats(-0.5, 1279.5),
        v=st.floats(-0.5, 719.5),
    )
    def test_a_ray_keeps_its_place_in_the_resized_image(
        self, width: int, height: int, u: float, v: float
    ) -> None:
        """Places are relative to the borders, at -0.5 and width - 0.5."""
        ray = np.array([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, 1.0])
        scaled = project(ray, CAMERA.scaled_to(width, height))
        expected = [(u + 0.5) * width / 1280 - 0.5, (v + 0.5) * height / 720 - 0.5]
        np.testing.assert_allclose(scaled, expected, atol=1e-6 * max(width, height))

    def test_scaling_agrees_with_how_opencv_resizes(self) -> None:
        """A ramp that tells each pixel's ray still tells it after halving."""
        rays = (np.arange(1280, dtype=np.float32) - np.float32(CAMERA.cx)) / np.float32(CAMERA.fx)
        image = np.tile(rays, (720, 1))
        halved = cv2.resize(image, (640, 360), interpolation=cv2.INTER_AREA)
        camera = CAMERA.scaled_to(640, 360)
        expected = (np.arange(640) - camera.cx) / camera.fx
        np.testing.assert_allclose(halved[0], expected, atol=1e-5)

    def test_scaling_there_and_back(self) -> None:
        again = CAMERA.scaled_to(333, 77).scaled_to(1280, 720)
        np.testing.assert_allclose(again.matrix, CAMERA.matrix, rtol=1e-12)

    @pytest.mark.parametrize("change", [{"fx": 0.0}, {"fy": -1.0}, {"cx": np.nan}, {"fx": np.inf}])
    def test_an_uncalibrated_camera(self, change: dict[str, float]) -> None:
        with pytest.raises(DktError, match="calibrate"):
            replace(CAMERA, **change)  # type: ignore[arg-type]

    def test_an_empty_image(self) -> None:
        with pytest.raises(DktError, match="0x720"):
            replace(CAMERA, width=0)
        with pytest.raises(DktError, match="1280x0"):
            replace(CAMERA, height=0)

    @pytest.mark.parametrize(
        "matrix",
        [
            np.eye(4),
            np.array([[1, 0.1, 1], [0, 1, 1], [0, 0, 1.0]]),
            np.array([[1, 0, 1], [0.1, 1, 1], [0, 0, 1.0]]),
            np.diag([1, 1, 2.0]),
        ],
    )
    def test_a_matrix_that_is_no_camera(self, matrix: np.ndarray) -> None:
        with pytest.raises(DktError, match="camera matrix"):
            Intrinsics.from_matrix(matrix, 10, 10)


class TestBackproject:
    @settings(max_examples=30, deadline=None)
    @given(depths((24, 32)))
    def test_points_lie_where_the_pinhole_formula_says(self, depth: np.ndarray) -> None:
        cloud = backproject(depth, SMALL)
        assert cloud.shape == (24, 32, 3)
        assert cloud.dtype == np.float32
        v, u = np.mgrid[:24, :32]
        known = (depth > 0) & (depth < np.inf)
        z = np.where(known, depth.astype(float), np.nan)
        expected = np.stack([(u - 15.5) / 50 * z, (v - 11.25) / 52 * z, z], axis=-1)
        np.testing.assert_allclose(cloud, expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(cloud[..., 2][known], depth[known])

    @settings(max_examples=20, deadline=None)
    @given(depths((24, 32)))
    def test_projection_brings_every_point_back_to_its_pixel(self, depth: np.ndarray) -> None:
        pixels = project(backproject(depth, SMALL), SMALL)
        v, u = np.mgrid[:24, :32]
        known = np.isfinite(pixels[..., 0])
        np.testing.assert_array_equal(known, (depth > 0) & (depth < np.inf))
        np.testing.assert_allclose(pixels[known], np.stack([u, v], -1)[known], atol=1e-4)

    def test_a_plane_stays_a_plane(self) -> None:
        normal, distance = np.array([0.1, -0.4, 0.9]), 0.8
        v, u = np.mgrid[:720, :1280]
        rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, 0 * u + 1], -1)
        depth = (distance / (rays @ normal)).astype(np.float32)
        np.testing.assert_allclose(backproject(depth, CAMERA) @ normal, distance, rtol=1e-5)

    def test_axes_point_right_down_and_forward(self) -> None:
        cloud = backproject(np.ones((24, 32), np.float32), SMALL)
        assert cloud[0, -1, 0] > 0 > cloud[0, 0, 0]
        assert cloud[-1, 0, 1] > 0 > cloud[0, 0, 1]
        assert (cloud[..., 2] == 1).all()

    def test_into_a_message_s_memory(self) -> None:
        depth = np.linspace(0.5, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
        memory = np.full((24, 32, 8), 7, np.float32)
        returned = backproject(depth, SMALL, out=memory[..., :3])
        assert np.shares_memory(returned, memory)
        np.testing.assert_array_equal(memory[..., :3], backproject(depth, SMALL))
        assert (memory[..., 3:] == 7).all()

    def test_the_depth_stays_as_it_was(self) -> None:
        depth = np.array([[0.0, 1.0], [np.nan, np.inf]], np.float32)
        before = depth.copy()
        backproject(depth, Intrinsics(1, 1, 0, 0, 2, 2))
        np.testing.assert_array_equal(depth, before)

    @pytest.mark.parametrize(
        ("depth", "error", "words"),
        [
            (np.ones((24, 32), np.uint16), TypeError, "METRES_PER_MILLIMETRE"),
            (np.ones((24, 31), np.float32), ValueError, "31x24"),
            (np.ones((24, 32, 1), np.float32), ValueError, "height, width"),
        ],
    )
    def test_unusable_depth(self, depth: np.ndarray, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            backproject(depth, SMALL)

    def test_unusable_memory(self) -> None:
        with pytest.raises(ValueError, match="float64"):
            backproject(np.ones((24, 32), np.float32), SMALL, out=np.empty((24, 32, 3)))


class TestDepthFilters:
    def test_flying_pixels_go_and_surfaces_stay(self) -> None:
        depth = np.full((20, 30), 1.0, np.float32)
        depth[:, 10:20] = 0.5
        depth[:, 9] = 0.8  # blurred between the two
        left = remove_flying_pixels(depth, 0.03)
        gone = np.isnan(left)
        assert gone[:, 8:11].all()
        assert gone[:, 19:21].all()
        assert not gone[:, :8].any()
        assert not gone[:, 11:19].any()
        np.testing.assert_array_equal(left[~gone], depth[~gone])

    def test_a_slope_is_no_edge(self) -> None:
        rows = np.linspace(0.5, 1.5, 200, dtype=np.float32)[:, None]
        table = np.broadcast_to(rows, (200, 30))
        assert np.isfinite(remove_flying_pixels(table, 0.03)).all()

    def test_unknown_neighbours_say_nothing(self) -> None:
        depth = np.array([UNKNOWN, [1.0] * 5, UNKNOWN])
        left = remove_flying_pixels(depth, 0.01)
        assert np.isnan(left[[0, 2]]).all()
        assert (left[1] == 1).all()

    @settings(max_examples=30, deadline=None)
    @given(depths((6, 7)), st.floats(0.01, 0.5))
    def test_no_jump_is_left(self, depth: np.ndarray, jump: float) -> None:
        """Against a plain loop over neighbours."""
        expected = np.where((depth > 0) & (depth < np.inf), depth, np.nan)
        edge = np.zeros(depth.shape, bool)
        for row, column in np.ndindex(depth.shape):
            for other in ((row + 1, column), (row, column + 1)):
                if other[0] < 6 and other[1] < 7:
                    pair = sorted((expected[row, column], expected[other]))
                    if pair[1] > np.float32(1 + jump) * pair[0]:
                        edge[row, column] = edge[other] = True
        expected[edge] = np.nan
        np.testing.assert_array_equal(remove_flying_pixels(depth, jump), expected)

    def test_resizing_never_mixes(self) -> None:
        rng = np.random.default_rng(0)
        depth = rng.uniform(0.5, 2, (33, 47)).astype(np.float32)
        for width, height in ((20, 10), (100, 90), (47, 33), (1, 1)):
            resized = resize_nearest(depth, width, height)
            assert resized.shape == (height, width)
            assert np.isin(resized, depth).all()
        np.testing.assert_array_equal(resize_nearest(depth, 47, 33), depth)

    def test_readings_that_lie_apart_are_not_passed_over(self) -> None:
        rng = np.random.default_rng(0)
        whole = rng.uniform(0.5, 2, (720, 1280)).astype(np.float32)
        grid, lines, few = np.full_like(whole, np.nan), np.zeros_like(whole), np.zeros_like(whole)
        grid[1::4, 2::4] = whole[1::4, 2::4]
        lines[3::45] = whole[3::45]
        few[4::48] = whole[4::48]  # of which a look at every eighth pair of rows shows none
        for depth, share in ((grid, 1.0), (lines, 16 / 160), (few, 15 / 160)):
            picked = resize_nearest(depth, 288, 160)
            found = with_readings_between(picked, depth)
            known = found > 0
            assert known.mean() == pytest.approx(share, abs=0.01)
            assert (picked > 0).mean() < 0.3 * share
            np.testing.assert_array_equal(found[picked > 0], picked[picked > 0])
            # Each is a reading of its own part of the picture.
            for row, column in np.argwhere(known)[::97]:
                rows = slice(int(row * 4.5), int((row + 1) * 4.5) + 1)
                columns = slice(column * 40 // 9, (column + 1) * 40 // 9 + 1)
                assert found[row, column] in depth[rows, columns]

    @pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
    def test_holes_stay_holes(self, share: float) -> None:
        depth = np.ones((90, 120), np.float32)
        depth[:, int(120 * share) :] = 0.0
        depth[20:40, 5:15] = np.inf
        picked = resize_nearest(depth, 40, 30)
        assert with_readings_between(picked, depth) is picked

    def test_resizing_takes_the_pixel_under_the_new_one_s_centre(self) -> None:
        depth = np.arange(9.0).reshape(1, 9)
        np.testing.assert_array_equal(resize_nearest(depth, 3, 1), [[1, 4, 7]])


class TestKnownPoints:
    def test_known_points_and_their_colours(self) -> None:
        depth = np.full((24, 32), np.nan, np.float32)
        depth[3, 4], depth[20, 30] = 1.0, 2.0
        rgb = np.arange(24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)
        cloud = backproject(depth, SMALL)
        points, colours = known_points(cloud, rgb)
        np.testing.assert_array_equal(points, [cloud[3, 4], cloud[20, 30]])
        assert colours is not None
        np.testing.assert_array_equal(colours, [rgb[3, 4], rgb[20, 30]])
        assert known_points(cloud)[1] is None

    def test_colours_of_another_size(self) -> None:
        with pytest.raises(ValueError, match="colours"):
            known_points(np.ones((24, 32, 3)), np.zeros((24, 31, 3), np.uint8))


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.3, -0.5, -0.81), (-0.7, 0.2, -0.6)])
@pytest.mark.parametrize("reach", [1, 3])
def test_normals_of_a_plane_are_exact(normal: tuple[float, ...], reach: int) -> None:
    n = np.array(normal) / np.linalg.norm(normal)
    rays = backproject(np.ones((24, 32), np.float32), SMALL).astype(float)
    depth = (-0.8 / (rays @ n)).astype(np.float32)
    found = normals(depth, SMALL, reach)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found[reach:-reach, reach:-reach],
        np.broadcast_to(n, (24 - 2 * reach, 32 - 2 * reach, 3)),
        atol=2e-4,
    )
    border = np.ones((24, 32), bool)
    border[reach:-reach, reach:-reach] = False
    assert np.isnan(found[border]).all()


def test_normals_end_at_a_jump_and_beside_unknown_depth() -> None:
    depth = np.ones((24, 32), np.float32)
    depth[:, 20:] = 1.2
    depth[10, 5] = np.nan
    known = np.isfinite(normals(depth, SMALL, 2)[..., 0])
    assert not known[:, 18:22].any()
    assert known[5:9, 10:17].all()
    assert not known[10, 5]
    assert not known[10, 7]
    assert not known[8, 5]


def test_a_smeared_edge_is_no_slope() -> None:
    """Of a filter that averages: in disparity each pixel lies between the two beside it."""
    disparity = np.interp(np.arange(32), [13, 17], [1.0, 2.0]).astype(np.float32)
    known = np.isfinite(normals(1 / np.tile(disparity, (24, 1)), SMALL, 2)[..., 0])
    assert not known[:, 12:19].any()
    assert known[2:-2, 2:11].all()
    assert known[2:-2, 20:-2].all()


@pytest.mark.parametrize("text", ["", "1 2 3", "0 1 0 1 1 0", "0 1 0 1 0 nan", "a b c d e f"])
def test_boxes_are_six_numbers_that_leave_room(text: str) -> None:
    with pytest.raises(DktError, match="expected XMIN XMAX YMIN YMAX ZMIN ZMAX"):
        Box.parse(text)
    assert Box.parse("-1 1 -2 2 0.5 3").high == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_depth_is_a_reading_where_it_and_its_inverse_are_numbers(dtype: Any) -> None:
    """Millimetres as integers that are sent as float32 are numbers of 1e-42."""
    depth = np.array([0.0, -1.0, np.nan, np.inf, 0.001, 1.0], dtype)
    np.testing.assert_array_equal(
        known_depth(depth), [np.nan] * 4 + [np.float32(dtype(0.001)), 1.0]
    )
    integers = np.array([1, 833, 65535], np.int32).view(np.float32)
    assert np.isnan(known_depth(integers)).all()
    assert not is_reading(integers).any()
