"""Requests that rclpy raises at: each is answered, and ends nothing. Over DDS, no network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.workshop import Workshop
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.planner import DktPlanner

pytestmark = pytest.mark.ros
PATIENCE_S = 30.0
SAID = "cannot be read (ValueError: 99 is not a valid Parameter.Type): expected a client that"
GOOD = Parameter(name="autostart", value=ParameterValue(type=1, bool_value=True))
UNREADABLE = Parameter(name="autostart", value=ParameterValue(type=99))


@pytest.fixture(params=[lambda: DktNode(Workshop()), DktPlanner], ids=["node", "planner"])
def node(request: pytest.FixtureRequest) -> Iterator[ManagedNode[Any]]:
    rclpy.init()
    made = request.param()
    yield made
    made.close()
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


def test_so_is_one_among_several_that_go_together(node: ManagedNode[Any]) -> None:
    request = SetParametersAtomically.Request(parameters=[GOOD, UNREADABLE])
    result = ask(node, SetParametersAtomically, "set_parameters_atomically", request).result
    assert not result.successful
    assert SAID in result.reason
