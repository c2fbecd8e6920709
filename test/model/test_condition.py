"""Raw depth as the network is shown it: ranges, filled holes, marks."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.geometry import disparity_of
from dkt_ros.model.condition import DisparityRange, fill, pictures, range_of, seen_share


def plane(frames: int = 1) -> np.ndarray:
    rows = np.linspace(1.0, 2.0, 40, dtype=np.float32)
    return np.broadcast_to(rows[None, :, None], (frames, 40, 30)).copy()


def test_the_range_has_room_for_what_no_sensor_saw() -> None:
    found = range_of(plane())
    assert found is not None
    low, high = np.percentile(plane(), (2, 98))
    assert found.low == pytest.approx(low - 0.05 * high)
    assert found.high == pytest.approx(1.15 * high)
    flying = plane()
    flying[0, 0, 0] = 90.0
    assert range_of(flying).high == pytest.approx(found.high, rel=0.02)  # type: ignore[union-attr]
    large = np.repeat(np.repeat(plane()[0], 10, axis=0), 10, axis=1)
    assert range_of(large).high == pytest.approx(found.high, rel=0.02)  # type: ignore[union-attr]


def test_few_readings_are_none() -> None:
    few = np.zeros((1, 40, 30), np.float32)
    few[0, 0, :] = few[0, 1, :] = few[0, 2, :] = 1.0
    assert range_of(few) is None
    few[0, 3, :] = 1.0
    assert range_of(few) is not None
    everywhere = np.zeros((120, 160), np.float32)
    everywhere[::12, ::16] = 1.0
    assert range_of(everywhere) is not None
    everywhere[0, 0] = 0.0  # the hundredth
    assert range_of(everywhere) is None


def test_readings_of_a_corner_are_none_and_thin_ones_all_over_are_not() -> None:
    picture = np.ones((120, 160), np.float32)
    corner, thin, edge = (np.zeros_like(picture) for _ in range(3))
    corner[80:, 130:] = 1.0
    thin[::8, ::8] = 1.0
    edge[:, :10] = 1.0
    assert np.count_nonzero(corner) > np.count_nonzero(thin)
    assert seen_share(corner) == pytest.approx(0.06, abs=0.02)
    assert seen_share(thin) == seen_share(picture) == 1.0
    assert range_of(corner) is range_of(edge) is None
    assert range_of(thin) == range_of(picture)
    assert range_of(edge, begun=True) is not None
    assert range_of(np.zeros_like(picture), begun=True) is None


def test_the_share_seen_is_the_mean_over_frames() -> None:
    frames = np.zeros((2, 24, 32), np.float32)
    frames[0] = 1.0
    frames[1, :12] = 1.0
    assert seen_share(frames) == pytest.approx(0.75)
    assert seen_share(frames[1]) == pytest.approx(0.5)


def test_far_away_is_never_below_zero() -> None:
    found = range_of(np.tile(np.array([0.05, 2.0], np.float32), (1, 10, 10)))
    assert found is not None
    assert found.low == 0.0


def test_where_all_is_measured_the_picture_is_grey_and_the_targets_own() -> None:
    limits = DisparityRange(0.5, 2.5)
    shown = pictures(plane(2), limits)
    assert shown.shape == (3, 2, 40, 30)
    assert shown.dtype == np.float32
    for channel in shown:
        np.testing.assert_array_equal(channel, limits.normalise(plane(2)))
    np.testing.assert_allclose(limits.disparity((shown[0] + 1) / 2), plane(2), rtol=1e-5)


def test_holes_take_the_nearest_reading_and_are_marked_whatever_its_value() -> None:
    readings = plane()
    readings[0, 10:30, 10:20] = 0.0
    shown = pictures(readings, DisparityRange(1.0, 2.0))
    hole = readings == 0
    np.testing.assert_array_equal(shown[0], shown[1])
    assert np.abs(shown[2] - shown[0])[hole].min() >= 1.0
    assert np.abs(shown[2] - shown[0])[~hole].max() == 0.0
    assert np.abs(shown).max() <= 1.0
    assert shown[0][hole].min() >= shown[0][~hole].min()


def test_a_frame_without_readings_is_filled_by_its_neighbour_in_time() -> None:
    readings = plane(3)
    readings[1:] = 0.0
    np.testing.assert_array_equal(fill(readings)[2], readings[0])
    nothing = pictures(np.zeros((1, 8, 8), np.float32), DisparityRange(1.0, 2.0))
    np.testing.assert_array_equal(nothing[0], -1.0)
    assert (nothing[2] != -1.0).all()


def test_a_range_suits_what_moves_a_little_and_not_another_scene() -> None:
    limits = range_of(plane())
    assert limits is not None
    assert limits.suits(plane() * 1.1)
    assert limits.suits(np.zeros_like(plane()))
    assert not limits.suits(plane() * 2.0)
    assert not limits.suits(plane() * 0.3)
    far_and_near = DisparityRange(0.0, 2.0)
    assert far_and_near.suits(plane() * 0.5)
    assert not far_and_near.suits(plane() * 0.4), "of most of the range nothing is left"
    strayed = plane()
    strayed[0, :, :2] = 3.0
    assert limits.suits(strayed)
    strayed[0, :, 2:4] = 3.0
    assert not limits.suits(strayed)


def test_unknown_depth_has_no_disparity() -> None:
    depth = np.array([[2.0, np.nan, 0.0, np.inf, -1.0]], np.float32)
    np.testing.assert_array_equal(disparity_of(depth), [[0.5, 0, 0, 0, 0]])
