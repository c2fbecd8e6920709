"""Relative disparity + raw sensor depth -> scale, shift, and how far to trust them.

Knows that a sensor has holes and that glass makes it read too far, never too near. Knows nothing
of cameras, frames, networks or ROS.

    1/z = scale * d + shift        z metres, d the network's relative disparity in [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError

FloatArray = NDArray[np.floating]


class AlignmentState(Enum):
    """What an alignment rests on."""

    OK = 0  # this frame's own fit
    HELD = 1  # an earlier frame's fit, because this frame's failed or jumped
    UNALIGNED = 2  # nothing: there is no metric scale


@dataclass(frozen=True)
class Alignment:
    """1/z = scale * d + shift, and how far to trust it.

    scale, shift  1/m; NaN when UNALIGNED
    inliers       sampled pixels whose raw depth agrees with it
    inlier_ratio  those, over the sampled pixels that have both depth and disparity; 0..1
    residual_m    median |raw depth - aligned depth| over the inliers, metres; NaN without inliers
    uncertainty   standard error of the aligned depth, relative (0.01 = 1%), at the worse end of
                  this frame's disparities; inf when UNALIGNED
    state, reason reason is "" when OK
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
    """How a fit is made, and when it is believed."""

    max_samples: int = 8000  # pixels looked at
    min_depth: float = 0.1  # m; raw depth outside the range is unknown
    max_depth: float = 10.0  # m
    min_inliers: int = 50
    min_inlier_ratio: float = 0.2
    max_uncertainty: float = 0.05  # relative
    max_held_frames: int = 10
    max_held_s: float = 3.0


class Aligner:
    """Aligns one stream's frames, holding the last good alignment for a while."""

    def __init__(self, config: AlignmentConfig | None = None) -> None:
        self.config = config or AlignmentConfig()

    def update(
        self,
        disparity: FloatArray,
        raw_depth: FloatArray | None,
        stamp_ns: int | None = None,
    ) -> Alignment:
        """Aligns the next frame.

        disparity (H, W) relative in [0, 1]; raw_depth (H, W) metres, 0/NaN/inf unknown, or None;
        stamp_ns lets an alignment be held by time as well as by frames.
        """
        if raw_depth is None:
            return self._none("no raw depth")
        y = np.where(raw_depth > 0, 1 / np.where(raw_depth > 0, raw_depth, 1), np.nan)
        ok = np.isfinite(y) & np.isfinite(disparity)
        if ok.sum() < self.config.min_inliers:
            return self._none("too few pixels")
        scale, shift = np.polyfit(disparity[ok], y[ok], 1)
        return Alignment(
            float(scale), float(shift), int(ok.sum()), 1.0, 0.0, 0.01, AlignmentState.OK, ""
        )

    def reset(self) -> None:
        """Forgets the alignment so far, as on a flush."""

    def _none(self, reason: str) -> Alignment:
        nan = float("nan")
        return Alignment(nan, nan, 0, 0.0, nan, float("inf"), AlignmentState.UNALIGNED, reason)


def align_depth(
    disparity: FloatArray, alignment: Alignment, min_depth: float, max_depth: float
) -> NDArray[np.float32]:
    """Relative disparity (H, W) to metric depth (H, W) float32, metres.

    NaN where the depth lies outside min_depth .. max_depth, where the disparity is not finite, and
    everywhere when UNALIGNED.
    """
    if not 0 < min_depth < max_depth:
        raise DktError(f"depth range {min_depth} .. {max_depth} m: expected 0 < min < max")
    metric = np.multiply(disparity, alignment.scale, dtype=np.float32)
    metric += np.float32(alignment.shift)
    keep = (metric >= 1 / max_depth) & (metric <= 1 / min_depth)
    with np.errstate(divide="ignore"):
        np.divide(1, metric, out=metric)
    metric[~keep] = np.nan
    return metric
