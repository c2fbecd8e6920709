"""Messages that tell of cameras and poses, as lenses and matrices.

Knows camera_info and Transform, and the names that others give to distortions. Knows no pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.depth_registration import Lens
from dkt_ros.messages.fields import HowToSet, as_parameter, camera_info_to_intrinsics

Pose = NDArray[np.float64]


def lens_of(info: Any, rectified: bool = False, how_to_set: HowToSet = as_parameter) -> Lens:
    """The camera of a camera_info, of whoever; rectified: P's. Raises MessageError, DktError."""
    camera = camera_info_to_intrinsics(info, rectified, how_to_set)
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
    return rigid(rotation_matrix(turn.x, turn.y, turn.z, turn.w), (way.x, way.y, way.z))


def rotation_matrix(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """(3, 3) of a quaternion of any length; of length 0, which is none, no turn."""
    s = 2.0 / (x * x + y * y + z * z + w * w or 1.0)
    return np.array(
        [
            [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
        ]
    )


def rigid(rotation: Any, way: Any) -> Pose:
    """(4, 4) of a rotation matrix and a way in metres."""
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = rotation, way
    return found
