"""Frames one after the other, and what happens to those that do not fit.

Nothing is left out silently: what is skipped is logged, counted and named.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError

_log = logging.getLogger(__name__)

OnBad = Literal["skip", "raise"]


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


def iterate(
    clips: Iterable[Clip],
    *,
    on_bad: OnBad = "raise",
    skipped: Skipped | None = None,
    with_normal: bool = True,
) -> Iterator[Sample]:
    """All frames of the clips (a Dataset, or what Dataset.select gives), one held at a time.

    on_bad: "skip" leaves out what does not fit and notes it in `skipped`; "raise" raises the
    DktError. A clip that cannot be listed counts as one.
    """
    skipped = _checked(on_bad, skipped)
    for clip in clips:
        try:
            count = len(clip)
        except DktError as error:
            _bad(clip.name, error, on_bad, skipped)
            continue
        for index in range(count):
            frames = read_frames(
                clip, (index,), on_bad=on_bad, skipped=skipped, with_normal=with_normal
            )
            if frames is not None:
                yield frames[0]


def read_frames(
    clip: Clip,
    indices: Sequence[int],
    *,
    on_bad: OnBad = "raise",
    skipped: Skipped | None = None,
    with_normal: bool = True,
) -> tuple[Sample, ...] | None:
    """Some frames of one clip, such as a training window.

    None where one of them is bad and on_bad is "skip"; with "raise" that raises its DktError.
    """
    skipped = _checked(on_bad, skipped)
    frames = []
    for index in indices:
        try:
            frames.append(clip.read(index, with_normal=with_normal))
        except DktError as error:
            _bad(f"{clip.name} frame {index}", error, on_bad, skipped)
            return None
    return tuple(frames)


def _checked(on_bad: OnBad, skipped: Skipped | None) -> Skipped:
    if on_bad not in ("skip", "raise"):
        raise ValueError(f"on_bad is {on_bad!r}, expected 'skip' or 'raise'")
    return Skipped() if skipped is None else skipped


def _bad(what: str, error: DktError, on_bad: OnBad, skipped: Skipped) -> None:
    if on_bad == "raise":
        raise error
    skipped.add(what, str(error))
