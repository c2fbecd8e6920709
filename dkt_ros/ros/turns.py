"""Who may compute now, where cameras share one network. Knows threads; nothing of frames."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_S = 0.1


class Turns:
    """One turn at a time, in the order in which they are asked for.

    Whoever asks again at once stands behind all who wait, so that a fast camera takes nothing from
    a slow one.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._asked: deque[object] = deque()

    @contextmanager
    def turn(self, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Within it, this thread alone computes; False: it was no longer wanted, amid the wait."""
        ticket = object()
        with self._condition:
            self._asked.append(ticket)
            while not (is_first := self._asked[0] is ticket) and is_wanted():
                self._condition.wait(_LOOK_S)
        try:
            yield is_first
        finally:
            with self._condition:
                self._asked.remove(ticket)
                self._condition.notify_all()
