"""Raw depth that was rounded to coarse steps or stretched for looking at, told from its numbers.

Knows one stream's readings as numbers, nothing of where they lie. A sensor's steps are fine against
the depth that it measures. Who converts depth to 8 bits, or to whole metres, leaves few values, all
apart by multiples of one step; who stretches each frame leaves the same largest value to the bit.
What is rendered of flat things held straight has few values too, and so has what a camera of coarse
disparities sees of a table; neither has many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_SAMPLES = 100  # rows or columns that are looked at, of the fewer
_FEWEST = 300  # readings in a look
_EVERY = 10  # frames between looks, after the first few
_LOOKS = 3  # in a row, in which the largest value is the same
_NEARLY_ALL = 0.98  # share of the readings whose values are others' too
_EVEN = 0.05  # of a step, by which a value may be off
_COARSE, _TOO_COARSE = 0.02, 0.08  # of the median reading
_SOME, _MANY = 5, 6  # values; so many disparities in a row are uneven, or fine
_METRES = 3  # values in whole metres that are no table and the floor
_BYTE = 255
_LEAST_OF_BYTE = 40  # values; of fewer the largest may be a byte's by chance
_STRETCHED_TO, _FROM = 1.0, 0.25  # of the largest, where readings begin, at most, if stretched
_ALL_16_BITS = 0.1, 10.0, 50.0, 65.54  # m: they begin below the first, and end between the last,
# as 65535 is no reading; so far noise goes too, of which there is little beyond the second
_MUCH = 0.2
_FINEST_M = 25e-6  # of which sensors' units are multiples: 0.1, 0.125, 0.25 and 1 mm
_PEAKS = 0.001  # share of the pixels that have a frame's largest value, at most, if stretched


class Steps:
    """Looks at one stream's raw depth."""

    def __init__(self) -> None:
        self._frames = 0
        self._found: tuple[str, str, bool] | None = None
        self._ends = "", 0

    def take(self, raw: Float32) -> tuple[str, str, bool] | None:
        """The next frame's, most of which are left out; raw (H, W) metres, 0/NaN/inf unknown.

        Cause ("rounded" or "stretched"), a sentence, and whether it is certain; None of depth.
        """
        is_suspect = 0 < self._ends[1] < _LOOKS
        if self._frames < _LOOKS or self._frames % _EVERY == 0 or is_suspect:
            self._found = self._look(raw)
        self._frames += 1
        return self._found

    def _look(self, raw: Float32) -> tuple[str, str, bool] | None:
        stride = max(1, min(raw.shape) // _SAMPLES)
        some = raw[::stride, ::stride]
        readings = some[is_reading(some)]
        if len(readings) < _FEWEST:
            return self._found
        step, values = step_of(readings)
        end = _end(raw, readings, step, values)
        self._ends = end, self._ends[1] + 1 if end and end == self._ends[0] else int(bool(end))
        if self._ends[1] >= _LOOKS:
            return "stretched", f"{end}: was each frame stretched, to be looked at?", True
        median = float(np.median(readings))
        coarse = step / median
        in_metres = step > 0.5 and _whole(step) and _whole(median)
        if coarse < _COARSE or (values < _SOME and not in_metres):
            return None
        text = (
            f"the raw depth has {values} values only, {step:.3g} m apart: was it rounded, as to "
            "whole metres or 8 bits?"
        )
        return "rounded", text, coarse > _TOO_COARSE and values >= (_METRES if in_metres else _MANY)


def _end(raw: Float32, readings: Float32, step: float, values: int) -> str:
    """What the numbers end at, where that is no depth's."""
    largest = float(np.fmax.reduce(raw, axis=None))  # a look at what is finite costs 80 times that
    if np.isinf(largest):
        largest = float(np.fmax.reduce(raw[np.isfinite(raw)]))
    if readings.min() > _FROM * largest:
        return ""
    low, far, high, end = _ALL_16_BITS
    if high <= largest <= end and np.mean(readings > far) > _MUCH and raw[raw > 0].min() < low:
        return "the raw depth's numbers fill all of 16 bits"
    if values >= _LEAST_OF_BYTE and abs(largest - _BYTE * step) < _EVEN * step:
        return f"the raw depth's numbers are whole 255ths of {largest:.3g} m"
    if largest != _STRETCHED_TO or count_of(raw == _STRETCHED_TO) > _PEAKS * raw.size:
        return ""
    # Of a sensor's own numbers it may be the farthest that a filter lets through.
    if np.mean(_whole(readings.astype(np.float64) / _FINEST_M)) > _NEARLY_ALL:
        return ""
    return "the raw depth's largest number is 1 to the bit"


def _whole(numbers: Any) -> Any:
    """Which of them are whole numbers, nearly."""
    return np.abs(numbers - np.rint(numbers)) < _EVEN


def step_of(readings: Float32) -> tuple[float, int]:
    """Metres between the values of readings (n,), and how many values; zeros where unevenly."""
    each, counts = np.unique(readings, return_counts=True)
    often = counts > 1
    values = each[often].astype(np.float64)
    if len(values) < 2 or counts[often].sum() < _NEARLY_ALL * len(readings):
        return 0.0, 0
    step = float(np.diff(values).min())
    # Of the whole range, as a float's last bits add up over many steps.
    step = (values[-1] - values[0]) / round((values[-1] - values[0]) / step)
    if not _whole((values - values[0]) / step).all():
        return 0.0, 0
    return step, len(values)
