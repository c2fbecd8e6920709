"""Depths of a still scene as one, and what tells that they show another view; without ROS."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.ros.still_scene import approached, changed_share, median_depth, show_one_view


def test_the_median_of_depths_leaves_outliers_and_gaps_out() -> None:
    rng = np.random.default_rng(0)
    depths = (1.0 + 0.01 * rng.standard_normal((10, 40, 50))).astype(np.float32)
    depths[2] += 5.0
    depths[:5, 0, 0] = np.nan
    depths[:6, 0, 1] = np.nan
    depths[0, 0, 2] = 0.0
    median, spread = median_depth(depths)
    np.testing.assert_allclose(median[1:], np.median(depths, axis=0)[1:], rtol=1e-6)
    assert abs(median[0, 0] - np.median(depths[5:, 0, 0])) < 1e-6
    assert np.isnan([median[0, 1], spread[0, 1]]).all(), "fewer than half are known"
    assert abs(median[0, 2] - np.median(depths[1:, 0, 2])) < 1e-6
    assert 0.007 < np.nanmedian(spread) < 0.012


def test_the_spread_tells_where_the_last_depth_is_another() -> None:
    """Three of five show a hand that is gone by the fifth, whose colours are published."""
    depths = np.full((5, 4, 6), 1.0, np.float32)
    depths[1:4, :, 2:] = 0.6
    depths[4] = 1.005
    median, spread = median_depth(depths)
    np.testing.assert_allclose(median[:, 2:], 0.6)
    np.testing.assert_allclose(spread[:, 2:], 0.405, rtol=1e-5)
    assert spread[:, :2].max() == 0.0


def test_noise_is_no_change_and_another_view_is() -> None:
    rng = np.random.default_rng(0)
    floor = np.linspace(0.5, 1.5, 100, dtype=np.float32)[:, None] * np.ones((1, 80), np.float32)
    noisy = [floor * (1 + 0.03 * rng.standard_normal(floor.shape)) for _ in range(2)]
    assert changed_share(noisy[0], noisy[1]) < 0.03
    moved = floor.copy()
    moved[20:60, 20:60] = 0.4
    assert changed_share(floor, moved) == pytest.approx(0.2, abs=0.01)
    moved[:, 40:] = np.nan
    assert changed_share(floor, moved) == pytest.approx(0.2, abs=0.01), "of what is known in both"
    assert changed_share(floor, floor[::-1]) > 0.5
    assert changed_share(floor, np.full_like(floor, np.nan)) == 0.0


def test_a_camera_that_comes_near_is_told_from_noise() -> None:
    rng = np.random.default_rng(0)
    floor = np.linspace(0.5, 1.5, 100, dtype=np.float32)[:, None] * np.ones((1, 80), np.float32)
    noisy = [floor * (1 + 0.03 * rng.standard_normal(floor.shape)) for _ in range(2)]
    assert abs(approached(noisy[0], noisy[1])) < 0.002
    assert approached(noisy[0], 0.99 * noisy[1]) == pytest.approx(-0.01, abs=0.002)
    assert approached(floor, np.full_like(floor, np.nan)) == 0.0


def test_one_view_has_neither_moved_nor_come_near_nor_got_lost() -> None:
    floor = np.linspace(0.5, 1.5, 100, dtype=np.float32)[:, None] * np.ones((1, 80), np.float32)
    some = np.arange(100)[:, None] < 12
    noise = 1 + 0.03 * np.random.default_rng(0).standard_normal(floor.shape).astype(np.float32)
    assert show_one_view(floor, floor * noise)
    for other in (np.where(some, 2 * floor, floor), 0.99 * floor, np.where(some, np.nan, floor)):
        assert not show_one_view(floor, other)
        assert not show_one_view(other, floor)
