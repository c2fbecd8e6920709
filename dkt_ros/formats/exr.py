"""OpenEXR pictures to arrays, with errors that name the file.

Knows the container and its channels. Knows nothing of what a channel's values mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dkt_ros.errors import DktError

DEPTH_CHANNELS = ("Z", "Y", "D", "depth", "V", "R")
"""Names under which single-plane depth is stored, the likeliest first; R for depth kept as grey."""

_MAGIC = b"\x76\x2f\x31\x01"


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """Every channel of the file's first part: name to (H, W) float32.

    Half and 32-bit float and integer channels are converted. The planes cover the data window.
    Raises DktError where the file is missing, cut short, damaged or no EXR.
    """
    import OpenEXR  # its library is needed by few, and loading it costs a noticeable moment

    _check_magic(path)
    try:
        channels = OpenEXR.File(str(path), separate_channels=True).channels()
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        # The binding reports damage in the pixels as a file without parts.
        raise DktError(
            f"{path}: truncated or damaged EXR ({error}); download or render it again"
        ) from error
    planes = {name: np.asarray(c.pixels, np.float32) for name, c in channels.items()}
    if not planes or any(plane.ndim != 2 or plane.size == 0 for plane in planes.values()):
        raise DktError(f"{path}: an EXR without flat channels; deep pictures are not supported")
    return planes


def read_exr_plane(path: Path, names: Sequence[str] = DEPTH_CHANNELS) -> np.ndarray:
    """(H, W) float32: the first of the named channels that the file has. Raises DktError."""
    planes = read_exr(path)
    for name in names:
        if name in planes:
            return planes[name]
    raise DktError(f"{path}: has channels {_listed(planes)}, expected one of {', '.join(names)}")


def read_exr_vectors(path: Path) -> np.ndarray:
    """(H, W, 3) float32 of R, G, B, all of which must be there (DktError)."""
    planes = read_exr(path)
    missing = [name for name in "RGB" if name not in planes]
    if missing:
        raise DktError(
            f"{path}: has channels {_listed(planes)}, lacks {', '.join(missing)} of R, G, B"
        )
    return np.stack([planes[name] for name in "RGB"], axis=-1)


def _check_magic(path: Path) -> None:
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
