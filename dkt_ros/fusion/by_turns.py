"""Depth images of two kinds that come by turns: one whose neighbours are alike and unlike it.

Knows small pictures of three frames. A camera that shakes and an arm that swings by change colour
where they change depth; a driver that registers some of its images, or two that share a topic, do
not.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dkt_ros.fusion.changes import blocks, changed_blocks, changed_colour

Float32 = NDArray[np.float32]

_OTHER = 0.1  # share of the depth that is another in the frame between
_APART = 3.0  # so many times as much as in the frames before and after it
_COLOUR = 1.5, 0.5  # times, and grey levels, by which its colour may be farther off there
_OFF = 0.02  # relative, from which depth is another
_MUCH = 0.25  # of depth; of less, a pane may be read now as itself, now as what is behind it
_ENDED, _LULLS = 1.0, 3  # seconds in which depth stayed as it was, and times as long as the longest
# time between two odd images, from which these come no more


class ByTurns:
    """One stream's newest frames, and those that were odd."""

    def __init__(self) -> None:
        self._frames: deque[tuple[Float32, Float32]] = deque(maxlen=2)
        self._changed = np.zeros(0, bool), 0.0
        self._odd: deque[tuple[int, float]] = deque()
        self._unlike_ns = 0

    def take(self, grey: Float32, inverse: Float32) -> float:
        """How much of the depth was another in the frame before, if that was the odd one; else 0.

        grey (h, w) of a colour that shows something; inverse (h, w) 1/m, 0 unknown.
        """
        grey = blocks(grey)
        before, (earlier, share) = list(self._frames), self._changed
        self._frames.append((grey, inverse))
        if before:
            self._changed = changed_blocks(before[-1][1], inverse, _OFF)
        share = min(share, self._changed[1])
        if len(before) < 2 or share < _OTHER:
            return 0.0
        first, odd = before
        if share < _APART * changed_blocks(first[1], inverse, _OFF)[1]:
            return 0.0
        there = earlier | self._changed[0]
        far = max(_differ(first[0], odd[0], there), _differ(odd[0], grey, there))
        is_other = far > _COLOUR[0] * _differ(first[0], grey, there) + _COLOUR[1]
        return 0.0 if is_other else share

    def last(self, share: float, stamp_ns: int, remembered_s: float) -> bool | None:
        """Whether odd ones still come, and are much of the depth; None: none for so many seconds.

        share: what `take` said of the newest frame, of that stamp.
        """
        if share:
            self._odd.append((stamp_ns, share))
        if self._changed[1] >= _OTHER:
            self._unlike_ns = stamp_ns
        while self._odd and (stamp_ns - self._odd[0][0]) / 1e9 > remembered_s:
            self._odd.popleft()
        if not self._odd:
            return None
        since_s = (stamp_ns - self._unlike_ns) / 1e9
        longest_s = max((b - a for (a, _), (b, _) in pairwise(self._odd)), default=0) / 1e9
        lasts = len(self._odd) > 1 and since_s <= max(_ENDED, _LULLS * longest_s)
        return lasts and min(share for _, share in list(self._odd)[-2:]) > _MUCH


def _differ(one: Float32, other: Float32, there: NDArray[np.bool_]) -> float:
    """Mean grey levels in those blocks."""
    return float(changed_colour(one, other)[there].mean())
