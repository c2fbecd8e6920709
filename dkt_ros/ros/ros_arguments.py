"""Words and files of ROS's that rclpy refuses, as errors in one line.

Knows rclpy's errors; nothing of nodes or what becomes of their process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException

from dkt_ros.errors import DktError
from dkt_ros.ros.probe import domain_trouble
from dkt_ros.ros.sending import first_line


class ArgumentError(DktError):
    """ROS does not begin: its words or files are none, or there is no place for its log."""


def init(args: Sequence[str] | None, **more: Any) -> None:
    """rclpy.init, its errors in one line. Raises ArgumentError.

    Has Fast DDS, which alone reads the variable, publish beside Python where the user has not said
    how: otherwise a message waits in its publisher, and with it all of Python, for its readers.
    """
    if trouble := domain_trouble():
        raise ArgumentError(trouble)
    os.environ.setdefault("RMW_FASTRTPS_PUBLICATION_MODE", "ASYNCHRONOUS")
    try:
        rclpy.init(args=args, **more)
    except Exception as error:
        if "initialize logging" in str(error):
            raise ArgumentError(
                f"no log can be written: {first_line(error)}; set ROS_LOG_DIR to a folder that "
                "can be written, or do without: --ros-args --disable-external-lib-logs"
            ) from error
        raise ArgumentError(f"wrong ROS arguments: {first_line(error)}") from error


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Within it rclpy makes a node; names and own parameters that it refuses: ArgumentError.

    So is the middleware's refusal, but for security's, which whoever asked for it knows better.
    """
    try:
        yield
    except InvalidParameterTypeException as error:
        raise ArgumentError(f"wrong ROS arguments: {first_line(error)}") from error
    except RuntimeError as error:
        if "invalid node name" in str(error):  # or namespace
            raise ArgumentError(f"wrong ROS arguments: {first_line(error)}") from error
        if "error creating node" not in str(error) or "security" in str(error):
            raise
        raise ArgumentError(
            f"no node can be made: {first_line(error)}; look at ROS_STATIC_PEERS, ROS_DOMAIN_ID "
            "and the middleware's own settings"
        ) from error
