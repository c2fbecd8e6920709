"""The distance that a driver fills holes with, told from the readings.

Knows one frame's raw depth. Zero, NaN and infinity are unknown before; this is for drivers that
write a distance instead. A surface's readings, however flat it is and however it is held, spread
over neighbouring steps and have others between them and what lies behind; a filling is one value to
the bit, alone, nearer or farther than the camera measures. What a simulator renders of a flat thing
held straight is one value too, which is why those between are left alone.
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
_PURE_FAR = 0.9
"""Its share of all that is out of range as it is: of a camera's own there are many values."""
_FEWEST, _LEAST_SHARE = 20, 0.003
"""Sampled pixels, and of all that have a reading."""
_SAMPLES = 100
"""Rows or columns that are looked at, of the fewer."""


def fill_value(raw: Float32, range_m: float = np.inf) -> float | None:
    """The value, metres, to the bit; None where there is none. raw (H, W), 0/NaN/inf unknown.

    range_m: as far as readings are looked at.
    """
    stride = max(1, min(raw.shape) // _SAMPLES)
    some = raw[::stride, ::stride]
    known = np.count_nonzero(is_reading(some))
    near = some[(some > 0) & (some <= _FARTHEST_M * _ALONE)]
    value, count = _commonest(near, known)
    if 0 < value <= _FARTHEST_M and count >= _PURE * np.count_nonzero(near < _ALONE * value):
        return value
    far = some[(some >= np.float32(range_m)) & (some < np.inf)]
    value, count = _commonest(far, known)
    # Where most lie there, the range or the unit is another one.
    is_filling = value and _PURE_FAR * len(far) <= count <= 0.5 * known
    return value if is_filling else None


def _commonest(values: Float32, known: int) -> tuple[float, int]:
    """What most of some readings are, and how many of them; zeros where that says nothing."""
    if len(values) < _FEWEST:
        return 0.0, 0
    each, counts = np.unique(values, return_counts=True)
    most = int(counts.argmax())
    count = int(counts[most])
    # Where it is all, there is nothing of a scene, whatever the value is.
    if max(_FEWEST, _LEAST_SHARE * known) <= count <= 0.9 * known:
        return float(each[most]), count
    return 0.0, 0


def without_fill(raw: Float32, range_m: float = np.inf) -> tuple[Float32, float | None]:
    """The same with NaN where a driver has filled holes, and the value it did so with."""
    value = fill_value(raw, range_m)
    if value is None:
        return raw, None
    return np.where(raw == np.float32(value), np.float32(np.nan), raw), value
