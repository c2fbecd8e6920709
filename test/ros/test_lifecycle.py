"""Transitions that fail leave the node alive, clean and able to try again. No network, no DDS."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from fixtures.interrupts import heed_interrupts
from fixtures.workshop import Workshop
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.ros.diagnostics import diagnostic_array
from dkt_ros.ros.engine import Engine, build_engine
from dkt_ros.ros.managed_node import LASTING_S, NO_CLOCK, STILL_CLOCK, ManagedNode
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.params.declarations import unknown_qos_overrides
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.planner import DktPlanner
from dkt_ros.ros.process import interruptible, run
from dkt_ros.ros.topics import OUTPUTS
from dkt_ros.ros.worker import WorkerState

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
CLASHING = "qos_overrides./depth/image.subscription.reliability:=sometimes"


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
        (
            DktError("checkpoint /x does not exist"),
            "cannot configure: checkpoint /x does not exist",
        ),
        (RuntimeError("CUDA out of memory"), "cannot configure: RuntimeError: CUDA out of memory"),
        (RuntimeError("no, at /src/q.cpp:7\nadvice"), "cannot configure: RuntimeError: no"),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
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
    assert node._transition_error == text
    assert workshop.asked == 1, "what takes long is not tried twice"
    workshop.failure = None
    start()
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
    assert (
        "cannot activate: qos_overrides./depth/image.subscription.reliability is"
        in node._transition_error
    )
    assert "sometimes" in node._transition_error
    assert not any(topic.startswith(("/color", "/depth")) for topic in topics(node))
    assert node.trigger_activate() == FAILURE
    assert node.trigger_cleanup() == SUCCESS


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


def test_shutdown_from_active_releases_everything(node: DktNode, workshop: Workshop) -> None:
    node.autostart()
    assert node.trigger_shutdown() == SUCCESS
    assert state(node) == "finalized"
    assert topics(node) == set()
    assert not hasattr(workshop.built[0], "estimator"), "the engine was closed"
    assert (
        node.idle() == "/dkt_node is finalized, expected active: end its process and start it anew"
    )


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
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            self._executor.spin_once(timeout_sec=0.05)

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


@pytest.mark.parametrize("kind", [DktNode, DktPlanner])
def test_a_node_that_has_ended_takes_no_parameters(kind: Callable[..., ManagedNode[Any]]) -> None:
    """They would act on nothing, and never again."""
    rclpy.init()
    node = kind()
    try:
        assert node.trigger_shutdown() == SUCCESS
        before = node.parameters
        result = node.set_parameters_atomically([Parameter("min_confidence", value=0.9)])
        assert (result.successful, result.reason) == (False, node.idle())
        assert "is finalized, expected active: end its process" in result.reason
        assert node.parameters == before
    finally:
        node.close()
        rclpy.shutdown()


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


SLOW_TO_LOAD = "lambda parameters: time.sleep(600.0)"
ENDINGS = """
import time, rclpy
from types import SimpleNamespace
from dkt_ros.predict.predictor import Predictor, PredictorInfo
from dkt_ros.ros.engine import Engine
from dkt_ros.ros.process import run
from dkt_ros.ros.node import DktNode

def stuck(parameters):  # hears of no cancelling
    def reset():
        print("inferring", flush=True)
        time.sleep(600.0)
    return Engine(SimpleNamespace(reset=reset, predictor=Predictor(PredictorInfo("stuck"))))

rclpy.init()
node = DktNode(BUILD)
def observe():
    if node._pipeline is not None:
        observation = SimpleNamespace(decode=lambda: 1, epoch=1, arrived_s=0.0)
        node._pipeline._mailbox.put(observation)
node.create_timer(0.05, observe)
run(node)
"""


@pytest.mark.parametrize(
    ("number", "build", "when"),
    [
        (signal.SIGTERM, SLOW_TO_LOAD, "loading the network"),
        (signal.SIGINT, SLOW_TO_LOAD, "loading the network"),
        (signal.SIGINT, "stuck", "inferring"),
        (signal.SIGHUP, "stuck", "inferring"),
        (signal.SIGHUP, SLOW_TO_LOAD, "loading the network"),
    ],
)
def test_a_signal_ends_a_node_whatever_it_does(number: int, build: str, when: str) -> None:
    """Long before what it does would end."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDINGS.replace("BUILD", build)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        preexec_fn=heed_interrupts,
    )
    try:
        assert process.stdout is not None
        while when not in (line := process.stdout.readline()):
            assert line, "it ended by itself"
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()


def test_nohup_keeps_a_node_whose_terminal_ends() -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    process = subprocess.Popen(
        [sys.executable, "-c", code + ENDINGS.replace("BUILD", SLOW_TO_LOAD)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stderr is not None
        while "loading the network" not in (line := process.stderr.readline()):
            assert line, "it ended by itself"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3.0)
    finally:
        process.kill()


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

    def shutdown(self) -> None:
        self.said.append("shutdown")


def test_an_active_node_has_a_bond_where_there_is_bondpy(
    node: DktNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    StandInBond.made = []
    package, module = ModuleType("bondpy"), ModuleType("bondpy.bondpy")
    module.Bond = StandInBond  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bondpy", package)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)
    assert node.trigger_configure() == SUCCESS
    assert StandInBond.made == []
    for number in (1, 2):
        assert node.trigger_activate() == SUCCESS
        assert len(StandInBond.made) == number
        bond = StandInBond.made[-1]
        assert (bond.topic, bond.id, bond.said) == ("bond", "dkt_node", ["start"])
        assert bond.heartbeat_timeout == 4.0
        assert node.count_publishers("/bond") == 1
        assert node.trigger_deactivate() == SUCCESS
        assert bond.said == ["start", "shutdown"]
        assert node.count_publishers("/bond") == node.count_subscribers("/bond") == 0


@pytest.fixture
def ending_node() -> Iterator[DktNode]:
    """A node for run(), which ends it, ignores interrupts and freezes what may be garbage."""
    handler = signal.getsignal(signal.SIGINT)
    rclpy.init()
    yield DktNode(Workshop())
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, handler)
    gc.unfreeze()


@pytest.mark.parametrize("stdout", ["None", "open('/dev/full', 'w')"])
def test_an_output_that_takes_nothing_changes_no_exit_status(stdout: str) -> None:
    """A service whose standard output is closed, or whose disk is full."""
    code = f"sys.stdout = {stdout}; print(1); leave(0)"
    begin = "import sys; from dkt_ros.ros.process import leave; "
    assert subprocess.run([sys.executable, "-c", begin + code]).returncode == 0


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
    assert node._node_report().twins == ""
    other = rclpy.create_node(node.get_name())
    elsewhere = rclpy.create_node(node.get_name(), namespace="/left")
    try:
        assert "may be 1 more called /dkt_node: every frame and" in node._node_report().twins
    finally:
        other.destroy_node()
        elsewhere.destroy_node()


def test_another_publisher_of_its_depth_is_named(node: DktNode) -> None:
    assert node.trigger_configure() == SUCCESS
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
            deadline = time.monotonic() + 5.0
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


class Watched:
    """An active node, and what it says."""

    def __init__(self, node: ManagedNode[Any], capfd: pytest.CaptureFixture[str]) -> None:
        self.node, self.said, self._capfd = node, "", capfd
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(node)
        node.autostart()

    def spin_until(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not enough() and time.monotonic() < deadline:
            self.executor.spin_once(timeout_sec=0.05)
            self.said += self._capfd.readouterr().err

    def spin_on(self) -> None:
        """Long enough for what lasts to be told, and were it told twice."""
        later = time.monotonic() + 2 * LASTING_S
        self.spin_until(lambda: time.monotonic() > later)


@pytest.fixture(params=["dkt_node", "dkt_planner"])
def watched(
    request: pytest.FixtureRequest, workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Watched]]:
    """Called with parameters, each kind of node in turn."""
    made = []

    def watch(*settings: str) -> Watched:
        words = [word for setting in settings for word in ("-p", setting)]
        rclpy.init(args=["--ros-args", *words])
        node = DktNode(workshop) if request.param == "dkt_node" else DktPlanner()
        made.append(Watched(node, capfd))
        return made[-1]

    yield watch
    for one in made:
        one.executor.shutdown()
        one.node.close()
    rclpy.shutdown()


def test_simulated_time_that_nobody_sends_is_told_once(watched: Callable[..., Watched]) -> None:
    """A planner that plans every second would wait without a word."""
    node = watched("use_sim_time:=true")
    node.spin_until(lambda: NO_CLOCK in node.said)
    node.spin_on()
    assert node.said.count(NO_CLOCK) == 1
    assert "dkt_replay --clock" in NO_CLOCK


def test_a_player_that_waits_with_its_clock_is_named(watched: Callable[..., Watched]) -> None:
    """As replay.launch.py's does until the network is loaded: nothing is wrong with settings."""
    node = watched("use_sim_time:=true")
    player = Node("player")
    player.create_publisher(Clock, "/clock", 1)
    try:
        node.spin_until(lambda: "/player is to send it" in node.said)
    finally:
        player.destroy_node()
    assert NO_CLOCK not in node.said


def test_simulated_time_that_stands_still_is_told_until_it_goes_on(
    watched: Callable[..., Watched],
) -> None:
    """A paused bag's: a camera that stamps by it gives every picture the same stamp."""
    node = watched("use_sim_time:=true")
    player = Node("player")
    clock = player.create_publisher(Clock, "/clock", 1)
    try:
        for told in (1, 2):
            # Longer than it takes to notice that it goes.
            seconds, later = 100 * told, time.monotonic() + LASTING_S
            while time.monotonic() < later:
                seconds += 1
                clock.publish(Clock(clock=Time(sec=seconds)))
                node.executor.spin_once(timeout_sec=0.05)
            assert node.node.clock_trouble() == ""
            node.spin_until(lambda: node.said.count(STILL_CLOCK) == told)  # noqa: B023
            assert node.node.clock_trouble() == STILL_CLOCK
            node.spin_on()
    finally:
        player.destroy_node()
    assert node.said.count(STILL_CLOCK) == 2


def test_another_node_of_its_name_is_told_once(watched: Callable[..., Watched]) -> None:
    """Of two planners the faster one answers, and nobody knows by which gripper."""
    node = watched()
    name = node.node.get_name()
    told = f"may be 1 more called /{name}: every frame and request is answered by each"
    others = [rclpy.create_node(name, namespace="/left")]
    node.spin_on()
    assert "more called" not in node.said
    others.append(rclpy.create_node(name))
    node.spin_until(lambda: told in node.said)
    node.spin_on()
    assert node.said.count(told) == 1
    for other in others:
        other.destroy_node()


def test_a_parameter_that_is_misspelt_at_the_door_is_told(
    workshop: Workshop, capfd: pytest.CaptureFixture[str]
) -> None:
    rclpy.init(args=["--ros-args", "-p", "crop_bax:=3"])
    try:
        DktNode(workshop).close()
    finally:
        rclpy.shutdown()
    assert "parameter crop_bax" in (said := capfd.readouterr().err)
    assert "is not known to this node and ignored" in said


def test_a_wrong_parameter_is_refused_at_the_door() -> None:
    rclpy.init(args=["--ros-args", "-p", "buffer_frames:=4"])
    try:
        with pytest.raises(DktError, match="buffer_frames is 4"):
            DktNode(Workshop())
        assert services() == []
    finally:
        rclpy.shutdown()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("min_confidence", 2.0, "min_confidence is 2.0, expected 0 to 1"),
        ("min_confidence", "high", "min_confidence is 'high', expected a value of type float"),
        ("min_confidence", None, "min_confidence is None, expected a value of type float"),
        ("min_confidence", True, "min_confidence is True, expected a value of type float"),
        ("points_stride", 1.5, "points_stride is 1.5, expected a value of type int"),
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


def test_a_whole_number_does_for_a_fraction(node: DktNode) -> None:
    """`ros2 param set /dkt_node max_depth_m 5` is an integer to ROS."""
    assert node.set_parameters_atomically([Parameter("max_depth_m", value=5)]).successful
    assert node.parameters.max_depth_m == 5.0
    assert node.get_parameter("max_depth_m").type_ is Parameter.Type.DOUBLE


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


def test_what_ctrl_c_cut_off_in_the_making_complains_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """rclpy's futures ask, when they are given up, for what their making would have set."""
    complaints: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    with interruptible():
        half_made = Future.__new__(Future)
        del half_made
    assert not complaints
