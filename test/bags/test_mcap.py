"""MCAP files as other recorders than ours write them, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from zlib import crc32

import lz4.frame
import pytest
from fixtures.recorded_frames import times
from rosbags.typesys import Stores, get_typestore

from dkt_ros.bags.reader import BagReader
from dkt_ros.bags.storage import zstd

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = range(0x01, 0x07)
CHUNK_INDEX, STATISTICS, DATA_END, PRIVATE = 0x08, 0x0B, 0x0F, 0x80
ROS1 = get_typestore(Stores.ROS1_NOETIC)
HELLO = b"\x00\x01\x00\x00" + struct.pack("<I", 6) + b"hello\x00"


def entry(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def channel(
    msgtype: str = "std_msgs/msg/String",
    encoding: str = "cdr",
    definition: bytes = b"",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Channel 1, of /text, and its schema."""
    told = b"".join(text(word) for pair in (metadata or {}).items() for word in pair)
    schema = struct.pack("<H", 1) + text(msgtype) + text("ros2msg")
    schema += struct.pack("<I", len(definition)) + definition
    described = struct.pack("<HH", 1, 1) + text("/text") + text(encoding)
    return entry(SCHEMA, schema) + entry(CHANNEL, described + struct.pack("<I", len(told)) + told)


def message(time_ns: int, content: bytes = HELLO) -> bytes:
    """Received at `time_ns`, and sent long before."""
    return entry(MESSAGE, struct.pack("<HIQQ", 1, 0, time_ns, time_ns // 1000) + content)


def chunk(*entries: bytes, size: int | None = None, checksum: int | None = None) -> bytes:
    """Without compression; size, checksum: what it says of itself."""
    data = b"".join(entries)
    size = len(data) if size is None else size
    return packed("", data, size, crc32(data) if checksum is None else checksum)


def packed(compression: str, stored: bytes, size: int, checksum: int) -> bytes:
    head = struct.pack("<QQQI", 0, 0, size, checksum) + text(compression)
    return entry(CHUNK, head + struct.pack("<Q", len(stored)) + stored)


def statistics(messages: int, of_channels: bool = True) -> bytes:
    counts = struct.pack("<HQ", 1, messages) if of_channels else b""
    head = struct.pack("<QHIIIIQQ", messages, 1, 1, 0, 0, 1, 1000, 3000)
    return entry(STATISTICS, head + struct.pack("<I", len(counts)) + counts)


def chunk_index(offset: int, size: int, keys: bool = True, start_ns: int = 1000) -> bytes:
    mapped = struct.pack("<HQ", 1, 0) if keys else b""
    head = struct.pack("<QQQQI", start_ns, 3000, offset, size, len(mapped)) + mapped
    return entry(CHUNK_INDEX, head + struct.pack("<Q", 0) + text("") + struct.pack("<QQ", 0, 0))


def begun(path: Path, *entries: bytes) -> Path:
    """The file of a recorder that was killed behind these entries."""
    path.write_bytes(MAGIC + entry(HEADER, text("ros2") + text("")) + b"".join(entries))
    return path


def ended(path: Path, body: bytes, summary: bytes = b"", checksum: bool = True) -> Path:
    begun(path, body, entry(DATA_END, bytes(4)))
    start = path.stat().st_size if summary else 0
    footer = struct.pack("<BQQQ", FOOTER, 20, start, 0)
    told = crc32(summary + footer) if checksum else 0
    path.write_bytes(path.read_bytes() + summary + footer + struct.pack("<I", told) + MAGIC)
    return path


CHUNKED = chunk(channel(), message(3000), message(1000), message(2000))
AT = len(MAGIC) + len(entry(HEADER, text("ros2") + text("")))  # of what follows the header


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("std_msgs/String", "std_msgs/msg/String"),
        ("std_msgs::msg::dds_::String_", "std_msgs/msg/String"),
        ("std_msgs::msg::String", "std_msgs/msg/String"),
        ("std_msgs::srv::String", "std_msgs::srv::String"),
    ],
)
def test_a_type_has_the_name_that_ros_2_gives_it(tmp_path: Path, written: str, read: str) -> None:
    """As recorders of DDS's topics and of old write it too."""
    path = ended(tmp_path / "a.mcap", channel(written) + message(1000))
    with BagReader(path) as bag:
        topic = bag.topics["/text"]
        assert topic.msgtype == read
        assert bool(topic.problem) == ("srv" in read)
        if not topic.problem:
            assert [(one.msgtype, one.cdr) for one in bag.messages()] == [(read, HELLO)]


def test_a_message_s_time_is_that_of_its_reception(tmp_path: Path) -> None:
    loose = channel() + message(3000) + message(1000) + message(2000)
    indexed = channel() + chunk_index(AT, len(CHUNKED)) + statistics(3)
    for path in (
        ended(tmp_path / "indexed.mcap", CHUNKED, indexed),
        ended(tmp_path / "chunk.mcap", CHUNKED),
        ended(tmp_path / "loose.mcap", loose),
        ended(tmp_path / "counted.mcap", loose, channel() + statistics(3)),
    ):
        assert times(path) == ([1000, 2000, 3000], [])
    found, remarks = times(begun(tmp_path / "killed.mcap", loose))
    assert found == [1000, 2000, 3000]
    assert "recorder was killed" in remarks[0]


@pytest.mark.parametrize(
    "summary",
    [
        channel() + chunk_index(AT, len(CHUNKED), keys=False) + statistics(3),
        chunk_index(AT, len(CHUNKED)) + statistics(3),
        channel() + chunk_index(AT, len(CHUNKED)) + statistics(3, of_channels=False),
        channel() + statistics(3),
    ],
    ids=["chunks' channels", "channels", "counts", "chunks"],
)
def test_a_summary_need_not_tell_everything(tmp_path: Path, summary: bytes) -> None:
    assert times(ended(tmp_path / "a.mcap", CHUNKED, summary)) == ([1000, 2000, 3000], [])


def test_chunks_that_overlap_are_read_in_order_of_time(tmp_path: Path) -> None:
    late, early = chunk(message(3000), message(6000)), chunk(message(1000), message(4000))
    last = chunk(message(7000))
    path = ended(tmp_path / "a.mcap", channel() + late + last + early)
    assert times(path) == ([1000, 3000, 4000, 6000, 7000], [])


def test_a_chunk_is_read_when_its_time_has_come(tmp_path: Path) -> None:
    """A bag may be larger than the memory."""
    first, second = chunk(channel(), message(1000), message(2000)), chunk(message(3000), checksum=1)
    indices = chunk_index(AT, len(first)), chunk_index(AT + len(first), len(second), start_ns=3000)
    summary = channel() + b"".join(indices) + statistics(3)
    with BagReader(ended(tmp_path / "a.mcap", first + second, summary)) as bag:
        messages = bag.messages()
        assert next(messages).time_ns == 1000
        assert not bag.remarks
        assert [one.time_ns for one in messages] == [2000]
        assert "a damaged chunk is left out" in bag.remarks[0]


def test_a_damaged_summary_is_not_relied_on(tmp_path: Path) -> None:
    summary = channel() + chunk_index(AT, len(CHUNKED)) + statistics(3)
    whole = ended(tmp_path / "a.mcap", CHUNKED, summary).read_bytes()
    wrong = chunk_index(AT + 1, len(CHUNKED))
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(whole.replace(chunk_index(AT, len(CHUNKED)), wrong))
    found, remarks = times(damaged)
    assert found == [1000, 2000, 3000]
    assert "its index is damaged" in remarks[0]


def test_messages_that_the_summary_counts_and_that_are_gone_are_told(tmp_path: Path) -> None:
    body = channel() + message(1000) + message(2000)
    path = ended(tmp_path / "a.mcap", body, channel() + statistics(3, of_channels=False))
    found, (remark,) = times(path)
    assert found == [1000, 2000]
    assert "found 2 messages" in remark


def test_what_is_lost_in_the_middle_of_a_whole_file_is_told(tmp_path: Path) -> None:
    path = ended(tmp_path / "a.mcap", channel() + message(1000) + bytes(40) + message(2000))
    found, (remark,) = times(path)
    assert found == [1000]
    assert "its index is damaged" in remark


def test_records_of_a_vendor_s_own_are_passed_over(tmp_path: Path) -> None:
    own = entry(PRIVATE, b"whatever")
    path = begun(tmp_path / "a.mcap", channel(), message(1000), own, message(2000))
    assert times(path)[0] == [1000, 2000]


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_message_that_was_cut_short_is_none(tmp_path: Path, cut: int) -> None:
    path = begun(tmp_path / "a.mcap", channel(), message(1000), message(2000)[:-cut])
    assert times(path)[0] == [1000]


@pytest.mark.parametrize("wrong", [{"checksum": 1}, {"checksum": 0, "size": 7}])
def test_a_chunk_that_is_not_what_it_says_is_left_out_and_named(
    tmp_path: Path, wrong: dict[str, int]
) -> None:
    path = begun(tmp_path / "a.mcap", channel(), chunk(message(1000), **wrong), message(2000))
    found, remarks = times(path)
    assert found == [2000]
    assert "a damaged chunk is left out (wrong checksum or size)" in remarks[0]


@pytest.mark.parametrize(
    ("compression", "compress"), [("zstd", zstd.compress), ("lz4", lz4.frame.compress)]
)
def test_a_chunk_may_be_compressed_piece_by_piece(
    tmp_path: Path, compression: str, compress: Callable[[bytes], bytes]
) -> None:
    data = channel() + message(1000) + message(2000)
    stored = compress(data[:100]) + compress(data[100:])
    body = packed(compression, stored, len(data), crc32(data))
    assert times(ended(tmp_path / "a.mcap", body)) == ([1000, 2000], [])


@pytest.mark.parametrize(
    "profiles", ["[}", "5", "- 5", "2026-99-99", "- durability: 1\n  history: 1\n  depth: many\n"]
)
def test_qos_that_nobody_understands_costs_no_message(tmp_path: Path, profiles: str) -> None:
    described = channel(metadata={"offered_qos_profiles": profiles})
    assert times(begun(tmp_path / "a.mcap", described, message(1000)))[0] == [1000]


def test_a_damaged_chunk_of_a_file_with_an_index_is_named(tmp_path: Path) -> None:
    body = chunk(channel(), message(1000), message(2000), message(3000), checksum=1)
    path = ended(tmp_path / "a.mcap", body, channel() + chunk_index(AT, len(body)) + statistics(3))
    with BagReader(path) as bag:
        assert list(bag.messages()) == []
        assert "a damaged chunk is left out (wrong checksum or size)" in bag.remarks[0]


@pytest.mark.parametrize("size", [1 << 20, (1 << 62) + 1, (1 << 64) - 1])
def test_a_last_chunk_that_says_it_is_huge_costs_its_end_alone(tmp_path: Path, size: int) -> None:
    last = chunk(message(2000), message(3000))
    last = last[:1] + struct.pack("<Q", size) + last[9:-10]
    found, remarks = times(begun(tmp_path / "a.mcap", channel(), message(1000), last))
    assert found == [1000, 2000]
    assert "recorder was killed" in remarks[-1]


def test_a_message_too_short_to_be_one_costs_itself_alone(tmp_path: Path) -> None:
    path = begun(tmp_path / "a.mcap", chunk(channel(), entry(MESSAGE, b"short"), message(1000)))
    assert times(path)[0] == [1000]


@pytest.mark.parametrize("latching", ["1", "true", "0"])
def test_what_a_converted_ros1_bag_tells_of_its_topics_is_kept(
    tmp_path: Path, latching: str
) -> None:
    sent = ROS1.serialize_ros1(
        ROS1.types["std_msgs/msg/String"](data="hello"), "std_msgs/msg/String"
    )
    metadata = {"callerid": "/talker", "latching": latching}
    described = channel("std_msgs/String", "ros1", b"string data\n", metadata)
    with BagReader(begun(tmp_path / "a.mcap", described, message(1000, bytes(sent)))) as bag:
        assert bag.topics["/text"].latched == (latching != "0")
        assert bag.topics["/text"].publishers == 1
        assert [one.cdr for one in bag.messages()] == [HELLO]


def test_a_definition_of_another_ros1_type_costs_its_topic(tmp_path: Path) -> None:
    described = channel("a/State", "ros1", b"uint8 x\n", {"md5sum": "0" * 32})
    path = begun(tmp_path / "a.mcap", described, message(1000, b"\x07"))
    with BagReader(path) as bag:
        assert "definition of its type a/msg/State" in bag.topics["/text"].problem


def test_comments_of_a_definition_may_be_in_any_encoding(tmp_path: Path) -> None:
    described = channel(definition="string data  # in °\n".encode("latin-1"))
    assert times(begun(tmp_path / "a.mcap", described, message(1000)))[0] == [1000]
