"""Every kind of bag is read; what cannot be read says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record
from dkt_ros.errors import DktError

ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS2 = get_typestore(Stores.ROS2_HUMBLE)


def write_ros1(path: Path, compression: Any = None, count: int = 3) -> Path:
    """A ROS 1 bag: an image and its latched camera info; a range, to which ROS 2 added a field."""
    types = ROS1.types
    writer = Rosbag1Writer(path)
    if compression:
        writer.set_compression(compression)
    with writer:
        image = writer.add_connection("/color", "sensor_msgs/msg/Image", typestore=ROS1)
        info = writer.add_connection(
            "/info", "sensor_msgs/msg/CameraInfo", typestore=ROS1, latching=1
        )
        sonar = writer.add_connection("/sonar", "sensor_msgs/msg/Range", typestore=ROS1)
        for index in range(count):
            time_ns = 5_000_000_000 + index * 1_000_000
            header = types["std_msgs/msg/Header"](
                seq=77,
                stamp=types["builtin_interfaces/msg/Time"](sec=5, nanosec=index * 1_000_000),
                frame_id="cam",
            )
            message = types["sensor_msgs/msg/Image"](
                header=header,
                height=2,
                width=3,
                encoding="rgb8",
                is_bigendian=0,
                step=9,
                data=np.arange(18, dtype=np.uint8) + index,
            )
            writer.write(image, time_ns, ROS1.serialize_ros1(message, image.msgtype))
            camera = types["sensor_msgs/msg/CameraInfo"](
                header=header,
                height=2,
                width=3,
                distortion_model="plumb_bob",
                D=np.zeros(5),
                K=np.arange(9.0),
                R=np.eye(3).ravel(),
                P=np.arange(12.0),
                binning_x=0,
                binning_y=0,
                roi=types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
            )
            writer.write(info, time_ns, ROS1.serialize_ros1(camera, info.msgtype))
            reading = types["sensor_msgs/msg/Range"](
                header=header,
                radiation_type=0,
                field_of_view=0.1,
                min_range=0.1,
                max_range=2.0,
                range=1.0,
            )
            writer.write(sonar, time_ns, ROS1.serialize_ros1(reading, sonar.msgtype))
    return path


@pytest.mark.parametrize("compression", [None, Rosbag1Writer.CompressionFormat.LZ4])
def test_ros1_messages_become_ros2_messages(tmp_path: Path, compression: Any) -> None:
    with BagReader(write_ros1(tmp_path / "a.bag", compression)) as bag:
        assert bag.topics["/info"].latched
        assert not bag.topics["/color"].latched
        assert "other fields in ROS 2" in bag.topics["/sonar"].problem
        assert (bag.start_ns, bag.end_ns) == (5_000_000_000, 5_002_000_000)
        messages = list(bag.messages())
    assert [m.topic for m in messages] == ["/color", "/info"] * 3
    image: Any = ROS2.deserialize_cdr(messages[2].cdr, messages[2].msgtype)
    assert image.header.stamp.nanosec == 1_000_000
    assert (image.header.frame_id, image.encoding) == ("cam", "rgb8")
    np.testing.assert_array_equal(image.data, np.arange(18) + 1)
    info: Any = ROS2.deserialize_cdr(messages[1].cdr, messages[1].msgtype)
    np.testing.assert_array_equal(info.k, np.arange(9.0))


def test_a_labs_own_ros1_type_is_converted_too(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(
        get_types_from_msg("std_msgs/Header header\nfloat64 grip\n", "lab_msgs/msg/Grip")
    )
    with Rosbag1Writer(tmp_path / "a.bag") as writer:
        connection = writer.add_connection("/grip", "lab_msgs/msg/Grip", typestore=store)
        header = store.types["std_msgs/msg/Header"](
            seq=1, stamp=store.types["builtin_interfaces/msg/Time"](1, 2), frame_id="tool"
        )
        message = store.types["lab_msgs/msg/Grip"](header=header, grip=0.25)
        writer.write(connection, 1, store.serialize_ros1(message, connection.msgtype))
    ros2 = get_typestore(Stores.ROS2_HUMBLE)
    ros2.register(get_types_from_msg("std_msgs/Header header\nfloat64 grip\n", "lab_msgs/msg/Grip"))
    with BagReader(tmp_path / "a.bag") as bag:
        (found,) = bag.messages(["/grip"])
    grip: Any = ros2.deserialize_cdr(found.cdr, found.msgtype)
    assert (grip.grip, grip.header.frame_id) == (0.25, "tool")


def test_messages_come_in_order_of_time_and_of_the_asked_topics(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    with BagReader(tmp_path / "bag") as bag:
        topic = "/camera/camera/color/camera_info"
        assert [m.time_ns for m in bag.messages([topic])] == [f.frame.stamp_ns for f in frames]
        times = [m.time_ns for m in bag.messages()]
    assert times == sorted(times)
    assert len(times) == 5 * len(frames)


def test_missing_topics_are_answered_with_what_is_there(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    with BagReader(tmp_path / "bag") as bag, pytest.raises(DktError) as caught:
        list(bag.messages(["/nope"]))
    assert "no topic /nope" in str(caught.value)
    assert "/camera/camera/color/camera_info (sensor_msgs/msg/CameraInfo)" in str(caught.value)


def test_a_recording_that_crashed_before_its_metadata_is_read(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with BagReader(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == 5 * len(frames)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "absent", "no such bag"),
        (lambda p: p, "neither metadata.yaml nor"),
        (lambda p: _file(p / "a.txt", b"x"), "not a bag"),
        (lambda p: _file(p / "a.bag", b""), "empty"),
        (lambda p: _file(p / "a.bag", b"#ROSBAG V1.2\n"), "version"),
        (lambda p: _file(p / "a.mcap", b""), "empty"),
        (lambda p: _file(p / "a.mcap", b"\x00" * 500), "not a bag"),
        (lambda p: _file(p / "a.db3", b"not a database at all" * 50), "not a bag"),
        (lambda p: _file(p / "metadata.yaml", b"{").parent, "metadata.yaml cannot be read"),
        (lambda p: _file(p / "metadata.yaml", b"a: [1]").parent, "metadata.yaml cannot be read"),
        (lambda p: write_ros1(p / "a.bag", count=0), "no messages"),
    ],
)
def test_what_is_no_bag_is_named(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    path = make(tmp_path)
    with pytest.raises(DktError, match=words) as caught:
        BagReader(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["mcap", "mcap-plain", "sqlite3", "ros1", "ros1-lz4"])
def test_damage_costs_what_is_damaged_and_raises_nothing_but_dkt_errors(
    tmp_path: Path, frames: list[LabelledFrame], kind: str
) -> None:
    """Truncated anywhere, or with bytes changed: what is lost is named, or nothing can be read."""
    if kind.startswith("ros1"):
        compression = Rosbag1Writer.CompressionFormat.LZ4 if "lz4" in kind else None
        path = write_ros1(tmp_path / "a.bag", compression)
    else:
        options = RecordingOptions(storage=kind.split("-")[0], compress="plain" not in kind)
        record(frames, tmp_path / "bag", options)
        (path,) = (p for p in (tmp_path / "bag").iterdir() if p.suffix in (".mcap", ".db3"))
    whole = path.read_bytes()
    with BagReader(path) as bag:
        recorded = {(m.topic, m.time_ns, m.cdr) for m in bag.messages()}
    rng = np.random.default_rng(0)
    refusals, parts = [], 0
    for step in range(30):
        data = bytearray(whole)
        if step % 2:
            for position in rng.integers(0, len(data), 20):
                data[position] = rng.integers(256)
        else:
            del data[int(rng.integers(1, len(data))) :]
        path.write_bytes(data)
        try:
            with BagReader(path) as bag:
                read = {(m.topic, m.time_ns, m.cdr) for m in bag.messages()}
            parts += 0 < len(read) < len(recorded)
            if not step % 2:
                assert read <= recorded
                assert bag.remarks or read == recorded
        except DktError as error:
            refusals.append(str(error))
    assert parts + len(refusals) > 5
    assert all(str(path) in refusal for refusal in refusals)


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
