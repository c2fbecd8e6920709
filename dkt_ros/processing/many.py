"""Many recordings: worker processes, a second try for a worker that died, the manifest."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimator, load_estimator
from dkt_ros.files import only_process, write_whole
from dkt_ros.fusion.weights import refiner_state
from dkt_ros.predict.load import network_state
from dkt_ros.processing.figures import plain
from dkt_ros.processing.find_sources import MANIFEST, Recording
from dkt_ros.processing.one import Progress, discard, process_one, tidy
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError

_log = logging.getLogger(__name__)

TRIES = 2
"""Of a recording whose worker process dies; the second goes on where the first came to."""

Runner = Callable[[Sequence[Recording], ProcessOptions, Path, int, Progress], Iterator["Result"]]
"""run(recordings, options, output, tries, progress): their results, in whatever order."""


@dataclass(frozen=True)
class Result:
    """What became of a recording. summary: of its output; error: why it has none."""

    recording: Recording
    outcome: Outcome
    summary: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def entry(self) -> dict[str, Any]:
        """Of the manifest."""
        shown = ("frames", "answered", "elapsed_s", "times_real_time", "lost", "states")
        return {
            "recording": str(self.recording.path),
            "clip": self.recording.clip,
            "outcome": self.outcome.value,
            **({"error": self.error} if self.error else {}),
            **{key: self.summary[key] for key in shown if key in self.summary},
        }


def process_many(
    recordings: Sequence[Recording],
    options: ProcessOptions,
    output: Path,
    workers: int = 1,
    progress: Progress = lambda name, done, total: None,
    tell: Callable[[Result], None] = lambda result: None,
    overwrite: bool = False,
    tries: int = TRIES,
    cluster: Runner | None = None,
) -> list[Result]:
    """Makes an output folder for each recording and OUTPUT/manifest.json of all.

    tell: gets each result when it is there. overwrite: earlier outputs of the recordings go, of
    those that can be opened. tries: of a recording whose process dies. cluster: where they are
    processed, instead of by `workers` processes here. A recording that fails does not keep the
    others from being done; what is there already is kept.
    Raises DktError where another process works in the same folder, StorageError where the folder
    cannot be written.
    """
    with only_process(output / ".lock", f"another `dkt process` writes to {output}; wait for it"):
        manifest = _Manifest(output / MANIFEST, options)
        results: dict[str, Result] = {}
        for recording in recordings if overwrite else ():
            # On a cluster it may be where it is not here.
            lost = _unopened(recording, options) if cluster is None else None
            if lost is None:
                discard(output / recording.name)
            else:
                results[recording.name] = lost
                manifest.add(lost, kept=True)
                tell(lost)
        waiting = [recording for recording in recordings if recording.name not in results]
        workers = min(workers, len(waiting))
        run = cluster or (partial(_in_workers, workers) if workers > 1 else _in_this_process)
        try:
            for result in run(waiting, options, output, tries, progress):
                results[result.recording.name] = result
                manifest.add(result)
                tell(result)
        finally:
            for recording in recordings:
                tidy(output, recording)
    return [results[recording.name] for recording in recordings]


def one_result(
    recording: Recording, options: ProcessOptions, output: Path, progress: Progress
) -> Result:
    """process_one with its errors as a result."""
    try:
        summary = process_one(recording, options, output, lambda: _estimator(options), progress)
    except ProcessingError as error:
        return Result(recording, error.outcome, error=str(error))
    except DktError as error:
        return Result(recording, Outcome.FAILED, error=str(error))
    except Exception as error:  # noqa: BLE001 - ends this recording, not the others
        _log.exception("%s", recording.path)
        text = f"{recording.path}: {type(error).__name__}: {error}"
        return Result(recording, Outcome.FAILED, error=text)
    return Result(recording, Outcome(summary["outcome"]), summary)


def _unopened(recording: Recording, options: ProcessOptions) -> Result | None:
    """Why a recording cannot be made anew, a drive that is away say; None where it can be."""
    try:
        if not recording.clip:
            recording.open(options.source)
        elif recording.place is not None and not os.path.exists(recording.place):
            raise ProcessingError(Outcome.NOT_A_RECORDING, f"{recording.place}: does not exist")
    except ProcessingError as error:
        return Result(recording, error.outcome, error=str(error))
    except Exception:  # noqa: BLE001 - it is told when the recording is processed
        return None
    return None


def default_workers(recordings: int, device: str) -> int:
    """As many processes as cores, one on a GPU."""
    from dkt_ros.predict.load import resolve_device

    if resolve_device(device).startswith("cuda"):
        return 1
    return max(1, min(recordings, len(os.sched_getaffinity(0))))


def read_manifest(path: Path) -> dict[str, Any]:
    """What an earlier run wrote: "recordings", by name, and "options". Raises DktError."""
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        content["recordings"] = {
            name: dict(entry) for name, entry in dict(content["recordings"]).items()
        }
        return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DktError(f"{path}: no manifest of `dkt process` ({error!r})") from error


class _Manifest:
    """Name -> what became of it, on the disk after each; entries of earlier runs stay.

    Also that of an output which another run would have replaced and did not.
    """

    def __init__(self, path: Path, options: ProcessOptions) -> None:
        self._path = path
        self._content: dict[str, Any] = {"recordings": {}}
        if path.exists():  # others call a file of theirs so, too
            try:
                self._content = read_manifest(path)
            except DktError as error:
                raise DktError(f"{error}; choose another --output") from error
        self._content["options"] = options.plain
        self._save()

    def add(self, result: Result, kept: bool = False) -> None:
        """kept: whether an earlier output is where it was."""
        entries, name = self._content["recordings"], result.recording.name
        stays = (kept or result.outcome is Outcome.OUTPUT_EXISTS) and name in entries
        if not stays or "error" in entries[name]:
            entries[name] = result.entry
        self._save()

    def _save(self) -> None:
        write_whole(self._path, json.dumps(plain(self._content), indent=1, allow_nan=False))


_estimators: dict[tuple[str, str | None, str | None], DepthEstimator] = {}


def _estimator(options: ProcessOptions) -> DepthEstimator:
    """Loaded once in a process, for as long as the options and the networks' files stay."""
    weights = options.estimator.fusion.weights
    kind = options.fingerprint, network_state(options.predictor), refiner_state(weights)
    if kind not in _estimators:
        _estimators.clear()
        _estimators[kind] = load_estimator(options.predictor, options.estimator)
    return _estimators[kind]


def _in_this_process(
    recordings: Sequence[Recording],
    options: ProcessOptions,
    output: Path,
    _tries: int,
    progress: Progress,
) -> Iterator[Result]:
    for recording in recordings:
        yield one_result(recording, options, output, progress)


@dataclass(eq=False)
class _Worker:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    recording: Recording | None = None


def _in_workers(
    workers: int,
    recordings: Sequence[Recording],
    options: ProcessOptions,
    output: Path,
    tries: int,
    progress: Progress,
) -> Iterator[Result]:
    if not options.predictor.cpu_threads:
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        options = replace(options, predictor=replace(options.predictor, cpu_threads=threads))
    waiting = deque(recordings)
    tried: Counter[str] = Counter()
    alive: list[_Worker] = []
    try:
        while waiting or any(worker.recording for worker in alive):
            free = sum(worker.recording is None for worker in alive)
            for _ in range(min(workers - len(alive), len(waiting) - free)):
                alive.append(_start(options, output))
            for worker in alive:
                if worker.recording is None and waiting:
                    worker.recording = waiting.popleft()
                    tried[worker.recording.name] += 1
                    with suppress(OSError):  # it has just died, as recv tells
                        worker.connection.send(worker.recording)
            by_connection = {worker.connection: worker for worker in alive}
            for connection in wait(list(by_connection)):
                worker = by_connection[connection]  # type: ignore[index]
                try:
                    told = worker.connection.recv()
                except (EOFError, OSError):
                    alive.remove(worker)
                    yield from _died(worker, tried, tries, waiting)
                    continue
                if isinstance(told, Result):
                    worker.recording = None
                    yield told
                else:
                    progress(*told)
    finally:
        for worker in alive:
            worker.connection.close()
            if worker.recording is not None:
                worker.process.terminate()
            worker.process.join()


def _died(
    worker: _Worker, tried: Counter[str], tries: int, waiting: deque[Recording]
) -> Iterator[Result]:
    worker.process.join()
    recording = worker.recording
    if recording is None:
        return
    if tried[recording.name] < tries:
        waiting.append(recording)
        return
    code = worker.process.exitcode or 0
    how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    yield given_up(recording, tries, how, "fewer --workers")


def given_up(recording: Recording, tries: int, how: str, advice: str) -> Result:
    """Of a recording whose process died every time."""
    times = "once" if tries == 1 else f"{tries} times"
    return Result(
        recording,
        Outcome.WORKER_DIED,
        error=f"{recording.path}: its process died {times} ({how}); out of memory? Take {advice}",
    )


def _start(options: ProcessOptions, output: Path) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, options, output), daemon=True)
    # A terminal's Ctrl-C is for all processes: one that still imports would print where it was.
    resource_tracker.ensure_running()  # which hears signals again once it has begun
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, options: ProcessOptions, output: Path) -> None:
    """A worker process: recordings in, progress and results out."""

    def progress(name: str, done: int, total: int) -> None:
        connection.send((name, done, total))

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        while True:
            connection.send(one_result(connection.recv(), options, output, progress))
    except (EOFError, OSError, KeyboardInterrupt):
        pass
