"""Child processes that never outlive their parent unseen: logs, failures, an orderly end.

Knows processes and DDS' environment. Knows nothing of what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import dkt_ros
from dkt_ros.errors import DktError
from dkt_ros.ros.probe import profile_variable

if TYPE_CHECKING:
    from typing_extensions import Self

_POLL_S = 0.05
_TAIL_LINES = 15
_STOP_TIMEOUT_S = 10.0
_FAST_DDS_PROFILE = Path(dkt_ros.__file__).parent / "assets" / "demo" / "fastdds_local.xml"


def heed_interrupts() -> None:
    """For a new child: a shell that began its parent in the background has both ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class ProcessGroup:
    """Named children with a log file each; leaving the block ends all of them.

    Children get sessions of their own: an interrupt at the terminal reaches the parent alone, which
    then ends them in turn.
    """

    def __init__(self, log_folder: Path, environment: Mapping[str, str]) -> None:
        self._log_folder = log_folder
        self._environment = {**os.environ, **environment}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        log_folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        running = [child for child in self._children.values() if child.poll() is None]
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for child in running:
                _signal_session(child, stop)
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            # Who presses Ctrl-C again wants a harsher signal, not orphans.
            with contextlib.suppress(KeyboardInterrupt):
                while any(c.poll() is None for c in running) and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
            running = [child for child in running if child.poll() is None]
            if not running:
                return

    def start(self, name: str, command: Sequence[str]) -> None:
        """Starts a child; what it prints goes into `<log folder>/<name>.log`."""
        with self._log(name).open("wb") as log:
            self._children[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )

    def interrupt(self, name: str) -> None:
        """What Ctrl-C would do to it."""
        _signal_session(self._children[name], signal.SIGINT)

    def log_text(self, name: str) -> str:
        """What it has printed so far."""
        return self._log(name).read_text(errors="replace")

    def wait_for(
        self, done: Callable[[], bool], what: str, *, may_end: Sequence[str] = (), timeout_s: float
    ) -> None:
        """Returns once `done`.

        Raises DktError, with the end of the log, as soon as a child fails or one ends that is not
        among `may_end`; and after `timeout_s`, naming `what` did not come.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            self._check(may_end)
            if time.monotonic() > deadline:
                tails = "\n".join(self.tail(name) for name in self._children)
                raise DktError(f"no {what} after {timeout_s:.0f} s\n{tails}")
            time.sleep(_POLL_S)
        self._check(may_end)

    def has_ended(self, name: str) -> bool:
        """Whether the child runs no more."""
        return self._children[name].poll() is not None

    def tail(self, name: str) -> str:
        """The end of what it has printed."""
        lines = self.log_text(name).splitlines()[-_TAIL_LINES:]
        return "\n".join([f"--- {self._log(name)}", *(lines or ["(printed nothing)"])])

    def _check(self, may_end: Sequence[str]) -> None:
        for name, child in self._children.items():
            status = child.poll()
            if status or (status == 0 and name not in may_end):
                raise DktError(f"{name} ended with status {status}\n{self.tail(name)}")

    def _log(self, name: str) -> Path:
        return self._log_folder / f"{name}.log"


def local_dds_environment(domain_id: int) -> dict[str, str]:
    """Variables under which ROS processes find each other on this machine and nobody else's.

    Without multicast, as in many containers, they find each other through the static peer alone.
    Fast DDS gets a profile whose shared memory holds images; other middlewares do not look at it.
    """
    is_humble = os.environ.get("ROS_DISTRO") == "humble"
    return {
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_LOCALHOST_ONLY": "1" if is_humble else "0",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_STATIC_PEERS": "127.0.0.1",
        profile_variable(): str(_FAST_DDS_PROFILE),
    }


def _signal_session(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself since
        os.killpg(child.pid, number)
