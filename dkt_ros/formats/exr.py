"""OpenEXR pictures to arrays, with errors that name the file.

Knows the container and its channels. Knows nothing of what a channel's values mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.files import check_no_pipe

DEPTH_CHANNELS = ("Z", "Y", "D", "depth", "V", "R")
"""Names under which single-plane depth is stored, the likeliest first; R for depth kept as grey."""

_DEPTH_LAYER = re.compile(r"(^|[._])(z|\w*depth\w*)$", re.IGNORECASE)
"""What comes before the last dot of a channel in a file of several layers."""
_COLOUR_SHARE = 0.05
_MAGIC = b"\x76\x2f\x31\x01"


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """Every channel of the file: name to (H, W) float32, those of a second part behind its name.

    Half and 32-bit float and integer channels are converted. The planes cover the picture, the
    display window; where the file holds nothing of it they are 0. A name that the first part has
    too comes as "part.name".
    Raises DktError where the file is missing, cut short, damaged or no EXR.
    """
    import OpenEXR  # its library is needed by few, and loading it costs a noticeable moment

    _check_magic(path)
    try:
        file = OpenEXR.File(str(path), separate_channels=True)
        file.channels()
        parts = [(part.name(), part.channels, part.header) for part in file.parts]
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        # The binding reports damage in the pixels as a file without parts.
        raise DktError(
            f"{path}: truncated or damaged EXR ({error}); download or render it again"
        ) from error
    planes: dict[str, np.ndarray] = {}
    for part, channels, header in parts:
        for name, channel in channels.items():
            plane = np.asarray(channel.pixels, np.float32)
            planes[f"{part}.{name}" if name in planes else name] = _in_window(plane, header)
    if not planes or any(plane.ndim != 2 or plane.size == 0 for plane in planes.values()):
        raise DktError(f"{path}: an EXR without flat channels; deep pictures are not supported")
    return planes


def read_exr_plane(path: Path) -> np.ndarray:
    """(H, W) float32: the first of DEPTH_CHANNELS that the file has. Raises DktError."""
    planes = read_exr(path)
    return planes[_first(path, planes, DEPTH_CHANNELS)]


def read_exr_depth(path: Path) -> np.ndarray:
    """(H, W) float32 from whichever channel or layer holds depth.

    Raises DktError where there is none, where several layers may be it, and where R or Y, of a
    file that has nothing likelier, is the red or the brightness of a picture.
    """
    planes = read_exr(path)
    layers = [name for name in planes if _DEPTH_LAYER.search(name.rpartition(".")[0])]
    if len({name.rpartition(".")[0] for name in layers}) > 1:
        raise DktError(
            f"{path}: has several layers of depth, {', '.join(sorted(layers))}; keep one"
        )
    likely = [name for name in DEPTH_CHANNELS if name != "R"]
    order = (
        *likely,
        *(name for name in planes if name.lower() in {each.lower() for each in likely}),
        *sorted(layers, key=lambda name: _likelihood(name.rpartition(".")[2])),
        "R",
    )
    chosen = _first(path, planes, order)
    if (chosen == "R" and _coloured(planes)) or (chosen == "Y" and planes.keys() & {"RY", "BY"}):
        raise DktError(
            f"{path}: is a picture in colours, expected depth; take the depth pass's file"
        )
    return planes[chosen]


def read_exr_vectors(path: Path) -> np.ndarray:
    """(H, W, 3) float32 of R, G, B, all of which must be there (DktError)."""
    planes = read_exr(path)
    missing = [name for name in "RGB" if name not in planes]
    if missing:
        raise DktError(
            f"{path}: has channels {_listed(planes)}, lacks {', '.join(missing)} of R, G, B"
        )
    return np.stack([planes[name] for name in "RGB"], axis=-1)


def _first(path: Path, planes: dict[str, np.ndarray], names: Sequence[str]) -> str:
    """The first of the names that the file has."""
    found = next((name for name in names if name in planes), None)
    if found is None:
        expected = ", ".join(names)
        raise DktError(f"{path}: has channels {_listed(planes)}, expected one of {expected}")
    return found


def _likelihood(channel: str) -> int:
    return DEPTH_CHANNELS.index(channel) if channel in DEPTH_CHANNELS else len(DEPTH_CHANNELS)


def _coloured(planes: dict[str, np.ndarray]) -> bool:
    """Whether G or B, where they hold anything, are other than R; lossy kinds alter them a bit."""
    red = planes["R"]
    others = [planes[name] for name in "GB" if name in planes and planes[name].shape == red.shape]
    close = [np.isclose(red, other, 0.02, 1e-3, equal_nan=True) for other in others if other.any()]
    return any(1 - np.mean(same) > _COLOUR_SHARE for same in close)


def _in_window(plane: np.ndarray, header: Mapping[str, Any]) -> np.ndarray:
    """A plane of the data window in the display window, which renderers and compositors crop."""
    (x0, y0), (x1, y1) = (np.asarray(corner, int) for corner in header["dataWindow"])
    (left, top), (right, bottom) = (np.asarray(corner, int) for corner in header["displayWindow"])
    if plane.shape != (y1 - y0 + 1, x1 - x0 + 1) or (x0, y0, x1, y1) == (left, top, right, bottom):
        return plane
    whole = np.zeros((bottom - top + 1, right - left + 1), np.float32)
    rows = slice(max(y0, top), min(y1, bottom) + 1)
    columns = slice(max(x0, left), min(x1, right) + 1)
    if rows.start < rows.stop and columns.start < columns.stop:
        inside = plane[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
        whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = (
            inside
        )
    return whole


def _check_magic(path: Path) -> None:
    check_no_pipe(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
    if start != _MAGIC:
        found = "is empty" if not start else f"starts with {start.hex()}"
        raise DktError(f"{path}: {found}, no EXR file; download or render it again")


def _listed(planes: dict[str, np.ndarray]) -> str:
    return ", ".join(sorted(planes))
