"""What is recorded is read back: every storage, every encoding."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from fixtures.recorded_frames import known
from rosbags.typesys import Stores, get_typestore

from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.recording import LabelledFrame, RecordingOptions, record, stamps
from dkt_ros.bags.topics import CameraTopics, discover_topics
from dkt_ros.bags.writer import BagWriter
from dkt_ros.errors import DktError
from dkt_ros.files import StorageError
from dkt_ros.geometry import to_millimetres

TYPES = get_typestore(Stores.ROS2_HUMBLE)
COLOR = "/camera/camera/color/image_raw"
INFO = "/camera/camera/color/camera_info"
DEPTH = "/camera/camera/aligned_depth_to_color/image_raw"
TRUTH, MASK = "/truth/depth", "/truth/mask"


def read_all(path: Path) -> dict[str, list[Any]]:
    with BagReader(path) as bag:
        found: dict[str, list[Any]] = {name: [] for name in bag.topics}
        for message in bag.messages():
            value = TYPES.deserialize_cdr(message.cdr, message.msgtype)
            found[message.topic].append((message.time_ns, value))
    return found


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("compress", [True, False])
def test_raw_encodings_survive_every_storage(
    tmp_path: Path, frames: list[LabelledFrame], storage: str, compress: bool
) -> None:
    options = RecordingOptions(storage=storage, compress=compress, color="raw", depth="16UC1")
    assert record(frames, tmp_path / "bag", options) == len(frames)
    messages = read_all(tmp_path / "bag")
    assert set(messages) == {COLOR, DEPTH, INFO, TRUTH, MASK}
    with BagReader(tmp_path / "bag") as bag:  # who meets the picture knows its camera
        assert [message.topic for message in bag.messages()][:2] == [INFO, COLOR]
    for index, labelled in enumerate(frames):
        frame = labelled.frame
        color, depth, info, truth, mask = (
            messages[topic][index][1] for topic in (COLOR, DEPTH, INFO, TRUTH, MASK)
        )
        assert messages[COLOR][index][0] == frame.stamp_ns
        for message in (color, depth, info, truth, mask):
            assert stamp_ns(message) == frame.stamp_ns
            assert message.header.frame_id == frame.frame_id
        assert (color.encoding, color.step) == ("rgb8", 3 * frame.rgb.shape[1])
        np.testing.assert_array_equal(color.data.reshape(frame.rgb.shape), frame.rgb)
        for message, expected in ((depth, frame.raw_depth), (truth, labelled.truth)):
            assert message.encoding == "16UC1"
            stored = message.data.view(np.uint16).reshape(frame.rgb.shape[:2])
            np.testing.assert_array_equal(stored, to_millimetres(known(expected)))
        np.testing.assert_array_equal(mask.data, known(labelled.mask).ravel())
        np.testing.assert_array_equal(info.k, frame.intrinsics.matrix.ravel())
        assert info.p[0] == frame.intrinsics.fx
        assert (info.width, info.height) == (frame.intrinsics.width, frame.intrinsics.height)


def test_compressed_encodings_carry_image_transports_headers_and_names(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    messages = read_all(tmp_path / "bag")
    _, color = messages[f"{COLOR}/compressed"][0]
    assert "jpeg" in color.format
    decoded = cv2.imdecode(color.data, cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - frames[0].frame.rgb).max() < 12
    _, depth = messages[f"{DEPTH}/compressedDepth"][0]
    assert depth.format == "16UC1; compressedDepth png"
    stored = cv2.imdecode(depth.data[12:], cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, to_millimetres(known(frames[0].frame.raw_depth)))
    _, mask = messages[f"{MASK}/compressed"][0]
    np.testing.assert_array_equal(
        cv2.imdecode(mask.data, cv2.IMREAD_UNCHANGED), known(frames[0].mask)
    )


def test_pictures_of_lower_quality_are_smaller(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    sizes = []
    for quality in (20, 95):
        path = tmp_path / str(quality)
        record(frames, path, RecordingOptions(jpeg_quality=quality))
        sizes.append(len(read_all(path)[f"{COLOR}/compressed"][0][1].data))
    assert sizes[0] < sizes[1]


def test_float_depth_keeps_metres_and_nan(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    record(frames, tmp_path / "bag", RecordingOptions(depth="32FC1"))
    recorded = read_all(tmp_path / "bag")
    _, depth = recorded[DEPTH][0]
    raw = known(frames[0].frame.raw_depth)
    np.testing.assert_array_equal(depth.data.view(np.float32).reshape(raw.shape), raw)
    _, info = recorded[INFO][0]
    np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], info.k.reshape(3, 3))


def test_topics_of_a_recording_are_discovered(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    with BagReader(tmp_path / "bag") as bag:
        found = discover_topics(bag.topics)
    assert found == CameraTopics(
        color=f"{COLOR}/compressed",
        depth=f"{DEPTH}/compressedDepth",
        camera_info=INFO,
        truth=f"{TRUTH}/compressedDepth",
        mask=f"{MASK}/compressed",
    )


def test_millimetres_round_and_mark_the_unknown() -> None:
    depth = np.array([[0.0004, 0.0006, 1.2346, 65.535, 65.6, np.nan, np.inf, -1.0]], np.float32)
    np.testing.assert_array_equal(to_millimetres(depth), [[0, 1, 1235, 65535, 0, 0, 0, 0]])


def test_a_failed_recording_leaves_nothing_behind(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    def given() -> Iterator[LabelledFrame]:
        yield frames[0]
        yield LabelledFrame(frames[1].frame, truth=np.ones((4, 4), np.float32))

    with pytest.raises(DktError, match="true depth is 4x4"):
        record(given(), tmp_path / "bag", RecordingOptions())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bag_is_not_overwritten(tmp_path: Path, frames: list[LabelledFrame]) -> None:
    record(frames, tmp_path / "bag", RecordingOptions())
    with pytest.raises(DktError, match="exists already"):
        record(frames, tmp_path / "bag", RecordingOptions())


@pytest.mark.parametrize(
    "change", [{"color": "webp"}, {"depth": "8UC1"}, {"jpeg_quality": 0}, {"storage": "tape"}]
)
def test_unknown_options_are_refused(
    tmp_path: Path, frames: list[LabelledFrame], change: dict[str, Any]
) -> None:
    with pytest.raises(DktError, match=next(iter(change)) if "storage" not in change else "tape"):
        record(frames, tmp_path / "bag", RecordingOptions(**change))


def test_topics_that_no_bag_can_have_are_refused() -> None:
    with pytest.raises(DktError, match="color and depth have one topic, /a"):
        RecordingOptions(topics=CameraTopics(color="/a", depth="/a"))
    for name in ("a b", "/a/", "/1", "/ü", ""):
        with pytest.raises(DktError, match="mask topic is"):
            RecordingOptions(topics=CameraTopics(mask=name))
    RecordingOptions(topics=CameraTopics(color="a_1/B", depth=None, mask=None))


def test_no_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="no frames"):
        record([], tmp_path / "bag", RecordingOptions())


def test_stamps_do_not_drift() -> None:
    clock = stamps(30.0, 1.0)
    taken = [next(clock) for _ in range(301)]
    assert taken[300] - taken[0] == 10_000_000_000
    for rate in (0.0, 1e12):
        with pytest.raises(DktError, match="rate"):
            next(stamps(rate))
    slow = stamps(1e-9)
    next(slow)
    with pytest.raises(DktError, match="take a higher rate"):
        next(slow)


def test_the_encoder_takes_views_that_are_not_contiguous(frames: list[LabelledFrame]) -> None:
    encoder = MessageEncoder(TYPES, "f", color="raw", depth="16UC1")
    rgb = frames[0].frame.rgb[:, ::-1]
    message: Any = encoder.color_image(rgb, 0)
    np.testing.assert_array_equal(message.data.reshape(rgb.shape), rgb)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full .*; make room"),
        (sqlite3.OperationalError("database or disk is full"), "cannot be written .*disk is full"),
    ],
)
@pytest.mark.parametrize("at", ["open", "write", "close"])
def test_a_full_disk_is_told_and_leaves_nothing(
    raised: Exception,
    told: str,
    at: str,
    tmp_path: Path,
    frames: list[LabelledFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_args: object) -> None:
        raise raised

    monkeypatch.setattr(f"dkt_ros.bags.writer.Writer.{at}", fails)
    with pytest.raises(StorageError, match=f"^{tmp_path}/bag: {told}"):
        record(frames, tmp_path / "bag", RecordingOptions())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run #1", "what?", "50%25"])
def test_names_that_sqlite_would_read_otherwise(
    name: str, tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    with pytest.raises(DktError, match="SQLite's storage would lie elsewhere"):
        record(frames, tmp_path / name / "bag", RecordingOptions(storage="sqlite3"))
    assert not list(tmp_path.iterdir())
    record(frames, tmp_path / name, RecordingOptions(color="raw"))
    assert len(read_all(tmp_path / name)[COLOR]) == len(frames)
    record(frames, tmp_path / "50%", RecordingOptions(storage="sqlite3", color="raw"))
    assert len(read_all(tmp_path / "50%")[COLOR]) == len(frames)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_is_one_that_every_release_of_ros_2_opens(
    tmp_path: Path, frames: list[LabelledFrame], storage: str
) -> None:
    """Before Jazzy, that is up to version 8; an .mcap file also without its metadata.yaml."""
    record(frames, tmp_path / "bag", RecordingOptions(storage=storage, color="raw"))
    content = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"]
    assert information["version"] <= 8
    assert information["storage_identifier"] == storage
    assert information["compression_mode"] == {"mcap": "", "sqlite3": "message"}[storage]


def test_what_a_killed_recorder_left_behind_is_no_obstacle(
    tmp_path: Path, frames: list[LabelledFrame]
) -> None:
    (tmp_path / ".bag.partial/bag").mkdir(parents=True)
    (tmp_path / ".bag.partial/bag/bag.mcap").write_bytes(b"begun")
    record(frames, tmp_path / "bag", RecordingOptions())
    assert len(read_all(tmp_path / "bag")[INFO]) == len(frames)
    assert [one.name for one in tmp_path.iterdir()] == ["bag"]


def test_a_topic_carries_one_type(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/text", TYPES.types["std_msgs/msg/String"](data="hello"), 1)
        number = TYPES.types["std_msgs/msg/Int8"](data=1)
        with pytest.raises(DktError, match="/text carries std_msgs/msg/String, not std_msgs/msg/I"):
            bag.write("/text", number, 2)
