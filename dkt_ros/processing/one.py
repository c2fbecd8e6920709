"""One recording through the estimator: outputs in parts, resumed after a kill, whole at the end.

While it is being made the output is a folder NAME.partial; it becomes NAME when all is written.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dkt_ros.bags.from_images import NO_DEPTH
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator
from dkt_ros.files import (
    PARTIAL,
    BusyError,
    StorageError,
    flush,
    only_process,
    write_whole,
    writing,
)
from dkt_ros.messages.fields import MessageError
from dkt_ros.processing.bag_output import BagOutput, parts_folder
from dkt_ros.processing.figures import frame_figures, plain, score
from dkt_ros.processing.file_outputs import write_file
from dkt_ros.processing.find_sources import SUMMARY, Recording
from dkt_ros.processing.made_of import MadeOf
from dkt_ros.processing.messages import messages_of, typestore
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.previews import Previews
from dkt_ros.processing.run_state import RunState
from dkt_ros.processing.seal import is_sealed, seal
from dkt_ros.processing.source import PassedMessage, Pending, Source

Progress = Callable[[str, int, int], None]
"""progress(recording, frames done, frames in all)."""

FRAMES, PREVIEWS, BAG = "frames.jsonl", "previews", "bag"
_STATE = "state.json"
_LONGEST_PART_S = 300.0
"""Of a network that takes seconds for a frame."""


def process_one(
    recording: Recording,
    options: ProcessOptions,
    output: Path,
    load: Callable[[], DepthEstimator],
    progress: Progress = lambda name, done, total: None,
) -> dict[str, Any]:
    """Makes output/NAME and returns its summary, which lies in it as SUMMARY.

    load: gives the estimator, when all else is well. What an earlier run has done is not done
    again. Raises ProcessingError where there is no output, and KeyboardInterrupt; then a later call
    goes on where this one came to.
    """
    final = output / recording.name
    made_of = MadeOf.of(recording, options, output)
    done = _earlier(final, made_of)
    if done is not None:
        return done
    busy = f"{final} is being made by another process; leave it to that"
    try:
        with only_process(_lock_of(output, recording), busy), writing(final):
            done = _sealed(final, made_of)
            if done is not None:
                return done
            made_of = made_of.by_this_code()
            _check_partial(final, made_of)
            source = recording.open(options.source)  # what it cannot read it tells itself
            return _Run(source, made_of, final, load(), progress).run()
    except (StorageError, BusyError) as error:
        raise ProcessingError(Outcome.NOT_WRITTEN, str(error)) from error


def tidy(output: Path, recording: Recording) -> None:
    """Removes the lock that a killed process left; one that is held stays."""
    lock = _lock_of(output, recording)
    if lock.exists():
        with suppress(DktError), only_process(lock, ""):
            pass


def _lock_of(output: Path, recording: Recording) -> Path:
    return output / f".{recording.name}.lock"


def discard(final: Path) -> None:
    """Removes an output, whole or partial; a folder that is none stays as it is.

    Raises StorageError; what is left of it then is taken for no output.
    """
    folder = _partial_of(final)
    with writing(final):
        if _summary_of(final) is not None:
            _remove(folder)
            os.replace(final, folder)
        _remove(folder)


def _earlier(final: Path, made_of: MadeOf) -> dict[str, Any] | None:
    """The summary of an output that is whole, noting what else made it; None: there is none."""
    if not final.exists():
        return None
    found = _summary_of(final)
    if found is None:
        raise ProcessingError(
            Outcome.OUTPUT_EXISTS,
            f"{final} exists and is no output of `dkt process`; choose another --output",
        )
    made_of.check(final, found)
    others = [
        f"it was made {how}; --overwrite makes it anew" for how in made_of.other_makers(found)
    ]
    return {**found, "notes": [*found.get("notes", ()), *others], "already_there": True}


def _check_partial(final: Path, made_of: MadeOf) -> None:
    """Raises ProcessingError where a run of something else came some way, which is kept."""
    folder = _partial_of(final)
    with suppress(OSError, ValueError, KeyError, TypeError):
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        found = {**state["same"], "options": state.get("options")}
        made_of.check(folder, found)


def _summary_of(folder: Path) -> dict[str, Any] | None:
    """An output's summary; None where there is none, or one of something else."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "fingerprint" in found else None


def _sealed(final: Path, made_of: MadeOf) -> dict[str, Any] | None:
    """Makes the output of what a run left that was killed at its very end; None: there is none.

    Raises ProcessingError where it is of something else, which is kept.
    """
    folder = _partial_of(final)
    summary = _summary_of(folder)
    if summary is None:
        return None
    made_of.check(folder, summary)
    _seal(folder, final)
    return {**summary, "already_there": True}


def _partial_of(final: Path) -> Path:
    return final.with_name(final.name + PARTIAL)


def _remove(folder: Path) -> None:
    """The summary first, lest half of it be taken for whole."""
    if folder.is_dir():
        (folder / SUMMARY).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _seal(folder: Path, final: Path) -> None:
    """A partial output that has its summary becomes the output."""
    for leftover in (*folder.glob("state-*.pickle"), folder / _STATE):
        leftover.unlink(missing_ok=True)
    shutil.rmtree(parts_folder(folder / BAG), ignore_errors=True)
    os.replace(folder, final)


class _Run:
    def __init__(
        self,
        source: Source,
        made_of: MadeOf,
        final: Path,
        estimator: DepthEstimator,
        progress: Progress,
    ) -> None:
        self._made_of, self._same, self._options = made_of, made_of.same, made_of.options
        self._source, self._final = source, final
        self._estimator, self._progress = estimator, progress
        self._folder = _partial_of(final)
        self._started = time.monotonic()
        self._estimator.reset()
        self._state = self._resumed()
        self._unflushed: list[Path] = []
        self._resumed_at = self._state.frames
        self._earlier_s = self._state.elapsed_s
        self._bag = None
        if self._options.bag:
            self._bag = BagOutput(self._folder / BAG, final.name, typestore(), self._state.parts)
        self._previews = Previews(self._folder / PREVIEWS, self._state.previews)
        self._figures = (self._folder / FRAMES).open("ab")
        self._figures.truncate(self._state.figures_bytes)

    def run(self) -> dict[str, Any]:
        try:
            self._all()
            return self._finish()
        except Exception:
            # What no later run can go on from takes no room.
            if not ((self._folder / _STATE).exists() or (self._folder / SUMMARY).exists()):
                shutil.rmtree(self._folder, ignore_errors=True)
            raise
        finally:
            with suppress(OSError):
                self._figures.close()
            if self._bag is not None:
                self._bag.abort()

    def _all(self) -> None:
        state, options = self._state, self._options
        total = min(self._source.total, options.max_frames or self._source.total)
        self._progress(self._final.name, state.frames, total)
        since, began_s = 0, time.monotonic()
        for position, item in enumerate(self._source.items()):
            if position < state.position:
                if isinstance(item, Pending):
                    item.pass_by()
                continue
            if isinstance(item, PassedMessage):
                if self._bag is not None:
                    self._bag.pass_on(item)
            else:
                self._frame(item)
                since += 1
            state.position = position + 1
            self._progress(self._final.name, state.frames, total)
            if options.max_frames is not None and state.frames >= options.max_frames:
                break
            long = since and time.monotonic() - began_s > _LONGEST_PART_S
            if long or since >= options.part_frames:
                self._save()
                since, began_s = 0, time.monotonic()

    def _frame(self, item: Pending) -> None:
        """One frame: decoded, estimated, written; or counted as of no use."""
        state = self._state
        state.frames += 1
        try:
            labelled = item.decode()
        except ProcessingError:
            raise
        except DktError as error:
            cause = error.cause if isinstance(error, MessageError) else "unusable frame"
            state.refuse(cause, error)
            return
        state.miss(labelled.unusable)
        state.look_at(labelled)
        state.last_ns = labelled.frame.stamp_ns
        state.first_ns = state.last_ns if state.first_ns is None else state.first_ns
        if state.epoch != item.epoch:
            self._estimator.reset()
            state.epoch = item.epoch
        began = time.perf_counter()
        try:
            estimate = self._estimator.push(labelled.frame)
        except DktError as error:
            state.refuse("inference failed", error)
            return
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                raise ProcessingError(
                    Outcome.FAILED,
                    f"{self._source.path}: out of memory at frame {state.frames - 1}; take a "
                    "smaller --size, --dtype bfloat16 or fewer --workers",
                ) from error
            raise ProcessingError(
                Outcome.FAILED, f"{self._source.path}: frame {state.frames - 1}: {error}"
            ) from error
        state.busy_s += time.perf_counter() - began
        if estimate is None:
            state.counts["between"] += 1
            return
        self._write(labelled, estimate)

    def _write(self, labelled: LabelledFrame, estimate: DepthEstimate) -> None:
        state, options = self._state, self._options
        index = state.counts["answered"]
        if self._bag is not None:
            for topic, message in messages_of(labelled, estimate, options.color, options.points):
                self._bag.write(topic, message, labelled.frame.stamp_ns)
        for kind in options.files:
            self._unflushed.append(write_file(kind, self._folder, index, labelled, estimate))
        figures = frame_figures(index, labelled, estimate)
        self._figures.write(json.dumps(figures).encode() + b"\n")
        self._unflushed += self._previews.add(index, score(figures), labelled, estimate)
        state.answer(figures, estimate.flush)

    def _save(self) -> None:
        """The end of a part: all of it is on the disk, and then what the next one needs."""
        state = self._state
        memory = self._estimator.save()
        if memory is None:
            return
        self._flush()
        if self._bag is not None:
            self._bag.cut()
            state.parts = self._bag.parts
        state.figures_bytes = self._figures.tell()
        state.previews = self._previews.state
        state.elapsed_s = self._elapsed_s
        name = f"state-{state.position}.pickle"
        write_whole(self._folder / name, memory)
        saved = name, seal(memory)
        about = {"same": self._same, "snapshot": saved, "options": self._options.plain}
        content = {**vars(state), **about}
        write_whole(self._folder / _STATE, json.dumps(plain(content)))
        for old in self._folder.glob("state-*.pickle"):
            if old.name != name:
                old.unlink()

    def _flush(self) -> None:
        """All together: one by one, every frame would wait for the disk."""
        self._figures.flush()
        os.fsync(self._figures.fileno())
        for path in self._unflushed:
            if path.exists():  # previews come and go
                flush(path)
        self._unflushed.clear()

    def _resumed(self) -> RunState:
        """What an earlier run of the same left behind; else all is begun anew."""
        try:
            found = json.loads((self._folder / _STATE).read_text(encoding="utf-8"))
            found.pop("options", None)
            if found.pop("same") == self._same:
                name, sealed = found.pop("snapshot")
                memory = (self._folder / name).read_bytes()
                state = RunState(**found)
                if is_sealed(memory, sealed):
                    self._estimator.restore(memory)
                    return state
        except (OSError, ValueError, KeyError, TypeError, DktError):
            pass
        _remove(self._folder)
        self._folder.mkdir(parents=True)
        return RunState()

    @property
    def _elapsed_s(self) -> float:
        return self._earlier_s + time.monotonic() - self._started

    def _finish(self) -> dict[str, Any]:
        state = self._state
        if not state.counts["answered"]:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise ProcessingError(
                Outcome.NO_DEPTH if state.refused.keys() == {NO_DEPTH} else Outcome.NOTHING_USABLE,
                f"{self._source.path}: no frame could be used: {state.why_nothing(self._source)}",
            )
        self._flush()
        if self._bag is not None:
            self._bag.finish()
        summary = self._summary()
        write_whole(self._folder / SUMMARY, json.dumps(summary, indent=1))
        _seal(self._folder, self._final)
        self._progress(self._final.name, state.frames, state.frames)
        return summary

    def _summary(self) -> dict[str, Any]:
        state, source, predictor = self._state, self._source, self._estimator.predictor
        if not self._made_of.recording_stays():
            source.remarks.append(
                "it has changed since it was opened: is it still recorded? What came later may be "
                "missing; --overwrite makes it anew when it is whole"
            )
        lost = state.lost(source)
        limited = state.frames == self._options.max_frames
        answered = state.counts["answered"]
        return plain(
            {
                "recording": str(source.path),
                "name": source.name,
                "kind": source.kind,
                "outcome": state.outcome(lost).value,
                "frames": state.frames,
                "answered": answered,
                "between_answers": state.counts["between"],
                "refused": sum(state.refused.values()),
                "lost": lost,
                "notes": [*source.notes, *state.unlabelled, *state.odd, *state.suspected],
                "unpaired": {k: n for k, n in source.dropped.items() if k not in source.reasons},
                "restarts": {**source.flushed} | state.restarts,
                "states": state.states,
                "duration_s": source.duration_s,
                "elapsed_s": self._elapsed_s,
                "inference_s": state.busy_s,
                "frames_per_s": state.frames / max(self._elapsed_s, 1e-9),
                "times_real_time": source.duration_s / max(self._elapsed_s, 1e-9)
                if not limited
                else None,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "resumed_at_frame": self._resumed_at or None,
                "network": vars(predictor.info),
                **self._same,
                "depth_range_m": self._previews.state["range"],
                "options": self._options.plain,
            }
        )
