"""Finding out which data set a folder holds."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from fixtures import dataset_trees as trees

from dkt_ros.datasets.registry import KINDS, layout_of, open_dataset
from dkt_ros.errors import DktError
from dkt_ros.formats.tar_index import tar_index


@pytest.mark.parametrize("kind", KINDS)
def test_a_layout_is_found_by_its_kind(kind: str) -> None:
    assert layout_of(kind).kind == kind


def test_nothing_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DktError, match="holds no data set; looked for") as caught:
        open_dataset(tmp_path)
    for kind in KINDS:
        assert f"{kind}: " in str(caught.value)
    assert str(caught.value).endswith("recordings with the truth become one by `dkt pack`")


def test_what_is_still_packed_is_told(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path / "whole", splits=("train",))
    (tar,) = (tmp_path / "whole").rglob("*.tar")
    for name in ("a.tar.gz", "a.tar"):
        (tmp_path / name).write_bytes(gzip.compress(tar.read_bytes()))
    shutil.rmtree(tmp_path / "whole")
    with pytest.raises(DktError, match=r"can be read \(.*a\.tar: packed with gzip; unpack it\)"):
        open_dataset(tmp_path)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(
        DktError, match=r"holds no data set, but a\.tar\.gz, which is to be unpacked"
    ):
        open_dataset(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="nowhere: no such folder"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "scene.tar").touch()
    with pytest.raises(DktError, match=r"scene\.tar: is a file, expected a folder.*`dkt pack`"):
        open_dataset(tmp_path / "scene.tar")


def test_two_kinds_at_once_are_refused(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "hiss/train/scene")
    trees.transcg_tree(tmp_path / "transcg")
    with pytest.raises(DktError, match=r"hiss \(1 clip\), transcg \(4 clips\)"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, "hiss").kind == "hiss"
    assert len(open_dataset(tmp_path, "transcg")) == 4


def test_an_unknown_kind_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="no data set kind 'nyu'; known are transphy3d, clearpose"):
        open_dataset(tmp_path, "nyu")


def test_the_wrong_kind_finds_nothing(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "train/scene")
    with pytest.raises(DktError, match="looked for clearpose: setN/sceneM"):
        open_dataset(tmp_path, "clearpose")


def test_a_download_left_beside_its_files_is_no_sequence(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set1/scene1", frames=1)
    with tarfile.open(tmp_path / "set1.tar", "w") as tar:
        tar.add(tmp_path / "set1", "set1")
    assert open_dataset(tmp_path).kind == "clearpose"


def test_a_pipe_is_no_sequence_to_be_waited_for(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set1/scene1", frames=1)
    os.mkfifo(tmp_path / "set1.tar")
    assert len(open_dataset(tmp_path)) == 1
    with pytest.raises(DktError, match=r"set1\.tar is neither a file nor a folder"):
        tar_index(tmp_path / "set1.tar")


def test_a_damaged_tar_among_sound_ones_is_a_clip(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    (tmp_path / "train/000009.tar").write_bytes(b"")
    dataset = open_dataset(tmp_path)
    assert [clip.name for clip in dataset.select("train")] == [
        "train/000000_materials.000000",
        "train/000009",
    ]


def test_tars_that_are_all_damaged_need_the_kind(tmp_path: Path) -> None:
    (tmp_path / "000009.tar").write_bytes(b"\0" * 100)
    named = r"holds no data set that can be read \(.*/000009\.tar: not a readable"
    with pytest.raises(DktError, match=named):
        open_dataset(tmp_path)
    (clip,) = open_dataset(tmp_path, "transphy3d")
    assert (clip.name, clip.split) == ("000009", "all")


def test_whole_tars_of_something_else_are_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "notes.txt", "notes.txt")
    with pytest.raises(DktError, match="holds no data set; looked for"):
        open_dataset(tmp_path)


def test_one_split_by_itself_keeps_its_name(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    dataset = open_dataset(tmp_path / "test")
    assert dataset.splits == ("test",)
    assert dataset[0].name == "000001_materials.000000"


def test_a_split_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    dataset = open_dataset(tmp_path)
    with pytest.raises(DktError, match="no clip of split 'val'; found test, train"):
        dataset.select("val")
    assert dataset.select(None) == dataset.clips


def test_clips_come_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        trees.clearpose_scene(tmp_path / f"set2/scene{number}", frames=1)
    names = [clip.name for clip in open_dataset(tmp_path)]
    assert names == ["set2/scene1", "set2/scene2", "set2/scene10"]


def test_a_folder_below_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.hiss_folder(tmp_path / "sets/hiss/train/scene")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_dataset("~/sets/hiss").root == tmp_path / "sets/hiss"
