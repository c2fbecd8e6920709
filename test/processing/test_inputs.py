"""Every kind of recording, and what is said of bad ones."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.dataset_trees import copy_from_a_mac, sequence_frame
from fixtures.recorded_frames import HEIGHT, START_NS, WIDTH, known, labelled_frames
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

import dkt_ros
from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record
from dkt_ros.bags.topics import CameraTopics
from dkt_ros.bags.writer import BagWriter
from dkt_ros.errors import DktError
from dkt_ros.estimator import load_estimator
from dkt_ros.formats import videos
from dkt_ros.formats.transphy3d import write_sequence
from dkt_ros.geometry import to_millimetres
from dkt_ros.processing.find_sources import Recording, find_recordings
from dkt_ros.processing.one import process_one
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import PassedMessage, Pending, Source, SourceOptions

NONE = SourceOptions()
PINHOLE = replace(NONE, pinhole=(48.0, 49.0, 24.0, 16.0))
COUNT = 7


def opened(path: Path, options: SourceOptions = NONE) -> Source:
    (recording,) = find_recordings([path], options)
    return recording.open(options)


def shots(source: Source) -> list[LabelledFrame]:
    return [item.decode() for item in source.items() if isinstance(item, Pending)]


def make_bag(path: Path, edit: Callable[[str, Any, int], list[tuple[str, Any, int]]]) -> Path:
    """Seven frames, each message replaced by what `edit(topic, message, index)` gives."""
    names = CameraTopics()
    topics = {"info": names.camera_info, "color": names.color, "depth": str(names.depth)}
    with BagWriter(path) as writer:
        encoder = MessageEncoder(writer.typestore, "camera", color="raw", depth="32FC1")
        for index, labelled in enumerate(labelled_frames(COUNT)):
            frame = labelled.frame
            messages = {
                "info": encoder.camera_info(frame.intrinsics, frame.stamp_ns),
                "color": encoder.color_image(frame.rgb, frame.stamp_ns),
                "depth": encoder.depth_image(known(frame.raw_depth), frame.stamp_ns),
            }
            for role, message in messages.items():
                for topic, edited, stamp in edit(role, message, index):
                    writer.write(topics.get(topic, topic), edited, stamp or frame.stamp_ns)
    return path


def without(role: str) -> Callable[[str, Any, int], list[tuple[str, Any, int]]]:
    return lambda topic, message, index: [] if topic == role else [(topic, message, 0)]


def refused(path: Path, options: SourceOptions = NONE) -> ProcessingError:
    with pytest.raises(ProcessingError) as caught:
        shots(opened(path, options))
    assert str(caught.value).startswith(str(path))
    return caught.value


@pytest.mark.parametrize(
    ("color", "depth", "storage"), [("raw", "32FC1", "sqlite3"), ("jpeg", "png", "mcap")]
)
def test_a_bag(color: str, depth: str, storage: str, tmp_path: Path) -> None:
    frames = labelled_frames(COUNT)
    path = tmp_path / "bag"
    record(frames, path, RecordingOptions(color=color, depth=depth, storage=storage))
    source = opened(path)
    assert (source.kind, source.total, round(source.duration_s, 3)) == ("bag", COUNT, 0.6)
    found = shots(source)
    assert source.lost == []
    for shot, labelled in zip(found, frames, strict=True):
        assert shot.frame.stamp_ns == labelled.frame.stamp_ns
        assert shot.frame.intrinsics == labelled.frame.intrinsics
        for mine, theirs in (
            (shot.frame.raw_depth, labelled.frame.raw_depth),
            (shot.truth, labelled.truth),
        ):
            assert np.allclose(known(mine), known(theirs), atol=6e-4, equal_nan=True)
        assert np.array_equal(known(shot.mask), known(labelled.mask))
        assert np.abs(shot.frame.rgb.astype(int) - labelled.frame.rgb).mean() < 6


def test_topics_are_passed_through(bag: Path) -> None:
    source = opened(bag, replace(NONE, pass_through=True))
    passed = [item for item in source.items() if isinstance(item, PassedMessage)]
    assert len(passed) == 5 * COUNT
    assert [m.time_ns for m in passed] == sorted(m.time_ns for m in passed)


def test_a_bag_that_was_cut(tmp_path: Path) -> None:
    from dkt_ros.bags.topics import CameraTopics

    path = tmp_path / "cut"
    frames = labelled_frames(40, width=160, height=120)
    record(frames, path, RecordingOptions(color="raw", depth="32FC1", compress=False))
    (file,) = path.glob("*.mcap")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])
    assert CameraTopics().color
    source = opened(path)
    found = shots(source)
    assert 10 < len(found) < 30
    assert any("index is damaged" in line for line in source.lost)


def test_bags_that_lack_something(tmp_path: Path) -> None:
    no_info = make_bag(tmp_path / "no_info", without("info"))
    error = refused(no_info)
    assert error.outcome is Outcome.NO_CAMERA_INFO
    assert "--intrinsics FILE" in str(error)
    assert len(shots(opened(no_info, PINHOLE))) == COUNT
    yaml = tmp_path / "camera.yaml"
    yaml.write_text("image_width: 48\nimage_height: 32\nfx: 48\nfy: 49\ncx: 24\ncy: 16\n")
    given = shots(opened(no_info, replace(NONE, intrinsics=str(yaml))))
    assert given[0].frame.intrinsics.fy == 49.0
    yaml.write_text("image_width: 24\nimage_height: 16\nfx: 48\nfy: 49\ncx: 24\ncy: 16\n")
    other = refused(no_info, replace(NONE, intrinsics=str(yaml)))
    assert other.outcome is Outcome.NO_CAMERA_INFO
    assert refused(make_bag(tmp_path / "no_depth", without("depth"))).outcome is Outcome.NO_DEPTH
    assert refused(make_bag(tmp_path / "no_color", without("color"))).outcome is Outcome.NO_COLOR


def test_what_was_recorded_in_place_of_depth_is_told(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_HUMBLE)

    def clouds(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if role != "depth":
            return [(role, message, 0)]
        cloud = store.types["sensor_msgs/msg/PointCloud2"](
            message.header, 1, 0, [], False, 12, 0, np.empty(0, np.uint8), True
        )
        return [("/camera/camera/depth/points", cloud, 0)]

    error = str(refused(make_bag(tmp_path / "bag", clouds)))
    assert "found /camera/camera/depth/points (PointCloud2" in error
    assert "pointcloud_to_depthimage" in error


@pytest.mark.parametrize(("extension", "is_depth"), [(".png", True), (".jpg", False)])
def test_depth_that_was_compressed_as_a_picture(
    tmp_path: Path, extension: str, is_depth: bool
) -> None:
    name = "/camera/camera/aligned_depth_to_color/image_raw/compressed"
    store = get_typestore(Stores.ROS2_HUMBLE)
    frames = labelled_frames(COUNT)

    def compressed(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if role != "depth":
            return [(role, message, 0)]
        steps = to_millimetres(known(frames[index].frame.raw_depth))
        picture = steps if is_depth else (steps // 16).astype(np.uint8)
        data = cv2.imencode(extension, picture)[1].ravel()
        kind = "png" if is_depth else "jpeg"
        image = store.types["sensor_msgs/msg/CompressedImage"](
            message.header, f"16UC1; {kind} compressed ", data
        )
        return [(name, image, 0)]

    path = make_bag(tmp_path / "bag", compressed)
    if not is_depth:
        assert f"found {name} (16UC1; jpeg compressed)" in str(refused(path))
        return
    found = shots(opened(path))
    assert len(found) == COUNT
    expected = known(frames[0].frame.raw_depth)
    np.testing.assert_allclose(known(found[0].frame.raw_depth), expected, atol=6e-4)


@pytest.mark.parametrize(
    "values",
    [
        {"depth_unit_m": 0.0},
        {"depth_unit_m": float("nan")},
        {"rate_hz": -1.0},
        {"sync_slop_s": -0.1},
        {"max_gap_s": 0.0},
    ],
)
def test_numbers_that_make_no_sense(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(DktError, match=f"{name} is .*, expected"):
        SourceOptions(**values)  # type: ignore[arg-type]


def test_no_recordings(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.bag").outcome is Outcome.NOT_A_RECORDING
    text = tmp_path / "text.bag"
    text.write_text("hello")
    assert refused(text).outcome is Outcome.NOT_A_RECORDING
    empty = tmp_path / "empty.mcap"
    empty.write_bytes(b"")
    assert refused(empty).outcome is Outcome.NOT_A_RECORDING
    with BagWriter(tmp_path / "silent") as writer:
        assert writer
    assert refused(tmp_path / "silent").outcome is Outcome.EMPTY
    folder = tmp_path / "folder"
    folder.mkdir()
    assert refused(folder).outcome is Outcome.NOT_A_RECORDING
    with pytest.raises(DktError, match="nothing matches"):
        find_recordings([tmp_path / "*.nothing"], NONE)


def test_two_cameras(tmp_path: Path) -> None:
    def both(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        names = {"info": "color/camera_info", "color": "color/image_raw"}
        name = names.get(role, "aligned_depth_to_color/image_raw")
        return [(f"/{camera}/{name}", message, 0) for camera in ("left_arm", "right_arm")]

    path = make_bag(tmp_path / "two", both)
    error = refused(path)
    assert error.outcome is Outcome.SEVERAL_CAMERAS
    assert "/left_arm/color/image_raw, /right_arm/color/image_raw" in str(error)
    chosen = replace(NONE, topics={"color": "/right_arm/color/image_raw"})
    source = opened(path, chosen)
    assert source.topics.depth == "/right_arm/aligned_depth_to_color/image_raw"  # type: ignore[attr-defined]
    assert len(shots(source)) == COUNT


def test_calibration_behind_its_images(tmp_path: Path) -> None:
    behind: list[Any] = []

    def zooms(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if role == "info":
            message.k[0] = 40.0 + index
            behind[:] = [message]
            return []
        return [(role, message, 0), *([("info", behind[0], 0)] if role == "depth" else [])]

    found = shots(opened(make_bag(tmp_path / "behind", zooms)))
    assert [shot.frame.intrinsics.fx for shot in found] == [40.0 + n for n in range(COUNT)]


def test_clocks_that_run_backwards_start_anew(tmp_path: Path) -> None:
    def back(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if index >= 4:
            message.header.stamp.sec -= 100
        return [(role, message, START_NS + index * 100_000_000)]

    source = opened(make_bag(tmp_path / "back", back))
    items = [item for item in source.items() if isinstance(item, Pending)]
    assert [item.epoch for item in items] == [0, 0, 0, 0, 1, 1, 1]
    assert any("ran backwards" in line for line in source.lost)


@pytest.mark.parametrize(
    ("late_ns", "expected"),
    [
        (30_000_000, "are 0.030 s apart, --sync-slop is 0.02; take --sync-slop 0.04"),
        (-30_000_000, "are 0.030 s apart, --sync-slop is 0.02; take --sync-slop 0.04"),
        (50_000_000_000, "two clocks"),
        (-50_000_000_000, "two clocks"),
    ],
)
def test_stamps_that_do_not_match(
    late_ns: int, expected: str, tmp_path: Path, told: ProcessOptions
) -> None:
    def late(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if role == "depth":
            stamp_ns = START_NS + index * 100_000_000 + late_ns
            stamp = message.header.stamp
            stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        return [(role, message, 0)]

    path = make_bag(tmp_path / "late", late)
    source = opened(path)
    assert shots(source) == []
    assert len(source.lost) == 1
    assert expected in source.lost[0]
    with pytest.raises(ProcessingError, match=re.escape(expected)) as caught:
        process_one(
            Recording(path, "late"), told, tmp_path / "out", lambda: load_estimator(told.predictor)
        )
    assert caught.value.outcome is Outcome.NOTHING_USABLE
    wide = replace(NONE, sync_slop_s=0.04)
    assert len(shots(opened(path, wide))) == (COUNT if abs(late_ns) < 1e9 else 0)


def test_messages_without_content(tmp_path: Path) -> None:
    def hollow(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if role == "color" and index in (2, 3):
            message.data = message.data[:0]
        return [(role, message, 0)]

    source = opened(make_bag(tmp_path / "hollow", hollow))
    assert len(shots(source)) == COUNT - 2
    assert [line.partition(":")[0] for line in source.lost] == ["2 x truncated image"]


@pytest.mark.parametrize(("apart", "is_lost"), [(50, False), (70, True)])
def test_streams_that_were_written_in_bunches(tmp_path: Path, apart: int, is_lost: bool) -> None:
    topics = CameraTopics()
    with BagWriter(tmp_path / "bag") as writer:
        encoder = MessageEncoder(writer.typestore, "camera", color="raw", depth="32FC1")
        frame = labelled_frames(1)[0].frame
        for index in range(80):
            stamp_ns = START_NS + index * 100_000_000
            camera = encoder.camera_info(frame.intrinsics, stamp_ns)
            writer.write(topics.camera_info, camera, stamp_ns)
            writer.write(topics.color, encoder.color_image(frame.rgb, stamp_ns), stamp_ns)
            depth = encoder.depth_image(known(frame.raw_depth), stamp_ns)
            writer.write(str(topics.depth), depth, stamp_ns + apart * 100_000_000)
    source = opened(tmp_path / "bag")
    assert (len(shots(source)) == 80) != is_lost
    assert any("order of the stamps" in line for line in source.lost) == is_lost


def test_images_without_stamps(tmp_path: Path) -> None:
    def unstamped(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        message.header.stamp = type(message.header.stamp)(0, 0)
        return [(role, message, 0)]

    source = opened(make_bag(tmp_path / "bag", unstamped))
    assert len(shots(source)) == 1
    assert "stamp each image with its time" in source.lost[0]


def test_stamps_before_1970_cost_their_frames_alone(tmp_path: Path, told: ProcessOptions) -> None:
    def early(role: str, message: Any, index: int) -> list[tuple[str, Any, int]]:
        if index in (0, 4):  # unsigned seconds of ROS 1, wrapped
            message.header.stamp.sec = -1
        return [(role, message, START_NS + index * 100_000_000)]

    path = make_bag(tmp_path / "bag", early)
    summary = process_one(
        Recording(path, "bag"), told, tmp_path / "out", lambda: load_estimator(told.predictor)
    )
    assert summary["frames"] == COUNT - 2
    assert "4 x stamped 0 or less" in str(summary)


@pytest.mark.parametrize("publishers", [1, 2])
def test_two_cameras_on_one_topic_are_noted(tmp_path: Path, publishers: int) -> None:
    profile = Qos(
        QosHistory.KEEP_LAST,
        5,
        QosReliability.RELIABLE,
        QosDurability.VOLATILE,
        QosTime(0, 0),
        QosTime(0, 0),
        QosLiveliness.AUTOMATIC,
        QosTime(0, 0),
        avoid_ros_namespace_conventions=False,
    )
    path = make_bag(tmp_path / "bag", lambda role, message, index: [(role, message, 0)])
    store = get_typestore(Stores.ROS2_HUMBLE)
    with (
        BagReader(path) as bag,
        Writer(tmp_path / "copy", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        connections = {
            topic.name: writer.add_connection(
                topic.name,
                topic.msgtype,
                typestore=store,
                offered_qos_profiles=[profile] * publishers,
            )
            for topic in bag.topics.values()
        }
        for message in bag.messages():
            writer.write(connections[message.topic], message.time_ns, message.cdr)
    source = opened(tmp_path / "copy")
    assert len(shots(source)) == COUNT
    assert sum("from 2 publishers" in note for note in source.notes) == 2 * (publishers - 1)
    assert not source.lost


def test_times_of_a_recorder_whose_clock_wrapped_are_passed_on(
    told: ProcessOptions, tmp_path: Path
) -> None:
    record(labelled_frames(COUNT), tmp_path / "wrapped", RecordingOptions(storage="sqlite3"))
    (file,) = (tmp_path / "wrapped").glob("*.db3")
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE messages SET timestamp = -5 WHERE id < 3")
        database.commit()
    options = replace(told, source=replace(NONE, pass_through=True))
    summary = process_one(
        Recording(tmp_path / "wrapped", "wrapped"),
        options,
        tmp_path / "out",
        lambda: load_estimator(told.predictor),
    )
    assert summary["frames"] == COUNT


@pytest.mark.parametrize("options", [NONE, PINHOLE])
def test_a_first_message_that_is_none(tmp_path: Path, options: SourceOptions) -> None:
    path = make_bag(tmp_path / "bag", lambda role, message, index: [(role, message, 0)])
    odd = tmp_path / "odd"
    with BagReader(path) as bag, BagWriter(odd) as writer:
        broken = set()
        for message in bag.messages():
            value: Any = writer.typestore.deserialize_cdr(message.cdr, message.msgtype)
            writer.write(message.topic, value, message.time_ns)
            if message.topic not in broken:
                broken.add(message.topic)
                cdr = bytes(3)
                writer._writer.write(writer._connections[message.topic], message.time_ns - 1, cdr)
    source = opened(odd, options)
    assert len(shots(source)) == COUNT
    assert sum("damaged message on" in line for line in source.lost) == 3 - options.has_camera


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three scenes' pictures, colour and depth beside each other."""
    folder = tmp_path / "pictures"
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    for index, labelled in enumerate(labelled_frames(3)):
        frame = labelled.frame
        cv2.imwrite(str(folder / "color" / f"{index}.png"), frame.rgb[..., ::-1])
        millimetres = to_millimetres(known(frame.raw_depth))
        cv2.imwrite(str(folder / "depth" / f"{index}.png"), millimetres)
    (folder / "intrinsics.txt").write_text("48 0 24\n0 49 16\n0 0 1\n")
    return folder


def test_a_folder_of_pictures(pictures: Path) -> None:
    found = shots(opened(pictures))
    assert len(found) == 3
    (pictures / "color" / "Thumbs.db").touch()
    assert opened(pictures).total == 3
    assert opened(pictures).duration_s == pytest.approx(0.3)
    assert found[1].frame.intrinsics.fy == 49.0
    raw = labelled_frames(2)[1].frame.raw_depth
    assert np.allclose(known(found[1].frame.raw_depth), known(raw), atol=6e-4, equal_nan=True)
    (pictures / "intrinsics.txt").unlink()
    assert refused(pictures).outcome is Outcome.NO_CAMERA_INFO
    assert len(shots(opened(pictures, PINHOLE))) == 3
    shutil.rmtree(pictures / "depth")
    assert refused(pictures, PINHOLE).outcome is Outcome.NO_DEPTH


def test_the_unit_of_depth_beside_the_intrinsics_holds(pictures: Path) -> None:
    """As in BOP's scene folders: tenths of a millimetre."""
    millimetres = known(shots(opened(pictures))[0].frame.raw_depth)
    camera = shots(opened(pictures))[0].frame.intrinsics
    (pictures / "intrinsics.txt").unlink()
    entry = {"cam_K": camera.matrix.ravel().tolist(), "depth_scale": 0.1}
    (pictures / "scene_camera.json").write_text(json.dumps({str(n): entry for n in range(3)}))
    source = opened(pictures)
    tenths = known(shots(source)[0].frame.raw_depth)
    np.testing.assert_allclose(tenths, millimetres / 10, rtol=1e-6)
    assert any("a step of depth is taken for 0.0001 m" in note for note in source.notes)
    given = opened(pictures, SourceOptions(depth_unit_m=0.002))
    np.testing.assert_allclose(known(shots(given)[0].frame.raw_depth), 2 * millimetres, rtol=1e-6)
    assert any("taken for 0.002 m" in note for note in given.notes)


def test_what_a_mac_leaves_beside_files_is_no_recording(
    tmp_path: Path, pictures: Path, bag: Path
) -> None:
    copy_from_a_mac(tmp_path)
    assert opened(pictures).total == 3
    assert len(shots(opened(pictures))) == 3
    (bag / "metadata.yaml").unlink()
    assert len(shots(opened(bag))) == COUNT
    lone = next(file for file in bag.iterdir() if file.suffix == ".mcap" and file.name[0] != ".")
    for day in ("monday", "tuesday"):
        shutil.copy(lone, tmp_path / f"{day}.mcap")
    copy_from_a_mac(tmp_path)
    assert [one.name for one in find_recordings([tmp_path], NONE)][-2:] == ["monday", "tuesday"]


def test_names_that_begin_otherwise_are_told_with_the_pattern_they_take(pictures: Path) -> None:
    for role in ("color", "depth"):
        for file in list((pictures / role).iterdir()):
            file.rename(file.with_name(f"{role}_{file.name}"))
    with pytest.raises(DktError, match=r"first is color_0.png and of the others depth_0.png: "):
        shots(opened(pictures))
    named = replace(NONE, color="color/color_*", depth="depth/depth_*")
    assert len(shots(opened(pictures, named))) == 3


def test_patterns_from_the_root_are_told(pictures: Path) -> None:
    options = SourceOptions(color="/rgb/*", depth="/depth/*", pinhole=(60.0, 60.0, 32.0, 24.0))
    error = refused(pictures, options)
    assert error.outcome is Outcome.NOTHING_USABLE
    assert "pattern '/rgb/*' cannot be used" in str(error)
    assert "expected one of names below that folder" in str(error)
    (pictures / "clip.mp4").touch()
    error = refused(pictures / "clip.mp4", options)
    assert error.outcome is Outcome.NO_DEPTH
    assert "pattern '/depth/*' cannot be used" in str(error)


def test_a_damaged_picture_costs_itself_alone(pictures: Path) -> None:
    depth = pictures / "depth" / "1.png"
    depth.write_bytes(depth.read_bytes()[:-40])
    pending = [item for item in opened(pictures).items() if isinstance(item, Pending)]
    with pytest.raises(DktError, match=r"depth/1\.png: truncated picture"):
        pending[1].decode()
    stamps = [pending[index].decode().frame.stamp_ns for index in (0, 2)]
    assert np.diff(stamps).tolist() == [200_000_000]


def test_a_recording_without_a_usable_frame_is_refused_in_python(pictures: Path) -> None:
    for file in (pictures / "depth").iterdir():
        cv2.imwrite(str(file), np.ones((4, 6), np.uint16))
    with pytest.raises(dkt_ros.DktError, match=r"no frame could be used: 3 x .*: raw depth of"):
        list(dkt_ros.process(pictures, predictor="fixtures.told_network:load"))


def test_missing_depth_costs_its_frame_and_missing_truth_nothing(
    pictures: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "depth", pictures / "true")
    (pictures / "true" / "2.png").unlink()
    (pictures / "depth" / "1.png").rename(pictures / "depth" / "one.png")
    options = replace(told, bag=False, source=replace(NONE, truth="true/*"))
    summary = process_one(
        Recording(pictures, "all"), options, tmp_path, lambda: load_estimator(options.predictor)
    )
    assert (summary["frames"], summary["answered"], summary["refused"]) == (3, 2, 1)
    assert summary["outcome"] == Outcome.INCOMPLETE.value
    assert summary["lost"] == [
        f"1 x no raw depth: {pictures}/color/1.png: no depth by the pattern 'depth/*'"
    ]
    assert summary["notes"] == [
        "1 of 3 pictures by 'depth/*' are of no colour picture, the first is one.png",
        "1 of 3 colour pictures have no truth by the pattern 'true/*', the first is 2.png",
    ]
    lines = (tmp_path / "all" / "frames.jsonl").read_text().splitlines()
    figures = [json.loads(line) for line in lines]
    assert figures[1]["stamp_ns"] - figures[0]["stamp_ns"] == 200_000_000
    assert [bool(one["errors"]) for one in figures] == [True, False]


def test_clips_of_which_frames_have_no_raw_depth(told: ProcessOptions, tmp_path: Path) -> None:
    def processed(name: str, with_depth: tuple[int, ...]) -> dict[str, Any]:
        frames = [sequence_frame(index) for index in range(3)]
        for index in set(range(3)) - set(with_depth):
            frames[index] = replace(frames[index], raw_depth=None)
        path = tmp_path / name / "train" / "000000_materials.000000.tar"
        write_sequence(path, "000000", frames)
        (recording,) = find_recordings([tmp_path / name], NONE)
        options = replace(told, bag=False)
        load = lambda: load_estimator(options.predictor)  # noqa: E731
        return process_one(recording, options, tmp_path / f"{name}-out", load)

    summary = processed("one", (0, 2))
    assert (summary["answered"], summary["refused"]) == (2, 1)
    assert "1 x no raw depth: " in summary["lost"][0]
    with pytest.raises(ProcessingError, match="the data set holds no raw depth of it") as caught:
        processed("none", ())
    assert caught.value.outcome is Outcome.NO_DEPTH


def test_scenes_of_one_picture_each(tmp_path: Path) -> None:
    for scene in ("1", "2", "10"):
        folder = tmp_path / "scenes" / scene
        folder.mkdir(parents=True)
        frame = labelled_frames(1)[0].frame
        cv2.imwrite(str(folder / "rgb.png"), frame.rgb[..., ::-1])
        cv2.imwrite(str(folder / "raw_depth.png"), to_millimetres(known(frame.raw_depth)))
        (folder / "intrinsics.txt").write_text("48 0 24 0 49 16 0 0 1")
    found = find_recordings([tmp_path / "scenes"], NONE)
    assert [recording.name for recording in found] == ["1", "2", "10"]
    assert [len(shots(recording.open(NONE))) for recording in found] == [1, 1, 1]


def test_a_folder_of_arrays_and_what_lies_beside_bags(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = labelled_frames(2)
    rgb = np.stack([one.frame.rgb for one in frames])
    for name in ("2", "10"):
        np.savez(tmp_path / f"{name}.npz", rgb=rgb)
    np.savez(tmp_path / "10_depth.npz", depth=np.ones(3))  # of 10, or anything
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    names = [recording.name for recording in find_recordings([tmp_path], NONE)]
    assert names == ["2", "10", "damaged"]
    assert not caplog.records
    record(frames, tmp_path / "bag", RecordingOptions())
    assert [recording.name for recording in find_recordings([tmp_path], NONE)] == ["bag"]
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path}: 2.npz, 10.npz, damaged.npz: passed over beside bags; ")


def test_arrays(tmp_path: Path) -> None:
    frames = labelled_frames(4)
    path = tmp_path / "clip.npz"
    rgb = np.stack([one.frame.rgb for one in frames])
    depth = np.stack([to_millimetres(known(one.frame.raw_depth)) for one in frames])
    np.savez(path, rgb=rgb, depth=depth)
    assert refused(path).outcome is Outcome.NO_CAMERA_INFO
    found = shots(opened(path, PINHOLE))
    assert np.allclose(
        known(found[3].frame.raw_depth), known(frames[3].frame.raw_depth), atol=6e-4, equal_nan=True
    )
    far = np.full(depth.shape, 70_000, np.int32)
    far[:, 0] = -1
    np.savez(path, rgb=rgb, depth=far)
    metres = known(shots(opened(path, PINHOLE))[0].frame.raw_depth)
    assert np.all(metres[1:] == 70.0)
    assert np.isnan(metres[0]).all()
    np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.arange(3))
    assert "stamps_ns of shape" in str(refused(path, PINHOLE))
    np.savez(path, rgb=rgb)
    assert refused(path, PINHOLE).outcome is Outcome.NO_DEPTH
    np.savez(path, rgb=rgb, depth=np.full(depth.shape, "far"))
    assert "<U3, expected an array depth" in str(refused(path, PINHOLE))
    np.savez(path, rgb=rgb, depth=depth, notes=np.array([{}], object))
    assert len(shots(opened(path, PINHOLE))) == 4
    for stamps in (["a"] * 4, [-1, 0, 1, 2], [0.0, 1.0, np.nan, 2.0], [0, 1, 2, 2**62]):
        np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.array(stamps))
        assert "whole nanoseconds, 0 or more" in str(refused(path, PINHOLE))


def test_a_video_with_depth(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (WIDTH, HEIGHT))
    frames = labelled_frames(5)
    for labelled in frames:
        writer.write(np.ascontiguousarray(labelled.frame.rgb[..., ::-1]))
    writer.release()
    assert refused(path, PINHOLE).outcome is Outcome.NO_DEPTH
    depth = np.stack([known(one.frame.raw_depth) for one in frames])
    (tmp_path / "clip_depth.npy").write_text("no array")
    assert refused(path, PINHOLE).outcome is Outcome.NO_DEPTH
    np.savez(tmp_path / "other.npz", something=depth)
    other = replace(PINHOLE, depth=str(tmp_path / "other.npz"))
    assert refused(path, other).outcome is Outcome.NO_DEPTH
    np.save(tmp_path / "clip_depth.npy", depth)
    assert refused(path).outcome is Outcome.NO_CAMERA_INFO
    source = opened(path, PINHOLE)
    found = shots(source)
    assert source.lost == []
    assert len(found) == 5
    assert np.diff([shot.frame.stamp_ns for shot in found]).tolist() == pytest.approx(
        [1e9 / 15] * 4
    )
    assert np.array_equal(known(found[2].frame.raw_depth), depth[2], equal_nan=True)
    np.save(tmp_path / "clip_depth.npy", depth[:3])
    source = opened(path, PINHOLE)
    assert len(shots(source)) == 3
    assert source.lost == ["the video ends with 2 frames without depth"]


@pytest.mark.parametrize("name", ["clip.ts", "CLIP.MTS", "clip.mpg", "clip.wmv", "clip.3gp"])
def test_videos_as_other_cameras_call_them(tmp_path: Path, name: str) -> None:
    codes = {".wmv": "WMV2", ".3gp": "mp4v"}
    path, code = tmp_path / name, codes.get(name[-4:], "MPG2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25.0, (WIDTH, HEIGHT))
    for picture in np.random.default_rng(0).integers(0, 255, (6, HEIGHT, WIDTH, 3), np.uint8):
        writer.write(picture)
    writer.release()
    np.save(path.with_suffix(".npy"), np.ones((6, HEIGHT, WIDTH), np.float32))
    assert len(shots(opened(path, PINHOLE))) == 6
    assert [recording.path for recording in find_recordings([tmp_path], NONE)] == [path]


def test_a_video_that_was_written_while_it_came(tmp_path: Path) -> None:
    """No length in its head, and a pause of five seconds."""
    path = tmp_path / "clip.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 15.0, (WIDTH, HEIGHT))
    for labelled in labelled_frames(4):
        writer.write(np.ascontiguousarray(labelled.frame.rgb[..., ::-1]))
    writer.release()
    content = path.read_bytes().replace(b"\x44\x89\x88", b"\xec\x89\x88")
    path.write_bytes(content.replace(b"\x81\x00\xc8", b"\x81\x13\x88"))
    np.save(tmp_path / "clip.npy", np.ones((4, HEIGHT, WIDTH), np.float32))
    source = opened(path, PINHOLE)
    assert source.total == 4
    assert source.duration_s == pytest.approx(4 / 15)
    items = [item for item in source.items() if isinstance(item, Pending)]
    assert [item.epoch for item in items] == [0, 0, 0, 1]
    stamps_ns = [item.decode().frame.stamp_ns for item in items]
    assert np.subtract(stamps_ns, stamps_ns[0]).tolist() == pytest.approx(
        [0, 67e6, 133e6, 5e9], abs=1e3
    )


def test_depth_of_eight_bits_is_a_picture_of_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez(path, rgb=np.zeros((4, 6, 8, 3), np.uint8), depth=np.full((4, 6, 8), 128, np.uint8))
    assert "found (4, 6, 8) uint8, expected an array depth of floats" in str(refused(path, PINHOLE))
    np.savez(path, rgb=np.zeros((4, 3, 6, 8), np.uint8), depth=np.ones((4, 6, 8)))
    assert "found (4, 3, 6, 8) uint8, expected an array rgb" in str(refused(path, PINHOLE))
    written = cv2.VideoWriter.fourcc(*"MJPG")
    cv2.VideoWriter(str(tmp_path / "film.avi"), written, 15.0, (WIDTH, HEIGHT)).release()
    np.save(tmp_path / "film.npy", np.full((4, 6, 8), 128, np.uint8))
    assert "uint8 of shape (4, 6, 8)" in str(refused(tmp_path / "film.avi", PINHOLE))


def test_a_turned_video_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phone.mp4"
    cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 15.0, (WIDTH, HEIGHT)).release()
    np.save(tmp_path / "phone.npy", np.ones((4, HEIGHT, WIDTH), np.float32))
    monkeypatch.setattr(videos, "facts", lambda path: videos.Facts(15.0, 4, 270))
    (note,) = opened(path, PINHOLE).notes
    assert note.startswith("players turn the video by 270 degrees; ")


def test_arrays_that_a_gap_parts(tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    rgb, depth = np.zeros((4, 6, 8, 3), np.uint8), np.ones((4, 6, 8), np.float32)
    np.savez(path, rgb=rgb, depth=depth, stamps_ns=np.array([0, 1, 8, 9]) * 10**9)

    def epochs(options: SourceOptions) -> list[int]:
        items = opened(path, options).items()
        return [item.epoch for item in items if isinstance(item, Pending)]

    assert epochs(PINHOLE) == [0, 0, 1, 1]
    assert epochs(replace(PINHOLE, max_gap_s=10.0)) == [0, 0, 0, 0]


def test_home_and_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pictures.parent))
    monkeypatch.chdir(pictures)
    for given in ("~/pictures", "~/pic*"):
        assert [one.path for one in find_recordings([given], NONE)] == [pictures]
    with pytest.raises(DktError, match="is a variable unset"):
        find_recordings([""], NONE)


def test_names_differ(tmp_path: Path) -> None:
    for day in ("monday", "tuesday"):
        record(labelled_frames(1), tmp_path / day / "bag", RecordingOptions())
    found = find_recordings([tmp_path / "monday", tmp_path / "*" / "bag"], NONE)
    assert [recording.name for recording in found] == ["monday-bag", "tuesday-bag"]
    for suffix in ("db3", "mcap"):
        (tmp_path / f"bag.{suffix}").touch()
    names = [recording.name for recording in find_recordings([tmp_path / "bag.*"], NONE)]
    assert names == ["bag-db3", "bag-mcap"]


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
    names = [recording.name for recording in find_recordings([tmp_path], NONE)]
    assert names == [str(index) for index in range(60)]
    assert asked < 10 * 60


def test_names_differ_where_joined_paths_do_not(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("bag.db3", "bag.mcap", "bag-db3.bag")]
    for file in files:
        file.touch()
    names = [recording.name for recording in find_recordings(files, NONE)]
    assert len(set(names)) == 3
    assert names[1] == "bag-mcap"
    backwards = find_recordings(files[::-1], NONE)
    assert [recording.name for recording in backwards] == names[::-1]


def test_dots_in_names_and_two_ways_to_one(tmp_path: Path) -> None:
    for name in ("12.30.bag", "12.31.bag", "a.mcap", "a.mcap.zstd"):
        (tmp_path / name).write_text("")
    (tmp_path / "link.bag").symlink_to(tmp_path / "12.30.bag")
    names = [recording.name for recording in find_recordings([tmp_path], NONE)]
    assert names == ["12.30", "12.31", "a-mcap", "a-mcap-zstd"]


def test_bags_beside_each_other_are_not_one(tmp_path: Path) -> None:
    for name in ("monday", "tuesday"):
        record(labelled_frames(1), tmp_path / name, RecordingOptions())
        (file,) = (tmp_path / name).glob("*.mcap")
        file.rename(tmp_path / f"{name}.mcap")
        shutil.rmtree(tmp_path / name)
    names = [recording.name for recording in find_recordings([tmp_path], NONE)]
    assert names == ["monday", "tuesday"]
    (tmp_path / "monday.mcap").rename(tmp_path / "0.mcap")
    (tmp_path / "tuesday.mcap").rename(tmp_path / "1.mcap")
    assert [recording.name for recording in find_recordings([tmp_path], NONE)] == ["0", "1"]
    (tmp_path / "0.mcap").rename(tmp_path / "day_0.mcap")
    (tmp_path / "1.mcap").rename(tmp_path / "day_1.mcap")
    assert [recording.path for recording in find_recordings([tmp_path], NONE)] == [tmp_path]
