"""What a stream's past says of a frame: depth that nothing moved is steadied, all else is not.

Knows working size, and how to tell noise from motion. Knows nothing of networks or of full size.

A recursive mean of disparity, pixel by pixel, that forgets where colour or readings say that
something moved, and everywhere when the camera moves. Readings that were trusted are part of it, so
that one that drops out leaves its own mean behind, and one that comes and goes is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, median, quantiles, some_where

Float32 = NDArray[np.float32]

_LEVELS = 6.0  # grey levels: no camera is so steady that a smaller change means anything
_NOISES = 3.0  # nor one of so many times what most of the picture changes by
_QUIETEST = 0.25  # share of the picture that surely shows noise alone, unless all of it moved:
_NOISIEST = 6.0  # grey levels, at half the working size, that no noise changes more than
_BRIGHTER = 4.0  # at most, as the same scene
_LIT, _FEWEST_LIT = (12.0, 245.0), 0.02  # grey levels that show how bright it is; share of them
_SPREADS = 3.0  # of readings, by which their local mean changes where something moved
_ONE_WAY = 0.6  # share of their changes that then point one way
_LEAST_SPREAD, _MOST_SPREAD = 0.002, 0.015  # relative
_FEWEST_MOVED = 0.02  # share of the picture that changes where all of it moves
_MOST_MOVED = 0.25, 0.5  # of which what is left looks alike by chance
_PEAK = 0.3  # of phase correlation; noise alone gives a tenth
_STIRRED, _RESTS = 0.0003, 0.2  # share of the picture and speed, up to which nothing moves
_SPEED_PX = 1.0  # of the camera, at working size, against the mean picture
_OFTEN = 0.8  # share of frames in which a reading is there that need not prove itself, at most
_OUTLIER_LEVELS = 6.0


@dataclass(frozen=True, eq=False)
class _Past:
    """Recursive means (h, w): disparity, trust, readings (0 = none) and how often there is one.

    colour: (h/2, w/2, 3), in grey levels.
    """

    disparity: Float32
    trust: Float32
    readings: Float32
    often: Float32
    colour: Float32
    stamp_ns: int | None

    def precedes(self, disparity: Float32, stamp_ns: int | None) -> bool:
        """Whether a frame goes on from here."""
        if self.disparity.shape != disparity.shape:
            return False
        return None in (stamp_ns, self.stamp_ns) or stamp_ns > self.stamp_ns  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class _Frame:
    """The next one: readings (h, w), colour (h/2, w/2, 3), and the share of it in the means.

    coarse: (h/2, w/2); None where the stream begins.
    """

    readings: Float32
    colour: Float32
    stamp_ns: int | None
    coarse: Float32 | None


class History:
    """The past of one stream: of each frame `look`, then `steady`."""

    def __init__(self, steadiness: float) -> None:
        """steadiness: 0..1, share of the past in a frame where nothing moves; 0 is none."""
        self._steadiness = np.float32(steadiness)
        self._past: _Past | None = None
        self._frame: _Frame | None = None

    def look(self, rgb: NDArray[np.uint8], readings: Float32, stamp_ns: int | None) -> bool:
        """Whether nothing at all moves in the next frame, which `steady` then goes on with.

        rgb (h, w, 3); readings (h, w) 1/m, 0 = none. A stamp that is not later than the last one
        begins anew.
        """
        height, width = readings.shape
        half = width // 2, height // 2
        colour = cv2.resize(rgb, half, interpolation=cv2.INTER_AREA).astype(np.float32)
        past = self._past
        if self._steadiness == 0 or past is None or not past.precedes(readings, stamp_ns):
            self._past, self._frame = None, _Frame(readings, colour, stamp_ns, None)
            return False
        lit = colour * _exposure(colour, past.colour)
        changed = cv2.max(_changed(lit, past.colour), _shifted(readings, past.readings))
        few, most = _MOST_MOVED
        moved = count_of(changed >= 2.0) / changed.size
        speed = _speed(lit, past.colour, leap=moved > _FEWEST_MOVED)
        slow = min(2.0 - speed, (most - moved) / (most - few), 1.0)
        still = np.clip(2.0 - changed, 0.0, max(slow, 0.0))
        self._frame = _Frame(readings, colour, stamp_ns, 1.0 - self._steadiness * still)
        stirred = count_of(changed >= 1.0) / changed.size
        return bool(stirred <= _STIRRED and speed < _RESTS)

    def steady(
        self, disparity: Float32, trust: Float32, nearest: NDArray[np.int32], kept: float
    ) -> tuple[Float32, Float32]:
        """That frame's disparity without its readings, and trust in them, (h, w) each.

        nearest: flat place of the nearest reading. kept: trust from which a reading is published as
        it is.
        """
        frame, past = self._frame, self._past
        assert frame is not None
        measured = frame.readings > 0
        seen = np.where(measured & (trust >= kept), frame.readings, disparity)
        present = measured.astype(np.float32)
        if past is None or frame.coarse is None:
            self._past = _Past(seen, trust, frame.readings, present, frame.colour, frame.stamp_ns)
            return disparity, trust
        size = disparity.shape[::-1]
        gain = np.asarray(
            cv2.resize(frame.coarse, size, interpolation=cv2.INTER_LINEAR), np.float32
        )

        def mean(before: Float32, now: Float32, share: Float32 = gain) -> Float32:
            return before + share * (now - before)

        # Where no reading is left to compare with, the next one is the first.
        known = np.where(past.readings > 0, past.readings, frame.readings)
        readings = np.where(measured, mean(known, frame.readings), known * (gain < 0.5))
        self._past = past = _Past(
            disparity=mean(past.disparity, seen),
            trust=mean(past.trust, trust),
            readings=np.asarray(readings, np.float32),
            often=mean(past.often, present),
            colour=mean(past.colour, frame.colour, frame.coarse[..., None]),
            stamp_ns=frame.stamp_ns,
        )
        # All come and go of a laser whose lines wander, or where everything is nearly too dark.
        some = some_where(measured, past.often, 1 + measured.size // 2048)
        enough = min(_OFTEN, median(some)) if len(some) else _OFTEN
        proven = np.clip(past.often * np.float32(2 / enough) - 1.0, 0.0, 1.0)
        # As trust is: where there is no reading, the nearest one's.
        return past.disparity, past.trust * proven.take(nearest)


def _exposure(colour: Float32, before: Float32) -> np.float32:
    """What to multiply colour by so that light or exposure alone change nothing."""
    now, then = colour[::3, ::3, 1], before[::3, ::3, 1]
    dark, bright = _LIT
    lit = (cv2.min(now, then) > dark) & (cv2.max(now, then) < bright)
    if count_of(lit) < _FEWEST_LIT * lit.size:
        return np.float32(1)
    factor = median(then[lit] / now[lit])
    return np.float32(min(max(factor, 1 / _BRIGHTER), _BRIGHTER))


def _changed(colour: Float32, before: Float32) -> Float32:
    """Change of colour, (h, w): from 1 on it is no noise, from 2 on surely not."""
    change = np.abs(colour - before)
    levels = cv2.max(cv2.max(change[..., 0], change[..., 1]), change[..., 2])
    levels = cv2.blur(levels, (3, 3))
    noise = quantiles(levels[::3, ::3], _QUIETEST)[0]
    least = max(_LEVELS, _NOISES * min(noise, _NOISIEST))
    return np.asarray(levels * np.float32(1 / least), np.float32)


def _shifted(readings: Float32, before: Float32) -> Float32:
    """The same for readings (h, w), 0 = none, at half their size: many change, and all one way."""
    height, width = readings.shape
    both = (readings > 0) & (before > 0)
    changes = (readings - before) * both
    found = np.abs(some_where(both, changes, 1 + both.size // 8192))
    if len(found) == 0:
        return np.zeros((height // 2, width // 2), np.float32)
    level = median(some_where(both, readings, 1 + both.size // 2048))
    spread = min(max(1.4826 * median(found), _LEAST_SPREAD * level), _MOST_SPREAD * level)
    changes = np.clip(changes, -8 * spread, 8 * spread)
    parts = cv2.merge([changes, np.abs(changes), both.astype(np.float32)])
    parts = cv2.resize(parts, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    one_way, any_way, count = cv2.split(cv2.blur(parts, (5, 5)))
    one_way = np.abs(one_way)
    return np.minimum(
        one_way / ((count + 0.05) * (_SPREADS * spread)),
        one_way / (any_way * _ONE_WAY + 0.05 * spread),
    )


def _speed(colour: Float32, before: Float32, leap: bool) -> float:
    """How far the picture as a whole moved, shifted, zoomed or turned; in units of _SPEED_PX.

    One step of Lucas and Kanade, in which what changed by much, an object that moves, has no say.
    It sees no more than a few pixels; leap: whether farther ones are looked for, by the peak of
    phase correlation (Kuglin and Hines 1975), of shifts alone.
    """
    greys = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (colour, before)]
    if leap:
        one, other = greys
        (right, down), peak = cv2.phaseCorrelate(one, other, _window(*one.shape))
        if peak >= _PEAK and (far := 2 * float(np.hypot(right, down)) / _SPEED_PX) >= 2.0:
            return far
    now, then = (cv2.GaussianBlur(grey, (5, 5), 1.0) for grey in greys)
    mean, change = (now + then) * 0.5, now - then
    dx, dy = (cv2.Sobel(mean, cv2.CV_32F, *d, scale=0.125) for d in ((1, 0), (0, 1)))
    x, y = _places(*mean.shape)
    ways = np.stack([dx, dy, dx * x + dy * y, dy * x - dx * y]).reshape(4, -1)
    weighted = ways / (1.0 + np.square(change.ravel() * np.float32(1 / _OUTLIER_LEVELS)))
    known = np.diag(np.array([50.0, 50.0, 5.0, 5.0], np.float32))  # a blank picture stands still
    # Neither BLAS nor LAPACK, which would wake a pool of threads for it.
    _, moved = cv2.solve(
        np.einsum("in,jn->ij", weighted, ways) + known,
        np.einsum("in,n->i", weighted, change.ravel())[:, None],
    )
    moved *= 2.0
    squares = np.square(moved)
    return float(np.sqrt(squares[:2].sum() + 0.11 * squares[2:].sum())) / _SPEED_PX


@lru_cache(maxsize=4)
def _window(height: int, width: int) -> Float32:
    """Falls to 0 at the rims."""
    return np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> tuple[Float32, Float32]:
    """x and y from the middle, in widths."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return (x - (width - 1) / 2) / width, (y - (height - 1) / 2) / width
