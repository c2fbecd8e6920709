"""The pixels of a frame that alignment looks at.

Knows how to spread a few thousand samples over an image with holes. Knows nothing of what is
fitted to them. Raw depth comes from the camera and lies on the host; disparity may lie on a device,
of which then the samples alone are brought over, in one download.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import Array, constant, count_of, device_of, namespace, quantiles, to_host

FloatArray = NDArray[np.floating]
Array64 = NDArray[np.float64]
Indices = NDArray[np.intp]

SEED = 20240229
BLOCK_ROWS, BLOCK_COLUMNS = 6, 8


@dataclass(frozen=True, eq=False)
class Samples:
    """Pixels (n,) at which a frame has both relative disparity and raw depth.

    d       disparity
    y       1/depth, 1/m
    blocks  which of 6x8 parts of the image the pixel lies in
    ends    (2,) range of the whole frame's disparity without its outermost 2%; NaN without any
    shape   (height, width) of the image
    grid    (m,) disparity at places spread over all of it, the same in every frame of that shape
    unanswered  how many pixels were passed over that have raw depth and no finite disparity
    """

    d: Array64
    y: Array64
    blocks: Indices
    ends: Array64
    shape: tuple[int, ...]
    grid: FloatArray
    unanswered: int = 0

    def same_as(self, other: Samples) -> bool:
        """Whether both hold the same points."""
        return np.array_equal(self.y, other.y) and np.array_equal(self.d, other.d)


def sample(
    disparity: Array,
    raw_depth: FloatArray | None,
    wanted: int,
    min_depth: float,
    max_depth: float,
) -> Samples:
    """At most `wanted` pixels, evenly spread over those with depth in min .. max (metres).

    disparity, raw_depth: (H, W); without raw depth there are no pixels, only ends. disparity may be
    a tensor on any device; raw_depth is numpy's.
    """
    shape = tuple(disparity.shape)
    # Twice the grid that is wanted: half of it may well fall into holes.
    where = _grid(shape, 2 * wanted)
    found = grid = _at(disparity, _grid_on(device_of(disparity), shape, 2 * wanted))
    ends = _ends(found)
    if raw_depth is None:
        none = np.empty(0)
        return Samples(none, none, none.astype(np.intp), ends, shape, grid)
    depths = raw_depth.ravel()
    measured = _in_range(depths[where], min_depth, max_depth)
    known = measured & np.isfinite(found)
    if 5 * count_of(known) < min(wanted, len(depths)):
        # Few pixels have depth: look at them all, lest the grid miss those few.
        where = np.flatnonzero(_in_range(depths, min_depth, max_depth))
        found = _at(disparity, constant(where, device_of(disparity)))
        known = np.isfinite(found)
        measured = np.ones_like(known)
    unanswered = count_of(measured) - count_of(known)
    kept = np.flatnonzero(known)
    kept = kept[every(len(kept), wanted)]
    where = where[kept]
    d = found[kept].astype(np.float64)
    y = 1 / depths[where].astype(np.float64)
    return Samples(d, y, _blocks(where, shape), ends, shape, grid, unanswered)


def replaced(samples: Samples, inverse: Array64, wanted: int) -> Samples:
    """The same frame with 1/depth (m,) on its grid, NaN unknown, for its raw depth."""
    kept = np.flatnonzero(np.isfinite(samples.grid) & (inverse > 0))
    kept = kept[every(len(kept), wanted)]
    where = _grid(samples.shape, 2 * wanted)[kept]
    d = samples.grid[kept].astype(np.float64)
    return replace(samples, d=d, y=inverse[kept], blocks=_blocks(where, samples.shape))


def every(count: int, wanted: int) -> Indices:
    """At most `wanted` of the indices 0 .. count - 1, evenly spaced."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.intp)


def _at(values: Array, where: Array) -> FloatArray:
    """Values (H, W) at flat indices, on the host."""
    return to_host(namespace(values).take(values, where))


def _in_range(depth: FloatArray, min_depth: float, max_depth: float) -> NDArray[np.bool_]:
    return (depth >= min_depth) & (depth <= max_depth)


def _ends(grid: FloatArray) -> Array64:
    finite = grid[np.isfinite(grid)].astype(np.float64)
    if len(finite) == 0:
        return np.full(2, np.nan)
    ends: Array64 = np.array(quantiles(finite, 0.02, 0.98))
    return ends if ends[1] > ends[0] else np.array([finite.min(), finite.max()])


@lru_cache(maxsize=8)
def _grid(shape: tuple[int, ...], wanted: int) -> Indices:
    """Flat indices of one pixel in each cell of a grid of about `wanted` cells.

    The place within the cell is random (seeded): a fixed one would alias with patterned holes.
    """
    height, width = shape
    shrink = min(1.0, np.sqrt(wanted / (height * width)))
    rows, columns = max(1, round(height * shrink)), max(1, round(width * shrink))
    within = np.random.default_rng(SEED).random((2, rows, columns))
    row = ((np.arange(rows)[:, None] + within[0]) * height / rows).astype(np.intp)
    column = ((np.arange(columns) + within[1]) * width / columns).astype(np.intp)
    flat: Indices = (row * width + column).ravel()
    flat.setflags(write=False)
    return flat


@lru_cache(maxsize=8)
def _grid_on(device: Hashable, shape: tuple[int, ...], wanted: int) -> Array:
    return constant(_grid(shape, wanted), device)


def _blocks(where: Indices, shape: tuple[int, ...]) -> Indices:
    height, width = shape
    rows, columns = np.divmod(where, width)
    return rows * BLOCK_ROWS // height * BLOCK_COLUMNS + columns * BLOCK_COLUMNS // width
