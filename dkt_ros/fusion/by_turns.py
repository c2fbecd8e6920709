"""Depth images of two kinds that come by turns: one whose neighbours are alike and unlike it.

Knows small pictures of three frames. A camera that shakes and an arm that swings by change colour
as they change depth; a driver that registers some of its images, or two that share a topic, do not.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_OTHER = 0.1  # share of the depth that is another in the frame between
_APART = 3.0  # so many times as much as in the frames before and after it
_COLOUR = 1.5, 1.0  # times, and grey levels, by which its colour may be farther off
_OFF = 0.02  # relative, from which depth is another
_WINDOW, _FULL = (5, 5), 0.6
_FEWEST = 20  # blocks


class ByTurns:
    """One stream's newest frames."""

    def __init__(self) -> None:
        self._frames: deque[tuple[Float32, Float32]] = deque(maxlen=2)
        self._changed = 0.0

    def take(self, grey: Float32, inverse: Float32) -> float:
        """How much of the depth was another in the frame before, if that was the odd one; else 0.

        grey (h, w) of a colour that shows something; inverse (h, w) 1/m, 0 unknown.
        """
        before, earlier = list(self._frames), self._changed
        self._frames.append((grey, inverse))
        self._changed = changed_depth(before[-1][1], inverse, _OFF) if before else 0.0
        share = min(earlier, self._changed)
        if len(before) < 2 or share < _OTHER:
            return 0.0
        first, odd = before
        if share < _APART * changed_depth(first[1], inverse, _OFF):
            return 0.0
        far = max(_differ(first[0], odd[0]), _differ(odd[0], grey))
        return 0.0 if far > _COLOUR[0] * _differ(first[0], grey) + _COLOUR[1] else share


def changed_depth(before: Float32, now: Float32, off: float) -> float:
    """Share of blocks whose mean reading changed by more than that, relative; 1/m, 0 unknown."""
    known = ((before > 0) & (now > 0)).astype(np.float32)
    weight, old, new = (
        cv2.blur(x, _WINDOW)[::4, ::4] for x in (known, before * known, now * known)
    )
    full = weight > _FULL
    if np.count_nonzero(full) < _FEWEST:
        return 0.0
    return float(np.mean(np.abs(new[full] / old[full] - 1) > off))


def _differ(one: Float32, other: Float32) -> float:
    """Mean grey levels, without what light does to all of it."""
    return float(np.abs((one - one.mean()) - (other - other.mean())).mean())
