"""Parameters of a node: what is wrong is named, at the door and whenever one is set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.workshop import Workshop
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.params.declarations import unknown_qos_overrides
from dkt_ros.ros.planner import DktPlanner

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    "node",
    [
        (
            "qos_overrides./color/image.subscription.reliability:=reliable",
            "qos_overrides./dkt/depth.publisher.depth:=9",
            "qos_overrides.dkt/depth.publisher.depth:=9",
            "qos_overrides./dkt/depth.publisher.deadline:=9",
        )
    ],
    indirect=True,
)
def test_qos_for_no_topic_of_the_node_is_named(
    node: DktNode, capfd: pytest.CaptureFixture[str]
) -> None:
    node.autostart()
    [line] = [line for line in capfd.readouterr().err.splitlines() if "qos_overrides" in line]
    wrong = ("./dkt/depth.publisher.deadline", ".dkt/depth.publisher.depth")
    assert f"ignored: {', '.join(f'qos_overrides{name}' for name in wrong)}: expected" in line


@pytest.mark.parametrize(
    "node",
    [tuple(f"qos_overrides./{side}/dkt/dept.publisher.depth:=9" for side in ("left", "right"))],
    indirect=True,
)
@pytest.mark.parametrize(("namespace", "named"), [("/", ("left", "right")), ("/left", ("left",))])
def test_qos_of_another_camera_s_topics_is_not_called_ignored(
    node: DktNode, monkeypatch: pytest.MonkeyPatch, namespace: str, named: tuple[str, ...]
) -> None:
    monkeypatch.setattr(node, "get_namespace", lambda: namespace)
    expected = [f"qos_overrides./{side}/dkt/dept.publisher.depth" for side in named]
    assert unknown_qos_overrides(node) == expected


def test_a_parameter_that_is_misspelt_at_the_door_is_told(
    workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    known = ["-p", "use_sim_time:=false", "-p", "qos_overrides./dkt/depth.publisher.depth:=9"]
    rclpy.init(args=["--ros-args", "-p", "crop_bax:=3", *known])
    try:
        DktNode(workshop).close()
    finally:
        rclpy.shutdown()
    said = [line for line in capfd.readouterr().err.splitlines() if "is not known" in line]
    assert len(said) == 1
    assert "parameter crop_bax is not known to this node and ignored" in said[0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("min_confidence", 2.0, "min_confidence is 2.0, expected 0 to 1"),
        ("min_confidence", "high", "min_confidence is 'high', expected a value of type float"),
        ("min_confidence", None, "min_confidence is None, expected a value of type float"),
        ("min_confidence", True, "min_confidence is True, expected a value of type float"),
        ("points_stride", 1.5, "points_stride is 1.5, expected a value of type int"),
        ("points_stride", True, "points_stride is True, expected a value of type int"),
        ("points_stride", 2**40, "points_stride is 1099511627776, expected 1 to 64"),
        ("seed", -1, "seed is -1, expected 0 to 2147483647"),
        ("crop_box", 3, "crop_box is 3, expected a value of type str"),
        ("crop_bax", "", "crop_bax is not known to this node"),
        ("use_sim_time", 1, "use_sim_time is 1, expected true or false"),
        (
            "autostart",
            False,
            "autostart is read-only, it acts at start alone: end the node, and start",
        ),
    ],
)
def test_a_change_that_is_refused_names_values_and_changes_nothing(
    node: DktNode, name: str, value: Any, said: str
) -> None:
    before = node.parameters
    wanted = [Parameter("max_depth_m", value=5.0), Parameter(name, value=value)]
    result = node.set_parameters_atomically(wanted)
    assert not result.successful
    assert said in result.reason
    assert node.parameters == before
    assert node.get_parameter("max_depth_m").value == before.max_depth_m


def test_what_can_be_set_is_described_with_its_range(node: DktNode) -> None:
    """As `ros2 param describe` and rqt show it."""
    whole = node.describe_parameter("points_stride").integer_range
    assert [(one.from_value, one.to_value, one.step) for one in whole] == [(1, 64, 1)]
    fraction = node.describe_parameter("min_confidence").floating_point_range
    assert [(one.from_value, one.to_value) for one in fraction] == [(0.0, 1.0)]


def test_what_was_dumped_can_be_loaded(node: DktNode) -> None:
    """`ros2 param load`, in the node that it came from or in one that was started alike."""
    node.autostart()
    names = [*node._parameters]
    dumped = [Parameter(name, value=node.get_parameter(name).value) for name in names]
    assert any(name.startswith("qos_overrides.") for name in names)
    results = [node.set_parameters_atomically([one]) for one in dumped]  # as its service does
    assert [result.reason for result in results if not result.successful] == []
    assert node.set_parameters_atomically(dumped).successful
    changed = [one for one in dumped if one.name != "min_confidence"]
    changed.append(Parameter("min_confidence", value=0.3))
    assert node.set_parameters_atomically(changed).successful
    assert node.get_parameter("min_confidence").value == 0.3


def test_what_does_not_go_with_another_says_how_both_are_set(node: DktNode) -> None:
    """`ros2 param load` has each set alone, in the file's order."""
    wanted = [Parameter("min_depth_m", value=20.0), Parameter("max_depth_m", value=30.0)]
    alone = node.set_parameters_atomically(wanted[:1])
    assert not alone.successful
    assert alone.reason == (
        "parameter min_depth_m is 20 and max_depth_m 10, expected min_depth_m to be the smaller. "
        "Set max_depth_m before, or with it by the service set_parameters_atomically"
    )
    assert node.set_parameters_atomically(wanted).successful
    both = node.set_parameters_atomically([Parameter("max_depth_m", value=1.0), wanted[0]])
    assert both.reason.endswith("expected min_depth_m to be the smaller")


@pytest.mark.parametrize(
    ("name", "value", "end"),
    [
        ("buffer_frames", 3, "or 0 for the checkpoint's own"),
        ("fusion_method", "another", "expected one of refiner, membrane"),
        ("points_outlier_neighbors", 3, "Set points_organized before"),
        ("warm_up_size", "device", "such as 720x1280, or nothing"),
        ("backend", "tensorrt", "Set engine_dir before"),
    ],
)
def test_words_of_a_refusal_that_are_names_too_are_not_taken_for_them(
    node: DktNode, name: str, value: Any, end: str
) -> None:
    refused = node.set_parameters_atomically([Parameter(name, value=value)])
    assert refused.reason.partition(", or with it")[0].endswith(end)


def test_a_whole_number_does_for_a_fraction(node: DktNode) -> None:
    """`ros2 param set /dkt_node max_depth_m 5` is an integer to ROS."""
    assert node.set_parameters_atomically([Parameter("max_depth_m", value=5)]).successful
    assert node.parameters.max_depth_m == 5.0
    assert node.get_parameter("max_depth_m").type_ is Parameter.Type.DOUBLE


@pytest.mark.parametrize("kind", [DktNode, DktPlanner])
def test_a_node_that_has_ended_takes_no_parameters(kind: Callable[..., ManagedNode[Any]]) -> None:
    """They would act on nothing, and never again."""
    rclpy.init()
    node = kind()
    try:
        assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
        before = node.parameters
        result = node.set_parameters_atomically([Parameter("min_confidence", value=0.9)])
        assert (result.successful, result.reason) == (False, node.idle())
        assert "is finalized, expected active: end its process" in result.reason
        assert node.parameters == before
    finally:
        node.close()
        rclpy.shutdown()
