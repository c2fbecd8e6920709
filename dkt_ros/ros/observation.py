"""What travels from the executor thread to the inference worker: a frame and what it came with."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from dkt_ros.frames import Frame


@dataclass(frozen=True, eq=False)
class Observation:
    """One accepted frame.

    camera_info  the calibration that holds for the frame, as the camera sent it
    epoch        rises when the stream broke between frames that inference may not see: time ran
                 back, no frame came for max_gap_s, or an encoding changed
    arrived_s    when the colour image reached the node, time.monotonic()
    """

    frame: Frame
    camera_info: CameraInfo
    epoch: int
    arrived_s: float
