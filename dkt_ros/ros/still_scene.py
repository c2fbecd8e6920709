"""Several depths of a scene that stands still: one of them all, and whether they show one view.

Knows arrays of depth (H, W), metres, NaN where unknown; nothing of ROS or how they were made.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.geometry import known_depth

Float32 = NDArray[np.float32]

_STILL = 0.01  # relative change of depth that nothing moved for, beyond the spread
_TELLS = 1 << 14  # pixels, at least, tell of a picture how much of it changed
_NOISE = 0.1  # relative change that sensor or network may make where nothing moved
_ANOTHER_VIEW = 0.1  # of the pixels
_APPROACHED = 0.005  # relative: the camera came nearer or went away


def median_depth(depths: NDArray[np.floating]) -> tuple[Float32, Float32]:
    """Depth and spread (H, W) of several depths (N, H, W) of one still scene, metres.

    The spread is the median deviation from the median times 1.4826, the standard deviation of
    normal noise; where the last depth is far off the median, since something moved, that far. NaN
    where fewer than half of the depths are known.
    """
    known = known_depth(np.asarray(depths))
    enough = 2 * np.isfinite(known).sum(axis=0) >= len(known)
    median = _median_of_known(known)
    median[~enough] = np.nan
    known -= median
    off = np.abs(known, out=known)
    spread = _median_of_known(off) * np.float32(1.4826)
    return median, np.where(off[-1] > 3 * spread + _STILL * median, off[-1], spread)


def show_one_view(before: Float32, now: Float32) -> bool:
    """Whether both show one view; what is too near to be seen may also be a change of it."""
    known = [count_of(np.isfinite(depth)) / now.size for depth in (before, now)]
    return (
        changed_share(before, now) < _ANOTHER_VIEW
        and abs(known[1] - known[0]) < _ANOTHER_VIEW
        and abs(approached(before, now)) < _APPROACHED
    )


def changed_share(before: Float32, now: Float32) -> float:
    """Share of the pixels (H, W) known in both whose depth changed by more than noise."""
    change = np.abs(_change(before, now))
    known = count_of(np.isfinite(change))
    return count_of(change > _NOISE) / max(known, 1)


def approached(before: Float32, now: Float32) -> float:
    """By how much depth (H, W) changed as a whole, relative: below 0 where the camera came nearer.

    Noise of single pixels is no part of it.
    """
    change = _change(before, now)
    known = change[np.isfinite(change)]
    return float(np.median(known)) if known.size else 0.0


def _change(before: Float32, now: Float32) -> Float32:
    """Relative; of a large picture few pixels are looked at."""
    step = 1 + math.isqrt(now.size // _TELLS)
    return np.asarray(now[::step, ::step] / before[::step, ::step] - 1, np.float32)


def _median_of_known(values: Float32) -> Float32:
    """Over the first axis, without NaN; numpy's nanmedian takes ten times as long."""
    ordered = np.sort(values, axis=0)  # NaN last
    last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
    low, high = last // 2, (last + 1) // 2
    pick = np.take_along_axis(ordered, np.stack([low, high]), axis=0)
    return np.asarray(pick.mean(axis=0), np.float32)
