"""The robust line 1/z = scale * d + shift through one frame's pixels.

Knows statistics only: points (d, y = 1/z) of which some lie on a line with noise, some lie under
it (glass: the sensor sees through it and reads too far) and a few anywhere. Knows nothing of
images, time or whether a fit is worth believing.

Least squares has no answer to errors that all point one way, and symmetric robust losses lean with
them. Here the residual r = y - (scale d + shift) is drawn from a mixture,

    p(r) = a N(r; 0, sigma)  +  b [r < 0] (exponential or uniform)  +  c uniform,

and scale, shift, sigma and the shares are those of greatest likelihood: pairs of points propose
lines, the best few are polished by expectation maximisation (Dempster et al. 1977), the likeliest
is kept. Sensor noise grows with z^2, hence is about constant in 1/z, where the fit is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]

SEED = 20240229
PROPOSALS = 256
PROPOSAL_POINTS = 384
POLISHED = 4
POLISH_POINTS = 768
POLISH_STEPS = 12
FINAL_STEPS = 20
START_SIGMAS = (0.004, 0.03)  # 1/m: sensor noise alone, and with a poor network's errors
SIGMA_FLOOR = 0.002  # 1/m: no depth camera is better, and a tighter fit proves nothing
NEAR_SHARE = 0.01  # share c: pixels that read too near are rare whatever the frame says
FAR_SHARE_LIMITS = (0.01, 0.75)  # share b
UNIFORM_PART = 0.2  # of the far component; the rest is exponential
MIN_SPAN = 0.02  # the line must span this share of its disparity, or its scale means nothing
PROPOSAL_CAP = 0.1  # 1/m: all residuals beyond count the same in the first scoring
NEAR_PENALTY = 2.0


@dataclass(frozen=True)
class LineFit:
    """y = scale * d + shift. sigma: standard deviation of the points on the line, in y's unit.

    weights (n,): each point's probability of lying on the line.
    """

    scale: float
    shift: float
    sigma: float
    weights: Array64


def fit_line(d: Array64, y: Array64, guess: tuple[float, float] | None = None) -> LineFit | None:
    """The likeliest rising line through points (n,) d and y, in 1/m; None when there is none.

    guess: a (scale, shift) that is tried as well. The order of the points does not matter.
    """
    d = np.asarray(d, np.float64)
    y = np.asarray(y, np.float64)
    if d.shape != y.shape or d.ndim != 1:
        raise ValueError(f"points of shapes {d.shape} and {y.shape}: expected two equal (n,)")
    if len(d) < 3:
        return None
    # Work on d scaled to its own range and y about its median: float32 is then precise enough,
    # and any affine change of d leaves every step below as it was.
    order = np.lexsort((y, d))
    low, high = np.quantile(d, (0.02, 0.98))
    if not high > low:
        low, high = d[order[0]], d[order[-1]]
    if not high > low:
        return None
    centre = float(np.median(y))
    x32 = ((d[order] - low) / (high - low)).astype(np.float32)
    y32 = (y[order] - centre).astype(np.float32)
    spread = max(float(np.subtract(*np.quantile(y, (0.98, 0.02)))), 0.1)

    lines = _propose(x32, y32, centre)
    if guess is not None:
        scale, shift = guess
        own = np.array([[scale * (high - low)], [scale * low + shift - centre]], np.float32)
        lines = np.concatenate([own, lines], axis=1)
    if lines.shape[1] == 0:
        return None
    lines = _best_distinct(x32, y32, lines)
    starts = np.repeat(lines, len(START_SIGMAS), axis=1)
    sigmas = np.tile(np.asarray(START_SIGMAS, np.float32), lines.shape[1])
    some = _every(len(d), POLISH_POINTS)
    polished = _Mixture(x32[some], y32[some], spread, starts, sigmas)
    polished.climb(POLISH_STEPS)
    usable = _rising(polished.lines, centre)
    if not usable.any():
        return None
    best = int(np.argmax(np.where(usable, polished.likelihood(), -np.inf)))
    final = polished.only(best, x32, y32)
    final.climb(FINAL_STEPS)
    if not _rising(final.lines, centre)[0]:
        return None

    slope, offset = (float(v) for v in final.lines[:, 0])
    weights = np.empty(len(d))
    weights[order] = final.weights()[0]
    scale = slope / (high - low)
    return LineFit(scale, offset + centre - scale * low, float(final.sigma[0]), weights)


def line_covariance(
    d: Array64, residuals: Array64, weights: Array64, groups: NDArray[np.intp]
) -> Array64:
    """Covariance (2, 2) of a weighted fit's (scale, shift), whatever its errors' correlation.

    d, residuals, weights, groups: (n,). Errors of a network are smooth, so that a thousand pixels
    of one corner say little more than one; the cluster-robust ("sandwich") estimator therefore
    lets errors be correlated within a group, here a block of the image. Infinite with fewer than
    four groups, or without spread in d.
    """
    unknown = np.full((2, 2), np.inf)
    mass = weights.sum()
    if mass <= 0:
        return unknown
    mean = weights @ d / mass
    centred = d - mean
    variance = weights @ np.square(centred) / mass
    labels = np.unique(groups[weights > 0.5])
    if len(labels) < 4 or not variance > 0:
        return unknown
    push = weights * residuals
    count = int(groups.max()) + 1
    scores = np.stack(
        [np.bincount(groups, push * centred, count) / variance, np.bincount(groups, push, count)]
    )
    scores /= mass
    covariance = scores @ scores.T * (len(labels) / (len(labels) - 2))
    # From (scale, value at the mean) to (scale, shift): shift = value - scale * mean.
    to_shift = np.array([[1.0, 0.0], [-mean, 1.0]])
    return to_shift @ covariance @ to_shift.T


def _every(count: int, wanted: int) -> NDArray[np.intp]:
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.intp)


def _rising(lines: Array, centre: float) -> NDArray[np.bool_]:
    """Which lines (2, k) rise enough, and give positive disparity at the far end."""
    slope, offset = lines
    near = slope + offset + centre
    return (slope > MIN_SPAN * near) & (offset + centre > -0.1 * near)


def _propose(x: Array, y: Array, centre: float) -> Array:
    """Lines (2, k) through pairs of points that are not neighbours in x; points sorted by x."""
    count = len(x)
    pairs = np.sort(np.random.default_rng(SEED).integers(0, count, (2, 4 * PROPOSALS)), axis=0)
    first, second = pairs[:, pairs[1] - pairs[0] > count // 8]
    run = x[second] - x[first]
    steep = run > 1e-3
    first, second, run = first[steep], second[steep], run[steep]
    slope = (y[second] - y[first]) / run
    lines = np.stack([slope, y[first] - slope * x[first]])
    return lines[:, _rising(lines, centre)][:, :PROPOSALS]


def _best_distinct(x: Array, y: Array, lines: Array) -> Array:
    """The POLISHED best of lines (2, k) by a capped logarithmic loss, no two of them alike."""
    some = _every(len(x), PROPOSAL_POINTS)
    residual = y[some] - lines[0][:, None] * x[some] - lines[1][:, None]
    noise = np.float32(START_SIGMAS[0])
    loss = np.log1p(np.square(np.clip(residual, -PROPOSAL_CAP, PROPOSAL_CAP) / noise))
    loss *= np.where(residual > 0, np.float32(NEAR_PENALTY), np.float32(1))
    ends = np.stack([lines[1], lines[0] + lines[1]])
    chosen: list[int] = []
    for index in np.argsort(loss.mean(axis=1), kind="stable"):
        if all(np.abs(ends[:, index] - ends[:, other]).max() > START_SIGMAS[1] for other in chosen):
            chosen.append(int(index))
            if len(chosen) == POLISHED:
                break
    return lines[:, chosen]


class _Mixture:
    """k mixtures over the same n points, climbing in likelihood side by side."""

    def __init__(self, x: Array, y: Array, spread: float, lines: Array, sigma: Array) -> None:
        self.x, self.y, self.spread = x, y, np.float32(spread)
        self.lines, self.sigma = lines, sigma
        k = lines.shape[1]
        self.far_share = np.full(k, 0.4, np.float32)
        self.far_length = np.full(k, max(spread / 6, 0.03), np.float32)

    def only(self, index: int, x: Array, y: Array) -> _Mixture:
        """One of the mixtures, over other points."""
        one = _Mixture(x, y, float(self.spread), self.lines[:, [index]], self.sigma[[index]])
        one.far_share = self.far_share[[index]]
        one.far_length = self.far_length[[index]]
        return one

    def _residuals(self) -> Array:
        slope, offset = self.lines
        return self.y - slope[:, None] * self.x - offset[:, None]

    def _densities(self, r: Array) -> tuple[Array, Array, np.float32]:
        """Each point's density on the line, under it, and anywhere; (k, n), (k, n), scalar."""
        z = r / self.sigma[:, None]
        on = np.exp(-0.5 * np.minimum(np.square(z), 150))
        on *= ((1 - NEAR_SHARE - self.far_share) / (np.sqrt(2 * np.pi) * self.sigma))[:, None]
        under = np.exp(np.maximum(np.minimum(r, 0) / self.far_length[:, None], -80))
        under *= ((1 - UNIFORM_PART) / self.far_length)[:, None]
        under += UNIFORM_PART / self.spread
        under *= 0.5 - 0.5 * z / np.sqrt(1 + np.square(z))  # a step at 0, as soft as the noise
        under *= self.far_share[:, None]
        return on, under, np.float32(NEAR_SHARE / self.spread)

    def climb(self, steps: int) -> None:
        """Up to `steps` rounds of expectation maximisation."""
        x, y, n = self.x, self.y, len(self.x)
        for _ in range(steps):
            r = self._residuals()
            on, under, anywhere = self._densities(r)
            total = on + under + anywhere
            on /= total
            under /= total
            mass = on.sum(axis=1)
            mean_x, mean_y = on @ x / mass, on @ y / mass
            var = on @ np.square(x) / mass - np.square(mean_x)
            slope = (on @ (x * y) / mass - mean_x * mean_y) / np.maximum(var, 1e-9)
            lines = np.stack([slope, mean_y - slope * mean_x]).astype(np.float32)
            moved = float(np.abs(lines - self.lines).sum(axis=0).max())
            self.lines = lines
            variance = np.einsum("kn,kn->k", on, np.square(r)) / mass
            self.sigma = np.sqrt(variance + SIGMA_FLOOR**2).astype(np.float32)
            far = under.sum(axis=1)
            self.far_share = np.clip(far / n, *FAR_SHARE_LIMITS).astype(np.float32)
            length = np.einsum("kn,kn->k", under, np.maximum(-r, 0)) + 0.01 * n * self.spread / 6
            length /= far + 0.01 * n
            self.far_length = np.maximum(length, 4 * self.sigma).astype(np.float32)
            if moved < 1e-5:
                break

    def likelihood(self) -> Array:
        """Mean log likelihood of a point, (k,)."""
        on, under, anywhere = self._densities(self._residuals())
        return np.log(on + under + anywhere).mean(axis=1)

    def weights(self) -> Array:
        """Each point's probability of lying on the line, (k, n)."""
        on, under, anywhere = self._densities(self._residuals())
        return on / (on + under + anywhere)
