"""Images of which a part is an earlier image's, as drivers send them that lose packets.

Knows rows of one stream, and small pictures of the other. A sensor's noise makes no row twice the
same; a part that is to the bit what it was before, while what is seen in it has moved, is of then.
A few rows of a picture that have never been otherwise are none of the sensor's: a bar with a name
or a clock is drawn there. Many are what stood still before anybody looked.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_ROWS, _COLUMNS = 40, 200
"""That are looked at, about."""
_REMEMBERED = 8  # frames
_FEWEST = 20  # readings of those, without which a row is anything's
_LEAST = 2  # rows
_OF_A_SENSOR = 0.5  # share of what a row shows that has ever changed; of a clock little does
_A_BAR = 0.3  # share of the rows that show anything, at most


class Torn:
    """The rows of one stream's newest frames."""

    def __init__(self, changed: Callable[[Float32, Float32], float]) -> None:
        """changed: how much a part (h, w) of the other stream's pictures is another than before."""
        self._changed = changed
        self._frames: deque[tuple[NDArray[np.int64], frozenset[int], Float32]]
        self._frames = deque(maxlen=_REMEMBERED)
        self._before: NDArray[Any] | None = None
        self._ever: NDArray[np.bool_] = np.zeros(0, bool)  # which samples have changed

    def take(self, picture: NDArray[Any], other: Float32) -> tuple[float, float, float] | None:
        """The part that is an earlier frame's: where it begins and ends, and what changed there.

        picture: raw depth (H, W) metres, 0/NaN/inf unknown, or colour (H, W, 3); other (h, w),
        whatever its size. The first two are shares of the height. None where there is no such part.
        """
        height, width = picture.shape[:2]
        some = picture[:: max(1, height // _ROWS), :: max(1, width // _COLUMNS)]
        some = np.ascontiguousarray(some)  # all that follows takes half as long
        shown = _shown(some)
        shows = shown.sum(1) >= _FEWEST
        # Rows that show nothing are like none, not even themselves.
        rows = np.array(
            [zlib.crc32(row) if does else 0 for row, does in zip(some, shows, strict=True)]
        )
        full = shows & ~self._drawn(some, shown, shows) if picture.ndim == 3 else shows
        found, each = None, frozenset(rows[shows].tolist())
        for before, known, then in self._frames:
            # Of a camera with noise none are the same, which the sets tell for a tenth of the cost.
            if before.shape != rows.shape or known.isdisjoint(each):
                continue
            same = (rows == before) & full
            if not _LEAST <= count_of(same) < count_of(full):
                continue
            at = np.flatnonzero(same)
            first, last = int(at[0]), int(at[-1]) + 1
            if count_of(same[first:last]) < count_of(full[first:last]):
                continue  # here and there
            begin, end = first / len(rows), last / len(rows)
            part = slice(int(begin * len(other)), max(1, int(end * len(other))))
            moved = self._changed(then[part], other[part])
            if found is None or moved > found[2]:
                found = begin, end, moved
        self._frames.append((rows, each, other))
        return found

    def _drawn(
        self, some: NDArray[Any], shown: NDArray[np.bool_], shows: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which rows (n,) of a picture's samples are a bar's, as far as it is known."""
        before, self._before = self._before, some
        if before is None or before.shape != some.shape:
            self._ever = np.zeros(some.shape, bool)
        else:
            self._ever |= some != before
        ever = self._ever[:, 1:].reshape(shown.shape)
        drawn = shows & ((ever & shown).sum(1) <= _OF_A_SENSOR * shown.sum(1))
        return drawn & (count_of(drawn) <= _A_BAR * count_of(shows))


def _shown(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """What of rows (n, w) of readings, or (n, w, 3) of colours, cannot be the same by chance."""
    if rows.ndim == 2:
        return np.asarray(is_reading(rows))
    return np.asarray(rows[:, 1:] != rows[:, :-1]).reshape(len(rows), -1)


def change_of_colour(then: Float32, now: Float32) -> float:
    """Mean grey levels, whatever the light does."""
    return float(np.abs((now - now.mean()) - (then - then.mean())).mean())
