"""Pairs colour with depth by their stamps. Knows stamps only: no thread, no rclpy, no message type.

Unlike message_filters' approximate time it decides as soon as no nearer partner can be expected,
needs no queue to fill first, and starts anew when stamps run backwards, as after a bag loops.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

Color = TypeVar("Color")
Depth = TypeVar("Depth")
Payload = TypeVar("Payload")

QUEUE_SIZE, LONGEST_WAIT_S, MOST_WAITING = 10, 0.5, 60
"""Unpaired messages of a stream are kept up to the first, and beyond it as long as they span no
longer than the second and are no more than the third: what lags behind does so by time."""
FEWEST_PAIRS, MOST_PAIRS, STEADY_NS, APART_S = 10, 30, 2_000_000, 0.01
"""Newest pairs, at least and at most, whose stamps tell whether they are apart for good: by what
differs no more than the third (the middle four fifths of them), and is worth a word from the last
on."""
CLEARLY_NEARER = 0.5
"""Of a depth image's distance to a colour, within which a later colour takes it away: where colour
comes twice as often, or by a clock of its own that has run ahead by most of a period."""
GIVEN_UP = 300
"""Newest stamps of such that were given up, by which what comes later still is known."""

MISSES = 20
"""Colour messages without a partner, since the last pair, whose distance to the next is kept."""
PACE_STAMPS, FEWEST_STAMPS = 90, 20
"""Newest stamps that tell a stream's pace; fewer than the second tell nothing."""
OWN_PACE, ALIKE = (16, 4), 0.2
"""Steps in a row that differ by no more than that share are the camera's own pace, as in the dark,
where they span so many periods (the first) and are so many (the second): loss is not as even."""
TOGETHER, MADE_UP_FOR, CLEARLY_MADE_UP_FOR, UNEVEN = 4, 0.55, 0.3, 0.12
"""So many steps vary by less than these shares of what they would by loss: the first where steps
are off from whole periods by more than the last, in the mean."""
STOPPED = 4
"""The longest step, if of so many periods or more, is a camera that stopped for a while; so are all
such steps of one stream in which the other stood still as well."""
LONGEST_PAUSE_NS = 2 * 10**9
"""A stream that paused for longer was stopped; its messages were not lost."""
SIMULATED_NS = 365 * 86_400 * 10**9
"""Clocks of simulations run from 0 to about here; behind a later stamp, 0 means none."""


class DropCause(Enum):
    """Why the synchroniser gave a message up."""

    NO_DEPTH = "colour without depth in time"
    NO_COLOR = "depth without colour in time"
    DUPLICATE = "the same stamp twice"
    NO_STAMP = "stamped 0 or less"
    QUEUE_FULL = "waited for the other stream too long"
    TIME_JUMP = "pending when stamps ran backwards"


@dataclass(frozen=True)
class Pair(Generic[Color, Depth]):
    """A colour and a depth message at most the slop apart."""

    color: Color
    depth: Depth
    color_stamp_ns: int
    depth_stamp_ns: int


class _Stream(Generic[Payload]):
    """Pending messages of one topic, oldest first, and what their stamps tell of its period."""

    def __init__(self) -> None:
        self.pending: deque[tuple[int, Payload]] = deque()
        self.given_up_ns: deque[int] = deque(maxlen=GIVEN_UP)
        self.late_ns: deque[int] = deque(maxlen=MISSES)
        self.stamps_ns: deque[int] = deque(maxlen=PACE_STAMPS)
        self.last_ns: int | None = None
        self.period_ns: int | None = None

    def append(self, stamp_ns: int, payload: Payload) -> None:
        if self.last_ns is not None:
            self.period_ns = stamp_ns - self.last_ns
            if self.period_ns > LONGEST_PAUSE_NS:
                self.stamps_ns.clear()
        self.last_ns = stamp_ns
        self.stamps_ns.append(stamp_ns)
        self.pending.append((stamp_ns, payload))

    def give_up_oldest(self) -> None:
        stamp_ns, _ = self.pending.popleft()
        self.given_up_ns.append(stamp_ns)

    @property
    def span_ns(self) -> int:
        return self.pending[-1][0] - self.pending[0][0]


def lost_share(stamps_ns: Sequence[int], pauses: Sequence[tuple[int, int]] = ()) -> float | None:
    """How large a share of a stream's messages is missing between these stamps; None: too few.

    pauses: from stamp to stamp, in which none was sent.

    The stream's period is that of the shortest steps, which jitter makes shorter still; whoever
    steps by about k of them has lost k - 1 messages, unless all around step so. None are missing
    where short steps make up for long ones, which no loss does: images are stamped late and early
    by turns there, as when they are by their arrival.
    """
    if len(stamps_ns) < FEWEST_STAMPS:
        return None
    ordered = list(stamps_ns)
    steps = [
        after - before
        for before, after in itertools.pairwise(ordered)
        if (before, after) not in pauses
    ]
    shortest = sorted(steps)[len(steps) // 20]
    period = statistics.median(step for step in steps if step <= 1.5 * shortest)
    uneven = statistics.fmean(abs(step / period - round(step / period)) for step in steps)
    if _together(steps) < (MADE_UP_FOR if uneven > UNEVEN else CLEARLY_MADE_UP_FOR):
        return 0.0
    taken = [max(1, round(step / period)) for step in steps]
    if (longest := max(taken)) >= STOPPED:
        taken.remove(longest)
    periods, number = OWN_PACE
    first, *others = _runs(taken)
    *between, last = others or [first]
    # Of a slower pace that has just begun, or that is remembered in part, nobody can tell yet.
    cut = [run for run in (first, last) if len(run) == 1 or statistics.median(run) == 1]
    runs = [*between, *(cut if others else cut[:1])] or [first]
    sent = sum(len(run) if sum(run) >= periods and len(run) >= number else sum(run) for run in runs)
    return 1.0 - sum(map(len, runs)) / sent


def shared_pauses(
    one: Sequence[int], other: Sequence[int]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The long steps of two streams in which both stood still, from stamp to stamp.

    What is lost on the way is lost of either by itself.
    """
    found: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    ones, others = _long_steps(one), _long_steps(other)
    for a in ones:
        for b in others:
            if min(a[1], b[1]) - max(a[0], b[0]) > 0.5 * max(a[1] - a[0], b[1] - b[0]):
                found[0].append(a)
                found[1].append(b)
    return found


def _long_steps(stamps_ns: Sequence[int]) -> list[tuple[int, int]]:
    """Those with shorter ones before and after: several in a row are a slower pace."""
    if len(stamps_ns) < FEWEST_STAMPS:
        return []
    steps = list(itertools.pairwise(stamps_ns))
    long = STOPPED * statistics.median(after - before for before, after in steps)
    is_long = [after - before >= long for before, after in steps]
    around = zip(is_long, is_long[1:], is_long[2:], strict=False)
    return [
        step
        for step, (one, this, other) in zip(steps[1:-1], around, strict=True)
        if this and not (one or other)
    ]


def _together(steps: Sequence[int]) -> float:
    """How much some steps together vary, 1 being that of steps that know nothing of each other.

    A longest one in which the camera has stopped for a while is left out.
    """
    longest = max(steps)
    if longest >= STOPPED * statistics.median(steps):
        at = steps.index(longest)
        steps = [*steps[:at], *steps[at + 1 :]]
    several = [sum(steps[at : at + TOGETHER]) for at in range(len(steps) - TOGETHER + 1)]
    alone = TOGETHER * statistics.pvariance(steps)
    return statistics.pvariance(several) / alone if alone else 1.0


def _runs(steps: Sequence[int]) -> Iterator[list[int]]:
    """The steps, those together that are alike."""
    run: list[int] = []
    for step in steps:
        usual = statistics.median(run) if run else step
        if abs(step - usual) > ALIKE * usual:
            yield run
            run = []
        run.append(step)
    yield run


def wide_enough(distance_s: float) -> float:
    """A round slop, seconds, with a fifth to spare."""
    return math.ceil(distance_s * 1.2 * 100.0) / 100.0


def told_apart(seconds: float | None) -> str:
    """What to do about depth that is stamped so long after its colour; "" where it is little."""
    if seconds is None or abs(seconds) < APART_S:
        return ""
    return (
        f"depth is stamped {abs(seconds) * 1000:.0f} ms {'after' if seconds > 0 else 'before'} the "
        "colour that it is paired with, frame for frame: what moves, and all while the camera "
        f"does, lies beside its colour by what it moves meanwhile (at 0.5 m/s by "
        f"{abs(seconds) * 500:.0f} mm), or by a frame's time more where the stamps are wrong. Have "
        "the driver take and stamp both at once (RealSense: enable_sync:=true; Orbbec: "
        "enable_frame_sync:=true)"
    )


class Synchronizer(Generic[Color, Depth]):
    """Streams in, pairs out; every message that is not paired is counted under its cause.

    A colour message is paired with the depth message of the nearest stamp, at most `slop_s` away
    (0 means equal stamps), unless a later colour is clearly nearer to that. Each message is used
    once, and colour stamps of successive pairs rise.
    `queue_size`: how many may wait, or more where they span no more than LONGEST_WAIT_S.
    """

    def __init__(self, slop_s: float, queue_size: int = QUEUE_SIZE) -> None:
        if slop_s < 0.0:
            raise ValueError(f"slop_s is {slop_s}, expected seconds >= 0")
        if queue_size < 1:
            raise ValueError(f"queue_size is {queue_size}, expected at least 1")
        self.slop_s = slop_s
        self._queue_size = queue_size
        self._color: _Stream[Color] = _Stream()
        self._depth: _Stream[Depth] = _Stream()
        self.dropped: Counter[DropCause] = Counter()
        self.time_jumps = 0
        self.came_late = 0  # messages whose partner had been given up
        self._missed_ns: deque[int] = deque(maxlen=MISSES)
        self._apart_ns: deque[int] = deque(maxlen=MOST_PAIRS)

    def __len__(self) -> int:
        """How many messages wait for a partner, both streams together."""
        return len(self._color.pending) + len(self._depth.pending)

    def push_color(self, stamp_ns: int, payload: Color) -> list[Pair[Color, Depth]]:
        """Files a colour message; returns the pairs that it completed, oldest first."""
        return self._push(self._color, stamp_ns, payload)

    def push_depth(self, stamp_ns: int, payload: Depth) -> list[Pair[Color, Depth]]:
        """Files a depth message; returns the pairs that it completed, oldest first."""
        return self._push(self._depth, stamp_ns, payload)

    def clear(self) -> None:
        """Forgets pending messages and stamps; what was pending counts as lost to a time jump."""
        self.dropped[DropCause.TIME_JUMP] += len(self)
        self._color = _Stream()
        self._depth = _Stream()
        self._apart_ns.clear()

    @property
    def offset_s(self) -> float | None:
        """Newest colour stamp less newest depth stamp; None until both streams were seen."""
        if self._color.last_ns is None or self._depth.last_ns is None:
            return None
        return (self._color.last_ns - self._depth.last_ns) * 1e-9

    @property
    def apart_s(self) -> float | None:
        """How long after its colour depth is stamped, in all pairs of late alike; None: unlike."""
        apart = sorted(self._apart_ns)
        tenth = len(apart) // 10
        if len(apart) < FEWEST_PAIRS or apart[-1 - tenth] - apart[tenth] > STEADY_NS:
            return None
        return statistics.median(apart) * 1e-9

    @property
    def missed_s(self) -> float | None:
        """How far, of late, the nearest depth was from colour that found none near enough."""
        return statistics.median(self._missed_ns) * 1e-9 if self._missed_ns else None

    @property
    def late_s(self) -> dict[str, float]:
        """Stream -> how far, of late, it comes behind the other, which does not wait as long."""
        return {
            name: statistics.median(stream.late_ns) * 1e-9
            for name, stream in (("color", self._color), ("depth", self._depth))
            if stream.late_ns
        }

    def lost_share(self) -> dict[str, float]:
        """Stream -> share of its newest messages that did not arrive, judging by the stamps."""
        color_ns, depth_ns = self._color.stamps_ns, self._depth.stamps_ns
        color_pauses, depth_pauses = shared_pauses(color_ns, depth_ns)
        shares = {
            "color": lost_share(color_ns, color_pauses),
            "depth": lost_share(depth_ns, depth_pauses),
        }
        return {name: share for name, share in shares.items() if share is not None}

    @property
    def pauses_s(self) -> list[float]:
        """How long both streams stood still together, each time of late."""
        pauses, _ = shared_pauses(self._color.stamps_ns, self._depth.stamps_ns)
        return [(after - before) * 1e-9 for before, after in pauses]

    def _push(
        self, stream: _Stream[Any], stamp_ns: int, payload: object
    ) -> list[Pair[Color, Depth]]:
        if stamp_ns < 0 or (stamp_ns == 0 and (stream.last_ns or 0) > SIMULATED_NS):
            self.dropped[DropCause.NO_STAMP] += 1
            return []
        if stamp_ns == stream.last_ns:
            self.dropped[DropCause.DUPLICATE] += 1
            return []
        if stream.last_ns is not None and stamp_ns < stream.last_ns:
            self.time_jumps += 1
            is_color = stream is self._color
            self.clear()
            stream = self._color if is_color else self._depth
        stream.append(stamp_ns, payload)
        if stream.period_ns is not None and stream.period_ns > LONGEST_PAUSE_NS:
            self._missed_ns.clear()
        self._look_whether_late(stream, stamp_ns)
        pairs = list(self._match())
        number = len(stream.pending)
        if number > self._queue_size and (
            number > MOST_WAITING or stream.span_ns > LONGEST_WAIT_S * 1e9
        ):
            stream.give_up_oldest()
            self.dropped[DropCause.QUEUE_FULL] += 1
        return pairs

    def _look_whether_late(self, stream: _Stream[Any], stamp_ns: int) -> None:
        other = self._depth if stream is self._color else self._color
        slop_ns = round(self.slop_s * 1e9)
        if any(abs(stamp_ns - given_up) <= slop_ns for given_up in other.given_up_ns):
            assert other.last_ns is not None  # it came before it was given up
            stream.late_ns.append(other.last_ns - stamp_ns)
            self.came_late += 1

    def _match(self) -> Iterator[Pair[Color, Depth]]:
        colors, depths = self._color.pending, self._depth.pending
        slop_ns = round(self.slop_s * 1e9)
        while colors and depths:
            color_ns = colors[0][0]
            index = min(range(len(depths)), key=lambda i: abs(depths[i][0] - color_ns))
            distance_ns = abs(depths[index][0] - color_ns)
            in_time = distance_ns <= slop_ns
            newer_to_come = depths[-1][0] < color_ns
            if newer_to_come and (not in_time or self._nearer_expected(color_ns, distance_ns)):
                return
            belongs_to_later = in_time and self._belongs_to_later(depths[index][0], distance_ns)
            if belongs_to_later and len(colors) == 1:
                return
            _, color = colors.popleft()
            if belongs_to_later or not in_time:
                self.dropped[DropCause.NO_DEPTH] += 1
                if not in_time:
                    self._missed_ns.append(distance_ns)
                continue
            for waits_no_more in (self._missed_ns, self._color.late_ns, self._depth.late_ns):
                waits_no_more.clear()
            for _ in range(index):
                depths.popleft()
                self.dropped[DropCause.NO_COLOR] += 1
            depth_ns, depth = depths.popleft()
            self._apart_ns.append(depth_ns - color_ns)
            yield Pair(color, depth, color_ns, depth_ns)

    def _belongs_to_later(self, depth_ns: int, distance_ns: int) -> bool:
        """Whether a later colour, here or by the stream's period, is clearly nearer to it.

        Not the next one alone: where colour comes three times as often that is too little nearer.
        """
        colors, period_ns = self._color.pending, self._color.period_ns
        later: Iterable[int] = (stamp_ns for stamp_ns, _ in itertools.islice(colors, 1, None))
        if period_ns is not None:
            newest_ns = colors[-1][0]
            ahead = max(1, round((depth_ns - newest_ns) / period_ns))
            later = itertools.chain(later, [newest_ns + ahead * period_ns])
        reach_ns = CLEARLY_NEARER * distance_ns
        near = itertools.takewhile(lambda stamp_ns: stamp_ns < depth_ns + reach_ns, later)
        return any(stamp_ns > depth_ns - reach_ns for stamp_ns in near)

    def _nearer_expected(self, color_ns: int, distance_ns: int) -> bool:
        """Whether the next depth, if the stream keeps its period, lies nearer to `color_ns`."""
        last_ns, period_ns = self._depth.last_ns, self._depth.period_ns
        if last_ns is None or period_ns is None:
            return False
        return abs(last_ns + period_ns - color_ns) < distance_ns
