"""Completions of raw depth on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.evaluation import baselines
from dkt_ros.geometry import nearest_fill


def table(height: int = 40, width: int = 60) -> np.ndarray:
    """Depth of a plane: disparity linear in the image."""
    rows, columns = np.mgrid[0:height, 0:width]
    return (1.0 / (0.8 + 0.02 * rows + 0.002 * columns)).astype(np.float32)


def completed(depth: np.ndarray) -> dict[str, np.ndarray]:
    """By name, what every baseline makes of the second frame of a video."""
    found = baselines.completions(np.stack([depth + 1, depth]))
    return {name: of[1] for name, of in zip(baselines.BASELINES, found, strict=True)}


def test_raw_keeps_readings_and_marks_the_rest_unknown() -> None:
    result = baselines.raw(np.array([[1.0, 0.0, np.nan, np.inf]]))
    np.testing.assert_array_equal(result, [[1.0, np.nan, np.nan, np.nan]])


def test_nearest_fill_takes_the_nearest_reading() -> None:
    depth = np.full((5, 7), np.nan)
    depth[2, 0], depth[2, 6] = 1.0, 2.0
    filled = nearest_fill(depth)
    np.testing.assert_array_equal(filled[2], [1, 1, 1, filled[2, 3], 2, 2, 2])
    assert filled[2, 3] in (1.0, 2.0)
    assert (filled[:, 0] == 1.0).all()


def test_plane_ignores_two_fifths_of_outliers() -> None:
    truth = table()
    depth = truth.copy()
    depth[:, :10] *= 0.7
    depth[:, 50:] *= 1.5
    depth[:20, 40:50], depth[20:, 40:50] = np.nan, 0.0
    depth[5:15, 20:30] *= 1.4
    np.testing.assert_allclose(baselines.fit_plane(depth), truth, rtol=1e-3)


def test_plane_has_no_depth_past_its_horizon() -> None:
    rows = np.mgrid[0:40, 0:10][0]
    disparity = (rows - 20) / 20.0
    depth = np.where(disparity > 0.05, 1.0 / np.maximum(disparity, 0.05), np.nan)
    fitted = baselines.fit_plane(depth)
    assert np.isnan(fitted[:20]).all()
    assert np.isfinite(fitted[25:]).all()


def test_plane_fill_changes_holes_only() -> None:
    depth = table()
    depth[10:20, 10:20] = np.nan
    depth[30, 30] = 9.0
    filled = completed(depth)["plane fill"]
    assert filled[30, 30] == 9.0
    np.testing.assert_allclose(filled[10:20, 10:20], table()[10:20, 10:20], rtol=1e-3)


def test_telea_continues_a_plane_into_a_small_hole() -> None:
    truth = table()
    depth = truth.copy()
    depth[18:22, 28:32] = np.nan
    filled = baselines.telea_fill(depth)
    np.testing.assert_allclose(filled[18:22, 28:32], truth[18:22, 28:32], rtol=0.03)
    kept = np.isfinite(depth)
    np.testing.assert_array_equal(filled[kept], depth[kept])


def test_each_name_is_its_baseline_s() -> None:
    depth = table()
    depth[10:20, 10:20] = np.nan
    found = completed(depth)
    for name, complete in (
        ("raw", baselines.raw),
        ("nearest fill", nearest_fill),
        ("plane", baselines.fit_plane),
        ("Telea", baselines.telea_fill),
    ):
        np.testing.assert_array_equal(found[name], complete(depth))


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_no_reading_gives_no_depth(name: str) -> None:
    result = completed(np.full((4, 5), np.nan, np.float32))[name]
    assert result.shape == (4, 5)
    assert result.dtype == np.float32
    assert np.isnan(result).all()


def test_nearest_fill_by_hand() -> None:
    depth = np.zeros((3, 4), np.float32)
    depth[0, 0], depth[2, 3] = 1.5, 0.5
    # (1, 1) is sqrt 2 away from the one reading, sqrt 5 from the other; (2, 1) sqrt 5 and 2.
    expected = [[1.5, 1.5, 1.5, 0.5], [1.5, 1.5, 0.5, 0.5], [1.5, 0.5, 0.5, 0.5]]
    np.testing.assert_array_equal(nearest_fill(depth), np.array(expected, np.float32))


def test_plane_through_three_readings_by_hand() -> None:
    # 1/z = 1 + u / 4 + v / 2: 1 at (0, 0), 2 at column 4, 2 at row 2; so 3 at row 2, column 4.
    depth = np.full((3, 5), np.nan)
    depth[0, 0], depth[0, 4], depth[2, 0] = 1.0, 0.5, 0.5
    fitted = baselines.fit_plane(depth)
    assert fitted[2, 4] == pytest.approx(1 / 3, rel=1e-4)
    assert fitted[1, 2] == pytest.approx(1 / 2, rel=1e-4)
    assert np.isnan(baselines.fit_plane(np.where(depth == 1.0, np.nan, depth))).all()


def test_telea_between_two_depths_stays_between_them() -> None:
    depth = np.full((9, 9), 2.0)
    depth[:, 5:] = 1.0
    depth[3:6, 3:6] = np.nan
    hole = baselines.telea_fill(depth)[3:6, 3:6]
    assert ((hole > 0.999) & (hole < 2.001)).all()
    assert (hole[:, 0] > hole[:, 2]).all()
    same = baselines.telea_fill(np.where(np.isnan(depth), np.nan, 1.25))
    np.testing.assert_allclose(same, 1.25, rtol=1e-4)


def test_telea_tells_far_depth_apart_though_something_is_near() -> None:
    truth = np.repeat(np.linspace(8.0, 9.0, 9)[None], 9, axis=0)
    depth = truth.copy()
    depth[0, 0] = 0.2
    depth[5:7, 5:7] = np.nan
    np.testing.assert_allclose(baselines.telea_fill(depth)[5:7, 5:7], truth[5:7, 5:7], rtol=0.01)
