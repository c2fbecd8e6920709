"""What dkt_node and its camera publish, message by message, for `dkt view`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from dkt_ros.errors import DktError
from dkt_ros.messages.moments import Moment, moment_of
from dkt_ros.ros.process import interruptible
from dkt_ros.ros.qos import create_subscription
from dkt_ros.ros.requests import CarefulNode
from dkt_ros.ros.ros_arguments import init, naming_arguments
from dkt_ros.ros.sending import SteadySpin
from dkt_ros.ros.topics import OUTPUTS

ROLES = ("camera_info", "depth", "alignment", "color", "confidence")
_PATIENCE_S = 5.0
"""Without depth for so long, what to look for is told, once."""


def watch(
    show: Callable[[Moment], None],
    raw_topic: str,
    namespace: str,
    duration_s: float | None,
    rectified: bool = False,
) -> int:
    """Has every message shown until an interrupt, or for so long; returns the number of depths.

    raw_topic: the camera's raw depth. namespace: dkt_node's. rectified: P of camera_info holds
    instead of K. Raises DktError where a topic or namespace is no name.
    """
    init(None)
    seen = {"depth": 0}
    try:
        with interruptible():
            try:
                with naming_arguments():
                    node = CarefulNode("dkt_view", namespace=namespace)
            except rclpy.exceptions.InvalidNamespaceException as error:
                raise DktError(f"--namespace {namespace}: {error}") from error
            logger = node.get_logger()

            def take(role: str, message: Any) -> None:
                try:
                    moment = moment_of(role, message, rectified)
                except Exception as error:  # noqa: BLE001 what anybody may send ends nothing
                    kind = "" if isinstance(error, DktError) else f"{type(error).__name__}: "
                    logger.warning(f"{role}: {kind}{error}", throttle_duration_sec=5.0)
                    return
                seen["depth"] += moment.depth is not None
                show(moment)

            report, published = node.report, {output.name: output for output in OUTPUTS}
            for role in ROLES:
                output = published[role]
                create_subscription(node, output.type, output.topic, partial(take, role), report)
            create_subscription(node, Image, raw_topic, partial(take, "raw"), report)
            _spin(node, duration_s, seen)
    finally:
        rclpy.try_shutdown()
    return seen["depth"]


def _spin(node: CarefulNode, duration_s: float | None, seen: dict[str, int]) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    turns = SteadySpin(executor, node.report)
    began, told = time.monotonic(), False
    while duration_s is None or time.monotonic() - began < duration_s:
        turns.once(0.1)
        if not told and not seen["depth"] and time.monotonic() - began > _PATIENCE_S:
            told = True
            topic = node.resolve_topic_name("dkt/depth")
            node.get_logger().warning(
                f"nothing on {topic} yet: is dkt_node active, and in this namespace (`ros2 node "
                "list`, `dkt doctor`)?"
            )
