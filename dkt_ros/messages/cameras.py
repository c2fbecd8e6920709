"""Messages that tell of cameras and poses, as lenses and matrices.

Knows camera_info and Transform, and the names that others give to distortions. Knows no pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.depth_registration import Lens
from dkt_ros.messages.fields import camera_info_to_intrinsics

Pose = NDArray[np.float64]


def lens_of(info: Any, rectified: bool = False) -> Lens:
    """The camera of a camera_info, of whoever; rectified: P's. Raises MessageError, DktError."""
    camera = camera_info_to_intrinsics(info, rectified)
    if rectified:
        return Lens(camera)
    model = distortion_model(info.distortion_model)
    used = 4 if model == "equidistant" else None
    return Lens(camera, model, tuple(float(number) for number in info.d[:used]))


def distortion_model(name: str) -> str:
    """ROS's name of a distortion; the SDK has others for the same."""
    name = name.strip().lower()
    if "brown" in name:
        return "plumb_bob"
    return "equidistant" if "kannala" in name else name


def pose_of(transform: Any) -> Pose:
    """(4, 4) of a geometry_msgs Transform."""
    turn, way = transform.rotation, transform.translation
    axis = np.array([turn.x, turn.y, turn.z], np.float64)
    length = float(np.linalg.norm(axis))
    angle = 2 * np.arctan2(length, turn.w)
    return rigid(cv2.Rodrigues(axis / max(length, 1e-12) * angle)[0], (way.x, way.y, way.z))


def rigid(rotation: Any, way: Any) -> Pose:
    """(4, 4) of a rotation matrix and a way in metres."""
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = rotation, way
    return found
