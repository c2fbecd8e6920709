"""Disparity as the networks learn it: one linear map per clip onto [-1, 1]. numpy alone."""

from __future__ import annotations

import numpy as np


def clip_range(
    disparity: np.ndarray, known: np.ndarray, percentiles: tuple[float, float] = (2.0, 98.0)
) -> tuple[float, float]:
    """The clip's disparities that become -1 and 1.

    disparity: (F,H,W) in 1/m; known: the same, bool, True somewhere. Over the whole clip, never per
    frame, so that what stands still keeps its value; percentiles, so that a few pixels very near
    do not press all others into the far end.
    """
    low, high = np.percentile(disparity[known], percentiles)
    return float(low), float(high)


def normalise(disparity: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps low to -1 and high to 1; what lies beyond is clamped."""
    return np.asarray(np.clip((disparity - low) / half_range(low, high) - 1.0, -1.0, 1.0))


def half_range(low: float, high: float) -> float:
    """What a step of 1 in normalised disparity means in 1/m."""
    return max((high - low) / 2.0, 1e-6)
