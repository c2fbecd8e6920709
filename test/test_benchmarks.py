"""The scripts of benchmarks/ where what they measure is not there: a line, and no table."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs rclpy")
pytest.importorskip("accelerate", reason="needs what trains")

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("consistency", ["--heldout", "{none}"], "{none} is not a folder"),
        ("engine", ["--checkpoint", "{none}"], "checkpoint {none} does not exist"),
        ("fusion", ["--heldout", "{none}"], "{none} is not a folder"),
        ("live_drift", ["--checkpoint", "{none}"], "checkpoint {none} does not exist"),
        ("robustness", ["{none}"], "{none}: no sequences (*.tar) in it"),
        ("robustness", ["{tars}", "--checkpoint", "dkt-nano"], "expected NAME=DIR"),
        ("sensor", ["{none}"], "{none}: cannot be read"),
        ("training", ["--checkpoint", "{none}"], "checkpoint {none} does not exist"),
    ],
)
def test_what_is_missing_is_told_at_once(
    script: str,
    words: list[str],
    said: str,
    repo_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"none": tmp_path / "none", "tars": repo_root / "test/data/heldout"}
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *(word.format(**names) for word in words)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(repo_root / "benchmarks" / f"{script}.py"), run_name="__main__")
    assert str(ended.value.code).startswith(f"{script}.py: ")
    assert said.format(**names) in str(ended.value.code)
    assert capsys.readouterr().out == ""
