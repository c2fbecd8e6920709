"""What travels from the executor thread to the inference worker: a frame and what it came with."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from dkt_ros.frames import Frame


@dataclass(frozen=True, eq=False)
class Observation:
    """One accepted frame.

    camera_info  the calibration that holds for the frame, as the camera sent it
    epoch        rises when the stream broke in a way that the frames do not show: time ran back
                 while nobody looked, or an encoding changed
    arrived_s    when the colour image reached the node, time.monotonic()
    """

    frame: Frame
    camera_info: CameraInfo
    epoch: int
    arrived_s: float
