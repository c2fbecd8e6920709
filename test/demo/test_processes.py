"""Children are watched, their failures shown, and none outlives the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fixtures.waiting import eventually

from demo.processes import ProcessGroup, heed_interrupts, local_dds_environment
from dkt_ros.errors import DktError

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "print('up', flush=True); time.sleep(60)",
]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_log_is_kept_and_the_environment_passed_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print('domain', os.environ['ROS_DOMAIN_ID'])"]
    with ProcessGroup(tmp_path, local_dds_environment(42)) as group:
        group.start("child", command)
        group.wait_for(lambda: group.has_ended("child"), "end", may_end=["child"], timeout_s=60)
    assert group.log_text("child") == "domain 42\n"
    assert (tmp_path / "child.log").is_file()


def test_a_failure_ends_the_wait_with_the_end_of_the_log(tmp_path: Path) -> None:
    fail = "import sys; [print('line', i) for i in range(100)]; sys.stdout.flush()\n"
    fail += "sys.stdout.buffer.write(bytes([255])); sys.exit(3)"
    with ProcessGroup(tmp_path, {}) as group:
        group.start("good", SLEEP)
        group.start("bad", [sys.executable, "-c", fail])
        with pytest.raises(DktError, match=r"bad ended with status 3") as caught:
            group.wait_for(lambda: False, "anything", timeout_s=60)
    assert "line 99" in str(caught.value)
    assert "line 10\n" not in str(caught.value)


def test_children_heed_interrupts_that_the_shell_has_made_their_parent_ignore(
    tmp_path: Path,
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ProcessGroup(tmp_path, {}) as group:
            group.start("child", SLEEP)
            group.wait_for(lambda: "up" in group.log_text("child"), "start", timeout_s=60)
            child = group._children["child"]
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in group.log_text("child")


def test_a_child_that_ends_early_is_a_failure_unless_it_may(tmp_path: Path) -> None:
    with ProcessGroup(tmp_path, {}) as group:
        group.start("brief", [sys.executable, "-c", "pass"])
        with pytest.raises(DktError, match="brief ended with status 0"):
            group.wait_for(lambda: False, "anything", timeout_s=60)
        with pytest.raises(DktError, match="no sign after 0 s"):
            group.wait_for(lambda: False, "sign", may_end=["brief"], timeout_s=0.3)


@pytest.mark.parametrize("command", [SLEEP, STUBBORN])
def test_leaving_the_block_ends_every_child(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.processes._STOP_TIMEOUT_S", 1.0)
    with ProcessGroup(tmp_path, {}) as group:
        for name in ("a", "b"):
            group.start(name, command)
        both = ("a", "b")
        group.wait_for(
            lambda: all("up" in group.log_text(name) for name in both), "start", timeout_s=60
        )
        pids = [group._children[name].pid for name in both]
    assert [is_gone(pid) for pid in pids] == [True, True]


def test_an_interrupt_at_the_terminal_reaches_the_children_in_order(tmp_path: Path) -> None:
    """The parent alone gets Ctrl-C; its children are gone when it is."""
    program = f"""
from pathlib import Path
from xml.etree import ElementTree
from demo.processes import ProcessGroup
with ProcessGroup(Path({str(tmp_path)!r}), {{}}) as group:
    group.start("child", {SLEEP!r})
    print(group._children["child"].pid, flush=True)
    group.wait_for(lambda: False, "anything", timeout_s=60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    eventually(lambda: "up" in (tmp_path / "child.log").read_text())
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert is_gone(child)


@pytest.mark.parametrize(
    ("distribution", "variable", "alone"),
    [
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE", "1"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE", "0"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE", "0"),
    ],
)
def test_fast_dds_gets_its_profile_under_the_name_it_looks_for(
    monkeypatch: pytest.MonkeyPatch, distribution: str, variable: str, alone: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    environment = local_dds_environment(1)
    assert environment["ROS_LOCALHOST_ONLY"] == alone, "which later ones know by another name"
    profile = ElementTree.parse(environment[variable])
    (segment,) = (node for node in profile.iter() if node.tag.endswith("segment_size"))
    # A few organised clouds at 1280x720, 32 bytes a point.
    assert int(segment.text or 0) > 2 * 1280 * 720 * 32
    addresses = [node.text for node in profile.iter() if node.tag.endswith("address")]
    assert addresses == ["127.0.0.1"]
