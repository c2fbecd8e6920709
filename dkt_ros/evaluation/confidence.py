"""How well a confidence foretells errors: ranking (AUSE, deciles) and calibration (ECE).

Confidence is the probability that a pixel's depth is within a tolerance of the truth. numpy alone;
knows nothing of networks or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.geometry import is_reading, is_true_depth

DECILES = 10
BINS = 10
_KEPT = np.linspace(1.0, 0.02, 50)
"""Shares of the pixels that are kept, along the sparsification curve."""
_MOST_PIXELS = 100_000
"""Of a frame's region; more would tell no more."""
_NAN = float("nan")


@dataclass(frozen=True)
class ConfidenceErrors:
    """Relative errors are shares, as rel of DepthErrors; all NaN where nothing can be compared.

    ause: area between two sparsification curves, the mean relative error of what is kept when the
    least trusted pixels are dropped first, and when the pixels of the largest error are.
    trusted_half_rel: error of the more trusted half of the pixels. rel_by_decile: error of each
    tenth of the pixels, the most trusted first. bin_confidence, bin_within: by tenth of the
    confidence's range from 0 up, sums over the pixels of the bin, divided by all pixels, of the
    confidence and of what was within the tolerance; being sums, they can be averaged over frames.
    """

    ause: float = _NAN
    trusted_half_rel: float = _NAN
    rel_by_decile: tuple[float, ...] = (_NAN,) * DECILES
    bin_confidence: tuple[float, ...] = (_NAN,) * BINS
    bin_within: tuple[float, ...] = (_NAN,) * BINS


def calibration_error(confidence: Sequence[float], within: Sequence[float]) -> float:
    """ECE: mean |confidence - share within the tolerance|, bin by bin; see ConfidenceErrors."""
    return float(np.abs(np.subtract(confidence, within)).sum())


def confidence_errors(
    error: np.ndarray, confidence: np.ndarray, tolerance: float
) -> ConfidenceErrors:
    """Of pixels (n,): their relative error, and the confidence that it is below the tolerance."""
    if not len(error):
        return ConfidenceErrors()
    error, confidence = error.astype(np.float64), confidence.astype(np.float64)
    # Pixels trusted alike have no order: each counts as their mean.
    _, group = np.unique(confidence, return_inverse=True)
    alike = (np.bincount(group, error) / np.bincount(group))[group]
    by_trust = alike[np.argsort(-confidence)]
    kept = np.maximum((_KEPT * len(error)).astype(int), 1)
    curves = [np.cumsum(values)[kept - 1] / kept for values in (by_trust, np.sort(error))]
    tenths = np.array_split(by_trust, DECILES)
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    foretold, within = (
        np.bincount(bins, values, BINS) / len(error) for values in (confidence, error < tolerance)
    )
    return ConfidenceErrors(
        ause=float(np.mean(curves[0] - curves[1])),
        trusted_half_rel=float(by_trust[: max(len(error) // 2, 1)].mean()),
        rel_by_decile=tuple(float(part.mean()) if len(part) else _NAN for part in tenths),
        bin_confidence=tuple(map(float, foretold)),
        bin_within=tuple(map(float, within)),
    )


def frame_confidence_errors(
    predicted: np.ndarray,
    truth: np.ndarray,
    confidence: np.ndarray,
    mask: np.ndarray,
    tolerance: float,
) -> ConfidenceErrors:
    """Of one depth map (H, W) in metres, where it, the truth and the mask are; see frame_errors."""
    used = np.flatnonzero(mask & is_true_depth(truth) & is_reading(predicted))
    used = used[:: len(used) // _MOST_PIXELS + 1]
    p, g = (depth.ravel()[used].astype(np.float64) for depth in (predicted, truth))
    return confidence_errors(np.abs(p - g) / g, confidence.ravel()[used], tolerance)
