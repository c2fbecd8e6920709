"""What RealSense's SDK and Viewer record: their topics, and what ROS drivers would have said.

ROS 1 bags (`.bag`) until version 2.57, whose facts are messages; since then sqlite bags (`.db3`),
whose facts are texts of `name=value;`. Neither holds registered depth. Knows nothing of pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dkt_ros.bags.reader import BagReader, usable
from dkt_ros.bags.reader import first_message as first
from dkt_ros.bags.recording import FRAME_ID
from dkt_ros.depth_registration import Lens
from dkt_ros.errors import DktError
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.cameras import Pose, distortion_model, lens_of, pose_of, rigid

_IMAGE = "/image/data"
_TEXT = "std_msgs/msg/String"


def lens(bag: BagReader, image: str) -> Lens:
    """The camera of a stream. Raises DktError where the bag does not tell it."""
    stream = image.removesuffix(_IMAGE)
    name = next((n for n in usable(bag.topics) if n in _info_names(stream)), None)
    if name is None:
        raise DktError(f"no camera_info of {stream}: expected {' or '.join(_info_names(stream))}")
    info = first(bag, name)
    if bag.topics[name].msgtype != _TEXT:
        return lens_of(info)
    said = _said(info.data, name)
    try:
        fx, fy, cx, cy = (float(said[key]) for key in ("fx", "fy", "ppx", "ppy"))
        camera = Intrinsics(fx, fy, cx, cy, int(said["width"]), int(said["height"]))
        bends = _numbers(said["coeffs"])
    except (KeyError, ValueError) as error:
        raise DktError(f"{name} says {info.data[:120]!r}: {error} is missing or wrong") from error
    return Lens(camera, distortion_model(said.get("model", "")), tuple(bends))


def pose(bag: BagReader, depth: str, color: str) -> Pose | None:
    """Points of depth's camera into colour's; None where the bag does not tell it.

    Each stream has the motion from one common stream to it.
    """
    poses: list[dict[str, Pose]] = []
    for image in (depth, color):
        prefix = f"{image.removesuffix(_IMAGE)}/tf/"
        names = [name for name in usable(bag.topics) if name.startswith(prefix)]
        poses.append({name.removeprefix(prefix): _motion(bag, name) for name in names})
    common = sorted(poses[0].keys() & poses[1].keys())
    if not common:
        return None
    to_depth, to_color = (each[common[0]] for each in poses)
    return to_color @ np.linalg.inv(to_depth)


def unit_m(bag: BagReader, depth: str) -> float | None:
    """What one step of depth means, metres; None where the bag does not tell it."""
    options = f"{depth.removesuffix(_IMAGE).rpartition('/')[0]}/option/"
    for name in (f"{options}Depth Units/value", f"{options}Depth_Units/value"):
        if name in usable(bag.topics):
            try:
                unit = float(first(bag, name).data)
            except ValueError:
                return None
            # As it was meant: no float32 is 0.001.
            return float(f"{unit:.6g}") if np.isfinite(unit) and unit > 0 else None
    return None


def as_ros_has_it(message: Any) -> Any:
    """An image or camera_info with what drivers fill: frame, encoding's name, P."""
    message.header = replace(message.header, frame_id=FRAME_ID)
    if hasattr(message, "encoding"):
        known = "UC" in message.encoding
        message.encoding = message.encoding if known else message.encoding.lower()
    else:
        message.distortion_model = distortion_model(message.distortion_model)
        message.p = np.insert(message.k.reshape(3, 3), 3, 0.0, axis=1).ravel()
    return message


def _info_names(stream: str) -> tuple[str, str]:
    return f"{stream}/info/camera_info", f"{stream}/camera_info"


def _motion(bag: BagReader, name: str) -> Pose:
    message = first(bag, name)
    if bag.topics[name].msgtype != _TEXT:
        return pose_of(message)
    said = _said(message.data, name)
    try:
        # Columns first.
        turn = np.reshape(_numbers(said["rotation"]), (3, 3)).T
        return rigid(turn, _numbers(said["translation"]))
    except (KeyError, ValueError) as error:
        raise DktError(f"{name} says {message.data[:120]!r}: {error}") from error


def _said(text: str, name: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(";") if part]
    if not all(middle for _, middle, _ in parts):
        raise DktError(f"{name} says {text[:120]!r}: expected name=value; of each fact")
    return {key.strip(): value for key, _, value in parts}


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
