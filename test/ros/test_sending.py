"""What the middleware fails to send ends no node, and no request goes without its answer for it.

Real nodes, services and actions; rcl's failure itself is raised by hand: it takes a busy machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from dkt_ros.action import CaptureDepth
from dkt_ros.msg import GraspCandidates
from dkt_ros.srv import PlanGrasps
from fixtures.recorded_frames import labelled_frames
from fixtures.waiting import spin_until
from rcl_interfaces.srv import GetParameters
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.planner import DktPlanner
from dkt_ros.ros.replay.bag_player import BagPlayer, Pace
from dkt_ros.ros.sending import (
    TRIES,
    RCLError,
    SteadyActionServer,
    SteadySpin,
    answer_surely,
    attempt,
    send,
    spin,
)

pytestmark = pytest.mark.ros
PATIENCE_S = 30.0
RECOVERS = TRIES - 1
WHY = "cannot publish data, at /project/src/rmw_publish.cpp:68, at /project/src/publisher.c:285"
TAKEN = {
    "Subscription": "take_message",
    "Service": "service_take_request",
    "Client": "take_response",
}
SAID = "the middleware could not send (cannot publish data): expected fewer subscribers"


@pytest.fixture
def other() -> Iterator[Node]:
    """Another node, of a context that runs."""
    rclpy.init()
    node = Node("other")
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


class Failing:
    """Fails in the calls of these numbers, from 0, and calls `act` in all others."""

    def __init__(
        self, act: Callable[..., Any], *numbers: int, error: Exception | None = None
    ) -> None:
        self.act, self.numbers, self.calls = act, numbers, 0
        self.error = error or RCLError(WHY)

    def __call__(self, *words: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls - 1 in self.numbers:
            raise self.error
        return self.act(*words, **named)


def test_what_fails_once_is_sent_again(other: Node) -> None:
    sent: list[int] = []
    send(Failing(lambda: sent.append(1), *range(RECOVERS)))
    assert sent == [1]
    fails = Failing(lambda: sent.append(2), *range(TRIES))
    with pytest.raises(RCLError):
        send(fails)
    assert (sent, fails.calls) == ([1], TRIES)


def test_nothing_is_sent_again_once_ros_is_shut_down(told: list[tuple[str, str]]) -> None:
    fails = Failing(print, *range(TRIES))
    for act in (lambda: send(fails), lambda: attempt(fails, lambda *words: told.append(words))):
        with pytest.raises(RCLError):
            act()
    assert (fails.calls, told) == (2, [])


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        (RCLError(WHY), "sending failed", SAID),
        (MemoryError(), "out of memory", "out of memory in a callback (MemoryError): "),
    ],
)
def test_spinning_goes_on(
    other: Node, told: list[tuple[str, str]], error: Exception, cause: str, said: str
) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(other)
    turns = Failing(lambda: executor.shutdown() if turns.calls > 4 else None, 0, 2, error=error)
    other.create_timer(0.01, turns)
    spin(executor, lambda *words: told.append(words))
    assert turns.calls == 5
    assert [(cause, text[: len(said)]) for cause, text in told] == [(cause, said)] * 2


@pytest.mark.parametrize("kind", ["Subscription", "Service", "Client"])
def test_what_cannot_be_taken_is_lost_alone(
    monkeypatch: pytest.MonkeyPatch, other: Node, told: list[tuple[str, str]], kind: str
) -> None:
    """rclpy would take nothing any more of all that is in the group of what failed."""
    heard: list[str] = []
    executor = SingleThreadedExecutor()
    executor.add_node(other)
    publisher = other.create_publisher(Header, "words", 10)
    other.create_subscription(Header, "words", lambda word: heard.append(word.frame_id), 10)
    other.create_service(GetParameters, "ask", lambda request, response: response)
    client = other.create_client(GetParameters, "ask")
    assert client.wait_for_service(PATIENCE_S)

    def look() -> None:
        publisher.publish(Header(frame_id=str(len(told))))
        answers.append(client.call_async(GetParameters.Request()))
        if "1" in heard and any(answer.done() for answer in answers):
            executor.shutdown()

    answers: list[Any] = []
    owner, name = getattr(rclpy_implementation, kind), TAKEN[kind]
    fails = Failing(getattr(owner, name), 0)
    monkeypatch.setattr(owner, name, lambda self, *words: fails(self, *words))
    other.create_timer(0.02, look)
    other.create_timer(PATIENCE_S, executor.shutdown, callback_group=ReentrantCallbackGroup())
    spin(executor, lambda *words: told.append(words))
    assert "1" in heard
    assert any(answer.done() for answer in answers)
    assert [cause for cause, _ in told] == ["taking failed"]
    assert told[0][1].startswith("the middleware could not read what came (cannot publish data)")


def test_an_executor_that_can_do_nothing_else_any_more_ends(
    monkeypatch: pytest.MonkeyPatch, other: Node, told: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr("dkt_ros.ros.sending.MOST_FAILURES", 7)
    executor = SingleThreadedExecutor()
    monkeypatch.setattr(executor, "spin", Failing(lambda: None, *range(1000)))
    with pytest.raises(RCLError):
        spin(executor, lambda *words: told.append(words))
    assert len(told) == 6
    executor.shutdown()


@pytest.mark.parametrize("failures", [RECOVERS, TRIES])
def test_an_answer_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, other: Node, told: list[tuple[str, str]], failures: int
) -> None:
    service = other.create_service(GetParameters, "ask", lambda request, response: response)
    monkeypatch.setattr(service, "send_response", Failing(service.send_response, *range(failures)))
    answer_surely(service, lambda *words: told.append(words))
    client = other.create_client(GetParameters, "ask")
    assert client.wait_for_service(PATIENCE_S)
    executor = SingleThreadedExecutor()
    executor.add_node(other)
    lost = client.call_async(GetParameters.Request()) if failures == TRIES else None
    while lost is not None and not told:
        executor.spin_once(PATIENCE_S)
    future = client.call_async(GetParameters.Request())
    executor.spin_until_future_complete(future, PATIENCE_S)
    assert future.done()
    assert [cause for cause, _ in told] == ["sending failed"] * (failures == TRIES)
    executor.shutdown()


def result_of(server: Node, client: ActionClient) -> Any:
    """Of a goal sent to the server's node; None where no result comes."""
    executor = SingleThreadedExecutor()
    for node in {server, client._node}:
        executor.add_node(node)
    assert client.wait_for_server(PATIENCE_S)
    accepted = client.send_goal_async(CaptureDepth.Goal(frames=3))
    executor.spin_until_future_complete(accepted, PATIENCE_S)
    result = accepted.result().get_result_async()
    executor.spin_until_future_complete(result, PATIENCE_S)
    for node in (server, client._node):
        executor.remove_node(node)
    executor.shutdown()
    return result.result()


@pytest.mark.parametrize("failing", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_goals_are_executed_whichever_status_is_lost(
    monkeypatch: pytest.MonkeyPatch,
    other: Node,
    told: list[tuple[str, str]],
    failing: tuple[int, ...],
) -> None:
    """It is published when a goal is accepted, when it is begun and when it has ended."""

    def execute(goal: Any) -> Any:
        server.tell(lambda: goal.publish_feedback(CaptureDepth.Feedback(frames=1)))
        server.tell(goal.succeed)
        return CaptureDepth.Result(frames=goal.request.frames, message="done")

    server = SteadyActionServer(
        lambda *words: told.append(words), other, CaptureDepth, "capture", execute
    )
    client = ActionClient(other, CaptureDepth, "capture")
    handle = rclpy_implementation.ActionServer
    publish = handle.publish_status
    fails = Failing(publish, *failing)
    monkeypatch.setattr(handle, "publish_status", lambda self: fails(self))
    found = result_of(other, client)
    assert found is not None
    assert (found.status, found.result.frames, found.result.message) == (4, 3, "done")
    assert len(told) == len(failing)
    assert fails.calls >= 3
    server.destroy()
    client.destroy()


def test_a_capture_has_its_result_though_its_status_is_never_told(
    monkeypatch: pytest.MonkeyPatch, node: DktNode
) -> None:
    monkeypatch.setattr(
        rclpy_implementation.ActionServer, "publish_status", lambda self: Failing(print, 0)()
    )
    asker = Node("asker")
    client = ActionClient(asker, CaptureDepth, "dkt/capture_depth")
    found = result_of(node, client)
    client.destroy()
    asker.destroy_node()
    assert found is not None
    assert found.status == 6, "aborted"
    assert found.result.status == CaptureDepth.Result.NOT_ACTIVE
    assert "is unconfigured, expected active" in found.result.message
    text, _ = node._complaints.latest()["sending failed"]
    assert text.startswith(SAID)


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1, 2, 3)])
def test_transitions_take_place_though_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch, node: DktNode, failing: tuple[int, ...]
) -> None:
    """rclpy would call each a failure, and stay configuring for good; rcl has changed its state."""
    changed = iter(range(99))

    def failing_to_tell(trigger: Any) -> Any:
        def act(self: Any, which: Any, tell: bool) -> None:
            trigger(self, which, False)
            if next(changed) in failing:
                raise RCLError(WHY)

        return act

    machine = rclpy_implementation.LifecycleStateMachine
    for name in ("trigger_transition_by_id", "trigger_transition_by_label"):
        monkeypatch.setattr(machine, name, failing_to_tell(getattr(machine, name)))
    node.autostart()
    assert node.idle() == "", "active"
    assert node._complaints.latest()["sending failed"][0].startswith(SAID)
    with suppress(RCLError):  # as Jazzy's rclpy has it
        assert node.trigger_activate() == TransitionCallbackReturn.ERROR, "it is active already"
    assert node.idle() == ""


def test_results_are_not_kept_for_long_where_the_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Each holds pictures and a cloud, some 40 MB of them."""
    monkeypatch.setattr("dkt_ros.ros.capture.RESULT_KEPT_S", 1)
    node = request.getfixturevalue("node")
    assert node.set_parameters_atomically([Parameter("use_sim_time", value=True)]).successful
    client = ActionClient(node, CaptureDepth, "dkt/capture_depth")
    assert result_of(node, client) is not None
    kept = node._captures._action._goal_handles
    assert len(kept) == 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spin_until(executor, lambda: not kept)
    executor.shutdown()
    client.destroy()


def test_parameters_that_are_set_though_no_event_tells_so_are_not_refused(
    monkeypatch: pytest.MonkeyPatch, node: DktNode
) -> None:
    events = Failing(print, *range(9))
    monkeypatch.setattr(node._parameter_event_publisher, "publish", lambda _: events())
    assert node.set_parameters_atomically([Parameter("min_confidence", value=0.25)]).successful
    assert events.calls == 1
    assert node.get_parameter("min_confidence").value == 0.25
    assert node.parameters.min_confidence == 0.25


def test_the_planner_answers_though_its_topics_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    rclpy.init()
    planner = DktPlanner()
    try:
        planner.trigger_configure()
        planner.trigger_activate()
        sent: list[Any] = []
        for publisher in planner._own.values():
            monkeypatch.setattr(publisher, "publish", Failing(sent.append, 0))
        planner._publish(GraspCandidates())
        assert planner._complaints.latest()["sending failed"][0].startswith(SAID)
        planner._publish(GraspCandidates())
        assert len(sent) == len(planner._own)
        service = next(one for one in planner.services if one.srv_type is PlanGrasps)
        assert service.send_response.__module__ == send.__module__
    finally:
        planner.close()
        rclpy.shutdown()


@pytest.mark.parametrize("lasts", [False, True])
def test_a_bag_is_played_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    other: Node,
    capfd: pytest.CaptureFixture[str],
    lasts: bool,
) -> None:
    """What fails once is sent again, what fails for good is counted and told.

    So fast that each message is late, as on a busy machine; the node has its turns all the same.
    """
    record(labelled_frames(4, width=32, height=24), tmp_path / "bag", RecordingOptions())
    sent: Counter[str] = Counter()
    tries: Counter[str] = Counter()

    def publish(self: Publisher, message: Any) -> None:
        if isinstance(message, bytes):
            tries[self.topic_name] += 1
            if "color/image" in self.topic_name and (lasts or tries[self.topic_name] < TRIES):
                raise RCLError(WHY)
            sent[self.topic_name] += 1

    monkeypatch.setattr(Publisher, "publish", publish)
    executor = SingleThreadedExecutor()
    executor.add_node(other)
    monkeypatch.setattr(executor, "spin_once", Failing(lambda timeout_sec: None, 0))
    told: list[str] = []
    with BagReader(tmp_path / "bag") as bag:
        spinning = SteadySpin(executor, lambda _, text: told.append(text))
        player = BagPlayer(other, spinning, bag, Pace(rate=1e6))
        player.play()
        counts = {name: topic.count for name, topic in bag.topics.items()}
    executor.shutdown()
    lost = {name: n for name, n in counts.items() if "color/image" in name and lasts}
    assert sent == {name: n for name, n in counts.items() if name not in lost}
    assert player.published == sum(sent.values())
    assert [text[: len(SAID)] for text in told] == [SAID]
    said = capfd.readouterr().err
    assert all(f"lost {n} messages of {name}: {SAID}" in said for name, n in lost.items())
    assert ("lost" in said) == lasts
    assert bool(lost) == lasts
