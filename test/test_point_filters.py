"""Filters of clouds: what they drop, what stays, and that others go on meanwhile."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from dkt_ros.point_filters import remove_outliers, voxel_downsample


class TestClouds:
    def cloud(self, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        xyz = rng.uniform(0, 0.1, (points, 3)).astype(np.float32)
        return xyz, rng.integers(0, 256, (points, 3), dtype=np.uint8)

    def test_one_mean_point_for_each_voxel(self) -> None:
        points = np.array([[0.001, 0, 0], [0.003, 0, 0], [0.051, 0, 0]], np.float32)
        rgb = np.array([[0, 0, 0], [100, 50, 200], [9, 9, 9]], np.uint8)
        thinned, colours = voxel_downsample(points, 0.02, rgb)
        order = np.argsort(thinned[:, 0])
        np.testing.assert_allclose(thinned[order], [[0.002, 0, 0], [0.051, 0, 0]], atol=1e-6)
        assert colours is not None
        np.testing.assert_array_equal(colours[order], [[50, 25, 100], [9, 9, 9]])

    def test_voxels_bound_the_density(self) -> None:
        points, rgb = self.cloud(5000)
        thinned, colours = voxel_downsample(points, 0.025, rgb)
        assert thinned.dtype == np.float32
        assert colours is not None
        assert len(thinned) == len(colours) == 5**3
        assert voxel_downsample(points, 0.025)[1] is None

    def test_outliers_go_and_the_rest_stays_in_order(self) -> None:
        points, rgb = self.cloud()
        points[[7, 300]] += 1.0
        left, colours = remove_outliers(points, neighbours=10, deviations=3, rgb=rgb)
        assert colours is not None
        kept = np.flatnonzero(np.isin(points[:, 0], left[:, 0]))
        assert not {7, 300} & set(kept)
        assert len(left) > 380
        np.testing.assert_array_equal(left, points[kept])
        np.testing.assert_array_equal(colours, rgb[kept])

    def test_clouds_of_nothing(self) -> None:
        nothing, none = np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8)
        for points, colours in (
            voxel_downsample(nothing, 0.01, none),
            remove_outliers(nothing, rgb=none),
        ):
            assert points.shape == (0, 3)
            assert colours is not None
            assert colours.shape == (0, 3)

    @pytest.mark.parametrize("count", [5, 20])
    def test_too_few_points_to_judge(self, count: int) -> None:
        points, _ = self.cloud(count)
        np.testing.assert_array_equal(remove_outliers(points, neighbours=20)[0], points)

    def test_unusable_arguments(self) -> None:
        points, rgb = self.cloud(50)
        with pytest.raises(ValueError, match="voxel"):
            voxel_downsample(points, 0)
        with pytest.raises(ValueError, match="neighbours"):
            remove_outliers(points, neighbours=0)
        with pytest.raises(ValueError, match=r"\(N, 3\)"):
            voxel_downsample(points[:, :2], 0.1)
        with pytest.raises(ValueError, match="colours"):
            voxel_downsample(points, 0.1, rgb[:-1])


@pytest.mark.parametrize(("filtered", "count"), [("voxels", 600_000), ("outliers", 60_000)])
def test_other_threads_go_on_while_a_cloud_is_filtered(filtered: str, count: int) -> None:
    """A node that filters a large cloud would answer nothing, nor make depth, for seconds."""
    points = np.random.default_rng(0).random((count, 3), np.float32)
    turns: list[float] = []
    done = threading.Event()

    def take_turns() -> None:
        while not done.wait(0.001):
            turns.append(time.monotonic())

    other = threading.Thread(target=take_turns)
    other.start()
    start = time.monotonic()
    if filtered == "voxels":
        voxel_downsample(points, 0.01)
    else:
        remove_outliers(points, 20)
    end = time.monotonic()
    done.set()
    other.join()
    assert len([turn for turn in turns if start < turn < end]) >= 5, end - start


def test_voxels_smaller_than_any_gap_keep_every_point() -> None:
    points = np.random.default_rng(0).random((500, 3), np.float32)
    for voxel_m in (1e-9, 1e-300):
        left, _ = voxel_downsample(points, voxel_m)
        np.testing.assert_array_equal(np.sort(left, axis=0), np.sort(points, axis=0))
