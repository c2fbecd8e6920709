"""Transitions that fail leave the node alive, clean and able to try again. No network, no DDS."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from fixtures.waiting import PATIENCE_S, spin_until
from fixtures.workshop import Workshop
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.ros.diagnostics import diagnostic_array
from dkt_ros.ros.engine import Engine, SharedNetwork
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.planner import DktPlanner
from dkt_ros.ros.sending import RCLError
from dkt_ros.ros.topics import OUTPUTS
from dkt_ros.ros.worker import InferenceWorker, WorkerState

pytestmark = pytest.mark.ros
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
CLASHING = "qos_overrides./depth/image.subscription.reliability:=sometimes"


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


@pytest.fixture
def planner() -> Iterator[DktPlanner]:
    rclpy.init()
    planner = DktPlanner()
    yield planner
    planner.close()
    rclpy.shutdown()


def change_state(node: DktNode, wanted: int) -> bool:
    """Whether the lifecycle service makes that transition; as the executor calls it."""
    request = ChangeState.Request(transition=Transition(id=wanted))
    asked = node._service_change_state.callback(request, ChangeState.Response())
    while True:
        try:
            asked.send(None)
        except StopIteration as answer:
            return bool(answer.value.success)


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
    ("failure", "text", "beside"),
    [
        (DktError("checkpoint /x does not exist"), "checkpoint /x does not exist", False),
        (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory", True),
        (RuntimeError("no, at /src/q.cpp:7\nadvice"), "RuntimeError: no", False),
    ],
)
def test_a_failed_configuration_is_named_and_can_be_repeated(
    node: DktNode, workshop: Workshop, failure: Exception, text: str, beside: bool
) -> None:
    def start() -> None:
        if not beside:
            return node.autostart()
        for _ in node.autostart_beside().__await__():  # as the executor does
            pass
        return None

    workshop.failure = failure
    start()
    assert state(node) == "unconfigured"
    assert node._transition_error == f"cannot configure: {text}"
    assert workshop.asked == 1, "what takes long is not tried twice"
    workshop.failure = None
    start()
    assert state(node) == "active"
    assert node._transition_error == ""


@pytest.mark.parametrize(
    "node", [("backend:=onnxruntime", "engine_dir:=/nowhere", "device:=cpu")], indirect=True
)
def test_an_engine_that_does_not_fit_is_refused_by_name(node: DktNode, workshop: Workshop) -> None:
    node._build = SharedNetwork().build
    node.autostart()
    assert state(node) == "unconfigured"
    assert "engine.json is missing" in node._transition_error
    assert "dkt engine build" in node._transition_error
    statuses = diagnostic_array(node._node_report(), Header()).status
    [lifecycle] = [status for status in statuses if status.name.endswith(": lifecycle")]
    assert (lifecycle.level, lifecycle.message) == (DiagnosticStatus.ERROR, node._transition_error)
    assert workshop.built == []


class Failing:
    """Calls `act`, but for the call of that number, from 0."""

    def __init__(self, act: Callable[..., Any], number: int, error: Exception) -> None:
        self.act, self.number, self.error = act, number, error

    def __call__(self, *words: Any, **named: Any) -> Any:
        self.number -= 1
        if self.number == -1:
            raise self.error
        return self.act(*words, **named)


@pytest.mark.parametrize("kind", ["node", "planner"])
def test_a_configuration_that_fails_halfway_leaves_nothing_behind(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whichever publisher it is that cannot be made."""
    node: Any = request.getfixturevalue(kind)

    def parts() -> list[int]:
        kinds = (node.publishers, node.subscriptions, node.timers, node.services, node.clients)
        return [len(list(one)) for one in (*kinds, node._managed_entities, threading.enumerate())]

    before = parts()
    assert node.trigger_configure() == SUCCESS
    configured = parts()
    assert node.trigger_cleanup() == SUCCESS
    for number in range(configured[0] - before[0]):
        failing = Failing(node.create_lifecycle_publisher, number, RCLError("no memory"))
        monkeypatch.setattr(node, "create_lifecycle_publisher", failing)
        assert node.trigger_configure() == FAILURE
        assert node._transition_error == "cannot configure: RCLError: no memory"
        assert parts() == before
        monkeypatch.setattr(node, "create_lifecycle_publisher", failing.act)
    assert node.trigger_configure() == SUCCESS
    assert parts() == configured


def test_without_room_for_a_thread_transitions_fail_or_do_without(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    full = RuntimeError("can't start new thread")

    def fail(number: int) -> None:
        failing = Failing(start, number, full)
        monkeypatch.setattr(threading.Thread, "start", lambda thread: failing(thread))

    for number in itertools.count():
        fail(number)
        if change_state(node, Transition.TRANSITION_CONFIGURE):
            break
        assert state(node) == "unconfigured"
        assert node._transition_error == "cannot configure: RuntimeError: can't start new thread"
        assert topics(node) == set()
    assert number == 3, "that which loads the network, and the two of the outputs"
    fail(0)
    assert not change_state(node, Transition.TRANSITION_ACTIVATE)
    assert state(node) == "inactive"
    monkeypatch.undo()
    assert change_state(node, Transition.TRANSITION_ACTIVATE)
    assert node._pipeline is not None
    thread = node._pipeline._worker._thread
    for wanted, reached in (
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
    ):
        fail(0)
        assert change_state(node, wanted)
        assert state(node) == reached
    assert not thread.is_alive()


def bonds(monkeypatch: pytest.MonkeyPatch) -> list[StandInBond]:
    """Those that are made from now on."""
    StandInBond.made = []
    package, module = ModuleType("bondpy"), ModuleType("bondpy.bondpy")
    module.Bond = StandInBond  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bondpy", package)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    return StandInBond.made


class Stuck:
    """Raises until it is let go."""

    def __init__(self, act: Callable[..., Any], text: str) -> None:
        self.act, self.error, self.is_stuck = act, DktError(text), True

    def __call__(self, *words: Any, **named: Any) -> Any:
        if self.is_stuck:
            raise self.error
        return self.act(*words, **named)


@pytest.mark.parametrize("kind", ["node", "planner"])
def test_an_activation_whose_undoing_fails_too_is_silent_and_can_be_repeated(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Neither bond nor publishers say that it is active, to whoever heeds them alone."""
    node: Any = request.getfixturevalue(kind)
    made = bonds(monkeypatch)
    assert node.trigger_configure() == SUCCESS
    halt = Stuck(node.halt, "it will not end")
    with monkeypatch.context() as patched:
        patched.setattr(node, "start", Stuck(node.start, "no camera"))
        patched.setattr(node, "halt", halt)
        assert node.trigger_activate() == FAILURE
    assert state(node) == "inactive"
    assert node._transition_error == (
        "cannot activate: no camera; and taking back what had begun failed: it will not end"
    )
    assert made[0].said == ["start", "broken", "shutdown"]
    assert node.count_publishers("/bond") == 0
    assert not any(publisher.is_activated for publisher in node._managed_entities)
    assert node.trigger_activate() == SUCCESS
    assert all(publisher.is_activated for publisher in node._managed_entities)


def test_what_hangs_after_a_failed_activation_is_waited_for_before_another(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node.trigger_configure() == SUCCESS
    monkeypatch.setattr("dkt_ros.ros.node.HALT_PATIENCE_S", 0.0)
    subscribe = Failing(node.create_subscription, 1, DktError("no room"))
    monkeypatch.setattr(node, "create_subscription", subscribe)
    with monkeypatch.context() as patched:
        patched.setattr(InferenceWorker, "stop", lambda worker, timeout_s=None: False)
        assert node.trigger_activate() == FAILURE
        first = node._pipeline
        assert first is not None
        for again in (node.trigger_activate, node.trigger_cleanup):
            assert again() == FAILURE
            assert node._transition_error.count("the inference has not ended") == 1
            assert node._pipeline is first
            assert state(node) == "inactive"
    assert first.wind_down(PATIENCE_S)
    assert node.trigger_activate() == SUCCESS
    assert node._pipeline is not first


@pytest.mark.parametrize("kind", ["node", "planner"])
def test_a_deactivation_that_fails_leaves_an_active_node_that_says_so(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By its publishers and its bond, which managers heed; it can be asked for again."""
    node: Any = request.getfixturevalue(kind)
    made = bonds(monkeypatch)
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    with monkeypatch.context() as patched:
        patched.setattr(node, "halt", Stuck(node.halt, "it will not end"))
        assert node.trigger_deactivate() == FAILURE
    assert state(node) == "active"
    assert node._transition_error == "cannot deactivate: it will not end"
    assert made[0].said == ["start"]
    assert all(publisher.is_activated for publisher in node._managed_entities)
    assert node.trigger_deactivate() == SUCCESS
    assert made[0].said == ["start", "broken", "shutdown"]


@pytest.mark.parametrize("from_active", [True, False])
def test_shutting_down_takes_all_down_though_some_of_it_fails(
    node: DktNode, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, from_active: bool
) -> None:
    made = bonds(monkeypatch)
    assert node.trigger_configure() == SUCCESS
    if from_active:
        assert node.trigger_activate() == SUCCESS
    stuck = Stuck(node.halt, "it will not end")
    destroy = Failing(node.destroy_publisher, int(from_active), RCLError("no more"))
    monkeypatch.setattr(node, "halt", stuck)
    monkeypatch.setattr(node, "destroy_publisher", destroy)
    assert node.trigger_shutdown() == FAILURE
    assert state(node) == "finalized"
    assert node._transition_error == "cannot shut down: it will not end; RCLError: no more"
    assert not hasattr(workshop.built[0], "estimator"), "the engine was closed"
    assert len(topics(node) - {"/color/image", "/color/camera_info", "/depth/image", "/mask"}) == 1
    assert [bond.said for bond in made] == [["start", "broken", "shutdown"]] * from_active
    stuck.is_stuck = False


@pytest.mark.parametrize("kind", ["node", "planner"])
def test_cleaning_up_takes_all_down_though_one_publisher_stays(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    node: Any = request.getfixturevalue(kind)
    before = len(list(node.publishers))
    assert node.trigger_configure() == SUCCESS
    with monkeypatch.context() as patched:
        destroy = Failing(node.destroy_publisher, 0, RCLError("no more"))
        patched.setattr(node, "destroy_publisher", destroy)
        assert node.trigger_cleanup() == SUCCESS
    assert "some of it could not be destroyed: RCLError: no more" in capfd.readouterr().err
    assert len(list(node.publishers)) == before + 1
    assert not node.is_configured()
    assert node.trigger_configure() == SUCCESS


def test_a_manager_hears_at_once_that_a_bond_is_broken(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after its 4 s without a sign of life; one that cannot be sent breaks nothing."""
    monkeypatch.setenv("RMW_FASTRTPS_PUBLICATION_MODE", "ASYNCHRONOUS")  # as dkt_node sets it
    made, heard = bonds(monkeypatch), list[str]()
    with managed(workshop) as rig:
        keep = QoSProfile(depth=10)
        rig.manager.create_subscription(Header, "bond", lambda m: heard.append(m.frame_id), keep)
        assert rig.node.trigger_configure() == SUCCESS
        for _ in range(3):
            assert rig.node.trigger_activate() == SUCCESS
            rig.spin_until(made[-1].pub.get_subscription_count)
            assert rig.node.trigger_deactivate() == SUCCESS
            rig.spin_until(lambda: "broken" in heard)
            heard.clear()
        failing = Failing(Publisher.publish, 0, RCLError("busy"))
        monkeypatch.setattr(Publisher, "publish", lambda *words: failing(*words))
        assert rig.node.trigger_activate() == SUCCESS
        made[-1].pub.publish(Header(frame_id="alive"))
        assert failing.number == -1
        told = [text for text, _ in rig.node._complaints.latest().values()]
        assert any("could not send" in text for text in told)


def test_a_bond_that_cannot_start_leaves_nothing_of_it(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bonds(monkeypatch)
    monkeypatch.setattr(StandInBond, "start", Stuck(StandInBond.start, "no bond"))
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == FAILURE
    assert node._transition_error == "cannot activate: no bond"
    assert len(made) == 1
    assert node.count_publishers("/bond") == 0


@pytest.mark.parametrize("node", [(CLASHING,)], indirect=True)
def test_a_failed_activation_takes_back_what_it_had_begun(node: DktNode) -> None:
    node.autostart()
    assert state(node) == "inactive"
    assert (
        "cannot activate: qos_overrides./depth/image.subscription.reliability is"
        in node._transition_error
    )
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
    assert node.idle() == "/dkt_node is finalized, expected active: end its process and restart it"


class Managed:
    """A node and a lifecycle manager in one executor's one thread."""

    def __init__(self, node: DktNode) -> None:
        self.node, self.manager = node, rclpy.create_node("manager")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._executor.add_node(self.manager)
        self._get = self.manager.create_client(GetState, "/dkt_node/get_state")
        self._change = self.manager.create_client(ChangeState, "/dkt_node/change_state")
        self.spin_until(lambda: self._get.service_is_ready() and self._change.service_is_ready())

    def spin_until(self, condition: Callable[[], Any]) -> None:
        spin_until(self._executor, condition)

    def request(self, **transition: Any) -> Any:
        return self._change.call_async(ChangeState.Request(transition=Transition(**transition)))

    def state(self) -> str:
        """As the service says, which has to answer whatever goes on."""
        answer = self._get.call_async(GetState.Request())
        self.spin_until(answer.done)
        return str(answer.result().current_state.label)


@contextmanager
def managed(build: Callable[[NodeParameters], Engine]) -> Iterator[Managed]:
    rclpy.init()
    found = Managed(DktNode(build))
    try:
        yield found
    finally:
        found.node.close()
        found.manager.destroy_node()
        rclpy.shutdown()


def test_while_the_network_loads_the_node_answers(
    workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    """Services, diagnostics and a second request."""
    gate = threading.Event()

    def build(parameters: NodeParameters) -> Engine:
        assert gate.wait(PATIENCE_S)
        return workshop(parameters)

    with managed(build) as rig:
        node = rig.node
        try:
            first = rig.request(id=Transition.TRANSITION_CONFIGURE)
            rig.spin_until(lambda: node.is_preparing)
            again = rig.request(label="configure")
            rig.spin_until(again.done)
            assert not again.result().success
            assert "transition refused: another one is under way" in capfd.readouterr().err
            assert rig.state() == "unconfigured"
            assert node.idle() == "/dkt_node is still loading, expected active: wait"
            statuses = diagnostic_array(node._node_report(), Header()).status
            assert any("loading the network" in status.message for status in statuses)
            assert not first.done()
        finally:
            gate.set()
        rig.spin_until(first.done)
        assert first.result().success
        assert state(node) == "inactive"
        assert len(workshop.built) == 1


def test_a_network_that_nobody_takes_any_more_is_freed(workshop: Workshop) -> None:
    """Loaded while the process that holds the node has shut it down."""
    gate, freed = threading.Event(), list[Engine]()

    def build(parameters: NodeParameters) -> Engine:
        assert gate.wait(PATIENCE_S)
        engine = workshop(parameters)
        engine.close = lambda: freed.append(engine)  # type: ignore[method-assign]
        return engine

    with managed(build) as rig:
        request = rig.request(label="configure")
        rig.spin_until(lambda: rig.node.is_preparing)
        assert rig.node.trigger_shutdown() == SUCCESS
        gate.set()
        rig.spin_until(request.done)
        assert not request.result().success
        assert freed == workshop.built
        assert len(freed) == 1
        assert state(rig.node) == "finalized"
        assert "finalized, expected active: end its process" in rig.node.idle()


@pytest.mark.parametrize("wanted", ["deactivate", "shutdown"])
def test_while_an_inference_ends_the_node_answers(workshop: Workshop, wanted: str) -> None:
    with managed(workshop) as rig:
        node, gate, waits = rig.node, threading.Event(), threading.Event()
        node.autostart()
        assert node._pipeline is not None
        worker = node._pipeline._worker
        stop = worker.stop

        def slow_stop(timeout_s: float | None = None) -> bool:
            waits.set()
            return gate.wait(PATIENCE_S) and stop(PATIENCE_S)

        worker.stop = slow_stop  # type: ignore[method-assign]
        try:
            request = rig.request(label=wanted)
            rig.spin_until(waits.is_set)
            assert rig.state() == "active"
            assert not request.done()
            wanted_then = [Parameter("min_confidence", value=0.9)]
            assert node.set_parameters_atomically(wanted_then).successful == (wanted != "shutdown")
            again = rig.request(label=wanted)
            rig.spin_until(again.done)
            assert not again.result().success
        finally:
            gate.set()
        rig.spin_until(request.done)
        assert request.result().success
        assert rig.state() == {"deactivate": "inactive", "shutdown": "finalized"}[wanted]


@pytest.mark.parametrize(
    "wanted",
    [
        {"id": Transition.TRANSITION_CLEANUP},
        {"label": "cleanup"},
        {"id": Transition.TRANSITION_INACTIVE_SHUTDOWN},
        {"id": Transition.TRANSITION_DEACTIVATE, "label": "activate"},
    ],
)
def test_a_transition_that_is_refused_ends_nothing(
    workshop: Workshop, wanted: dict[str, Any]
) -> None:
    with managed(workshop) as rig:
        rig.node.autostart()
        pipeline, outputs = rig.node._pipeline, rig.node._outputs
        assert pipeline is not None
        assert outputs is not None
        request = rig.request(**wanted)
        rig.spin_until(request.done)
        assert not request.result().success
        assert rig.state() == "active"
        assert pipeline.worker_status.state is WorkerState.WAITING
        for lane in (outputs._lazy, outputs._objects):
            assert lane.mailbox.is_open


class StandInBond:
    """bondpy's Bond as far as the node uses it; bondpy comes with a ROS installation."""

    made: list[StandInBond]

    def __init__(self, node: DktNode, topic: str, bond_id: str) -> None:
        self.pub = node.create_publisher(Header, topic, 1)
        self.topic, self.id, self.said = topic, bond_id, list[str]()
        self.heartbeat_period = self.heartbeat_timeout = 0.0
        self.made.append(self)
        self._node = node

    def start(self) -> None:
        self.sub = self._node.create_subscription(Header, self.topic, lambda message: None, 1)
        self.said.append("start")

    def is_broken(self) -> bool:
        return "broken" in self.said

    def break_bond(self) -> None:
        self.said.append("broken")
        self.pub.publish(Header(frame_id="broken"))

    def shutdown(self) -> None:
        self.said.append("shutdown")
        self.pub.destroy()
        self.sub.destroy()


def test_an_active_node_has_a_bond_where_there_is_bondpy(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bonds(monkeypatch)
    assert node.trigger_configure() == SUCCESS
    assert made == []
    for number in (1, 2):
        assert node.trigger_activate() == SUCCESS
        assert len(StandInBond.made) == number
        bond = StandInBond.made[-1]
        assert (bond.topic, bond.id, bond.said) == ("bond", "dkt_node", ["start"])
        assert bond.heartbeat_timeout == 4.0
        assert node.count_publishers("/bond") == 1
        assert node.trigger_deactivate() == SUCCESS
        assert bond.said == ["start", "broken", "shutdown"]
        assert node.count_publishers("/bond") == node.count_subscribers("/bond") == 0
    assert node.trigger_activate() == SUCCESS
    bond = StandInBond.made[-1]
    bond.pub.wait_for_all_acked = Failing(bond.pub.wait_for_all_acked, 0, RuntimeError("no such"))
    with monkeypatch.context() as patched:
        patched.setattr(node, "release", Failing(node.release, 0, RuntimeError("stuck")))
        assert node.trigger_shutdown() == FAILURE
    assert state(node) == "finalized"
    assert bond.said == ["start", "broken", "shutdown"], "though nobody told what was acknowledged"
