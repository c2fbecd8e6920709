"""An alignment as dkt_ros/ScaleAlignment's fields, and that message's definition without ROS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkt_ros.alignment.aligner import Alignment

if TYPE_CHECKING:
    from dkt_ros.fusion.fused import Shares

SCALE_ALIGNMENT = "dkt_ros/msg/ScaleAlignment"
STAGE_TIMING = "dkt_ros/msg/StageTiming"
DEFINITIONS = {
    STAGE_TIMING: "string name\nfloat32 seconds\n",
    SCALE_ALIGNMENT: """uint8 OK=0
uint8 HELD=1
uint8 UNALIGNED=2
uint8 SENSOR=3
std_msgs/Header header
uint8 state
string reason
float64 scale
float64 shift
uint32 inliers
float32 inlier_ratio
float32 residual
float32 uncertainty
float32 share_sensor
float32 share_network
float32 share_nothing
uint32 window
float32 latency
StageTiming[] stages
""",
}
"""msg/*.msg without their comments, for recordings that are written without ROS."""


def alignment_fields(
    alignment: Alignment, window: int, shares: Shares | None = None
) -> dict[str, float | int | str]:
    """The fields of the quality signal that are no timings or header. shares: of one frame."""
    told = {} if shares is None else {f"share_{name}": part for name, part in vars(shares).items()}
    return {
        "state": alignment.state.value,
        "reason": alignment.reason,
        "scale": float(alignment.scale),
        "shift": float(alignment.shift),
        "inliers": int(alignment.inliers),
        "inlier_ratio": float(alignment.inlier_ratio),
        "residual": float(alignment.residual_m),
        "uncertainty": float(alignment.uncertainty),
        "window": window,
        **told,
    }
