"""Relative disparity + raw sensor depth -> scale, shift, and how far to trust them.

Knows which pixels to look at, when a frame's fit is worth believing and how it follows the frames
before it. Knows nothing of cameras, frames, networks or ROS; disparity_fit finds the line.

    1/z = scale * d + shift        z metres, d the network's relative disparity in [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dkt_ros.disparity_fit import SEED, LineFit, fit_line, line_covariance
from dkt_ros.errors import DktError

FloatArray = NDArray[np.floating]
Array64 = NDArray[np.float64]

BLOCK_ROWS, BLOCK_COLUMNS = 6, 8  # parts of the image whose errors count as independent
INLIER_SIGMAS = 3.0
INLIER_LIMIT = 0.1  # relative: beyond it no pixel agrees, however poor the fit
FIT_ERROR_FLOOR = 0.001  # relative: what no single frame's fit can claim to know better
SAME_PICTURE = 0.02  # of the disparity's range


class AlignmentState(Enum):
    """What an alignment rests on."""

    OK = 0  # this frame's own fit
    HELD = 1  # an earlier frame's fit, because this frame's failed or is not yet believed
    UNALIGNED = 2  # nothing: there is no metric scale


@dataclass(frozen=True)
class Alignment:
    """1/z = scale * d + shift, and how far to trust it on this frame.

    scale, shift  1/m; NaN when UNALIGNED
    inliers       sampled pixels whose raw depth agrees with the line within three sigma
    inlier_ratio  those, over the sampled pixels that have both depth and disparity; 0..1
    residual_m    median |raw depth - aligned depth| of the inliers, metres; NaN without any
    uncertainty   standard error of the aligned depth, relative (0.01 = 1%), at the worse end of
                  the frame's disparities; inf when UNALIGNED
    state         what it rests on
    reason        why it is not OK; "" when it is
    """

    scale: float
    shift: float
    inliers: int
    inlier_ratio: float
    residual_m: float
    uncertainty: float
    state: AlignmentState
    reason: str


@dataclass(frozen=True)
class AlignmentConfig:
    """How a fit is made, when it is believed, how it follows the earlier ones.

    max_samples        pixels looked at, spread evenly over the image
    min_raw_depth      m; raw depth outside min .. max is unknown
    max_raw_depth      m
    min_inliers        fewer agreeing samples are no fit
    min_inlier_ratio   nor is a smaller share of the samples
    max_uncertainty    nor a larger relative standard error of depth
    drift_per_frame    relative change of scale expected from frame to frame: smaller is steadier
    jump               relative change that is no drift
    jump_frames        frames that must agree before a doubtful jump is believed
    max_held_frames    an alignment older than this many frames is dropped
    max_held_s         or older than this many seconds
    """

    max_samples: int = 4000
    min_raw_depth: float = 0.1
    max_raw_depth: float = 10.0
    min_inliers: int = 50
    min_inlier_ratio: float = 0.2
    max_uncertainty: float = 0.05
    drift_per_frame: float = 0.005
    jump: float = 0.05
    jump_frames: int = 3
    max_held_frames: int = 10
    max_held_s: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value >= 0):
                raise DktError(f"alignment {field.name} is {value}: expected a number >= 0")
        if not 0 < self.min_raw_depth < self.max_raw_depth:
            raise DktError(
                f"alignment raw depth range {self.min_raw_depth} .. {self.max_raw_depth} m: "
                "expected 0 < min < max"
            )
        if self.min_inliers < 3 or self.max_samples < self.min_inliers or self.jump_frames < 1:
            raise DktError(
                f"alignment min_inliers {self.min_inliers}, max_samples {self.max_samples}, "
                f"jump_frames {self.jump_frames}: expected 3 <= min_inliers <= max_samples and "
                "jump_frames >= 1"
            )


@dataclass(frozen=True)
class _Samples:
    """Pixels (n,) with both values: disparity d, 1/depth y, block of the image. ends: d's range."""

    d: Array64
    y: Array64
    blocks: NDArray[np.intp]
    ends: Array64


@dataclass(frozen=True)
class _Line:
    """(scale, shift) with its covariance, and the frame's own fit that it last rests on."""

    values: Array64
    covariance: Array64
    fit: LineFit

    def at(self, d: Array64) -> Array64:
        return self.values[0] * d + self.values[1]

    def uncertainty(self, ends: Array64, max_depth: float) -> float:
        """Relative standard error of depth at the worse of the ends (2,)."""
        design = np.stack([ends, np.ones(2)], axis=1)
        variance = np.einsum("ki,ij,kj->k", design, self.covariance, design)
        disparity = np.maximum(self.at(ends), 1 / max_depth)
        return float((np.sqrt(np.maximum(variance, 0)) / disparity).max())


class Aligner:
    """Aligns one stream's frames.

    Each frame is fitted on its own, then joined with the frames before it by a Kalman filter, which
    weighs a fit by how well the frame determines it: a good fit is taken nearly as it is, a poor
    one moves the alignment little. A jump is believed at once when the picture changed; when the
    same picture suddenly has another depth, or few pixels support the new fit, it must last.
    """

    def __init__(self, config: AlignmentConfig | None = None) -> None:
        self.config = config or AlignmentConfig()
        self.reset()

    def reset(self) -> None:
        """Forgets the alignment so far, as on a flush."""
        self._line: _Line | None = None
        self._held = 0
        self._fitted_ns: int | None = None
        self._picture: Array64 | None = None
        self._doubted: _Line | None = None
        self._doubts = 0

    def update(
        self,
        disparity: FloatArray,
        raw_depth: FloatArray | None,
        stamp_ns: int | None = None,
    ) -> Alignment:
        """Aligns the next frame.

        disparity (H, W) float, relative, larger is nearer; raw_depth (H, W) float metres with
        0/NaN/inf unknown, or None; stamp_ns lets an alignment be held by time as well as by frames.
        """
        _check(disparity, raw_depth)
        picture, samples = self._sample(disparity, raw_depth)
        fit: _Line | None = None
        if raw_depth is None:
            reason = "no raw depth with this frame"
        else:
            fit, reason = self._fit(samples)
        if fit is not None and self._line is not None:
            reason = self._doubt(fit, samples, picture)

        if fit is not None and not reason:
            self._line = self._joined(fit, samples.ends)
            self._held, self._fitted_ns, self._picture = 0, stamp_ns, picture
            self._doubted, self._doubts = None, 0
            return self._report(self._line, samples, AlignmentState.OK, "")

        self._held += 1
        if self._line is not None and self._too_old(stamp_ns):
            self._line = self._doubted = None
            reason += "; the last good alignment is too old"
        if self._line is None:
            nan = float("nan")
            return Alignment(nan, nan, 0, 0.0, nan, np.inf, AlignmentState.UNALIGNED, reason)
        return self._report(self._line, samples, AlignmentState.HELD, reason)

    def _sample(
        self, disparity: FloatArray, raw_depth: FloatArray | None
    ) -> tuple[Array64, _Samples]:
        config = self.config
        where = _grid(disparity.shape, 2 * config.max_samples)
        picture = disparity.ravel()[where].astype(np.float64)
        finite = picture[np.isfinite(picture)]
        ends = np.quantile(finite, (0.02, 0.98)) if len(finite) else np.full(2, np.nan)
        if raw_depth is None:
            none = np.empty(0)
            return picture, _Samples(none, none, none.astype(np.intp), ends)
        flat = raw_depth.ravel()
        known = self._known(flat[where], picture)
        if 5 * np.count_nonzero(known) < min(config.max_samples, disparity.size):
            # Few pixels have depth: look at them all, lest the grid miss those few.
            where = np.flatnonzero(self._known(flat, disparity.ravel()))
        else:
            where = where[known]
        where = where[_every(len(where), config.max_samples)]
        d = disparity.ravel()[where].astype(np.float64)
        y = 1 / flat[where].astype(np.float64)
        return picture, _Samples(d, y, _blocks(where, disparity.shape), ends)

    def _known(self, depth: FloatArray, disparity: FloatArray) -> NDArray[np.bool_]:
        inside = (depth >= self.config.min_raw_depth) & (depth <= self.config.max_raw_depth)
        return inside & np.isfinite(disparity)

    def _fit(self, samples: _Samples) -> tuple[_Line | None, str]:
        """This frame's own line, or None and why."""
        config = self.config
        if len(samples.d) < config.min_inliers:
            return None, (
                f"{len(samples.d)} sampled pixels have raw depth between {config.min_raw_depth:g} "
                f"and {config.max_raw_depth:g} m: expected {config.min_inliers}; is the depth "
                "stream registered and in metres?"
            )
        guess = None if self._line is None else (self._line.values[0], self._line.values[1])
        fit = fit_line(samples.d, samples.y, guess)
        if fit is None:
            return None, (
                "no positive scale fits: the scene is too flat to show it, or depth and colour "
                "do not belong together"
            )
        values = np.array([fit.scale, fit.shift])
        residuals = samples.y - fit.scale * samples.d - fit.shift
        covariance = line_covariance(samples.d, residuals, fit.weights, samples.blocks)
        line = _Line(values, covariance, fit)
        inliers = int(_agree(line, samples).sum())
        ratio = inliers / len(samples.d)
        if inliers < config.min_inliers or ratio < config.min_inlier_ratio:
            return None, (
                f"{inliers} of {len(samples.d)} sampled pixels agree with the best scale: "
                f"expected {config.min_inliers} and {config.min_inlier_ratio:.0%}"
            )
        spread = fit.scale * np.sqrt(np.cov(samples.d, aweights=fit.weights))
        if spread < fit.sigma:
            return None, (
                f"the scene is too flat to show the scale: disparity spreads by {spread:.3g} 1/m, "
                f"errors by {fit.sigma:.3g} 1/m"
            )
        uncertainty = line.uncertainty(samples.ends, config.max_raw_depth)
        if not uncertainty <= config.max_uncertainty:
            return None, (
                f"the frame determines depth to {uncertainty:.0%}: expected "
                f"{config.max_uncertainty:.0%}"
            )
        return line, ""

    def _doubt(self, fit: _Line, samples: _Samples, picture: Array64) -> str:
        """Why the fit must not be believed yet; "" when it may."""
        assert self._line is not None
        jump = _difference(fit, self._line, samples.ends)
        if jump <= self.config.jump:
            self._doubted, self._doubts = None, 0
            return ""
        weak = _agree(fit, samples).mean() < 0.5
        if not weak and not self._same_picture(picture):
            return ""
        confirmed = (
            self._doubted is not None
            and _difference(fit, self._doubted, samples.ends) <= self.config.jump
        )
        self._doubted, self._doubts = fit, self._doubts + 1 if confirmed else 1
        if self._doubts >= self.config.jump_frames:
            return ""
        return (
            f"the scale jumped by {jump:.0%}; {self._doubts} of {self.config.jump_frames} frames "
            "confirm it"
        )

    def _same_picture(self, picture: Array64) -> bool:
        before = self._picture
        if before is None or before.shape != picture.shape:
            return False
        both = np.isfinite(before) & np.isfinite(picture)
        if not both.any():
            return False
        change = np.median(np.abs(picture[both] - before[both]))
        return bool(change <= SAME_PICTURE * np.subtract(*np.quantile(picture[both], (0.98, 0.02))))

    def _joined(self, fit: _Line, ends: Array64) -> _Line:
        """The fit, or one Kalman step from the line so far towards it."""
        before = self._line
        design = np.stack([ends, np.ones(2)], axis=1)
        inverse = np.linalg.inv(design)
        # In disparity at the two ends of d: there the two unknowns are of one kind and nearly
        # independent, scale and shift are neither.
        seen = design @ fit.values
        noise = design @ fit.covariance @ design.T + np.diag(np.square(FIT_ERROR_FLOOR * seen))
        if before is None or _difference(fit, before, ends) > self.config.jump:
            return _Line(fit.values, inverse @ noise @ inverse.T, fit.fit)
        expected = design @ before.values
        drift = np.diag(np.square(self.config.drift_per_frame * expected)) * (1 + self._held)
        prior = design @ before.covariance @ design.T + drift
        gain = prior @ np.linalg.inv(prior + noise)
        values = expected + gain @ (seen - expected)
        covariance = (np.eye(2) - gain) @ prior
        return _Line(inverse @ values, inverse @ covariance @ inverse.T, fit.fit)

    def _too_old(self, stamp_ns: int | None) -> bool:
        if self._held > self.config.max_held_frames:
            return True
        if stamp_ns is None or self._fitted_ns is None:
            return False
        return stamp_ns - self._fitted_ns > self.config.max_held_s * 1e9

    def _report(
        self, line: _Line, samples: _Samples, state: AlignmentState, reason: str
    ) -> Alignment:
        agree = _agree(line, samples)
        inliers = int(agree.sum())
        residual = float("nan")
        if inliers:
            errors = 1 / samples.y[agree] - 1 / line.at(samples.d[agree])
            residual = float(np.median(np.abs(errors)))
        return Alignment(
            scale=float(line.values[0]),
            shift=float(line.values[1]),
            inliers=inliers,
            inlier_ratio=inliers / max(len(samples.d), 1),
            residual_m=residual,
            uncertainty=line.uncertainty(samples.ends, self.config.max_raw_depth),
            state=state,
            reason=reason,
        )


def align_depth(
    disparity: FloatArray, alignment: Alignment, min_depth: float, max_depth: float
) -> NDArray[np.float32]:
    """Relative disparity (H, W) to metric depth (H, W) float32, metres.

    NaN where the depth lies outside min_depth .. max_depth, where the disparity is not finite, and
    everywhere when UNALIGNED.
    """
    if not 0 < min_depth < max_depth:
        raise DktError(f"depth range {min_depth} .. {max_depth} m: expected 0 < min < max")
    depth = np.multiply(disparity, np.float32(alignment.scale), dtype=np.float32)
    depth += np.float32(alignment.shift)
    with np.errstate(divide="ignore"):
        np.divide(np.float32(1), depth, out=depth)
    outside = ~((depth >= np.float32(min_depth)) & (depth <= np.float32(max_depth)))
    depth[outside] = np.nan
    return depth


def _check(disparity: FloatArray, raw_depth: FloatArray | None) -> None:
    if disparity.ndim != 2 or not np.issubdtype(disparity.dtype, np.floating):
        raise DktError(
            f"disparity of {disparity.shape} {disparity.dtype}: expected (height, width) floats"
        )
    if raw_depth is None:
        return
    if not np.issubdtype(raw_depth.dtype, np.floating):
        raise DktError(
            f"raw depth of type {raw_depth.dtype}: expected floats in metres; convert millimetres "
            "(uint16) first"
        )
    if raw_depth.shape != disparity.shape:
        raise DktError(
            f"raw depth of shape {raw_depth.shape}: expected the disparity's {disparity.shape}"
        )


def _agree(line: _Line, samples: _Samples) -> NDArray[np.bool_]:
    expected = line.at(samples.d)
    tolerance = np.minimum(INLIER_SIGMAS * line.fit.sigma_at(expected), INLIER_LIMIT * expected)
    return np.abs(samples.y - expected) <= tolerance


def _difference(a: _Line, b: _Line, ends: Array64) -> float:
    """Largest relative difference of two lines' disparity at the ends (2,)."""
    at_a, at_b = a.at(ends), b.at(ends)
    return float((np.abs(at_a - at_b) / np.maximum(np.abs(at_b), 1e-9)).max())


def _every(count: int, wanted: int) -> NDArray[np.intp]:
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.intp)


@lru_cache(maxsize=8)
def _grid(shape: tuple[int, int], wanted: int) -> NDArray[np.intp]:
    """Flat indices of one pixel in each cell of a grid of about `wanted` cells.

    The place within the cell is random (seeded): a fixed one would alias with patterned holes.
    """
    height, width = shape
    shrink = min(1.0, np.sqrt(wanted / (height * width)))
    rows, columns = max(1, round(height * shrink)), max(1, round(width * shrink))
    within = np.random.default_rng(SEED).random((2, rows, columns))
    row = ((np.arange(rows)[:, None] + within[0]) * height / rows).astype(np.intp)
    column = ((np.arange(columns) + within[1]) * width / columns).astype(np.intp)
    flat = (row * width + column).ravel()
    flat.setflags(write=False)
    return flat


def _blocks(where: NDArray[np.intp], shape: tuple[int, int]) -> NDArray[np.intp]:
    height, width = shape
    rows, columns = np.divmod(where, width)
    return rows * BLOCK_ROWS // height * BLOCK_COLUMNS + columns * BLOCK_COLUMNS // width
