"""The distance that a driver fills holes with, told from the readings.

Knows one frame's raw depth. Zero, NaN and infinity are unknown before; this is for drivers that
write a distance instead. A surface's readings, however flat it is and however it is held, spread
over neighbouring steps and have others between them and what lies behind; a filling is one value to
the bit, alone, nearer than cameras measure. What a simulator renders of a flat thing held straight
is one value too, which is why farther ones are left alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_FARTHEST_M = 0.205
_ALONE = 1.5
"""Up to so many times its distance there is next to nothing else."""
_PURE = 0.99
"""Its share of all that is as near as that."""
_FEWEST, _LEAST_SHARE = 20, 0.003
"""Sampled pixels, and of all that have a reading."""
_SAMPLES = 100
"""Rows or columns that are looked at, of the fewer."""


def fill_value(raw: Float32) -> float | None:
    """The value, metres, to the bit; None where there is none. raw (H, W), 0/NaN/inf unknown."""
    stride = max(1, min(raw.shape) // _SAMPLES)
    some = raw[::stride, ::stride]
    near = some[(some > 0) & (some <= _FARTHEST_M * _ALONE)]
    if len(near) < _FEWEST:
        return None
    known = np.count_nonzero(is_reading(some))
    values, counts = np.unique(near, return_counts=True)
    most = int(counts.argmax())
    value, count = float(values[most]), int(counts[most])
    if value > _FARTHEST_M or count < max(_FEWEST, _LEAST_SHARE * known):
        return None
    as_near = np.count_nonzero(near < _ALONE * value)
    is_all = count > 0.9 * known  # of a scene there is nothing then, whatever the value is
    return None if count < _PURE * as_near or is_all else value


def without_fill(raw: Float32) -> tuple[Float32, float | None]:
    """The same with NaN where a driver has filled holes, and the value it did so with."""
    value = fill_value(raw)
    if value is None:
        return raw, None
    return np.where(raw == np.float32(value), np.float32(np.nan), raw), value
