"""Where one of two streams was silent while the other went on. Knows times alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.arrays import count_of
from dkt_ros.frames import NANOSECONDS_PER_SECOND

_LEAST_S = 1.0
"""Shorter ones are a recorder's that begins or ends, or a machine's that was busy."""
_PERIODS = 10
"""A slow stream is silent between any two of its messages; so many periods are none of it."""
_SHORTER = 0.9
"""Of the times between two are no longer than a period: some cameras take two or three pictures at
each trigger, and then none until the next."""


@dataclass(frozen=True)
class Silence:
    """begin_s, end_s: from the first message of either stream on. lone: the other's within it.

    is_first, is_last: before the stream's first message, after its last.
    """

    begin_s: float
    end_s: float
    lone: int
    is_first: bool = False
    is_last: bool = False


def silences(times_ns: Sequence[int], others_ns: Sequence[int]) -> list[Silence]:
    """Those of the first stream; [] where either has no message."""
    if not times_ns or not others_ns:
        return []
    times, others = (np.unique(np.array(these, np.int64)) for these in (times_ns, others_ns))
    start, end = min(times[0], others[0]), max(times[-1], others[-1])
    apart = np.sort(np.diff(times))
    period = apart[int(_SHORTER * (len(apart) - 1))] if len(apart) else 0
    least = max(_LEAST_S * NANOSECONDS_PER_SECOND, _PERIODS * period)
    edges = np.concatenate([[start], times, [end]])
    found = []
    for place in np.flatnonzero(np.diff(edges) > least):
        begin_ns, end_ns = edges[place], edges[place + 1]
        lone = count_of((others > begin_ns) & (others < end_ns))
        lone += int(place == 0 and others[0] == start) + int(end_ns == end == others[-1])
        if lone > 1:
            begin_s, end_s = ((at - start) / NANOSECONDS_PER_SECOND for at in (begin_ns, end_ns))
            ends = bool(place == 0), bool(place == len(edges) - 2)
            found.append(Silence(float(begin_s), float(end_s), lone, *ends))
    return found


def told(name: str, other: str, found: Sequence[Silence]) -> str:
    """What is said of them: of the whole stretch where it is one, else of all and the first."""
    lone, total_s = sum(one.lone for one in found), sum(one.end_s - one.begin_s for one in found)
    first, places = found[0], "" if len(found) == 1 else f" in {len(found)} places, the first"
    to = " to the end" if first.is_last else ""
    return (
        f"{name} is missing for {total_s:.1f} s{places} from {first.begin_s:.1f} s on{to}, while "
        f"{other} goes on: {lone} of its images are without it"
    )
