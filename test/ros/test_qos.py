"""Profiles match what others use, overrides act, and clashes are reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from fixtures.waiting import spin_until

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from fixtures.waiting import eventually
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.qos import (
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos import qos_profile_sensor_data as sensor_data
from std_msgs.msg import Empty, Header

from dkt_ros.errors import DktError
from dkt_ros.ros import qos
from dkt_ros.ros.probe import PROFILE_VARIABLES

pytestmark = pytest.mark.ros
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@pytest.mark.parametrize("other", [BEST_EFFORT, RELIABLE, sensor_data])
def test_every_camera_and_every_subscriber_matches(other: QoSProfile) -> None:
    # Where a policy is left to the system the answer is WARNING.
    assert qos_check_compatible(other, qos.input_profile())[0] != QoSCompatibility.ERROR
    assert qos_check_compatible(qos.output_profile(depth=1), other)[0] != QoSCompatibility.ERROR


@pytest.mark.parametrize(("asked_s", "matches"), [(qos.SILENT_AFTER_S, True), (1.0, False)])
def test_a_sign_of_life_is_promised_to_who_asks_for_one(asked_s: float, matches: bool) -> None:
    asks = QoSProfile(
        depth=1,
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Duration(seconds=asked_s),
    )
    found = qos_check_compatible(qos.output_profile(depth=1), asks)[0]
    assert (found != QoSCompatibility.ERROR) == matches


def test_an_endpoint_whose_node_is_not_known_yet_has_no_name() -> None:
    nodes = (("/left", "camera"), ("/", "camera"), ("/", "_NODE_NAME_UNKNOWN_"))
    found = [SimpleNamespace(node_namespace=place, node_name=name) for place, name in nodes]
    assert qos.node_names(found) == ("/camera", "/left/camera")


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(
        args=[
            "--ros-args",
            "-p",
            "qos_overrides./image.subscription.reliability:=reliable",
            "-p",
            "qos_overrides./depth.publisher.reliability:=best_effort",
        ],
        context=context,
    )
    yield context
    rclpy.shutdown(context=context)


def test_overrides_act_and_clashes_are_reported(context: Context) -> None:
    """A reliable reader of a best-effort camera, a reliable reader of best-effort depth."""
    reports: list[tuple[str, str]] = []
    node = LifecycleNode("qos_test", context=context)
    subscription = qos.create_subscription(
        node, Empty, "image", lambda message: None, lambda *report: reports.append(report)
    )
    publisher = qos.create_publisher(node, Empty, "depth", lambda *report: reports.append(report))
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT

    other = rclpy.create_node("qos_peer", context=context)
    other.create_publisher(Empty, "image", BEST_EFFORT)
    other.create_subscription(Empty, "depth", lambda message: None, RELIABLE)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spin_until(executor, lambda: len(reports) >= 2)
    assert {cause for cause, _ in reports} == {"incompatible QoS"}
    texts = "\n".join(text for _, text in reports)
    assert "qos_overrides./image.subscription.reliability" in texts
    assert "qos_overrides./depth.publisher.reliability" in texts
    node.destroy_node()
    other.destroy_node()


def test_what_comes_at_once_after_a_third_of_a_second_is_kept(context: Context) -> None:
    """As over a wireless link, while the executor is at something else."""
    node, camera = LifecycleNode("qos_test", context=context), Node("camera", context=context)
    came: list[Header] = []
    topic = "picture"
    subscription = qos.create_subscription(node, Header, topic, came.append, lambda *report: None)
    sends = camera.create_publisher(Header, topic, QoSProfile(depth=30))
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    eventually(lambda: sends.get_subscription_count() and node.count_publishers(topic))
    for number in range(10):  # at 30 Hz
        sends.publish(Header(frame_id=str(number)))

    def has_come() -> bool:
        executor.spin_once(timeout_sec=0.05)
        return bool(came) and came[-1].frame_id == "9"

    eventually(has_come)
    assert [header.frame_id for header in came] == [str(number) for number in range(10)]
    node.destroy_subscription(subscription)
    node.destroy_node()
    camera.destroy_node()


def test_events_are_asked_for_once_a_second_and_topics_always(context: Context) -> None:
    node = LifecycleNode("qos_test", context=context)
    subscription = qos.create_subscription(node, Empty, "image", print, lambda *report: None)
    publisher = qos.create_publisher(node, Empty, "depth", lambda *report: None)
    assert not isinstance(subscription.callback_group, qos.Seldom)
    handlers = [*subscription.event_handlers, *publisher.event_handlers]
    assert {type(handler.callback_group) for handler in handlers} == {qos.Seldom}
    node.destroy_node()


def test_seldom_is_once_a_second_and_as_long_as_a_turn_takes() -> None:
    now = 5.0
    group = qos.Seldom(lambda: now)
    asked = []
    for step in range(1, 41):
        now = 5.0 + 0.07 * step
        if group.can_execute(None):
            asked.append(step)
    assert asked == [1, 2, 16, 17, 31, 32]


def test_what_is_paced_has_a_turn_at_once_and_then_no_other_for_a_while() -> None:
    now = 7.0
    group = qos.Paced(0.5, lambda: now)
    assert group.can_execute(None)
    now = 9.0
    assert group.can_execute(None), "it may have been waited for as long as that"
    assert group.beginning_execution(None)
    assert not group.can_execute(None)
    now = 9.6
    assert group.can_execute(None)


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        (
            QoSProfile(depth=1, deadline=Duration(seconds=0.1)),
            r"a deadline .* Have it ask for no deadline; .* liveliness with a lease of 2 s or more",
        ),
        (
            QoSProfile(depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC),
            r"a liveliness .* Have it ask for automatic liveliness with a lease of 2 s or more",
        ),
        (
            QoSProfile(depth=1, liveliness_lease_duration=Duration(seconds=0.5)),
            r"a liveliness .* Have it ask for automatic liveliness with a lease of 2 s or more",
        ),
    ],
)
def test_what_no_parameter_offers_is_not_advised(
    context: Context, asks: QoSProfile, said: str
) -> None:
    """A parameter qos_overrides.TOPIC.publisher.deadline would be ignored."""
    reports: list[str] = []
    node = LifecycleNode("qos_test", context=context)
    qos.create_publisher(node, Empty, "cloud", lambda cause, text: reports.append(text))
    node.create_subscription(Empty, "cloud", lambda message: None, asks)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spin_until(executor, lambda: reports)
    assert re.search(said, reports[0]), reports
    assert "qos_overrides" not in reports[0]
    node.destroy_node()


@pytest.mark.parametrize("setting", ["reliability:=relable", "durability:=3", "depth:=-5"])
@pytest.mark.parametrize("entity", ["subscription", "publisher"])
def test_overrides_that_are_none_are_named(entity: str, setting: str) -> None:
    context = Context()
    name, _, value = setting.partition(":=")
    words = ["--ros-args", "-p", f"qos_overrides./image.{entity}.{setting}"]
    rclpy.init(args=words, context=context)
    node = LifecycleNode("qos_test", context=context)
    make: dict[str, Callable[[], object]] = {
        "subscription": lambda: qos.create_subscription(node, Empty, "image", print, print),
        "publisher": lambda: qos.create_publisher(node, Empty, "image", print),
    }
    with pytest.raises(DktError) as raised:
        make[entity]()
    said = str(raised.value)
    assert said.startswith(f"qos_overrides./image.{entity}.{name} is ")
    assert value in said.partition(":")[0]
    assert "expected reliability of reliable or best_effort" in said
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_entities_can_be_made_again(context: Context) -> None:
    """As on every activation: their overriding parameters are declared already."""
    node = LifecycleNode("qos_again", context=context)
    for _ in range(2):
        subscription = qos.create_subscription(
            node, Empty, "image", lambda message: None, lambda *report: None
        )
        publisher = qos.create_publisher(node, Empty, "depth", lambda *report: None)
        assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        node.destroy_subscription(subscription)
        node.destroy_lifecycle_publisher(publisher)
    node.destroy_node()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("", "to dkt_ros's config/fastdds.xml for the camera's driver"),
        (__file__, "is set here"),
        ("/nowhere.xml", "is set to /nowhere.xml, which is no file: mend it"),
        pytest.param("/" + "a" * 5000, "which is no file: mend it", id="asking fails"),
    ],
)
def test_advice_on_large_messages_names_the_file(
    monkeypatch: pytest.MonkeyPatch, chosen: str, said: str
) -> None:
    monkeypatch.setattr(qos, "get_rmw_implementation_identifier", lambda: "rmw_fastrtps_cpp")
    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, chosen)
    assert said in qos.large_message_advice()


@pytest.mark.parametrize(
    ("middleware", "others", "said"),
    [
        ("rmw_fastrtps_cpp", ("root", "1000"), "of another user (root, 1000) run here"),
        ("rmw_fastrtps_cpp", (), ""),
        ("rmw_cyclonedds_cpp", ("root",), ""),
    ],
)
def test_nodes_of_other_users_are_told_where_memory_is_shared(
    middleware: str, others: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qos, "get_rmw_implementation_identifier", lambda: middleware)
    monkeypatch.setattr(qos, "other_users", lambda: others)
    advice = qos.other_users_advice()
    assert said in advice
    assert bool(said) == bool(advice)


def test_what_decides_whom_a_node_finds_is_told(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    node = LifecycleNode("alone", context=context)
    told = qos.surroundings(node)
    node.destroy_node()
    assert f"ROS_DOMAIN_ID={context.get_domain_id()}, RMW_IMPLEMENTATION=rmw_" in told
    assert ", ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST" in told
