"""benchmarks/sensor.py where it has nothing to show."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


def test_tars_of_another_sensor_are_named(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(repo_root)
    table = importlib.import_module("benchmarks.sensor")
    tar = repo_root / "test" / "data" / "heldout" / "frame.tar"
    with pytest.raises(SystemExit) as ended:
        table.main([str(tar), "--sensor", "d405"])
    assert ended.value.code == 2
    assert "no frame of the tars has raw depth of a d405" in capsys.readouterr().err
