"""Faults that nobody foresaw, inside a capture and a plan: told to whoever asked, and survived."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.srv", reason="needs the generated services: make build")

import rclpy
from dkt_ros.srv import CaptureDepth, PlanGrasps
from fixtures.waiting import PATIENCE_S, eventually
from fixtures.workshop import Workshop
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor

from dkt_ros.ros.capture import Captures
from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.params.planner_parameters import PlannerParameters
from dkt_ros.ros.planner import DktPlanner

pytestmark = pytest.mark.ros
AGAIN_S = 5.0
Call = Callable[[Any, str, Any], Any]


@pytest.fixture
def spun() -> Iterator[Callable[[Any], Call]]:
    """Spins a node in a thread, which ends if anything is raised there; calls its services."""
    rclpy.init()
    executor, caller = SingleThreadedExecutor(), rclpy.create_node("caller")
    executor.add_node(caller)
    nodes: list[Any] = [caller]
    raised: list[BaseException] = []
    clients: dict[str, Any] = {}

    def spin() -> None:
        try:
            executor.spin()
        except BaseException as error:  # noqa: BLE001 the test shows it
            raised.append(error)

    thread = threading.Thread(target=spin, daemon=True)

    def start(node: Any) -> Call:
        nodes.append(node)
        executor.add_node(node)
        thread.start()

        def call(kind: Any, name: str, request: Any) -> Any:
            if name not in clients:
                clients[name] = caller.create_client(kind, name)
            client = clients[name]
            assert client.wait_for_service(PATIENCE_S)
            # A server throws the answer to a client away that it has not discovered yet.
            futures, began = [client.call_async(request)], time.monotonic()
            while not any(future.done() for future in futures):
                assert not raised, raised
                elapsed_s = time.monotonic() - began
                assert elapsed_s < PATIENCE_S
                if elapsed_s > AGAIN_S * len(futures):
                    futures.append(client.call_async(request))
                time.sleep(0.01)
            return next(future for future in futures if future.done()).result()

        return call

    yield start
    executor.shutdown()
    thread.join(PATIENCE_S)
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("nobody foresaw this")


def test_a_plan_that_fails_is_answered_and_the_planner_lives_on(
    spun: Callable[[Any], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = DktPlanner()
    planner.autostart()

    async def capture() -> Any:
        return SimpleNamespace()

    monkeypatch.setattr(planner, "_capture", capture)
    monkeypatch.setattr(planner, "_plan", broken)
    call = spun(planner)
    for _ in range(2):
        answer = call(PlanGrasps, "dkt/plan_grasps", PlanGrasps.Request())
        assert answer.status == PlanGrasps.Response.FAILED
        assert answer.message == "planning failed: ZeroDivisionError: nobody foresaw this"
    assert "planning failed" in planner._complaints.latest()
    monkeypatch.undo()
    answer = call(PlanGrasps, "dkt/plan_grasps", PlanGrasps.Request())
    assert answer.status == PlanGrasps.Response.NO_DEPTH, "nobody serves dkt/capture_depth here"


def test_diagnostics_that_fail_are_told_and_the_node_lives_on(
    spun: Callable[[Any], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = DktNode(Workshop())
    monkeypatch.setattr(node, "_node_report", broken)
    monkeypatch.setattr(node._neighbours, "twins_trouble", broken)
    call = spun(node)
    causes = {"publish_diagnostics failed", "look failed"}
    eventually(lambda: causes <= node._complaints.latest().keys())
    for cause in causes:
        text, _ = node._complaints.latest()[cause]
        assert text == f"{cause}: ZeroDivisionError: nobody foresaw this"
    for _ in range(2):
        assert call(GetState, "dkt_node/get_state", GetState.Request()).current_state.id == 1


def test_a_capture_that_fails_is_answered_and_the_node_lives_on(
    spun: Callable[[Any], Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once where the answer is made, once in the inference thread, where a frame is collected."""
    node = ManagedNode("host", PlannerParameters)
    captures = Captures(node, lambda: None, broken)
    call = spun(node)
    request = CaptureDepth.Request(frames=1, timeout=0.1)
    # Nothing else wakes this node's executor.
    answer = call(CaptureDepth, "dkt/capture_depth", request)
    assert answer.status == CaptureDepth.Response.TIMEOUT
    monkeypatch.setattr(captures, "_fill", broken)
    for _ in range(2):
        answer = call(CaptureDepth, "dkt/capture_depth", request)
        assert answer.status == CaptureDepth.Response.FAILED
        assert answer.message == "the capture failed: ZeroDivisionError: nobody foresaw this"
    assert "capture failed" in node._complaints.latest()
    monkeypatch.undo()

    def offer() -> None:
        eventually(lambda: captures.is_wanted)
        # A result without an estimate: whatever is asked of it fails.
        captures.offer(SimpleNamespace(observation=SimpleNamespace(arrived_s=time.monotonic())))  # type: ignore[arg-type]

    thread = threading.Thread(target=offer)
    thread.start()
    request.timeout = PATIENCE_S
    answer = call(CaptureDepth, "dkt/capture_depth", request)
    thread.join(PATIENCE_S)
    assert answer.status == CaptureDepth.Response.FAILED
    assert "the capture failed: AttributeError" in answer.message
    request.timeout = 0.1
    answer = call(CaptureDepth, "dkt/capture_depth", request)
    assert answer.status == CaptureDepth.Response.TIMEOUT
    captures.close()


def test_results_kept_elsewhere_leave_the_page_as_it_is(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Of a trial with some of the faults, which says nothing of all the others."""
    monkeypatch.setattr(sys, "path", [str(repo_root), *sys.path])
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "ROS_STATIC_PEERS", "ROS_DOMAIN_ID"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # the benchmark sets them for itself
    run = importlib.import_module("benchmarks.faults.run")
    monkeypatch.setattr(run, "PAGE", tmp_path / "faults.md")
    other = tmp_path / "trial.json"
    other.write_bytes(run.RESULTS.read_bytes())
    monkeypatch.setattr(sys, "argv", ["run.py", "--table", "--results", str(other)])
    run.main()
    assert not run.PAGE.exists()
    page = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["run.py", "--table"])
    run.main()
    assert page.startswith(run.PAGE.read_text())
