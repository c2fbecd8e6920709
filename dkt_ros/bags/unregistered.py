"""How a bag's depth that is not registered to colour becomes so: where both cameras stand.

Knows who tells that: RealSense's SDK, realsense-ros, and tf. Knows nothing of how depth is moved.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.bags import realsense_sdk
from dkt_ros.bags.reader import BagReader, decoded, first_message, usable
from dkt_ros.bags.topics import CameraTopics, NoTopicError, info_of_depth, is_sdk_stream
from dkt_ros.depth_registration import DepthRegistration, Lens
from dkt_ros.errors import DktError
from dkt_ros.messages.cameras import Pose, lens_of, pose_of, rigid
from dkt_ros.messages.fields import as_option
from dkt_ros.messages.pixels import depth_of

_EXTRINSICS = "realsense2_camera_msgs/msg/Extrinsics"
_TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_CDR_HEADER, _EXTRINSICS_BYTES = 4, 12 * 8
_MOST_TF = 2000
"""Messages of tf that are read; cameras' own frames are told at once, or every second."""
_UNIT_LENGTH = 0.01
"""How far a quaternion's may be from 1, as tf2 has it, which passes over all others."""


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

    def __init__(
        self, message: Any, registration: DepthRegistration, unit_m: float, frame_id: str
    ) -> None:
        """message: of unregistered depth. unit_m: what one of its steps means."""
        self.header = replace(message.header, frame_id=frame_id)
        self.height, self.width = registration.other_size
        self.step = 4 * self.width
        self._message, self._registration, self._unit_m = message, registration, unit_m

    @cached_property
    def data(self) -> NDArray[np.uint8]:
        """Raises DktError where the message is damaged or of another size than its camera_info."""
        depth = depth_of(self._message, self._unit_m)
        return self._registration.apply(depth).view(np.uint8).ravel()


def depth_camera(
    bag: BagReader, topics: CameraTopics, color_info: Any, rectified: bool
) -> DepthCamera:
    """How the bag's depth is registered to its colour, whose camera_info is given.

    rectified: whether P of that holds. Raises NoTopicError saying what is missing.
    """
    assert topics.depth is not None
    whose = f"depth {topics.depth} is not registered to colour {topics.color}"
    from_sdk = is_sdk_stream(topics.depth)
    try:
        own, told = _depth_lens(bag, topics.depth)
        unusable: dict[str, None] = {}
        found = _told(bag, topics, unusable)
        if found is None:
            passed = f" (passed over, as by tf2: {'; '.join(unusable)})" if unusable else ""
            raise DktError(
                "nothing tells where its camera stands: expected /tf_static with both optical "
                f"frames, or extrinsics/depth_to_color{passed}"
            )
        pose, told_by = found
        moved = DepthRegistration(own, lens_of(color_info, rectified, as_option), pose)
        unit_m = realsense_sdk.unit_m(bag, topics.depth) if from_sdk else None
    except DktError as error:
        raise NoTopicError(
            "depth",
            f"{whose}, and cannot be: {error}. Record registered depth (RealSense: "
            "align_depth.enable:=true)",
        ) from error
    return DepthCamera(moved, unit_m, f"{told} and {told_by}")


def _depth_lens(bag: BagReader, depth: str) -> tuple[Lens, str]:
    """And what told it."""
    if is_sdk_stream(depth):
        return realsense_sdk.lens(bag, depth), "its camera_info"
    name = info_of_depth(bag, depth)
    if name is None:
        raise DktError("no CameraInfo of its camera tells its lens")
    return lens_of(first_message(bag, name)), name


def _told(
    bag: BagReader, topics: CameraTopics, unusable: dict[str, None]
) -> tuple[Pose, str] | None:
    """unusable: gets what of tf is passed over."""
    assert topics.depth is not None
    if is_sdk_stream(topics.depth):
        found = realsense_sdk.pose(bag, topics.depth, topics.color)
        return None if found is None else (found, "the tf of both")
    # Extrinsics of one's own calibration are in tf.
    return _of_tf(bag, topics, unusable) or _of_realsense(bag, topics.color)


def _of_realsense(bag: BagReader, color: str) -> tuple[Pose, str] | None:
    for name, topic in usable(bag.topics).items():
        mine = name.partition("/extrinsics/")[0] + "/"
        if (
            topic.msgtype == _EXTRINSICS
            and name.endswith("/depth_to_color")
            and color.startswith(mine)
        ):
            message = bag.first(name)
            # Nine numbers of the rotation, columns first, and three of the way; of a type that
            # rosbags does not know.
            data = message.cdr[_CDR_HEADER:] if message else b""
            if len(data) == _EXTRINSICS_BYTES:
                numbers = np.frombuffer(data, "<f8")
                return rigid(numbers[:9].reshape(3, 3).T, numbers[9:]), name
    return None


def _of_tf(
    bag: BagReader, topics: CameraTopics, unusable: dict[str, None]
) -> tuple[Pose, str] | None:
    assert topics.depth is not None
    headers = [first_message(bag, name).header for name in (topics.depth, topics.color)]
    start, end = (header.frame_id.lstrip("/") for header in headers)
    if start == end:
        return None
    names = [name for name, topic in usable(bag.topics).items() if topic.msgtype in _TF]
    # What stands still first: tf also says where a robot's hand is.
    for name in sorted(names, key=lambda name: not name.endswith("tf_static")):
        chain = _chain(dict(_links(bag, name, unusable)), start, end)
        if chain is not None:
            return chain, name
    return None


def _links(
    bag: BagReader, name: str, unusable: dict[str, None]
) -> Iterator[tuple[tuple[str, str], Pose]]:
    """(child, parent) and the child's pose in its parent."""
    for count, message in enumerate(bag.messages([name])):
        if count >= _MOST_TF:
            return
        for entry in decoded(message).transforms:
            child, parent = entry.child_frame_id.lstrip("/"), entry.header.frame_id.lstrip("/")
            if problem := _problem(entry.transform):
                unusable[f"{parent} to {child} in {name}, whose {problem}"] = None
            else:
                yield (child, parent), pose_of(entry.transform)


def _problem(transform: Any) -> str:
    """Why a Transform is none; "" where it is one."""
    turn, way = transform.rotation, transform.translation
    length = math.hypot(turn.x, turn.y, turn.z, turn.w)
    if not abs(length - 1.0) <= _UNIT_LENGTH:
        return f"rotation is of length {length:g}"
    if not math.isfinite(way.x + way.y + way.z):
        return "translation is no number"
    return ""


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
