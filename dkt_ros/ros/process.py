"""The process around nodes: rclpy's beginning and end, interrupts, words of the command line.

Knows how a ManagedNode is started and ended. Knows nothing of what it does.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import rclpy
import rclpy.logging
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.task import Future

from dkt_ros.errors import DktError
from dkt_ros.ros.allocator import keep_freed_images
from dkt_ros.ros.params.command_line import parameter_files, split_ros_args
from dkt_ros.ros.params.files import check_sections
from dkt_ros.ros.ros_arguments import ArgumentError, init
from dkt_ros.ros.sending import first_line, spin
from dkt_ros.ros.undo import told

if TYPE_CHECKING:
    from dkt_ros.ros.managed_node import ManagedNode


_HEARD_S = 0.5
"""After which an interrupt has ended ROS, on a busy machine too."""
_TAKING_APART_S = 5.0
"""Of a node that a busy machine takes apart, several times what that takes."""


def run_main(
    name: str,
    make: Callable[[], Sequence[ManagedNode[Any]]],
    args: Sequence[str] | None,
    is_process: bool,
) -> int:
    """Makes the nodes and runs them until interrupted; returns 2 when its words are wrong.

    is_process: the process is theirs alone and ends with them, here.
    """
    if is_process:
        keep_freed_images()
    status = _run_main(name, make, args)
    if is_process:
        leave(status)
    return status


def leave(status: int) -> NoReturn:
    """Ends the process without taking Python and torch apart, which costs seconds when busy."""
    rclpy.try_shutdown()
    with suppress(Exception):  # done already, unless it was a signal that shut rclpy down
        rclpy_implementation.rclpy_logging_fini()  # writes the rest of the log
    for stream in (sys.stdout, sys.stderr):
        # None where it was closed from the start; a pipe's end may be gone.
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def _run_main(
    name: str, make: Callable[[], Sequence[ManagedNode[Any]]], args: Sequence[str] | None
) -> int:
    try:
        init(args)
        try:
            nodes = make()
        except DktError:
            raise
        except Exception as error:
            if not rclpy.ok():
                return 130  # interrupted, which takes the context from under whatever is made
            if "security" not in str(error):
                raise
            raise DktError(
                f"cannot make the node: {first_line(error)}; ROS_SECURITY_ENABLE is set: expected "
                "a middleware that was built with security, as ROS's own Debian packages are"
            ) from error
        _look_at_files(nodes, sys.argv[1:] if args is None else args)
        return run(*nodes)
    except KeyboardInterrupt:
        return 130
    except ArgumentError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except DktError as error:
        rclpy.logging.get_logger(name).fatal(str(error))
        return 2
    finally:
        rclpy.try_shutdown()


def _look_at_files(nodes: Sequence[Node], words: Sequence[str]) -> None:
    """Says which parameter files are for other nodes: ROS reads them, and sets nothing."""
    names = [node.get_fully_qualified_name() for node in nodes]
    for path in parameter_files(split_ros_args(words)[1]):
        try:
            check_sections(Path(path), names, "--params-file")
        except DktError as error:
            nodes[0].get_logger().warning(str(error))


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it, an interrupt and what fails because of it are no errors, but the end.

    It takes the context from under whatever is under way. Another one ends nothing more: launch
    interrupts once more what Ctrl-C has interrupted. A terminal's end is an interrupt too.
    """
    _heed_the_terminal()
    # One that was interrupted while it was made has none of its own, and its __del__ asks for it.
    setattr(Future, "_exception", None)  # noqa: B010 mypy knows it as an instance's alone
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        _heed_no_more()
    except Exception:
        if not _is_interrupted():
            raise
        _heed_no_more()


def _is_interrupted() -> bool:
    """Whether ROS is shut down, or is within a moment.

    rclpy's own thread does it, which the signal wakes; by then the same signal may have raised in
    what turns a message into Python's, of which pybind11 makes a RuntimeError.
    """
    end_s = time.monotonic() + _HEARD_S
    while rclpy.ok() and time.monotonic() < end_s:
        time.sleep(0.01)
    return not rclpy.ok()


@contextmanager
def taking_apart() -> Iterator[None]:
    """Within it nodes are destroyed; where that finds no end, it ends the process with status 1.

    Fast DDS's TCP (LARGE_DATA) waits for a peer whose process stands still, when it has told all
    others of the end, and Python waits with it: no signal is heard, no other thread goes on.
    """
    with open(os.devnull, "wb") as nowhere:
        faulthandler.dump_traceback_later(_TAKING_APART_S, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _heed_the_terminal() -> None:
    """Has its end end the process as SIGTERM does, where nohup does not have it ignored.

    rclpy leaves SIGHUP to the system, and a process that it kills leaves its shared memory behind.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _heed_no_more() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(*nodes: ManagedNode[Any]) -> int:
    """Spins the nodes, after starting those that are to start themselves, until interrupted."""
    executor = SingleThreadedExecutor()
    try:
        with interruptible():
            for node in nodes:
                executor.add_node(node)
                if node.parameters.autostart:
                    executor.create_task(node.autostart_beside)
            spin(executor, nodes[0].report)
    finally:
        ended = [_close(node) for node in nodes]
        # Ending Python would collect garbage among torch's objects for seconds; launch waits five.
        gc.freeze()
        # Nor can a thread inside torch be waited for.
        if not all(ended) or any(node.is_preparing for node in nodes):
            leave(0)
    return 0


def _close(node: ManagedNode[Any]) -> bool:
    """Whether all has ended that a process has to wait for; what fails ends nothing else."""
    try:
        with taking_apart():
            return node.close()
    except Exception as error:  # noqa: BLE001 the others are to be closed too
        node.get_logger().error(f"cannot end all: {told(error)}")
        return False
