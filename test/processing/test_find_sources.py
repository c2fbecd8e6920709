"""Which recordings are found where, and how they are called."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fixtures.dataset_trees import copy_from_a_mac
from fixtures.opened_sources import NONE, PINHOLE, opened, refused, shots
from fixtures.recorded_frames import HEIGHT, WIDTH, write_video

from dkt_ros.bags.writer import BagWriter
from dkt_ros.errors import DktError
from dkt_ros.processing.find_sources import check_concerned, find_recordings
from dkt_ros.processing.outcome import Outcome
from dkt_ros.processing.source import SourceOptions


def names(*given: Path | str) -> list[str]:
    """Of the recordings that are found there."""
    return [recording.name for recording in find_recordings(given, NONE)]


def test_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "text.bag").write_text("hello")
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "folder").mkdir()
    for name in ("absent.bag", "text.bag", "empty.mcap", "folder"):
        assert refused(tmp_path / name).outcome is Outcome.NOT_A_RECORDING
    with BagWriter(tmp_path / "silent") as writer:
        assert writer
    assert refused(tmp_path / "silent").outcome is Outcome.EMPTY
    with pytest.raises(DktError, match="nothing matches"):
        names(tmp_path / "*.nothing")


def test_what_a_mac_leaves_beside_files_is_no_recording(
    tmp_path: Path, pictures: Path, bag: Path
) -> None:
    copy = Path(shutil.copytree(bag, tmp_path / "bag"))
    copy_from_a_mac(tmp_path)
    assert opened(pictures).total == len(shots(opened(pictures))) == 3
    (copy / "metadata.yaml").unlink()
    assert len(shots(opened(copy))) == 7
    lone = next(file for file in copy.iterdir() if file.suffix == ".mcap" and file.name[0] != ".")
    for day in ("monday", "tuesday"):
        shutil.copy(lone, tmp_path / f"{day}.mcap")
    copy_from_a_mac(tmp_path)
    assert names(tmp_path)[-2:] == ["monday", "tuesday"]


def test_a_folder_of_arrays_and_what_lies_beside_bags(
    tmp_path: Path, bag: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("2", "10"):
        np.savez(tmp_path / f"{name}.npz", rgb=np.zeros((2, 4, 6, 3), np.uint8))
    np.savez(tmp_path / "10_depth.npz", depth=np.ones(3))  # of 10, or anything
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    assert names(tmp_path) == ["2", "10", "damaged"]
    assert not caplog.records
    shutil.copytree(bag, tmp_path / "bag")
    assert names(tmp_path) == ["bag"]
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path}: 2.npz, 10.npz, damaged.npz: passed over beside bags; ")


def test_depth_beside_a_video_is_the_video_s(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", np.zeros((2, HEIGHT, WIDTH, 3), np.uint8), "mp4v")
    np.save(tmp_path / "clip_depth.npy", np.ones((2, HEIGHT, WIDTH), np.float32))
    (found,) = find_recordings([tmp_path], PINHOLE)
    assert len(shots(found.open(PINHOLE))) == 2


def test_videos_as_other_cameras_call_them(tmp_path: Path) -> None:
    found = ["CLIP.MTS", "clip.3gp", "clip.mpg", "clip.ts", "clip.wmv"]
    for name in found:
        (tmp_path / name).touch()
    assert sorted(one.path.name for one in find_recordings([tmp_path], NONE)) == found
    path = write_video(tmp_path / "clip.ts", np.zeros((6, HEIGHT, WIDTH, 3), np.uint8), "MPG2")
    np.save(path.with_suffix(".npy"), np.ones((6, HEIGHT, WIDTH), np.float32))
    assert len(shots(opened(path, PINHOLE))) == 6


def test_home_and_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pictures.parent))
    monkeypatch.chdir(pictures)
    for given in ("~/pictures", "~/pic*"):
        assert [one.path for one in find_recordings([given], NONE)] == [pictures]
    with pytest.raises(DktError, match="is a variable unset"):
        names("")


def test_names_differ(tmp_path: Path, bag: Path) -> None:
    for day in ("monday", "tuesday"):
        shutil.copytree(bag, tmp_path / day / "bag")
    assert names(tmp_path / "monday", tmp_path / "*" / "bag") == ["monday-bag", "tuesday-bag"]
    files = [tmp_path / name for name in ("bag.db3", "bag.mcap", "bag-db3.bag")]
    for file in files:
        file.touch()
    assert names(tmp_path / "bag.*") == ["bag-db3", "bag-mcap"]
    found = names(*files)  # of which two have one name, joined with a dash
    assert len(set(found)) == 3
    assert found[1] == "bag-mcap"
    assert names(*files[::-1]) == found[::-1]


def test_recordings_in_place_of_the_output_are_recordings(
    tmp_path: Path, bag: Path, pictures: Path
) -> None:
    """That the output cannot be there is told later; left out they would not be missed."""
    for output in (bag, pictures):
        found = find_recordings([bag, pictures], NONE, output)
        assert [one.path for one in found] == [bag, pictures]


def test_dots_in_names_and_two_ways_to_one(tmp_path: Path) -> None:
    for name in ("12.30.bag", "12.31.bag", "a.mcap", "a.mcap.zstd"):
        (tmp_path / name).touch()
    (tmp_path / "link.bag").symlink_to(tmp_path / "12.30.bag")
    assert names(tmp_path) == ["12.30", "12.31", "a-mcap", "a-mcap-zstd"]


def test_thousands_of_clips_do_not_ask_the_disk_for_each_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(60):
        (tmp_path / f"{index}.mcap").touch()
    asked, resolve = 0, Path.resolve

    def counted(path: Path, strict: bool = False) -> Path:
        nonlocal asked
        asked += 1
        return resolve(path, strict)

    monkeypatch.setattr(Path, "resolve", counted)
    assert names(tmp_path) == [str(index) for index in range(60)]
    assert asked < 10 * 60


def test_bags_beside_each_other_are_not_one(tmp_path: Path, bag: Path) -> None:
    (file,) = bag.glob("*.mcap")

    def beside(*stems: str) -> list[Path]:
        folder = tmp_path / stems[0]
        folder.mkdir()
        for stem in stems:
            shutil.copy(file, folder / f"{stem}.mcap")
        return [one.path.relative_to(folder) for one in find_recordings([folder], NONE)]

    assert beside("monday", "tuesday") == [Path("monday.mcap"), Path("tuesday.mcap")]
    assert beside("0", "1") == [Path("0.mcap"), Path("1.mcap")]
    assert beside("day_0", "day_1") == [Path()], "parts of one"
    assert beside("take_1", "take_2") == [Path("take_1.mcap"), Path("take_2.mcap")]


def test_what_may_not_be_read_costs_itself_alone(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    listed = Path.iterdir

    def list_others(folder: Path) -> Iterator[Path]:
        if folder == private:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", list_others)
    assert names(private, bag) == ["private", "scene"]
    error = refused(private)
    assert error.outcome is Outcome.NOT_A_RECORDING
    assert str(error) == f"{private}: Permission denied"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DktError, match="loop: is a link to itself"):
        names(tmp_path / "loop")


def test_options_that_count_for_none_of_the_recordings_are_refused(
    bag: Path, pictures: Path, tmp_path: Path
) -> None:
    both = find_recordings([bag, pictures], NONE)
    for options, of_a_bag, of_pictures in (
        (SourceOptions(split="test"), False, False),
        (SourceOptions(kind="hiss"), False, False),
        (SourceOptions(color="color/*"), False, True),
        (SourceOptions(depth="depth/*"), False, True),
        (SourceOptions(topics={"depth": "/depth"}), True, False),
        (NONE, True, True),
    ):
        for recordings, counts in ((both[:1], of_a_bag), (both[1:], of_pictures)):
            if counts:
                check_concerned(recordings, options)
                check_concerned(both, options)
            else:
                with pytest.raises(DktError, match="none is given"):
                    check_concerned(recordings, options)
    check_concerned(find_recordings([tmp_path / "absent"], NONE), SourceOptions(split="test"))
