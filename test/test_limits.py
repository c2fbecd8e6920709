"""A run of tests in which much is broken ends soon and says why; see conftest.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_rerunfailures", reason="needs pytest-rerunfailures")

TESTS = """
import threading
import pytest

tries = dict.fromkeys(("rig", "busy", "broken"), 0)

@pytest.fixture(scope="module")
def rig():
    tries["rig"] += 1
    raise RuntimeError("the node does not start")

@pytest.mark.flaky(reruns=2)
def test_passes_when_tried_again():
    tries["busy"] += 1
    assert tries["busy"] == 2

@pytest.mark.flaky(reruns=2)
@pytest.mark.parametrize("number", range(3))
def test_with_the_rig(rig, number):
    pass

@pytest.mark.flaky(reruns=2)
def test_broken():
    tries["broken"] += 1
    raise AssertionError

def test_hangs():
    try:
        threading.Event().wait()
    except Exception:
        pass

def test_tries():
    assert tries == {"rig": 2, "busy": 2, "broken": 1}
"""
LIMIT_S = 2.0  # a busy machine's, too, for what takes milliseconds


def test_what_is_broken_ends_soon(repo_root: Path, tmp_path: Path) -> None:
    conftest = (repo_root / "test/conftest.py").read_text()
    conftest, count = re.subn(r"(?m)^PHASE_LIMIT_S = .*", f"PHASE_LIMIT_S = {LIMIT_S}", conftest)
    assert count == 1
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_much.py").write_text(TESTS)
    plugins = ("no:cacheprovider", "no:xdist", "no:hypothesispytest", "no:pytest_cov")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-rfEpR", "-c", "/dev/null", "--rootdir", tmp_path),
            *(word for plugin in plugins for word in ("-p", plugin)),
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = re.findall(r"(?m)^(PASSED|FAILED|ERROR|RERUN) \S*::(\S+)", ended.stdout)
    assert set(said) == {
        ("ERROR", "test_with_the_rig[0]"),
        ("ERROR", "test_with_the_rig[1]"),
        ("ERROR", "test_with_the_rig[2]"),
        ("FAILED", "test_broken"),
        ("FAILED", "test_hangs"),
        ("PASSED", "test_passes_when_tried_again"),
        ("PASSED", "test_tries"),
        ("RERUN", "test_passes_when_tried_again"),
        ("RERUN", "test_with_the_rig[0]"),
    }, ended.stdout
    assert "has failed twice: RuntimeError: the node does not start" in ended.stdout
    assert f"not done within {LIMIT_S:g} s" in ended.stdout
    assert "in test_hangs" in ended.stderr
