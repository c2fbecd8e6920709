"""Readings that none beside them shares: flying pixels, and noise of single pixels.

Knows one frame's raw depth. What is seen lies in several pixels, however thin it is; a reading that
has readings all around it and agrees with none of them is of nothing. Readings that lie apart have
none around them and stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]
Places = tuple[NDArray[np.intp], NDArray[np.intp]]

_AGREES = 0.05
"""Relative: neighbours that differ by less may be of one surface, however steep."""
_AROUND = 6
"""Of the eight neighbours, so many have a reading where one alone means something."""
_ROWS = 12
"""In so many rows there is one, or the frame is not looked through."""
_BESIDE = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def without_speckles(raw: Float32) -> tuple[Float32, float]:
    """The same with NaN in place of such readings, and their share. raw (H, W), 0/NaN/inf unknown.

    Few frames have any, which a few rows tell.
    """
    height = raw.shape[0]
    some = np.unique(((np.arange(_ROWS) + 0.5) * height / _ROWS).astype(np.intp))
    if len(speckles(raw, some)[0]) == 0:
        return raw, 0.0
    found = speckles(raw, np.arange(height))
    clean = raw.copy()
    clean[found] = np.nan
    return clean, len(found[0]) / raw.size


def speckles(raw: Float32, rows: NDArray[np.intp]) -> Places:
    """Rows and columns of such readings, of those in these rows."""
    height, width = raw.shape
    line = raw[rows]
    with np.errstate(invalid="ignore"):
        as_next = _agree(line[:, 1:], line[:, :-1])
        shared = np.zeros(line.shape, bool)
        shared[:, 1:] |= as_next
        shared[:, :-1] |= as_next
        row, column = np.nonzero(~shared & is_reading(line))
        row = rows[row]
        if len(row) == 0:
            return row, column
        reading = raw[row, column]
        around, alone = np.zeros(len(row), np.uint8), np.ones(len(row), bool)
        for dy, dx in _BESIDE:
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            other = raw[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
            around += inside & is_reading(other)
            alone &= ~(inside & _agree(reading, other))
    found = alone & (around >= _AROUND)
    return row[found], column[found]


def _agree(one: Float32, other: Float32) -> NDArray[np.bool_]:
    return np.asarray(np.abs(one - other) <= np.float32(_AGREES) * np.minimum(one, other))
