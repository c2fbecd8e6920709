"""Where the sensor looks, if that is less than the picture, and what is beyond.

Knows one frame at working size: a sensor of a narrower view leaves a straight border of readings,
inside the picture, that no far or dark part of a scene leaves. Knows nothing of networks.

A refiner that sees wide margins without readings believes those that there are less. So it is shown
the view alone, and beyond it the prediction stands, hung on what was decided inside.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dkt_ros.fusion.features import Scene, hung
from dkt_ros.fusion.network import SIZE_MULTIPLE

Float32 = NDArray[np.float32]
View = tuple[slice, slice]

_MARGIN = 0.05  # of the side
_STRAIGHT = 0.35  # of a border has readings; where a scene ends, up to a tenth has
_DEPTH_PX = 3  # of a border
_LEAST = 0.4  # of the side; less is not a view
_REACH_PX = 8.0
_BEYOND = 2.0  # the error beyond the view, in those of the prediction inside
_BEYOND_LEAST, _BEYOND_ALONE = 0.03, 0.2  # at least; where the nearest reading is all there is


def sensors_view(measured: NDArray[np.bool_]) -> View | None:
    """Rows and columns with all readings, sides multiples of 16; None where that is everything.

    measured (h, w): where there is a reading.
    """
    across = (_within(measured, axis) for axis in (0, 1))
    spans = [span or (0, n) for span, n in zip(across, measured.shape, strict=True)]
    if spans == [(0, n) for n in measured.shape]:
        return None
    rows, columns = (slice(*span) for span in spans)
    return rows, columns


def _within(measured: NDArray[np.bool_], axis: int) -> tuple[int, int] | None:
    """First and last + 1 along an axis, widened; None without a straight border on either end."""
    size = measured.shape[axis]
    lines = np.flatnonzero(measured.any(axis=1 - axis))
    others = np.flatnonzero(measured.any(axis=axis))
    if len(lines) == 0:
        return None
    start, stop = int(lines[0]), int(lines[-1]) + 1
    inside = np.moveaxis(measured, axis, 0)[start:stop, others[0] : others[-1] + 1]
    ends = ((start, inside[:_DEPTH_PX]), (size - stop, inside[-_DEPTH_PX:]))
    narrow = any(gap >= _MARGIN * size and border.mean() >= _STRAIGHT for gap, border in ends)
    if not narrow or stop - start < _LEAST * size:
        return None
    length = max(2, -((start - stop) // SIZE_MULTIPLE)) * SIZE_MULTIPLE
    start = min(max(0, start - (length - (stop - start)) // 2), size - length)
    return start, start + length


def beyond(
    scene: Scene, view: View, decided: Iterable[Float32], line: Float32 | None
) -> tuple[Float32, Float32, Float32]:
    """Of the whole picture: corrected disparity, trust and log error, (h, w) each.

    decided: the same of the view. line: (h, w), the prediction before it was bent, 1/m.
    """
    corrected, trust, log_error = decided
    base = scene.filled if scene.predicted is None else scene.predicted
    target, inside = base.copy(), np.zeros(base.shape, bool)
    target[view], inside[view] = corrected, True
    whole = (
        hung(base, target, inside, _REACH_PX, begins=inside),
        np.zeros_like(base),
        np.full_like(base, _log_error(scene, line)),
    )
    for map_, part in zip(whole, (corrected, trust, log_error), strict=True):
        map_[view] = part
    # Trust is of a reading: where there is none, the nearest one's.
    return whole[0], whole[1].take(scene.nearest), whole[2]


def _log_error(scene: Scene, line: Float32 | None) -> float:
    error = _BEYOND_ALONE
    if line is not None:
        off = scene.disparity / line - 1.0
        error = max(_BEYOND * float(np.abs(off[scene.measured]).mean()), _BEYOND_LEAST)
    return float(np.log(error))
