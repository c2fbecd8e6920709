"""That code and weights which an output depends on are told apart from others."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from dkt_ros.processing import maker
from dkt_ros.processing.maker import code_state, kept_state, state_of_files


def test_code_and_weights_tell_and_what_stands_apart_does_not(tmp_path: Path) -> None:
    names = ("estimator.py", "fusion/fuse.py", "assets/fusion/refiner.bin", "ros/node.py")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    before = state_of_files(tmp_path)
    (tmp_path / "ros/node.py").write_text("2")
    (tmp_path / "fusion/fuse.pyc").write_text("2")
    (tmp_path / "estimator.py").write_text('"""Estimates."""\n1  # frame at a time')
    assert state_of_files(tmp_path) == before
    for name in names[:3]:
        (tmp_path / name).write_text("2")
        assert state_of_files(tmp_path) != before
        (tmp_path / name).write_text("1")
        assert state_of_files(tmp_path) == before


def test_the_state_of_code_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second, and each process that works wants it."""
    made: list[str] = []

    def state(package: Path) -> str:
        made.append(state_of_files(package))
        return made[-1]

    monkeypatch.setattr(maker, "state_of_files", state)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "package"
    package.mkdir()
    (package / "fuse.py").write_text("1")
    assert kept_state(package) == kept_state(package) == made[0]
    (package / "fuse.py").write_text("2")
    assert kept_state(package) == kept_state(package) == made[1] != made[0]
    (package / "fuse.py").write_text("2  # frames")
    assert kept_state(package) == made[1]
    monkeypatch.setattr("sys.version", "4.0")
    assert [kept_state(package), len(made)] == [made[3], 4]
    (kept,) = (tmp_path / "cache/dkt_ros/code").iterdir()
    for broken in ("", "damaged"):
        kept.write_text(broken)
        assert kept_state(package) == kept_state(package) == made[1]
    assert len(made) == 6
    monkeypatch.setenv("XDG_CACHE_HOME", str(package / "fuse.py"))
    assert kept_state(package) == made[1], "where nothing can be kept it is made each time"


def test_another_version_of_a_library_that_computes_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_state()
    assert code_state.__wrapped__() == before
    monkeypatch.setattr(metadata, "version", lambda name: "2" if name == "torch" else "1")
    other = code_state.__wrapped__()
    monkeypatch.setattr(metadata, "version", lambda name: "1")
    assert len({before, other, code_state.__wrapped__()}) == 3
