"""A frame at working size, and what the refiner sees of it.

Knows sizes, holes and scales. Knows nothing of networks or streams. All of it is numpy on the host,
where raw depth comes from; a picture at working size is some 50 thousand pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, median, quantiles, some_where
from dkt_ros.fusion.network import INPUT_CHANNELS, SIZE_MULTIPLE
from dkt_ros.geometry import nearest_places

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

WORKING_AREA = 160 * 288
_FAR_PX = 24.0  # a distance at which the nearest reading says little
_SEEN_SHARE = 0.1  # relative differences are shown to the refiner in units of this
_SEEN_RANGE = 3.0
_LEVELS = 5
_STIFFNESS = 0.02  # weight of no correction at all, against one reading per cell
_OUTLIER = 0.02, 0.3  # relative; readings far from the prediction correct it the less, from here on
_FARTHER = 0.01, 0.3  # the same where finer corrections leave out what is far from coarser ones
_FINER = 3, 2, 1  # their finest grids have cells of 2**n of every second pixel
_AGREES = 0.1  # relative: a reading this near the prediction speaks for it
_LEAST_SPREAD = 0.004  # relative, of readings about a prediction
_MOST, _MOST_SPREADS = 0.65, 0.935  # of normal errors lie within so many spreads
_SPREAD, _SPREADS = 0.03, (0.003, 0.3)  # relative, of readings about a line: usual, told apart
_LOUDER = 0.5  # what a network that is near the readings by itself says of those behind it
_BEHIND = 0.02  # relative: readings farther than that behind a prediction may be seen through it
_JOINS = 0.1  # relative: where values differ by more, an edge of the scene runs between them
_BEYOND = 2.0  # no prediction is this much nearer or farther than all readings


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame at working size, all (h, w).

    rgb        (h, w, 3) uint8
    disparity  1/raw depth, 1/m, 0 = no reading
    filled     the same, holes taking the nearest reading
    distance   pixels to that reading
    nearest    (h, w) int32, flat place of that reading
    predicted  the network's disparity in 1/m, bent onto the readings; None without one
    typical    median of the readings, 1/m
    spread     relative, of the readings about the prediction before it was bent; NaN without one
    on_scale   predicted is of a network that was shown readings
    """

    rgb: NDArray[np.uint8]
    disparity: Float32
    filled: Float32
    distance: Float32
    nearest: NDArray[np.int32]
    predicted: Float32 | None
    typical: float
    spread: float
    on_scale: bool

    @property
    def measured(self) -> Mask:
        """Where there is a reading."""
        return self.disparity > 0


def working_size(height: int, width: int, area: int = WORKING_AREA) -> tuple[int, int]:
    """(height, width) of about `area` pixels, multiples of 16, never much more than the picture."""
    shrink = min(1.0, math.sqrt(area / (height * width)))
    # At least 2, since of one column oneDNN's convolutions in bfloat16 (torch 2.13, AMX) return
    # what lay in memory, now and then NaN.
    sides = (max(2, round(side * shrink / SIZE_MULTIPLE)) for side in (height, width))
    return next(sides) * SIZE_MULTIPLE, next(sides) * SIZE_MULTIPLE


def make_scene(
    rgb: NDArray[np.uint8], disparity: Float32, predicted: Float32 | None, on_scale: bool
) -> Scene | None:
    """A frame at working size; None without any reading.

    disparity: (h, w) of readings in 1/m, 0 = none. predicted: (h, w), the network's, in 1/m.
    on_scale: of a network that was shown readings. It errs where they do, and by little else; one
    that saw colour alone errs everywhere, by more than what is seen through glass is off.
    """
    measured = disparity > 0
    if not measured.any():
        return None
    distance, nearest = nearest_places(measured)
    places = np.flatnonzero(measured)
    filled = disparity.ravel()[nearest]
    some = disparity.ravel()[places[:: 1 + len(places) // 2048]]
    low, typical, high = quantiles(some, 0.01, 0.5, 0.99)
    spread = float("nan")
    if predicted is not None:
        predicted = np.clip(predicted, np.float32(low / _BEYOND), np.float32(high * _BEYOND))
        at = places[:: 1 + len(places) // 8192]
        spread = _spread(disparity.ravel()[at] / predicted.ravel()[at] - 1.0)
        predicted = (bent if on_scale else bent_to_most)(predicted, disparity)
    return Scene(
        rgb=rgb,
        disparity=disparity,
        filled=filled,
        distance=distance,
        nearest=nearest,
        predicted=predicted,
        typical=typical,
        spread=spread,
        on_scale=on_scale,
    )


def _spread(off: Float32) -> float:
    """Of normal errors (n,) among others."""
    return quantiles(np.abs(off), _MOST)[0] / _MOST_SPREADS


def agreement(readings: Float32, predicted: Float32) -> float:
    """Share of the readings (h, w), 0 = none, that lie near the prediction; 0 without any."""
    near = np.abs(readings - predicted) <= _AGREES * predicted
    return float(count_of(near) / max(count_of(readings), 1))


def bent(predicted: Float32, disparity: Float32, weights: Float32 | None = None) -> Float32:
    """The prediction with a smooth relative correction that brings it onto the readings.

    A membrane on coarse grids: what a cell's readings say, weighed against what the coarser grid
    says, from the coarsest to the finest. Readings far off the prediction have no say. weights:
    (h, w), how much each reading counts; None is 1.
    """
    measured = disparity > 0
    ratio = disparity / predicted - 1.0
    scale = np.float32(np.clip(3 * _typical(ratio, measured), *_OUTLIER))
    weight = measured / (1.0 + np.square(ratio / scale))
    if weights is not None:
        weight *= weights
    return np.asarray(predicted * (1.0 + membrane(ratio * weight, weight)), np.float32)


def bent_to_most(predicted: Float32, disparity: Float32) -> Float32:
    """The same, of ever finer corrections each leaving out what is far from the coarser ones.

    So readings through glass, off by less than the prediction is at first, have no say in the end.
    """
    every_second = disparity[::2, ::2]
    measured = every_second > 0
    total = np.ones(every_second.shape, np.float32)
    if not measured.any():
        return bent(predicted, disparity)
    ratio = np.where(measured, every_second / predicted[::2, ::2], np.float32(1.0))
    for finest in _FINER:
        off = ratio / total - 1.0
        scale = np.float32(np.clip(2 * _typical(off, measured), *_FARTHER))
        weight = measured / np.square(1.0 + np.square(off / scale))
        total *= 1.0 + membrane(off * weight, weight, _LEVELS - 1, finest)
    size = predicted.shape[::-1]
    return predicted * np.asarray(cv2.resize(total, size, interpolation=cv2.INTER_LINEAR))


def _typical(off: Float32, measured: Mask) -> float:
    """Median of |off| where there is a reading, of some of them."""
    return median(np.abs(some_where(measured, off, 1 + off.size // 8192)))


def membrane(weighted: Float32, weight: Float32, levels: int = _LEVELS, finest: int = 2) -> Float32:
    """Smooth field (h, w) through weighted values; sums of weight x value and of weight per pixel.

    finest: the finest grid has cells of 2**finest pixels.
    """
    height, width = weighted.shape
    pair = cv2.merge([np.asarray(weighted, np.float32), np.asarray(weight, np.float32)])
    grids = []
    for level in range(levels + 1):
        if level >= finest:
            grids.append(pair)
        h, w = pair.shape[:2]
        if min(h, w) < 2:
            break
        pair = cv2.resize(pair, ((w + 1) // 2, (h + 1) // 2), interpolation=cv2.INTER_AREA)
    total = grids[-1].reshape(-1, 2).sum(axis=0)
    field = np.full(grids[-1].shape[:2], total[0] / (total[1] + 1e-6), np.float32)
    for grid in reversed(grids):
        h, w = grid.shape[:2]
        if field.shape != (h, w):
            enlarged = cv2.resize(field, (w, h), interpolation=cv2.INTER_LINEAR)
            field = np.asarray(enlarged, np.float32)
        blurred = cv2.GaussianBlur(grid, (3, 3), 0)
        field = (blurred[..., 0] + _STIFFNESS * field) / (blurred[..., 1] + _STIFFNESS)
    return np.asarray(
        cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def hung(
    inverse: Float32,
    target: Float32,
    known: Mask,
    reach_px: float,
    levels: int = _LEVELS,
    begins: Mask | None = None,
) -> Float32:
    """Disparity (h, w) joined without a step to the target beside it, along its rim alone.

    known: where the target is; where both differ much it has no say. The correction fades with the
    distance from there, or from where it `begins`.
    """
    off = target / inverse - 1.0
    joins = known & (np.abs(off) < _JOINS)
    field = membrane(np.where(joins, off, np.float32(0.0)), joins.astype(np.float32), levels, 1)
    away = (~(joins if begins is None else begins)).astype(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_3)
    return np.asarray(inverse * (1.0 + field * np.exp(distance * (-1 / reach_px))), np.float32)


def network_input(scene: Scene) -> Float32:
    """What the refiner sees, (10, h, w), in the order of the code; all numbers about 1."""
    height, width = scene.filled.shape
    x = np.empty((INPUT_CHANNELS, height, width), np.float32)
    x[0:3] = scene.rgb.transpose(2, 0, 1)
    x[0:3] *= 1 / 255
    x[0:3] -= 0.5
    typical = max(scene.typical, 1e-6)
    np.clip(scene.filled / typical - 1.0, -1.0, 4.0, out=x[3])
    x[4] = scene.measured
    np.tanh(scene.distance / _FAR_PX, out=x[5])
    unit = 1 / (_SEEN_SHARE * np.maximum(scene.filled, 1e-6))
    smooth = cv2.blur(scene.filled, (5, 5))
    np.clip((scene.filled - smooth) * (5 * unit), -_SEEN_RANGE, _SEEN_RANGE, out=x[6])
    if scene.predicted is None:
        x[7:10] = 0.0
    else:
        np.clip(scene.predicted / typical - 1.0, -1.0, 4.0, out=x[7])
        np.clip((scene.predicted - scene.filled) * unit, -_SEEN_RANGE, _SEEN_RANGE, out=x[8])
        x[9] = 1.0
    return x


def closeness(scene: Scene) -> float:
    """How near the network was to the readings by itself: 0 usual or none, less is nearer."""
    low, high = _SPREADS
    spread = _SPREAD if math.isnan(scene.spread) else min(max(scene.spread, low), high)
    return math.log(spread / _SPREAD)


def evidence(scene: Scene) -> Float32 | None:
    """What a prediction that knows nothing of the readings says of each of them, (2, h, w).

    That it is right, 0..1, since both agree by as much as most do; that it is seen through
    something, 0..1, since it lies behind all that is predicted near there, or 0..1.5 where the
    prediction is near the readings by itself. 0 where there is no reading. None without a
    prediction, and of one by a network that was shown readings, which is no witness.
    """
    measured, predicted = scene.measured, scene.predicted
    if predicted is None or scene.on_scale:
        return None
    said = np.empty((2, *scene.filled.shape), np.float32)
    off = scene.disparity / predicted - 1.0
    some = off[measured]
    spread = np.float32(max(_spread(some[:: 1 + len(some) // 8192]), _LEAST_SPREAD))
    said[0] = np.exp(-0.5 * np.square(off / (2 * spread)))
    farthest = np.asarray(cv2.erode(predicted, np.ones((3, 3), np.uint8)), np.float32)
    behind = (1.0 - scene.disparity / farthest) / max(2 * spread, np.float32(_BEHIND)) - 1.0
    near = min(max(1.0 - closeness(scene) / math.log(2), 0.0), 1.0)  # 0 from twice the usual on
    said[1] = np.clip(behind, 0.0, 1.0) * np.float32(1.0 + _LOUDER * near)
    said *= measured
    return said
