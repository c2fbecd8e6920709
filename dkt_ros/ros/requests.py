"""Requests and messages that rclpy gives every node. Knows how they fail; nothing of the node's.

What rclpy cannot read or send it raises in the executor: anybody's request would end the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.service import Service

from dkt_ros.ros.sending import answer_surely


def answer_unreadable(node: Node, report: Callable[[str, str], None]) -> None:
    """Has requests that rclpy raises at refused, by the services that `node` has by now.

    `report(cause, text)` gets what was refused, and answers that could not be sent.
    """
    for service in node.services:
        answer_surely(service, report)
        service.callback = _careful(service, report)


def reading_what_it_can(
    callback: Callable[[Any], Any], topic: str, report: Callable[[str, str], None]
) -> Callable[[Any], Any]:
    """A subscription's callback; the messages that it raises at are reported and left out."""

    @wraps(callback)
    def take(message: Any) -> Any:
        try:
            return callback(message)
        except Exception as error:  # noqa: BLE001 raised in the executor, it would end the process
            text = (
                f"a message on {topic} was left out ({type(error).__name__}: {error}): look at "
                f"who publishes it (ros2 topic info -v {topic})"
            )
            report("unreadable message", text)
            return None

    return take


def _careful(service: Service, report: Callable[[str, str], None]) -> Callable[[Any, Any], Any]:
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
