"""How far a run is and how long it will take. Knows nothing of what is being made.

The estimate is the mean of the last few sequences' times, one by one: what was there already and
what failed does not count, and a slow start is soon forgotten.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_RECENT = 8
_BAR = 24


class Progress:
    """Counts sequences of `frames` frames. A bar goes to `draw` where there is one (a terminal)."""

    def __init__(
        self,
        total: int,
        frames: int,
        draw: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.frames = total, frames
        self.finished = 0
        self._draw, self._clock = draw, clock
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._started = clock()
        self._frames_done = 0

    def frame(self) -> None:
        """One frame of the present sequence is done."""
        self._frames_done += 1
        self._show()

    def sequence(self, made: bool) -> None:
        """The present sequence is over; its time counts if it was made whole."""
        now = self._clock()
        if made:
            self._recent.append(now - self._started)
        self._started, self._frames_done = now, 0
        self.finished += 1
        self._show()

    @property
    def seconds_a_sequence(self) -> float | None:
        """Mean over the recent ones; None before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    @property
    def seconds_left(self) -> float | None:
        """What is left of all sequences; None before anything is known."""
        mean = self.seconds_a_sequence
        spent = self._clock() - self._started
        if mean is None:
            if not self._frames_done:
                return None
            mean = spent / self._frames_done * self.frames
        left = self.total - self.finished
        return max(mean * left - min(spent, mean), 0.0) if left else 0.0

    def __str__(self) -> str:
        mean, left = self.seconds_a_sequence, self.seconds_left
        rate = f"{mean / self.frames:.2f} s/frame" if mean is not None else "- s/frame"
        rest = duration(left) if left is not None else "?"
        return f"{self.finished}/{self.total}  {rate}  {rest} left"

    def _show(self) -> None:
        if self._draw is not None:
            share = (self.finished + self._frames_done / self.frames) / max(self.total, 1)
            full = round(min(share, 1.0) * _BAR)
            self._draw(f"[{'#' * full}{'.' * (_BAR - full)}] {self}")


def duration(seconds: float) -> str:
    """45 s, 12 min, 3.4 h, 2.1 d."""
    for size, unit, digits in ((86400, "d", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
