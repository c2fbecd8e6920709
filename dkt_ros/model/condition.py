"""The raw depth of a clip as pictures that the VAE can encode: what a conditioned network is shown.

Knows the linear map between disparity and the network's [-1, 1], how holes are filled and marked.
Knows nothing of networks or streams.

Why so. The pictures' first two channels are the raw disparity, holes filled by the nearest reading,
under the map that the network's answer is in: where the sensor is right, they are the answer's own
picture, and the network has only to let them pass. The third channel equals the others where there
is a reading and is at least 1 off where there is none, so that a fully measured clip is encoded
exactly as the target is, and one pass of the VAE tells values and holes, with its own resolution in
space and time. Values pooled to latent size would save that pass, but no linear map of them gives
more than half of the latents' variance (measured on dkt-nano), so the network would have to learn
the VAE's code anew.

Why by the readings. The answer's map must be known at inference, when the truth is not: it is made
of robust extremes of the readings, in training as in use, with room for what no sensor saw. A fixed
map of metres would spend most of [-1, 1] on depths that a scene lacks. Readings of a small part of
the picture tell nothing of the rest: of a network that is shown them the answer is nearly flat,
where colour alone would have told its shape, so they are not shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import Array, count_of
from dkt_ros.geometry import nearest_fill

LEAST_READINGS = 100
"""Fewer in a whole frame are none."""
_ROWS = 12
"""A picture is seen where one of so many rows of square cells has a reading, however thin."""
_SEEN_TO_BEGIN, _SEEN_TO_GO_ON = 0.1, 0.05
"""Shares of the picture. Two, so that a sensor that sees about a tenth of it does not make a stream
begin anew all the time."""
_PERCENTILES = 2.0, 98.0
_ROOM_NEAR, _ROOM_FAR = 0.15, 0.05
"""Beyond the nearest reading and the farthest, as shares of the nearest's disparity: objects that
the sensor does not see stand mostly on what it does (of rendered scenes some 2% of their pixels lie
beyond). More room costs precision everywhere: at twice as much the error of dkt-nano's VAE alone is
up to half as much again."""
_STRAYED, _SHRUNK = 0.1, 0.5
_SOME = 20000
"""So many readings tell the range as well as all."""


@dataclass(frozen=True)
class DisparityRange:
    """Disparities in 1/m that become -1 and 1, 0 <= low < high."""

    low: float
    high: float

    def disparity(self, answer: Array) -> Array:
        """The network's [0, 1] -> 1/m, in the same memory."""
        disparity: Array = answer * (self.high - self.low) + self.low
        return disparity

    def normalise(self, disparity: NDArray[np.float32]) -> NDArray[np.float32]:
        """1/m -> [-1, 1]; what lies beyond is clamped."""
        half = (self.high - self.low) / 2.0
        return np.clip((disparity - self.low) / half - 1.0, -1.0, 1.0).astype(np.float32)

    def suits(self, disparity: NDArray[np.float32]) -> bool:
        """Whether readings (0 = none) mostly lie within, and fill a fair part of it."""
        found, known = range_of(disparity), disparity[disparity > 0]
        if found is None:
            return True
        outside = count_of((known < self.low) | (known > self.high))
        return outside <= _STRAYED * known.size and found.high >= _SHRUNK * self.high


def range_of(disparity: NDArray[np.float32], begun: bool = False) -> DisparityRange | None:
    """The range for a clip by its readings, (H, W) or (F, H, W), 1/m, 0 = none; None: too few.

    Of the whole clip, so that what stands still keeps its value. begun: whether the clip before was
    shown its readings, so that this one's may be fewer.
    """
    known = disparity[disparity > 0]
    if known.size < LEAST_READINGS:
        return None
    if seen_share(disparity) < (_SEEN_TO_GO_ON if begun else _SEEN_TO_BEGIN):
        return None
    some = known[:: max(1, known.size // _SOME)]
    low, high = (float(value) for value in np.percentile(some, _PERCENTILES))
    return DisparityRange(max(0.0, low - _ROOM_FAR * high), high + _ROOM_NEAR * high)


def seen_share(disparity: NDArray[np.float32]) -> float:
    """Of pictures (H, W) or (F, H, W), 0 = no reading: the share of coarse cells with a reading.

    Sparse readings all over the picture, as a laser's, see all of it.
    """
    height, width = disparity.shape[-2:]
    cells = max(1, round(_ROWS * width / height)), _ROWS
    frames = (disparity > 0).astype(np.float32).reshape(-1, height, width)
    seen = [cv2.resize(one, cells, interpolation=cv2.INTER_AREA) > 0 for one in frames]
    return float(np.mean(seen))


def fill(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """(F,H,W) in 1/m, 0 = unknown -> without unknowns; at least one pixel must be known.

    The nearest known pixel's value: the VAE sees no edges but those of the true disparity and of
    borders between equally near neighbours, unlike with a constant. A frame without any is filled
    by the nearest frame in time.
    """
    known = disparity > 0
    if known.all():
        return disparity
    has_any = np.flatnonzero(known.any(axis=(1, 2)))
    nearest = [has_any[np.abs(has_any - index).argmin()] for index in range(len(disparity))]
    filled = {index: nearest_fill(disparity[index]) for index in has_any}
    return np.stack([filled[index] for index in nearest])


def pictures(disparity: NDArray[np.float32], limits: DisparityRange) -> NDArray[np.float32]:
    """Readings (F,H,W) in 1/m, 0 = none -> (3,F,H,W) in [-1, 1]; without any all is far."""
    values = limits.normalise(fill(disparity) if disparity.any() else disparity)
    apart = values - np.where(values < 0, np.float32(-1.0), np.float32(1.0))
    return np.stack([values, values, np.where(disparity > 0, values, apart)])
