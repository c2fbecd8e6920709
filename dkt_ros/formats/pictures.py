"""Files of pictures: their names, PNG and JPEG whose content ends too early, and how one is made.

Decoders fill up what is missing without a word.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.files import natural_order

_WELL_KNOWN = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IMAGES = (*_WELL_KNOWN, ".ppm", ".pgm", ".jp2")
"""Endings of files that OpenCV reads as colour or grey."""
PICTURES = (*IMAGES, ".exr", ".npy")
"""Endings of files that may hold colour, depth or a mask."""
DEPTHS = (*PICTURES, ".npz")
"""Endings of files that pixels.read_depth reads."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
_END = {PNG: b"IEND", JPEG: b"\xff\xd9"}
_PADDING = 4096
"""Some cameras and writers pad files after the closing mark, with zeros by any length."""


def natural_key(path: Path) -> list[tuple[int, str]]:
    """natural_order of pictures, in their folders' order, whose names may differ in case."""
    return natural_order(path.as_posix().lower())


def cut_short(content: bytes | memoryview) -> bool:
    """Whether a PNG or JPEG lacks its closing mark; False for other contents."""
    head = bytes(content[: len(PNG)])
    end = next((end for start, end in _END.items() if head.startswith(start)), b"")
    if end in bytes(content[-_PADDING:]):  # as a rule, and no need to copy all of it
        return False
    return end not in bytes(content).rstrip(b"\0")[-_PADDING:]


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
