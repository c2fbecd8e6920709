"""Files of pictures: their names and numbers, PNG and JPEG that end too early, how one is made.

Decoders fill up what is missing without a word.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.files import natural_order

_WELL_KNOWN = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IMAGES = (*_WELL_KNOWN, ".ppm", ".pgm", ".jp2")
"""Endings of files that OpenCV reads as colour or grey."""
PICTURES = (*IMAGES, ".exr", ".npy")
"""Endings of files that may hold colour, depth or a mask."""
DEPTHS = (*PICTURES, ".npz")
"""Endings of files that pixels.read_depth reads."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND"
_SCAN = 0xDA
_PADDING = 4096
"""Some cameras and writers pad files after the closing mark, with zeros by any length."""
_BIG_TIFF, _ORIENTATION, _SHORT = 43, 274, 3
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNREAD = (
    (b"ftyphei", 4, "a picture of HEIC"),
    (b"ftyphev", 4, "a picture of HEIC"),
    (b"ftypmif1", 4, "a picture of HEIF"),
    (b"ftypavif", 4, "a picture of AVIF"),
    (b"\xff\x0a", 0, "a picture of JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "a picture of JPEG XL"),
)
"""How pictures begin whose kind OpenCV reads nowhere, or not everywhere: what, where, which."""


def natural_key(path: Path) -> list[tuple[int, str]]:
    """natural_order of pictures, in their folders' order, whose names may differ in case."""
    return natural_order(path.as_posix().lower())


def numbers(files: Sequence[Path]) -> NDArray[np.float64] | None:
    """The last number in the names that varies from file to file; None where there is none."""
    found = [_NUMBER.findall(file.with_suffix("").as_posix()) for file in files]
    if len({len(texts) for texts in found}) != 1:
        return None
    varying = [column for column in zip(*found, strict=True) if len(set(column)) > 1]
    return np.array(varying[-1], np.float64) if varying else None


def out_of_step(files: Sequence[Path], others: Sequence[Path]) -> tuple[Path, Path] | None:
    """The first two of a place whose numbers lie apart otherwise than those at the beginning.

    None where they go together, or are not counted alike, as stamps and indices are. One may be
    counted from 0, the other from 1; of others that count alike, the first numbers are the same.
    """
    mine, theirs = numbers(files), numbers(others)
    if mine is None or theirs is None or len(mine) != len(theirs):
        return None
    step, other = (float(np.median(np.diff(one))) for one in (mine, theirs))
    if step <= 0 or not 0.5 < other / step < 2:
        return None
    off = np.abs(theirs - mine - (theirs[0] - mine[0])) / step
    counted = _counting(mine) is not None and _counting(theirs) is not None
    ahead = abs(theirs[0] - mine[0]) / step
    if counted and 0 < ahead < len(mine) and not ahead % 1 and max(mine[0], theirs[0]) > step:
        return files[0], others[0]
    apart = off >= (0.5 if counted else 0.75)
    # Where one begins anew, as nanoseconds do, a place before the other, there is nothing to tell.
    apart &= _turn(mine) == _turn(theirs)
    if not counted:
        apart[:-1] &= apart[1:]  # a late stamp displaces one, a missing picture all that follow
        apart[-1] &= apart[-2]
    first = int(np.argmax(apart))
    return (files[first], others[first]) if apart.any() else None


def _turn(found: NDArray[np.float64]) -> NDArray[np.intp]:
    """How often the numbers have begun anew, at each of them."""
    return np.cumsum(np.diff(found, prepend=found[0]) < 0)


def _counting(found: NDArray[np.float64]) -> float | None:
    """The least step of numbers that count, or begin anew; None of others, as times are."""
    steps = np.diff(found)
    forward = steps[steps >= 0]
    least = forward.min(initial=np.inf)
    return float(least) if least >= 1 and not (steps % least).any() else None


def skipping(files: Sequence[Path], count: int | None = None) -> tuple[Path, Path] | None:
    """Neighbours of files that are counted, between which most numbers are missing, or None.

    count: of the pictures that there should be, where known. Where every number is one of so many,
    or every second, and files only end too early or too late, none is missing between.
    """
    found = numbers(files)
    if found is None or (np.diff(found) < 0).any():
        return None  # no counting: several scenes
    least, steps = _counting(found), np.diff(found)
    if least is None or steps.max() == 1:
        return None
    if (
        count
        and steps.max() == least
        and abs(len(files) - count) <= abs(found[-1] - found[0] + 1 - count)
    ):
        return None
    first = int(np.argmax(steps))
    return files[first], files[first + 1]


def begun_late(files: Sequence[Path], count: int) -> Path | None:
    """The first of fewer pictures than `count` whose numbers end as those of all would; else None.

    The first ones are missing, unless they are counted from 1 and the last one is.
    """
    found = numbers(files)
    if found is None or len(files) >= count or (np.diff(found) < 0).any():
        return None
    least = _counting(found)
    ends = least is not None and found[-1] / least in (count - 1, count)
    return files[0] if ends and found[0] > 0 else None


def cut_short(content: bytes | memoryview) -> bool:
    """Whether a PNG or JPEG lacks its closing mark; False for other contents.

    What stands behind a JPEG's, as in a buffer that is larger than the picture, is not looked at.
    """
    head = bytes(content[: len(PNG)])
    if head.startswith(JPEG):
        return not _jpeg_ends(bytes(content))
    if not head.startswith(PNG) or _PNG_END in bytes(content[-_PADDING:]):
        return False
    return _PNG_END not in bytes(content).rstrip(b"\0")[-_PADDING:]


def _jpeg_ends(content: bytes) -> bool:
    """Whether its mark comes after its scan's begin: segments before may hold a whole thumbnail."""
    at = len(JPEG)
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        if content[at + 1] == 0xFF:  # padding
            at += 1
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.rfind(_JPEG_END, at) >= 0  # from behind: found at once in whole pictures


def as_stored(content: bytes) -> bytes:
    """The same picture, of a TIFF without the tag of how to turn it.

    OpenCV turns TIFFs alone, whatever it is asked: colour of one kind, depth of another would no
    longer lie on each other.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return content
    try:
        is_big = struct.unpack_from(f"{order}H", content, 2) == (_BIG_TIFF,)
        offset, length, entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
        (at,) = struct.unpack_from(order + offset, content, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + length, content, at)
        at += struct.calcsize(length)
        for place in range(at, min(at + entries * entry, len(content)), entry):
            if struct.unpack_from(f"{order}H", content, place) == (_ORIENTATION,):
                told = struct.pack(f"{order}HH{offset}H", _ORIENTATION, _SHORT, 1, 1)
                return content[:place] + told + content[place + len(told) :]
    except struct.error:  # damaged, as decoding it tells
        pass
    return content


def unread_kind(content: bytes) -> str:
    """What a picture is that OpenCV may not read, and what to do; "" where nothing tells."""
    for start, at, kind in _UNREAD:
        if content.startswith(start, at):
            return f"{kind}, which is not read here; convert it to PNG"
    if content[:4] in _TIFF:
        return (
            "damaged, or a TIFF of numbers that OpenCV does not read; download it again, or store "
            "it as PNG, or floats of 32 bits"
        )
    return ""


def encoded(suffix: str, picture: np.ndarray, *options: int) -> bytes:
    """A picture as a file of that ending; of three channels it is RGB. options: see cv2.imencode.

    Raises DktError where such files hold no such picture.
    """
    stored = np.ascontiguousarray(picture)
    if picture.ndim == 3:
        stored = np.asarray(cv2.cvtColor(stored, cv2.COLOR_RGB2BGR))
    done, content = cv2.imencode(suffix, stored, options)
    if not done:
        raise DktError(f"OpenCV cannot write {picture.shape} {picture.dtype} as {suffix}")
    return content.tobytes()
