"""What cameras and dkt_node publish, as what can be shown of one stamp; live or recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import AlignmentState
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.fields import as_option, camera_info_to_intrinsics, stamp_to_ns
from dkt_ros.messages.pixels import depth_of, rgb_of

SERIES = (
    *("scale", "shift", "residual", "uncertainty", "inlier_ratio"),
    *("share_sensor", "share_network", "latency"),
)
"""Fields of ScaleAlignment that are drawn over time."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known of one stamp, or a part of that; None: nothing.

    color        (H, W, 3) uint8 RGB
    raw, depth   (H, W) float32 metres, NaN unknown: the sensor's, and what DKT made of it
    confidence   (H, W) float32, 0 to 1
    intrinsics   of all of them
    series       values by name, of SERIES
    state        the alignment's, with its reason
    """

    stamp_ns: int
    color: NDArray[np.uint8] | None = None
    raw: NDArray[np.float32] | None = None
    depth: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    intrinsics: Intrinsics | None = None
    series: Mapping[str, float] = field(default_factory=dict)
    state: str | None = None


def moment_of(role: str, message: Any, rectified: bool = False) -> Moment:
    """A message as a moment. Raises MessageError for one that cannot be used.

    role: "color", "raw", "depth", "confidence", "camera_info" or "alignment".
    """
    stamp_ns = stamp_to_ns(message.header.stamp)
    if role == "alignment":
        series = {name: float(getattr(message, name)) for name in SERIES}
        state = AlignmentState(message.state).name
        return Moment(stamp_ns, series=series, state=told_state(state, message.reason))
    if role == "camera_info":
        return Moment(stamp_ns, intrinsics=camera_info_to_intrinsics(message, rectified, as_option))
    if role == "color":
        return Moment(stamp_ns, color=rgb_of(message))
    values: dict[str, Any] = {role: depth_of(message)}
    return Moment(stamp_ns, **values)


def told_state(name: str, reason: str) -> str:
    """An alignment's state in words."""
    return f"{name}: {reason}" if reason else name
