"""A fitted line 1/z = scale * d + shift with its uncertainty, and one Kalman step towards another.

Knows how lines drift and how two of them are weighed. Knows nothing of pixels or of which line to
believe.

Everything is reckoned in disparity at the two ends of d, `ends` (2,): there the two unknowns are of
one kind and nearly independent, which scale and shift are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.line_fit import LineFit

Array64 = NDArray[np.float64]

FIRST_DRIFT = 0.03  # relative: of a network of which one frame alone was seen
FIT_ERROR_FLOOR = 0.001  # relative: what no single frame's fit can claim to know better


@dataclass(frozen=True, eq=False)
class Line:
    """values (2,) = scale, shift in 1/m, covariance (2, 2), and the fit that it last rests on."""

    values: Array64
    covariance: Array64
    fit: LineFit

    def at(self, d: NDArray[np.floating]) -> Array64:
        """1/depth at relative disparity d, 1/m."""
        return self.values[0] * d + self.values[1]

    def uncertainty(self, ends: Array64, max_depth: float) -> float:
        """Relative standard error of depth at the worse end; inf when ends are not finite.

        Depth beyond max_depth (metres) counts as max_depth.
        """
        design = _design(ends)
        variance = np.einsum("ki,ij,kj->k", design, self.covariance, design)
        disparity = np.maximum(self.at(ends), 1 / max_depth)
        worst = float((np.sqrt(np.maximum(variance, 0)) / disparity).max())
        return worst if np.isfinite(worst) else float("inf")


def difference(a: Line, b: Line, ends: Array64) -> float:
    """Largest relative difference of two lines' disparity at the ends."""
    return float(differences(a, b, ends).max())


def differences(a: Line, b: Line, ends: Array64) -> Array64:
    """(2,) relative difference of two lines' disparity at either end."""
    at_a, at_b = a.at(ends), b.at(ends)
    return np.asarray(np.abs(at_a - at_b) / np.maximum(np.abs(at_b), 1e-9))


def drifted(line: Line, ends: Array64, relative: float | Array64) -> Line:
    """The same line, less certain by a relative standard deviation of disparity at either end.

    relative: one for both ends, or (2,).
    """
    if not ends[1] > ends[0]:
        return line
    inverse = _inverse(_design(ends))
    drift = inverse @ np.diag(np.square(relative * line.at(ends))) @ inverse.T
    return Line(line.values, line.covariance + drift, line.fit)


def joined(expected: Line, seen: Line, ends: Array64) -> Line:
    """One Kalman step: the expected line moved towards the seen one as far as that is certain."""
    design = _design(ends)
    inverse = _inverse(design)
    prior = design @ expected.covariance @ design.T
    gain = prior @ _inverse(prior + design @ seen.covariance @ design.T)
    at_ends = expected.at(ends) + gain @ (seen.at(ends) - expected.at(ends))
    covariance = inverse @ (np.eye(2) - gain) @ prior @ inverse.T
    return Line(inverse @ at_ends, covariance, seen.fit)


def wandering(lines: Sequence[Line], frames: int, ends: Array64) -> Array64:
    """(2,) relative standard deviation of disparity at either end, so many frames after a line.

    lines: of the frames before, one each, newest last; as these have wandered. Where they are few,
    FIRST_DRIFT counts as one more.
    """
    apart = min(frames, len(lines) // 2)
    pairs = list(zip(lines[:-apart], lines[apart:], strict=True)) if apart else []
    wandered = sum(np.square(differences(later, line, ends)) for line, later in pairs)
    squares = np.full(2, FIRST_DRIFT**2) + wandered
    return np.asarray(np.sqrt(squares / (1 + len(pairs))))


def _design(ends: Array64) -> Array64:
    return np.stack([ends, np.ones(2)], axis=1)


def _inverse(matrix: Array64) -> Array64:
    """Of a (2, 2) matrix, spelled out: LAPACK would wake a pool of threads for it."""
    (a, b), (c, d) = matrix
    return np.array([[d, -b], [-c, a]]) / (a * d - b * c)
