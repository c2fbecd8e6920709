"""What a node says of others: of its name, of its topics, of who sends the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from builtin_interfaces.msg import Time
from fixtures.waiting import PATIENCE_S, spin_until
from fixtures.workshop import Workshop
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from dkt_ros.ros import neighbours
from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.neighbours import LASTING_S, NO_CLOCK, STILL_CLOCK
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.planner import DktPlanner
from dkt_ros.ros.qos import Paced

pytestmark = pytest.mark.ros


def test_another_node_of_its_name_is_counted(node: DktNode) -> None:
    assert node._node_report().twins == ""
    other = rclpy.create_node(node.get_name())
    elsewhere = rclpy.create_node(node.get_name(), namespace="/left")
    try:
        assert "may be 1 more called /dkt_node: every frame and" in node._node_report().twins
    finally:
        other.destroy_node()
        elsewhere.destroy_node()


def test_another_publisher_of_its_depth_is_named(node: DktNode) -> None:
    node.trigger_configure()
    assert node._node_report().rivals == ()
    other = rclpy.create_node("dkt_node", namespace="/left")
    other.create_publisher(Image, "/dkt/depth", 1)
    try:
        assert node._node_report().rivals == ("/left/dkt_node",)
    finally:
        other.destroy_node()


@pytest.mark.parametrize(
    ("node", "waits"), [(["use_sim_time:=true"], True), ([], False)], indirect=["node"]
)
def test_simulated_time_that_nobody_sends_is_waited_for(node: DktNode, waits: bool) -> None:
    assert bool(node._node_report().clock_trouble) == waits


@pytest.mark.parametrize("node", [["use_sim_time:=true"], []], indirect=True)
def test_simulated_time_that_two_send_is_told(node: DktNode) -> None:
    """A simulation's and a bag's."""
    players = [Node(name) for name in ("gazebo", "player")]
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        found: list[str] = []
        for player in players:
            clock = player.create_publisher(Clock, "/clock", 1)
            deadline = time.monotonic() + PATIENCE_S
            while (
                not node.get_clock().now().nanoseconds
                or len(node.get_publishers_info_by_topic("/clock")) < len(found) + 1
            ):
                clock.publish(Clock(clock=Time(sec=100)))
                executor.spin_once(timeout_sec=0.05)
                assert time.monotonic() < deadline
            found.append(node._node_report().clock_trouble)
        two = (
            "/clock has 2 publishers (/gazebo, /player): time jumps between theirs; end all but one"
        )
        assert found[0] == ""
        assert (two in found[1]) == node.get_clock().ros_time_is_active
    finally:
        executor.shutdown()
        for player in players:
            player.destroy_node()


@pytest.mark.parametrize("node", [["use_sim_time:=true"]], indirect=True)
def test_of_a_fast_clock_the_newest_time_is_read_and_most_are_not(node: DktNode) -> None:
    """A simulation's, whose step is a millisecond: each that is read costs Python."""
    world, executor, last = Node("world"), SingleThreadedExecutor(), 400
    sent = world.create_publisher(Clock, "/clock", 1)
    executor.add_node(node)
    source, read = node._time_source, []
    (subscription,) = (one for one in node.subscriptions if one.topic_name == "/clock")
    tell = subscription.callback

    def told(message: Clock) -> None:
        read.append(message.clock.sec)
        tell(message)

    subscription.callback = told
    try:
        deadline = time.monotonic() + PATIENCE_S
        for step in range(1, last + 1):
            sent.publish(Clock(clock=Time(sec=step)))
            executor.spin_once(timeout_sec=0.0)
        while node.get_clock().now().nanoseconds != last * 10**9:
            assert time.monotonic() < deadline
            sent.publish(Clock(clock=Time(sec=last)))
            executor.spin_once(timeout_sec=None)  # nothing else comes, and it wakes
        assert source is not None
        assert len(read) < last / 2
    finally:
        executor.shutdown()
        world.destroy_node()


@pytest.mark.parametrize("node", [["use_sim_time:=true"]], indirect=True)
def test_a_clock_is_read_whenever_it_is_looked_at(node: DktNode) -> None:
    """Each look comes as long after the reading before it as reading takes less than a round."""
    (subscription,) = (one for one in node.subscriptions if one.topic_name == "/clock")
    group, now_s = subscription.callback_group, 0.0
    assert isinstance(group, Paced)
    group._clock = lambda: now_s
    for look in range(5):
        now_s = 1e9 + look * neighbours.CLOCK_EVERY_S
        assert group.can_execute(subscription)
        now_s += 0.1 * neighbours.CLOCK_EVERY_S
        group.beginning_execution(subscription)
        assert not group.can_execute(subscription)


class Watched:
    """An active node, what it says, and the seconds by which it measures how long things last."""

    def __init__(self, node: ManagedNode[Any], capfd: pytest.CaptureFixture[str]) -> None:
        self.node, self.said, self.now_s, self._capfd = node, "", 1000.0, capfd
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(node)

    def last(self, seconds: float = 2 * LASTING_S) -> None:
        """Has things last as they are: by default until they are told, and were they told twice."""
        for _ in range(round(3 * seconds / LASTING_S)):  # as often as its timer looks
            self.now_s += LASTING_S / 3
            self.node._neighbours.look()
        self.said += self._capfd.readouterr().err

    def spin_until(self, enough: Callable[[], bool]) -> None:
        def heard() -> bool:
            self.said += self._capfd.readouterr().err
            return enough()

        spin_until(self.executor, heard)


@pytest.fixture(params=["dkt_node", "dkt_planner"])
def watched(
    request: pytest.FixtureRequest,
    workshop: Workshop,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Watched]]:
    """Called with parameters, each kind of node in turn."""
    made: list[Watched] = []

    def watch(*settings: str) -> Watched:
        words = [word for setting in settings for word in ("-p", setting)]
        rclpy.init(args=["--ros-args", *words])
        node = DktNode(workshop) if request.param == "dkt_node" else DktPlanner()
        made.append(Watched(node, capfd))
        its_time = SimpleNamespace(monotonic=lambda: made[0].now_s)
        monkeypatch.setattr(neighbours, "time", its_time)
        node.autostart()
        return made[-1]

    yield watch
    for one in made:
        one.executor.shutdown()
        one.node.close()
    rclpy.shutdown()


def test_what_is_wrong_is_looked_for_by_itself(
    workshop: Workshop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a timer that does not stand still with simulated time."""
    monkeypatch.setattr(neighbours, "LASTING_S", 0.1)
    rclpy.init(args=["--ros-args", "-p", "use_sim_time:=true"])
    node = Watched(DktNode(workshop), capfd)
    try:
        node.node.autostart()
        node.spin_until(lambda: NO_CLOCK in node.said)
    finally:
        node.executor.shutdown()
        node.node.close()
        rclpy.shutdown()


def test_simulated_time_that_nobody_sends_is_told_once(watched: Callable[..., Watched]) -> None:
    """A planner that plans every second would wait without a word."""
    node = watched("use_sim_time:=true")
    node.node.trigger_deactivate()
    node.last()
    assert NO_CLOCK not in node.said, "it does nothing that could wait"
    node.node.trigger_activate()
    node.last(LASTING_S)
    assert NO_CLOCK not in node.said
    node.last()
    assert node.said.count(NO_CLOCK) == 1
    assert "dkt_replay --clock" in NO_CLOCK


def test_a_player_that_waits_with_its_clock_is_named(watched: Callable[..., Watched]) -> None:
    """As replay.launch.py's does until the network is loaded: nothing is wrong with settings."""
    node = watched("use_sim_time:=true")
    player = Node("player")
    player.create_publisher(Clock, "/clock", 1)
    node.last()
    player.destroy_node()
    assert "/player is to send it" in node.said
    assert NO_CLOCK not in node.said


def test_simulated_time_that_stands_still_is_told_until_it_goes_on(
    watched: Callable[..., Watched],
) -> None:
    """A paused bag's: a camera that stamps by it gives every picture the same stamp."""
    node = watched("use_sim_time:=true")
    player = Node("player")
    clock = player.create_publisher(Clock, "/clock", 1)

    def send(seconds: int) -> None:
        def come() -> bool:
            clock.publish(Clock(clock=Time(sec=seconds)))
            return node.node.get_clock().now().nanoseconds == seconds * 10**9

        node.spin_until(come)

    try:
        for told, begins in ((1, 200), (2, 100)):  # the bag is played again
            for seconds in range(begins, begins + 6):
                send(seconds)
                node.last(LASTING_S / 3)
                assert node.node.clock_trouble() == ""
            assert node.said.count(STILL_CLOCK) == told - 1
            node.last(3 * LASTING_S)
            assert node.node.clock_trouble() == STILL_CLOCK
            assert node.said.count(STILL_CLOCK) == told
    finally:
        player.destroy_node()


def test_another_node_of_its_name_is_told_once(watched: Callable[..., Watched]) -> None:
    """Of two planners the faster one answers, and nobody knows by which gripper."""
    node = watched()
    name = node.node.get_name()
    told = f"may be 1 more called /{name}: every frame and request is answered by each"
    others = [rclpy.create_node(name, namespace="/left")]
    node.last()
    assert "more called" not in node.said
    others.append(rclpy.create_node(name))
    node.last()
    assert node.said.count(told) == 1
    for other in others:
        other.destroy_node()
