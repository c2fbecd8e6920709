"""Masks whose pixels are numbers of a palette's colours, as labelling tools (VOC, labelme) write.

Knows PNG, of which OpenCV shows the colours and never the numbers. Knows nothing of what they mean
but that 0, black, is nothing, and so is 255, by which those tools leave out what is unclear.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.formats.pictures import PNG

_HEADER, _COLOURS, _PIXELS, _END = b"IHDR", b"PLTE", b"IDAT", b"IEND"
_GREY, _PALETTE = 0, 3
_UNCLEAR = 255


def palette_numbers(content: bytes) -> NDArray[np.uint8] | None:
    """(H, W) uint8, of a PNG with a palette that has colours and begins with black.

    None of all else, damaged ones too. A palette of greys is how programs store grey more densely:
    its numbers mean nothing.
    """
    if not content.startswith(PNG):
        return None
    chunks = list(_chunks(content))
    header = dict(chunks).get(_HEADER, b"")
    colours = np.frombuffer(dict(chunks).get(_COLOURS, b""), np.uint8)
    if len(header) != 13 or header[9] != _PALETTE or len(colours) % 3 or not len(colours):
        return None
    colours = colours.reshape(-1, 3)
    if colours[0].any() or (colours == colours[:, :1]).all():
        return None
    # The same numbers as if they were greys, which are spread over 0 to 255.
    bits, header = header[8], header[:9] + bytes([_GREY]) + header[10:]
    pixels = [(kind, data) for kind, data in chunks if kind in (_PIXELS, _END)]
    grey = PNG + b"".join(_chunk(*one) for one in [(_HEADER, header), *pixels])
    found: NDArray[np.uint8] | None
    found = cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED)  # type: ignore[assignment]
    if found is None:
        return None
    numbers = np.asarray(found // (255 // (2**bits - 1)), np.uint8)
    numbers[numbers == _UNCLEAR] = 0
    return numbers


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each, up to one that is damaged."""
    place = len(PNG)
    while place + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        data = content[place + 8 : place + 8 + size]
        place += 12 + size
        if content[place - 4 : place] != _sum(kind, data):
            return
        yield kind, data


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + _sum(kind, data)


def _sum(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(kind + data))
