"""Requests for depth whose client is gone: they end with the last who could have sent them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.srv", reason="needs the generated services: make build")

import rclpy
from dkt_ros.action import CaptureDepth as CaptureDepthAction
from dkt_ros.srv import CaptureDepth
from fixtures.waiting import spin_until
from fixtures.workshop import Workshop
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor

from dkt_ros.ros.node import DktNode

pytestmark = pytest.mark.ros
NAME = "/dkt/capture_depth"


@pytest.fixture
def node(workshop: Workshop, request: pytest.FixtureRequest) -> Iterator[DktNode]:
    """Its words on ROS's command line are the test's own `node`."""
    rclpy.init(args=["--ros-args", *request.param])
    node = DktNode(workshop)
    yield node
    node.close()
    rclpy.shutdown()


@pytest.mark.parametrize(
    ("node", "kind", "name"),
    [
        ((), "service", NAME),
        ((), "action", NAME),
        (("-r", f"dkt/capture_depth:={NAME}_of_all"), "service", f"{NAME}_of_all"),
        (("-r", f"dkt/capture_depth:={NAME}_of_all"), "action", f"{NAME}_of_all"),
    ],
    indirect=["node"],
)
def test_a_request_ends_with_the_last_who_could_have_sent_it(
    node: DktNode, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """A planner that was killed: its frames cost memory, and on demand the network's time."""
    monkeypatch.setattr("dkt_ros.ros.capture.LOOKED_EVERY_S", 0.0)
    node.autostart()
    planner, executor = rclpy.create_node("planner"), SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(planner)

    clients: list[Any]
    try:
        if kind == "service":
            clients = [planner.create_client(CaptureDepth, name) for _ in range(2)]
            spin_until(executor, lambda: all(client.service_is_ready() for client in clients))
            clients[0].call_async(CaptureDepth.Request(frames=64, timeout=600.0))
        else:
            clients = [ActionClient(planner, CaptureDepthAction, name) for _ in range(2)]
            spin_until(executor, lambda: all(client.server_is_ready() for client in clients))
            clients[0].send_goal_async(CaptureDepthAction.Goal(frames=64, timeout=600.0))
        spin_until(executor, lambda: node._captures.is_wanted)
        for client, is_wanted in zip(clients, (True, False), strict=True):
            client.destroy() if kind == "action" else planner.destroy_client(client)
            for _ in range(10):
                executor.spin_once(timeout_sec=0.05)
            if not is_wanted:
                spin_until(executor, lambda: not node._captures.is_wanted)
            assert node._captures.is_wanted == is_wanted
    finally:
        planner.destroy_node()
