"""Ways between frames, by tf2 where it is installed. Knows frames; nothing of clouds."""

from __future__ import annotations

import numpy as np
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.messages.cameras import pose_of
from dkt_ros.ros.undo import all_of, undone_by

PATIENCE_S = 0.2
"""How long a transform that is newer than what tf knows is waited for."""
MEMORY_S = 10.0
"""How long tf remembers transforms that change."""

Way = tuple[np.ndarray, np.ndarray]
"""Rotation (3, 3) and translation (3,) of points from one frame to another."""


class TransformError(DktError):
    """tf has no way between two frames at a stamp; `cause` goes with it in diagnostics."""

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class Transforms:
    """What /tf and /tf_static tell, from the moment it is made."""

    def __init__(self, node: Node) -> None:
        """Raises DktError where tf2 is not installed."""
        try:
            import tf2_ros
        except ImportError as error:
            raise DktError(
                f"tf frames need tf2_ros, which is not installed here ({error}): apt install "
                "ros-$ROS_DISTRO-tf2-ros-py, or leave the frame empty, which means the camera's "
                "optical frame. There is no tf2 among the wheels that stand in for a ROS "
                "installation."
            ) from error
        self._clock = node.get_clock()
        # Given the node, it makes a service there that outlives it, and some releases' answer to a
        # clock that jumps is to raise; others do not notice, and refuse what is older from then on.
        self._buffer = tf2_ros.Buffer(Duration(seconds=MEMORY_S))
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        with undone_by(self._listener.unregister):
            self._jumps = self._clock.create_jump_callback(
                JumpThreshold(
                    min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
                ),
                post_callback=lambda jump: self._buffer.clear(),
            )

    def close(self) -> None:
        """Stops listening."""
        all_of(self._jumps.unregister, self._listener.unregister)

    def find(self, frame: str, header: Header) -> Way:
        """The way of points from header's frame to `frame` at header's stamp.

        Not from the executor's thread, which hears the transforms. Raises TransformError naming
        what tf has not got, or that the stamp is older than what it remembers.
        """
        stamp = Time.from_msg(header.stamp)
        try:
            found = self._buffer.lookup_transform(
                frame, header.frame_id, stamp, Duration(seconds=PATIENCE_S)
            )
        except Exception as error:
            age_s = (self._clock.now().nanoseconds - stamp.nanoseconds) / 1e9
            missing = f"no transform from '{header.frame_id}' to '{frame}'"
            if age_s > MEMORY_S:
                raise TransformError(
                    "stamp older than tf",
                    f"{missing}: the image's stamp is {age_s:.1f} s old by this node's clock, and "
                    f"tf remembers {MEMORY_S:g} s. Expected one clock for camera and node (set "
                    "use_sim_time for a bag, synchronize the machines) and a network that takes "
                    f"less: {error}",
                ) from error
            raise TransformError(
                "no transform",
                f"{missing} at the image's stamp: {error}. Expected both in one tf tree: look with "
                f"`ros2 run tf2_ros tf2_echo {frame} {header.frame_id}`",
            ) from error
        pose = pose_of(found.transform)
        return pose[:3, :3], pose[:3, 3]


def quaternion(rotation: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, z, w of a (3, 3) rotation."""
    # Of the four ways the one by the largest of them, which loses no digits.
    m = rotation
    squares = np.array([*(1 + 2 * m.diagonal() - m.trace()), 1 + m.trace()])
    largest = int(np.argmax(squares))
    root = 2 * np.sqrt(squares[largest])
    cross = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    found = np.empty(4)
    if largest == 3:
        found[:3] = cross / root
    else:
        found[:3] = (m[largest] + m[:, largest]) / root
        found[3] = cross[largest] / root
    found[largest] = root / 4
    x, y, z, w = found.tolist()
    return x, y, z, w
