"""`python -m dkt_ros.child PARENT MODULE ...`: a module, run until its parent process ends.

However that ends: of its own accord, interrupted, terminated or killed. Linux sees to it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(module: str, *words: str) -> list[str]:
    """To be started from a thread that lasts as long as the process is wanted."""
    return [sys.executable, "-m", __name__, str(os.getpid()), module, *words]


def main() -> None:
    """SIGTERM is what it gets then."""
    parent, *sys.argv = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(parent):  # it may have ended meanwhile
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
