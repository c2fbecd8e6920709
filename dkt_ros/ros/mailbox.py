"""A mailbox that holds the latest items, as a rule one. Knows threads; nothing of frames or ROS.

Stands between the executor thread, which files, and the inference worker, which takes: whoever is
slow never makes the other wait, and what lies here never grows beyond what fits.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """`put` drops the oldest item where there is no room, `take` waits for something to come."""

    def __init__(self, capacity: int = 1) -> None:
        """`capacity` is how many items may lie here, at least 1."""
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, expected 1 or more")
        self._condition = threading.Condition()
        self._items: deque[Item] = deque(maxlen=capacity)
        self._closed = False

    def put(self, item: Item) -> bool:
        """Files `item`; returns whether the oldest one, which nobody had taken, gave way to it.

        A closed mailbox takes nothing and returns False.
        """
        with self._condition:
            if self._closed:
                return False
            is_full = len(self._items) == self._items.maxlen
            self._items.append(item)
            self._condition.notify()
            return is_full

    @property
    def is_open(self) -> bool:
        """Whether it takes anything."""
        return not self._closed

    def wait(self) -> bool:
        """Waits until something lies here, which is left here; False once the box is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed)
            return not self._closed

    def take(self, timeout_s: float | None = None) -> Item | None:
        """The oldest item, now the taker's; None after `timeout_s` or once the box is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._items.popleft() if self._items else None

    def drop(self, keep: int = 0) -> int:
        """Drops all items but so many of the newest; returns how many were dropped."""
        with self._condition:
            count = max(0, len(self._items) - keep)
            for _ in range(count):
                self._items.popleft()
            return count

    def wait_closed(self, timeout_s: float) -> bool:
        """Sleeps until the box is closed, `timeout_s` at most; returns whether it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._closed, timeout_s)

    def close(self) -> None:
        """Drops what lies in the box, wakes all takers, and takes nothing from now on."""
        with self._condition:
            self._items.clear()
            self._closed = True
            self._condition.notify_all()
