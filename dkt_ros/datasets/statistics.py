"""Figures of many frames in constant memory: depth range, shares of unknown and transparent pixels.

Knows samples. Knows nothing of data sets or reports.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dkt_ros.arrays import count_of
from dkt_ros.datasets.sample import Sample

_LOG_LOW, _LOG_HIGH = np.log(1e-3), np.log(1e3)
_BINS = 2763
"""Half a per cent of depth each, so that the median is right to a quarter of a per cent."""


@dataclass
class Statistics:
    """Sums over frames. frames: how many went in; sizes: "WxH" to frames."""

    frames: int = 0
    pixels: int = 0
    known: int = 0
    masked: int = 0
    transparent: int = 0
    raw: int = 0
    raw_known: int = 0
    depth_min: float = np.inf
    depth_max: float = -np.inf
    sizes: Counter[str] = field(default_factory=Counter)
    _histogram: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    @classmethod
    def of(cls, sample: Sample) -> Statistics:
        """The figures of one frame."""
        depth = sample.depth[sample.known]
        transparent = sample.transparent_or_reflective
        height, width = sample.depth.shape
        scale = _BINS / (_LOG_HIGH - _LOG_LOW)
        bins = ((np.log(depth) - _LOG_LOW) * scale).astype(np.int64).clip(0, _BINS - 1)
        raw = sample.raw_depth
        return cls(
            frames=1,
            pixels=sample.depth.size,
            known=depth.size,
            masked=0 if transparent is None else transparent.size,
            transparent=0 if transparent is None else count_of(transparent),
            raw=0 if raw is None else raw.size,
            raw_known=0 if raw is None else count_of(np.isfinite(raw)),
            depth_min=float(depth.min()),
            depth_max=float(depth.max()),
            sizes=Counter([f"{width}x{height}"]),
            _histogram=np.bincount(bins, minlength=_BINS),
        )

    def add(self, other: Statistics) -> None:
        """Takes other frames in."""
        for name in ("frames", "pixels", "known", "masked", "transparent", "raw", "raw_known"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.depth_min = min(self.depth_min, other.depth_min)
        self.depth_max = max(self.depth_max, other.depth_max)
        self.sizes.update(other.sizes)
        self._histogram = self._histogram + other._histogram

    @property
    def depth_median(self) -> float | None:
        """Metres, to a quarter of a per cent; None without frames."""
        if self.known == 0:
            return None
        middle = int(np.searchsorted(np.cumsum(self._histogram), (self.known + 1) // 2))
        width = (_LOG_HIGH - _LOG_LOW) / _BINS
        median = float(np.exp(_LOG_LOW + (middle + 0.5) * width))
        return min(max(median, self.depth_min), self.depth_max)

    def summary(self) -> dict[str, Any]:
        """For JSON: depths in metres, shares from 0 to 1, None where nothing was measured."""
        depth = None
        if self.known:
            depth = {"min": self.depth_min, "median": self.depth_median, "max": self.depth_max}
        return {
            "depth_m": depth,
            "unknown_share": _share(self.pixels - self.known, self.pixels),
            "transparent_share": _share(self.transparent, self.masked),
            "raw_unknown_share": _share(self.raw - self.raw_known, self.raw),
            "sizes": dict(self.sizes),
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
