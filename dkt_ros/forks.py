"""Threads that a fork does not copy, and that whoever computes in it would wait for forever.

Knows processes and torch's number of threads, where anything has imported torch. Knows nothing of
what is computed.
"""

from __future__ import annotations

import os
import sys

from dkt_ros.errors import DktError

_process: int | None = None


def note_process() -> None:
    """Remembers the process that computes, for those that are forked from it."""
    global _process
    _process = _process or os.getpid()


def check_process(threads: int = 0) -> None:
    """Raises DktError in a fork of a process that computes. threads: of torch; 0: as it has now."""
    if _process not in (None, os.getpid()) and (threads or _threads()) > 1:
        raise DktError(
            f"process {os.getpid()} was forked from {_process}, which computes with several "
            "threads, and would wait forever for threads that a fork does not copy: expected a "
            "spawned process (multiprocessing.get_context('spawn')), or an estimator loaded in "
            "the fork with cpu_threads=1"
        )


def _threads() -> int:
    torch = sys.modules.get("torch")
    return 1 if torch is None else torch.get_num_threads()
