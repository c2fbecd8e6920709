"""The Kalman step: what is certain weighs more, and nothing depends on how lines are written."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.alignment.line_filter import Line, difference, drifted, joined, wandering
from dkt_ros.alignment.line_fit import LineFit

ENDS = np.array([0.1, 0.9])
FIT = LineFit(1.0, 0.5, 0.004, 0.0, 1.0, np.ones(1))


def line(scale: float, shift: float, deviation: float) -> Line:
    """A line whose disparity is uncertain by `deviation` 1/m at either end, independently."""
    inverse = np.linalg.inv(np.stack([ENDS, np.ones(2)], axis=1))
    covariance = inverse @ np.diag([deviation**2, deviation**2]) @ inverse.T
    return Line(np.array([scale, shift]), covariance, FIT)


def test_equally_certain_lines_meet_halfway() -> None:
    middle = joined(line(1.0, 0.5, 0.01), line(1.2, 0.6, 0.01), ENDS)
    np.testing.assert_allclose(middle.values, [1.1, 0.55])
    assert middle.uncertainty(ENDS, 10) == pytest.approx(0.01 / np.sqrt(2) / 0.66)


@pytest.mark.parametrize(("before", "after", "share"), [(0.03, 0.01, 0.9), (0.01, 0.03, 0.1)])
def test_the_more_certain_weighs_more(before: float, after: float, share: float) -> None:
    """Gain of a Kalman filter: before^2 / (before^2 + after^2)."""
    values = joined(line(1.0, 0.5, before), line(2.0, 0.5, after), ENDS).values
    np.testing.assert_allclose(values, [1 + share, 0.5])


def test_a_fit_that_knows_one_end_moves_that_end() -> None:
    inverse = np.linalg.inv(np.stack([ENDS, np.ones(2)], axis=1))
    far_alone = Line(np.array([2.0, 1.0]), inverse @ np.diag([1e-8, 1e4]) @ inverse.T, FIT)
    moved = joined(line(1.0, 0.5, 0.01), far_alone, ENDS)
    assert moved.at(ENDS)[0] == pytest.approx(1.2, abs=1e-3)
    assert moved.at(ENDS)[1] == pytest.approx(1.4, abs=1e-3)


def test_the_ends_chosen_change_nothing() -> None:
    before, after = line(1.0, 0.5, 0.01), line(1.1, 0.7, 0.02)
    one = joined(before, after, ENDS)
    other = joined(before, after, np.array([-3.0, 0.4]))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-9)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-6)


def test_drift_adds_to_the_uncertainty() -> None:
    still = line(1.0, 0.5, 0.0)
    moving = drifted(still, ENDS, 0.02)
    np.testing.assert_array_equal(moving.values, still.values)
    assert moving.uncertainty(ENDS, 10) == pytest.approx(0.02)
    assert drifted(still, np.array([0.5, 0.5]), 0.02) is still
    assert drifted(still, np.array([np.nan, np.nan]), 0.02) is still


def test_uncertainty_at_the_worse_end() -> None:
    assert line(1.0, 0.5, 0.01).uncertainty(ENDS, 10) == pytest.approx(0.01 / 0.6)
    sky = line(1.0, -0.1, 0.01)  # infinitely far at the low end
    assert sky.uncertainty(ENDS, 10) == pytest.approx(0.1)
    assert np.isinf(sky.uncertainty(np.array([np.nan, np.nan]), 10))


def test_difference_at_the_worse_end() -> None:
    assert difference(line(1.0, 0.5, 1), line(1.0, 0.4, 1), ENDS) == pytest.approx(0.2)
    assert difference(line(1.2, 0.5, 1), line(1.0, 0.5, 1), ENDS) == pytest.approx(0.18 / 1.4)


def test_lines_wander_as_they_did_before() -> None:
    still, other = line(1.0, 0.5, 0.01), line(1.1, 0.5, 0.01)
    np.testing.assert_allclose(wandering([], 1, ENDS), 0.03)
    np.testing.assert_allclose(wandering([still] * 9, 1, ENDS), 0.03 / 3)
    to_and_fro = wandering([still, other] * 8, 1, ENDS)
    np.testing.assert_allclose(to_and_fro, [0.018, 0.063], rtol=0.1)
    np.testing.assert_allclose(wandering([still, other] * 8, 2, ENDS), 0.03 / np.sqrt(15))
