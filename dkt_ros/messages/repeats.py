"""Which images a camera sends again under new stamps, of all that come.

The network may take so few of them that it never sees two of one picture.
Knows pairs of messages. Knows nothing of what is made of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.errors import DktError
from dkt_ros.fusion.changes import changed_colour
from dkt_ros.fusion.colours import fine_grey, shrunk
from dkt_ros.fusion.resent import SentAgain
from dkt_ros.fusion.suspicion import Suspicion
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.pixels import ImageMessage, rgb_of

_APART = 211  # bytes; a prime, so that every column and every byte of a number is met
_FEWEST_KINDS = 8  # of bytes; an image of holes alone has fewer, and shows nothing to be the same


class Samples:
    """Compares each pair's images with those of the one before by some of their bytes."""

    def __init__(self) -> None:
        self._before: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def take(self, color: ImageMessage, depth: ImageMessage) -> tuple[bool, bool]:
        """With the next pair: whether its colour's, and its depth's, is the one before."""
        before, self._before = self._before, (_sample(color), _sample(depth))
        color_again, depth_again = map(_is_same, before or (None, None), self._before)
        return color_again, depth_again


class Repeats:
    """Judges one camera's observations, of which each has been told what it repeats."""

    def __init__(self) -> None:
        self._sent = SentAgain()
        self._last: Observation | None = None
        self._grey: NDArray[np.float32] | None = None  # of the last, where it was asked for

    def take(self, observation: Observation) -> list[Suspicion]:
        """With the next one."""
        before, self._last = self._last, observation
        grey, self._grey = self._grey, None
        if before is None or (before.epoch, before.size) != (observation.epoch, observation.size):
            self._sent = SentAgain()
            return []

        def moved() -> float | None:
            try:
                old = _grey(before.color) if grey is None else grey
                new = self._grey = _grey(observation.color)
            except DktError:  # is told when a frame is made of it
                return None
            return float(changed_colour(old, new).mean())

        return self._sent.take(*observation.again, moved)


def _grey(color: ImageMessage) -> NDArray[np.float32]:
    return shrunk(fine_grey(rgb_of(color)))


def _sample(message: ImageMessage) -> NDArray[np.uint8]:
    return np.asarray(memoryview(message.data), np.uint8)[::_APART].copy()


def _is_same(before: NDArray[np.uint8] | None, now: NDArray[np.uint8]) -> bool:
    if before is None or not np.array_equal(before, now):
        return False
    return count_of(np.bincount(now)) >= _FEWEST_KINDS
