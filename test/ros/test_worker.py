"""The inference thread publishes what succeeds, names what fails, and always ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from fixtures.waiting import PATIENCE_S, eventually
from sensor_msgs.msg import CameraInfo, Image

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.estimator import DepthEstimate
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.observation import Observation
from dkt_ros.predict.predictor import InferenceCancelledError
from dkt_ros.ros.mailbox import Mailbox
from dkt_ros.ros.turns import Turns
from dkt_ros.ros.worker import InferenceWorker, WorkerState, WorkerStatus

pytestmark = pytest.mark.ros


def observation(stamp_ns: int, epoch: int = 0) -> Observation:
    frame = Frame(
        rgb=np.zeros((2, 3, 3), dtype=np.uint8),
        raw_depth=None,
        intrinsics=Intrinsics(1.0, 1.0, 1.0, 1.0, 3, 2),
        stamp_ns=stamp_ns,
        frame_id="camera",
    )
    return Observation(
        lambda: frame, stamp_ns, (2, 3), CameraInfo(), epoch, time.monotonic(), Image()
    )


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


class ScriptedEstimator:
    """Fails with whatever stands first in its script; None succeeds, as does an empty script.

    Fails besides at every stream's frame number `fails_at`, as a window that grows too large does.
    """

    def __init__(self, script: list[Exception | None] | None = None) -> None:
        self.script = script or []
        self.free = threading.Event()
        self.free.set()
        self.pushed: list[int] = []
        self.resets = 0
        self.position = 0
        self.fails_at: int | None = None
        self.without_depth: set[int] = set()

    def push(self, frame: Frame) -> DepthEstimate | None:
        self.pushed.append(frame.stamp_ns)
        assert self.free.wait(PATIENCE_S)
        self.position += 1
        if self.position == self.fails_at:
            raise OutOfMemoryError("CUDA out of memory")
        if frame.stamp_ns in self.without_depth:
            return None
        failure = self.script.pop(0) if self.script else None
        if failure is not None:
            raise failure
        depth = np.ones((2, 3), dtype=np.float32)
        alignment = Alignment(1.0, 0.0, 1, 1.0, 0.0, 0.0, AlignmentState.OK, "")
        return DepthEstimate(frame, depth, depth, alignment, None, {"total": 0.0}, 1)

    def reset(self) -> None:
        self.resets += 1
        self.position = 0


class Bench:
    """A worker on scripted estimators, and what came out of it."""

    def __init__(self) -> None:
        self.mailbox: Mailbox[Observation] = Mailbox(4)
        self.let_go: list[int] = []
        self.published: list[int] = []
        self.failures: list[tuple[str, str]] = []
        self.degraded: list[WorkerStatus] = []
        self.recoveries = 0
        self.publishing_fails = False
        self.slow_s = 0.0
        self.took: list[tuple[float, float]] = []
        self.worker: InferenceWorker | None = None

    def start(
        self,
        estimator: ScriptedEstimator,
        first_retry_s: float = 0.01,
        proof_frames: int = 1,
        turns: Turns | None = None,
    ) -> InferenceWorker:
        self.worker = InferenceWorker(
            self.mailbox,
            estimator,
            self._publish,
            self._failed,
            self._recover,
            first_retry_s=first_retry_s,
            took=lambda seconds, ended_s: self.took.append((seconds, ended_s)),
            proof_frames=proof_frames,
            let_go=self.let_go.append,
            turns=turns or Turns(),
        )
        self.worker.start()
        return self.worker

    def _publish(self, observation: Observation, estimate: DepthEstimate) -> None:
        assert threading.current_thread() is not threading.main_thread()
        if self.publishing_fails:
            raise OSError("no open3d")
        assert estimate.frame is observation.decode()
        time.sleep(self.slow_s)
        self.published.append(estimate.frame.stamp_ns)

    def _failed(self, cause: str, text: str) -> None:
        assert self.worker is not None
        self.degraded.append(self.worker.status)
        self.failures.append((cause, text))

    def _recover(self) -> None:
        self.recoveries += 1


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    if bench.worker is not None:
        assert bench.worker.stop(PATIENCE_S)


def test_what_is_put_is_estimated_and_published(bench: Bench) -> None:
    worker = bench.start(ScriptedEstimator())
    for stamp in (1, 2, 3):
        bench.mailbox.put(observation(stamp))
        eventually(lambda stamp=stamp: bench.published[-1:] == [stamp])  # type: ignore[misc]
    eventually(lambda: worker.status.state is WorkerState.WAITING)
    assert bench.failures == []
    assert worker.stop(PATIENCE_S)
    assert worker.status.state is WorkerState.STOPPED


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (OutOfMemoryError("CUDA out of memory"), "out of memory", "smaller inference_size"),
        (MemoryError(), "out of memory", "fewer buffer_frames"),
        (RuntimeError("engine exploded\nlong story"), "inference failed", "engine exploded"),
        (ValueError("bad"), "inference failed", "ValueError: bad"),
    ],
)
def test_a_failure_is_named_and_retried_on_a_newer_frame(
    bench: Bench, error: Exception, cause: str, remedy: str
) -> None:
    estimator = ScriptedEstimator([error])
    worker = bench.start(estimator, first_retry_s=0.2)
    estimator.free.clear()
    bench.mailbox.put(observation(1))
    eventually(lambda: estimator.pushed == [1])
    bench.mailbox.put(observation(2))
    bench.mailbox.put(observation(3))
    estimator.free.set()
    eventually(lambda: bench.published == [3])
    eventually(lambda: worker.status.state is WorkerState.WAITING)
    assert estimator.pushed == [1, 3]
    assert estimator.resets == 2, "the estimator forgets what a failed inference left in it"
    [degraded] = bench.degraded
    assert degraded.state is WorkerState.DEGRADED
    assert degraded.failures == 1
    assert "long story" not in degraded.error
    assert bench.recoveries == 1
    assert worker.status.error == ""
    assert bench.failures[0][0] == cause
    assert remedy in bench.failures[0][1]
    assert bench.let_go == [1], "2 was old by then"
    assert "trying again in 0.2 s" in bench.failures[0][1]


def test_waits_grow_while_failures_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dkt_ros.ros.worker.LONGEST_RETRY_S", 0.05)
    estimator = ScriptedEstimator([RuntimeError("again")] * 4)
    worker = bench.start(estimator)
    waits = []
    for number in range(1, 5):
        bench.mailbox.put(observation(number))
        eventually(lambda number=number: worker.status.failures == number)  # type: ignore[misc]
        waits.append(worker.status.retry_s)
        assert worker.status.state is WorkerState.DEGRADED
    assert waits == [0.01, 0.02, 0.04, 0.05]
    assert bench.published == []


def test_a_night_of_failures_leaves_the_thread_alive(bench: Bench) -> None:
    """2 ** 1024 is no float: the wait must not be computed from the number of failures."""
    nights = 1100
    estimator = ScriptedEstimator([RuntimeError("GPU held by another process")] * nights)
    worker = bench.start(estimator, first_retry_s=0.0)
    for number in range(1, nights + 1):
        bench.mailbox.put(observation(number))
        eventually(lambda number=number: worker.status.failures == number)  # type: ignore[misc]
    bench.mailbox.put(observation(nights + 1))
    eventually(lambda: bench.published == [nights + 1])


def show(bench: Bench, stamps: range) -> None:
    """One after the other, each once the one before is done with."""
    estimator = bench.worker._estimator if bench.worker else None
    assert isinstance(estimator, ScriptedEstimator)
    for stamp in stamps:
        failures = len(bench.failures)
        bench.mailbox.put(observation(stamp))
        eventually(
            lambda stamp=stamp, failures=failures: (  # type: ignore[misc]
                bench.published[-1:] == [stamp] or len(bench.failures) > failures
            )
        )


def test_the_first_frames_of_a_stream_do_not_end_a_failure(bench: Bench) -> None:
    """Else a window that does not fit into memory would be tried twice a second for ever."""
    estimator = ScriptedEstimator()
    estimator.fails_at = 4
    worker = bench.start(estimator, proof_frames=10)
    show(bench, range(1, 13))
    assert [status.retry_s for status in bench.degraded] == [0.01, 0.02, 0.04]
    assert [status.failures for status in bench.degraded] == [1, 2, 3]
    assert bench.published == [1, 2, 3, 5, 6, 7, 9, 10, 11], "depth goes out as far as there is any"
    estimator.fails_at = None
    show(bench, range(13, 16))
    assert worker.status == bench.degraded[-1], "diagnostics go on to say so"
    show(bench, range(16, 17))
    eventually(lambda: worker.status == WorkerStatus(WorkerState.WAITING))
    estimator.fails_at = estimator.position + 1
    show(bench, range(17, 18))
    assert bench.degraded[-1].retry_s == 0.01, "it was over"


def test_a_failure_amid_others_has_none_of_them_over_sooner(bench: Bench) -> None:
    estimator = ScriptedEstimator([None, None, None, RuntimeError("another")])
    estimator.fails_at = 4
    bench.start(estimator, proof_frames=10)
    show(bench, range(1, 10))
    assert [status.retry_s for status in bench.degraded] == [0.01, 0.02, 0.04]


def test_a_late_failure_is_over_once_a_stream_is_in_full_swing(bench: Bench) -> None:
    estimator = ScriptedEstimator()
    estimator.fails_at = 9
    worker = bench.start(estimator, proof_frames=3)
    show(bench, range(1, 12))
    assert worker.status.state is WorkerState.DEGRADED
    show(bench, range(12, 13))
    eventually(lambda: worker.status == WorkerStatus(WorkerState.WAITING))


def test_failing_to_publish_does_not_hide_a_failure(bench: Bench) -> None:
    worker = bench.start(ScriptedEstimator([None, RuntimeError("first")]), proof_frames=3)
    show(bench, range(1, 3))
    bench.publishing_fails = True
    show(bench, range(3, 4))
    assert "RuntimeError: first" in worker.status.error
    assert worker.status.failures == 1


def test_stop_does_not_wait_for_a_retry(bench: Bench) -> None:
    worker = bench.start(ScriptedEstimator([RuntimeError("broken")]), first_retry_s=3600.0)
    bench.mailbox.put(observation(1))
    eventually(lambda: worker.status.state is WorkerState.DEGRADED)
    assert worker.stop(PATIENCE_S)


def test_what_is_newest_when_its_turn_comes_is_taken(bench: Bench) -> None:
    """And stopping does not wait for another camera's inference."""
    turns = Turns()
    worker = bench.start(ScriptedEstimator(), turns=turns)
    with turns.turn():
        bench.mailbox.put(observation(1))
        eventually(lambda: len(turns._asked) == 2)
        bench.mailbox.drop()
        bench.mailbox.put(observation(2))
        assert not bench.published
    eventually(lambda: bench.published == [2])
    with turns.turn():
        bench.mailbox.put(observation(3))
        eventually(lambda: len(turns._asked) == 2)
        assert worker.stop(PATIENCE_S)
    assert bench.published == [2]


def test_failing_to_publish_is_named_and_does_not_stop_inference(bench: Bench) -> None:
    estimator = ScriptedEstimator()
    worker = bench.start(estimator)
    bench.publishing_fails = True
    bench.mailbox.put(observation(1))
    eventually(lambda: bool(bench.failures))
    assert bench.failures == [("publishing failed", "publishing failed: OSError: no open3d")]
    eventually(lambda: worker.status.error == "publishing failed: OSError: no open3d")
    bench.publishing_fails = False
    bench.mailbox.put(observation(2))
    eventually(lambda: bench.published == [2])
    eventually(lambda: worker.status.error == "")
    assert worker.stop(PATIENCE_S)
    assert len(bench.took) == 1, "the time of a frame that failed tells nothing"


def test_a_new_epoch_resets_the_estimator(bench: Bench) -> None:
    estimator = ScriptedEstimator()
    bench.start(estimator)
    for stamp, epoch, resets in ((1, 0, 1), (2, 0, 1), (3, 1, 2), (4, 1, 2)):
        bench.mailbox.put(observation(stamp, epoch))
        eventually(lambda stamp=stamp: bench.published[-1:] == [stamp])  # type: ignore[misc]
        assert estimator.resets == resets


def test_a_cancelled_inference_is_no_failure(bench: Bench) -> None:
    worker = bench.start(ScriptedEstimator([InferenceCancelledError("denoise 1/5")]))
    bench.mailbox.put(observation(1))
    bench.mailbox.put(observation(2))
    eventually(lambda: bench.published == [2] or worker.status.state is WorkerState.INFERRING)
    assert worker.stop(PATIENCE_S)
    assert bench.failures == []
    assert bench.recoveries == 0


def test_the_time_of_each_frame_without_a_failure_is_told(bench: Bench) -> None:
    estimator = ScriptedEstimator([None, RuntimeError("broken")])
    estimator.without_depth = {3}
    bench.start(estimator)
    began_s = time.monotonic()
    bench.slow_s = 0.05
    bench.mailbox.put(observation(1))
    eventually(lambda: len(bench.took) == 1)
    (seconds, ended_s) = bench.took[0]
    assert 0.05 <= seconds <= ended_s - began_s
    bench.mailbox.put(observation(2))
    eventually(lambda: bool(bench.failures))
    bench.mailbox.put(observation(3))
    eventually(lambda: len(bench.took) == 2)
    assert estimator.pushed == [1, 2, 3]


@pytest.mark.parametrize("where", ["_work_on_next", "_fail"])
def test_whatever_fails_around_an_inference_does_not_end_the_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: object) -> bool:
        monkeypatch.undo()
        raise MemoryError

    estimator = ScriptedEstimator([RuntimeError("first")] if where == "_fail" else [])
    monkeypatch.setattr(InferenceWorker, where, broken)
    worker = bench.start(estimator, first_retry_s=0.1)
    bench.mailbox.put(observation(1))
    eventually(lambda: worker.status.error == "inference failed: MemoryError")
    assert worker.status.state is WorkerState.DEGRADED
    resets = estimator.resets
    bench.mailbox.put(observation(2))
    eventually(lambda: bench.published[-1:] == [2])
    assert estimator.resets > resets
    eventually(lambda: worker.status == WorkerStatus(WorkerState.WAITING))


@pytest.mark.parametrize("error", [SystemExit(3), BaseException("a panic")])
def test_a_librarys_exit_is_a_failure_like_others(bench: Bench, error: Any) -> None:
    bench.start(ScriptedEstimator([error]))
    bench.mailbox.put(observation(1))
    eventually(lambda: bool(bench.failures))
    assert bench.failures[0][0] == "inference failed"
    assert str(error) in bench.failures[0][1]
    bench.mailbox.put(observation(2))
    eventually(lambda: bench.published == [2])


def test_a_failing_recovery_does_not_end_the_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(bench, "_recover", broken)
    bench.start(ScriptedEstimator([RuntimeError("first")]))
    bench.mailbox.put(observation(1))
    eventually(lambda: len(bench.failures) == 2)
    assert bench.failures[1] == ("recovery failed", "recovery failed: RuntimeError: device lost")
    bench.mailbox.put(observation(2))
    eventually(lambda: bench.published == [2])


def test_for_how_long_it_has_been_at_a_frame_is_told(bench: Bench) -> None:
    """Of a device that hangs nothing else tells."""
    estimator, turns = ScriptedEstimator([RuntimeError("broken")]), Turns()
    estimator.free.clear()
    worker = bench.start(estimator, first_retry_s=PATIENCE_S, turns=turns)
    assert worker.status.busy_s == 0.0
    with turns.turn():
        bench.mailbox.put(observation(1))
        time.sleep(0.02)
        assert worker.status.busy_s == 0.0, "another's turn is none of its own"
    eventually(lambda: worker.status.busy_s > 0.02)
    assert worker.status.state is WorkerState.INFERRING
    estimator.free.set()
    eventually(lambda: worker.status.state is WorkerState.DEGRADED)
    assert worker.status.busy_s == 0.0, "it waits, and hangs in nothing"


def test_a_frame_without_depth_is_no_failure(bench: Bench) -> None:
    estimator = ScriptedEstimator([RuntimeError("once")])
    estimator.without_depth = {2}
    worker = bench.start(estimator)
    bench.mailbox.put(observation(1))
    eventually(lambda: worker.status.state is WorkerState.DEGRADED)
    bench.mailbox.put(observation(2))
    eventually(lambda: estimator.pushed == [1, 2])
    eventually(lambda: worker.status.state is WorkerState.WAITING)
    assert worker.status.failures == 0
    bench.mailbox.put(observation(3))
    eventually(lambda: bench.published == [3])
    assert len(bench.failures) == 1
