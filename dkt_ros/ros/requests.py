"""Requests and messages that rclpy gives every node. Knows how they fail; nothing of the node's.

What rclpy cannot read or send it raises in the executor, and what a callback raises as well:
anybody's request would end the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.service import Service
from rclpy.time_source import CLOCK_TOPIC

from dkt_ros.errors import place_of
from dkt_ros.ros.sending import RCLError, Report, answer_surely
from dkt_ros.ros.statistics import Complaints

LOG_PERIOD_S = 10.0
"""A cause that persists is logged this often; diagnostics name it all the time."""


class CarefulNode(Node):
    """A node that no request ends, nor a message on /clock; its own callbacks may raise."""

    def __init__(self, name: str, **options: Any) -> None:
        self._complaints = Complaints(LOG_PERIOD_S)
        super().__init__(name, **options)
        answer_unreadable(self, self.report)

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], Any], *words: Any, **options: Any
    ) -> Any:
        """As rclpy's, whose own of /clock raises at a time before 0."""
        if topic == CLOCK_TOPIC:
            callback = reading_what_it_can(callback, topic, self.report)
        return super().create_subscription(kind, topic, callback, *words, **options)

    def report(self, cause: str, text: str) -> None:
        """What was left out: for the log, now and then."""
        if self._complaints.add(cause, text):
            self.get_logger().warning(text)


def answer_unreadable(node: Node, report: Report) -> None:
    """Has requests that rclpy raises at refused, by the services that `node` has by now.

    `report(cause, text)` gets what was refused, and answers that could not be sent.
    """
    for service in node.services:
        answer_surely(service, report)
        service.callback = _careful(service, report)


def reading_what_it_can(
    callback: Callable[[Any], Any], topic: str, report: Report
) -> Callable[[Any], Any]:
    """A subscription's callback; the messages that it raises at are reported and left out."""

    @wraps(callback)
    def take(message: Any) -> Any:
        try:
            return callback(message)
        except Exception as error:  # noqa: BLE001 raised in the executor, it would end the process
            what = f"{type(error).__name__}: {error}{place_of(error)}"
            text = (
                f"a message on {topic} was left out ({what}): look at who publishes it "
                f"(ros2 topic info -v {topic})"
            )
            report("unreadable message", text)
            return None

    return take


def living_on(callback: Callable[[], None], report: Report) -> Callable[[], None]:
    """The callback of a timer that looks and tells, whose errors are reported: depth goes on.

    Sending that fails and memory that is short are a matter of sending.SteadySpin's.
    """

    @wraps(callback)
    def act() -> None:
        try:
            callback()
        except (RCLError, MemoryError):
            raise
        except Exception as error:
            if not rclpy.ok():  # the end takes the context from under whatever is under way
                raise
            cause = f"{getattr(callback, '__name__', 'a timer')} failed"
            report(cause, f"{cause}: {type(error).__name__}: {error}{place_of(error)}")

    return act


def _careful(service: Service, report: Report) -> Callable[[Any, Any], Any]:
    callback = service.callback

    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:  # noqa: BLE001 raised in the executor, it would end the process
            text = (
                f"a request to {service.srv_name} cannot be read ({type(error).__name__}: {error})"
                ": expected a client that sends what this ROS distribution knows"
            )
            report("unreadable request", text)
            return _refuse(request, response, text)

    return answer


def _refuse(request: Any, response: Any, text: str) -> Any:
    """Changes of parameters get the reason, those before the unreadable one their own result."""
    refused = SetParametersResult(successful=False, reason=text)
    if hasattr(response, "results"):
        left = len(request.parameters) - len(response.results)
        response.results = [*response.results, *[refused] * left]
    elif isinstance(getattr(response, "result", None), SetParametersResult):
        response.result = refused
    return response
