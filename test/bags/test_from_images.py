"""Folders of pictures become frames: pairing, order, repetition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.recorded_frames import known

from dkt_ros.bags.from_images import ImageFolder, read_frames
from dkt_ros.bags.reader import BagReader
from dkt_ros.cli import main
from dkt_ros.errors import DktError

PINHOLE = (10.0, 10.0, 3.0, 2.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
    for index in (2, 1, 10):
        cv2.imwrite(str(tmp_path / f"color/{index:04d}.jpg"), np.full((4, 6, 3), 20 * index))
        cv2.imwrite(
            str(tmp_path / f"depth/{index:04d}.png"), np.full((4, 6), 100 * index, np.uint16)
        )
        cv2.imwrite(str(tmp_path / f"{index:04d}-mask.png"), np.full((4, 6), 255, np.uint8))
    return tmp_path


def test_folders_pair_by_name_whatever_the_suffix(folder: Path) -> None:
    frames = list(read_frames(ImageFolder(folder, PINHOLE, rate_hz=5.0)))
    depths = [known(frame.frame.raw_depth)[0, 0] for frame in frames]
    np.testing.assert_allclose(depths, [0.1, 0.2, 1.0], rtol=1e-6)
    reds = [int(frame.frame.rgb[0, 0, 0]) for frame in frames]
    np.testing.assert_allclose(reds, [20, 40, 200], atol=4)
    assert frames[1].frame.stamp_ns - frames[0].frame.stamp_ns == 200_000_000
    assert frames[0].truth_depth is None


def test_patterns_in_one_folder_and_repetition(folder: Path) -> None:
    source = ImageFolder(
        folder,
        PINHOLE,
        color="color/*.jpg",
        depth="depth/*.png",
        truth="depth/*.png",
        mask="*-mask.png",
        repeat=2,
        gap_s=5.0,
    )
    frames = list(read_frames(source))
    assert [round(known(f.frame.raw_depth)[0, 0] * 10) for f in frames] == [1, 1, 2, 2, 10, 10]
    steps = np.diff([f.frame.stamp_ns for f in frames]) / 1e9
    np.testing.assert_allclose(steps, [0.1, 5.1, 0.1, 5.1, 0.1])
    assert all((known(f.mask) == 1).all() for f in frames)
    np.testing.assert_array_equal(known(frames[0].truth_depth), known(frames[0].frame.raw_depth))


def test_colour_alone_will_do(folder: Path) -> None:
    frames = list(read_frames(ImageFolder(folder, PINHOLE, depth=None)))
    assert [f.frame.raw_depth for f in frames] == [None] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": "rgb/*"}, "no file matches 'rgb/"),
        ({"color": "color/0001.jpg"}, "exactly one"),
        ({"repeat": 0}, "repeat is 0"),
        ({"gap_s": -1.0}, "gap is -1"),
        ({"metres_per_unit": 0.0}, "depth scale"),
        ({"rate_hz": -1.0}, "rate is -1"),
    ],
)
def test_wrong_options_are_named(folder: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DktError, match=words):
        list(read_frames(ImageFolder(folder, PINHOLE, **change)))


def test_a_missing_partner_is_named(folder: Path) -> None:
    (folder / "depth/0002.png").unlink()
    with pytest.raises(DktError, match=r"1 of 3 colour pictures have no depth.*0002\.jpg"):
        list(read_frames(ImageFolder(folder, PINHOLE)))


def test_depth_of_another_size_is_refused(folder: Path) -> None:
    cv2.imwrite(str(folder / "depth/0001.png"), np.ones((8, 12), np.uint16))
    with pytest.raises(DktError, match="registered"):
        list(read_frames(ImageFolder(folder, PINHOLE)))


@pytest.fixture
def dkt(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], int]:
    """The `dkt` command with this room alone: the others have tests of their own."""
    monkeypatch.setattr("dkt_ros.cli._ROOMS", ("dkt_ros.bags.commands",))
    return main


def test_the_command_line_makes_and_lists_a_bag(
    folder: Path, capsys: pytest.CaptureFixture[str], dkt: Callable[[Sequence[str]], int]
) -> None:
    bag = folder / "bag"
    command = ["bag", "from-images", str(folder), "--pinhole", "10", "10", "3", "2"]
    command += ["--mask", "*-mask.png", "--output", str(bag), "--rate", "4"]
    command += ["--depth-topic", "/d", "--depth-encoding", "16UC1", "--storage", "sqlite3"]
    assert dkt(command) == 0
    assert dkt(["bag", "info", str(bag)]) == 0
    output = capsys.readouterr().out
    assert "3 frames" in output
    assert "/d  sensor_msgs/msg/Image  3 messages" in output
    with BagReader(bag) as reader:
        assert reader.end_ns - reader.start_ns == 500_000_000
        assert "/truth/mask/compressed" in reader.topics
    assert dkt(command) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_real_scenes_become_a_bag(
    shared_folder: Path, tmp_path: Path, dkt: Callable[[Sequence[str]], int]
) -> None:
    source = shared_folder / "cleargrasp_d435"
    command = ["bag", "from-images", str(source), "--output", str(tmp_path / "bag")]
    command += ["--color", "*-transparent-rgb-img.jpg", "--depth", "*-transparent-depth-img.exr"]
    command += ["--truth", "*-opaque-depth-img.exr", "--mask", "*-mask.png"]
    command += ["--intrinsics", str(source / "camera_intrinsics.yaml")]
    assert dkt(command) == 0
    with BagReader(tmp_path / "bag") as bag:
        assert {topic.count for topic in bag.topics.values()} == {2}
        assert len(bag.topics) == 5
