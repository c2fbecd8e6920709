"""What becomes of a recording, and the exit code that says so to a script."""

from __future__ import annotations

from enum import Enum

from dkt_ros.errors import DktError


class Outcome(Enum):
    """Name in the manifest; `code` is the exit status of `dkt process`."""

    DONE = "done"
    INCOMPLETE = "done, but part of the recording could not be used"
    NO_CAMERA_INFO = "no camera_info"
    NO_DEPTH = "no raw depth"
    NO_COLOR = "no colour"
    SEVERAL_CAMERAS = "several cameras"
    EMPTY = "empty"
    NOT_A_RECORDING = "not a recording"
    NOTHING_USABLE = "no frame could be used"
    FAILED = "inference failed"
    NOT_WRITTEN = "output cannot be written"
    OUTPUT_EXISTS = "output exists"
    WORKER_DIED = "worker process died"
    NO_DEPTH_MADE = "done, but no frame has depth"

    @property
    def code(self) -> int:
        """Exit status: 0 done, 3 incomplete, then in the order above."""
        return 0 if self is Outcome.DONE else list(Outcome).index(self) + 2

    @property
    def succeeded(self) -> bool:
        """Whether there is an output."""
        return self in (Outcome.DONE, Outcome.INCOMPLETE, Outcome.NO_DEPTH_MADE)


SOME_FAILED = 1
"""Exit status where of several recordings some failed."""


class ProcessingError(DktError):
    """Why a recording has no output."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome

    def __reduce__(self) -> tuple[type[ProcessingError], tuple[Outcome, str]]:
        return ProcessingError, (self.outcome, str(self))


def exit_status(outcomes: list[Outcome]) -> int:
    """Of a run over recordings: one failure's own code, SOME_FAILED for several recordings."""
    failed = [outcome for outcome in outcomes if not outcome.succeeded]
    if failed:
        return failed[0].code if len(outcomes) == 1 else SOME_FAILED
    return max((outcome.code for outcome in outcomes), default=0)
