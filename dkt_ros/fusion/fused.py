"""What fusing gives: depth of one frame, where each pixel's is from, and how sure it is.

Knows what was decided. Knows nothing of how.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, median
from dkt_ros.fusion.confidence import Calibration
from dkt_ros.fusion.registration import Seen

Float32 = NDArray[np.float32]

_MEDIAN_OF = 2048  # pixels, spread over all


class Source(IntEnum):
    """Where a pixel's depth comes from."""

    NOTHING = 0
    SENSOR = 1
    NETWORK = 2


@dataclass(frozen=True)
class Shares:
    """Shares of the pixels whose depth is the sensor's, the network's, and unknown; 1 in all."""

    sensor: float
    network: float
    nothing: float

    @classmethod
    def of(cls, source: NDArray[np.uint8]) -> Shares:
        """source: of Source, any shape."""
        sensor, network = (count_of(source == kind) / source.size for kind in (1, 2))
        return cls(sensor, network, max(0.0, 1.0 - sensor - network))


@dataclass(frozen=True, eq=False)
class Fused:
    """Metric depth of one frame.

    depth        (H, W) float32 metres, NaN = unknown
    source       (H, W) uint8 of Source
    shares       of the pixels, by source
    readings     pixels with a reading, at working size
    trusted      those of them that are trusted
    residual_m   median |raw depth - the depth that would be published there without it| over all
                 trusted readings, metres; NaN without any
    seen         whether colour and raw depth are of one scene and registered, as the matcher sees
                 it in this frame; None where it sees nothing
    doubted      (h, w) uint8 at working size, 1 where no reading should be shown to a network: it
                 is too far and not trusted, or lies beside such a one; None where nobody knows
    network_used whether the network's disparity had a part in it
    reason       what was missing or not used; "" where everything was
    """

    depth: Float32
    source: NDArray[np.uint8]
    shares: Shares
    readings: int
    trusted: int
    residual_m: float
    seen: Seen | None
    doubted: NDArray[np.uint8] | None
    network_used: bool
    reason: str
    _log_error: Float32 | float = field(repr=False)
    _calibration: Calibration = field(repr=False)
    _tolerance: float = field(repr=False)
    _range: tuple[float, float] = field(repr=False, default=(0.0, np.inf))

    @cached_property
    def confidence(self) -> Float32:
        """(H, W) float32 in 0..1: probability that the depth is within the tolerance of the truth.

        0 where there is no depth. Made when it is asked for.
        """
        height, width = self.depth.shape
        map_ = np.atleast_2d(np.asarray(self._log_error, np.float32))
        probability = self._calibration.probability(map_, self._tolerance)
        full = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
        full[self.source == Source.NOTHING] = 0.0
        return np.asarray(full, np.float32)

    def limited(self, low: float, high: float, min_confidence: float = 0.0) -> Fused:
        """The same, NaN where the depth is outside low .. high (m) or not so sure to be right."""
        if min_confidence <= 0 and low <= self._range[0] and self._range[1] <= high:
            return self
        inside = np.asarray(cv2.inRange(self.depth, np.array([low]), np.array([high])), np.uint8)
        if min_confidence > 0:
            inside[self.confidence < min_confidence] = 0
        if cv2.countNonZero(inside) == inside.size:
            return self
        depth = np.where(inside, self.depth, np.float32(np.nan))
        source = self.source & inside  # 255 inside
        return replace(self, depth=depth, source=source, shares=Shares.of(source))

    @cached_property
    def expected_error(self) -> float:
        """Median over the picture of the relative error that is expected, calibrated."""
        some = np.ravel(self._log_error)
        some = some[:: 1 + len(some) // _MEDIAN_OF]
        return float(self._calibration.expected_error(median(some)))
