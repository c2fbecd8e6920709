"""Bags of any making, and what is said of bad ones."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.opened_sources import NONE, PINHOLE, opened, pending, processed, refused, shots
from fixtures.recorded_frames import START_NS, known, labelled_frames
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.message_types import types_in
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.bags.topics import CameraTopics
from dkt_ros.bags.writer import BagWriter
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.geometry import to_millimetres
from dkt_ros.processing.bag_output import BagOutput
from dkt_ros.processing.messages import typestore
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.source import PassedMessage, SourceOptions

COUNT = 7
PERIOD_NS = 100_000_000
Edited = list[tuple[str, Any, int]]


def as_it_is(role: str, message: Any, index: int) -> None:
    """Edits nothing."""


def make_bag(
    path: Path, edit: Callable[[str, Any, int], Edited | None] = as_it_is, count: int = COUNT
) -> Path:
    """A bag of frames; edit(role, message, index) may give (role or topic, message, time)."""
    names = CameraTopics()
    topics = {"info": names.camera_info, "color": names.color, "depth": str(names.depth)}
    with BagWriter(path) as writer:
        encoder = MessageEncoder(writer.typestore, "camera", color="raw", depth="32FC1")
        for index, labelled in enumerate(labelled_frames(count)):
            frame = labelled.frame
            messages = {
                "info": encoder.camera_info(frame.intrinsics, frame.stamp_ns),
                "color": encoder.color_image(frame.rgb, frame.stamp_ns),
                "depth": encoder.depth_image(known(frame.raw_depth), frame.stamp_ns),
            }
            for role, message in messages.items():
                edited = edit(role, message, index)
                for topic, one, time_ns in [(role, message, 0)] if edited is None else edited:
                    writer.write(topics.get(topic, topic), one, time_ns or frame.stamp_ns)
    return path


def without(role: str) -> Callable[[str, Any, int], Edited | None]:
    return lambda topic, message, index: [] if topic == role else None


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


def test_a_clock_that_was_set_while_it_recorded_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with use_sim_time, before the first /clock: the bag is no fifty years long."""
    path = make_bag(
        tmp_path / "bag", lambda role, message, index: None if index else [(role, message, 1)]
    )
    told = "its messages are recorded from 1970-01-01 to 2023-11-14: the recorder's clock was set"
    source = opened(path)
    assert [note for note in source.notes if told in note] == source.notes[:1]
    assert source.duration_s == 0.0
    assert len(shots(source)) == COUNT
    assert main(["bag", "info", str(path)]) == 0
    assert f"  note: {told}" in capsys.readouterr().out
    assert not any(told in note for note in opened(make_bag(tmp_path / "other")).notes)


@pytest.mark.parametrize(
    ("form", "topic", "says"),
    [
        ("jpeg", "/truth/mask/compressed", "a JPEG, which keeps no exact numbers"),
        ("raw", "/truth/mask", "has colours, expected labels in one channel"),
    ],
)
def test_masks_that_are_no_labels_cost_themselves_and_are_told(
    tmp_path: Path, form: str, topic: str, says: str
) -> None:
    encoder = MessageEncoder(typestore(), "camera", color=form, depth="32FC1")
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[5:9, 7:20, 1] = 255

    def beside(role: str, message: Any, index: int) -> Edited | None:
        if role != "depth":
            return None
        stamp = START_NS + index * PERIOD_NS
        return [(role, message, stamp), (topic, encoder.color_image(picture, stamp), stamp)]

    found = shots(opened(make_bag(tmp_path / "bag", beside, count=2)))
    assert len(found) == 2
    for shot in found:
        assert shot.mask is None
        assert f"{topic}: {says}" in shot.unusable["mask"]


@pytest.mark.parametrize("late_ns", [-3 * PERIOD_NS // 2, 7 * PERIOD_NS // 2])
def test_truth_that_is_recorded_beside_its_frame_is_its(tmp_path: Path, late_ns: int) -> None:
    """What makes it may take longer than a camera's period."""
    encoder = MessageEncoder(typestore(), "camera", color="raw", depth="32FC1")

    def beside(role: str, message: Any, index: int) -> Edited | None:
        if role != "info":
            return None
        stamp = START_NS + index * PERIOD_NS
        truth = encoder.depth_image(np.full((32, 48), 1.0 + index, np.float32), stamp)
        return [("/truth/depth", truth, stamp + late_ns), (role, message, stamp)]

    found = shots(opened(make_bag(tmp_path / "bag", beside)))
    assert [known(shot.truth)[0, 0] for shot in found] == [1.0 + index for index in range(COUNT)]


def test_truth_and_masks_of_another_size_are_told_and_not_looked_at(tmp_path: Path) -> None:
    encoder = MessageEncoder(typestore(), "camera", color="raw", depth="32FC1")

    def beside(role: str, message: Any, index: int) -> Edited | None:
        if role != "depth":
            return None
        stamp, small = START_NS + index * PERIOD_NS, np.ones((16, 24), np.float32)
        truth = encoder.depth_image(small, stamp)
        mask = encoder.mask_image(small.astype(np.uint8), stamp)
        labels = [("/truth/depth", truth, stamp), ("/truth/mask", mask, stamp)]
        return [(role, message, stamp), *labels]

    source = opened(make_bag(tmp_path / "bag", beside))
    found = shots(source)
    assert len(found) == COUNT
    assert {(shot.truth is None, shot.mask is None) for shot in found} == {(True, True)}
    said = "is 24x16, expected 48x32 as colour: it is not looked at"
    assert source.notes == [f"/truth/depth {said}", f"/truth/mask {said}"]


def test_integers_of_the_truth_have_the_unit_of_raw_depth(tmp_path: Path) -> None:
    record(labelled_frames(2), tmp_path / "bag", RecordingOptions(color="raw", depth="16UC1"))
    (_, frame) = shots(opened(tmp_path / "bag", replace(NONE, depth_unit_m=0.002)))
    truth = 2 * known(labelled_frames(2)[1].truth)
    np.testing.assert_allclose(known(frame.truth), truth, atol=2e-3)
    raw = known(frame.frame.raw_depth)
    read = np.isfinite(raw)
    np.testing.assert_allclose(raw[read], truth[read], atol=2e-3)


def test_what_an_earlier_run_made_of_it_is_not_passed_through(tmp_path: Path) -> None:
    """It would stand beside what is made now, on the same topic."""

    def beside(role: str, message: Any, index: int) -> Edited | None:
        time_ns = START_NS + index * PERIOD_NS
        more = [(topic, message, time_ns) for topic in ("/dkt/depth", "/other/dkt/depth")]
        return [(role, message, time_ns), *more] if role == "depth" else None

    source = opened(make_bag(tmp_path / "bag", beside), replace(NONE, pass_through=True))
    passed = {item.topic for item in source.items() if isinstance(item, PassedMessage)}
    assert "/other/dkt/depth" in passed
    assert "/dkt/depth" not in passed


def test_topics_are_passed_through(bag: Path) -> None:
    source = opened(bag, replace(NONE, pass_through=True))
    passed = [item for item in source.items() if isinstance(item, PassedMessage)]
    assert len(passed) == 5 * COUNT
    assert [m.time_ns for m in passed] == sorted(m.time_ns for m in passed)


@pytest.mark.parametrize("storage", StoragePlugin)
def test_a_labs_own_types_are_passed_through_where_the_bag_defines_them(
    storage: StoragePlugin, bag: Path, told: ProcessOptions, tmp_path: Path
) -> None:
    own = get_typestore(Stores.ROS2_HUMBLE)
    definition = "Grip[] grips\n" + 80 * "=" + "\nMSG: lab_msgs/Grip\nfloat64 force\n"
    own.register(get_types_from_msg(definition, "lab_msgs/msg/Grips"))
    grips = own.types["lab_msgs/msg/Grips"]([own.types["lab_msgs/msg/Grip"](2.5)])
    with (
        BagReader(bag) as recorded,
        Writer(tmp_path / "scene", version=9, storage_plugin=storage) as writer,
    ):
        connections = {
            name: writer.add_connection(name, topic.msgtype, typestore=own)
            for name, topic in recorded.topics.items()
        }
        for message in recorded.messages():
            writer.write(connections[message.topic], message.time_ns, message.cdr)
        connection = writer.add_connection("/grips", "lab_msgs/msg/Grips", typestore=own)
        cdr = bytes(own.serialize_cdr(grips, "lab_msgs/msg/Grips"))
        writer.write(connection, START_NS, cdr)
    options = replace(told, source=replace(NONE, pass_through=True))
    summary = processed(tmp_path / "scene", options, tmp_path / "out")
    assert summary["outcome"] == Outcome.DONE.value
    with BagReader(tmp_path / "out" / "scene" / "bag") as made:
        (message,) = made.messages(["/grips"])
        topic = made.topics["/grips"]
    assert (message.cdr, message.msgtype) == (cdr, "lab_msgs/msg/Grips")
    read = types_in(topic.definition, topic.msgtype)
    assert read is not None
    found: Any = read.deserialize_cdr(message.cdr, topic.msgtype)
    assert found.grips[0].force == 2.5


def test_colour_that_is_video_is_told_where_another_picture_takes_its_place(
    bag: Path, tmp_path: Path
) -> None:
    packet = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
    name = "/camera/camera/color/image_raw/ffmpeg"
    own = get_typestore(Stores.ROS2_HUMBLE)
    own.register(get_types_from_msg("uint8[] data\n", packet))
    with (
        BagReader(bag) as recorded,
        Writer(tmp_path / "oak", version=8, storage_plugin=StoragePlugin.MCAP) as writer,
    ):
        connections = {
            topic.name: writer.add_connection(
                topic.name.replace("/color/image", "/left/image"), topic.msgtype, typestore=own
            )
            for topic in recorded.topics.values()
        }
        for message in recorded.messages():
            writer.write(connections[message.topic], message.time_ns, message.cdr)
        video = writer.add_connection(
            "/camera/camera/color/image_raw/ffmpeg", packet, typestore=own
        )
        cdr = own.serialize_cdr(own.types[packet](np.zeros(3, np.uint8)), packet)
        writer.write(video, START_NS, cdr)
    told = f"{name} (FFMPEGPacket) is video, which is not read: image_transport's republish"
    assert told in str(refused(tmp_path / "oak"))
    depth = {"depth": "/camera/camera/aligned_depth_to_color/image_raw"}
    source = opened(tmp_path / "oak", replace(NONE, topics=depth))
    assert len(shots(source)) == 7
    assert any(told in note for note in source.notes)


def test_rectified_pictures_that_come_with_distortion_are_told_how_to_be_taken(
    tmp_path: Path,
) -> None:
    def distorted(role: str, message: Any, index: int) -> None:
        if role == "info":
            message.d[0] = 0.1

    source = opened(make_bag(tmp_path / "bag", distorted))
    assert len(shots(source)) == COUNT
    (note,) = source.notes
    assert "plumb_bob distortion" in note
    assert "If the images are rectified, add --rectified: P is theirs, not K." in note


def test_bags_that_lack_something(tmp_path: Path) -> None:
    no_info = make_bag(tmp_path / "no_info", without("info"))
    error = refused(no_info)
    assert error.outcome is Outcome.NO_CAMERA_INFO
    assert "--intrinsics FILE" in str(error)
    assert len(shots(opened(no_info, PINHOLE))) == COUNT
    yaml = tmp_path / "camera.yaml"
    yaml.write_text("image_width: 48\nimage_height: 32\nfx: 48\nfy: 49\ncx: 24\ncy: 16\nk1: 0.1\n")
    given = opened(no_info, replace(NONE, intrinsics=str(yaml)))
    assert shots(given)[0].frame.intrinsics.fy == 49.0
    assert [note.partition(",")[0] for note in given.notes] == [f"{yaml} tells of distortion"]
    yaml.write_text("image_width: 24\nimage_height: 16\nfx: 48\nfy: 49\ncx: 24\ncy: 16\n")
    other = refused(no_info, replace(NONE, intrinsics=str(yaml)))
    assert other.outcome is Outcome.NO_CAMERA_INFO
    assert refused(make_bag(tmp_path / "no_depth", without("depth"))).outcome is Outcome.NO_DEPTH
    assert refused(make_bag(tmp_path / "no_color", without("color"))).outcome is Outcome.NO_COLOR


def test_what_was_recorded_in_place_of_depth_is_told(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_HUMBLE)

    def clouds(role: str, message: Any, index: int) -> Edited | None:
        if role != "depth":
            return None
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

    def compressed(role: str, message: Any, index: int) -> Edited | None:
        if role != "depth":
            return None
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
    ("name", "value"),
    [
        *[("depth_unit_m", value) for value in (0.0, float("nan"))],
        *[("rate_hz", -1.0), ("sync_slop_s", -0.1), ("max_gap_s", 0.0)],
    ],
)
def test_numbers_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(DktError, match=f"{name} is .*, expected"):
        SourceOptions(**{name: value})  # type: ignore[arg-type]


def test_two_cameras(tmp_path: Path) -> None:
    def both(role: str, message: Any, index: int) -> Edited:
        names = {"info": "color/camera_info", "color": "color/image_raw"}
        name = names.get(role, "aligned_depth_to_color/image_raw")
        return [(f"/{camera}/{name}", message, 0) for camera in ("left_arm", "right_arm")]

    path = make_bag(tmp_path / "two", both)
    error = refused(path)
    assert error.outcome is Outcome.SEVERAL_CAMERAS
    assert "/left_arm/color/image_raw, /right_arm/color/image_raw" in str(error)
    source = opened(path, replace(NONE, topics={"color": "/right_arm/color/image_raw"}))
    assert source.topics.depth == "/right_arm/aligned_depth_to_color/image_raw"  # type: ignore[attr-defined]
    assert len(shots(source)) == COUNT


@pytest.mark.parametrize("depth", ["", "depth/image_rect_raw"])
def test_a_camera_beside_it_with_less_is_no_second_one(tmp_path: Path, depth: str) -> None:
    """Without depth, or with depth that is not registered."""

    def beside(role: str, message: Any, index: int) -> Edited:
        names = {"info": "color/camera_info", "color": "color/image_raw"}
        name = names.get(role, "aligned_depth_to_color/image_raw")
        other = message
        if role == "depth":
            other = replace(message, header=replace(message.header, frame_id="other_depth"))
        found = [(f"/arm/{name}", message, 0), (f"/a_webcam/{names.get(role, depth)}", other, 0)]
        return found if names.get(role, depth) else found[:1]

    source = opened(make_bag(tmp_path / "two", beside))
    assert source.topics.color == "/arm/color/image_raw"  # type: ignore[attr-defined]
    assert len(shots(source)) == COUNT


def test_a_bag_that_was_split_is_one_recording(tmp_path: Path) -> None:
    """Its calibration was sent once, to its first file."""
    once = make_bag(
        tmp_path / "once", lambda role, _message, index: [] if role == "info" and index else None
    )
    parts = BagOutput(tmp_path / "split", "split", typestore())
    with BagReader(once) as bag:
        for number, message in enumerate(bag.messages()):
            if number in (7, 13):
                parts.cut()
            parts.write_cdr(message.topic, message.msgtype, message.cdr, message.time_ns)
    parts.finish()
    source = opened(tmp_path / "split")
    assert len(shots(source)) == COUNT
    assert (source.lost, source.notes) == ([], [])
    hint = f"it is one file of a bag that was split: {tmp_path / 'split'} is all of it"
    assert opened(tmp_path / "split" / "split_0.mcap").notes == [hint]
    error = refused(tmp_path / "split" / "split_1.mcap")
    assert error.outcome is Outcome.NO_CAMERA_INFO
    assert str(error).endswith(hint)


def test_calibration_behind_its_images(tmp_path: Path) -> None:
    behind: list[Any] = []

    def zooms(role: str, message: Any, index: int) -> Edited:
        if role == "info":
            message.k[0] = 40.0 + index
            behind[:] = [message]
            return []
        return [(role, message, 0), *([("info", behind[0], 0)] if role == "depth" else [])]

    found = shots(opened(make_bag(tmp_path / "behind", zooms)))
    assert [shot.frame.intrinsics.fx for shot in found] == [40.0 + n for n in range(COUNT)]


def test_clocks_that_run_backwards_start_anew(tmp_path: Path) -> None:
    def back(role: str, message: Any, index: int) -> Edited:
        if index >= 4:
            message.header.stamp.sec -= 100
        return [(role, message, START_NS + index * PERIOD_NS)]

    source = opened(make_bag(tmp_path / "back", back))
    assert [item.epoch for item in pending(source)] == [0, 0, 0, 0, 1, 1, 1]
    assert any("ran backwards" in line for line in source.lost)


@pytest.mark.parametrize(
    ("late_ns", "expected"),
    [
        (-30_000_000, "are 0.030 s apart, --sync-slop is 0.02; take --sync-slop 0.04"),
        (50_000_000_000, "two clocks"),
    ],
)
def test_stamps_that_do_not_match(
    late_ns: int, expected: str, tmp_path: Path, told: ProcessOptions
) -> None:
    def late(role: str, message: Any, index: int) -> None:
        if role == "depth":
            stamp, stamp_ns = message.header.stamp, START_NS + index * PERIOD_NS + late_ns
            stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)

    path = make_bag(tmp_path / "late", late)
    source = opened(path)
    assert shots(source) == []
    assert len(source.lost) == 1
    assert expected in source.lost[0]
    with pytest.raises(ProcessingError, match=re.escape(expected)) as caught:
        processed(path, told, tmp_path / "out")
    assert caught.value.outcome is Outcome.NOTHING_USABLE
    wide = replace(NONE, sync_slop_s=0.04)
    assert len(shots(opened(path, wide))) == (COUNT if abs(late_ns) < 1e9 else 0)


def test_messages_without_content(tmp_path: Path) -> None:
    def hollow(role: str, message: Any, index: int) -> None:
        if role == "color" and index in (2, 3):
            message.data = message.data[:0]

    source = opened(make_bag(tmp_path / "hollow", hollow))
    assert len(shots(source)) == COUNT - 2
    assert [line.partition(":")[0] for line in source.lost] == ["2 x truncated image"]


@pytest.mark.parametrize(("apart", "is_lost"), [(50, False), (70, True)])
def test_streams_that_were_written_in_bunches(tmp_path: Path, apart: int, is_lost: bool) -> None:
    def later(role: str, message: Any, index: int) -> Edited | None:
        if role != "depth":
            return None
        return [(role, message, START_NS + (index + apart) * PERIOD_NS)]

    source = opened(make_bag(tmp_path / "bag", later, count=80))
    assert (len(shots(source)) == 80) != is_lost
    assert any("order of the stamps" in line for line in source.lost) == is_lost


@pytest.mark.parametrize("missing", ["color", "depth"])
def test_a_camera_that_begins_later_than_the_other_is_no_loss(tmp_path: Path, missing: str) -> None:
    def begins(role: str, message: Any, index: int) -> Edited | None:
        return [] if role == missing and index < 75 else None

    source = opened(make_bag(tmp_path / "bag", begins, count=80))
    assert len(shots(source)) == 5
    assert source.dropped.total() == 75
    assert source.lost == []
    (note,) = source.notes
    assert " begins 7.5 s after " in note


@pytest.mark.parametrize("missing", ["color", "depth"])
def test_a_stream_that_stops_is_a_loss_and_told(
    tmp_path: Path, missing: str, told: ProcessOptions
) -> None:
    def stops(role: str, message: Any, index: int) -> Edited | None:
        return [] if role == missing and (index >= 30 or index % 2) else None

    path = make_bag(tmp_path / "bag", stops, count=50)
    source = opened(path)
    assert len(shots(source)) == 15
    name, other = {"depth": ("depth", "colour"), "color": ("colour", "depth")}[missing]
    (line,) = source.lost
    assert line.startswith(f"{name} /camera/camera/")
    assert f" is missing for 2.1 s from 2.8 s on to the end, while {other} /camera" in line
    assert line.endswith("goes on: 21 of its images are without it")
    summary = processed(path, told, tmp_path / "out")
    assert summary["outcome"] == Outcome.INCOMPLETE.value
    assert summary["lost"] == [line], "all of it could be read"


def test_pictures_of_16_bits_are_as_bright_where_a_killed_run_goes_on(
    tmp_path: Path, told: ProcessOptions
) -> None:
    """A camera of twelve bits, which some pictures alone need."""

    def deep(role: str, message: Any, index: int) -> Edited | None:
        if role != "color":
            return None
        light = np.full((message.height, message.width, 3), 900 if index > 1 else 1100, np.uint16)
        png = cv2.imencode(".png", light)[1].ravel()
        kind = typestore().types["sensor_msgs/msg/CompressedImage"]
        one = kind(header=message.header, format="rgb16; png compressed bgr16", data=png)
        return [(f"{CameraTopics().color}/compressed", one, START_NS + index * PERIOD_NS)]

    def stop(name: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    bag = make_bag(tmp_path / "bag", deep)
    assert all(one.leads for one in pending(opened(bag)))
    options = replace(told, part_frames=2, color="jpeg")
    processed(bag, options, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        processed(bag, options, tmp_path / "out", stop)
    assert processed(bag, options, tmp_path / "out")["resumed_at_frame"] == 4
    whole, made = tmp_path / "whole/bag/bag", tmp_path / "out/bag/bag"
    with BagReader(whole) as one, BagReader(made) as other:
        shown = ["/dkt/color/compressed"]
        assert [m.cdr for m in one.messages(shown)] == [m.cdr for m in other.messages(shown)]


def test_depth_that_is_stamped_beside_its_colour_for_good_is_noted(tmp_path: Path) -> None:
    def later(role: str, message: Any, index: int) -> None:
        if role == "depth":
            message.header.stamp.nanosec += 18_000_000

    source = opened(make_bag(tmp_path / "bag", later, count=12))
    assert len(shots(source)) == 12
    (note,) = source.notes
    assert "depth is stamped 18 ms after the colour that it is paired with" in note


def test_images_without_stamps(tmp_path: Path) -> None:
    def unstamped(role: str, message: Any, index: int) -> None:
        message.header.stamp = type(message.header.stamp)(0, 0)

    source = opened(make_bag(tmp_path / "bag", unstamped))
    assert len(shots(source)) == 1
    assert "stamp each image with its time" in source.lost[0]


def test_stamps_before_1970_cost_their_frames_alone(tmp_path: Path, told: ProcessOptions) -> None:
    def early(role: str, message: Any, index: int) -> Edited:
        if index in (0, 4):  # unsigned seconds of ROS 1, wrapped
            message.header.stamp.sec = -1
        return [(role, message, START_NS + index * PERIOD_NS)]

    summary = processed(make_bag(tmp_path / "bag", early), told, tmp_path / "out")
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
    store = get_typestore(Stores.ROS2_HUMBLE)
    with (
        BagReader(make_bag(tmp_path / "bag")) as bag,
        Writer(tmp_path / "copy", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        profiles = [profile] * publishers
        connections = {
            topic.name: writer.add_connection(
                topic.name, topic.msgtype, typestore=store, offered_qos_profiles=profiles
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
    assert processed(tmp_path / "wrapped", options, tmp_path / "out")["frames"] == COUNT


def test_a_first_message_that_is_none(tmp_path: Path, bag: Path) -> None:
    odd = tmp_path / "odd"
    with BagReader(bag) as reader, BagWriter(odd) as writer:
        broken = set()
        for message in reader.messages():
            value: Any = writer.typestore.deserialize_cdr(message.cdr, message.msgtype)
            writer.write(message.topic, value, message.time_ns)
            if message.topic not in broken:
                broken.add(message.topic)
                connection = writer._connections[message.topic]
                writer._writer.write(connection, message.time_ns - 1, bytes(3))
    source = opened(odd)
    assert len(shots(source)) == COUNT
    assert sum("damaged message on" in line for line in source.lost) >= 3
