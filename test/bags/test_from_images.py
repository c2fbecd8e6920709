"""Folders of pictures become frames: pairing, order, repetition."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.recorded_frames import known

from dkt_ros.bags.from_images import ImageFolder, read_frames
from dkt_ros.bags.reader import BagReader, decoded
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.messages.pixels import depth_of

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


@pytest.fixture
def dkt(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], int]:
    """The `dkt` command with this room alone: the others have tests of their own."""
    monkeypatch.setattr("dkt_ros.cli._COMMANDS", ("dkt_ros.bags.commands",))
    return main


def test_folders_pair_by_name_whatever_the_suffix(folder: Path) -> None:
    frames = list(read_frames(ImageFolder(folder, PINHOLE, rate_hz=5.0)))
    depths = [known(frame.frame.raw_depth)[0, 0] for frame in frames]
    np.testing.assert_allclose(depths, [0.1, 0.2, 1.0], rtol=1e-6)
    reds = [int(frame.frame.rgb[0, 0, 0]) for frame in frames]
    np.testing.assert_allclose(reds, [20, 40, 200], atol=4)
    assert frames[1].frame.stamp_ns - frames[0].frame.stamp_ns == 200_000_000
    assert frames[0].truth is None


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
    for unit_m in (0.001, 0.002):
        first = next(read_frames(replace(source, metres_per_unit=unit_m)))
        assert known(first.truth)[0, 0] == pytest.approx(100 * unit_m)
        np.testing.assert_array_equal(known(first.truth), known(first.frame.raw_depth))


def test_colour_alone_will_do(folder: Path) -> None:
    frames = list(read_frames(ImageFolder(folder, PINHOLE, depth=None)))
    assert [f.frame.raw_depth for f in frames] == [None] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": "rgb/*"}, "no file matches 'rgb/"),
        ({"color": "color/0001.jpg"}, "1 of 1 colour pictures have no depth"),
        ({"repeat": 0}, "repeat is 0"),
        ({"gap_s": -1.0}, "gap is -1"),
        ({"metres_per_unit": 0.0}, "depth scale"),
        ({"rate_hz": -1.0}, "rate is -1"),
        ({"gap_s": 1e9}, "stamped 2.7e.09 s, expected below"),
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
    cv2.imwrite(str(folder / "depth/0001.png"), np.full((8, 12), 1000, np.uint16))
    with pytest.raises(DktError, match="registered"):
        list(read_frames(ImageFolder(folder, PINHOLE)))


def test_suffixes_mix_scenes_have_intrinsics_and_one_file_needs_no_star(tmp_path: Path) -> None:
    for scene, suffix, fx in (("a", "png", 10), ("b", "jpg", 20)):
        (tmp_path / scene).mkdir()
        cv2.imwrite(str(tmp_path / scene / f"rgb.{suffix}"), np.full((4, 6, 3), 100))
        np.save(tmp_path / scene / "depth.npy", np.full((4, 6), 0.5, np.float32))
        np.savetxt(tmp_path / scene / "K.txt", [[fx, 0, 3], [0, fx, 2], [0, 0, 1]])
    source = ImageFolder(tmp_path, "*/K.txt", color="*/rgb.*", depth="*/depth.npy")
    frames = list(read_frames(source))
    assert [f.frame.intrinsics.fx for f in frames] == [10, 20]
    assert [known(f.frame.raw_depth)[0, 0] for f in frames] == [0.5, 0.5]
    one = ImageFolder(tmp_path, PINHOLE, color="a/rgb.png", depth="b/depth.npy")
    assert len(list(read_frames(one))) == 1
    (tmp_path / "b/K.txt").unlink()
    with pytest.raises(DktError, match=r"no file of '\*/K\.txt' for picture b"):
        list(read_frames(source))
    cv2.imwrite(str(tmp_path / "a/rgb.jpg"), np.zeros((4, 6, 3)))
    with pytest.raises(DktError, match=r"rgb\.jpg and rgb\.png both match"):
        list(read_frames(source))


def test_videos_below_scenes_take_their_scenes_intrinsics(tmp_path: Path) -> None:
    for scene in ("a", "b"):
        (tmp_path / scene / "rgb").mkdir(parents=True)
        for index in range(2):
            cv2.imwrite(str(tmp_path / scene / f"rgb/{index}.png"), np.zeros((4, 6, 3)))
        np.savetxt(tmp_path / scene / "K.txt", [10 + (scene == "b"), 10, 3, 2])
    frames = read_frames(ImageFolder(tmp_path, "*/K.txt", color="*/rgb/*", depth=None))
    assert [f.frame.intrinsics.fx for f in frames] == [10, 10, 11, 11]


def test_each_scenes_calibration_tells_the_unit_of_its_depth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dkt: Callable[[Sequence[str]], int]
) -> None:
    """As in BOP's data sets, and for each picture of one scene."""
    for scene, scales in (("1", (1.0, 1.0)), ("2", (0.1, 0.1)), ("3", (1.0, 0.1))):
        for role, picture in (
            ("rgb", np.full((4, 6, 3), 100, np.uint8)),
            ("depth", np.full((4, 6), 8000, np.uint16)),
        ):
            (tmp_path / scene / role).mkdir(parents=True)
            for index in range(2):
                cv2.imwrite(str(tmp_path / scene / role / f"{index:06}.png"), picture)
        cameras = {
            str(index): {"cam_K": [10, 0, 3, 0, 10, 2, 0, 0, 1], "depth_scale": scale}
            for index, scale in enumerate(scales)
        }
        (tmp_path / scene / "scene_camera.json").write_text(json.dumps(cameras))
    source = ImageFolder(tmp_path, "*/scene_camera.json", color="*/rgb/*", depth="*/depth/*")
    remarks: list[str] = []
    frames = list(read_frames(source, remarks))
    depths = [known(f.frame.raw_depth)[0, 0] for f in frames]
    assert depths == pytest.approx([8, 8, 0.8, 0.8, 8, 0.8])
    assert len(remarks) == 1
    assert remarks[0].endswith(f"taken for 0.0001 m; {tmp_path}/2/scene_camera.json says 0.0001")
    given = replace(source, override_unit=True)
    assert {known(f.frame.raw_depth)[0, 0] for f in read_frames(given)} == {8.0}
    command = ["bag", "from-images", str(tmp_path), "--intrinsics", "*/scene_camera.json"]
    command += ["--color", "*/rgb/*", "--depth", "*/depth/*", "--output", str(tmp_path / "bag")]
    assert dkt(command) == 0
    assert "steps of 0.1 mm are rounded" in capsys.readouterr().err
    command[-1:] = [str(tmp_path / "given"), "--depth-scale", "0.001"]
    assert dkt(command) == 0
    assert "rounded" not in capsys.readouterr().err
    with BagReader(tmp_path / "given") as bag:
        topic = "/camera/camera/aligned_depth_to_color/image_raw/compressedDepth"
        depths = [depth_of(decoded(message)) for message in bag.messages([topic])]
    assert {float(depth[0, 0]) for depth in depths} == {8.0}


@pytest.mark.parametrize(
    ("color", "depth", "expected"),
    [
        ("**/rgb/*", "**/depth/*", [1, 2, 3]),
        ("**/rgb/*.png", "**/depth/???.png", [1, 2, 3]),
        ("a/rgb/???.png", "a/depth/*", [1]),
        ("?/rgb/*", "?/depth/*", [1, 2]),
        ("[!b]/rgb/*", "[!b]/depth/*", [1]),
        ("[bc]/rgb/00[0-9].*", "[bc]/depth/00[0-9].*", [2]),
        ("c/**/rgb/*", "c/**/depth/*", [3]),
    ],
)
def test_patterns_are_those_of_the_shell(
    tmp_path: Path, color: str, depth: str, expected: list[int]
) -> None:
    for number, scene in enumerate(("a", "b", "c/d"), 1):
        for role in ("rgb", "depth"):
            (tmp_path / scene / role).mkdir(parents=True)
            picture = np.full((4, 6, 3), 9, np.uint8)
            if role == "depth":
                picture = np.full((4, 6), 1000 * number, np.uint16)
            cv2.imwrite(str(tmp_path / scene / role / f"00{number}.png"), picture)
    frames = read_frames(ImageFolder(tmp_path, PINHOLE, color=color, depth=depth))
    assert [known(f.frame.raw_depth)[0, 0] for f in frames] == expected


def test_a_link_to_nothing_is_a_picture_that_cannot_be_read(folder: Path) -> None:
    """As in a data set whose files lie on a drive that is away."""
    (folder / "color/0003.jpg").symlink_to("/away/0003.jpg")
    (folder / "depth/0003.png").symlink_to("/away/0003.png")
    (folder / "color/more.jpg").mkdir()
    with pytest.raises(DktError, match=r"color/0003\.jpg: cannot be read \(No such file"):
        list(read_frames(ImageFolder(folder, PINHOLE)))


@pytest.mark.parametrize("unit", ["{:.6f}", "{:.0f}000000"])
def test_stamps_pair_with_the_nearest(tmp_path: Path, unit: str) -> None:
    for name in ("rgb", "depth"):
        (tmp_path / name).mkdir()
    scale = 1.0 if unit == "{:.6f}" else 1e3
    for offset in (0.0, 0.033, 0.2):
        name = unit.format((1305031453.36 + offset) * scale)
        cv2.imwrite(str(tmp_path / f"rgb/{name}.png"), np.zeros((4, 6, 3)))
    for offset, value in ((0.014, 1000), (0.025, 2000), (0.3, 3000)):
        name = unit.format((1305031453.36 + offset) * scale)
        cv2.imwrite(str(tmp_path / f"depth/{name}.png"), np.full((4, 6), value, np.uint16))
    remarks: list[str] = []
    frames = list(read_frames(ImageFolder(tmp_path, PINHOLE, color="rgb/*"), remarks))
    assert [known(f.frame.raw_depth)[0, 0] for f in frames] == [1.0, 2.0]
    assert "1 of 3 colour pictures have no depth within 20 ms" in remarks[0]


def test_stamps_that_are_all_too_far_apart_say_by_how_much(tmp_path: Path) -> None:
    for name, offset in (("rgb", 0.0), ("depth", 0.05)):
        (tmp_path / name).mkdir()
        for second in range(2):
            file = tmp_path / name / f"{1305031453 + second + offset:.6f}.png"
            cv2.imwrite(str(file), np.full((4, 6), 1000, np.uint16))
    with pytest.raises(DktError, match=r"no depth .* is within 20 ms .* nearest is 0\.050 s away"):
        list(read_frames(ImageFolder(tmp_path, PINHOLE, color="rgb/*")))


def test_the_order_is_natural_and_what_is_no_picture_is_passed_over(tmp_path: Path) -> None:
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
        for index in (2, 10, 1):
            picture = np.full((4, 6), 100 * index, np.uint16)
            if name == "color":
                picture = np.full((4, 6, 3), 20 * index)
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), picture)
    for other in (".DS_Store", "Thumbs.db", "times.csv"):
        (tmp_path / "color" / other).write_text("no picture")
    frames = list(read_frames(ImageFolder(tmp_path, PINHOLE)))
    assert [known(f.frame.raw_depth)[0, 0] for f in frames] == pytest.approx([0.1, 0.2, 1.0])
    assert [f.frame.rgb[0, 0, 0] for f in frames] == [20, 40, 200]


def test_truth_and_masks_of_another_size_are_named(folder: Path) -> None:
    cv2.imwrite(str(folder / "0002-mask.png"), np.zeros((3, 6), np.uint8))
    source = ImageFolder(folder, PINHOLE, mask="*-mask.png")
    with pytest.raises(DktError, match=r"color/0002\.jpg: mask is 6x3, colour is 6x4"):
        list(read_frames(source))


def test_depth_that_cannot_be_metres_is_refused(folder: Path) -> None:
    with pytest.raises(
        DktError, match=r"depth from 100 to 100 m.*step of 1 m right.*--depth-unit.*--depth-scale"
    ):
        list(read_frames(ImageFolder(folder, PINHOLE, metres_per_unit=1.0)))


def test_pictures_without_usable_depth_are_counted(folder: Path) -> None:
    cv2.imwrite(str(folder / "depth/0001.png"), np.zeros((4, 6), np.uint16))
    cv2.imwrite(str(folder / "depth/0010.png"), np.full((4, 6), 60000, np.uint16))
    remarks: list[str] = []
    assert len(list(read_frames(ImageFolder(folder, PINHOLE), remarks))) == 3
    assert remarks == ["2 of 3 pictures have no depth between 0.1 and 10 m"]


def test_one_calibration_for_two_sizes_is_told(folder: Path) -> None:
    cv2.imwrite(str(folder / "color/0002.jpg"), np.full((8, 12, 3), 40))
    cv2.imwrite(str(folder / "depth/0002.png"), np.full((8, 12), 200, np.uint16))
    remarks: list[str] = []
    assert len(list(read_frames(ImageFolder(folder, PINHOLE), remarks))) == 3
    assert len(remarks) == 1
    assert remarks[0].startswith("1 of 3 pictures are not 6x4 as those before, the first is 0002.")
    (folder / "cameras.yaml").write_text(
        "narrow: {width: 6, height: 4, fx: 10, fy: 10, cx: 3, cy: 2}\n"
        "wide: {width: 12, height: 8, fx: 20, fy: 20, cx: 6, cy: 4}\n"
    )
    remarks.clear()
    found = read_frames(ImageFolder(folder, folder / "cameras.yaml"), remarks)
    assert [one.frame.intrinsics.fx for one in found] == [10, 20, 10]
    assert remarks == []


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


def test_every_flag_reaches_the_bag(folder: Path, dkt: Callable[[Sequence[str]], int]) -> None:
    command = ["bag", "from-images", str(folder), "--pinhole", "10", "10", "3", "2", "--output"]
    flags = ["--rate", "4", "--repeat", "2", "--gap", "5", "--start-time", "100"]
    flags += ["--frame-id", "cam", "--storage", "sqlite3", "--color-encoding", "raw"]
    assert dkt([*command, str(folder / "a"), *flags]) == 0
    assert list((folder / "a").glob("*.db3"))
    with BagReader(folder / "a") as bag:
        colors = [decoded(m) for m in bag.messages(["/camera/camera/color/image_raw"])]
    stamps = [one.header.stamp.sec + one.header.stamp.nanosec * 1e-9 for one in colors]
    assert stamps == pytest.approx([100, 100.25, 105.5, 105.75, 111, 111.25])
    assert {(one.header.frame_id, one.encoding) for one in colors} == {("cam", "rgb8")}

    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    cv2.imwrite(str(folder / "color/0001.jpg"), noise)
    cv2.imwrite(str(folder / "depth/0001.png"), np.full((60, 90), 700, np.uint16))
    sizes = []
    for name, *words in (
        ("whole", "--depth-encoding", "16UC1", "--no-compress"),
        ("packed", "--depth-encoding", "16UC1"),
        ("coarse", "--depth-encoding", "16UC1", "--jpeg-quality", "5"),
    ):
        only = ["--color", "color/0001.jpg", "--depth", "depth/0001.png", *words]
        assert dkt([*command, str(folder / name), *only]) == 0
        sizes.append(sum(file.stat().st_size for file in (folder / name).iterdir()))
    assert sizes[0] > sizes[1] + 8000  # of 10 800 bytes of depth
    assert sizes[1] > sizes[2] + 3000


def test_rounded_depth_steps_and_impossible_intrinsics_are_said(
    folder: Path, capsys: pytest.CaptureFixture[str], dkt: Callable[[Sequence[str]], int]
) -> None:
    command = ["bag", "from-images", str(folder), "--pinhole", "10", "10", "3", "2"]
    command += ["--depth-scale", "0.0002", "--depth", "depth/0010.png"]
    command += ["--color", "color/0010.jpg", "--output"]
    assert dkt([*command, str(folder / "a")]) == 0
    assert "steps of 0.2 mm are rounded" in capsys.readouterr().err
    assert dkt([*command, str(folder / "b"), "--depth-encoding", "32FC1"]) == 0
    assert "rounded" not in capsys.readouterr().err
    command[3:8] = ["--pinhole", "5000", "5000", "10000", "9000"]
    assert dkt([*command, str(folder / "c")]) == 2
    assert "--pinhole: the principal point" in capsys.readouterr().err


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
