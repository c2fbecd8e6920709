"""Image files to frames: which colour picture goes with which depth, truth, mask and intrinsics.

Knows names of files and how they pair. Knows nothing of bags.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dkt_ros.bags.recording import (
    DEFAULT_START_S,
    FRAME_ID,
    LabelledFrame,
    checked_stamp,
    labelled,
    stamps,
)
from dkt_ros.errors import DktError
from dkt_ros.files import natural_order, no_folder, shown
from dkt_ros.formats.intrinsics import (
    checked_intrinsics,
    read_intrinsics,
    stated_depth_unit,
    stated_distortion,
)
from dkt_ros.formats.pictures import DEPTHS, PICTURES
from dkt_ros.formats.pixels import read_depth, read_mask, read_rgb
from dkt_ros.frames import NANOSECONDS_PER_SECOND, Frame
from dkt_ros.geometry import METRES_PER_MILLIMETRE, USABLE_DEPTH_M, Intrinsics, depth_unit
from dkt_ros.messages.fields import MessageError

# As TUM's associate.py.
_SAME_TIME_S = 0.02
_TUM_LISTS = ("rgb.txt", "depth.txt")
NO_DEPTH = "no raw depth"
"""The cause under which frames without it are counted."""
_STAMP = re.compile(r"\d{9,}(\.\d+)?")
_PLACE = re.compile(r"\*\*/|\*|\?|\[!?\]?[^\]]*\]")
_PLACES = re.compile(rf"(\*\*/|(?:{_PLACE.pattern})+)")
"""Neighbours are one place: of ??? the text of three letters."""

Key = tuple[str, ...]


@dataclass(frozen=True)
class ImageFolder:
    """Where the pictures are and how they pair.

    Patterns are relative to `folder`; pictures belong together where the text in the place of the
    `*` is the same (`color/*.png` and `depth/*.exr`, or `*-rgb.jpg` and `*-depth.png`), or of `?`,
    `[0-9]`, `**/`. The suffix is no part of it: `color/*` and `*/rgb.*` match any. Without such a
    place a pattern is one file. Names that are time stamps pair with the nearest within 20 ms where
    they are not the same.
    intrinsics: a file, fx, fy, cx, cy in pixels, or a pattern: each picture has the file whose `*`
    are the same as its own first ones (`*/K.txt` beside `*/rgb/*`).
    metres_per_unit: of 16-bit depth maps; where it is a millimetre, what the intrinsics' file of
    the picture says of it holds, unless override_unit.
    repeat: how often each picture is shown in a row, with stamps that go on.
    gap_s: extra seconds between two pictures, so that unrelated scenes are not taken for one video.
    """

    folder: Path
    intrinsics: Path | str | tuple[float, float, float, float]
    color: str = "color/*"
    depth: str | None = "depth/*"
    truth: str | None = None
    mask: str | None = None
    metres_per_unit: float = METRES_PER_MILLIMETRE
    rate_hz: float = 10.0
    start_s: float = DEFAULT_START_S
    frame_id: str = FRAME_ID
    repeat: int = 1
    gap_s: float = 0.0
    override_unit: bool = False

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise DktError(f"repeat is {self.repeat}, expected 1 or more")
        if not 0 <= self.gap_s < math.inf:
            raise DktError(f"gap is {self.gap_s} s, expected 0 or more")
        if not 0 < self.metres_per_unit < math.inf:
            raise DktError(f"depth scale is {self.metres_per_unit}, expected metres per unit")

    def calibrations(self) -> dict[Key, Path]:
        """Files by the texts in the places of a pattern's `*`, () where one is for all pictures."""
        given = self.intrinsics
        if isinstance(given, tuple):
            return {}
        pattern = isinstance(given, str) and "*" in given
        return _matches(self.folder, str(given)) if pattern else {(): Path(given)}

    def finest_unit_m(self) -> float:
        """The least that one step of depth means, of files that state one unit for all."""
        stated = [stated_depth_unit(file) for file in self.calibrations().values()]
        return min(map(self.unit_m, stated or [None]))

    def unit_m(self, stated_m: float | None) -> float:
        """Metres that one step of depth means where a calibration states that, or None."""
        return depth_unit(self.metres_per_unit, stated_m, self.override_unit)


def read_frames(source: ImageFolder, remarks: list[str] | None = None) -> Iterator[LabelledFrame]:
    """Frames in the order of their names, one at a time; what is odd is added to `remarks`.

    The order is the natural one: 2.png before 10.png. Raises DktError where no colour picture
    matches, a partner is missing, a file is unusable, or the first depth that is known at all is
    out of range altogether.
    """
    for found in frames_or_errors(source, [] if remarks is None else remarks):
        if isinstance(found, DktError):
            raise found
        for why in found.unusable.values():
            raise DktError(why)
        yield found


def unit_remarks(unit_m: float, stated_m: float | None, calibration: object) -> list[str]:
    """What is said of depth whose calibration states another unit than a millimetre."""
    if stated_m is None or math.isclose(stated_m, METRES_PER_MILLIMETRE, rel_tol=1e-4):
        return []
    return [f"a step of depth is taken for {unit_m:g} m; {calibration} says {stated_m:g}"]


def distortion_remarks(calibration: Path, camera: Intrinsics, picture: str = "") -> list[str]:
    """What is said where the file of this camera tells of distortion; see read_intrinsics."""
    found = stated_distortion(calibration, camera.width, camera.height, picture)
    if not found:
        return []
    return [
        f"{calibration} tells of {found}, which is left out: expected rectified pictures and their "
        "calibration; of others, points near the borders are off"
    ]


def _told_by_convention(folder: Path) -> list[str]:
    """What is said of depth in millimetres that its data set's tools count otherwise."""
    if not all((folder / name).is_file() for name in _TUM_LISTS):
        return []
    return [
        f"{' and '.join(_TUM_LISTS)} are as TUM RGB-D has them, of whose depth 5000 steps are a "
        "metre, and a step is taken for 0.001 m: name the unit of this depth (--depth-unit of `dkt "
        "process`, --depth-scale of `dkt bag`; TUM's is 0.0002)"
    ]


def picture_count(source: ImageFolder) -> int:
    """Colour pictures that there are. Raises DktError where there is none."""
    return len(_matches(source.folder, source.color, PICTURES))


def frames_or_errors(
    source: ImageFolder, remarks: list[str], notes: list[str] | None = None
) -> Iterator[LabelledFrame | DktError]:
    """As read_frames, but an unusable file costs its frame: the error is in its place.

    With notes a missing one does, too; truth or a mask that is missing costs nothing and is told in
    them, as is depth of no picture. One that cannot be used is told in its frame.
    """
    roles = {"depth": source.depth, "truth": source.truth, "mask": source.mask}
    color = _matches(source.folder, source.color, PICTURES)
    partners = {
        role: _paired(source, role, pattern, color, remarks, notes)
        for role, pattern in roles.items()
        if pattern
    }
    keys = [key for key in color if all(key in files for files in partners.values())]
    keys.sort(key=lambda key: [natural_order(text) for text in key])
    cameras = source.calibrations()
    said = remarks if notes is None else notes
    told: set[float | None] = set()
    cameras_looked_at: set[Path] = set()
    bent: list[str] = []
    clock = stamps(source.rate_hz, source.start_s)
    without_depth, any_usable = 0, False
    first: Intrinsics | None = None
    of_another_size: list[Path] = []
    for index, key in enumerate(keys):
        pause_ns = round(index * source.gap_s * NANOSECONDS_PER_SECOND)
        times = [checked_stamp(next(clock) + pause_ns) for _ in range(source.repeat)]
        found = {role: files[key] for role, files in partners.items()}
        files = {"color": color[key]} | {role: path for role, path in found.items() if path}
        try:
            if found.get("depth", color[key]) is None:
                raise MessageError(
                    NO_DEPTH, f"{color[key]}: no depth by the pattern {source.depth!r}"
                )
            calibration = _calibration(source, cameras, key)
            stated_m = stated_depth_unit(calibration, _number(key)) if calibration else None
            unit_m = source.unit_m(stated_m)
            read = _read(source, calibration, unit_m, key, files, times[0])
        except DktError as error:
            yield error
            continue
        if stated_m not in told:
            told.add(stated_m)
            said += unit_remarks(unit_m, stated_m, calibration)
            if stated_m is None and "depth" in files and not source.override_unit:
                said += _told_by_convention(source.folder)
        camera = read.frame.intrinsics
        if calibration and not bent and calibration not in cameras_looked_at:
            cameras_looked_at.add(calibration)
            bent = distortion_remarks(calibration, camera, _number(key))
            said += bent
        first = first or camera
        if replace(camera, width=first.width, height=first.height) == first != camera:
            of_another_size.append(color[key])
        raw_depth = read.frame.raw_depth
        if raw_depth is not None:
            if _is_usable(raw_depth):
                any_usable = True
            else:
                without_depth += 1
                if not any_usable:
                    _refuse_out_of_range(files["depth"], raw_depth, unit_m)
        for stamp_ns in times:
            yield replace(read, frame=replace(read.frame, stamp_ns=stamp_ns))
    if of_another_size and first is not None:
        said.append(
            f"{len(of_another_size)} of {len(keys)} pictures are not {first.width}x{first.height} "
            f"as those before, the first is {of_another_size[0].name}, and one calibration cannot "
            "be right for both: give one that states its pictures' size, or separate the pictures"
        )
    if without_depth:
        near, far = USABLE_DEPTH_M
        remarks.append(
            f"{without_depth} of {len(keys)} pictures have no depth between {near} and {far:g} m"
        )


def _read(
    source: ImageFolder,
    calibration: Path | None,
    unit_m: float,
    key: Key,
    files: dict[str, Path],
    stamp_ns: int,
) -> LabelledFrame:
    """One frame of its files, by role."""
    rgb = read_rgb(files["color"])
    height, width = rgb.shape[:2]
    if calibration is not None:
        intrinsics = read_intrinsics(calibration, width, height, _number(key))
    else:
        assert isinstance(source.intrinsics, tuple)  # _calibration
        intrinsics = checked_intrinsics(*source.intrinsics, width, height, source="--pinhole")
    raw_depth = read_depth(files["depth"], unit_m) if "depth" in files else None
    truth = partial(read_depth, files["truth"], unit_m) if "truth" in files else None
    mask = partial(read_mask, files["mask"]) if "mask" in files else None
    try:
        frame = Frame(rgb, raw_depth, intrinsics, stamp_ns, source.frame_id)
    except DktError as error:
        raise DktError(f"{files['color']}: {error}") from error
    found = labelled(frame, truth, mask, str(files["color"]))
    return replace(found, picture=files["color"].relative_to(source.folder).as_posix())


def _matches(folder: Path, pattern: str, suffixes: Collection[str] = ()) -> dict[Key, Path]:
    """The texts in the places of the pattern's `*` -> file.

    suffixes: a pattern that leaves it open matches no others (time stamps, Thumbs.db), and arrays
    where there are no pictures alone; (): all.
    """
    if not folder.is_dir():
        raise DktError(f"{folder}: {no_folder(folder)}")
    stem = pattern.removesuffix(".*")
    any_suffix = stem != pattern or pattern.endswith("*")
    # `color/*` pairs with `depth/*` although .jpg and .png differ.
    names = "".join(map(_captured, _PLACES.split(stem)))
    if any_suffix:
        names = re.sub(r"\*\)$", "*?)", names) + r"(?:\.[^/.]+)?"
    try:
        files = sorted(shown(folder, pattern))
    except OSError as error:
        place = error.filename or folder
        raise DktError(f"{place}: cannot be listed ({error.strerror or error})") from error
    if any_suffix and suffixes:
        pictures = [path for path in files if path.suffix.lower() in PICTURES]
        files = pictures or [path for path in files if path.suffix.lower() in suffixes]
    found: dict[Key, Path] = {}
    for path in files:
        match = re.fullmatch(names, path.relative_to(folder).as_posix())
        if match is None or path.is_dir():  # a link to nothing is told when it is read
            continue
        other = found.setdefault(match.groups(), path)
        if other != path:
            raise DktError(
                f"{folder}: {other.name} and {path.name} both match {pattern!r}; remove one, or "
                f"name a pattern that only one matches, such as {_narrower(pattern, path)!r}"
            )
    if not found:
        raise DktError(f"{folder}: no file matches {pattern!r}")
    return found


def _captured(piece: str) -> str:
    """A regular expression for a piece of a pattern, that captures what stands in a place of it."""
    if not _PLACES.fullmatch(piece):
        return re.escape(piece)
    forms = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}
    parts = _PLACE.findall(piece)
    return f"({''.join(forms.get(part) or part.replace('[!', '[^') for part in parts)})"


def _narrower(pattern: str, path: Path) -> str:
    """The pattern for files of one suffix alone."""
    return pattern.removesuffix(".*") + path.suffix if pattern.endswith("*") else pattern


def _paired(
    source: ImageFolder,
    role: str,
    pattern: str,
    color: dict[Key, Path],
    remarks: list[str],
    notes: list[str] | None,
) -> Mapping[Key, Path | None]:
    """A file of this role for each colour picture; of stamps, some may lack one and are left out.

    notes: where what is missing may be None in its place; None: by name, it is refused.
    """
    files = _matches(source.folder, pattern, DEPTHS)
    missing = sorted(color.keys() - files.keys())
    over = sorted(files.keys() - color.keys())
    times = sorted((_seconds(key), path) for key, path in files.items())
    if missing and not any(np.isnan(_seconds(key)) for key in (*color, *files)):
        nearest = {key: _nearest(times, _seconds(key)) for key in color}
        found = {key: path for key, (apart, path) in nearest.items() if apart <= _SAME_TIME_S}
        if found:
            text = (
                f"{len(color) - len(found)} of {len(color)} colour pictures have no {role} within "
                f"{_SAME_TIME_S * 1e3:g} ms"
            )
            if len(found) < len(color) and notes is not None and role != "depth":
                notes.append(text)
                return {key: found.get(key) for key in color}
            if len(found) < len(color):
                remarks.append(f"{text} and are left out")
            return found
        apart = min(apart for apart, _ in nearest.values())
        raise DktError(
            f"{source.folder}: the names are times, and no {role} by the pattern {pattern!r} is "
            f"within {_SAME_TIME_S * 1e3:g} ms of a colour picture, the nearest is {apart:.3f} s "
            "away: are they of one recording, and stamped by one clock?"
        )
    if over and notes is not None and role == "depth":
        notes.append(
            f"{len(over)} of {len(files)} pictures by {pattern!r} are of no colour picture, the "
            f"first is {files[over[0]].name}"
        )
    if not missing:
        return files
    text = (
        f"{len(missing)} of {len(color)} colour pictures have no {role} by the pattern "
        f"{pattern!r}, the first is {color[missing[0]].name}"
    )
    if len(missing) == len(color):
        text += (
            f" and of the others {files[over[0]].name}: expected the same text in the place of the "
            "*, as 'color/rgb_*' and 'depth/depth_*' have it for rgb_1.png and depth_1.png"
        )
    if notes is None or len(missing) == len(color):
        raise DktError(f"{source.folder}: {text}")
    if role != "depth":  # the frames themselves tell of that
        notes.append(text)
    return {key: files.get(key) for key in color}


def _seconds(key: Key) -> float:
    """The time that a name states in seconds, or in whole ms, us or ns; NaN where it is none."""
    name = key[-1] if key else ""
    if not _STAMP.fullmatch(name):
        return float("nan")
    digits = len(name.partition(".")[0])
    return float(name) * 10.0 ** -(max(0, (digits - 10) // 3) * 3)


def _nearest(times: list[tuple[float, Path]], seconds: float) -> tuple[float, Path]:
    """How many seconds away the nearest is, and which one that is."""
    at = bisect_left(times, (seconds, Path()))
    around = times[max(0, at - 1) : at + 1]
    return min((abs(other - seconds), path) for other, path in around)


def _calibration(source: ImageFolder, cameras: Mapping[Key, Path], key: Key) -> Path | None:
    """The file that tells a picture's camera; None where its numbers are given."""
    if isinstance(source.intrinsics, tuple):
        return None
    own = cameras.get(key[: len(next(iter(cameras)))])
    if own is None:
        raise DktError(
            f"{source.folder}: no file of {source.intrinsics!r} for picture {'/'.join(key)}"
        )
    return own


def _number(key: Key) -> str:
    """By which calibrations tell a picture's camera."""
    return key[-1] if key else ""


def _is_usable(depth: np.ndarray) -> bool:
    near, far = USABLE_DEPTH_M
    return bool(((depth >= near) & (depth <= far)).any())


def _refuse_out_of_range(path: Path, depth: np.ndarray, metres_per_unit: float) -> None:
    if np.isfinite(depth).any():
        near, far = USABLE_DEPTH_M
        raise DktError(
            f"{path}: depth from {np.nanmin(depth):.3g} to {np.nanmax(depth):.3g} m, none between "
            f"{near} and {far:g} m; is a step of {metres_per_unit:g} m right (16-bit millimetres: "
            "0.001; --depth-unit of `dkt process`, --depth-scale of `dkt bag`), and are floats in "
            "metres?"
        )
