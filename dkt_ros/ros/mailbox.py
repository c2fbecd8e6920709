"""A mailbox that holds one item, the latest. Knows threads; nothing of frames, ROS or inference.

Stands between the executor thread, which files, and the inference worker, which takes: whoever is
slow never makes the other queue.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """One slot. `put` replaces what nobody has taken yet, `take` waits for something to come."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Files `item`; returns whether it replaced one that nobody had taken.

        A closed mailbox takes nothing and returns False.
        """
        with self._condition:
            if self._closed:
                return False
            replaced = self._item is not None
            self._item = item
            self._condition.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> Item | None:
        """The item, which then is the taker's; None after `timeout_s` or once the box is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            return item

    def wait_closed(self, timeout_s: float) -> bool:
        """Sleeps until the box is closed, `timeout_s` at most; returns whether it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._closed, timeout_s)

    def close(self) -> None:
        """Drops what lies in the box, wakes all takers, and takes nothing from now on."""
        with self._condition:
            self._item = None
            self._closed = True
            self._condition.notify_all()
