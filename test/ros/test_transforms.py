"""The way to a tf frame, with a stand-in for tf2_ros, which the wheels lack; and without it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

from dkt_ros.errors import DktError
from dkt_ros.messages.cameras import rotation_matrix
from dkt_ros.messages.fields import stamp_to_ns
from dkt_ros.ros.convert.messages import make_header
from dkt_ros.ros.transforms import TransformError, Transforms, quaternion

pytestmark = pytest.mark.ros


class Buffer:
    """Knows one transform: a quarter turn about z and a shift."""

    def __init__(self, cache_time: Any, node: Any = None) -> None:
        assert cache_time.nanoseconds == 10 * 10**9
        assert node is None, "given one, tf2_ros leaves a service behind"
        self.cleared = 0

    def clear(self) -> None:
        self.cleared += 1

    def lookup_transform(self, target: str, source: str, time: Any, timeout: Any) -> Any:
        assert (target, source) == ("base", "camera"), f'"{target}" does not exist'
        assert time.nanoseconds == 5_000_000_007
        assert timeout.nanoseconds > 0
        vector = SimpleNamespace(x=1.0, y=2.0, z=3.0)
        half = 0.5**0.5
        turn = SimpleNamespace(x=0.0, y=0.0, z=half, w=half)
        return SimpleNamespace(transform=SimpleNamespace(translation=vector, rotation=turn))


@pytest.fixture
def node() -> Iterator[LifecycleNode]:
    rclpy.init()
    node = LifecycleNode("transforms")
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> list[Buffer]:
    """What stands in for tf2_ros made, in its order."""
    made: list[Buffer] = []

    def listener(buffer: Buffer, node: Any) -> Any:
        made.append(buffer)
        return SimpleNamespace(unregister=lambda: None)

    tf2: Any = ModuleType("tf2_ros")
    tf2.Buffer, tf2.TransformListener = Buffer, listener
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2)
    return made


def test_a_transform_at_the_stamp(node: LifecycleNode, buffers: list[Buffer]) -> None:
    transforms = Transforms(node)
    header = make_header(5_000_000_007, "camera")
    assert stamp_to_ns(header.stamp) == 5_000_000_007
    rotation, translation = transforms.find("base", header)
    np.testing.assert_allclose(rotation @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    assert translation.tolist() == [1, 2, 3]
    with pytest.raises(TransformError, match=r"(?s)from 'camera' to 'elsewhere'.* s old") as old:
        transforms.find("elsewhere", header)
    assert old.value.cause == "stamp older than tf"
    now = node.get_clock().now().nanoseconds
    with pytest.raises(TransformError, match=r"(?s)from 'camera' to 'base'.*tf2_echo") as missing:
        transforms.find("base", make_header(now, "camera"))
    assert missing.value.cause == "no transform"
    transforms.close()


def test_a_looped_bag_s_clock_has_tf_begin_anew(buffers: list[Buffer]) -> None:
    """tf2_ros of some releases goes on refusing transforms older than those of the round before."""
    rclpy.init()
    node = LifecycleNode("transforms", parameter_overrides=[Parameter("use_sim_time", value=True)])
    transforms = Transforms(node)
    player = node.create_publisher(Clock, "/clock", 10)

    def play(seconds: float, cleared: int) -> None:
        """Until the node's clock says so and tf has been cleared so often."""
        deadline = time.monotonic() + 60.0
        while node.get_clock().now().nanoseconds != seconds * 10**9 or buffers[0].cleared < cleared:
            assert time.monotonic() < deadline, (node.get_clock().now(), buffers[0].cleared)
            player.publish(Clock(clock=Time(seconds=seconds).to_msg()))
            rclpy.spin_once(node, timeout_sec=0.05)

    play(100, 0)
    known = buffers[0].cleared
    play(101, known)
    assert buffers[0].cleared == known
    play(20, known + 1)
    transforms.close()
    play(10, known + 1)
    assert buffers[0].cleared == known + 1
    node.destroy_node()
    rclpy.shutdown()


def test_without_tf2_it_is_said(node: LifecycleNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(DktError, match="tf frames need tf2_ros, which is not installed here"):
        Transforms(node)


def test_rotations_are_right_handed() -> None:
    rng = np.random.default_rng(0)
    for wanted in rng.standard_normal((20, 4)):
        matrix = rotation_matrix(*wanted)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation_matrix(1, 0, 0, 1) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_array_equal(rotation_matrix(0, 0, 0, 0), np.eye(3))


def test_quaternions_and_matrices_are_each_other_s_inverse() -> None:
    rng = np.random.default_rng(0)
    cases = [*rng.standard_normal((20, 4)), *np.eye(4)]
    for given in cases:
        found = np.array(quaternion(rotation_matrix(*given)))
        unit = given / np.linalg.norm(given)
        assert abs(found @ unit) == pytest.approx(1.0, abs=1e-12)
