"""The inference thread: takes the next observation, has its depth estimated, hands it on.

Knows a mailbox, an estimator and a callback; nothing of ROS or the network. A failure is named,
waited out and tried again on a newer frame: old depth never goes out under a new stamp.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from dkt_ros.errors import place_of
from dkt_ros.estimator import DepthEstimate
from dkt_ros.frames import Frame
from dkt_ros.messages.observation import Observation
from dkt_ros.predict.predictor import InferenceCancelledError
from dkt_ros.ros.mailbox import Mailbox
from dkt_ros.ros.turns import Turns

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0


class Estimator(Protocol):
    """The part of DepthEstimator that the worker uses."""

    def push(self, frame: Frame) -> DepthEstimate | None:
        """Depth of this frame, None where a stream has none for it."""

    def reset(self) -> None:
        """Forgets the stream so far."""


class WorkerState(Enum):
    """What the inference thread is doing."""

    STOPPED = "stopped"
    WAITING = "waiting for a frame"
    INFERRING = "inferring"
    DEGRADED = "degraded"


@dataclass(frozen=True)
class WorkerStatus:
    """What diagnostics tell of the worker.

    failures   failures of late; 0 once enough frames in a row have succeeded
    error      the last failure's text, "" when there was none since then
    retry_s    seconds waited after that failure before the next try
    busy_s     for how long it has been at a frame, since its turn came; 0 at none
    """

    state: WorkerState = WorkerState.STOPPED
    failures: int = 0
    error: str = ""
    retry_s: float = 0.0
    busy_s: float = 0.0


class InferenceWorker:
    """One thread between a mailbox and a callback, from start() to stop()."""

    def __init__(
        self,
        mailbox: Mailbox[Observation],
        estimator: Estimator,
        publish: Callable[[Observation, DepthEstimate], None],
        failed: Callable[[str, str], None],
        recover: Callable[[], None],
        *,
        took: Callable[[float, float], None],
        proof_frames: int,
        let_go: Callable[[int], None],
        turns: Turns,
        decode: Callable[[Observation], Frame | None] = lambda observation: observation.decode(),
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        """`publish` gets each estimate, in the worker's thread.

        `failed(cause, text)` gets each failure; `recover` is called after one, to free what the
        failed inference may have left behind. `took(seconds, ended_s)` gets the time that each
        frame without a failure kept the thread busy, until time.monotonic() was `ended_s`.
        `proof_frames`: how many frames after a reset the estimator needs the most that it ever
        does; so many in a row have to succeed after a failure, or as many as it took to fail, for
        it to be over. `decode` gives an observation's frame, None where it is damaged, which is no
        failure. `let_go(count)` is told of observations that became old during its wait. `turns`:
        with whom it shares the network; an observation is taken when its turn has come.
        """
        self._mailbox = mailbox
        self._estimator = estimator
        self._publish = publish
        self._failed = failed
        self._recover = recover
        self._first_retry_s = first_retry_s
        self._took = took
        self._proof_frames = proof_frames
        self._decode = decode
        self._let_go = let_go
        self._turns = turns
        self._succeeded = 0  # frames in a row
        self._required = 0  # of them, for the last failure to be over
        self._epoch: int | None = None
        self._status = WorkerStatus()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="dkt_inference", daemon=True)

    @property
    def status(self) -> WorkerStatus:
        """The state at this moment."""
        since = self._busy_since
        busy_s = 0.0 if since is None else time.monotonic() - since
        return replace(self._status, busy_s=busy_s)

    def start(self) -> None:
        """Begins to take observations."""
        self._status = WorkerStatus(WorkerState.WAITING)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Closes the mailbox and waits for the thread to end; returns whether it has."""
        self._mailbox.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._mailbox.wait():
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 telling of a failure may fail; the thread lives on
                text = f"inference failed: {_describe(error)}"
                self._status = WorkerStatus(WorkerState.DEGRADED, 1, text, self._first_retry_s)
                self._epoch = None  # whatever the estimator holds is forgotten
                self._mailbox.wait_closed(self._first_retry_s)
        self._status = WorkerStatus(WorkerState.STOPPED)

    def _work(self) -> None:
        began_s = time.monotonic()
        try:
            if self._work_on_next():
                ended_s = time.monotonic()
                self._took(ended_s - began_s, ended_s)
        finally:
            self._busy_since = None

    def _work_on_next(self) -> bool:
        """Whether there was one and it went without a failure."""
        try:
            with self._turns.turn(lambda: self._mailbox.is_open) as is_ours:
                self._busy_since = time.monotonic()
                observation = self._mailbox.take(0.0) if is_ours else None
                frame = None if observation is None else self._decode(observation)
                if observation is None or frame is None:
                    return False
                if self._status.state is not WorkerState.DEGRADED:
                    self._status = replace(self._status, state=WorkerState.INFERRING)
                if self._epoch != observation.epoch:
                    self._estimator.reset()
                    self._epoch = observation.epoch
                estimate = self._estimator.push(frame)
        except InferenceCancelledError:
            return False
        except BaseException as error:  # noqa: BLE001 whatever an engine raises, a library's exit too
            cause, text = _named(error)
        else:
            self._succeeded += 1
            error_text = "" if estimate is None else self._hand_on(observation, estimate)
            # The first frames of a stream cost little: that they succeed says nothing of the rest.
            if self._status.failures == 0 or self._succeeded >= self._required:
                self._status = WorkerStatus(WorkerState.WAITING, error=error_text)
            return not error_text
        # Here the exception is gone, and with it the tensors that its traceback held.
        self._fail(cause, text)
        return False

    def _hand_on(self, observation: Observation, estimate: DepthEstimate) -> str:
        """What went wrong in it, "" if nothing."""
        try:
            self._publish(observation, estimate)
        except Exception as error:  # noqa: BLE001 a filter or the middleware may fail; depth goes on
            text = f"publishing failed: {_describe(error)}"
            self._failed("publishing failed", text)
            return text
        return ""

    def _fail(self, cause: str, text: str) -> None:
        self._busy_since = None
        failures = self._status.failures + 1
        reached = min(self._succeeded + 1, self._proof_frames)
        self._required = reached if failures == 1 else max(self._required, reached)
        self._succeeded = 0
        retry_s = self._status.retry_s * 2 if failures > 1 else self._first_retry_s
        retry_s = min(retry_s, LONGEST_RETRY_S)
        self._status = WorkerStatus(WorkerState.DEGRADED, failures, text, retry_s)
        self._failed(cause, f"{text}; trying again in {retry_s:g} s")
        try:
            self._estimator.reset()
            self._recover()
        except Exception as error:  # noqa: BLE001 a broken device fails here too; the thread lives on
            self._failed("recovery failed", f"recovery failed: {_describe(error)}")
        self._mailbox.wait_closed(retry_s)
        self._let_go(self._mailbox.drop(keep=1))


def _named(error: BaseException) -> tuple[str, str]:
    """Cause and text of a failed inference."""
    # torch.cuda.OutOfMemoryError goes by its name, so that torch need not be known here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        remedy = "set a smaller inference_size or, in mode exact, fewer buffer_frames"
        return "out of memory", f"out of memory: {_describe(error)}; {remedy}"
    return "inference failed", f"inference failed: {_describe(error)}"


def _describe(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text + place_of(error)
