"""Streams that send an image again under a new stamp, as where depth is slower than its colour.

Knows of each frame whether its picture is to the bit the one before, and how much colour moved.
Knows no pictures. What stands still in front of a camera without noise is the same for long, and in
both streams; an image that is sent again is so a few times, and then comes the next.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable

from dkt_ros.fusion.suspicion import Suspicion
from dkt_ros.wording import counted

_NEWEST, _FEWEST, _CHANGES = 16, 12, 4  # frames; of the last so many show another picture
_OFTEN, _LONGEST = 0.3, 4  # share of them that are sent again, at least; in a row, at most
_MOVED = 0.7  # median of the mean grey levels between two: what stands still may come again


class Resent:
    """One stream's newest frames."""

    def __init__(self) -> None:
        self._again: deque[bool] = deque(maxlen=_NEWEST)
        self._moved: deque[float | None] = deque(maxlen=_NEWEST)

    def __bool__(self) -> bool:
        """Whether any was sent again."""
        return any(self._again)

    def take(self, again: bool, other_again: bool, moved: float | None) -> None:
        """The next frame: whether its picture, and the other stream's, is the one before.

        moved: mean change of colour, grey levels, since the frame before; None where that tells
        nothing of whether something moved that this stream did not show.
        """
        if again and other_again:
            return
        self._again.append(again)
        self._moved.append(moved)

    def found(self) -> tuple[int, int, int] | None:
        """How many of how many were sent again, and the most in a row; None where that is well."""
        count, number, longest, run = sum(self._again), len(self._again), 0, 0
        for again in self._again:
            run = run + 1 if again else 0
            longest = max(longest, run)
        often = number >= _FEWEST and count >= _OFTEN * number and number - count >= _CHANGES
        moved = [one for one in self._moved if one is not None]
        if not often or longest > _LONGEST or statistics.median(moved or [0.0]) < _MOVED:
            return None
        return count, number, longest


class SentAgain:
    """Both streams' frames."""

    def __init__(self) -> None:
        self._streams = {"colour": Resent(), "depth": Resent()}

    def take(self, colour: bool, depth: bool, moved: Callable[[], float | None]) -> list[Suspicion]:
        """With the next frame: whether its images are to the bit those before.

        moved: see Resent.take, of the one before and this; asked where any was sent again alone,
        for in most streams nothing is, and looking at how they move would cost more than the rest.
        """
        again = {"colour": colour, "depth": depth}
        is_asked = any(again.values()) or any(map(bool, self._streams.values()))
        by = moved() if is_asked else None
        found: list[Suspicion] = []
        for name, other in (("colour", "depth"), ("depth", "colour")):
            # Colour moves again when the next comes. Depth is older where colour moved meanwhile:
            # not in a simulation whose scene goes on by steps, for both.
            tells = again[name] == (name == "depth")
            self._streams[name].take(again[name], again[other], by if tells else None)
            if (counts := self._streams[name].found()) is None:
                continue
            count, number, longest = counts
            text = (
                f"{count} of the newest {number} {name} images are the one before to the bit, "
                f"under new stamps: {name} is up to {counted(longest, 'frame')} older than the "
                f"{other} of its stamp"
            )
            found.append(Suspicion("sent again", text, False))
        return found
