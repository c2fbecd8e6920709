"""Whether raw depth lies on the colour it came with, and if not, how it would.

Knows ways in which depth can lie wrong, and running means of what the matcher says of a frame as it
is and with its depth changed back. Knows nothing of networks' disparity, of streams' other faults
or of words.

The matcher's word is asked for first. Where it has its doubts, changes are tried a few at a time,
and colour's edges are held against the depth's steps: a second witness, that knows no training.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

EDGE_SIZE = 160, 288  # (h, w) that edges are compared at
_EDGE_REACH = 24  # px at that size
_SHARE = 0.3  # of what is new in a running mean
_AT_ONCE, _AT_REST = 6, 1  # changes that are tried in a look
_SOME, _SOME_NS = 6, 400_000_000  # while all is well a frame is judged after so many, or so long
_STILL, _STILL_NS = 30, 2_000_000_000  # likewise where nothing moved since: it would say it again
_RESTS, _RESTS_NS = 90, 3_000_000_000  # likewise looks, once everything was tried in vain: the
_SOONER = 15  # first one after a fifteenth of that, the next one after two, ...
_IN_VAIN = 0.5  # log-odds gained, and by which those of the frames as they are may change meanwhile
_OFF_PX, _CLEAR, _HELPS = 3, 3.0, 0.3  # of a shift that both witnesses tell
_NEAR = 0.06  # of the width; shifts that are less apart tell the same
_TOLD, _DENIED = 2, 3  # looks in a row from which it is told, and no longer
_SWING, _SWINGS = 2.5, 3  # log-odds from one frame to the next, which of a scene differ by 1; of
_SWUNG_IN = 8  # so many judged ones that are told
_ALL_OF_ONE_HALF = 5  # judged ones in a row: a slow stream's are every second frame
_BESIDE = np.hypot(*np.mgrid[-_EDGE_REACH : _EDGE_REACH + 1, -_EDGE_REACH : _EDGE_REACH + 1]) >= 6


@dataclass(frozen=True)
class Change:
    """How depth lies wrong: zoomed about the middle, then shifted, or mirrored.

    x, y: right and down, shares of the picture's width. mirrored: left to right. upside_down: top
    to bottom; both are half a turn.
    """

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False
    upside_down: bool = False

    def undone(self, readings: Float32) -> Float32:
        """Readings (h, w), 0 = none, as they would lie without it."""
        if self.mirrored or self.upside_down:
            down, right = (-1 if turned else 1 for turned in (self.upside_down, self.mirrored))
            return np.ascontiguousarray(readings[::down, ::right])
        height, width = readings.shape
        rows, has_row = _taken(1 / self.zoom, self.y * width, height)
        columns, has_column = _taken(1 / self.zoom, self.x * width, width)
        moved = readings.take(rows, 0).take(columns, 1)
        moved[~has_row], moved[:, ~has_column] = 0, 0
        return moved


def _taken(zoom: float, shift: float, count: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which of `count` places each one is taken from, and whether there is one.

    To the nearest, by 1024ths of a pixel as OpenCV 4's warpAffine; OpenCV 5's parts ties otherwise.
    """
    back, begin = 1 / zoom, (1 - zoom) * count / 2 - shift * zoom
    at = np.rint(np.arange(count) * back * 1024) + np.rint(-begin * back * 1024)
    places = np.asarray(at + 512, np.intp) >> 10
    return places.clip(0, count - 1), (places >= 0) & (places < count)


def _alike(one: Change, other: Change) -> bool:
    """Whether depth that lies wrong in one of two ways lies nearly right with the other undone."""
    turned = one.mirrored == other.mirrored and one.upside_down == other.upside_down
    zoomed = np.sign(one.zoom - 1) == np.sign(other.zoom - 1)
    return bool(turned and zoomed and math.hypot(one.x - other.x, one.y - other.y) < _NEAR)


_AS_IT_IS = Change()
_RINGS = (0.025, 8), (0.05, 8), (0.09, 8)  # how far, in how many directions
CHANGES = (
    *(Change(zoom=zoom) for zoom in (1.3, 0.75, 1.15, 0.87)),
    Change(mirrored=True),
    Change(upside_down=True),
    Change(mirrored=True, upside_down=True),
    *(
        Change(far * math.cos(2 * math.pi * k / count), far * math.sin(2 * math.pi * k / count))
        for far, count in _RINGS
        for k in range(count)
    ),
)
"""What is tried."""

Ask = Callable[[Sequence[Change]], Sequence[float]]
"""Log-odds that a frame's colour and depth belong together with each change undone."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the matcher says of a frame as it is, and would say with changes of its depth undone.

    tell: the log-odds of the frame as it is, computed when first asked for.
    at_rest: whether nothing moved since the frame before.
    """

    tell: Callable[[], float]
    ask: Ask
    at_rest: bool = False

    @cached_property
    def log_odds(self) -> float:
        """That colour and depth belong together."""
        return self.tell()


@dataclass(frozen=True)
class _Moment:
    """Of a stream."""

    frame: int = 0
    stamp_ns: int = 0

    def is_long_after(self, other: _Moment, frames: float, time_ns: float) -> bool:
        """Whether so many frames have passed, or so much time."""
        return self.frame - other.frame >= frames or self.stamp_ns - other.stamp_ns >= time_ns


@dataclass(frozen=True)
class _Aside:
    """The edges' shift, what undoing it gains, the log-odds then; in so many looks in a row."""

    change: Change
    gain: float
    then: float
    looks: int = 1

    def after(self, before: _Aside | None) -> _Aside:
        """With the means of what was before, if that was about the same shift."""
        if before is None:
            return self
        apart = math.hypot(before.change.x - self.change.x, before.change.y - self.change.y)
        if apart * EDGE_SIZE[1] > _OFF_PX:
            return self
        gain, then = _mean(before.gain, self.gain), _mean(before.then, self.then)
        return _Aside(self.change, gain, then, before.looks + 1)


class Registration:
    """Running means over one stream."""

    def __init__(self) -> None:
        self.frames = 0
        self.log_odds = self._newest = math.nan
        self._gains: dict[Change, tuple[float, float]] = {}
        # Of those, as long as they are as they are.
        self._best: tuple[Change, float, float] | None = None
        self._lead: float | None = None
        self._next = 0
        self._now = self._judged = self._looked = _Moment()
        self._odds: deque[tuple[int, float]] = deque(maxlen=_SWUNG_IN)
        self._level = math.nan
        self._surface: Float32 | None = None
        self._peak = 0, 0, 0.0
        self._aside: _Aside | None = None
        self._shift: Change | None = None
        self._missed = self._rested = 0
        self._still = False

    def take(self, seen: Seen, well: float, stamp_ns: int) -> None:
        """The next frame as it is; above so many log-odds, or in vain, some frames are enough."""
        self.frames += 1
        self._now = _Moment(self.frames, stamp_ns)
        some = min(self.log_odds, self._newest) >= well or self.rests
        passed = self.frames - self._judged.frame
        # Of frames that come by turns one part alone would be seen.
        is_same_half = passed % 2 == 0 and passed > 2
        self._still = self._still and seen.at_rest
        wait = (_STILL, _STILL_NS) if self._still else (_SOME, _SOME_NS)
        is_time = self._now.is_long_after(self._judged, *wait) and not is_same_half
        if some and not (is_time or self._is_of_unseen_half):
            return
        self._judged, self._still = self._now, True
        self._newest = seen.log_odds
        self._odds.append((self.frames, self._newest))
        self.log_odds = _mean(self.log_odds, self._newest)
        if self.rests and abs(self.log_odds - self._level) > 2 * _IN_VAIN:
            self._forget()  # of a stream as it was before

    @property
    def _is_of_unseen_half(self) -> bool:
        """Whether so many judged ones were every second frame, and this one lies between those."""
        newest = list(self._odds)[-_ALL_OF_ONE_HALF:]
        between = sum((self.frames - frame) % 2 for frame, _ in newest)
        return between == _ALL_OF_ONE_HALF

    def comes_by_turns(self, doubted: float) -> bool:
        """Whether colour and depth belong together in every other frame or so, and not between.

        By frame and log-odds of the newest ones; what does not belong together is doubted.
        """
        swings = sum(
            frame == before + 1 and abs(now - then) > _SWING and min(now, then) < doubted
            for (before, then), (frame, now) in pairwise(self._odds)
        )
        return swings >= _SWINGS

    @property
    def rests(self) -> bool:
        """Whether everything was tried in vain: looking at some frames is enough."""
        return len(self._gains) == len(CHANGES) and self.best()[1] < _IN_VAIN

    def forget_changes(self) -> None:
        """Drops what was found: all is well, and what goes wrong next may be something else.

        What was all in vain stays so, lest it be tried anew each time that much is nearly well.
        """
        if not self.rests:
            self._forget()
        self._surface = self._aside = self._shift = None

    def _forget(self) -> None:
        self._gains.clear()
        self._best = self._lead = None
        self._surface = self._aside = None
        self._rested = 0

    @property
    def is_due(self) -> bool:
        """Whether to look at this frame."""
        if not self.rests:
            return True
        share = min(1.0, (1 + self._rested) / _SOONER)
        return self._now.is_long_after(self._looked, share * _RESTS, share * _RESTS_NS)

    def look(self, seen: Seen, grey: Float32, readings: Float32, shape: tuple[int, ...]) -> None:
        """Tries some changes and compares edges.

        grey, readings (1/m): at EDGE_SIZE, of a picture of that shape (height, width, ...).
        """
        count = _AT_REST if self.rests else _AT_ONCE
        self._rested += self.rests
        some = [CHANGES[(self._next + k) % len(CHANGES)] for k in range(count)]
        self._next = (self._next + count) % len(CHANGES)
        surface = _edges_on_steps(grey, _steps(readings))
        if self._surface is None:
            self._surface = surface
        self._surface += _SHARE * (surface - self._surface)
        self._peak = right, down, _ = _peak(self._surface)
        tall = shape[0] / shape[1]
        aside = Change(-right / EDGE_SIZE[1], -down / EDGE_SIZE[0] * tall)
        own, *others, by_edges = seen.ask([_AS_IT_IS, *some, aside])
        for change, value in zip(some, others, strict=True):
            gain, before = self._gains.get(change, (math.nan, math.nan))
            self._gains[change] = _mean(gain, value - own), _mean(before, value)
        self._best = self._lead = None
        self._level, self._looked = self.log_odds, self._now
        self._aside = _Aside(aside, by_edges - own, by_edges).after(self._aside)
        self._weigh(self._aside)

    def best(self) -> tuple[Change, float, float]:
        """The change that would do most, by how much, and the log-odds with it undone."""
        if self._best is None:
            change, means = max(self._gains.items(), key=lambda item: item[1][0])
            self._best = change, *means
        return self._best

    def stands_out(self) -> float:
        """By how much the best change gains more than any that is unlike it, of those tried."""
        if self._lead is None:
            best, gain, _ = self.best()
            others = [value for one, (value, _) in self._gains.items() if not _alike(one, best)]
            self._lead = gain - max(others, default=-math.inf)
        return self._lead

    def edges(self) -> float:
        """Standard deviations by which edges lie on steps better than beside; 0: peak elsewhere."""
        right, down, clear = self._peak
        return 0.0 if max(abs(right), abs(down)) > _OFF_PX else clear

    @property
    def shift_by_edges(self) -> Change | None:
        """How depth lies wrong by both witnesses: the edges' shift, where undoing it helps too.

        So small shifts are told that undone gain little. Of 150 own pairs, in any light and by any
        sensor, both agree on none. Told from some looks in a row on, until some in a row deny it.
        """
        return self._shift

    def _weigh(self, aside: _Aside) -> None:
        right, down, clear = self._peak
        is_off = max(abs(right), abs(down)) > _OFF_PX and clear > _CLEAR
        if is_off and aside.gain > _HELPS and aside.then > 0:
            self._missed = 0
            if aside.looks >= _TOLD:
                self._shift = aside.change
            return
        self._missed += 1
        if self._missed >= _DENIED:
            self._shift = None


def _peak(surface: Float32) -> tuple[int, int, float]:
    """Pixels to the right and down by which steps would lie best on edges, how much better.

    The latter in standard deviations of the surface beside its middle.
    """
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    beside = surface[_BESIDE]
    clear = float((surface.max() - beside.mean()) / max(float(beside.std()), 1e-6))
    return int(column) - _EDGE_REACH, int(row) - _EDGE_REACH, clear


def _mean(before: float, value: float) -> float:
    # A change that once left no readings to be judged is infinitely bad, and is tried again.
    return before + _SHARE * (value - before) if math.isfinite(before) else value


def _steps(readings: Float32) -> Float32:
    """Relative steps of depth between known neighbours, 0 below 2%, 1 from 10%."""
    steps = np.zeros_like(readings)
    for a, b, inside in (
        (readings[:, 2:], readings[:, :-2], steps[:, 1:-1]),
        (readings[2:], readings[:-2], steps[1:-1]),
    ):
        step = np.abs(a - b) / np.maximum(np.maximum(a, b), 1e-3)
        np.maximum(inside, step * (np.minimum(a, b) > 0), out=inside)
    return np.clip((steps - 0.02) / 0.08, 0, 1)


def colour_edges(grey: Float32, around: int) -> Float32:
    """Strength of edges (h, w) against the mean of the square around, of so many pixels a side."""
    smooth = cv2.blur(grey, (3, 3))
    edges = np.sqrt(cv2.magnitude(*(cv2.Sobel(smooth, cv2.CV_32F, *d) for d in ((1, 0), (0, 1)))))
    return np.asarray(edges - cv2.blur(edges, (around, around)), np.float32)


def _edges_on_steps(grey: Float32, steps: Float32) -> Float32:
    """Strength of colour's edges on steps of depth, for all shifts of the steps up to the reach."""
    edges = colour_edges(grey, 17)
    inner = steps[_EDGE_REACH:-_EDGE_REACH, _EDGE_REACH:-_EDGE_REACH]
    strength = cv2.matchTemplate(edges, inner, cv2.TM_CCORR)
    energy = cv2.matchTemplate(np.square(edges), inner, cv2.TM_CCORR)
    return np.asarray(strength / np.sqrt(np.maximum(energy * inner.sum(), 0) + 1e-3), np.float32)
