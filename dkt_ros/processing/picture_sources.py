"""Recordings that are folders of pictures: by patterns, or as a data set has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from dkt_ros.bags.from_images import NO_DEPTH, ImageFolder, frames_or_errors, picture_count
from dkt_ros.bags.recording import FRAME_ID, LabelledFrame, stamps
from dkt_ros.datasets.dataset import Clip
from dkt_ros.errors import DktError
from dkt_ros.files import shown
from dkt_ros.formats.pictures import DEPTHS, PICTURES
from dkt_ros.frames import NANOSECONDS_PER_SECOND, Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.fields import MessageError
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import GIVE_CAMERA, Pending, Source, SourceOptions
from dkt_ros.processing.video_sources import is_clip_file

_COLOR = ("color/*", "rgb/*", "image/*", "images/*", "*rgb.*", "*color.*", "rgb*", "color*")
_DEPTH = (
    *("depth/*", "raw_depth/*", "aligned_depth/*", "*raw_depth.*", "*depth.*"),
    *("depth*", "raw_depth*"),
)
_CAMERA = (
    "*intrinsic*",
    "*camera_info*",
    "*calib*",
    "K.*",
    "camera.*",
    "cam_K.*",
    "camK.*",
    "cam*_param*",
    "scene_camera.*",
)
_CAMERA_FILES = (".txt", ".yaml", ".yml", ".json", ".npy", ".xml")
_OTHER_CAMERAS = {"depth", "ir", "infra", "infrared", "left", "right", "thermal"}
"""What names of calibration files say that are not colour's."""


class FolderSource(Source):
    """A folder of colour pictures, depth pictures and a calibration file."""

    kind = "folder"

    def __init__(self, path: Path, name: str, options: SourceOptions) -> None:
        super().__init__(path, name)
        color = options.color or _first_pattern(path, _COLOR)
        if color is None:
            raise ProcessingError(
                Outcome.NO_COLOR,
                f"{path}: no colour pictures found (looked for {', '.join(_COLOR)}); name them "
                "(--color PATTERN)",
            )
        depth = options.depth or _first_pattern(path, _DEPTH)
        if depth is None:
            raise ProcessingError(
                Outcome.NO_DEPTH,
                f"{path}: no depth pictures found (looked for {', '.join(_DEPTH)}); name them "
                "(--depth-images PATTERN)",
            )
        self._folder = ImageFolder(
            folder=path,
            intrinsics=options.pinhole or options.intrinsics or _calibration_file(path, self.notes),
            color=color,
            depth=depth,
            truth=options.truth,
            mask=options.mask,
            metres_per_unit=options.depth_unit_m,
            override_unit=options.override_unit,
            rate_hz=options.rate_hz,
        )
        try:
            self.total = picture_count(self._folder)
        except DktError as error:
            raise ProcessingError(Outcome.NOTHING_USABLE, str(error)) from error
        self.duration_s = self.total / options.rate_hz

    @property
    def has_truth(self) -> bool:
        """See Source."""
        return self._folder.truth is not None

    def items(self) -> Iterator[Pending]:
        """See Source."""
        try:
            for found in frames_or_errors(self._folder, self.remarks, self.notes):
                yield Pending(partial(_usable, found))
        except DktError as error:
            raise ProcessingError(Outcome.NOTHING_USABLE, str(error)) from error


class ClipSource(Source):
    """A clip of a data set; pictures that are no video are streams of their own."""

    kind = "data set"
    has_truth = True

    def __init__(self, clip: Clip, name: str, options: SourceOptions) -> None:
        super().__init__(clip.path, name)
        self._clip = clip
        self._options = options
        try:
            self.total = len(clip)
        except DktError as error:
            raise ProcessingError(Outcome.EMPTY, str(error)) from error
        self.duration_s = self.total / options.rate_hz if clip.is_video else 0.0

    def items(self) -> Iterator[Pending]:
        """See Source."""
        clock = stamps(self._options.rate_hz)
        for index in range(self.total):
            apart = 0 if self._clip.is_video else index
            yield Pending(partial(self._read, index, next(clock)), apart)

    def _read(self, index: int, stamp_ns: int) -> LabelledFrame:
        sample = self._clip.read(index, with_normal=False)
        if sample.raw_depth is None:
            raise MessageError(NO_DEPTH, f"{sample.source}: the data set holds no raw depth of it")
        height, width = sample.rgb.shape[:2]
        if self._options.has_camera:
            camera = self.camera_given(self._options, width, height)
        elif sample.camera_matrix is not None:
            camera = Intrinsics.from_matrix(sample.camera_matrix, width, height)
        else:
            raise ProcessingError(
                Outcome.NO_CAMERA_INFO,
                f"{sample.source}: the data set holds no intrinsics of it; {GIVE_CAMERA}",
            )
        # Unrelated pictures lie apart in time, so that who reads them takes them for no video.
        stamp_ns += 0 if self._clip.is_video else index * 4 * NANOSECONDS_PER_SECOND
        frame = Frame(sample.rgb, sample.raw_depth, camera, stamp_ns, FRAME_ID)
        key = str(self._clip.keys[index])
        return LabelledFrame(frame, sample.depth, sample.mask, picture=key)


def _usable(found: LabelledFrame | DktError) -> LabelledFrame:
    if isinstance(found, DktError):
        raise found
    return found


def _calibration_file(folder: Path, notes: list[str]) -> Path:
    """Colour's; another camera's where there is no other, which is noted."""
    there = [file for file in shown(folder) if file.suffix.lower() in _CAMERA_FILES]
    others: list[Path] = []
    for pattern in _CAMERA:
        found = sorted(file for file in there if fnmatch(file.name.lower(), pattern.lower()))
        own = [file for file in found if not _is_of_another(file)]
        if len({file.stem for file in own}) > 1:
            names = ", ".join(file.name for file in own[:4])
            raise ProcessingError(
                Outcome.NO_CAMERA_INFO,
                f"{folder}: {names} may each be the calibration of the colour camera; name it "
                "(--intrinsics FILE)",
            )
        if own:
            return own[0]
        others += found
    if not others:
        raise ProcessingError(
            Outcome.NO_CAMERA_INFO,
            f"{folder}: no calibration found (looked for {', '.join(_CAMERA)}); {GIVE_CAMERA}",
        )
    notes.append(
        f"the calibration of {others[0].name} is taken for colour's; --intrinsics names another"
    )
    return others[0]


def _is_of_another(file: Path) -> bool:
    words = set(re.split(r"[\W\d_]+", file.stem.lower()))
    return bool(words & _OTHER_CAMERAS) and not words & {"color", "colour", "rgb"}


def is_picture_folder(path: Path) -> bool:
    """Whether a folder seems to hold colour and depth pictures.

    Depth beside videos or arrays, without colour pictures, is theirs.
    """
    if _first_pattern(path, _COLOR):
        return True
    return bool(_first_pattern(path, _DEPTH)) and not any(map(is_clip_file, shown(path)))


def _first_pattern(folder: Path, patterns: tuple[str, ...]) -> str | None:
    """The first pattern that matches pictures, as it is, with capitals, or in capitals.

    Colour patterns must not match depth ones.
    """
    is_depth = patterns is _DEPTH
    for pattern in (form for one in patterns for form in (one, one.title(), one.upper())):
        suffixes = DEPTHS if is_depth else PICTURES
        found = (file for file in shown(folder, pattern) if file.suffix.lower() in suffixes)
        names = [file.name.lower() for file in found]
        if names and (is_depth or not any("depth" in name for name in names)):
            return pattern
    return None
