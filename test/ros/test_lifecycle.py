"""Transitions that fail leave the node alive, clean and able to try again. No network, no DDS."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.predict.predictor import Predictor, PredictorInfo
from dkt_ros.ros.diagnostics import diagnostic_array
from dkt_ros.ros.engine import Engine, build_engine
from dkt_ros.ros.managed_node import run
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.topics import OUTPUTS

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
CLASHING = "qos_overrides./depth/image.subscription.reliability:=sometimes"


class Workshop:
    """Builds engines without a network, or fails to."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.built: list[Engine] = []

    def __call__(self, parameters: NodeParameters) -> Engine:
        if self.failure is not None:
            raise self.failure
        predictor = Predictor(PredictorInfo("none", steps=1))
        estimator: Any = SimpleNamespace(reset=lambda: None, predictor=predictor)
        self.built.append(Engine(estimator))
        return self.built[-1]


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def node(workshop: Workshop, request: pytest.FixtureRequest) -> Iterator[DktNode]:
    words = [word for setting in getattr(request, "param", ()) for word in ("-p", setting)]
    rclpy.init(args=["--ros-args", *words])
    node = DktNode(workshop)
    yield node
    node.close()
    rclpy.shutdown()


def state(node: DktNode) -> str:
    return str(node._state_machine.current_state[1])


def topics(node: DktNode) -> set[str]:
    """What this node subscribes to and publishes of its own."""
    name, namespace = node.get_name(), node.get_namespace()
    entities = [
        *node.get_subscriber_names_and_types_by_node(name, namespace),
        *node.get_publisher_names_and_types_by_node(name, namespace),
    ]
    own = {
        topic for topic, _ in entities if topic.startswith(("/dkt/", "/color", "/depth", "/mask"))
    }
    return {topic for topic in own if "/_action/" not in topic}  # services last as long as the node


def test_each_state_has_its_topics(node: DktNode) -> None:
    inputs = {"/color/image", "/color/camera_info", "/depth/image", "/mask"}
    outputs = {f"/{output.topic}" for output in OUTPUTS}
    assert topics(node) == set()
    assert node.trigger_configure() == SUCCESS
    assert topics(node) == outputs
    for _ in range(2):
        assert node.trigger_activate() == SUCCESS
        assert topics(node) == outputs | inputs
        assert node.trigger_deactivate() == SUCCESS
        assert topics(node) == outputs
    assert node.trigger_cleanup() == SUCCESS
    assert topics(node) == set()


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (DktError("checkpoint /x does not exist"), "cannot configure: checkpoint /x does not"),
        (RuntimeError("CUDA out of memory"), "cannot configure: RuntimeError: CUDA out of memory"),
    ],
)
def test_a_failed_configuration_is_named_and_can_be_repeated(
    node: DktNode, workshop: Workshop, failure: Exception, text: str
) -> None:
    workshop.failure = failure
    node.autostart()
    assert state(node) == "unconfigured"
    assert text in node._transition_error
    workshop.failure = None
    node.autostart()
    assert state(node) == "active"
    assert node._transition_error == ""


@pytest.mark.parametrize(
    "node", [("backend:=onnxruntime", "engine_dir:=/nowhere", "device:=cpu")], indirect=True
)
def test_an_engine_that_does_not_fit_is_refused_by_name(node: DktNode, workshop: Workshop) -> None:
    node._build = build_engine
    node.autostart()
    assert state(node) == "unconfigured"
    assert "engine.json is missing" in node._transition_error
    assert "dkt engine build" in node._transition_error
    statuses = diagnostic_array(node._node_report(), Header()).status
    [lifecycle] = [status for status in statuses if status.name.endswith(": lifecycle")]
    assert (lifecycle.level, lifecycle.message) == (DiagnosticStatus.ERROR, node._transition_error)
    assert workshop.built == []


@pytest.mark.parametrize("node", [(CLASHING,)], indirect=True)
def test_a_failed_activation_takes_back_what_it_had_begun(node: DktNode) -> None:
    node.autostart()
    assert state(node) == "inactive"
    assert "cannot activate: RuntimeError" in node._transition_error
    assert "sometimes" in node._transition_error
    assert not any(topic.startswith(("/color", "/depth")) for topic in topics(node))
    assert node.trigger_activate() == FAILURE
    assert node.trigger_cleanup() == SUCCESS


def test_shutdown_from_active_releases_everything(node: DktNode, workshop: Workshop) -> None:
    node.autostart()
    assert node.trigger_shutdown() == SUCCESS
    assert state(node) == "finalized"
    assert topics(node) == set()
    assert not hasattr(workshop.built[0], "estimator"), "the engine was closed"


def test_while_the_network_loads_the_node_answers(workshop: Workshop) -> None:
    """Services, diagnostics and a second request, all in the executor's one thread."""
    gate = threading.Event()

    def build(parameters: NodeParameters) -> Engine:
        assert gate.wait(PATIENCE_S)
        return workshop(parameters)

    rclpy.init()
    node, manager = DktNode(build), rclpy.create_node("manager")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(manager)
    get = manager.create_client(GetState, "/dkt_node/get_state")
    change = manager.create_client(ChangeState, "/dkt_node/change_state")

    def spin_until(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            executor.spin_once(timeout_sec=0.05)

    try:
        spin_until(lambda: get.service_is_ready() and change.service_is_ready())
        configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        first = change.call_async(configure)
        spin_until(lambda: node.is_preparing)
        again, answer = change.call_async(configure), get.call_async(GetState.Request())
        spin_until(lambda: again.done() and answer.done())
        assert not again.result().success
        assert answer.result().current_state.label == "unconfigured"
        statuses = diagnostic_array(node._node_report(), Header()).status
        assert any("loading the network" in status.message for status in statuses)
        assert not first.done()
        gate.set()
        spin_until(first.done)
        assert first.result().success
        assert state(node) == "inactive"
        assert len(workshop.built) == 1
    finally:
        gate.set()
        node.close()
        manager.destroy_node()
        rclpy.shutdown()


def test_sigterm_ends_a_node_that_loads() -> None:
    script = (
        "import time, rclpy\n"
        "from dkt_ros.ros.managed_node import run\n"
        "from dkt_ros.ros.node import DktNode\n"
        "rclpy.init()\n"
        "run(DktNode(lambda parameters: time.sleep(600.0)))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stderr is not None
        while "loading the network" not in (line := process.stderr.readline()):
            assert line, "it ended by itself"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()


@pytest.fixture
def ending_node() -> Iterator[DktNode]:
    """A node for run(), which ends it, ignores interrupts and freezes what may be garbage."""
    handler = signal.getsignal(signal.SIGINT)
    rclpy.init()
    yield DktNode(Workshop())
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, handler)
    gc.unfreeze()


def test_what_fails_because_of_an_interrupt_is_no_error(ending_node: DktNode) -> None:
    failures = []

    def interrupted() -> None:
        ending_node.context.shutdown()  # as SIGINT does, which may come amid a callback
        try:
            ending_node.publish_diagnostics()
        except Exception as error:
            failures.append(error)
            raise

    ending_node.create_timer(0.01, interrupted)
    assert run(ending_node) == 0
    assert len(failures) == 1


def test_what_fails_otherwise_ends_the_process_with_its_cause(ending_node: DktNode) -> None:
    def broken() -> None:
        raise ZeroDivisionError("surprise")

    ending_node.create_timer(0.01, broken)
    with pytest.raises(ZeroDivisionError, match="surprise"):
        run(ending_node)


def test_another_node_of_its_name_is_counted(node: DktNode) -> None:
    assert node._node_report().twins == 0
    other = rclpy.create_node(node.get_name())
    elsewhere = rclpy.create_node(node.get_name(), namespace="/left")
    try:
        assert node._node_report().twins == 1
    finally:
        other.destroy_node()
        elsewhere.destroy_node()


@pytest.mark.parametrize(
    ("node", "waits"), [(["use_sim_time:=true"], True), ([], False)], indirect=["node"]
)
def test_simulated_time_that_nobody_sends_is_waited_for(node: DktNode, waits: bool) -> None:
    assert node._node_report().waits_for_clock == waits


def test_a_wrong_parameter_is_refused_at_the_door() -> None:
    rclpy.init(args=["--ros-args", "-p", "buffer_frames:=4"])
    try:
        with pytest.raises(DktError, match="buffer_frames is 4"):
            DktNode(Workshop())
        assert services() == []
    finally:
        rclpy.shutdown()


def test_a_closed_node_leaves_no_service_behind(workshop: Workshop) -> None:
    """A ghost of get_state would keep other processes from calling the next node's."""
    rclpy.init()
    try:
        node = DktNode(workshop)
        assert "/dkt_node/get_state" in services()
        node.close()
        assert services() == []
    finally:
        rclpy.shutdown()


def services() -> list[str]:
    """Services of the node as the process's own participant knows them."""
    onlooker = rclpy.create_node("onlooker")
    names = [name for name, _ in onlooker.get_service_names_and_types()]
    onlooker.destroy_node()
    return [name for name in names if name.startswith("/dkt_node/")]
