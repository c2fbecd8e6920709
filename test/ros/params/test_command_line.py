"""`dkt_node --help` tells how to start it instead of starting it; odd words are refused."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy

from dkt_ros.programs import MODULES
from dkt_ros.ros import process
from dkt_ros.ros.camera import main
from dkt_ros.ros.managed_node import ManagedNode
from dkt_ros.ros.params.command_line import split_ros_args
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.params.spec import specs
from dkt_ros.ros.process import run_main
from dkt_ros.ros.ros_arguments import init

pytestmark = pytest.mark.ros

ENDS_WITH_A_SLASH = (
    "invalid node namespace"  # for which Jazzy's rcl gives another reason
    if os.environ.get("ROS_DISTRO") == "jazzy"
    else "namespace must not end with a '/'"
)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--ros-args", "-p", "a:=1", "--", "-h"]])
def test_help_is_printed_and_nothing_started(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert not rclpy.ok()
    said = capsys.readouterr().out
    assert "ros2 launch dkt_ros grasp.launch.py" in said
    assert "depth/image" in said
    missing = [name for name in specs(NodeParameters) if f"  {name}:=" not in said]
    assert missing == []


def test_words_that_ros_would_pass_over_in_silence_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["device:=cuda", "--ros-args", "-p", "max_depth_m:=2.0"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "unrecognized arguments: device:=cuda" in said
    assert "--ros-args [-p PARAMETER:=VALUE" in said


def test_ros_arguments_end_at_two_dashes_or_at_the_end() -> None:
    words = ["BAG", "--ros-args", "-r", "/a:=/b", "--", "--loop", "--ros-args", "-p", "rate:=2"]
    assert split_ros_args(words) == (["BAG", "--loop"], ["-r", "/a:=/b", "-p", "rate:=2"])
    assert split_ros_args(["--", "-odd.bag"]) == (["--", "-odd.bag"], [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--log-level", "verbose"], "valid severity level"),
        (["--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
        (["-r", "color/image:=a b"], "remap rule"),
        (["-r", "__ns:=/left/"], ENDS_WITH_A_SLASH),
        (["-p", "use_sim_time:='yes'"], "'use_sim_time' to 'yes' of type 'STRING', expecting"),
    ],
)
def test_wrong_ros_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["--ros-args", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    [line] = [line for line in lines if line.startswith("dkt_node: wrong ROS arguments")]
    assert said in line
    assert ", at " not in line


def test_a_wrong_parameter_ends_the_start_with_one_clear_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["--ros-args", "-p", "max_gap_s:=3"]) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "parameter max_gap_s is 3, expected a value of type float (write 1.0, not 1)" in line
    assert not rclpy.ok()


@pytest.mark.parametrize(
    ("section", "remapped", "said"),
    [
        ("dkt_node", "__ns:=/left", "sets nothing for /left/dkt_node: it has parameters for /dkt"),
        ("dkt_node", "__node:=glass", "sets nothing for /glass: it has parameters for /dkt_node"),
        ("/left/dkt_node", "__ns:=/left", ""),
        ("/**", "__node:=glass", ""),
    ],
)
def test_a_parameter_file_for_other_nodes_is_told(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    section: str,
    remapped: str,
    said: str,
) -> None:
    """ROS reads it without a word, and the node would run with its defaults."""

    def run(*nodes: ManagedNode[Any]) -> int:
        return sum(not node.close() for node in nodes)

    monkeypatch.setattr(process, "run", run)
    path = tmp_path / "mine.yaml"
    path.write_text(f"{section}: {{ros__parameters: {{steps: 3}}}}")
    assert main(["--ros-args", "-r", remapped, "--params-file", str(path)]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "sets nothing" in line]
    assert len(told) == bool(said)
    assert all(f"--params-file {path} {said}" in line for line in told)


def the_line(said: str, told: str) -> str:
    """The only one with those words, and no traceback."""
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if told in line]
    return line


Refusal = Callable[..., str]


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """The line with those words in which a command ends, told that environment."""

    def found(command: str, told: str, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        name, *words = command.split()
        assert importlib.import_module(MODULES[name]).main(words) == 2
        return the_line(capfd.readouterr().err, told)

    return found


@pytest.mark.parametrize("command", ["dkt_planner", "dkt_replay bag", "dkt doctor --dds"])
def test_a_peer_that_does_not_exist_is_one_line_with_what_to_do(
    command: str, refusal: Refusal
) -> None:
    line = refusal(command, "no node can be made", ROS_STATIC_PEERS="256.1.1.1")
    assert "256.1.1.1; look at ROS_STATIC_PEERS, ROS_DOMAIN_ID and" in line


@pytest.mark.parametrize(
    ("command", "domain"),
    [("dkt_node", "233"), ("dkt_replay bag", "-1"), ("dkt doctor --dds", "one")],
)
def test_a_domain_that_there_is_not_is_one_line_with_what_to_do(
    command: str, domain: str, refusal: Refusal
) -> None:
    line = refusal(command, f"ROS_DOMAIN_ID is '{domain}'", ROS_DOMAIN_ID=domain)
    assert line.startswith(f"{command.partition(' ')[0]}")
    assert "expected a whole number from 0 to 232" in line


@pytest.mark.parametrize("command", ["dkt_replay bag", "dkt doctor --dds"])
def test_a_log_that_cannot_be_written_is_one_line_with_what_to_do(
    command: str, tmp_path: Path
) -> None:
    """In a process of its own: in this one rclpy has begun its log."""
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "log")
    name, *words = command.split()
    done = subprocess.run(
        [sys.executable, "-m", MODULES[name], *words],
        env=os.environ | {"ROS_LOG_DIR": folder},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    line = the_line(done.stderr, "no log can be written")
    assert f"'{folder}'" in line
    assert "set ROS_LOG_DIR to a folder that can be written" in line


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("context invalid")])
def test_an_interrupt_while_the_node_is_made_is_no_error(error: BaseException) -> None:
    def make() -> Any:
        rclpy.shutdown()  # as rclpy's own handler does
        raise error

    assert run_main("dkt_node", make, [], is_process=False) == 130
    assert not rclpy.ok()


def test_what_else_fails_while_the_node_is_made_is_raised() -> None:
    def make() -> Any:
        raise RuntimeError("surprise")

    with pytest.raises(RuntimeError, match="surprise"):
        run_main("dkt_node", make, [], is_process=False)


@pytest.mark.parametrize("given", [None, "SYNCHRONOUS"])
def test_fast_dds_publishes_beside_python_unless_the_user_says_how(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "RMW_FASTRTPS_PUBLICATION_MODE"
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    context = rclpy.Context()
    init([], context=context)
    rclpy.shutdown(context=context)
    assert os.environ[name] == (given or "ASYNCHRONOUS")
