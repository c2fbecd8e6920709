"""What changed between two small pictures: readings by blocks, and colour whatever light does.

Knows two pictures. Knows nothing of streams, or of what a change means.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of

Float32 = NDArray[np.float32]

_WINDOW, _FULL = (5, 5), 0.6
_FEWEST = 20  # blocks
_BRIGHTER = 4.0  # at most, by light and exposure


def changed_blocks(before: Float32, now: Float32, off: float) -> tuple[NDArray[np.bool_], float]:
    """Blocks whose mean reading changed by more than that, relative, and their share of the known.

    before, now: 1/m, 0 unknown.
    """
    known = ((before > 0) & (now > 0)).astype(np.float32)
    weight, old, new = (blocks(x) for x in (known, before * known, now * known))
    full = weight > _FULL
    count = count_of(full)
    changed = full & (np.abs(new - old) > off * old)
    return changed, count_of(changed) / count if count >= _FEWEST else 0.0


def blocks(picture: Float32) -> Float32:
    """Means around every fourth pixel."""
    return np.asarray(cv2.blur(picture, _WINDOW)[::4, ::4], np.float32)


def changed_colour(before: Float32, now: Float32) -> Float32:
    """Of pictures (h, w) in grey levels, without what light and exposure do to all of it."""
    old, new = before - before.mean(), now - now.mean()
    gain = min(max(float(new.std()) / max(float(old.std()), 1e-6), 1 / _BRIGHTER), _BRIGHTER)
    return np.abs(new - np.float32(gain) * old)
