"""Whether depth became larger by a factor between two pictures that look alike.

Knows small pictures of two frames, and what was last told. Knows nothing of what made depth jump.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, median
from dkt_ros.fusion.changes import changed_colour

Float32 = NDArray[np.float32]

_FEWEST = 600  # readings of both frames
_ALIKE = 0.7  # correlation of colour; scenes that have nothing in common reach 0.5
_AT_REST = 1.15, 0.1  # change of depth that is a jump where colour stays the same: changes by less
# than that share of its spread, and would by more (by twice what it does) if it had come as near
_UNEVEN = 0.1  # spread of a change of depth, relative, beyond which it is none of the scale


class Jumps:
    """One stream's newest frame, and its last jump.

    factor: by which depth became larger with the newest frame; None where none was before it.
    """

    def __init__(self) -> None:
        self.factor: float | None = None
        self._last: tuple[Float32, Float32, float] | None = None
        self._jump: tuple[float, int, int] | None = None
        self._of_scale = 0

    def take(
        self, grey: Float32, inverse: Float32, level: float, stamp_ns: int, jump: float
    ) -> tuple[float, int] | None:
        """The last jump with the next frame, its factor and stamp; None where none is known.

        Told by the readings where both frames have some, else by the network's line. grey (h, w);
        inverse (h, w) 1/m, 0 unknown; level: median of the network's, 1/m, 0 unknown; jump: the
        least factor, but before a camera that is seen to be at rest.
        """
        told = self._jump
        if self._last is not None:
            before, old, old_level = self._last
            both = (old > 0) & (inverse > 0)
            measured = count_of(both) > _FEWEST
            if measured:
                factor, uneven = _scaled(old[both], inverse[both])
            else:
                factor, uneven = (old_level / level if min(old_level, level) > 0 else 1.0), 0.0
            self.factor = factor
            change = max(factor, 1 / factor)
            large = change > jump
            if measured and not large and change > _AT_REST[0]:
                large = _at_rest(before, grey, (old > 0) | (inverse > 0), factor)
            if large and uneven < _UNEVEN and _alike(before, grey) > _ALIKE:
                back = self._jump is not None and 0.8 < self._jump[0] * factor < 1.25
                # What it is back at may be wrong, where that was one frame's alone.
                is_known = self._jump is not None and self._jump[2] > 1
                told = None if back and is_known else (factor, stamp_ns, self._of_scale)
                self._jump, self._of_scale = None if back else told, 0
        self._of_scale += 1
        self._last = grey, inverse, level
        return told and told[:2]


def _alike(before: Float32, now: Float32) -> float:
    """Correlation of two pictures, which light and exposure leave as it is."""
    old, new = before - before.mean(), now - now.mean()
    energy = float(np.square(old).sum()) * float(np.square(new).sum())
    return float((old * new).sum()) / max(energy, 1e-6) ** 0.5


def _at_rest(before: Float32, now: Float32, measured: NDArray[np.bool_], factor: float) -> bool:
    """Whether what was measured, and what is about it, is shown to be no farther away by that.

    Pictures (h, w). A bare table that comes nearer looks as before, and shows nothing.
    """
    there = cv2.dilate(measured.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    height, width = now.shape
    about = (width - 1) / 2, (height - 1) / 2
    farther = cv2.getRotationMatrix2D(about, 0, 1 / factor)
    gone = np.asarray(
        cv2.warpAffine(before, farther, (width, height), borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )
    as_is, as_gone = (float(changed_colour(one, now)[there].mean()) for one in (before, gone))
    least = _AT_REST[1] * float(now[there].std())
    return as_is < least < as_gone and as_gone > 2 * as_is


def _scaled(before: Float32, now: Float32) -> tuple[float, float]:
    """Factor by which depth became larger, of readings (n,) in 1/m, and its relative spread."""
    change = np.log(before / now)
    middle = median(change)
    return float(np.exp(middle)), 1.4826 * median(np.abs(change - middle))
