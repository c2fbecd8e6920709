"""What a grasp planner subscribes to: depth, its calibration and how far to trust it, by stamp.

    python examples/planner_subscriber.py --ros-args -p accept_held:=true

Prints, for each frame that it trusts, the nearest point in the camera's optical frame. Replace
`nearest_point` by a planner. Depth whose state is UNALIGNED is all NaN and never used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from dkt_ros.msg import ScaleAlignment
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from dkt_ros.errors import DktError
from dkt_ros.ros.params.declarations import ParameterChanges, declare
from dkt_ros.ros.params.spec import Applies, Parameters, parameter

WAITING_FRAMES = 10
"""Frames of which a part has arrived; the parts of one come within milliseconds of each other."""


@dataclass(frozen=True)
class PlannerParameters(Parameters):
    """Which depth is good enough to plan on."""

    accept_held: bool = parameter(
        False, "Also use depth on the scale of an earlier frame.", Applies.AT_ONCE
    )
    max_uncertainty: float = parameter(
        0.03,
        "Largest relative standard error of depth to plan on.",
        Applies.AT_ONCE,
        minimum=0.0,
        maximum=1.0,
    )


@dataclass(frozen=True, eq=False)
class Scene:
    """One trusted frame.

    stamp      of the colour image that the depth belongs to: look TF up at this time
    frame_id   the camera's optical frame, in which points are
    depth      (H, W) float32 metres along the optical axis, NaN = unknown
    """

    stamp: Any
    frame_id: str
    depth: npt.NDArray[np.float32]
    fx: float
    fy: float
    cx: float
    cy: float
    alignment: ScaleAlignment


class PlannerSubscriber(Node):
    """Pairs the node's outputs by their stamp and hands on what can be trusted."""

    def __init__(self, plan: Callable[[Scene], None], **node_options: Any) -> None:
        super().__init__("planner", **node_options)
        self._plan = plan
        self._waiting: dict[tuple[int, int], dict[str, Any]] = {}
        self._changes = ParameterChanges(
            declare(self, PlannerParameters), lambda: True, lambda parameters: None
        )
        self.add_on_set_parameters_callback(self._changes)
        for topic, kind in (
            ("dkt/depth", Image),
            ("dkt/camera_info", CameraInfo),
            ("dkt/alignment", ScaleAlignment),
        ):
            self.create_subscription(kind, topic, self._keep(topic), QoSProfile(depth=5))

    def _keep(self, topic: str) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
            parts = self._waiting.setdefault(stamp, {})
            parts[topic] = message
            if len(parts) == 3:
                del self._waiting[stamp]
                self._take(parts["dkt/depth"], parts["dkt/camera_info"], parts["dkt/alignment"])
            while len(self._waiting) > WAITING_FRAMES:
                del self._waiting[next(iter(self._waiting))]

        return keep

    def _take(self, depth: Image, info: CameraInfo, alignment: ScaleAlignment) -> None:
        wanted = self._changes.current
        states = {ScaleAlignment.OK} | ({ScaleAlignment.HELD} if wanted.accept_held else set())
        if alignment.state not in states or alignment.uncertainty > wanted.max_uncertainty:
            self.get_logger().info(f"left out: {alignment.reason or 'too uncertain'}")
            return
        metres = np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width)
        fx, _, cx, _, fy, cy, *_ = info.k
        header = depth.header
        self._plan(Scene(header.stamp, header.frame_id, metres, fx, fy, cx, cy, alignment))


def nearest_point(scene: Scene) -> npt.NDArray[np.float64] | None:
    """(3,) metres in the optical frame, x right, y down, z forward; None where nothing is known."""
    if np.isnan(scene.depth).all():
        return None
    row, column = np.unravel_index(np.nanargmin(scene.depth), scene.depth.shape)
    z = float(scene.depth[row, column])
    x, y = (float(column) - scene.cx) / scene.fx * z, (float(row) - scene.cy) / scene.fy * z
    return np.array([x, y, z])


def main(args: Sequence[str] | None = None) -> int:
    """Runs until interrupted."""
    rclpy.init(args=args)
    try:
        node = PlannerSubscriber(lambda scene: print(nearest_point(scene), flush=True))
        rclpy.spin(node)
    except DktError as error:
        print(f"planner: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
