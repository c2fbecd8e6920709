"""Object masks and depth of one stamp, whichever comes first. Knows stamps; nothing of nodes.

A segmenter sees the colour image that the depth is made from: its mask has that image's stamp and
comes before the depth, by seconds where the network is slow, or after it. Both sides wait here for
each other, the newest of each.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from dkt_ros.messages.synchronizer import LONGEST_WAIT_S, MOST_WAITING

Waiting = TypeVar("Waiting")
Mask = npt.NDArray[np.bool_]

KEPT = 8
"""Of depth, which with all that it was made from has some 15 MB of 1280x720; as in synchronizer
more where they span no longer than LONGEST_WAIT_S and are no more than MOST_WAITING."""
LET_GO = 300
"""Newest stamps of what waited for a mask in vain, by which masks that come too late are known."""
KEPT_MASKS = 128
"""Four seconds of a camera at 30 Hz; 15 MB of 1280x720, packed."""


class Masks(Generic[Waiting]):
    """`add_mask` and `add` from any thread; each pair of one stamp is told once."""

    def __init__(
        self,
        matched: Callable[[Waiting, Mask], None],
        missed: Callable[[bool], None] = lambda too_late: None,
    ) -> None:
        """`matched(item, mask)` is called by whoever brought the later half.

        `missed(too_late)` with each mask where KEPT or more wait for what is past, though several
        came whose stamps lie between theirs, or KEPT_MASKS for anything: it came and was let go
        before its mask did, or has never come.
        """
        self._matched = matched
        self._missed = missed
        self._let_go: deque[int] = deque(maxlen=LET_GO)
        self._newest: int | None = None
        self._in_vain = 0  # depth in a row
        self._lock = threading.Lock()
        self._masks: dict[int, _Packed] = {}
        self._items: dict[int, Waiting] = {}

    def add_mask(self, stamp_ns: int, mask: Mask) -> None:
        """mask: (H, W) bool, true on the object."""
        with self._lock:
            item = self._items.pop(stamp_ns, None)
            if item is not None:
                self._forget_before(stamp_ns)
            else:
                self._masks[stamp_ns] = _Packed.of(mask)
                if len(self._masks) > KEPT_MASKS:
                    del self._masks[next(iter(self._masks))]
            past = [one for one in self._masks if self._newest is not None and one < self._newest]
            is_full = len(self._masks) == KEPT_MASKS and self._in_vain > 1
            missed = item is None and (is_full or (len(past) >= KEPT and self._passed_by(past)))
            too_late = missed and any(one in self._let_go for one in past)
        if item is not None:
            self._matched(item, mask)
        if missed:
            self._missed(too_late)

    def add(self, stamp_ns: int, item: Waiting) -> None:
        """What the mask of that stamp is wanted for."""
        with self._lock:
            self._newest = stamp_ns
            self._in_vain += 1
            mask = self._masks.pop(stamp_ns, None)
            if mask is None:
                self._items[stamp_ns] = item
                self._let_go_oldest(stamp_ns)
            else:
                self._forget_before(stamp_ns)
        if mask is not None:
            self._matched(item, mask.whole())

    def clear(self) -> None:
        """Forgets what waits."""
        with self._lock:
            self._masks.clear()
            self._items.clear()
            self._let_go.clear()
            self._newest = None
            self._in_vain = 0

    def _let_go_oldest(self, newest_ns: int) -> None:
        while (number := len(self._items)) > KEPT:
            oldest_ns = next(iter(self._items))
            # In a loop the oldest is the later one.
            if number <= MOST_WAITING and abs(newest_ns - oldest_ns) <= LONGEST_WAIT_S * 1e9:
                return
            del self._items[oldest_ns]
            self._let_go.append(oldest_ns)

    def _passed_by(self, past: list[int]) -> bool:
        """Whether more than one met none of these masks, the oldest and newest of them about it.

        Of depth that is rare many masks lie between two, and may all come at once.
        """
        oldest, newest = min(past), max(past)
        return sum(oldest < one < newest for one in (*self._let_go, *self._items)) > 1

    def _forget_before(self, stamp_ns: int) -> None:
        """What met nothing until one has met that is newer."""
        self._in_vain = 0
        for one in [one for one in self._masks if one < stamp_ns]:
            del self._masks[one]


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
