"""Headers for ROS messages. Pixels are in images.py, point clouds in clouds.py."""

from __future__ import annotations

import copy

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from dkt_ros.frames import NANOSECONDS_PER_SECOND


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """The header whose stamp is exactly `stamp_ns` nanoseconds."""
    sec, nanosec = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def camera_info_with_header(info: CameraInfo, header: Header) -> CameraInfo:
    """A copy of `info` under another header; shares the calibration arrays."""
    copied = copy.copy(info)
    copied.header = header
    return copied
