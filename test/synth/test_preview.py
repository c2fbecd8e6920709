"""Contact sheets: what is drawn, and what cannot be written is said before the work."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.training_scenes import write_scene

from dkt_ros.errors import DktError
from dkt_ros.synth import preview
from dkt_ros.synth.preview import write_contact_sheet


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    for name, frames in (("a", 1), ("b", 3)):
        write_scene(tmp_path / "scenes", name, frames)
    return tmp_path / "scenes"


@pytest.mark.parametrize("name", ["sheet.png", "new/sheet.JPG", "sheet.jpeg"])
def test_a_sheet_shows_first_and_last_frames(scenes: Path, tmp_path: Path, name: str) -> None:
    (scenes / "._a.tar").write_bytes(b"macOS")
    assert write_contact_sheet(scenes, tmp_path / name, 12) == 2
    sheet = cv2.imread(str(tmp_path / name))
    # Three strips of rgb, depth and mask in two columns; frames are 48x80.
    assert sheet.shape == (2 * 144, 2 * 3 * 240, 3)
    # The first tile is the picture: a grey table, brighter where the glass stands.
    assert np.ptp(sheet[20:120, 20:220].astype(int), axis=(0, 1)).min() > 50


@pytest.mark.parametrize("name", ["sheet", "sheet.xyz", "sheet.exr", ".png"])
def test_an_unknown_ending_is_refused_before_the_work(
    scenes: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(preview, "contact_sheet")
    with pytest.raises(DktError, match=r"cannot write .*; expected a name that ends in .png"):
        write_contact_sheet(scenes, tmp_path / name, 12)


def test_where_no_folder_can_be_made_is_refused_before_the_work(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(preview, "contact_sheet")
    (tmp_path / "file").write_text("")
    for parent in ("file", "file/deeper"):
        with pytest.raises(
            DktError, match=r"sheet.png: cannot be written: .* is a file, not a folder"
        ):
            write_contact_sheet(scenes, tmp_path / parent / "sheet.png", 12)


def test_more_columns_than_there_is_to_show_are_no_wider(scenes: Path, tmp_path: Path) -> None:
    assert write_contact_sheet(scenes, tmp_path / "sheet.png", 12, columns=10**20) == 2
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (144, 3 * 3 * 240, 3)


def test_what_cannot_be_written_is_told(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sheet.png").mkdir()
    with pytest.raises(DktError, match=r"sheet.png: cannot be written \(Is a directory\)"):
        write_contact_sheet(scenes, tmp_path / "sheet.png", 12)
    wide = np.zeros((1, 66240, 3), np.uint8)
    monkeypatch.setattr(preview, "contact_sheet", lambda *words: wide)
    with pytest.raises(DktError, match=r"cannot draw 66240x1 pixels into .*show fewer"):
        write_contact_sheet(scenes, tmp_path / "sheet.jpg", 12)
