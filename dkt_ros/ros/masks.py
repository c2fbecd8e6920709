"""Object masks and depth of one stamp, whichever comes first. Knows stamps; nothing of nodes.

A segmenter sees the colour image that the depth is made from: its mask has that image's stamp and
comes before the depth or after it. Both sides wait here for each other, the newest few of each.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Waiting = TypeVar("Waiting")
Mask = npt.NDArray[np.bool_]

KEPT = 8
"""Of each side; depth of 1280x720 with its colours has 6 MB."""
LET_GO = 300
"""Newest stamps of what waited for a mask in vain, by which masks that come too late are known."""


class Masks(Generic[Waiting]):
    """`add_mask` and `add` from any thread; each pair of one stamp is told once."""

    def __init__(
        self,
        matched: Callable[[Waiting, Mask], None],
        missed: Callable[[bool], None] = lambda too_late: None,
    ) -> None:
        """`matched(item, mask)` is called by whoever brought the later half.

        `missed(too_late)` as long as KEPT masks in a row or more have met nothing: it came and was
        let go before its mask did, or has never come.
        """
        self._matched = matched
        self._missed = missed
        self._let_go: deque[int] = deque(maxlen=LET_GO)
        self._in_vain = 0
        self._lock = threading.Lock()
        self._masks: dict[int, Mask] = {}
        self._items: dict[int, Waiting] = {}

    def add_mask(self, stamp_ns: int, mask: Mask) -> None:
        """mask: (H, W) bool, true on the object."""
        with self._lock:
            item = self._items.pop(stamp_ns, None)
            dropped = [] if item is not None else _keep(self._masks, stamp_ns, mask)
            self._in_vain = 0 if item is not None else self._in_vain + len(dropped)
            missed = bool(dropped) and self._in_vain >= KEPT
            too_late = any(one in self._let_go for one in dropped)
        if item is not None:
            self._matched(item, mask)
        if missed:
            self._missed(too_late)

    def add(self, stamp_ns: int, item: Waiting) -> None:
        """What the mask of that stamp is wanted for."""
        with self._lock:
            mask = self._masks.pop(stamp_ns, None)
            if mask is None:
                self._let_go.extend(_keep(self._items, stamp_ns, item))
            else:
                self._in_vain = 0
        if mask is not None:
            self._matched(item, mask)

    def clear(self) -> None:
        """Forgets what waits."""
        with self._lock:
            self._masks.clear()
            self._items.clear()
            self._let_go.clear()
            self._in_vain = 0


Kept = TypeVar("Kept")


def _keep(waiting: dict[int, Kept], stamp_ns: int, item: Kept) -> list[int]:
    """Adds it; the stamps of what has to go for it."""
    waiting[stamp_ns] = item
    gone = list(waiting)[: max(0, len(waiting) - KEPT)]
    for stamp in gone:
        del waiting[stamp]
    return gone
