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
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND"
_SCAN, _WITHOUT_LENGTH = 0xDA, (0x01, *range(0xD0, 0xD8))
_PADDING = 4096
"""Some cameras and writers pad files after the closing mark, with zeros by any length."""


def natural_key(path: Path) -> list[tuple[int, str]]:
    """natural_order of pictures, in their folders' order, whose names may differ in case."""
    return natural_order(path.as_posix().lower())


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
        elif content[at + 1] in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.rfind(_JPEG_END, at) >= 0  # from behind: found at once in whole pictures


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
