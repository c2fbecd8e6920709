"""Being told to stop: a signal is remembered; asked again later, the process ends as usual.

Knows signals. Knows nothing of what has to be finished first.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TOGETHER_S = 3.0
"""Signals this close are one request: a launcher passes on what the terminal sent to all."""


class StopRequest:
    """Within `with`, SIGINT (Ctrl-C) and SIGTERM set `signal` instead of ending the process."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set handlers; elsewhere whoever runs it decides.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = number, now
        elif now - self._since > _TOGETHER_S:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
