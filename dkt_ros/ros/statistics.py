"""Counts, rates and latencies of a running node, filled from both of its threads.

Knows numbers and their names; nothing of ROS or what the numbers are good for.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

RATE_WINDOW_S = 5.0
SHORTEST_PAUSE_S, PAUSE_PERIODS = 1.0, 5.0
"""A stream that waits for longer than both, the second in periods, has paused."""
_RATE_SAMPLES = 1000
_TIMING_SAMPLES = 100

Clock = Callable[[], float]


class RateMeter:
    """Events per second over the last RATE_WINDOW_S seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=_RATE_SAMPLES)
        self.count = 0

    def tick(self, number: int = 1) -> None:
        """So many events, now."""
        self._times.extend([self._clock()] * min(number, _RATE_SAMPLES))
        self.count += number

    @property
    def recent(self) -> int:
        """Events within the last RATE_WINDOW_S seconds."""
        now = self._clock()
        return sum(1 for t in self._times if now - t <= RATE_WINDOW_S)

    @property
    def age_s(self) -> float | None:
        """Seconds since the last event; None before the first."""
        return self._clock() - self._times[-1] if self._times else None

    @property
    def rate_hz(self) -> float:
        """Events per second; 0 when there were fewer than two in the window since a pause."""
        now = self._clock()
        recent = [t for t in self._since_pause() if now - t <= RATE_WINDOW_S]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return 0.0
        # An event is due a period after the last; when it fails to come, the rate falls at once.
        period = (recent[-1] - recent[0]) / (len(recent) - 1)
        return len(recent) / max(len(recent) * period, now - recent[0])

    def _since_pause(self) -> list[float]:
        """The events since a wait that was no part of their pace."""
        times = list(self._times)
        steps = [after - before for before, after in itertools.pairwise(times)]
        if not steps:
            return times
        longest = max(SHORTEST_PAUSE_S, PAUSE_PERIODS * statistics.median(steps))
        starts = [index + 1 for index, step in enumerate(steps) if step > longest]
        return times[starts[-1] :] if starts else times


@dataclass(frozen=True)
class StreamSnapshot:
    """One stream: messages in all, per second of late, seconds since the last, and how many lately.

    Lately is within the last RATE_WINDOW_S seconds.
    """

    count: int = 0
    rate_hz: float = 0.0
    age_s: float | None = None
    recent: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The statistics at one moment.

    streams    name -> messages in ("color", "depth", "camera_info"), "pair": filed of them,
               "frame": decoded of these, messages out ("dkt/depth", ...)
    drops      cause -> frames or messages lost to it
    skipped    frames that inference was not given, by choice
    flushes    reason -> how often the frames before were forgotten
    recent_drops, recent_flushes   the same, within the last RATE_WINDOW_S seconds
    timings_s  stage -> (mean, maximum) seconds over the last 100 frames
    """

    streams: Mapping[str, StreamSnapshot] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    flushes: Mapping[str, int] = field(default_factory=dict)
    recent_drops: Mapping[str, int] = field(default_factory=dict)
    recent_flushes: Mapping[str, int] = field(default_factory=dict)
    timings_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Statistics:
    """Thread-safe; every call costs a lock and little else."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._streams: dict[str, RateMeter] = {}
        self._drops: dict[str, RateMeter] = {}
        self._skipped = 0
        self._flushes: dict[str, RateMeter] = {}
        self._timings: dict[str, deque[float]] = {}

    def seen(self, stream: str) -> None:
        """A message of this stream came in or went out."""
        self._count(self._streams, stream, 1)

    def dropped(self, cause: str, number: int = 1) -> None:
        """So many messages or frames were lost to this cause."""
        self._count(self._drops, cause, number)

    def skipped(self, number: int = 1) -> None:
        """So many frames were left out by choice."""
        with self._lock:
            self._skipped += number

    def flushed(self, reason: str) -> None:
        """The frames before were forgotten for this reason."""
        self._count(self._flushes, reason, 1)

    def timed(self, timings_s: Mapping[str, float]) -> None:
        """How long the stages took for one frame, seconds."""
        with self._lock:
            for stage, seconds in timings_s.items():
                self._timings.setdefault(stage, deque(maxlen=_TIMING_SAMPLES)).append(seconds)

    def _count(self, meters: dict[str, RateMeter], name: str, number: int) -> None:
        with self._lock:
            if name not in meters:
                meters[name] = RateMeter(self._clock)
            meters[name].tick(number)

    def snapshot(self) -> Snapshot:
        """All numbers at this moment."""
        with self._lock:
            return Snapshot(
                streams={
                    name: StreamSnapshot(meter.count, meter.rate_hz, meter.age_s, meter.recent)
                    for name, meter in self._streams.items()
                },
                drops={cause: meter.count for cause, meter in self._drops.items()},
                skipped=self._skipped,
                flushes={reason: meter.count for reason, meter in self._flushes.items()},
                recent_drops=_recent(self._drops),
                recent_flushes=_recent(self._flushes),
                timings_s={
                    stage: (sum(values) / len(values), max(values))
                    for stage, values in self._timings.items()
                },
            )


def _recent(meters: Mapping[str, RateMeter]) -> dict[str, int]:
    return {name: meter.recent for name, meter in meters.items() if meter.recent}


class Complaints:
    """What went wrong of late, one text per cause, and whether it is time to log it again."""

    def __init__(self, log_period_s: float, clock: Clock = time.monotonic) -> None:
        self._log_period_s = log_period_s
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[str, float]] = {}
        self._logged: dict[str, float] = {}

    def add(self, cause: str, text: str) -> bool:
        """Remembers the text; returns whether this cause was not logged for a period."""
        now = self._clock()
        with self._lock:
            self._latest[cause] = (text, now)
            logged = self._logged.get(cause)
            due = logged is None or now - logged >= self._log_period_s
            if due:
                self._logged[cause] = now
            return due

    def latest(self) -> dict[str, tuple[str, float]]:
        """Cause -> latest text and its age in seconds."""
        now = self._clock()
        with self._lock:
            return {cause: (text, now - then) for cause, (text, then) in self._latest.items()}
