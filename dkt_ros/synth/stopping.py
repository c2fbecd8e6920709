"""Ctrl-C while Blender renders, which prints a KeyboardInterrupt and goes on.

Knows signals. Knows nothing of what is rendered.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def ended_by_interrupt(last: Callable[[], None]) -> Iterator[None]:
    """Within it SIGINT ends the process at once, with status 130, after calling `last`.

    A thread of its own does so: the main one may be in Blender's C code for minutes. Enter it in
    the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] == signal.SIGINT:
                try:
                    last()
                finally:
                    os._exit(INTERRUPTED)

    watcher = threading.Thread(target=watch, name="dkt-interrupt", daemon=True)
    watcher.start()
    handler = signal.signal(signal.SIGINT, lambda *_: None)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, handler)
        os.close(writer)
        watcher.join()
        os.close(reader)
