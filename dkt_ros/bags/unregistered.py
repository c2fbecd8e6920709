"""How a bag's depth that is not registered to colour becomes so: where both cameras stand.

Knows who tells that: RealSense's SDK, which records no other depth, realsense-ros, and tf. Knows
nothing of how depth is moved.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from dkt_ros.bags.reader import BagReader, RecordedMessage
from dkt_ros.bags.topics import CameraTopics, NoTopicError, info_of_depth, is_sdk_stream
from dkt_ros.depth_registration import DepthRegistration, Lens
from dkt_ros.errors import DktError
from dkt_ros.messages.compressed_images import compressed_to_depth
from dkt_ros.messages.fields import camera_info_to_intrinsics
from dkt_ros.messages.images import image_to_depth

Pose = NDArray[np.float64]

_SDK_IMAGE = "/image/data"
_EXTRINSICS = "realsense2_camera_msgs/msg/Extrinsics"
_TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_CDR_HEADER = 4
_MOST_TF = 2000
"""Messages of tf that are read; cameras' own frames are told at once, or every second."""


@dataclass(frozen=True, eq=False)
class DepthCamera:
    """What depth images need to be registered: how, and what one of their steps means.

    unit_m: metres; None where the bag does not say. told_by: topics, for people.
    """

    registration: DepthRegistration
    unit_m: float | None
    told_by: str


class RegisteredImage:
    """An Image of float metres as colour's camera sees it, made when its pixels are asked for."""

    encoding = "32FC1"
    is_bigendian = int(sys.byteorder == "big")

    def __init__(self, message: Any, camera: DepthCamera, unit_m: float, frame_id: str) -> None:
        """message: of unregistered depth. unit_m: what one of its steps means."""
        self.header = replace(message.header, frame_id=frame_id)
        self.height, self.width = camera.registration.other_size
        self.step = 4 * self.width
        self._message, self._camera, self._unit_m = message, camera, unit_m

    @cached_property
    def data(self) -> NDArray[np.uint8]:
        """Raises DktError where the message is damaged or of another size than its camera_info."""
        raw = hasattr(self._message, "encoding")
        depth = (image_to_depth if raw else compressed_to_depth)(self._message, self._unit_m)
        return self._camera.registration.apply(depth).view(np.uint8).ravel()


def depth_camera(
    bag: BagReader, topics: CameraTopics, color_info: Any, rectified: bool = False
) -> DepthCamera:
    """How the bag's depth is registered to its colour, whose camera_info is given.

    rectified: whether P of that holds. Raises NoTopicError saying what is missing.
    """
    assert topics.depth is not None
    whose = f"depth {topics.depth} is not registered to colour {topics.color}"
    info_topic = info_of_depth(bag, topics.depth)
    if info_topic is None:
        raise NoTopicError("depth", f"{whose}, and no CameraInfo of depth's camera tells its lens")
    try:
        lenses = _lens(_first(bag, info_topic)), _lens(color_info, rectified)
        found = _told(bag, topics)
        if found is None:
            raise DktError(
                "nothing tells where its camera stands: expected /tf_static with both optical "
                "frames, or extrinsics/depth_to_color"
            )
        pose, told_by = found
        moved = DepthRegistration(*lenses, pose)
        unit_m = _unit(bag, topics.depth)
    except DktError as error:
        raise NoTopicError(
            "depth",
            f"{whose}, and cannot be: {error}. Record registered depth (RealSense: "
            "align_depth.enable:=true)",
        ) from error
    return DepthCamera(moved, unit_m, f"{info_topic} and {told_by}")


def as_ros_has_it(message: Any, frame_id: str) -> Any:
    """A message of RealSense's SDK with what ROS drivers fill: frame, P, encodings' names."""
    message.header = replace(message.header, frame_id=frame_id)
    if hasattr(message, "encoding"):
        known = "UC" in message.encoding
        message.encoding = message.encoding if known else message.encoding.lower()
    else:
        message.distortion_model = _model(message)
        message.p = np.insert(message.k.reshape(3, 3), 3, 0.0, axis=1).ravel()
    return message


def _told(bag: BagReader, topics: CameraTopics) -> tuple[Pose, str] | None:
    assert topics.depth is not None
    if is_sdk_stream(topics.depth):
        return _of_sdk(bag, topics.depth, topics.color)
    # Extrinsics of one's own calibration are in tf.
    return _of_tf(bag, topics) or _of_realsense(bag, topics.color)


def _of_sdk(bag: BagReader, depth: str, color: str) -> tuple[Pose, str] | None:
    """The SDK writes each stream's pose as the motion from one common stream to it."""
    poses: list[dict[str, Pose]] = []
    for topic in (depth, color):
        prefix = f"{topic.removesuffix(_SDK_IMAGE)}/tf/"
        names = [name for name in _usable(bag) if name.startswith(prefix)]
        poses.append({name.removeprefix(prefix): _pose(_first(bag, name)) for name in names})
    common = sorted(poses[0].keys() & poses[1].keys())
    if not common:
        return None
    to_depth, to_color = (each[common[0]] for each in poses)
    return to_color @ np.linalg.inv(to_depth), "the tf of both"


def _of_realsense(bag: BagReader, color: str) -> tuple[Pose, str] | None:
    for name, topic in _usable(bag).items():
        mine = name.partition("/extrinsics/")[0] + "/"
        if topic == _EXTRINSICS and name.endswith("/depth_to_color") and color.startswith(mine):
            message = bag.first(name)
            # Nine numbers of the rotation, columns first, and three of the way; of a type that
            # rosbags does not know.
            numbers = np.frombuffer(message.cdr[_CDR_HEADER:], "<f8") if message else np.empty(0)
            if len(numbers) == 12:
                pose = np.eye(4)
                pose[:3, :3] = numbers[:9].reshape(3, 3).T
                pose[:3, 3] = numbers[9:]
                return pose, name
    return None


def _of_tf(bag: BagReader, topics: CameraTopics) -> tuple[Pose, str] | None:
    assert topics.depth is not None
    headers = [_first(bag, name).header for name in (topics.depth, topics.color)]
    start, end = (header.frame_id.lstrip("/") for header in headers)
    if start == end:
        return None
    names = [name for name, kind in _usable(bag).items() if kind in _TF]
    # What stands still first: tf also says where a robot's hand is.
    for name in sorted(names, key=lambda name: not name.endswith("tf_static")):
        chain = _chain(dict(_links(bag, name)), start, end)
        if chain is not None:
            return chain, name
    return None


def _links(bag: BagReader, name: str) -> Iterator[tuple[tuple[str, str], Pose]]:
    """(child, parent) and the child's pose in its parent."""
    for count, message in enumerate(bag.messages([name])):
        if count >= _MOST_TF:
            return
        for entry in _decoded(message).transforms:
            child, parent = entry.child_frame_id.lstrip("/"), entry.header.frame_id.lstrip("/")
            yield (child, parent), _pose(entry.transform)


def _chain(links: dict[tuple[str, str], Pose], start: str, end: str) -> Pose | None:
    """Points of `start` into `end`, over any number of frames."""
    ways: dict[str, list[tuple[str, Pose]]] = {}
    for (child, parent), pose in links.items():
        ways.setdefault(child, []).append((parent, pose))
        ways.setdefault(parent, []).append((child, np.linalg.inv(pose)))
    reached, ahead = {start: np.eye(4)}, [start]
    while ahead and end not in reached:
        here = ahead.pop(0)
        for there, pose in ways.get(here, []):
            if there not in reached:
                reached[there] = pose @ reached[here]
                ahead.append(there)
    return reached.get(end)


def _unit(bag: BagReader, depth: str) -> float | None:
    """What the SDK says one step means."""
    if not is_sdk_stream(depth):
        return None
    options = f"{depth.removesuffix(_SDK_IMAGE).rpartition('/')[0]}/option/"
    for name in _usable(bag):
        # "Depth Units" in most versions, "Depth_Units" in the newest.
        if name.replace("_", " ") == f"{options}Depth Units/value".replace("_", " "):
            unit = float(_first(bag, name).data)
            # As it was meant: no float32 is 0.001.
            return float(f"{unit:.6g}") if np.isfinite(unit) and unit > 0 else None
    return None


def _lens(info: Any, rectified: bool = False) -> Lens:
    camera, model = camera_info_to_intrinsics(info, rectified), _model(info)
    if rectified:
        return Lens(camera)
    used = 4 if model == "equidistant" else None
    return Lens(camera, model, tuple(float(number) for number in info.d[:used]))


def _model(info: Any) -> str:
    """camera_info's name of its distortion; the SDK has others for the same."""
    name = str(info.distortion_model).strip().lower()
    if "brown" in name:
        return "plumb_bob"
    return "equidistant" if "kannala" in name else name


def _pose(transform: Any) -> Pose:
    turn, way = transform.rotation, transform.translation
    x, y, z, w = np.array([turn.x, turn.y, turn.z, turn.w]) / max(
        np.linalg.norm([turn.x, turn.y, turn.z, turn.w]), 1e-12
    )
    axis = np.array([x, y, z])
    length = float(np.linalg.norm(axis))
    angle = 2 * np.arctan2(length, w)
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(axis / max(length, 1e-12) * angle)[0]
    pose[:3, 3] = way.x, way.y, way.z
    return pose


def _usable(bag: BagReader) -> dict[str, str]:
    """Topics that hold something that can be read, and their types."""
    topics = bag.topics.items()
    return {name: topic.msgtype for name, topic in topics if topic.count and not topic.problem}


def _first(bag: BagReader, name: str) -> Any:
    message = bag.first(name)
    if message is None:
        raise DktError(f"{name} has no message that can be read")
    return _decoded(message)


def _decoded(message: RecordedMessage) -> Any:
    try:
        return get_typestore(Stores.LATEST).deserialize_cdr(message.cdr, message.msgtype)
    # Damaged bytes make rosbags raise almost anything.
    except Exception as error:
        raise DktError(f"a message of {message.topic} is damaged ({error})") from error
