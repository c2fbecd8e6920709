"""SIGINT and SIGTERM while Blender renders, which prints a KeyboardInterrupt and goes on.

Knows signals, and how what a render must not leave behind is called. Knows nothing of Blender.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def scratch_prefix() -> str:
    """What this process's folders of temporary pictures are called."""
    return f"dkt_synth_{os.getpid()}_"


@contextmanager
def ended_by_interrupt(last: Callable[[], None]) -> Iterator[None]:
    """Within it SIGINT and SIGTERM end the process at once, with status 130 and 143, after `last`.

    A thread of its own does so: the main one may be in Blender's C code for minutes. Enter it in
    the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in _SIGNALS:
                try:
                    last()
                finally:
                    os._exit(128 + number[0])

    watcher = threading.Thread(target=watch, name="dkt-interrupt", daemon=True)
    watcher.start()
    handlers = [(one, signal.signal(one, lambda *_: None)) for one in _SIGNALS]
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for one, handler in handlers:
            signal.signal(one, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)
