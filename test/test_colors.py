"""Numbers as colours."""

from __future__ import annotations

import numpy as np

from dkt_ros.colors import colored


def test_low_is_blue_high_is_red_and_unknown_is_grey() -> None:
    values = np.array([[-9.0, 0.0, 1.0, 9.0, np.nan, np.inf]])
    found = colored(values, 0.0, 1.0, unknown=7)
    assert found.shape == (1, 6, 3)
    np.testing.assert_array_equal(found[0, 0], found[0, 1])  # beyond the range: its end's colour
    np.testing.assert_array_equal(found[0, 2], found[0, 3])
    assert found[0, 1, 2] > found[0, 1, 0]
    assert found[0, 2, 0] > found[0, 2, 2]
    np.testing.assert_array_equal(found[0, 4:], np.full((2, 3), 7))


def test_a_range_of_nothing_is_no_division_by_zero() -> None:
    np.testing.assert_array_equal(
        colored(np.ones((2, 2)), 1.0, 1.0), colored(np.zeros((2, 2)), 0.0, 1.0)
    )
