"""Probabilities that hold on what they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.fusion.confidence import Calibration


def drawn(seed: int, count: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Errors whose mean is three times what is foretold, and worse the larger that is."""
    rng = np.random.default_rng(seed)
    log_error = rng.uniform(-6, -1, count).astype(np.float32)
    return log_error, rng.exponential(3 * np.exp(1.1 * log_error))


def test_calibrated_probabilities_hold() -> None:
    log_error, errors = drawn(0)
    fitted = Calibration.fitted(log_error, errors < 0.02, 0.02)
    log_error, errors = drawn(1)
    for tolerance in (0.02, 0.05):
        foretold = fitted.probability(log_error, tolerance)
        for low, high in ((0.1, 0.4), (0.4, 0.7), (0.7, 0.95)):
            inside = (foretold > low) & (foretold < high)
            share = (errors[inside] < tolerance).mean()
            assert share == pytest.approx(foretold[inside].mean(), abs=0.03)
    raw = Calibration().probability(log_error, 0.02)
    assert abs(raw.mean() - (errors < 0.02).mean()) > 0.1


def test_falls_with_the_foretold_error_whatever_was_measured() -> None:
    rng = np.random.default_rng(0)
    log_error = rng.uniform(-6, -1, 5000).astype(np.float32)
    fitted = Calibration.fitted(log_error, rng.random(5000) < 0.5, 0.02)
    probability = fitted.probability(np.linspace(-8, 1, 50, dtype=np.float32), 0.02)
    assert (np.diff(probability) <= 1e-6).all()


def test_survives_json() -> None:
    log_error, errors = drawn(0, 1000)
    fitted = Calibration.fitted(log_error, errors < 0.02, 0.02)
    again = Calibration.from_json(fitted.to_json())
    np.testing.assert_allclose(again.measured, fitted.measured, atol=1e-3)
    assert Calibration.from_json(None) == Calibration()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"foretold": [0, 1]},
        {"foretold": [1, 0], "measured": [0, 1]},
        {"foretold": [0, 1], "measured": [0, 1, 2]},
        {"foretold": ["x"], "measured": [1]},
        [],
    ],
)
def test_refuses_what_is_no_calibration(content: object) -> None:
    with pytest.raises(DktError, match="calibration"):
        Calibration.from_json(content)
