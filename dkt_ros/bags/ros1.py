"""ROS 1 serialization to ROS 2's. Knows the differences of the two type systems, not the bags."""

from __future__ import annotations

from functools import lru_cache

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dkt_ros.bags.message_types import types_of

_HEADER = "std_msgs/msg/Header"
_UNCHECKED_MD5 = ("*", "")
_IMAGE, _SDK_BYTES = "sensor_msgs/msg/Image", 4
"""RealSense's SDK writes depth's unit behind an image, which its definition knows nothing of."""


@lru_cache
def ros1_converter(msgtype: str, definition: str, md5: str) -> Ros1Converter:
    """A Ros1Converter, which takes a while to make, kept for the next bag."""
    return Ros1Converter(msgtype, definition, md5)


class Ros1Converter:
    """Turns ROS 1 messages of one type, whose fields are the same in ROS 2, into CDR.

    definition, md5: as the bag holds them; recorders that leave either out are common, and a type
    that ROS 1 itself has is then known by its md5, or by its name. Types that ROS 2 does not have
    (a lab's own) are taken to be laid out the same there.
    problem: why these messages cannot be converted; empty where they can.
    """

    def __init__(self, msgtype: str, definition: str, md5: str) -> None:
        self._msgtype = msgtype
        self.problem = ""
        ros1, ros2 = types_of(Stores.ROS1_NOETIC), types_of()
        known = [ros1.generate_msgdef(msgtype)[1]] if msgtype in ros1.fielddefs else []
        if known and not definition.strip():
            known += _UNCHECKED_MD5
        if md5 not in known:
            ros1 = get_typestore(Stores.EMPTY)
            # Whatever rosbags raises on text that is no definition, or lacks a nested one.
            try:
                ros1.register(get_types_from_msg(definition, msgtype))
                complete = md5 in (ros1.generate_msgdef(msgtype)[1], *_UNCHECKED_MD5)
            except Exception:  # noqa: BLE001
                complete = False
            if not complete:
                self.problem = (
                    f"the bag's definition of its type {msgtype} is incomplete, or not that of its "
                    "md5 sum"
                )
                return
        if msgtype in ros2.fielddefs and not _same_layout(msgtype, ros1, ros2):
            self.problem = f"{msgtype} has other fields in ROS 2 than in ROS 1"
            return
        # Both Header definitions have one name; ROS 1's has `seq` first, which CDR must not carry.
        self._target = get_typestore(Stores.EMPTY)
        self._target.register({**ros1.fielddefs, _HEADER: ros2.fielddefs[_HEADER]})

    def to_cdr(self, data: bytes) -> bytes:
        """The message in ROS 2's serialization; rosbags.serde.SerdeError on damaged data."""
        try:
            return bytes(self._target.ros1_to_cdr(data, self._msgtype))
        except SerdeError:
            if self._msgtype != _IMAGE:
                raise
            return bytes(self._target.ros1_to_cdr(data[:-_SDK_BYTES], self._msgtype))


def _same_layout(msgtype: str, ros1: Typestore, ros2: Typestore) -> bool:
    if msgtype == _HEADER:
        return True
    here, there = ros1.fielddefs[msgtype][1], ros2.fielddefs[msgtype][1]
    if len(here) != len(there):
        return False
    # Names may differ (CameraInfo: K and k), kinds and order may not.
    for (_, mine), (_, theirs) in zip(here, there, strict=True):
        if mine != theirs:
            return False
        nested = _nested_type(mine)
        if nested and not _same_layout(nested, ros1, ros2):
            return False
    return True


def _nested_type(field: FieldDesc) -> str | None:
    element = field[1][0] if field[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE) else field
    name = element[1]
    return name if isinstance(name, str) else None
