"""For how long what was decided of a frame stands: some frames, while nothing moves.

Knows working size. Knows nothing of how it is decided, nor of what tells that nothing moves.

Before a scene at rest a refiner says again what it said of the frame before, but for noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, quantiles

Float32 = NDArray[np.float32]

_AFTER = 3  # frames in a row in which nothing moved
_FOR = 7  # more frames
_CELL, _OTHER = 8, 0.4  # pixels; of a cell's readings came or went: more than flickers
_COME_OR_GONE = 0.03  # share of such cells
_SAME = (0.5, 0.95), (0.015, 0.08)  # shares of a prediction, that changed by so much, relative
_SOME = 2048  # pixels


@dataclass(frozen=True, eq=False)
class Decided:
    """What was decided of a frame, all (h, w).

    corrected  disparity without the sensor's own reading, 1/m
    trust      0..1, in a reading; where there is none, in the nearest one
    log_error  of the depth
    readings   1/m, 0 = none
    nearest    int32, flat place of the nearest reading
    predicted  the network's disparity on its scale; None without one
    on_scale   whether that is of a network that was shown readings
    """

    corrected: Float32
    trust: Float32
    log_error: Float32
    readings: Float32
    nearest: NDArray[np.int32]
    predicted: Float32 | None
    on_scale: bool

    def holds_of(self, readings: Float32, predicted: Float32 | None, on_scale: bool) -> bool:
        """Whether so much is known of a later frame as was of this one."""
        if readings.shape != self.readings.shape or on_scale != self.on_scale:
            return False
        other = np.abs(_present(readings) - _present(self.readings)) > _OTHER
        if count_of(other) > _COME_OR_GONE * other.size:
            return False
        if predicted is None or self.predicted is None:
            return predicted is self.predicted
        step = 1 + predicted.size // _SOME
        now, then = predicted.ravel()[::step], self.predicted.ravel()[::step]
        shares, most = _SAME
        found = quantiles(np.abs(now / then - 1), *shares)
        return all(one <= limit for one, limit in zip(found, most, strict=True))


def _present(readings: Float32) -> Float32:
    """Share of each cell's pixels that have a reading."""
    height, width = (side // _CELL for side in readings.shape)
    present = (readings > 0).astype(np.float32)
    return np.asarray(cv2.resize(present, (width, height), interpolation=cv2.INTER_AREA))


class Standing:
    """The latest decision of one stream."""

    def __init__(self) -> None:
        self._decided: Decided | None = None
        self._at_rest = self._stood = 0

    def take(self, decided: Decided) -> None:
        """A new one."""
        self._decided, self._stood = decided, 0

    def of(
        self, readings: Float32, predicted: Float32 | None, on_scale: bool, at_rest: bool
    ) -> Decided | None:
        """The one that stands for the next frame, see Decided; None where it has to be made.

        at_rest: whether nothing moves in it.
        """
        self._at_rest = self._at_rest + 1 if at_rest else 0
        decided = self._decided
        if decided is None or self._at_rest <= _AFTER or self._stood >= _FOR:
            return None
        if not decided.holds_of(readings, predicted, on_scale):
            return None
        self._stood += 1
        return decided
