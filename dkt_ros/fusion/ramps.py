"""Depth that was mixed with its own holes, told from the readings.

Knows one frame's raw depth. Whoever resizes, rectifies or smooths a depth image as if it were a
picture takes the 0 of a hole for a distance: around each hole the readings fall towards the camera,
to nothing. A sensor's readings beside holes are those of the surface that ends there, which may be
nearer on one side, and not on all.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, median, some_where
from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_FALLEN, _RISEN = 0.8, 1.25
"""Of the mean of what lies behind a reading at a hole: it is mixed below the first, and none of a
ramp above the second."""
_MANY, _FEW = 0.45, 0.05
"""Shares of the readings at holes: mixed ones, if more, are a ramp, unless others are, if more."""
_GONE, _MIXED = 0.15, 0.9
"""The ramp is gone where no larger share than the first is below so much of what lies behind."""
_FEWEST = 200
_WIDEST = 8
"""Pixels that a ramp may be wide."""
_SAMPLES = 150
"""Rows or columns, of the fewer, that are looked at first."""
_NEAR, _LEAST_NEAR = 0.4, 0.002
"""Of the median distance, and share of the readings that a ramp has below that."""
_FOURTH = 4  # of them tell how far most are
_AROUND = np.ones((3, 3), np.uint8)


def without_ramps(raw: Float32) -> tuple[Float32, int]:
    """The same with NaN where readings were mixed with holes, and how wide, pixels; 0: nowhere.

    raw (H, W) metres, 0/NaN/inf unknown.
    """
    if not _falls(raw):
        return raw, 0
    known = is_reading(raw).view(np.uint8)
    depth = np.where(known, raw, np.float32(0))
    inner, ratios = _ratios(depth, known)
    if (
        len(ratios) < _FEWEST
        or np.mean(ratios < _FALLEN) < _MANY
        or np.mean(ratios > _RISEN) > _FEW
    ):
        return raw, 0
    for width in range(1, _WIDEST + 1):
        known = inner
        inner, ratios = _ratios(depth, known)
        if len(ratios) < _FEWEST or np.mean(ratios < _MIXED) < _GONE:
            return _without_dips(np.where(known, raw, np.float32(np.nan)), depth, width), width
    return raw, 0


def _without_dips(raw: Float32, depth: Float32, width: int) -> Float32:
    """The same with NaN at what is left of holes that were smaller than the ramp, and mixed up."""
    closed = cv2.morphologyEx(depth, cv2.MORPH_CLOSE, np.ones([2 * width + 1] * 2, np.uint8))
    return np.where(depth < np.float32(_FALLEN) * closed, np.float32(np.nan), raw)


def _falls(raw: Float32) -> bool:
    """Whether some readings are far nearer than most: a look at a few that spares the others."""
    stride = max(1, min(raw.shape) // _SAMPLES)
    some = np.ascontiguousarray(raw[::stride, ::stride])
    some = some_where(is_reading(some), some)
    if len(some) == 0:
        return False
    near = count_of(some < np.float32(_NEAR * median(some[::_FOURTH])))
    return near > _LEAST_NEAR * len(some)


def _ratios(depth: Float32, known: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Float32]:
    """What is known but at no hole, and each reading at a hole over the mean of that around it."""
    inner = np.asarray(cv2.erode(known, _AROUND, borderValue=[1]), np.uint8)
    at_hole = np.flatnonzero(known != inner)
    if len(at_hole) < _FEWEST:
        return inner, np.zeros(0, np.float32)
    total, count = (
        cv2.boxFilter(values, cv2.CV_32F, (5, 5), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for values in (depth * inner, inner)
    )
    counts = count.ravel()[at_hole]
    seen = counts > 0.5
    at_hole = at_hole[seen]
    return inner, depth.ravel()[at_hole] * counts[seen] / total.ravel()[at_hole]
