"""Recordings with the truth to tars that networks learn from, as `dkt synth` writes them.

Knows which frames make a clip, which recordings are packed already and how far a run that was
killed came. Knows nothing of how recordings are read, or of what a tar holds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.bags.from_images import NO_DEPTH
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.datasets.assembly import depth_problem
from dkt_ros.datasets.plausibility import suspicions
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.files import (
    PARTIAL,
    StorageError,
    only_process,
    shown,
    write_whole,
    writing,
)
from dkt_ros.formats.tar_index import read_members, tar_index
from dkt_ros.formats.transphy3d import SequenceFrame, decode_frame, fine_step, write_sequence
from dkt_ros.frames import NANOSECONDS_PER_SECOND
from dkt_ros.geometry import is_reading, resize_nearest
from dkt_ros.messages.fields import MessageError
from dkt_ros.processing.find_sources import Recording
from dkt_ros.processing.maker import code_state
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import Pending, Source, SourceOptions
from dkt_ros.wording import counted, kind_of

_FARTHEST_M = 65.535
"""As 16 bits of millimetres reach; something farther would coarsen every step of a tar's depth."""
_STATE, _TOLD = "state.json", "told.json"
_NO_TRUTH, _BAD_TRUTH = "no true depth", "unusable true depth"


@dataclass(frozen=True)
class PackOptions:
    """How recordings are packed.

    source: how they are read. frames: most of a tar. height: that higher pictures are brought to in
    their own shape; None: as they are. Raises DktError for what cannot be.
    """

    source: SourceOptions
    frames: int
    height: int | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DktError(f"{name} is {value}, expected at least 1")


@dataclass
class Packed:
    """What became of a recording.

    clips, frames: that there are now. lost: what of it could not be used, a line each. notes: what
    looks wrong and costs nothing. already: whether nothing was left to do.
    """

    clips: int = 0
    frames: int = 0
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    already: bool = False


@dataclass(frozen=True)
class _Taken:
    frame: SequenceFrame
    epoch: int
    stamp_ns: int
    suspicions: tuple[str, ...]


@dataclass
class _State:
    """What is saved with each whole tar. position: of the next frame's in the recording.

    reasons: the first text of what frames were refused for, or suspected of, by kind.
    """

    position: int = 0
    clips: int = 0
    frames: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    suspected: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # JSON knows no counters.
        self.refused, self.suspected = Counter(self.refused), Counter(self.suspected)

    def count(self, counter: Counter[str], kind: str, text: str) -> None:
        """Counts a frame of which this is said, and keeps the first one's words."""
        counter[kind] += 1
        self.reasons.setdefault(kind, text)


def sequence_names(recordings: Sequence[Recording]) -> list[str]:
    """What each one's tars are called, without what ends a frame's key. Raises DktError."""
    names = [re.sub(r"[^\w-]", "_", recording.name) for recording in recordings]
    for name, times in Counter(names).items():
        if times > 1:
            alike = [str(r.path) for r, own in zip(recordings, names, strict=True) if own == name]
            raise DktError(
                f"{' and '.join(alike[:2])}: tars of both would be called {name}; give each an "
                "--output of its own"
            )
    return names


def pack(
    recording: Recording,
    name: str,
    options: PackOptions,
    output: Path,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Writes output/NAME-0000.tar and on, all of them or none, the first one last.

    What a killed or interrupted run had packed is not read again, unless by overwrite. progress:
    called with the frames read so far and those that there are. What is packed already is left as
    it is. A failure, unlike a kill, leaves nothing of the new ones: out of sight they would keep a
    full disk full. Raises ProcessingError where nothing comes of the recording, StorageError where
    nothing can be written, BusyError where another process packs it.
    """
    busy = f"{output}/{name}-*.tar is being packed by another process; leave it to that"
    with only_process(output / f"{PARTIAL}-{name}.lock", busy):
        made_of, work = _made_of(recording, options, output), output / f"{PARTIAL}-{name}"
        there = _tars(output, name)
        if there and not overwrite:
            already = _already(recording, there, made_of, _record(output, name))
            if already is not None:
                shutil.rmtree(work, ignore_errors=True)
                return already
        if overwrite:
            shutil.rmtree(work, ignore_errors=True)
        try:
            source = recording.open(options.source)
            run = _Run(source, options, made_of, progress, work, name)
            packed = run.write()
            # All that needs room is written while the old tars are there still.
            _tell_later(work / _TOLD, made_of, packed)
            _clear(there, _record(output, name))
            _put(work, output, name)
            packed.notes += run.begun_anew
            shutil.rmtree(work, ignore_errors=True)
        except Exception:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return packed


def _clear(there: list[Path], record: Path) -> None:
    """Old tars go, the first one first: without it nothing counts as packed."""
    with writing(record):
        for old in (*there, record):
            old.unlink(missing_ok=True)


def _put(work: Path, output: Path, name: str) -> None:
    """New tars come, the first one last, behind what is told of them."""
    with writing(output):
        if (work / _TOLD).exists():
            os.replace(work / _TOLD, _record(output, name))
        for new in reversed(_tars(work, name)):
            os.replace(new, output / new.name)


def _record(output: Path, name: str) -> Path:
    """What is told again of a packed recording; out of sight, as it is none of the data."""
    return output / f".{name}.json"


def _tell_later(record: Path, made_of: dict[str, str], packed: Packed) -> None:
    if packed.lost or packed.notes:
        told = {"packed": made_of, "lost": packed.lost, "notes": packed.notes}
        write_whole(record, json.dumps(told))


def _made_of(recording: Recording, options: PackOptions, output: Path) -> dict[str, str]:
    """What every frame says of where it comes from: the same for what would give the same tars."""
    calibration = Path(options.source.intrinsics or "")
    content = calibration.read_bytes() if calibration.is_file() else b""
    where = recording.origin, recording.state(output, options.source)
    told = json.dumps([where, asdict(options)], default=str)
    digest = sha256(told.encode() + content).hexdigest()[:16]
    # Not where it lies: packed scenes are passed on.
    return {"recording": os.fsencode(recording.name).decode(errors="replace"), "as": digest}


def _already(
    recording: Recording, there: list[Path], made_of: dict[str, str], record: Path
) -> Packed | None:
    """What an earlier run left, and told; None where a kill let it put but the last tars in place.

    Raises ProcessingError where they are of another recording or otherwise made.
    """
    first, found = there[0], None
    with suppress(DktError, StopIteration):
        key, members = next(iter(sorted(tar_index(first).items())))
        found = decode_frame(read_members(first, key, members), str(first)).extra.get("packed")
    if found != made_of:
        of = found.get("recording") if isinstance(found, dict) else None
        why = "not packed from this recording" if of is None else f"packed from {of}"
        if of == made_of["recording"]:
            why = "packed with other options, before this recording changed, or from another one"
        raise ProcessingError(
            Outcome.OUTPUT_EXISTS,
            f"{recording.path}: {first} is there and {why}; take another --output, or "
            "--overwrite, which puts this recording in its place",
        )
    if _number(first) > 0:
        return None
    lost, notes = list[str](), list[str]()
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(record.read_text(encoding="utf-8"))
        if told["packed"] == made_of:
            lost, notes = list(map(str, told["lost"])), list(map(str, told["notes"]))
    frames = sum(len(tar_index(path)) for path in there)
    return Packed(len(there), frames, lost, notes, already=True)


def _tars(output: Path, name: str) -> list[Path]:
    """Those of that name, in order."""
    own = re.compile(re.escape(name) + r"-\d{4,}\.tar")
    found = shown(output) if output.is_dir() else []
    return sorted((path for path in found if own.fullmatch(path.name)), key=_number)


def _number(tar: Path) -> int:
    return int(tar.stem.rpartition("-")[2])


class _Run:
    """One pass over a recording."""

    def __init__(
        self,
        source: Source,
        options: PackOptions,
        made_of: dict[str, str],
        progress: Callable[[int, int], None],
        folder: Path,
        name: str,
    ) -> None:
        """folder: for the tars, called NAME-0000 and on; what a run of the same left there stays.

        What lies there else is removed, and is told in begun_anew.
        """
        self.begun_anew: list[str] = []
        self._source, self._options = source, options
        self._made_of, self._progress = made_of, progress
        self._folder, self._name = folder, name
        self._held: _Taken | None = None
        if not source.has_truth:
            what = source.kind if source.kind.endswith("s") else f"a {source.kind}"
            raise ProcessingError(
                Outcome.NOTHING_USABLE,
                f"{source.path}: {what} without true depth; {source.truth_from}",
            )
        self._state = self._begun()

    def write(self) -> Packed:
        """Fills the folder."""
        source, state = self._source, self._state
        for clip in self._clips():
            tar = self._tar(state.clips)
            state.frames += write_sequence(tar, tar.stem, clip)
            state.clips += 1
            state.position = self._held.frame.index if self._held is not None else sys.maxsize
            saved = {"same": self._same, **vars(state)}
            write_whole(self._folder / _STATE, json.dumps(saved))
        refused = [f"{n} x {why}: {state.reasons[why]}" for why, n in sorted(state.refused.items())]
        packed = Packed(state.clips, state.frames, lost=[*source.lost, *refused])
        if not packed.clips:
            why_nothing = "; ".join(packed.lost) or "no frame in it has colour and depth"
            raise ProcessingError(
                Outcome.NOTHING_USABLE, f"{source.path}: no frame could be used: {why_nothing}"
            )
        packed.notes = [
            *source.notes,
            *(
                state.reasons[kind] + (f" (and so of {n} frames in all)" if n > 1 else "")
                for kind, n in sorted(state.suspected.items())
            ),
        ]
        return packed

    def _tar(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:04d}.tar"

    @property
    def _same(self) -> dict[str, str]:
        """What a run must have in common with this one that goes on from it."""
        return {**self._made_of, "code": code_state()}

    def _begun(self) -> _State:
        """How far an earlier run of the same came."""
        clips, why = len(_tars(self._folder, self._name)), "is without a note of how far it came"
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = json.loads((self._folder / _STATE).read_text(encoding="utf-8"))
            state = _State(**{k: v for k, v in found.items() if k != "same"})
            clips = state.clips
            whole = all(self._tar(number).is_file() for number in range(state.clips))
            if found["same"] == self._same and whole:
                return state
            if found["same"] == self._same:
                why = "lacks a part"
            elif {**found["same"], "code": self._same["code"]} == self._same:
                why = "was of other code of dkt_ros"
            else:
                why = "was of other options, or before the recording changed"
        if clips:
            self.begun_anew.append(
                f"what a killed run had packed, {counted(clips, 'clip')}, {why}: all of it was "
                "packed anew"
            )
        shutil.rmtree(self._folder, ignore_errors=True)
        return _State()

    def _clips(self) -> Iterator[Iterator[SequenceFrame]]:
        """Frames that belong together; each clip has to be read before the next one."""
        frames, state = self._frames(), self._state
        self._held = next(frames, None)

        def clip() -> Iterator[SequenceFrame]:
            before: _Taken | None = None
            step: int | None = None
            count = 0
            while (held := self._held) is not None and count < self._options.frames:
                if before is not None:
                    if not self._goes_on(before, held, step):
                        break
                    step = held.frame.index - before.frame.index
                before, count = held, count + 1
                for line in held.suspicions:
                    state.count(state.suspected, kind_of(line), line)
                yield held.frame
                self._held = next(frames, None)

        while self._held is not None:
            yield clip()

    def _goes_on(self, before: _Taken, after: _Taken, step: int | None) -> bool:
        """Whether two frames are of one video, whose frames lie `step` apart."""
        return (
            after.epoch == before.epoch
            and after.frame.rgb.shape == before.frame.rgb.shape
            and step in (None, after.frame.index - before.frame.index)
            and after.stamp_ns - before.stamp_ns
            <= self._options.source.max_gap_s * NANOSECONDS_PER_SECOND
        )

    def _frames(self) -> Iterator[_Taken]:
        """What can be learned from, numbered as it stands in the recording."""
        pending = (item for item in self._source.items() if isinstance(item, Pending))
        state, begin = self._state, self._state.position
        for index, item in enumerate(pending):
            self._progress(index, self._source.total)
            if index < begin:
                item.pass_by()
                continue
            try:
                labelled = item.decode()
                frame, suspicions = self._learnable(labelled, index)
            except (ProcessingError, StorageError):
                raise
            except DktError as error:
                cause = error.cause if isinstance(error, MessageError) else "unusable frame"
                state.count(state.refused, cause, str(error))
                continue
            yield _Taken(frame, item.epoch, labelled.frame.stamp_ns, suspicions)

    def _learnable(
        self, labelled: LabelledFrame, index: int
    ) -> tuple[SequenceFrame, tuple[str, ...]]:
        """The frame as a tar holds it, and what looks wrong with it.

        Raises MessageError where it lacks what is learned from.
        """
        frame, source = labelled.frame, f"frame {index}"
        for name, why in labelled.unusable.items():
            raise MessageError(f"unusable {name}", f"{source}: {why}")
        if labelled.truth is None:
            raise MessageError(
                _NO_TRUTH,
                f"{source} has none; expected one of colour's size, in a bag with its very stamp, "
                "in a folder with its name",
            )
        rgb, (height, width) = frame.rgb, frame.rgb.shape[:2]
        if self._options.height is not None and self._options.height < height:
            width = max(1, round(width * self._options.height / height))
            height = self._options.height
            rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA))
        camera = frame.intrinsics.scaled_to(width, height)
        truth = resize_nearest(labelled.truth, width, height)
        near = np.where(is_reading(truth) & (truth <= _FARTHEST_M), truth, np.float32(np.nan))
        if problem := depth_problem(near):
            known = truth[is_reading(truth)]
            if known.size and known.min() > _FARTHEST_M:
                problem = (
                    f"all of it is beyond {_FARTHEST_M:g} m, from {known.min():.4g} m on; integers "
                    "are taken in the unit of raw depth (--depth-unit), floats for metres"
                )
            raise MessageError(_BAD_TRUTH, f"{source}: {problem}")
        if frame.raw_depth is None or not is_reading(frame.raw_depth).any():
            raise MessageError(NO_DEPTH, f"{source}: raw depth has no reading at any pixel")
        raw_depth = resize_nearest(frame.raw_depth, width, height)
        mask: np.ndarray | None = labelled.mask
        mask = None if mask is None else resize_nearest(mask, width, height)
        sample = Sample(rgb, near, source, raw_depth, mask, camera_matrix=camera.matrix)
        packed = SequenceFrame(
            rgb=rgb,
            depth=near,
            camera_matrix=camera.matrix,
            world_to_camera=None,
            mask=mask,
            raw_depth=raw_depth,
            index=index,
            raw_step_m=fine_step(raw_depth),
            extra={"stamp_ns": frame.stamp_ns, "packed": self._made_of},
        )
        return packed, tuple(suspicions(sample))
