"""Diagnostics for those who only read the log: says when the state of a part changes.

Knows statuses and a way to log; nothing of what the parts are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from diagnostic_msgs.msg import DiagnosticStatus

from dkt_ros.wording import kind_of

PAUSE_S = 5.0
"""What flickers is logged no more often than this."""

Log = Callable[[str], None]

_ALL_WELL = (DiagnosticStatus.OK, "")


class StatusLog:
    """Remembers what was last logged of each status: its level, and its message but for numbers."""

    def __init__(
        self, info: Log, warning: Log, error: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logs = {
            DiagnosticStatus.OK: info,
            DiagnosticStatus.WARN: warning,
            DiagnosticStatus.ERROR: error,
        }
        self._clock = clock
        self._logged: dict[str, tuple[tuple[bytes, str], float]] = {}

    def note(self, statuses: Iterable[DiagnosticStatus], known: Collection[str] = ()) -> None:
        """Logs what has changed; messages that begin with one of `known` are in the log already.

        That all is well is worth a word only after trouble, and staleness none: another status
        says where it comes from.
        """
        now = self._clock()
        for status in statuses:
            if status.level not in self._logs:
                continue
            is_ok = status.level == DiagnosticStatus.OK
            kind = (status.level, "" if is_ok else kind_of(status.message))
            last, since = self._logged.get(status.name, (_ALL_WELL, float("-inf")))
            if kind == last or now - since < PAUSE_S:
                continue
            self._logged[status.name] = (kind, now)
            if not status.message.startswith(tuple(known)):
                part = status.name.rpartition(": ")[2]
                self._logs[status.level](f"{part}: {status.message}")
