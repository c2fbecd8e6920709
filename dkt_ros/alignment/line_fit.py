"""The robust line 1/z = scale * d + shift through one frame's pixels.

Knows statistics only: points (d, y = 1/z) of which some lie on a line with noise, some lie under
it (glass: the sensor sees through it and reads too far) and a few anywhere. Knows nothing of
images, time or whether a fit is worth believing.

Least squares has no answer to errors that all point one way, and symmetric robust losses lean with
them. Here the residual r = y - (scale d + shift) is drawn from a mixture,

    p(r) = a N(r; 0, sigma)  +  b [r < 0] (exponential or uniform)  +  c uniform,

and scale, shift, sigma and the shares are those of greatest likelihood: pairs of points propose
lines, the best few are polished by expectation maximisation (Dempster et al. 1977), the likeliest
is kept. A line that was found so is followed by maximisation alone while it explains the points as
well. A depth camera's noise grows with z^2, hence is constant in 1/z, where the fit is made; a
network's error is rather a share of 1/z. So sigma may grow with disparity, as its power 0 to 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.pixels import SEED, every
from dkt_ros.arrays import count_of, quantiles

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]

PROPOSALS = 192
PROPOSAL_POINTS = 256
POLISHED = 3  # for each start sigma
POLISH_POINTS = 512
POLISH_STEPS = 10
FINAL_STEPS = 20
FOLLOW_STEPS = 4
EXPLAINS_LESS = 0.02  # of all points, and so much more spread: then a followed line is left
SPREADS_MORE = 1.1
START_SIGMAS = (0.004, 0.03)  # 1/m: sensor noise alone, and with a poor network's errors
SIGMA_FLOOR = 0.002  # 1/m: no depth camera is better, and a tighter fit proves nothing
MAX_POWER = 2.0  # noise constant in metres
NEAR_SHARE = 0.01  # share c: pixels that read too near are rare whatever the frame says
FAR_SHARE_LIMITS = (0.01, 0.75)  # share b
UNIFORM_PART = 0.2  # of the far component; the rest is exponential
MIN_SPAN = 0.02  # the line must span this share of its disparity, or its scale means nothing
DISTINCT = 0.03  # 1/m at either end of d: closer lines climb to the same place
PROPOSAL_CAP = 0.1  # 1/m: all residuals beyond count the same in the first scoring
NEAR_PENALTY = 2.0
SETTLED = 1e-4  # 1/m: a step that moves the line by less is the last
TINY = 1e-12


@dataclass(frozen=True)
class LineFit:
    """y = scale * d + shift, and the spread of the points that lie on it.

    Their standard deviation is sigma * (y / middle) ** power, in y's unit. weights (n,): each
    point's probability of lying on the line.
    """

    scale: float
    shift: float
    sigma: float
    power: float
    middle: float
    weights: Array64

    def sigma_at(self, y: Array64) -> Array64:
        """Standard deviation of points of the line at y, 1/m."""
        return self.sigma * np.exp(self.power * _log_ratio(y, self.middle))


def fit_line(d: Array64, y: Array64, guess: tuple[float, float] | None = None) -> LineFit | None:
    """The likeliest rising line through points (n,) d and y, in 1/m; None when there is none.

    guess: a (scale, shift) that is tried as well. The order of the points does not matter.
    """
    points = _Points.of(d, y)
    if points is None:
        return None
    # Proposals are pairs of points that are far from each other in d.
    order = np.lexsort((points.inverse, points.d))
    points = points.at(order)
    centre = points.centre
    lines = _propose(points.x, points.y, centre)
    if guess is not None:
        lines = np.concatenate([points.line(*guess), lines], axis=1)
    if lines.shape[1] == 0:
        return None
    starts, sigmas = _best_distinct(points.x, points.y, lines)
    some = every(len(order), POLISH_POINTS)
    polished = _Mixture(points.at(some), starts, sigmas)
    polished.climb(POLISH_STEPS)
    usable = _rising(polished.lines, centre)
    if not usable.any():
        return None
    best = int(np.argmax(np.where(usable, polished.likelihood(), -np.inf)))
    final = polished.only(best, points)
    final.climb(FINAL_STEPS, True)
    found = _found(final, points)
    if found is None:
        return None
    weights = np.empty(len(order))
    weights[order] = found.weights
    return replace(found, weights=weights)


def follow_line(d: Array64, y: Array64, before: LineFit) -> LineFit | None:
    """The line through points (n,) that an earlier frame's fit leads to, at a third of the cost.

    None where it explains fewer of these points than of those, or less tightly: another line may be
    likelier then, and is to be searched for. Nothing that the earlier fit saw is looked for again.
    """
    points = _Points.of(d, y)
    if points is None:
        return None
    sigma = np.array([before.sigma], np.float32)
    start = points.line(before.scale, before.shift)
    mixture = _Mixture(points, start, sigma)
    mixture.power += np.float32(before.power)
    mixture.climb(FOLLOW_STEPS, True)
    fit = _found(mixture, points)
    if fit is None or fit.sigma_at(np.array(before.middle)) > SPREADS_MORE * before.sigma:
        return None
    return fit if fit.weights.mean() >= before.weights.mean() - EXPLAINS_LESS else None


@dataclass(frozen=True, eq=False)
class _Points:
    """Points (n,), d and inverse = 1/z; x is d in its own range, y inverse about its median.

    float32 is then precise enough, and any affine change of d leaves every step as it was.
    """

    d: Array64
    inverse: Array64
    x: Array
    y: Array
    low: float
    high: float
    centre: float
    spread: float

    @classmethod
    def of(cls, d: Array64, y: Array64) -> _Points | None:
        """None where no line can be told. Raises ValueError for points that are none."""
        d = np.asarray(d, np.float64)
        y = np.asarray(y, np.float64)
        if d.shape != y.shape or d.ndim != 1:
            raise ValueError(f"points of shapes {d.shape} and {y.shape}: expected two equal (n,)")
        if len(d) < 3:
            return None
        low, high = quantiles(d, 0.02, 0.98)
        if not high > low:
            low, high = d.min(), d.max()
        if not high > low:
            return None
        bottom, centre, top = quantiles(y, 0.02, 0.5, 0.98)
        x32 = ((d - low) / (high - low)).astype(np.float32)
        y32 = (y - centre).astype(np.float32)
        return cls(d, y, x32, y32, low, high, centre, max(top - bottom, 0.1))

    def at(self, places: NDArray[np.intp]) -> _Points:
        """Some of them, on the same scales."""
        return replace(
            self,
            d=self.d[places],
            inverse=self.inverse[places],
            x=self.x[places],
            y=self.y[places],
        )

    def line(self, scale: float, shift: float) -> Array:
        """(2, 1): y = scale * d + shift among x and y."""
        rise = scale * (self.high - self.low)
        return np.array([[rise], [scale * self.low + shift - self.centre]], np.float32)


def _found(mixture: _Mixture, points: _Points) -> LineFit | None:
    """Of one mixture over these points; None where its line does not rise."""
    if not _rising(mixture.lines, points.centre)[0]:
        return None
    precision, weights, *_ = mixture.shares()
    scale, shift = _weighted_line(points.d, points.inverse, (np.square(precision) * weights)[0])
    if not scale > 0:  # the last step may turn a line that hardly rose
        return None
    return LineFit(
        scale=scale,
        shift=shift,
        sigma=float(mixture.sigma[0]),
        power=float(mixture.power[0]),
        middle=points.centre,
        weights=weights[0].astype(np.float64),
    )


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
    count = count_of(np.bincount(groups, weights) > 1e-3 * mass)
    if count < 4 or not variance > 0:
        return unknown
    push = weights * residuals / mass
    scores = np.stack([np.bincount(groups, push * centred) / variance, np.bincount(groups, push)])
    covariance = scores @ scores.T * (count / (count - 2))
    # From (scale, value at the mean) to (scale, shift): shift = value - scale * mean.
    to_shift = np.array([[1.0, 0.0], [-mean, 1.0]])
    return to_shift @ covariance @ to_shift.T


def _weighted_line(d: Array64, y: Array64, weights: Array) -> tuple[float, float]:
    """Scale and shift by weighted least squares, in double precision."""
    share = weights / weights.sum(dtype=np.float64)
    mean_d, mean_y = share @ d, share @ y
    centred = d - mean_d
    scale = float((share * centred) @ (y - mean_y) / (share @ np.square(centred)))
    return scale, float(mean_y - scale * mean_d)


def _log_ratio(y: Array64, middle: float) -> Array64:
    return np.log(np.maximum(y / middle, 0.1))


def _rising(lines: Array, centre: float) -> NDArray[np.bool_]:
    """Which lines (2, k) rise enough, and give positive disparity at the far end."""
    slope, offset = lines
    near = slope + offset + centre
    return (near > 0) & (slope > MIN_SPAN * near) & (offset + centre > -0.1 * near)


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


def _best_distinct(x: Array, y: Array, lines: Array) -> tuple[Array, Array]:
    """For each start sigma the POLISHED best of lines (2, k) by a capped logarithmic loss.

    No two of them alike; with the sigma that each of them starts from.
    """
    some = every(len(x), PROPOSAL_POINTS)
    residual = y[some] - lines[0][:, None] * x[some] - lines[1][:, None]
    capped = np.square(np.clip(residual, -PROPOSAL_CAP, PROPOSAL_CAP))
    penalty = 1 + (residual > 0) * np.float32(NEAR_PENALTY - 1)
    ends = np.stack([lines[1], lines[0] + lines[1]])
    chosen: list[int] = []
    sigmas: list[float] = []
    for sigma in START_SIGMAS:
        costs = np.einsum("kn,kn->k", np.log(1 + capped / np.float32(sigma**2)), penalty)
        for _ in range(POLISHED):
            best = int(np.argmin(costs))
            if not np.isfinite(costs[best]):
                break
            chosen.append(best)
            sigmas.append(sigma)
            costs[np.abs(ends - ends[:, [best]]).max(axis=0) < DISTINCT] = np.inf
    return lines[:, chosen], np.asarray(sigmas, np.float32)


class _Mixture:
    """k mixtures over the same n points, climbing in likelihood side by side."""

    def __init__(self, points: _Points, lines: Array, sigma: Array) -> None:
        x, centre, spread = points.x, points.centre, points.spread
        self.x, self.y, self.spread = x, points.y, np.float32(spread)
        self.lines, self.sigma = lines, sigma
        k = lines.shape[1]
        self.power = np.zeros(k, np.float32)
        self.far_share = np.full(k, 0.4, np.float32)
        self.far_length = np.full(k, max(spread / 6, 0.03), np.float32)
        on_line = lines[0][:, None] * x + lines[1][:, None] + np.float32(centre)
        self.growth = _log_ratio(on_line, centre)
        # The same length in metres is so many times longer in 1/m here than in the middle.
        self.stretch = np.exp(2 * self.growth)

    def only(self, index: int, points: _Points) -> _Mixture:
        """One of the mixtures, over other points."""
        one = _Mixture(points, self.lines[:, [index]], self.sigma[[index]])
        one.power = self.power[[index]]
        one.far_share = self.far_share[[index]]
        one.far_length = self.far_length[[index]]
        return one

    def _residuals(self) -> Array:
        slope, offset = self.lines
        return self.y - slope[:, None] * self.x - offset[:, None]

    def shares(self) -> tuple[Array, Array, Array, Array]:
        """Each point's 1/sigma, its probabilities to lie on and under the line, its likelihood.

        All (k, n).
        """
        r = self._residuals()
        precision = np.exp(-self.power[:, None] * self.growth) / self.sigma[:, None]
        z = r * precision
        on = np.exp(-0.5 * np.minimum(np.square(z), 150))
        on *= precision
        on *= ((1 - NEAR_SHARE - self.far_share) / np.float32(np.sqrt(2 * np.pi)))[:, None]
        lengths = self.far_length[:, None] * self.stretch
        under = np.exp(np.maximum(np.minimum(r, 0) / lengths, -80))
        under *= (1 - UNIFORM_PART) / lengths
        under += UNIFORM_PART / self.spread
        under *= 0.5 - 0.5 * z / np.sqrt(1 + np.square(z))  # a step at 0, as soft as the noise
        under *= self.far_share[:, None]
        total = on + under
        total += NEAR_SHARE / self.spread
        on /= total
        under /= total
        return precision, on, under, total

    def climb(self, steps: int, power: bool = False) -> None:
        """Up to `steps` rounds of expectation maximisation."""
        x, y, n = self.x, self.y, len(self.x)
        for _ in range(steps):
            r = self._residuals()
            precision, on, under, _ = self.shares()
            square = np.square(precision)

            on += TINY
            mass = on.sum(axis=1)
            chi = square * np.square(r)
            self._fit_noise(on / mass[:, None], chi, power)
            far = under.sum(axis=1)
            self.far_share = np.clip(far / n, *FAR_SHARE_LIMITS).astype(np.float32)
            length = (
                np.einsum("kn,kn->k", under, np.maximum(-r, 0) / self.stretch)
                + 0.01 * n * self.spread / 6
            )
            length /= far + 0.01 * n
            self.far_length = np.maximum(length, 4 * self.sigma).astype(np.float32)

            on *= square
            mass = on.sum(axis=1)
            mean_x, mean_y = on @ x / mass, on @ y / mass
            var = on @ np.square(x) / mass - np.square(mean_x)
            slope = (on @ (x * y) / mass - mean_x * mean_y) / np.maximum(var, 1e-9)
            lines = np.stack([slope, mean_y - slope * mean_x]).astype(np.float32)
            moved = float(np.abs(lines - self.lines).sum(axis=0).max())
            self.lines = lines
            if moved < SETTLED:
                break

    def _fit_noise(self, share: Array, chi: Array, grow: bool) -> None:
        """Sigma and its power from the points' shares (k, n), rows summing to 1, and (r/sigma)^2.

        For sigma the exact step, for the power one step of Fisher scoring.
        """
        growth = self.growth
        mean = np.einsum("kn,kn->k", share, chi)
        if not grow:
            self.sigma = np.sqrt(np.square(self.sigma) * mean + SIGMA_FLOOR**2).astype(np.float32)
            return
        centre = np.einsum("kn,kn->k", share, growth)
        variance = np.einsum("kn,kn->k", share, np.square(growth)) - np.square(centre)
        covariance = np.einsum("kn,kn,kn->k", share, growth, chi) - centre * mean
        step = 0.5 * covariance / np.maximum(variance * mean, 1e-4)
        power = np.clip(self.power + np.clip(step, -0.5, 0.5), 0, MAX_POWER)
        # sigma stands at growth 0: keep the noise at the points' centre while the power changes.
        scale = np.sqrt(mean) * np.exp((self.power - power) * centre)
        sigma = np.sqrt(np.square(self.sigma * scale) + SIGMA_FLOOR**2)
        self.power, self.sigma = power.astype(np.float32), sigma.astype(np.float32)

    def likelihood(self) -> Array:
        """Mean log likelihood of a point, (k,)."""
        return np.log(self.shares()[3]).mean(axis=1)
