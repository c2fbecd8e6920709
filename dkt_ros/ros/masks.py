"""Object masks and depth of one stamp, whichever comes first. Knows stamps; nothing of nodes.

A segmenter sees the colour image that the depth is made from: its mask has that image's stamp and
comes before the depth, by seconds where the network is slow, or after it. Both sides wait here for
each other, the newest of each.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Waiting = TypeVar("Waiting")
Mask = npt.NDArray[np.bool_]

KEPT = 8
"""Of depth, which with the colours of 1280x720 has 6 MB."""
KEPT_MASKS = 128
"""Four seconds of a camera at 30 Hz; 15 MB of 1280x720, packed."""


class Masks(Generic[Waiting]):
    """`add_mask` and `add` from any thread; each pair of one stamp is told once."""

    def __init__(self, matched: Callable[[Waiting, Mask], None]) -> None:
        """`matched(item, mask)` is called by whoever brought the later half."""
        self._matched = matched
        self._lock = threading.Lock()
        self._masks: dict[int, _Packed] = {}
        self._items: dict[int, Waiting] = {}

    def add_mask(self, stamp_ns: int, mask: Mask) -> None:
        """mask: (H, W) bool, true on the object."""
        with self._lock:
            item = self._items.pop(stamp_ns, None)
            if item is None:
                _keep(self._masks, stamp_ns, _Packed.of(mask), KEPT_MASKS)
        if item is not None:
            self._matched(item, mask)

    def add(self, stamp_ns: int, item: Waiting) -> None:
        """What the mask of that stamp is wanted for."""
        with self._lock:
            mask = self._masks.pop(stamp_ns, None)
            if mask is None:
                _keep(self._items, stamp_ns, item, KEPT)
        if mask is not None:
            self._matched(item, mask.whole())

    def clear(self) -> None:
        """Forgets what waits."""
        with self._lock:
            self._masks.clear()
            self._items.clear()


@dataclass(frozen=True, eq=False)
class _Packed:
    """A mask, a bit a pixel."""

    bits: npt.NDArray[np.uint8]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, mask: Mask) -> _Packed:
        return cls(np.packbits(mask), mask.shape)

    def whole(self) -> Mask:
        count = math.prod(self.shape)
        return np.unpackbits(self.bits, count=count).reshape(self.shape).astype(bool)


Kept = TypeVar("Kept")


def _keep(waiting: dict[int, Kept], stamp_ns: int, item: Kept, most: int) -> None:
    waiting[stamp_ns] = item
    while len(waiting) > most:
        del waiting[next(iter(waiting))]
