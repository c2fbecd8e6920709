"""Requests that rclpy raises at: each is answered, and ends nothing. Over DDS, no network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from builtin_interfaces.msg import Time
from fixtures.workshop import Workshop
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.planner import DktPlanner
from dkt_ros.ros.requests import CarefulNode, living_on
from dkt_ros.ros.sending import RCLError

pytestmark = pytest.mark.ros
PATIENCE_S = 30.0
SAID = "cannot be read (ValueError: 99 is not a valid Parameter.Type): expected a client that"
GOOD = Parameter(name="autostart", value=ParameterValue(type=1, bool_value=False))
UNREADABLE = Parameter(name="autostart", value=ParameterValue(type=99))


@pytest.fixture(params=[lambda: DktNode(Workshop()), DktPlanner], ids=["node", "planner"])
def node(request: pytest.FixtureRequest) -> Iterator[ManagedNode[Any]]:
    rclpy.init()
    made = request.param()
    yield made
    made.close() if isinstance(made, ManagedNode) else made.destroy_node()
    rclpy.shutdown()


def ask(node: ManagedNode[Any], kind: Any, service: str, request: Any) -> Any:
    """The answer of one of the node's own services to another node."""
    asker = Node("asker")
    executor = SingleThreadedExecutor()
    for one in (node, asker):
        executor.add_node(one)
    try:
        client = asker.create_client(kind, f"/{node.get_name()}/{service}")
        assert client.wait_for_service(PATIENCE_S)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, PATIENCE_S)
        return future.result()
    finally:
        executor.shutdown()
        asker.destroy_node()


def test_a_parameter_of_an_unknown_type_is_refused(node: ManagedNode[Any]) -> None:
    """What came before it keeps its own answer, and the node goes on to answer."""
    request = SetParameters.Request(parameters=[GOOD, UNREADABLE, GOOD])
    first, *others = ask(node, SetParameters, "set_parameters", request).results
    assert "read-only" in first.reason
    assert [(one.successful, SAID in one.reason) for one in others] == [(False, True)] * 2
    (text, _) = node._complaints.latest()["unreadable request"]
    assert text.startswith(f"a request to {node.get_name()}/set_parameters {SAID}")
    found = ask(
        node, DescribeParameters, "describe_parameters", DescribeParameters.Request(names=["?"])
    )
    assert len(found.descriptors) == 0


@pytest.mark.parametrize(
    "node", [DktPlanner, lambda: CarefulNode("player")], ids=["planner", "player"], indirect=True
)
def test_a_time_before_0_is_no_end(node: ManagedNode[Any] | CarefulNode) -> None:
    assert node.set_parameters_atomically([rclpy.Parameter("use_sim_time", value=True)]).successful
    sender = Node("sender")
    clock = sender.create_publisher(Clock, "/clock", 1)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    until = time.monotonic() + PATIENCE_S
    while node.get_clock().now().nanoseconds != 5 and time.monotonic() < until:
        is_told = "unreadable message" in node._complaints.latest()
        stamp = Time(nanosec=5) if is_told else Time(sec=-1)
        clock.publish(Clock(clock=stamp))
        executor.spin_once(0.02)
    assert node.get_clock().now().nanoseconds == 5
    text, _ = node._complaints.latest()["unreadable message"]
    assert text.startswith("a message on /clock was left out (ValueError: Seconds")
    executor.shutdown()
    sender.destroy_node()


def test_so_is_one_among_several_that_go_together(node: ManagedNode[Any]) -> None:
    request = SetParametersAtomically.Request(parameters=[GOOD, UNREADABLE])
    result = ask(node, SetParametersAtomically, "set_parameters_atomically", request).result
    assert not result.successful
    assert SAID in result.reason


def test_a_timer_s_errors_are_told_but_for_those_of_sending() -> None:
    told: list[tuple[str, str]] = []
    raised: list[Exception] = [ValueError("no such place"), MemoryError(), RCLError("not sent")]

    def look() -> None:
        raise raised[0]

    careful = living_on(look, lambda *said: told.append(said))
    rclpy.init()
    try:
        careful()
        assert [cause for cause, _ in told] == ["look failed"]
        assert "ValueError: no such place" in told[0][1]
        for error in raised[1:]:
            raised[0] = error
            with pytest.raises(type(error)):
                careful()
        assert len(told) == 1
    finally:
        rclpy.shutdown()
