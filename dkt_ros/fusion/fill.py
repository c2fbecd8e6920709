"""What a driver fills holes with, one distance or what lies beside, told from the readings.

Knows one frame's raw depth. Zero, NaN and infinity are unknown before; this is for drivers that
write a distance instead. A surface's readings, however flat it is and however it is held, spread
over neighbouring steps and have others between them and what lies behind; a filling is one value to
the bit, alone, nearer or farther than the camera measures. What a simulator renders of a flat thing
held straight is one value too, which is why one between is a filling only where all else has noise.

A filter that fills holes from beside them draws a reading along the row until there is another: the
same to the bit for many pixels, going on what is before it and jumping at its end. A sensor has a
hole beside each jump, its shadow, and what is rendered jumps at both ends of a thing alike. A
sensor of coarse steps (Kinect, Xtion, Astra) has such runs everywhere, so where holes are left
those at jumps have to be commoner than elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, some_where
from dkt_ros.geometry import is_reading

Float32 = NDArray[np.float32]

_FARTHEST_M = 0.205
_ALONE = 1.5
"""Up to so many times its distance there is next to nothing else."""
_PURE = 0.99
"""Its share of all that is as near as that."""
_PURE_FAR = 0.9
"""Its share of all that is out of range as it is: of a camera's own there are many values."""
LEAST_BETWEEN_M = 0.5
"""Nearer, a quiet sensor sees a flat thing in one millimetre."""
_AROUND, _STEPS = 0.02, 3
"""Relative, and in steps of the sensor there: where a surface has other readings than one."""
_WIDEST = 0.2
"""Relative; of steps so coarse a surface may be one."""
_LONE = 0.05
"""Readings around, for each of the value. Around a surface's commonest there are twice as many."""
_AROUND_END, _LONE_AT_END = 0.005, 0.25
"""The same of the largest reading: who clips depth leaves what is beyond at one value, and surfaces
before it as they were. Of a surface the largest is never the commonest."""
_FOURTH = 4  # of them tell which is the commonest
_FEWEST, _LEAST_SHARE = 20, 0.003
"""Sampled pixels, and of all that have a reading."""
_RUN_PX = 12
_QUIET_M = 0.25
"""Nearer, a sensor without noise has runs of whole millimetres: a gripper before the camera."""
_GOES_ON, _JUMP = 0.015, 0.04
"""Relative, between a run's end and what is next to it. Steps of coarse disparities are alike at
both ends, and cannot be below the first at one and above the second at the other."""
_UNEVEN = 0.008
"""Relative second difference between a run and those above and below it."""
_RUNS_SHARE = 0.003
"""Of the pixels, at least, in runs that jump at one end; of sensors a tenth of that."""
_HOLES, _AS_ELSEWHERE = 0.02, 1.0
"""Of the pixels, unknown; share of the jumps that have a run, for that of other readings in runs.
Of sensors mostly up to 0.6, where 20 pixels beside each hole were filled mostly 2 and more."""
_NOISE_M, _NOISY = 0.0011, 0.03
"""Second difference along columns beyond that of whole millimetres, and share of the readings with
more where a sensor measured: three times that of what is rendered."""
_SAMPLES, _SCREENED = 100, 40
"""Rows or columns that are looked at, of the fewer; rows that are, of every frame, for runs."""


def fill_value(raw: Float32, range_m: float = np.inf) -> float | None:
    """The value, metres, to the bit; None where there is none. raw (H, W), 0/NaN/inf unknown.

    range_m: as far as readings are looked at.
    """
    stride = max(1, min(raw.shape) // _SAMPLES)
    some = np.ascontiguousarray(raw[::stride, ::stride])
    readings = some_where(is_reading(some), some)
    known = len(readings)
    near = readings[readings <= np.float32(_FARTHEST_M * _ALONE)]
    value, count = _commonest(near, known)
    if 0 < value <= _FARTHEST_M and count >= _PURE * count_of(near < _ALONE * value):
        return value
    far = readings[readings >= np.float32(range_m)]
    value, count = _commonest(far, known)
    # Where most lie there, the range or the unit is another one.
    if value and _PURE_FAR * len(far) <= count <= 0.5 * known:
        return value
    value = _between(readings, range_m)
    return value if value and is_noisy(raw) else None


def _between(readings: Float32, range_m: float) -> float:
    """A value (n,) that lies alone among the others, as no surface of a sensor's does; 0: none."""
    value, _ = _commonest(readings[::_FOURTH], len(readings[::_FOURTH]))
    count = count_of(readings == value)
    if not LEAST_BETWEEN_M <= value < range_m or count > 0.5 * len(readings):
        return 0.0

    at_end = value == readings.max()
    least, lone = (_AROUND_END, _LONE_AT_END) if at_end else (_AROUND, _LONE)

    def is_lone(around: float) -> bool:
        off = np.abs(readings - value) <= np.float32(around * value)
        return bool(count_of(off) - count <= lone * count)

    if not is_lone(least):
        return 0.0
    around = _STEPS * _step(readings, value) / value
    return value if around <= _WIDEST and is_lone(max(least, around)) else 0.0


def _step(readings: Float32, at_m: float) -> float:
    """Between two neighbouring readings at that distance, metres, judged by the middle ones."""
    values = np.unique(readings)
    low, high = np.quantile(readings, (0.25, 0.75))
    middle = values[(values >= low) & (values <= high)]
    if len(middle) < 3:
        return np.inf
    return float(np.median(-np.diff(1 / middle))) * at_m**2


def _commonest(values: Float32, known: int) -> tuple[float, int]:
    """What most of some readings are, and how many of them; zeros where that says nothing."""
    if len(values) < _FEWEST:
        return 0.0, 0
    each, counts = np.unique(values, return_counts=True)
    most = int(counts.argmax())
    count = int(counts[most])
    # Where it is all, there is nothing of a scene, whatever the value is.
    if max(_FEWEST, _LEAST_SHARE * known) <= count <= 0.9 * known:
        return float(each[most]), count
    return 0.0, 0


def without_fill(raw: Float32, range_m: float = np.inf) -> tuple[Float32, float | None]:
    """The same with NaN where a driver has filled holes, and the value it did so with."""
    value = fill_value(raw, range_m)
    if value is None:
        return raw, None
    return np.where(raw == np.float32(value), np.float32(np.nan), raw), value


def without_runs(raw: Float32) -> tuple[Float32, float]:
    """The same with NaN where holes were filled from beside them, and that share of the pixels."""
    height, width = raw.shape
    rows = np.arange(1, height - 1)
    some = rows[:: max(1, len(rows) // _SCREENED)]
    if width < 4 * _RUN_PX or len(rows) == 0:
        return raw, 0.0
    _, _, length, before, after, _ = _runs(raw, some)
    at_jumps = before | after
    if (
        length[at_jumps].sum() < _RUNS_SHARE * len(some) * width
        or _are_as_elsewhere(raw[some], length, at_jumps)
        or not is_noisy(raw)
    ):
        return raw, 0.0
    row, start, length, before, after, uneven = _runs(raw, rows)
    filled = before | after | uneven
    ends = np.zeros((height, width + 1), np.int8)
    ends[row[filled], start[filled]] = 1
    ends[row[filled], start[filled] + length[filled]] -= 1
    inside = np.cumsum(ends[:, :width], axis=1, dtype=np.int8) > 0
    return np.where(inside, np.float32(np.nan), raw), float(np.mean(inside))


def _are_as_elsewhere(
    lines: Float32, length: NDArray[np.intp], at_jumps: NDArray[np.bool_]
) -> bool:
    """Whether those of the runs, (n,) each, are no commoner than others, and holes are left.

    lines: the rows (k, W) that they are in, metres.
    """
    known = is_reading(lines)
    readings = max(1, count_of(known))
    if known.size - readings < _HOLES * known.size:
        return False
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.abs(lines[:, 1:] / lines[:, :-1] - 1)
    jumps = count_of(known[:, 1:] & known[:, :-1] & (steps > _JUMP))
    elsewhere = length[~at_jumps].sum() / readings
    return bool(count_of(at_jumps) < _AS_ELSEWHERE * elsewhere * jumps)


def is_noisy(raw: Float32) -> bool:
    """Whether a sensor measured it. raw (H, W) metres, 0/NaN/inf unknown."""
    rows = np.arange(1, raw.shape[0] - 1)[:: max(1, min(raw.shape) // _SAMPLES)]
    above, line, below = raw[rows - 1], raw[rows], raw[rows + 1]
    with np.errstate(invalid="ignore", over="ignore"):
        smooth = [np.abs(beside - line) < _GOES_ON * line for beside in (above, below)]
        bent = np.abs(above - 2 * line + below)[smooth[0] & smooth[1]]
    return bool(len(bent) and np.mean(bent > _NOISE_M) > _NOISY)


def _runs(raw: Float32, rows: NDArray[np.intp]) -> tuple[NDArray, ...]:
    """Runs of one value in those rows, none of which is the first or last, within the picture.

    (n,) each: row, first column, length, whether it jumps before its start alone, whether after its
    end alone, whether it is uneven with the rows beside.
    """
    width = raw.shape[1]
    line = raw[rows]
    begins = np.ones(line.shape, bool)
    np.not_equal(line[:, 1:], line[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    length = np.diff(first, append=begins.size)
    # Where each pixel was made several, runs are as many times as long.
    least = _RUN_PX * width / max(1, count_of(begins.any(axis=0)))
    long = np.flatnonzero(length >= least)
    first, length = first[long], length[long]
    row, start = first // width, first % width
    inside = (start > 0) & (start + length < width)
    row, start, length = rows[row[inside]], start[inside], length[inside]
    value = raw[row, start]
    middle = start + length // 2
    known = is_reading(value) & (value >= _QUIET_M)
    row, start, length, value, middle = (one[known] for one in (row, start, length, value, middle))
    with np.errstate(invalid="ignore"):
        off = [
            np.where(is_reading(beside), np.abs(beside / value - 1), np.nan)
            for beside in (raw[row, start - 1], raw[row, start + length])
        ]
        jumps = [one > _JUMP for one in off]
        goes_on = [one <= _GOES_ON for one in off]
        above, below = raw[row - 1, middle], raw[row + 1, middle]
        bent = np.abs(above - 2 * value + below) > _UNEVEN * value
        uneven = bent & is_reading(above) & is_reading(below)
    before, after = jumps[0] & goes_on[1], jumps[1] & goes_on[0]
    return row, start, length, before, after, uneven
