"""What counts as a silence of one of two streams."""

from __future__ import annotations

from collections.abc import Iterable

from dkt_ros.processing.silences import Silence, silences, told


def ns(seconds: Iterable[float]) -> list[int]:
    return [round(1e9 * (1000 + at)) for at in seconds]


def every(period_s: float, until_s: float, begin_s: float = 0.0) -> list[float]:
    return [begin_s + i * period_s for i in range(round((until_s - begin_s) / period_s) + 1)]


def test_what_is_missing_while_the_other_goes_on() -> None:
    color = ns(every(0.1, 20))
    depth = ns([*every(0.1, 8, begin_s=3), *every(0.1, 14, begin_s=10)])
    assert silences(depth, color) == [
        Silence(0.0, 3.0, 30, is_first=True),
        Silence(8.0, 10.0, 19),
        Silence(14.0, 20.0, 60, is_last=True),
    ]
    assert silences(color, depth) == []
    assert told("depth", "colour", silences(depth, color)[1:]) == (
        "depth is missing for 8.0 s in 2 places, the first from 8.0 s on, while colour goes on: "
        "79 of its images are without it"
    )


def test_what_is_none() -> None:
    color = ns(every(0.1, 20))
    assert silences(ns(every(3, 18)), color) == [], "that is how slow it is"
    assert silences(ns(every(0.1, 19.2, begin_s=0.8)), color) == [], "a recorder begins and ends"
    busy = ns([*every(0.01, 5), *every(0.01, 10, begin_s=5.5)])
    assert silences(busy, ns(every(0.01, 10))) == [], "a machine was busy"
    pairs = ns([*every(7, 56), *every(7, 56, begin_s=0.3)])
    assert silences(pairs, ns(every(0.1, 60))) == [], "a robot has two pictures taken of each bin"
    twice = ns([*every(1.05, 50), *every(1.05, 50, begin_s=1e-9)])
    assert silences([*twice, *twice], ns(every(0.1, 50))) == [], "relayed twice"
    both = ns([*every(0.1, 5), *every(0.1, 20, begin_s=12)])
    assert silences(both, both) == [], "the recorder paused"
    assert silences([*both, 0], both) == silences(both, [*both, 0]) == [], "one stamp of 1970"
    assert silences([], color) == silences(color, []) == []
