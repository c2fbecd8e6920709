"""`dkt data check`: what it finds, what it says, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.commands import run

from dkt_ros.datasets import layout
from dkt_ros.datasets.check import Progress, check_dataset
from dkt_ros.datasets.commands import add_commands
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError


def check(*words: str | Path) -> int:
    return run(["data", "check", *words], add_commands)


def test_a_sound_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.clearpose_scene(tmp_path / "d/set1/scene1")
    trees.clearpose_scene(tmp_path / "d/set1/scene5", frames=4)
    assert check(tmp_path / "d", "--json", tmp_path / "report.json") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{tmp_path}/d: clearpose, 2 clips"
    assert out[-1] == "everything fits"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["kind"] == "clearpose"
    assert report["problems"] == []
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["clips"], train["frames"], train["checked"], train["bad_frames"]) == (1, 3, 3, 0)
    assert (test["clips"], test["frames"]) == (1, 4)
    pixels = 48 * 80
    assert train["unknown_share"] == pytest.approx(1 / pixels)
    assert train["transparent_share"] == pytest.approx(100 / pixels)
    assert train["raw_unknown_share"] == pytest.approx(101 / pixels)
    assert train["sizes"] == {"80x48": 3}
    depth = train["depth_m"]
    assert depth["min"] == pytest.approx(0.5, abs=1e-3)
    assert depth["median"] == pytest.approx(trees.true_depth(39.5), rel=0.01)
    assert depth["max"] == pytest.approx(trees.true_depth(79), abs=1e-3)
    row = next(line for line in out if line.startswith("train"))
    assert row.split()[:5] == ["train", "1", "3", "3", "0"]
    assert "0.500/" in row
    assert "2.6%" in row


def test_every_bad_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = tmp_path / "set1/scene1"
    trees.clearpose_scene(scene, frames=6)
    trees.truncate(scene / "000000-color.png")
    (scene / "000000-label.png").unlink()
    trees.write_picture(scene / "000001-label.png", np.zeros((20, 30), np.uint8))
    trees.write_picture(scene / "000002-depth_true.png", np.full((48, 80), 700, np.uint16))
    trees.write_picture(scene / "000003-color.png", np.zeros((48, 80, 3), np.uint8))
    for path in scene.glob("000004-*"):
        path.unlink()
    trees.truncate(scene / "metadata.mat")
    assert check(tmp_path, "--json", tmp_path / "report.json") == 1
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    expected = [
        f"{scene}: frame numbers go by 1, but not at 1 place,",
        f"{scene}/metadata.mat: not a readable MATLAB file",
        f"{scene}/000000-color.png: truncated picture",
        f"{scene}/000000-label.png: cannot be read (No such file",
        f"{scene}/000001-label.png: is 30x20, expected 80x48",
        f"{scene}/000002-depth_true.png: depth range of zero",
        f"{scene}: 000003: the picture is of one colour",
    ]
    assert len(report["problems"]) == len(expected)
    for problem, start in zip(report["problems"], expected, strict=True):
        assert problem.startswith(start)
        assert problem in out.splitlines()
    assert out.rstrip().endswith("7 problems")
    train = report["splits"]["train"]
    assert (train["frames"], train["checked"], train["bad_frames"]) == (5, 5, 3)


def test_nothing_but_the_report_is_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    path = tmp_path / "train/00001/0001_normal.exr"
    trees.write_grey_exr(path, np.random.default_rng(0).random((48, 80)))
    trees.truncate(path)
    assert check(tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"{path}: truncated or damaged EXR")
    assert [line.split()[0] for line in lines[2:]] == ["split", "train", "1"]


def test_bad_tars_are_counted(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    trees.truncate(tmp_path / "train/000000_materials.000000.tar")
    report = check_dataset(open_dataset(tmp_path))
    train = report.splits["train"]
    assert (train.clips, train.bad_clips, train.frames, train.checked) == (1, 1, 0, 0)
    assert report.splits["test"].checked == 3
    (problem,) = report.problems
    assert problem.startswith(f"{tmp_path}/train/000000_materials.000000.tar: ")


@pytest.mark.parametrize("sample", [None, 5])
def test_a_video_of_two_sizes(tmp_path: Path, sample: int | None) -> None:
    scene = tmp_path / "set1/scene1"
    trees.clearpose_scene(scene, frames=5)
    for index in (2, 4):
        for path in scene.glob(f"{index:06d}-*.png"):
            picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            trees.write_picture(
                path, picture[:40, ..., ::-1] if picture.ndim == 3 else picture[:40]
            )
    report = check_dataset(open_dataset(tmp_path), sample=sample)
    assert report.problems == [
        f"{scene}: frame 000002 is 80x40, those before it 80x48; expected one size in a video"
    ]
    assert report.splits["train"].bad_frames == 0


def test_odd_but_harmless_files_are_reported_too(tmp_path: Path) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    depth = trees.scene().depth
    depth[3, 4] = np.nan
    path = tmp_path / "train/00001/0001_depth_120.exr"
    trees.write_grey_exr(path, depth)
    report = check_dataset(open_dataset(tmp_path))
    assert report.problems == [f"{path}: 1 of 3840 pixels are NaN; read as unknown"]
    assert report.splits["train"].bad_frames == 0


def test_a_file_shared_by_clips_is_named_once(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    (tmp_path / "scene1/metadata.json").write_text("{")
    report = check_dataset(open_dataset(tmp_path))
    assert len(report.problems) == 1


def test_a_sample_is_random_but_always_the_same(tmp_path: Path) -> None:
    for number in range(1, 4):
        trees.clearpose_scene(tmp_path / f"set{number}/scene1", frames=8)
    for path in tmp_path.rglob("*-color.png"):
        path.unlink()  # so that each frame read is named
    reports = [check_dataset(open_dataset(tmp_path), sample=7) for _ in range(2)]
    assert reports[0].problems == reports[1].problems
    assert sum(split.checked for split in reports[0].splits.values()) == 7
    assert sum(split.frames for split in reports[0].splits.values()) == 24
    scenes = {problem.split("/scene1/")[0] for problem in reports[0].problems}
    assert len(scenes) > 1
    assert len(set(reports[0].problems)) == 7


def test_a_sample_larger_than_the_set_is_the_set(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "train/a")
    report = check_dataset(open_dataset(tmp_path), sample=1000)
    assert report.splits["train"].checked == 2


def test_more_threads_report_the_same(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set1/scene1", frames=12)
    for key in ("000003", "000007", "000011"):
        trees.truncate(tmp_path / f"set1/scene1/{key}-color.png")
    reports = [check_dataset(open_dataset(tmp_path), workers=n).as_json() for n in (1, 4)]
    assert reports[0] == reports[1]
    assert len(reports[0]["problems"]) == 3


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    seen: list[Progress] = []
    check_dataset(open_dataset(tmp_path), on_progress=seen.append)
    assert seen[-1] == Progress(clips=2, all_clips=2, frames=6, all_frames=6)
    assert [progress.frames for progress in seen] == sorted(progress.frames for progress in seen)


def test_no_data_set_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="holds no data set"):
        check(tmp_path)


def test_a_report_that_cannot_be_written_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.hiss_folder(tmp_path / "train/a")
    monkeypatch.setattr("dkt_ros.datasets.check.check_dataset", None)
    (tmp_path / "file").touch()
    with pytest.raises(DktError, match=r"file/r\.json: cannot be written"):
        check(tmp_path, "--json", tmp_path / "file/r.json")


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_counts_are_checked(tmp_path: Path, count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check(tmp_path, f"--sample={count}")
    assert "is no integer of at least 1" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("scene1", "scene2"):
        trees.clearpose_scene(tmp_path / "set1" / name)
    listed = layout.list_folder

    def refuses(path: Path) -> tuple[list[str], list[str]]:
        if path.name == "scene2":
            raise DktError(f"{path}: cannot be listed (Permission denied)")
        return listed(path)

    monkeypatch.setattr(layout, "list_folder", refuses)
    assert check(tmp_path) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{tmp_path}: clearpose, 1 clip"
    assert out[1] == f"{tmp_path}/set1/scene2: cannot be listed (Permission denied)"
    assert f"passed over: {tmp_path}/set1/scene2: cannot be listed" in caplog.text
    with pytest.raises(DktError, match="cannot be listed"):
        open_dataset(tmp_path / "set1/scene2")
