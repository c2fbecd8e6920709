"""Frames one after the other, and what happens to those that do not fit.

Nothing is left out silently: what is skipped is logged, counted and named.
"""

from __future__ import annotations

import logging

from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError

_log = logging.getLogger(__name__)


class Skipped:
    """Counts and names what was skipped; one may serve many calls.

    reasons: a frame or clip to why it was skipped the first time. Asked for again and skipped
    again, it counts again but is logged once.
    """

    def __init__(self) -> None:
        self.count = 0
        self.reasons: dict[str, str] = {}

    def add(self, what: str, why: str) -> None:
        """Notes one skipped frame, window or clip."""
        self.count += 1
        if what not in self.reasons:
            self.reasons[what] = why
            _log.warning("skipped %s: %s", what, why)

    def __str__(self) -> str:
        if not self.count:
            return "nothing skipped"
        first = next(iter(self.reasons.items()))
        return (
            f"{self.count} skipped, {len(self.reasons)} different ones, the first {first[0]} "
            f"({first[1]})"
        )


def read_frame(
    clip: Clip, index: int, skipped: Skipped, *, with_normal: bool = True
) -> Sample | None:
    """One frame of a clip; None where it does not fit, which is noted in `skipped`."""
    try:
        return clip.read(index, with_normal=with_normal)
    except DktError as error:
        skipped.add(f"{clip.name} frame {index}", str(error))
        return None
