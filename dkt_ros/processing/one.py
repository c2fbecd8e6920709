"""One recording through the estimator: outputs in parts, resumed after a kill, whole at the end.

While it is being made the output is a folder NAME.partial; it becomes NAME when all is written.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator
from dkt_ros.files import (
    PARTIAL,
    BusyError,
    StorageError,
    flush,
    only_process,
    storage_error,
    write_whole,
)
from dkt_ros.messages.fields import MessageError
from dkt_ros.processing.bag_output import BagOutput, parts_folder
from dkt_ros.processing.figures import frame_figures, plain, score
from dkt_ros.processing.file_outputs import write_file
from dkt_ros.processing.find_sources import Recording
from dkt_ros.processing.messages import messages_of, typestore
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.previews import Previews
from dkt_ros.processing.source import PassedMessage, Pending, Shot, Source

Progress = Callable[[str, int, int], None]
"""progress(recording, frames done, frames in all)."""

SUMMARY, FRAMES, PREVIEWS, BAG = "summary.json", "frames.jsonl", "previews", "bag"
_STATE = "state.json"
_EMPTY, _WHY = "no depth, state ", "no depth, reason "
"""What frames without depth are counted under."""


@dataclass
class _State:
    """How far a run came; what is saved at the end of each part."""

    position: int = 0
    frames: int = 0
    parts: int = 0
    epoch: int | None = None
    figures_bytes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    elapsed_s: float = 0.0
    busy_s: float = 0.0
    previews: dict[str, Any] | None = None
    first_ns: int | None = None
    last_ns: int | None = None


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
    done = _earlier(final, recording, options)
    if done is not None:
        return done
    busy = f"{final} is being made by another process; leave it to that"
    try:
        with only_process(output / f".{recording.name}.lock", busy):
            try:
                same = _same(recording, options)
                done = _sealed(final, same)
                if done is not None:
                    return done
                source = recording.open(options.source)
                return _Run(source, same, options, final, load(), progress).run()
            except OSError as error:
                raise storage_error(final, error) from error
    except (StorageError, BusyError) as error:
        raise ProcessingError(Outcome.NOT_WRITTEN, str(error)) from error


def discard(final: Path) -> None:
    """Removes an output, whole or partial; a folder that is none stays as it is.

    Raises StorageError; what is left of it then is taken for no output.
    """
    partial = final.with_name(final.name + PARTIAL)
    try:
        if (final / SUMMARY).is_file():
            _remove(partial)
            os.replace(final, partial)
        _remove(partial)
    except OSError as error:
        raise storage_error(final, error) from error


def _earlier(final: Path, recording: Recording, options: ProcessOptions) -> dict[str, Any] | None:
    """The summary of an output that is whole; None where there is none."""
    if not final.exists():
        return None
    try:
        found = dict(json.loads((final / SUMMARY).read_text()))
    except (OSError, ValueError):
        raise ProcessingError(
            Outcome.OUTPUT_EXISTS,
            f"{final} exists and is no output of `dkt process`; choose another --output",
        ) from None
    if found.get("origin") != recording.origin:
        raise ProcessingError(
            Outcome.OUTPUT_EXISTS,
            f"{final} is of {found.get('origin')}, not of {recording.origin}; choose another "
            "--output, or --overwrite",
        )
    if found.get("fingerprint") != options.fingerprint:
        raise ProcessingError(
            Outcome.OUTPUT_EXISTS,
            f"{final} was made with other options; choose another --output, or --overwrite",
        )
    return {**found, "already_there": True}


def _same(recording: Recording, options: ProcessOptions) -> dict[str, str]:
    """What an earlier run must have in common with this one, to be gone on from."""
    return {
        "origin": recording.origin,
        "fingerprint": options.fingerprint,
        "version": _version(),
    }


def _sealed(final: Path, same: dict[str, str]) -> dict[str, Any] | None:
    """Makes the output of what a run left that was killed at its very end; None: there is none."""
    folder = final.with_name(final.name + PARTIAL)
    try:
        summary = dict(json.loads((folder / SUMMARY).read_text()))
    except (OSError, ValueError):
        return None
    if {key: summary.get(key) for key in same} != same:
        return None
    _seal(folder, final)
    return {**summary, "already_there": True}


def _remove(partial: Path) -> None:
    """The summary first, lest half of it be taken for whole."""
    if partial.is_dir():
        (partial / SUMMARY).unlink(missing_ok=True)
        shutil.rmtree(partial)


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
        same: dict[str, str],
        options: ProcessOptions,
        final: Path,
        estimator: DepthEstimator,
        progress: Progress,
    ) -> None:
        self._source, self._options, self._final = source, options, final
        self._same = same
        self._estimator, self._progress = estimator, progress
        self._folder = final.with_name(final.name + PARTIAL)
        self._started = time.monotonic()
        self._estimator.reset()
        self._state = self._resumed()
        self._unflushed: list[Path] = []
        self._resumed_at = self._state.frames
        self._earlier_s = self._state.elapsed_s
        self._bag = None
        if options.bag:
            self._bag = BagOutput(self._folder / BAG, final.name, typestore(), self._state.parts)
        self._previews = Previews(self._folder / PREVIEWS, self._state.previews)
        self._figures = (self._folder / FRAMES).open("ab")
        self._figures.truncate(self._state.figures_bytes)

    def run(self) -> dict[str, Any]:
        try:
            self._all()
            return self._finish()
        except (OSError, StorageError):
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
        since = 0
        for position, item in enumerate(self._source.items()):
            if position < state.position:
                continue
            if isinstance(item, PassedMessage):
                if self._bag is not None:
                    self._bag.write_cdr(item.topic, item.msgtype, item.cdr, item.time_ns)
            else:
                self._frame(item)
                since += 1
            state.position = position + 1
            self._progress(self._final.name, state.frames, total)
            if options.max_frames is not None and state.frames >= options.max_frames:
                break
            if since >= options.part_frames:
                self._save()
                since = 0

    def _frame(self, item: Pending) -> None:
        """One frame: decoded, estimated, written; or counted as of no use."""
        state = self._state
        state.frames += 1
        try:
            shot = item.decode()
        except ProcessingError:
            raise
        except DktError as error:
            cause = error.cause if isinstance(error, MessageError) else "unusable frame"
            self._refuse(cause, error)
            return
        state.last_ns = shot.frame.stamp_ns
        state.first_ns = state.last_ns if state.first_ns is None else state.first_ns
        if state.epoch != item.epoch:
            self._estimator.reset()
            state.epoch = item.epoch
        began = time.perf_counter()
        try:
            estimate = self._estimator.push(shot.frame)
        except DktError as error:
            self._refuse("inference failed", error)
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
        self._write(shot, estimate)

    def _refuse(self, cause: str, error: Exception) -> None:
        self._state.refused[cause] += 1
        self._state.reasons.setdefault(cause, str(error))

    def _write(self, shot: Shot, estimate: DepthEstimate) -> None:
        state, options = self._state, self._options
        index = state.counts["answered"]
        if self._bag is not None:
            for topic, message in messages_of(shot, estimate, options.color, options.points):
                self._bag.write(topic, message, shot.frame.stamp_ns)
        for kind in options.files:
            self._unflushed.append(write_file(kind, self._folder, index, shot, estimate))
        figures = frame_figures(index, shot, estimate)
        self._figures.write(json.dumps(figures).encode() + b"\n")
        self._unflushed += self._previews.add(index, score(figures), shot, estimate)
        state.counts["answered"] += 1
        state.counts[f"state {figures['state']}"] += 1
        if not figures["coverage"]:
            state.counts[f"{_EMPTY}{figures['state']}"] += 1
            # Numbers of pixels differ from frame to frame.
            why = _WHY + re.sub(r"\d+", "#", figures["reason"])
            state.counts[why] += 1
            state.reasons.setdefault(why, figures["reason"])
        if estimate.flush is not None:
            state.counts[f"restart: {estimate.flush.value}"] += 1

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
        content = {**vars(state), "same": self._same, "snapshot": name}
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

    def _resumed(self) -> _State:
        """What an earlier run of the same left behind; else all is begun anew."""
        try:
            found = json.loads((self._folder / _STATE).read_text())
            if found.pop("same") == self._same:
                memory = (self._folder / found.pop("snapshot")).read_bytes()
                state = _State(**found)
                state.counts, state.refused = Counter(state.counts), Counter(state.refused)
                self._estimator.restore(memory)
                return state
        except (OSError, ValueError, KeyError, TypeError, DktError):
            pass
        _remove(self._folder)
        self._folder.mkdir(parents=True)
        return _State()

    @property
    def _elapsed_s(self) -> float:
        return self._earlier_s + time.monotonic() - self._started

    def _finish(self) -> dict[str, Any]:
        state = self._state
        if not state.counts["answered"]:
            raise ProcessingError(Outcome.NOTHING_USABLE, self._why_nothing())
        self._flush()
        if self._bag is not None:
            self._bag.finish()
        summary = self._summary()
        write_whole(self._folder / SUMMARY, json.dumps(summary, indent=1))
        _seal(self._folder, self._final)
        self._progress(self._final.name, state.frames, state.frames)
        return summary

    def _lost(self) -> list[str]:
        state = self._state
        refused = [f"{n} x {why}: {state.reasons[why]}" for why, n in sorted(state.refused.items())]
        lost = [*self._source.lost, *refused, *self._without_depth()]
        if self._source.remarks and state.first_ns is not None and state.last_ns is not None:
            after_s = (state.last_ns - state.first_ns) * 1e-9
            lost.append(
                f"what could be read ends with frame {state.frames - 1}, {after_s:.2f} s after the "
                f"first, stamp {state.last_ns * 1e-9:.3f}"
            )
        return lost

    def _without_depth(self) -> list[str]:
        """What is said of frames whose answer has no depth at any pixel."""
        counts, answered = self._state.counts, self._state.counts["answered"]
        states = _prefixed(counts, _EMPTY)
        if not states:
            return []
        share = ", ".join(f"{n / answered:.0%} of all are {s}" for s, n in sorted(states.items()))
        whys = _prefixed(counts, _WHY)
        why = self._state.reasons[_WHY + max(whys, key=whys.__getitem__)] or (
            "it lies outside --min-depth .. --max-depth, or below --min-confidence"
        )
        return [
            f"{sum(states.values())} of {answered} frames have no depth at any pixel ({share}), "
            f"mostly because: {why}"
        ]

    def _outcome(self, lost: list[str]) -> Outcome:
        counts = self._state.counts
        if sum(_prefixed(counts, _EMPTY).values()) == counts["answered"]:
            return Outcome.NO_DEPTH_MADE
        return Outcome.INCOMPLETE if lost else Outcome.DONE

    def _why_nothing(self) -> str:
        lost = self._lost()
        why = "; ".join(lost) if lost else "no frame in it has colour and depth"
        if not self._source.dropped and self._state.counts["between"]:
            why = "mode live had no answer yet at its end; take --live-publish all or mode exact"
        shutil.rmtree(self._folder, ignore_errors=True)
        return f"{self._source.path}: no frame could be used: {why}"

    def _summary(self) -> dict[str, Any]:
        state, source, predictor = self._state, self._source, self._estimator.predictor
        lost = self._lost()
        limited = state.frames == self._options.max_frames
        answered = state.counts["answered"]
        return plain(
            {
                "recording": str(source.path),
                "name": source.name,
                "kind": source.kind,
                "outcome": self._outcome(lost).value,
                "frames": state.frames,
                "answered": answered,
                "between_answers": state.counts["between"],
                "refused": sum(state.refused.values()),
                "lost": lost,
                "notes": source.notes,
                "unpaired": {k: n for k, n in source.dropped.items() if k not in source.reasons},
                "restarts": {**source.flushed} | _prefixed(state.counts, "restart: "),
                "states": _prefixed(state.counts, "state "),
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


def _prefixed(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {k.removeprefix(prefix): n for k, n in counts.items() if k.startswith(prefix)}


def _version() -> str:
    try:
        return metadata.version("dkt_ros")
    except metadata.PackageNotFoundError:
        return "from sources"
