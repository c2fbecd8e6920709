"""docs/tutorial.md, run cell by cell as a notebook would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def test_the_tutorial_goes_from_a_bag_to_a_figure(
    repo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jupytext = pytest.importorskip("jupytext", reason="needs jupytext")
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = jupytext.read(repo_root / "docs" / "tutorial.md")
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == 6
    known: dict[str, Any] = {}
    for number, source in enumerate(cells):
        exec(compile(source, f"docs/tutorial.md, cell {number}", "exec"), known)
    said = capsys.readouterr().out
    assert said.count("the same as from the bag: True") == 2
    raw, dkt = known["errors"]["raw"], known["errors"]["DKT"]
    assert dkt.coverage > raw.coverage
    assert dkt.rel < raw.rel
    picture = cv2.imread(str(tmp_path / "figure.png"))
    assert picture is not None
    assert picture.shape[1] == 1800
    assert len(np.unique(picture)) > 50
