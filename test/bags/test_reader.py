"""Every kind of bag is read; what cannot be read says so."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fixtures.folders import contents, disk_full
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dkt_ros.bags.reader import BagReader, decoded
from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record
from dkt_ros.bags.storage import zstd
from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.files import StorageError
from dkt_ros.processing.bag_source import BagSource
from dkt_ros.processing.source import SourceOptions

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


def test_the_code_of_a_type_is_made_once_and_what_it_reads_may_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    make = Typestore.__init__
    monkeypatch.setattr(Typestore, "__init__", lambda *given: made.append(make(*given)))
    with BagReader(write_ros1(tmp_path / "a.bag")) as bag:
        images = [decoded(message) for message in bag.messages(["/color"])]
    before = len(made)
    assert all(image.data.flags.writeable for image in images)
    with BagReader(tmp_path / "a.bag") as bag:
        assert [decoded(one).header.frame_id for one in bag.messages(["/color"])] == ["cam"] * 3
    assert len(made) == before


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


def test_publishers_of_a_topic_are_told_apart(tmp_path: Path) -> None:
    with Rosbag1Writer(tmp_path / "a.bag") as writer:
        for number, (topic, caller) in enumerate([("/a", "/x"), ("/a", "/y"), ("/b", "/x")]):
            text = writer.add_connection(
                topic, "std_msgs/msg/String", typestore=ROS1, callerid=caller
            )
            hello = ROS1.types["std_msgs/msg/String"](data="hello")
            writer.write(text, number, ROS1.serialize_ros1(hello, text.msgtype))
    with BagReader(tmp_path / "a.bag") as bag:
        assert {name: topic.publishers for name, topic in bag.topics.items()} == {"/a": 2, "/b": 1}


@pytest.mark.parametrize("told", [True, False])
def test_ros1_messages_in_mcap_become_ros2_messages(tmp_path: Path, told: bool) -> None:
    stamp = ROS1.types["builtin_interfaces/msg/Time"](3, 4)
    header = ROS1.types["std_msgs/msg/Header"](seq=7, stamp=stamp, frame_id="cam")
    sent = ROS1.types["sensor_msgs/msg/Image"](
        header,
        height=1,
        width=2,
        encoding="mono8",
        is_bigendian=0,
        step=2,
        data=np.arange(2, 4, dtype=np.uint8),
    )
    definition, _ = ROS1.generate_msgdef("sensor_msgs/msg/Image")
    with Rosbag2Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(
            "/image",
            "sensor_msgs/msg/Image",
            msgdef=definition if told else "",
            rihs01="RIHS01_" + "0" * 64,
            serialization_format="ros1",
        )
        writer.write(connection, 1, ROS1.serialize_ros1(sent, connection.msgtype))
    with BagReader(tmp_path / "bag") as bag:
        (found,) = bag.messages()
    image: Any = ROS2.deserialize_cdr(found.cdr, found.msgtype)
    assert (image.header.stamp.sec, image.header.frame_id, image.encoding) == (3, "cam", "mono8")
    np.testing.assert_array_equal(image.data, [2, 3])


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
        assert not bag.remarks


COLOR = "/camera/camera/color/image_raw/compressed"
STORAGES = ("mcap", "sqlite3")


def storage_file(bag: Path) -> Path:
    (file,) = (p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    return file


def count(path: Path) -> int:
    """How many messages are read, in order of time."""
    with BagReader(path) as bag:
        times = [message.time_ns for message in bag.messages()]
    assert times == sorted(times)
    return len(times)


def with_odd_topic(path: Path, storage: str, **odd: Any) -> Path:
    """A bag of three texts, and a topic /odd of a type as `odd` tells."""
    plugin = StoragePlugin[storage.upper()]
    with Rosbag2Writer(path, version=9, storage_plugin=plugin) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
        other = writer.add_connection("/odd", **odd, rihs01="RIHS01_" + "0" * 64)
        writer.write(other, 1, bytes(16))
        for time_ns in (1, 2, 3):
            hello = ROS2.types["std_msgs/msg/String"](data="hello")
            writer.write(text, time_ns, ROS2.serialize_cdr(hello, text.msgtype))
    return path


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("msgtype", "msgdef", "problem"),
    [
        ("a/srv/Do_Event", "=" * 80 + "\nSRV: a/srv/Do\nbool x\n---\n", "no message type"),
        ("a/srv/Do_Event", "MSG: a/srv/Do_Event\nbool x\n---\nbool y\n", "no message type"),
        ("Nameless", "", "no message type"),
        ("a/msg/Own", "", ""),  # whether it is installed is the player's to say
        ("sensor_msgs/msg/Image", "", ""),
    ],
)
def test_an_odd_type_costs_its_topic_alone(
    tmp_path: Path, storage: str, msgtype: str, msgdef: str, problem: str
) -> None:
    bag = with_odd_topic(tmp_path / "bag", storage, msgtype=msgtype, msgdef=msgdef)
    with BagReader(bag) as reader:
        assert problem in reader.topics["/odd"].problem
        assert bool(problem) == bool(reader.topics["/odd"].problem)
        assert len(list(reader.messages(["/text"]))) == 3


def test_a_topic_of_two_lines_is_listed_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Rosbag2Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        odd = writer.add_connection("/a\n/b\x1b[2J", "std_msgs/msg/String", typestore=ROS2)
        hello = ROS2.types["std_msgs/msg/String"](data="hello")
        writer.write(odd, 1, ROS2.serialize_cdr(hello, odd.msgtype))
    assert main(["bag", "info", str(tmp_path / "bag")]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line == r"  /a /b\x1b[2J  std_msgs/msg/String  1 message"


@pytest.mark.parametrize("storage", STORAGES)
def test_other_serializations_cost_their_topic_alone(tmp_path: Path, storage: str) -> None:
    bag = with_odd_topic(
        tmp_path / "bag", storage, msgtype="a/msg/B", msgdef="", serialization_format="json"
    )
    with BagReader(storage_file(bag)) as reader:
        assert "serialized as 'json'" in reader.topics["/odd"].problem
        assert len(list(reader.messages())) == 3


def test_a_listing_says_what_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = with_odd_topic(
        tmp_path / "bag", "mcap", msgtype="a/msg/B", msgdef="", serialization_format="json"
    )
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[:-40])
    assert main(["bag", "info", str(file)]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^  /odd  a/msg/B .*cannot be read: .*serialized as 'json'", listed, re.M)
    assert "\n  note: bag.mcap: its index is damaged, or missing" in listed


@pytest.mark.parametrize("storage", STORAGES)
def test_a_topic_is_what_was_written_to_it(tmp_path: Path, storage: str) -> None:
    plugin = StoragePlugin[storage.upper()]
    with Rosbag2Writer(tmp_path / "bag", version=9, storage_plugin=plugin) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
        for time_ns in (1, 2, 3):
            hello = ROS2.types["std_msgs/msg/String"](data="hello")
            writer.write(text, time_ns, ROS2.serialize_cdr(hello, text.msgtype))
        writer.add_connection("/text", "std_msgs/msg/Int8", typestore=ROS2)
    with BagReader(tmp_path / "bag") as bag:
        assert bag.topics["/text"].msgtype == "std_msgs/msg/String"
        assert len(list(bag.messages())) == 3


@pytest.mark.parametrize(
    ("msgtype", "msgdef", "md5", "readable"),
    [
        ("a/msg/State", "sensor_msgs/Imu imu\nother_msgs/M m\n", "0" * 32, False),
        ("a/msg/State", "sensor_msgs/Imu imu\nother_ms", "0" * 32, False),
        ("a/msg/State", "uint8 x\n", "0" * 32, False),
        ("a/msg/State", "uint8 x\n", "*", True),
        ("std_msgs/msg/Int8", "", "27ffa0c9c4b8fb8492252bcad9e5c57b", True),
    ],
)
def test_an_incomplete_ros1_definition_costs_its_topic_alone(
    tmp_path: Path, msgtype: str, msgdef: str, md5: str, readable: bool
) -> None:
    with Rosbag1Writer(tmp_path / "a.bag") as writer:
        odd = writer.add_connection("/odd", msgtype, msgdef=msgdef, md5sum=md5)
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS1)
        hello = ROS1.types["std_msgs/msg/String"](data="hello")
        writer.write(odd, 1, b"\x07")
        writer.write(text, 2, ROS1.serialize_ros1(hello, text.msgtype))
    with BagReader(tmp_path / "a.bag") as bag:
        problem = bag.topics["/odd"].problem
        assert not problem if readable else "definition of its type a/msg/State" in problem
        assert len(list(bag.messages())) == 1 + readable


@pytest.mark.parametrize("storage", STORAGES)
def test_metadata_says_which_files_and_what_is_latched_and_nothing_else(
    tmp_path: Path, frames: list[LabelledFrame], storage: str
) -> None:
    bag = tmp_path / "bag"
    record(frames, bag, RecordingOptions(storage=storage))
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    information["storage_identifier"] = ""
    information["message_count"] = 1
    for entry in information["topics_with_message_count"]:
        profile = {"durability": "transient_local", "history": "keep_last", "depth": 3}
        entry["topic_metadata"]["offered_qos_profiles"] = [profile, profile]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content))
    with BagReader(bag) as reader:
        assert len(list(reader.messages())) == 5 * len(frames)
        assert {(topic.latched, topic.kept) for topic in reader.topics.values()} == {(True, 4)}
    with BagReader(storage_file(bag)) as reader:
        assert not any(topic.latched for topic in reader.topics.values())


def test_metadata_is_utf_8_whatever_the_locale(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    """A locale that is not, as of Windows' or Chinese systems, which a container may inherit."""
    bag = tmp_path / "bag"
    record(frames, bag, RecordingOptions())
    with (bag / "metadata.yaml").open("a", encoding="utf-8") as file:
        file.write("# in der Küche\n")
    ran = subprocess.run(
        [sys.executable, "-c", _REMARKS, str(bag)],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


_REMARKS = """
import sys
from dkt_ros.bags.reader import BagReader
with BagReader(sys.argv[1]) as bag:
    print(bag.remarks)
"""


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("version", [8, 9])  # numbers; words
def test_what_a_late_subscriber_is_due_stands_in_the_file_too(
    tmp_path: Path, storage: str, version: Any
) -> None:
    plugin = StoragePlugin[storage.upper()]
    with Rosbag2Writer(tmp_path / "bag", version=version, storage_plugin=plugin) as writer:
        for topic, profiles in {
            "/volatile": [qos("VOLATILE", "KEEP_LAST", 3)] * 2,
            "/last": [qos("TRANSIENT_LOCAL", "KEEP_LAST", depth) for depth in (3, 4)],
            "/all": [qos("TRANSIENT_LOCAL", "KEEP_ALL", 3)],
            "/any": [qos("TRANSIENT_LOCAL", "KEEP_LAST", 0)] * 2,
        }.items():
            text = writer.add_connection(
                topic, "std_msgs/msg/String", typestore=ROS2, offered_qos_profiles=profiles
            )
            hello = ROS2.types["std_msgs/msg/String"](data="hello")
            for time_ns in range(9):
                writer.write(text, time_ns, ROS2.serialize_cdr(hello, text.msgtype))
    with BagReader(storage_file(tmp_path / "bag")) as bag:
        found = {name: (one.kept, one.publishers) for name, one in bag.topics.items()}
    assert found == {
        "/volatile": (0, 2),
        "/last": (7, 2),
        "/all": (9, 1),
        "/any": (9, 2),
    }


def qos(durability: str, history: str, depth: int) -> Qos:
    now = QosTime(0, 0)
    return Qos(
        QosHistory[history],
        depth,
        QosReliability.RELIABLE,
        QosDurability[durability],
        now,
        now,
        QosLiveliness.AUTOMATIC,
        now,
        False,
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_compression_is_seen_from_the_bytes(
    tmp_path: Path, frames: list[LabelledFrame], storage: str
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions(storage=storage))
    file = storage_file(tmp_path / "bag")
    assert count(file) == 5 * len(frames)
    for ending in (".zstd", ".zst"):
        packed = file.with_name(f"{file.name}{ending}")
        packed.write_bytes(zstd.compress(file.read_bytes()))
        shutil.move(file, tmp_path / file.name)
        assert count(packed) == count(tmp_path / "bag") == 5 * len(frames)
        (tmp_path / "bag/metadata.yaml").unlink(missing_ok=True)
        assert count(tmp_path / "bag") == 5 * len(frames)
        shutil.move(tmp_path / file.name, file)
        packed.unlink()


def test_no_room_to_expand_it_is_no_damage(
    tmp_path: Path, frames: list[LabelledFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a bag of which one part was expanded taken for all of it."""
    record(frames, tmp_path / "bag", RecordingOptions())
    file = storage_file(tmp_path / "bag")
    (tmp_path / "bag/bag_1.mcap.zstd").write_bytes(zstd.compress(file.read_bytes()))
    (tmp_path / "bag/metadata.yaml").unlink()

    assert count(tmp_path / "bag") > count(file)
    monkeypatch.setattr("dkt_ros.bags.reader.mkdtemp", disk_full)
    with pytest.raises(StorageError, match=r"bag_1\.mcap\.zstd takes more: .* set TMPDIR"):
        BagReader(tmp_path / "bag")
    with pytest.raises(StorageError):  # of which dkt process has a status
        BagSource(tmp_path / "bag", "bag", SourceOptions())


@pytest.mark.parametrize("storage", STORAGES)
def test_a_packed_file_that_was_cut_is_read_as_far_as_it_goes(
    tmp_path: Path, frames: list[LabelledFrame], storage: str
) -> None:
    options = RecordingOptions(storage=storage, compress=False, color="raw", depth="32FC1")
    record(frames * 10, tmp_path / "bag", options)
    file = storage_file(tmp_path / "bag")
    data = zstd.compress(file.read_bytes())
    packed = tmp_path / f"{file.name}.zstd"
    packed.write_bytes(data[:-20])
    with BagReader(packed) as bag:
        assert 5 * len(frames) < len(list(bag.messages())) < 50 * len(frames)
        assert "cut short" in bag.remarks[0]
    begun = file.read_bytes()[: file.stat().st_size // 2]
    packed.write_bytes(zstd.compress(begun) + b"no zstd")
    with BagReader(packed) as bag:
        assert 5 * len(frames) < len(list(bag.messages())) < 50 * len(frames)
        assert "zstd: damaged" in bag.remarks[0]
    packed.write_bytes(data[:10] + b"no zstd")
    with pytest.raises(DktError, match=r"zstd: damaged \("):
        BagReader(packed)


@pytest.mark.parametrize("listed", ["bag.mcap", "bag.mcap.zstd", "C:\\bags\\bag.mcap"])
@pytest.mark.parametrize("is_packed", [True, False])
def test_what_metadata_lists_may_have_been_expanded_since(
    tmp_path: Path, frames: list[LabelledFrame], listed: str, is_packed: bool
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    file = storage_file(tmp_path / "bag")
    if is_packed:
        file.with_name("bag.mcap.zstd").write_bytes(zstd.compress(file.read_bytes()))
        file.unlink()
    information = {"relative_file_paths": [listed]}
    (tmp_path / "bag/metadata.yaml").write_text(
        yaml.safe_dump({"rosbag2_bagfile_information": information})
    )
    with BagReader(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == 5 * len(frames)
        assert not bag.remarks


def split_bag(folder: Path, storage: str, frames: list[LabelledFrame]) -> list[Path]:
    """One frame in each of three files of one bag, with a metadata.yaml that names them."""
    folder.mkdir()
    for index in range(3):
        record(frames[index : index + 1], folder / "part", RecordingOptions(storage=storage))
        file = storage_file(folder / "part")
        file.rename(folder / f"all_{index}{file.suffix}")
        shutil.rmtree(folder / "part")
    files = sorted(folder.iterdir())
    information = {"relative_file_paths": [f"old/{file.name}" for file in files]}
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump({"rosbag2_bagfile_information": information})
    )
    return files


@pytest.mark.parametrize("storage", STORAGES)
def test_a_lost_or_damaged_part_costs_itself_alone(
    tmp_path: Path, frames: list[LabelledFrame], storage: str
) -> None:
    bag = tmp_path / "all"
    files = split_bag(bag, storage, frames)
    assert count(bag) == 15
    (bag / "metadata.yaml").rename(tmp_path / "metadata.yaml")
    assert count(bag) == 15
    (tmp_path / "metadata.yaml").rename(bag / "metadata.yaml")
    listed = [file.name for file in (*reversed(files), files[1])]
    twice = {"rosbag2_bagfile_information": {"relative_file_paths": listed}}
    (tmp_path / "metadata.yaml").write_text(yaml.safe_dump(twice))
    shutil.copy(tmp_path / "metadata.yaml", bag / "metadata.yaml")
    assert count(bag) == 15
    files[1].write_bytes(b"rubbish")
    with BagReader(bag) as reader:
        assert len(list(reader.messages())) == 10
        assert "not a bag" in reader.remarks[0]
    files[1].unlink()
    with BagReader(bag) as reader:
        assert len(list(reader.messages())) == 10
        assert f"{files[1].name} named by metadata.yaml is missing" in reader.remarks[0]
    files[0].rename(bag / f"renamed{files[0].suffix}")
    assert count(bag) == 10


@pytest.mark.parametrize("storage", STORAGES)
def test_a_part_that_holds_nothing_yet_is_of_no_time(
    tmp_path: Path, frames: list[LabelledFrame], storage: str
) -> None:
    """As where a recorder is killed when it has just begun the next file."""
    files = split_bag(tmp_path / "all", storage, frames)
    plugin = StoragePlugin[storage.upper()]
    with Rosbag2Writer(tmp_path / "empty", version=9, storage_plugin=plugin) as writer:
        writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
    storage_file(tmp_path / "empty").rename(files[1])
    with BagReader(tmp_path / "all") as bag:
        assert (bag.start_ns, bag.end_ns) == (frames[0].frame.stamp_ns, frames[2].frame.stamp_ns)
        assert len(list(bag.messages())) == 10
        assert not bag.remarks


def test_two_bags_in_one_folder_are_not_mixed(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    for name in ("one", "two"):
        record(frames, tmp_path / name, RecordingOptions())
        storage_file(tmp_path / name).rename(tmp_path / f"{name}.mcap")
        shutil.rmtree(tmp_path / name)
    with pytest.raises(DktError, match=r"one\.mcap, two\.mcap .*name one of the files"):
        BagReader(tmp_path)


def test_messages_in_a_write_ahead_log_count(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    record(frames, tmp_path / "bag", RecordingOptions(storage="sqlite3", compress=False))
    source = storage_file(tmp_path / "bag")
    database = sqlite3.connect(source)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    (rows,) = database.execute("SELECT count(*) FROM messages").fetchone()
    columns = "topic_id, timestamp, data"
    database.execute(f"INSERT INTO messages ({columns}) SELECT {columns} FROM messages")
    database.commit()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(f"{source}{ending}", crashed / f"crashed_0.db3{ending}")
    database.close()
    before = contents(crashed)
    assert count(crashed) == 2 * rows
    assert contents(crashed) == before


@pytest.mark.parametrize("compress", [True, False])
def test_an_mcap_whose_recorder_was_killed_is_read_to_its_end(
    tmp_path: Path, frames: list[LabelledFrame], compress: bool
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions(compress=compress))
    file = storage_file(tmp_path / "bag")
    data = file.read_bytes()
    (summary,) = struct.unpack_from("<Q", data, len(data) - 28)
    file.write_bytes(data[:summary])
    for bag in (file, file.parent):
        with BagReader(bag) as reader:
            assert len(list(reader.messages())) == 5 * len(frames)
    if not compress:
        file.write_bytes(data[: summary * 2 // 3])
        with BagReader(file) as reader:
            assert 0 < len(list(reader.messages())) < 5 * len(frames)
            assert "recorder was killed" in reader.remarks[0]
    footer = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + b"\x89MCAP0\r\n"
    file.write_bytes(data[:summary] + footer)
    with BagReader(file) as reader:
        assert len(list(reader.messages())) == 5 * len(frames)
        assert not reader.remarks


def test_a_damaged_chunk_costs_itself_alone(tmp_path: Path) -> None:
    with Rosbag1Writer(tmp_path / "a.bag") as writer:
        writer.chunk_threshold = 1
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS1)
        for time_ns in range(1, 6):
            message = ROS1.types["std_msgs/msg/String"](data=f"text {time_ns}")
            writer.write(text, time_ns, ROS1.serialize_ros1(message, text.msgtype))
    data = (tmp_path / "a.bag").read_bytes()
    damaged = data.replace(b"compression=none", b"compression=what", 3).replace(
        b"compression=what", b"compression=none", 2
    )
    (tmp_path / "a.bag").write_bytes(damaged)
    with BagReader(tmp_path / "a.bag") as bag:
        for _ in range(2):
            assert [message.time_ns for message in bag.messages()] == [1, 2, 4, 5]
            assert any("1 damaged message" in remark for remark in bag.remarks)


def without_index(bag: bytes) -> bytes:
    """A ROS 1 bag as a recorder that is killed leaves its header."""
    for name, size in ((b"index_pos=", 8), (b"chunk_count=", 4), (b"conn_count=", 4)):
        at = bag.index(name) + len(name)
        bag = bag[:at] + bytes(size) + bag[at + size :]
    return bag


@pytest.mark.parametrize("compression", [None, Rosbag1Writer.CompressionFormat.BZ2])
def test_ros1_bags_without_an_index_are_read(tmp_path: Path, compression: Any) -> None:
    data = write_ros1(tmp_path / "a.bag", compression).read_bytes()
    active = tmp_path / "a.bag.active"
    active.write_bytes(without_index(data))
    with BagReader(active) as bag:
        assert len(list(bag.messages())) == 6
        assert "has no usable index; found 9 messages" in bag.remarks[0]
        assert bag.topics["/info"].latched
    if compression is None:
        fifth_message = list(re.finditer(b"op=\x02", data))[4]
        (tmp_path / "cut.bag").write_bytes(data[: fifth_message.start()])
        assert 0 < count(tmp_path / "cut.bag") < 6


def test_a_ros1_index_that_is_not_whole_is_not_believed(tmp_path: Path) -> None:
    """Its end is cut off, or what it tells of a topic cannot be found: nothing is read twice."""
    data = write_ros1(tmp_path / "a.bag").read_bytes()
    at = data.index(b"index_pos=") + 10
    (index,) = struct.unpack_from("<Q", data, at)
    nameless = data[:index] + data[index:].replace(b"op=\x07", b"op=\x09", 1)
    for damaged in (data[:-1], data[:-8], nameless):
        (tmp_path / "a.bag").write_bytes(damaged)
        with BagReader(tmp_path / "a.bag") as bag:
            assert sum(topic.count for topic in bag.topics.values()) == 9
            assert len(list(bag.messages())) == 6
            assert "has no usable index; found 9 messages" in bag.remarks[0]


def test_of_a_ros1_bag_without_an_index_damage_costs_a_chunk_and_a_cut_what_follows(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    writer = Rosbag1Writer(tmp_path / "a.bag")
    writer.set_compression(Rosbag1Writer.CompressionFormat.LZ4)
    writer.chunk_threshold = 400_000
    with writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS1)
        for time_ns in range(1, 21):
            message = ROS1.types["std_msgs/msg/String"](data=random.bytes(25_000).hex())
            writer.write(text, time_ns, ROS1.serialize_ros1(message, text.msgtype))
    data = without_index((tmp_path / "a.bag").read_bytes())
    active = tmp_path / "a.bag.active"
    active.write_bytes(data.replace(b"compression=lz4", b"compression=lzx", 1))
    with BagReader(active) as bag:
        held = [message.time_ns for message in bag.messages()]
        assert held == list(range(held[0], 21))
        assert 2 < held[0] < 19
        assert "a damaged chunk is left out" in bag.remarks[0]
    last = data.rindex(b"compression=lz4")
    end = data.index(b"op=\x04", last)
    active.write_bytes(data[: (last + end) // 2])
    with BagReader(active) as bag:
        read = [message.time_ns for message in bag.messages()]
        assert read == list(range(1, read[-1] + 1))
        assert held[0] < read[-1] < 20
        assert not any("damaged" in remark for remark in bag.remarks)


def encrypted(bag: Path) -> Path:
    """The bag with a header that says that it is."""
    data = bag.read_bytes()
    field = b"encryptor=own/One"
    (size,) = struct.unpack_from("<I", data, 13)
    header = data[17 : 17 + size] + struct.pack("<I", len(field)) + field
    bag.write_bytes(data[:13] + struct.pack("<I", len(header)) + header + data[17 + size :])
    return bag


LISTED = b"rosbag2_bagfile_information: {relative_file_paths: [lost_0.db3]}"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "absent", "no such bag"),
        (lambda p: p, "neither metadata.yaml nor"),
        (lambda p: Path("/dev/null"), "neither a file nor a folder"),
        (lambda p: _file(p / "metadata.yaml", b"x"), "which is the folder: name /"),
        (
            lambda p: _file(p / "metadata.yaml", LISTED).parent,
            r"not a bag folder: lost_0\.db3 named by metadata\.yaml is missing$",
        ),
        (
            lambda p: _file(p / "metadata.yaml", LISTED.replace(b"[lost_0.db3]", b"a.db3")).parent,
            r": a\.db3 named by metadata\.yaml is missing$",
        ),
        (lambda p: _file(p / "a.txt", b"x"), "not a bag"),
        (lambda p: _file(p / "a.bag", b""), "empty"),
        (lambda p: _file(p / "a.bag", b"#ROSBAG V1.2\n"), "version"),
        (lambda p: _file(p / "a.mcap", b""), "empty"),
        (lambda p: _file(p / "a.mcap", b"\x00" * 500), "not a bag"),
        (lambda p: _file(p / "a.db3", b"not a database at all" * 50), "not a bag"),
        (lambda p: _file(p / "metadata.yaml", b"{").parent, "metadata.yaml cannot be read"),
        (lambda p: _file(p / "metadata.yaml", b"a: [1]").parent, "metadata.yaml cannot be read"),
        (lambda p: _file(p / "metadata.yaml", b"- " * 3000).parent, "metadata.yaml cannot be read"),
        (lambda p: write_ros1(p / "a.bag", count=0), "no messages"),
        (lambda p: encrypted(write_ros1(p / "a.bag")), r"encrypted \(own/One\).*rosbag decrypt"),
        (
            lambda p: _file(p / "a.bag", b"version https://git-lfs.example/spec/v1\n"),
            "git lfs pull",
        ),
        (lambda p: _file(p / "a.bag", b"\n\n<!DOCTYPE html><html>"), "web page"),
        (lambda p: _file(p / "a.bag", gzip.compress(b"#ROSBAG V2.0\n")), "packed with gzip"),
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
