"""How files of pictures end: their names, and PNG and JPEG whose content ends too early.

Decoders fill up what is missing without a word.
"""

from __future__ import annotations

_WELL_KNOWN = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IMAGES = (*_WELL_KNOWN, ".ppm", ".pgm", ".jp2")
"""Endings of files that OpenCV reads as colour or grey."""
PICTURES = (*IMAGES, ".exr", ".npy")
"""Endings of files that may hold colour, depth or a mask."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
_END = {PNG: b"IEND", JPEG: b"\xff\xd9"}
_PADDING = 4096
"""Some cameras and writers pad files after the closing mark, with zeros by any length."""


def cut_short(content: bytes | memoryview) -> bool:
    """Whether a PNG or JPEG lacks its closing mark; False for other contents."""
    head, tail = bytes(content[: len(PNG)]), bytes(content).rstrip(b"\0")[-_PADDING:]
    return any(head.startswith(start) and end not in tail for start, end in _END.items())
