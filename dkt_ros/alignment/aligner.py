"""Relative disparity + raw sensor depth -> scale, shift, and how far to trust them.

Knows when a frame's fit is worth believing and how it follows the frames before it. Which pixels
are looked at is the business of pixels, the line through them of line_fit. Knows nothing of
cameras, frames, networks or ROS.

Disparity may be a tensor on a device: what touches every pixel is computed there, while the fit
gets a few thousand samples on the host. It takes 4 ms of one processor; as some 1500 calls on
arrays of that size it would keep a GPU waiting for its own launches for longer.

    1/z = scale * d + shift        z metres, d the network's relative disparity in [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.line_filter import (
    FIT_ERROR_FLOOR,
    Line,
    difference,
    differences,
    drifted,
    joined,
    wandering,
)
from dkt_ros.alignment.line_fit import LineFit, fit_line, follow_line, line_covariance
from dkt_ros.alignment.pixels import Samples, replaced, sample
from dkt_ros.arrays import Array, described, float32, invert, is_array, is_floating, median
from dkt_ros.checks import check_fields, check_type
from dkt_ros.errors import DktError
from dkt_ros.geometry import is_reading
from dkt_ros.wording import counted

FloatArray = NDArray[np.floating]
Array64 = NDArray[np.float64]

INLIER_SIGMAS = 3.0
INLIER_LIMIT = 0.1  # relative: beyond it no pixel agrees, however poor the fit
RANGE_SHARE = 0.5  # with less of the readings in range, something is wrong with their numbers
OWN_SCALE = 0.5  # share of readings that must agree with disparity that is taken as it is
ROUGH_UNCERTAINTY = 0.3  # relative: a line that is less certain is no start either
ROUGH_SPREAD = 0.5  # of the errors' spread, at least, must be that of the disparity
EXPLAINS = 0.5  # an alignment with this share of another's inliers explains the frame as well
DISPUTED = 0.3  # as many pixels, of those clearly nearer to the new line, are so to the old one
EITHER = 0.5**0.5  # of a jump that is not yet believed: the old line may hold, or the new
REMEMBERED = 16  # lines, by which it is told how far the scale wanders
SEARCH_EVERY = 8  # frames: how often all lines are looked at where the one before still holds


class AlignmentState(Enum):
    """What an alignment rests on."""

    OK = 0  # this frame's own fit
    HELD = 1  # an earlier frame's fit, because this frame's failed or is not yet believed
    UNALIGNED = 2  # nothing: there is no metric scale
    SENSOR = 3  # the sensor alone: the network could not be used on this frame


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
    rough         UNALIGNED: scale and shift that this frame suggests without telling depth well
                  enough to be published; something to be corrected locally. None without any
    """

    scale: float
    shift: float
    inliers: int
    inlier_ratio: float
    residual_m: float
    uncertainty: float
    state: AlignmentState
    reason: str
    rough: tuple[float, float] | None = None

    @property
    def start(self) -> tuple[float, float] | None:
        """Scale and shift to correct locally: its own, else rough ones, else None."""
        return (self.scale, self.shift) if np.isfinite(self.scale) else self.rough


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
        check_fields(self, nan=True)  # said below
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


@dataclass(frozen=True, eq=False)
class _Earlier:
    """1/depth (m,) of the last frame that had a scale, on the samples' grid; relative error."""

    inverse: Array64
    uncertainty: float


class Aligner:
    """Aligns one stream's frames.

    Each frame is fitted on its own, then joined with the frames before it by a Kalman filter, which
    weighs a fit by how well the frame determines it: a good fit is taken nearly as it is, a poor
    one moves the alignment little. A jump is believed at once when the frame contradicts the
    alignment so far, as after a cut or when the network normalises a clip anew, and where hardly
    a pixel speaks for the old one. Where each explains pixels of its own, as when see-through ones
    outnumber the table, the jump must last.
    """

    def __init__(self, config: AlignmentConfig | None = None) -> None:
        check_type("config", config, AlignmentConfig | None)
        self.config = config or AlignmentConfig()
        self.reset()

    def reset(self) -> None:
        """Forgets the alignment so far, as on a flush."""
        self._line: Line | None = None
        self._held = 0
        self._fitted_ns: int | None = None
        self._fitted: Samples | None = None  # of the frame that the line was last joined with
        self._doubted: Line | None = None
        self._doubts = 0
        self._followed = 0
        self._earlier: _Earlier | None = None
        self._fits: list[Line] = []  # newest last

    def rescale(self) -> None:
        """The next frame's disparity is on another scale, of the same scene.

        Where that frame has no raw depth to tell it, the depth of the frame before does.
        """
        self._line = self._doubted = None
        self._doubts = 0
        self._fitted = None
        self._fits = []

    def update(
        self,
        disparity: Array,
        raw_depth: FloatArray | None,
        stamp_ns: int | None = None,
        on_scale: bool = False,
    ) -> Alignment:
        """Aligns the next frame.

        disparity (H, W) float, relative, larger is nearer, numpy's or a tensor on any device;
        raw_depth (H, W) float metres, 0/negative/NaN/inf unknown, or None; stamp_ns lets it be
        held by time as well as by frames. on_scale: disparity is in 1/m, of a network that was
        shown raw depth: where the frame does not tell a line, as of a wall, it is taken as it is
        if most readings agree with it.
        """
        _check(disparity, raw_depth)
        check_type("stamp_ns", stamp_ns, int | None)
        config = self.config
        samples = sample(
            disparity,
            raw_depth,
            config.max_samples,
            config.min_raw_depth,
            config.max_raw_depth,
        )
        fit: Line | None = None
        if raw_depth is None:
            reason = "no raw depth with this frame"
        else:
            fit, reason = self._fit(samples, raw_depth)
        rough = None
        if fit is not None and reason:
            rough = float(fit.values[0]), float(fit.values[1])
            fit = None
        if fit is not None and self._line is not None:
            reason = self._doubt(fit, samples)

        if fit is not None and not reason:
            self._line = self._joined(fit, samples)
            self._fitted = samples
            self._fits = [*self._fits[1 - REMEMBERED :], fit]
            self._held, self._fitted_ns = 0, stamp_ns
            self._doubted, self._doubts = None, 0
            return self._report(self._line, samples, AlignmentState.OK, "")

        if fit is None and on_scale:
            own = _as_it_is(samples)
            if own.inliers >= config.min_inliers and own.inlier_ratio >= OWN_SCALE:
                self._held, self._fitted_ns = 0, stamp_ns
                return self._remembered(own, samples)

        self._held += 1
        if self._line is None and not on_scale:
            self._line = self._by_earlier(samples)
        if self._too_old(stamp_ns):
            reason += "; the last good alignment is too old" if self._line is not None else ""
            self._line = self._doubted = self._earlier = None
            self._fits = []
        if self._line is None:
            nan = float("nan")
            return Alignment(nan, nan, 0, 0.0, nan, np.inf, AlignmentState.UNALIGNED, reason, rough)
        drift = config.drift_per_frame * np.sqrt(self._held)
        held = drifted(self._line, samples.ends, drift)
        if fit is None:
            unseen = wandering(self._fits, self._held, samples.ends)
        else:
            unseen = EITHER * differences(fit, self._line, samples.ends)
        held = drifted(held, samples.ends, unseen)
        return self._report(held, samples, AlignmentState.HELD, reason)

    def _fit(self, samples: Samples, raw_depth: FloatArray) -> tuple[Line | None, str]:
        """This frame's own line; one with a reason is no more than rough, None has a reason."""
        config = self.config
        if len(samples.d) < min(config.min_inliers, samples.unanswered):
            return None, (
                f"the network's disparity is not finite at {samples.unanswered} of "
                f"{samples.unanswered + len(samples.d)} pixels with raw depth: expected numbers; "
                "try another dtype (float32) or check the checkpoint"
            )
        if len(samples.d) < config.min_inliers:
            if not is_reading(raw_depth).any():
                return None, (
                    "the depth image has no reading at any pixel (0, negative, NaN or infinite): "
                    "is the sensor covered, switched off, or too near to see anything, or does a "
                    "simulator count z backwards?"
                )
            return None, (
                f"{counted(len(samples.d), 'sampled pixel')} with raw depth between "
                f"{config.min_raw_depth:g} and {config.max_raw_depth:g} m: expected "
                f"{config.min_inliers}; is the depth stream registered and in metres?"
            )
        fit = self._likeliest(samples)
        if fit is None:
            return None, (
                "no positive scale fits: the scene is too flat to show it, or depth and colour "
                "do not belong together"
            )
        values = np.array([fit.scale, fit.shift])
        expected = fit.scale * samples.d + fit.shift
        weights = fit.weights * np.square(fit.sigma / fit.sigma_at(expected))
        covariance = line_covariance(samples.d, samples.y - expected, weights, samples.blocks)
        line = Line(values, covariance, fit)
        inliers = int(_agree(line, samples).sum())
        ratio = inliers / len(samples.d)
        if inliers < config.min_inliers or ratio < config.min_inlier_ratio:
            return None, (
                f"{inliers} of {len(samples.d)} sampled pixels agree with the best scale: "
                f"expected {config.min_inliers} and {config.min_inlier_ratio:.0%}; "
                f"{self._likely_cause(raw_depth)}"
            )
        share = fit.weights / fit.weights.sum()
        spread = fit.scale * float(np.sqrt(share @ np.square(samples.d - share @ samples.d)))
        uncertainty = line.uncertainty(samples.ends, config.max_raw_depth)
        rough = uncertainty <= ROUGH_UNCERTAINTY and spread >= ROUGH_SPREAD * fit.sigma
        if spread < fit.sigma:
            return line if rough else None, (
                f"the scene is too flat to show the scale: disparity spreads by {spread:.4f} 1/m, "
                f"errors by {fit.sigma:.4f} 1/m"
            )
        if not uncertainty <= config.max_uncertainty:
            return line if rough else None, (
                f"the frame determines depth to {uncertainty:.0%}: expected "
                f"{config.max_uncertainty:.0%}"
            )
        return line, ""

    def _likeliest(self, samples: Samples) -> LineFit | None:
        """The line before, followed; searched for where that no longer holds, and now and then."""
        line, before = self._line, self._fitted
        if line is not None and before is not None and samples.same_as(before):
            return line.fit
        if line is not None and self._doubts == 0 and self._followed < SEARCH_EVERY - 1:
            self._followed += 1
            followed = follow_line(samples.d, samples.y, line.fit)
            if followed is not None:
                return followed
        self._followed = 0
        guess = None if line is None else (line.values[0], line.values[1])
        return fit_line(samples.d, samples.y, guess)

    def _likely_cause(self, raw_depth: FloatArray) -> str:
        """Of a frame that no line fits: where to look first."""
        config = self.config
        found = raw_depth[is_reading(raw_depth)]
        inside = (found >= config.min_raw_depth) & (found <= config.max_raw_depth)
        if inside.mean() < RANGE_SHARE:
            return (
                f"only {inside.mean():.0%} of the raw depth lies between {config.min_raw_depth:g} "
                f"and {config.max_raw_depth:g} m: is its unit right, and its byte order?"
            )
        return (
            "depth and colour do not belong together (is depth registered, are both of one "
            "moment?), or the network is wrong about this scene"
        )

    def _by_earlier(self, samples: Samples) -> Line | None:
        """The line on which a new scale gives the depth of the frame before, where that tells."""
        before = self._earlier
        if before is None or before.inverse.shape != samples.grid.shape:
            return None
        there = replaced(samples, before.inverse, self.config.max_samples)
        line, why = self._fit(there, 1 / there.y)
        if line is None or why or _agree(line, there).mean() < OWN_SCALE:
            return None
        return drifted(line, samples.ends, before.uncertainty)

    def _doubt(self, fit: Line, samples: Samples) -> str:
        """Why the fit must not be believed yet; "" when it may."""
        assert self._line is not None
        jump = difference(fit, self._line, samples.ends)
        if jump <= self.config.jump:
            return ""
        # Judged by the narrower of the two, since a line wide enough explains any frame.
        narrow = min(fit.fit, self._line.fit, key=lambda found: found.sigma)
        new, old = (_agree(line, samples, narrow) for line in (fit, self._line))
        supported, explained = new.sum(), old.sum()
        if explained < EXPLAINS * supported:
            return ""
        # Another scale of the same surfaces leaves few that the old line is clearly nearer to.
        off = [np.abs(samples.y - line.at(samples.d)) for line in (fit, self._line)]
        nearer = (off[0] - off[1]) / narrow.sigma_at(samples.y)
        if (old & (nearer > 1)).sum() < DISPUTED * (new & (nearer < -1)).sum():
            return ""
        confirmed = self._doubted is not None and jump > difference(
            fit, self._doubted, samples.ends
        )
        self._doubted, self._doubts = fit, self._doubts + 1 if confirmed else 1
        if self._doubts >= self.config.jump_frames:
            return ""
        return (
            f"the scale jumped by {jump:.0%}, but {explained} pixels agree with the old one and "
            f"{supported} with the new; seen {self._doubts} of {self.config.jump_frames} times"
        )

    def _joined(self, fit: Line, samples: Samples) -> Line:
        """The fit, weighed against the alignment so far unless it leaves that behind.

        A copy of the frame before is no evidence: the line may follow the network, not gain trust.
        """
        config, ends = self.config, samples.ends
        fit = drifted(fit, ends, FIT_ERROR_FLOOR)
        if self._line is None or difference(fit, self._line, ends) > config.jump:
            return fit
        drift = config.drift_per_frame * np.sqrt(self._held + 1)
        line = joined(drifted(self._line, ends, drift), fit, ends)
        if self._fitted is not None and np.array_equal(samples.y, self._fitted.y):
            line = Line(line.values, self._line.covariance, line.fit)
        return line

    def _too_old(self, stamp_ns: int | None) -> bool:
        if self._held > self.config.max_held_frames:
            return True
        if stamp_ns is None or self._fitted_ns is None:
            return False
        return stamp_ns - self._fitted_ns > self.config.max_held_s * 1e9

    def _report(
        self, line: Line, samples: Samples, state: AlignmentState, reason: str
    ) -> Alignment:
        agree = _agree(line, samples)
        inliers = int(agree.sum())
        residual = float("nan")
        if inliers:
            errors = 1 / samples.y[agree] - 1 / line.at(samples.d[agree])
            residual = median(np.abs(errors))
        found = Alignment(
            scale=float(line.values[0]),
            shift=float(line.values[1]),
            inliers=inliers,
            inlier_ratio=inliers / max(len(samples.d), 1),
            residual_m=residual,
            uncertainty=line.uncertainty(samples.ends, self.config.max_raw_depth),
            state=state,
            reason=reason,
        )
        return self._remembered(found, samples)

    def _remembered(self, found: Alignment, samples: Samples) -> Alignment:
        inverse = found.scale * samples.grid.astype(np.float64) + found.shift
        self._earlier = _Earlier(inverse, found.uncertainty)
        return found


def metric_alignment(
    disparity: Array, raw_depth: FloatArray | None, config: AlignmentConfig | None = None
) -> Alignment:
    """What raw depth says of a metric network's 1/depth (H, W) in 1/m: scale 1, shift 0, OK.

    uncertainty: the median relative disagreement with the raw depth, infinite where there is none.
    """
    check_type("config", config, AlignmentConfig | None)
    config = config or AlignmentConfig()
    _check(disparity, raw_depth)
    found = sample(
        disparity, raw_depth, config.max_samples, config.min_raw_depth, config.max_raw_depth
    )
    return _as_it_is(found)


def _as_it_is(found: Samples) -> Alignment:
    known = found.d > 0
    d, y = found.d[known], found.y[known]
    error = np.abs(d / y - 1)
    agree = error <= INLIER_LIMIT
    residual = median(np.abs(1 / y[agree] - 1 / d[agree])) if agree.any() else np.nan
    why = "no raw depth to compare it with"
    if found.unanswered or len(found.d):
        why = "it gives no depth where there is raw depth to compare it with"
    return Alignment(
        scale=1.0,
        shift=0.0,
        inliers=int(agree.sum()),
        inlier_ratio=float(agree.mean()) if len(d) else 0.0,
        residual_m=residual,
        uncertainty=median(error) if len(d) else np.inf,
        state=AlignmentState.OK,
        reason="" if len(d) else f"the network's own metric scale; {why}",
    )


def align_depth(
    disparity: Array, alignment: Alignment, min_depth: float, max_depth: float
) -> Array:
    """Relative disparity (H, W) to metric depth (H, W) float32, metres; a tensor on its device.

    NaN where the depth lies outside min_depth .. max_depth, where the disparity is not finite, and
    everywhere when UNALIGNED. Raises DktError for anything but that.
    """
    _check(disparity, None)
    check_type("alignment", alignment, Alignment)
    check_type("depth range", (min_depth, max_depth), tuple[float, float])
    if not 0 < min_depth < max_depth:
        raise DktError(f"depth range {min_depth} .. {max_depth} m: expected 0 < min < max")
    depth = float32(disparity) * alignment.scale
    depth += alignment.shift
    with np.errstate(divide="ignore"):
        invert(depth)
    outside = ~((depth >= min_depth) & (depth <= max_depth))
    depth[outside] = np.nan
    return depth


def _check(disparity: Array, raw_depth: FloatArray | None) -> None:
    if not is_array(disparity) or disparity.ndim != 2 or not is_floating(disparity):
        raise DktError(
            f"disparity of {described(disparity)}: expected an array (height, width) of floats"
        )
    if raw_depth is None:
        return
    if not isinstance(raw_depth, np.ndarray) or not is_floating(raw_depth):
        raise DktError(
            f"raw depth of {described(raw_depth)}: expected a numpy array of floats in metres; "
            "convert millimetres (uint16) first"
        )
    if raw_depth.shape != disparity.shape:
        raise DktError(
            f"raw depth of shape {raw_depth.shape}: expected the disparity's "
            f"{tuple(disparity.shape)}"
        )


def _agree(line: Line, samples: Samples, noise: LineFit | None = None) -> NDArray[np.bool_]:
    """Which samples lie on the line, as far as the noise of its own or another fit allows."""
    expected = line.at(samples.d)
    sigma = (noise or line.fit).sigma_at(expected)
    return np.abs(samples.y - expected) <= np.minimum(
        INLIER_SIGMAS * sigma, INLIER_LIMIT * expected
    )
