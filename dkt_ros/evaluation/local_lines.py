"""Scale and shift that vary over the image: how others join a network's shape with raw depth.

"kNN" follows Prior Depth Anything, "patches" AnchorD. Each takes the network's relative disparity
(H, W), its alignment on this frame and the raw depth (H, W) in metres, NaN (or 0) unknown, and
returns float32 (H, W) metres: the raw depth where it agrees with the global line, the local one
elsewhere. Where no reading agrees it is the global line's depth, without a line the nearest fill.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import Alignment
from dkt_ros.evaluation.metrics import MIN_DISPARITY
from dkt_ros.fusion.features import working_size
from dkt_ros.geometry import disparity_of, is_reading, nearest_fill

_NEIGHBOURS = 16
_CELLS_ACROSS = 16
"""A patch is three cells wide and high."""
_STIFFNESS = 0.02
"""Relative spread of disparity below which a slope is that of the global line."""
_SLOPES = 0.2, 5.0
_PRIOR_SHARE = 0.01
"""Readings of a patch, as a share of its cells, against which no correction weighs as much."""

Local = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Readings (h, w) in 1/m, 0 where there is none to trust, and aligned disparity to corrected."""


def nearest_lines(readings: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Each cell's line is fitted to its nearest readings, weighed by distance."""
    from scipy.spatial import cKDTree

    good = readings > 0
    places = np.argwhere(good)
    everywhere = np.argwhere(np.ones_like(good))
    distance, near = cKDTree(places).query(
        everywhere, k=range(1, min(_NEIGHBOURS, len(places)) + 1)
    )
    x, y = predicted[good][near], readings[good][near]
    weight = 1 / (1 + distance)
    weight /= weight.sum(axis=1, keepdims=True)
    sums = ((weight * part).sum(axis=1) for part in (x, y, x * x, x * y))
    slope, shift = _line(*sums)
    return np.asarray((slope * predicted.ravel() + shift).reshape(good.shape))


def patch_lines(readings: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """A line for each of overlapping patches, blended between their centres."""
    height, width = readings.shape
    columns = min(_CELLS_ACROSS, width)
    grid = (columns, max(1, min(round(columns * height / width), height)))
    good = (readings > 0).astype(np.float64)
    x, y = predicted * good, readings
    sums = [
        cv2.blur(cv2.resize(part, grid, interpolation=cv2.INTER_AREA), (3, 3))
        for part in map(np.asarray, (good, x, y, x * x, x * y))
    ]
    # A patch with few readings, or none, keeps to the global line.
    count = np.maximum(sums[0], 1e-12)
    slope, shift = _line(*(part / count for part in sums[1:]))
    told = sums[0] / (sums[0] + _PRIOR_SHARE)
    size = width, height
    slope = np.asarray(cv2.resize(1 + told * (slope - 1), size), np.float64)
    shift = np.asarray(cv2.resize(told * shift, size), np.float64)
    return slope * predicted + shift


def _line(
    x: np.ndarray, y: np.ndarray, xx: np.ndarray, xy: np.ndarray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares from weighted means, drawn to a slope of 1 where x hardly varies."""
    stiff = np.square(_STIFFNESS * x) + 1e-12
    slope = np.clip((xy - x * y + stiff) / (np.maximum(xx - x * x, 0) + stiff), *_SLOPES)
    return slope, y - slope * x


LOCAL_LINES: dict[str, Local] = {"kNN": nearest_lines, "patches": patch_lines}


def local_depth(
    correct: Local, disparity: np.ndarray, line: Alignment | None, raw_depth: np.ndarray
) -> np.ndarray:
    """Metric depth of one frame by one of LOCAL_LINES; see the module."""
    if line is None or not np.isfinite(line.scale):
        return nearest_fill(raw_depth)
    readings, predicted = at_working_size(disparity, line, raw_depth)
    good = agreeing(readings, predicted)
    corrected = correct(np.where(good, readings, 0), predicted) if good.any() else predicted
    return with_readings(raw_depth, corrected, good)


def at_working_size(
    disparity: np.ndarray, line: Alignment, raw_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Readings (0 = none) and aligned disparity at half the fusion's working size, both 1/m."""
    rows, columns = (
        ((np.arange(side // 2) + 0.5) * full / (side // 2)).astype(int)
        for side, full in zip(working_size(*raw_depth.shape), raw_depth.shape, strict=True)
    )
    pick = np.ix_(rows, columns)
    readings = disparity_of(raw_depth[pick].astype(np.float64))
    aligned = line.scale * disparity[pick].astype(np.float64) + line.shift
    return readings, np.maximum(aligned, MIN_DISPARITY)


def agreeing(readings: np.ndarray, predicted: np.ndarray) -> NDArray[np.bool_]:
    """The readings that lie as near the global line as most."""
    known = readings > 0
    if not known.any():
        return known
    off = np.abs(readings / predicted - 1)
    spread = 1.4826 * float(np.median(off[known]))
    return known & (off < max(3 * spread, 0.02))


def with_readings(raw_depth: np.ndarray, corrected: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Raw depth (H, W) where its cell is good, the corrected disparity's depth elsewhere."""
    size = raw_depth.shape[1], raw_depth.shape[0]
    enlarged = cv2.resize(corrected.astype(np.float32), size)
    share = cv2.resize(good.astype(np.float32), size)
    kept = (share > 0.5) & is_reading(raw_depth)
    return np.where(kept, raw_depth, 1 / np.maximum(enlarged, MIN_DISPARITY)).astype(np.float32)
