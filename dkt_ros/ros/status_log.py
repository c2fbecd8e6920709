"""Diagnostics for those who only read the log: says when a part of the node changes its level.

Knows statuses and a way to log; nothing of what the parts are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from diagnostic_msgs.msg import DiagnosticStatus

PAUSE_S = 5.0
"""A level that flickers is logged no more often than this."""

Log = Callable[[str], None]


class StatusLog:
    """Remembers each status's level as it was last logged."""

    def __init__(
        self, info: Log, warning: Log, error: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logs = {
            DiagnosticStatus.OK: info,
            DiagnosticStatus.WARN: warning,
            DiagnosticStatus.ERROR: error,
        }
        self._clock = clock
        self._logged: dict[str, tuple[bytes, float]] = {}

    def note(self, statuses: Iterable[DiagnosticStatus], known: Collection[str] = ()) -> None:
        """Logs what has changed its level; messages in `known` are in the log already.

        A status that was always OK is not worth a word, nor is a stale one: another says why.
        """
        now = self._clock()
        for status in statuses:
            level, since = self._logged.get(status.name, (DiagnosticStatus.OK, float("-inf")))
            if status.level == level or status.level not in self._logs or now - since < PAUSE_S:
                continue
            self._logged[status.name] = (status.level, now)
            if status.message not in known:
                part = status.name.rpartition(": ")[2]
                self._logs[status.level](f"{part}: {status.message}")
