"""How a node's process ends: by a signal whatever it does, by a failure, leaving nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.interrupts import heed_interrupts
from fixtures.workshop import Workshop
from rclpy.task import Future

from dkt_ros.errors import DktError
from dkt_ros.ros import process as ros_process
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.process import interruptible, run

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
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
        (signal.SIGINT, SLOW_TO_LOAD, "loading the network"),
        (signal.SIGHUP, "stuck", "inferring"),
    ],
)
def test_a_signal_ends_a_node_whatever_it_does(number: int, build: str, when: str) -> None:
    """Long before what it does would end. SIGHUP is passed on as SIGTERM."""
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


@pytest.mark.parametrize(("takes", "status"), [("pause()", 1), ("getpid()", 0)])
def test_a_middleware_that_cannot_be_taken_apart_is_left_behind(takes: str, status: int) -> None:
    """It keeps all of Python waiting, as PyDLL does."""
    code = (
        "import ctypes, time; from dkt_ros.ros import process; process._TAKING_APART_S = 0.2\n"
        f"with process.taking_apart(): ctypes.PyDLL(None).{takes}\n"
        "time.sleep(0.4)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (status, b"")


@pytest.fixture
def ending_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[DktNode]:
    """A node for run(), which ends it, ignores interrupts and freezes what may be garbage.

    Idle: of one that still loads, run() would end this process, and all tests with it.
    """

    def leave(status: int) -> None:
        raise AssertionError(f"the process of the tests would end with {status}")

    monkeypatch.setattr(ros_process, "leave", leave)
    handler = signal.getsignal(signal.SIGINT)
    rclpy.init(args=["--ros-args", "-p", "autostart:=false"])
    yield DktNode(Workshop())
    rclpy.try_shutdown()
    signal.signal(signal.SIGINT, handler)
    gc.unfreeze()


def test_nohup_keeps_a_node_whose_terminal_ends(ending_node: DktNode) -> None:
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    said: list[str] = []

    def live() -> None:
        if not said:
            os.kill(os.getpid(), signal.SIGHUP)
        said.append("alive")
        if len(said) == 3:
            ending_node.context.shutdown()

    ending_node.create_timer(0.05, live)
    try:
        assert run(ending_node) == 0
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert len(said) == 3


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


def test_a_wrong_parameter_is_refused_at_the_door() -> None:
    rclpy.init(args=["--ros-args", "-p", "buffer_frames:=4"])
    try:
        with pytest.raises(DktError, match="buffer_frames is 4"):
            DktNode(Workshop())
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


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_what_an_interrupt_breaks_before_ros_is_shut_down_is_no_error(
    is_interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal raises in what rclpy converts a message with, which makes another error of it."""
    told = iter([True, True])
    monkeypatch.setattr(ros_process, "_HEARD_S", 30.0 if is_interrupted else 0.05)
    monkeypatch.setattr(ros_process, "_heed_no_more", lambda: None)
    monkeypatch.setattr(rclpy, "ok", lambda: next(told, not is_interrupted))
    error = RuntimeError("Unable to convert call argument '0' to Python object")
    with nullcontext() if is_interrupted else pytest.raises(RuntimeError), interruptible():
        raise error
