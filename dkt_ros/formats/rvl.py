"""RVL, a lossless code of 16-bit depth (A. D. Wilson, Fast Lossless Depth Image Compression, 2017).

An image is a row of runs: how many pixels are 0, how many are not, and for each of the latter the
difference to the one before, zigzagged so that small ones are small numbers. Numbers are written in
groups of three bits, the lowest first, four bits each with one that says whether more follow; eight
such nibbles fill a 32-bit word, the first at the top. Words are little-endian.

compressed_depth_image_transport puts width and height, uint32 each, before that.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.wording import counted

_SIZE = struct.Struct("<II")
_NIBBLES = 8  # of a word
_LONGEST = 11  # nibbles of a 32-bit number


def size(data: bytes | memoryview) -> tuple[int, int]:
    """(height, width) that encoded data says it has; DktError where there is none."""
    if len(data) < _SIZE.size:
        raise DktError(
            f"RVL data of {counted(len(data), 'byte')}: expected its size in the first 8"
        )
    width, height = _SIZE.unpack_from(data)
    return int(height), int(width)


def encode(image: NDArray[np.uint16]) -> bytes:
    """(H, W) uint16 -> size and code."""
    pixels = np.ascontiguousarray(image, dtype="<u2").ravel()
    known = pixels != 0
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]  # of the runs that are not 0
    zeros = starts - np.concatenate([[0], ends[:-1]]) if len(starts) else starts
    values = pixels[known].astype(np.int64)
    deltas = np.diff(values, prepend=0)
    lengths = ends - starts
    # Each run's two numbers stand before its differences.
    heads = 2 * np.arange(len(starts)) + np.concatenate([[0], np.cumsum(lengths)])[: len(starts)]
    numbers = np.zeros(2 * len(starts) + len(values), np.int64)
    is_delta = np.ones(len(numbers), bool)
    is_delta[heads] = is_delta[heads + 1] = False
    numbers[heads], numbers[heads + 1] = zeros, lengths
    numbers[is_delta] = (deltas << 1) ^ (deltas >> 63)
    last = int(ends[-1]) if len(ends) else 0
    if last < len(pixels):
        numbers = np.append(numbers, [len(pixels) - last, 0])
    return _SIZE.pack(image.shape[1], image.shape[0]) + _packed(numbers)


def decode(data: bytes | memoryview) -> NDArray[np.uint16]:
    """Size and code -> (H, W) uint16. Raises DktError where the data is cut short or damaged.

    What it says of its size is for the caller to judge first, see `size`.
    """
    height, width = size(data)
    numbers = _unpacked(np.frombuffer(data, np.uint8)[_SIZE.size :])
    total = height * width
    heads, at, filled = [], 0, 0
    while filled < total:
        if at + 1 >= len(numbers):
            raise DktError(f"RVL data ends after {filled} of {total} pixels: it is cut short")
        zeros, length = int(numbers[at]), int(numbers[at + 1])
        if zeros + length == 0 or filled + zeros + length > total:
            raise DktError(f"RVL data has a run of {zeros} + {length} at pixel {filled} of {total}")
        heads.append((at + 2, filled + zeros, length))
        at, filled = at + 2 + length, filled + zeros + length
    if at > len(numbers):
        raise DktError(f"RVL data lacks {at - len(numbers)} of its numbers: it is cut short")
    image = np.zeros(total, np.uint16)
    source, target, lengths = np.array(heads, np.int64).reshape(-1, 3).T
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    zigzag = numbers[np.repeat(source, lengths) + within]
    deltas = (zigzag >> 1) ^ -(zigzag & 1)
    image[np.repeat(target, lengths) + within] = np.cumsum(deltas).astype(np.uint16)
    return image.reshape(height, width)


def _packed(numbers: NDArray[np.int64]) -> bytes:
    """Numbers as nibbles in words."""
    longest = -(-int(numbers.max(initial=1)).bit_length() // 3)
    counts = np.ones(len(numbers), np.int8)
    for digits in range(1, longest):
        counts += numbers >> (3 * digits) > 0
    ends = np.cumsum(counts, dtype=np.int64)
    starts = ends - counts
    nibbles = np.zeros(-(-int(ends[-1]) // _NIBBLES) * _NIBBLES if len(ends) else 0, np.uint8)
    left = np.arange(len(numbers))
    for digit in range(longest):
        left = left[counts[left] > digit]
        more = (counts[left] > digit + 1).astype(np.uint8) << 3
        nibbles[starts[left] + digit] = (numbers[left] >> (3 * digit) & 7) | more
    pairs = nibbles[::2] << 4 | nibbles[1::2]
    return pairs.view(">u4").astype("<u4").tobytes()


def _unpacked(code: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers of all whole words; those after the last run are padding's."""
    words = code[: len(code) // 4 * 4].view("<u4").astype(">u4").view(np.uint8)
    nibbles = np.empty(2 * len(words), np.uint8)
    nibbles[::2], nibbles[1::2] = words >> 4, words & 15
    ends = np.flatnonzero(nibbles < 8)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    counts = ends - starts + 1
    if counts.max(initial=0) > _LONGEST:
        raise DktError("RVL data has a number of more than 32 bits: it is damaged")
    digits = nibbles & 7
    numbers = digits[starts].astype(np.int64)
    left = np.arange(len(ends))
    for digit in range(1, int(counts.max(initial=0))):
        left = left[counts[left] > digit]
        numbers[left] |= digits[starts[left] + digit].astype(np.int64) << (3 * digit)
    return numbers
