"""Object masks and depth of one stamp, whichever comes first. Knows stamps; nothing of nodes.

A segmenter sees the colour image that the depth is made from: its mask has that image's stamp and
comes before the depth or after it. Both sides wait here for each other, the newest few of each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Waiting = TypeVar("Waiting")
Mask = npt.NDArray[np.bool_]

KEPT = 8
"""Of each side; depth of 1280x720 with its colours has 6 MB."""


class Masks(Generic[Waiting]):
    """`add_mask` and `add` from any thread; each pair of one stamp is told once."""

    def __init__(self, matched: Callable[[Waiting, Mask], None]) -> None:
        """`matched(item, mask)` is called by whoever brought the later half."""
        self._matched = matched
        self._lock = threading.Lock()
        self._masks: dict[int, Mask] = {}
        self._items: dict[int, Waiting] = {}

    def add_mask(self, stamp_ns: int, mask: Mask) -> None:
        """mask: (H, W) bool, true on the object."""
        with self._lock:
            item = self._items.pop(stamp_ns, None)
            if item is None:
                _keep(self._masks, stamp_ns, mask)
        if item is not None:
            self._matched(item, mask)

    def add(self, stamp_ns: int, item: Waiting) -> None:
        """What the mask of that stamp is wanted for."""
        with self._lock:
            mask = self._masks.pop(stamp_ns, None)
            if mask is None:
                _keep(self._items, stamp_ns, item)
        if mask is not None:
            self._matched(item, mask)

    def clear(self) -> None:
        """Forgets what waits."""
        with self._lock:
            self._masks.clear()
            self._items.clear()


Kept = TypeVar("Kept")


def _keep(waiting: dict[int, Kept], stamp_ns: int, item: Kept) -> None:
    waiting[stamp_ns] = item
    while len(waiting) > KEPT:
        del waiting[next(iter(waiting))]
