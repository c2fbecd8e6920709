"""Depth images of which a part is an earlier image's, as drivers send them that lose packets.

Knows rows of raw depth and small pictures of colour. A sensor's noise makes no row twice the same;
a part that is to the bit what it was before, while what is seen in it has moved, is of then.
"""

from __future__ import annotations

import zlib
from collections import deque

import numpy as np
from numpy.typing import NDArray

from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_ROWS, _COLUMNS = 40, 200
"""That are looked at, about."""
_REMEMBERED = 8  # frames
_FEWEST = 20  # readings of those, without which a row is anything's
_LEAST = 2  # rows


class Torn:
    """The rows of one stream's newest frames."""

    def __init__(self) -> None:
        self._frames: deque[tuple[NDArray[np.int64], Float32]] = deque(maxlen=_REMEMBERED)

    def take(self, raw: Float32, grey: Float32) -> tuple[float, float, float] | None:
        """The part that is an earlier frame's: where it begins and ends, and how colour changed.

        raw (H, W) metres, 0/NaN/inf unknown; grey (h, w), whatever its size. The first two are
        shares of the height, the third mean grey levels. None where there is no such part.
        """
        height, width = raw.shape
        some = raw[:: max(1, height // _ROWS), :: max(1, width // _COLUMNS)]
        full = np.count_nonzero(is_reading(some), axis=1) >= _FEWEST
        # Unknown rows are like none, not even themselves.
        rows = np.array(
            [
                zlib.crc32(row.tobytes()) if known else 0
                for row, known in zip(some, full, strict=True)
            ]
        )
        found = None
        for before, then in self._frames:
            if before.shape != rows.shape:
                continue
            same = (rows == before) & full
            if not _LEAST <= np.count_nonzero(same) < np.count_nonzero(full):
                continue
            at = np.flatnonzero(same)
            first, last = int(at[0]), int(at[-1]) + 1
            if np.count_nonzero(same[first:last]) < np.count_nonzero(full[first:last]):
                continue  # here and there
            begin, end = first / len(rows), last / len(rows)
            part = slice(int(begin * len(grey)), max(1, int(end * len(grey))))
            old, new = then[part] - then[part].mean(), grey[part] - grey[part].mean()
            moved = float(np.abs(new - old).mean())
            if found is None or moved > found[2]:
                found = begin, end, moved
        self._frames.append((rows, grey))
        return found
