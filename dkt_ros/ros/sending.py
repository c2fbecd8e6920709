"""Sending that fails: rclpy raises it wherever it sends, and in the executor it would end the node.

A writer gives up where its readers keep it busy for longer than .1 s, as many do on a machine with
much else to do. What cannot be taken in is no end either. Knows rclpy's errors, services, actions
and lifecycles; nothing of what is sent.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from rclpy.action import ActionServer
from rclpy.clock import Clock, ClockType
from rclpy.executors import Executor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.service import Service

RCLError: type[RuntimeError] = rclpy_implementation.RCLError
Sent = TypeVar("Sent")
Report = Callable[[str, str], None]
"""report(cause, text): counts the cause in diagnostics and logs the text."""

TRIES = 5
MOST_FAILURES, WITHIN_S = 100, 1.0
"""More than sending can bring about, each of which waits: then it is waiting itself that fails."""


def first_line(error: Exception) -> str:
    """Without the places in rcl's own source."""
    return re.sub(r", at \S+:\d+", "", str(error).strip().partition("\n")[0])


def send(act: Callable[[], Sent]) -> Sent:
    """The result of `act`, called again where the middleware gives up. Raises the last RCLError."""
    for _ in range(TRIES - 1):
        try:
            return act()
        except RCLError:
            if not rclpy.ok():
                raise
    return act()


def attempt(act: Callable[[], object], report: Report) -> bool:
    """Calls `act`; whether the middleware sent what it sends, which otherwise is reported."""
    try:
        act()
    except RCLError as error:
        report_unsent(error, report)
        return False
    return True


def report_unsent(error: RuntimeError, report: Report) -> None:
    """Reports what the middleware failed to send; raises it again where ROS has been shut down."""
    if not rclpy.ok():
        raise error
    report(
        "sending failed",
        f"the middleware could not send ({first_line(error)}): expected fewer subscribers and "
        "clients, or a machine with less to do",
    )


class SteadySpin:
    """Turns of an executor: what cannot be sent or taken, or has no memory, is reported alone."""

    def __init__(self, executor: Executor, report: Report) -> None:
        self._executor = executor
        self._report = report
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)

    def once(self, timeout_s: float) -> None:
        """As the executor's own spin_once."""
        self._survives(lambda: self._executor.spin_once(timeout_sec=timeout_s))

    def on(self) -> None:
        """As the executor's own spin."""
        while not self._survives(self._executor.spin):
            pass

    def _survives(self, spin: Callable[[], object]) -> bool:
        """Whether nothing failed. Raises the error of an executor that can do nothing more."""
        try:
            spin()
        except (RCLError, MemoryError) as error:
            failures = self._failures
            failures.append(time.monotonic())
            is_lasting = len(failures) == MOST_FAILURES and failures[-1] - failures[0] < WITHIN_S
            if is_lasting:
                raise
            is_let_go = _let_go(self._executor, error)
            if isinstance(error, MemoryError):
                self._report(
                    "out of memory",
                    f"out of memory in a callback ({first_line(error) or 'MemoryError'}): "
                    "expected more free memory, or a higher limit (ulimit -v)",
                )
            elif rclpy.ok() and is_let_go:
                self._report(
                    "taking failed",
                    f"the middleware could not read what came ({first_line(error)}), and it is "
                    "lost: expected a sender with the message definitions of this machine",
                )
            else:
                report_unsent(error, self._report)
            return False
        return True


def spin(executor: Executor, report: Report) -> None:
    """As the executor's own, and what cannot be sent or taken in it ends nothing."""
    SteadySpin(executor, report).on()


def _let_go(executor: Executor, error: Exception) -> bool:
    """Whether a message, request or answer could not be taken; more of its kind are taken then.

    rclpy holds whatever it could not take from for being at work, and all of its group with it.
    """
    for task, entity, _ in [*executor._tasks]:
        if not (entity is not None and entity._executor_event and task.done()):
            continue
        if task.exception() is error:
            entity._executor_event = False
            entity.callback_group.ending_execution(entity)
            executor.wake()
            return True
    return False


def answer_surely(service: Service, report: Report) -> None:
    """Has the service's answers sent again where that fails; what fails for good is reported."""
    send_response = service.send_response

    def answer(response: Any, header: Any) -> None:
        attempt(lambda: send(lambda: send_response(response, header)), report)

    service.send_response = answer


class SteadyStates:
    """A lifecycle's state machine whose transitions hold though nobody can be told of them.

    rclpy takes what cannot be told for a transition that did not take place, and would stay amid it
    for good.
    """

    def __init__(self, states: Any, report: Report) -> None:
        """`states`: rclpy's own. `report`: what could not be sent."""
        self._states = states
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._states, name)

    def trigger_transition_by_id(self, number: int, tell: bool) -> None:
        """As rclpy's."""
        self._trigger(lambda: self._states.trigger_transition_by_id(number, tell))

    def trigger_transition_by_label(self, label: str, tell: bool) -> None:
        """As rclpy's."""
        self._trigger(lambda: self._states.trigger_transition_by_label(label, tell))

    def _trigger(self, act: Callable[[], object]) -> None:
        before = self._states.current_state
        try:
            act()
        except RCLError as error:
            if self._states.current_state == before:  # none of this state's
                raise
            report_unsent(error, self._report)


class _OnSystemTime:
    """A node whose clock heeds no /clock."""

    def __init__(self, node: Node) -> None:
        self._own = node
        self._clock = Clock(clock_type=ClockType.SYSTEM_TIME)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def get_clock(self) -> Clock:
        """Not the node's."""
        return self._clock


class SteadyActionServer(ActionServer):
    """An action server all of whose accepted goals are executed.

    rclpy publishes a goal's status between accepting and executing it, and again at its end; where
    that fails, the goal would stay without a result, or get an empty one. Results are kept for as
    long as said also where /clock stands still or jumps back, which would have them pile up.
    """

    def __init__(self, report: Report, node: Node, *args: Any, **options: Any) -> None:
        """`report`: what could not be sent. The others are rclpy's."""
        self._report = report
        self._begun: set[bytes] = set()
        super().__init__(
            _OnSystemTime(node), *args, handle_accepted_callback=self._begin, **options
        )

    async def execute(self, taken_data: Any) -> None:
        """As rclpy's; goals whose acceptance could not be told are begun all the same."""
        for kind, taken in taken_data.items():  # one that fails has rclpy forget the others
            try:
                await super().execute({kind: taken})
            except RCLError as error:
                report_unsent(error, self._report)
        self._begun &= self._goal_handles.keys()
        for key, goal in [*self._goal_handles.items()]:
            if key not in self._begun and goal.is_active:
                self._begin(goal)

    def tell(self, act: Callable[[], object]) -> None:
        """Calls a goal's own method: feedback or its end, which holds though nobody can be told."""
        if not attempt(act, self._report):
            self.notify_goal_done()  # rclpy left it out

    def _begin(self, goal: Any) -> None:
        self._begun.add(bytes(goal.goal_id.uuid))
        if not attempt(goal.execute, self._report):
            self.notify_execute(goal, None)
