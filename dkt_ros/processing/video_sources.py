"""Recordings that are one file: a video with its depth beside it, an .npz of arrays.

Knows what may lie beside a video. Knows nothing of folders of pictures as recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import described
from dkt_ros.bags.from_images import unit_remarks
from dkt_ros.bags.recording import FRAME_ID, LAST_S, LabelledFrame, labelled, stamps
from dkt_ros.errors import DktError
from dkt_ros.files import shown
from dkt_ros.formats import videos
from dkt_ros.formats.intrinsics import checked_intrinsics, stated_depth_unit
from dkt_ros.formats.numpy_files import arrays_in, mapped_array, may_be_depth
from dkt_ros.formats.pictures import DEPTHS, begun_late, natural_key, skipping
from dkt_ros.formats.pixels import read_depth, read_mask
from dkt_ros.formats.transphy3d import material_classes
from dkt_ros.frames import NANOSECONDS_PER_SECOND, Frame
from dkt_ros.geometry import Intrinsics, depth_unit, known_depth
from dkt_ros.messages.images import integer_to_depth
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import GIVE_CAMERA, Pending, Source, SourceOptions
from dkt_ros.wording import counted

VIDEOS = (
    *(".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp"),
)
_METRES = "floats in metres, or integers of 16 bits or more,"
_LABELS = "integers or booleans,"
_ARRAYS = ("rgb", "depth", "K", "stamps_ns", "truth", "mask")
_ARRAY_FILES = (".npy", ".npz")
_SHORTEST_S = 1e-4
"""No camera takes pictures in less."""


class VideoSource(Source):
    """A colour video, its depth and, if named, truth and masks: pictures, or an array (T, H, W)."""

    kind = "video"

    def __init__(self, path: Path, name: str, options: SourceOptions) -> None:
        super().__init__(path, name)
        self._options = options
        if not options.has_camera:
            raise ProcessingError(
                Outcome.NO_CAMERA_INFO,
                f"{path}: a video says nothing of its camera; {GIVE_CAMERA}",
            )
        unit_m = _unit(options, self.notes)
        self._depth = _depth_of(path, options, unit_m)
        self._truth = _beside(path, options.truth, "truth", unit_m)
        self._masks = _beside(path, options.mask, "mask", unit_m)
        try:
            told = videos.facts(path)
        except DktError as error:
            raise ProcessingError(Outcome.NOT_A_RECORDING, str(error)) from error
        self._rate_hz = told.rate_hz or options.rate_hz
        self.total = told.frames or len(self._depth)
        if told.turned:
            self.notes.append(
                f"players turn the video by {told.turned} degrees; pictures, depth and "
                "calibration are taken as they are stored, not turned"
            )
        self.duration_s = self.total / self._rate_hz
        for files in _files_by_role(path, options):
            if len(files) < 2:  # an array
                continue
            if len(files) != told.frames and (apart := skipping(files, told.frames)):
                raise ProcessingError(
                    Outcome.NOT_A_RECORDING,
                    f"{path}: none of the pictures beside it is between {apart[0]} and "
                    f"{apart[1].name}, and there are {len(files)} for {told.frames or 'its'} "
                    "frames: expected one for each frame, in order; fill up with pictures of 0, "
                    "or give an array (.npy)",
                )
            if first := begun_late(files, told.frames):
                raise ProcessingError(
                    Outcome.NOT_A_RECORDING,
                    f"{path}: the pictures beside it are counted from {first.name} on, and there "
                    f"are {len(files)} for {told.frames} frames: whether the first or the last "
                    "are missing cannot be told; expected one for each frame, in order; fill up "
                    "with pictures of 0, or give an array (.npy)",
                )

    @property
    def has_truth(self) -> bool:
        """See Source."""
        return bool(self._truth)

    def items(self) -> Iterator[Pending]:
        """See Source."""
        start_ns, streams = next(stamps(1.0)), _Streams(self._options.max_gap_s)
        count = 0
        for seconds, rgb in videos.pictures(self.path, self._rate_hz):
            if count < len(self._depth):
                stamp_ns = start_ns + round(seconds * NANOSECONDS_PER_SECOND)
                yield Pending(partial(self._read, rgb, count, stamp_ns), streams.of(stamp_ns))
            count += 1
        extra = count - len(self._depth)
        if extra < 0:
            self.remarks.append(
                f"the video gives {counted(count, 'frame')} for {len(self._depth)} of depth; it "
                "is cut short, or is not that depth's"
            )
        elif extra:
            self.remarks.append(f"the video ends with {counted(extra, 'frame')} without depth")
        for what, given in (("true depth", self._truth), ("masks", self._masks)):
            if given and len(given) != count:
                self.notes.append(
                    f"the video gives {counted(count, 'frame')} for {len(given)} of {what}: "
                    "is it that video's?"
                )

    def _read(self, rgb: NDArray[np.uint8], index: int, stamp_ns: int) -> LabelledFrame:
        height, width = rgb.shape[:2]
        camera = self.camera_given(self._options, width, height)
        truth = self._truth[index] if index < len(self._truth) else None
        mask = self._masks[index] if index < len(self._masks) else None
        frame = Frame(rgb, self._depth[index](), camera, stamp_ns, FRAME_ID)
        return replace(labelled(frame, truth, mask, f"frame {index}"), picture=str(index))


class ArraySource(Source):
    """An .npz of arrays: rgb (T, H, W, 3), depth (T, H, W).

    Also, if at all, truth and mask (T, H, W), K and stamps_ns.
    """

    kind = "arrays"
    truth_from = "expected an array truth (T, H, W) beside them"

    def __init__(self, path: Path, name: str, options: SourceOptions) -> None:
        super().__init__(path, name)
        self._options, self._unit_m = options, _unit(options, self.notes)
        self._arrays = _arrays(path)
        rgb, depth = self._arrays.get("rgb"), self._arrays.get("depth")
        if rgb is None or rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[-1] != 3:
            raise ProcessingError(
                Outcome.NO_COLOR,
                f"{path}: found {described(rgb)}, expected an array rgb, (T, H, W, 3) uint8",
            )
        if depth is None or depth.shape != rgb.shape[:3] or not may_be_depth(depth.dtype):
            raise ProcessingError(
                Outcome.NO_DEPTH,
                f"{path}: found {described(depth)}, expected an array depth of {_METRES} "
                f"{rgb.shape[:3]}",
            )
        if "K" not in self._arrays and not options.has_camera:
            raise ProcessingError(
                Outcome.NO_CAMERA_INFO, f"{path}: holds no K (3, 3); {GIVE_CAMERA}"
            )
        stamps_ns = self._arrays.get("stamps_ns")
        if stamps_ns is not None and stamps_ns.shape != rgb.shape[:1]:
            raise ProcessingError(
                Outcome.NOT_A_RECORDING,
                f"{path}: stamps_ns of shape {stamps_ns.shape}, expected {rgb.shape[:1]}",
            )
        if stamps_ns is not None and not _are_stamps(stamps_ns):
            raise ProcessingError(
                Outcome.NOT_A_RECORDING,
                f"{path}: stamps_ns of {stamps_ns.dtype}, expected whole nanoseconds, 0 or more, "
                "as ROS counts",
            )
        for name, fits, expected in (
            ("truth", may_be_depth, _METRES),
            ("mask", _may_be_mask, _LABELS),
        ):
            array = self._arrays.get(name)
            if array is not None and (array.shape != rgb.shape[:3] or not fits(array.dtype)):
                raise ProcessingError(
                    Outcome.NOT_A_RECORDING,
                    f"{path}: {name} is {described(array)}, expected {expected} {rgb.shape[:3]}",
                )
        self._camera = None if options.has_camera else _camera(path, self._arrays["K"], rgb)
        self.total = len(rgb)
        self.duration_s = self.total / options.rate_hz
        if stamps_ns is not None and self.total:
            self.duration_s = float(np.ptp(stamps_ns.astype(np.int64))) * 1e-9
            if self.total > 1 and self.duration_s < _SHORTEST_S * (self.total - 1):
                self.notes.append(
                    f"stamps_ns say that {self.total} frames take {self.duration_s:g} s: are they "
                    "nanoseconds?"
                )
            back = np.flatnonzero(np.diff(stamps_ns.astype(np.int64)) < 0)
            if len(back):
                self.notes.append(
                    f"stamps_ns run backwards {counted(len(back), 'time')}, first at frame "
                    f"{back[0] + 1}; the stream begins anew there"
                )

    @property
    def has_truth(self) -> bool:
        """See Source."""
        return "truth" in self._arrays

    def items(self) -> Iterator[Pending]:
        """See Source."""
        clock = stamps(self._options.rate_hz)
        given = self._arrays.get("stamps_ns")
        streams = _Streams(self._options.max_gap_s)
        for index in range(self.total):
            stamp = next(clock) if given is None else int(given[index])
            yield Pending(partial(self._read, index, stamp), streams.of(stamp))

    def _read(self, index: int, stamp_ns: int) -> LabelledFrame:
        rgb = np.ascontiguousarray(self._arrays["rgb"][index])
        height, width = rgb.shape[:2]
        camera = self._camera or self.camera_given(self._options, width, height)
        unit_m, arrays = self._unit_m, self._arrays
        depth = _metres(arrays["depth"][index], unit_m)
        truth = _metres(arrays["truth"][index], unit_m) if "truth" in arrays else None
        mask = material_classes(arrays["mask"][index]) if "mask" in arrays else None
        frame = Frame(rgb, depth, camera, stamp_ns, FRAME_ID)
        return LabelledFrame(frame, truth, mask, picture=str(index))


def _unit(options: SourceOptions, notes: list[str]) -> float:
    """Metres of a step of integer depth; tells of a calibration that states another."""
    file = Path(options.intrinsics or "")
    stated = stated_depth_unit(file) if file.is_file() else None
    unit_m = depth_unit(options.depth_unit_m, stated, options.override_unit)
    notes += unit_remarks(unit_m, stated, file)
    return unit_m


class _Streams:
    """Numbers the streams that gaps between a recording's frames part it into."""

    def __init__(self, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._last_ns: int | None = None
        self._number = 0

    def of(self, stamp_ns: int) -> int:
        """That of the next frame."""
        last, self._last_ns = self._last_ns, stamp_ns
        if last is not None and stamp_ns - last > self._max_gap_s * NANOSECONDS_PER_SECOND:
            self._number += 1
        return self._number


def _camera(path: Path, matrix: NDArray[Any], rgb: NDArray[np.uint8]) -> Intrinsics:
    """The camera of pictures rgb (T, H, W, 3), which its matrix has to suit."""
    height, width = rgb.shape[1:3]
    try:
        found = Intrinsics.from_matrix(matrix, width, height)
        return checked_intrinsics(
            found.fx, found.fy, found.cx, found.cy, width, height, source=f"{path}: K"
        )
    except DktError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise ProcessingError(Outcome.NO_CAMERA_INFO, f"{path}: {text}; {GIVE_CAMERA}") from error


def _may_be_mask(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "bui"


def _are_stamps(values: NDArray[Any]) -> bool:
    """Whether ROS has such times, in nanoseconds."""
    return values.dtype.kind in "iuf" and bool(
        np.all((values >= 0) & (values < LAST_S * NANOSECONDS_PER_SECOND) & (values % 1 == 0))
    )


def files_beside(video: Path, options: SourceOptions) -> list[Path]:
    """Those of a video's depth, true depth and masks, each an array's or pictures."""
    return [file for files in _files_by_role(video, options) for file in files]


def _files_by_role(video: Path, options: SourceOptions) -> Iterator[list[Path]]:
    """Those of depth, true depth and masks, as far as they are named."""
    for given in (_depth_given(video, options), options.truth, options.mask):
        if given is not None:
            yield _named_files(video, given)


def _named_files(video: Path, given: str) -> list[Path]:
    """An array's file, or pictures in natural order; [] where there is none."""
    path = Path(given) if Path(given).exists() else video.parent / given
    if path.suffix.lower() in _ARRAY_FILES and "*" not in given:
        return [path]
    pictures = shown(path) if path.is_dir() else shown(video.parent, given)
    return sorted((file for file in pictures if file.suffix.lower() in DEPTHS), key=natural_key)


def _depth_given(video: Path, options: SourceOptions) -> str | None:
    """What names a video's depth: the options, or its own name."""
    if options.depth is not None:
        return options.depth
    beside = [video.with_name(f"{video.stem}{end}") for end in ("_depth", "_depth.npy", ".npy")]
    return next((str(path) for path in beside if path.exists()), None)


_Readers = list[Callable[[], NDArray[Any]]]
"""What reads each frame's depth, or its mask."""


def _depth_of(video: Path, options: SourceOptions, unit_m: float) -> _Readers:
    given = _depth_given(video, options)
    if given is None:
        raise ProcessingError(
            Outcome.NO_DEPTH,
            f"{video}: no depth beside it ({video.stem}_depth/ or {video.stem}_depth.npy); name a "
            "folder, a pattern, an .npy or .npz (--depth-images)",
        )
    return _readers(video, given, "depth", unit_m)


def _beside(video: Path, given: str | None, what: str, unit_m: float) -> _Readers:
    """[] where none is named."""
    return [] if given is None else _readers(video, given, what, unit_m)


def _readers(video: Path, given: str, what: str, unit_m: float) -> _Readers:
    """Of pictures in natural order, or of an array (T, H, W), in an .npz called `what`."""
    read: Callable[[Path], NDArray[Any]] = partial(read_depth, metres_per_unit=unit_m)
    take: Callable[[NDArray[Any]], NDArray[Any]] = partial(_metres, unit_m=unit_m)
    pictures, fits, expected = "depth pictures", may_be_depth, _METRES
    if what == "mask":
        read, take = read_mask, material_classes
        pictures, fits, expected = "masks", _may_be_mask, _LABELS
    lacking = Outcome.NO_DEPTH if what == "depth" else Outcome.NOT_A_RECORDING
    try:
        files = _named_files(video, given)
    except DktError as error:
        raise ProcessingError(lacking, f"{video}: {error}") from error
    if not files:
        kinds = ", ".join(DEPTHS)
        raise ProcessingError(
            lacking,
            f"{video}: {given} holds no {pictures}: expected a folder or pattern of {kinds} (no "
            "video, which keeps no exact numbers), an .npy or an .npz",
        )
    if len(files) == 1 and files[0].suffix.lower() in _ARRAY_FILES:
        array = _array(video, files[0], what)
        if array is None or array.ndim != 3 or not fits(array.dtype):
            found = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise ProcessingError(
                lacking,
                f"{video}: {files[0].name} has {found} for {what}, expected {expected} (T, H, W)",
            )
        return [partial(take, frame) for frame in array]
    return [partial(read, file) for file in files]


def _array(video: Path, path: Path, what: str) -> NDArray[Any] | None:
    """An .npy's array or an .npz's one of that name; None where there is none."""
    if path.suffix.lower() == ".npz":
        return _arrays(path).get(what)
    try:
        return mapped_array(path)
    except DktError as error:
        raise ProcessingError(Outcome.NO_DEPTH, f"{video}: {error}") from error


def _metres(depth: NDArray[Any], unit_m: float) -> NDArray[np.float32]:
    return known_depth(integer_to_depth(depth, unit_m) if depth.dtype.kind in "iu" else depth)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Those that are looked at; what else is in the file may be anything."""
    try:
        with arrays_in(path) as content:
            return {name: content[name] for name in _ARRAYS if name in content}
    except DktError as error:
        raise ProcessingError(Outcome.NOT_A_RECORDING, str(error)) from error


def is_clip_file(path: Path) -> bool:
    """Whether a file is a video or, of arrays, holds colour; one that cannot be read is to be told.

    Other arrays may be a video's depth, or anything.
    """
    if path.suffix.lower() != ".npz":
        return path.suffix.lower() in VIDEOS
    with suppress(DktError), arrays_in(path) as arrays:
        return "rgb" in arrays
    return True
