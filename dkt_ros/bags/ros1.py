"""ROS 1 serialization to ROS 2's. Knows the differences of the two type systems, not the bags."""

from __future__ import annotations

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

_HEADER = "std_msgs/msg/Header"


class Ros1Converter:
    """Turns ROS 1 messages of types whose fields are the same in ROS 2 into CDR.

    typestore: the bag's own definitions. Types that ROS 2 does not have (a lab's own) are taken
    to be laid out the same there.
    """

    def __init__(self, typestore: Typestore) -> None:
        self._ros1 = typestore
        self._ros2 = get_typestore(Stores.LATEST)
        # Both Header definitions have one name; ROS 1's has `seq` first, which CDR must not carry.
        fielddefs = {**typestore.fielddefs, _HEADER: self._ros2.fielddefs[_HEADER]}
        self._target = get_typestore(Stores.EMPTY)
        self._target.register(fielddefs)

    def problem(self, msgtype: str) -> str:
        """Why messages of this type cannot be converted; empty where they can."""
        if msgtype in self._ros2.fielddefs and not self._same_layout(msgtype):
            return f"{msgtype} has other fields in ROS 2 than in ROS 1"
        return ""

    def to_cdr(self, data: bytes, msgtype: str) -> memoryview:
        """The message in ROS 2's serialization; rosbags.serde.SerdeError on damaged data."""
        return self._target.ros1_to_cdr(data, msgtype)

    def _same_layout(self, msgtype: str) -> bool:
        if msgtype == _HEADER:
            return True
        here = self._ros1.fielddefs[msgtype][1]
        there = self._ros2.fielddefs[msgtype][1]
        if len(here) != len(there):
            return False
        # Names may differ (CameraInfo: K and k), kinds and order may not.
        for (_, mine), (_, theirs) in zip(here, there, strict=True):
            if mine != theirs:
                return False
            nested = _nested_type(mine)
            if nested and not self._same_layout(nested):
                return False
        return True


def _nested_type(field: FieldDesc) -> str | None:
    element = field[1][0] if field[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE) else field
    name = element[1]
    return name if isinstance(name, str) else None
