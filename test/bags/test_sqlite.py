"""rosbag2's SQLite files as recorders leave them, whole or damaged."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.folders import contents
from fixtures.recorded_frames import times
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import Stores, get_typestore

from dkt_ros.bags.reader import BagReader
from dkt_ros.errors import DktError

ROS2 = get_typestore(Stores.ROS2_HUMBLE)


def recorded(folder: Path, times: range, change: Callable[[sqlite3.Connection], object]) -> Path:
    """A file of a text of 2000 letters at each time, changed by what is done to the database."""
    with Rosbag2Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
        for time_ns in times:
            sent = ROS2.types["std_msgs/msg/String"](data=f"{time_ns:02000d}")
            writer.write(text, time_ns, ROS2.serialize_cdr(sent, text.msgtype))
    (path,) = folder.glob("*.db3")
    database = sqlite3.connect(path, isolation_level=None)
    change(database)
    database.close()
    return path


def nothing(_: sqlite3.Connection) -> None:
    """Leaves it as it was."""


def test_what_was_written_late_comes_in_order_of_time(tmp_path: Path) -> None:
    path = recorded(tmp_path / "bag", range(9, 0, -1), nothing)
    assert times(path) == (list(range(1, 10)), [])


def test_damage_in_the_middle_costs_what_lies_there(tmp_path: Path) -> None:
    path = recorded(tmp_path / "bag", range(1, 101), nothing)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 2 * 4096] = b"\xff" * (2 * 4096)
    path.write_bytes(data)
    found, remarks = times(path)
    assert 80 < len(found) < 100
    assert {1, 2, 99, 100} <= set(found)
    assert f"damaged (database disk image is malformed); found {len(found)} messages" in remarks[0]


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_of_a_page_that_was_cut_nothing_is_read(tmp_path: Path, page_size: int) -> None:
    def paged(database: sqlite3.Connection) -> None:
        database.execute(f"PRAGMA page_size = {page_size}")
        database.execute("VACUUM")

    path = recorded(tmp_path / "bag", range(1, 101), paged)
    data = path.read_bytes()
    assert len(data) % page_size == 0
    path.write_bytes(data[: -page_size // 2])
    with BagReader(path) as bag:
        read = list(bag.messages())
        assert 0 < len(read) < 100
        assert all(one.cdr == whole_text(one.time_ns) for one in read)
        assert bag.remarks


def whole_text(time_ns: int) -> bytes:
    sent = ROS2.types["std_msgs/msg/String"](data=f"{time_ns:02000d}")
    return bytes(ROS2.serialize_cdr(sent, "std_msgs/msg/String"))


def test_a_message_without_a_time_costs_itself_alone(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "bag",
        range(1, 6),
        lambda database: database.execute(
            "UPDATE messages SET timestamp = 'late' WHERE timestamp = 3"
        ),
    )
    assert times(path)[0] == [1, 2, 4, 5]


def test_a_name_that_is_no_text_costs_itself_alone(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "bag",
        range(1, 6),
        lambda database: database.execute("UPDATE topics SET name = CAST(x'2f61ff' AS TEXT)"),
    )
    with BagReader(path) as bag:
        assert list(bag.topics) == ["/a\ufffd"]
        assert len(list(bag.messages())) == 5


def test_a_database_of_another_kind_is_no_bag(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db3")
    database.execute("CREATE TABLE topics (id INTEGER PRIMARY KEY)")
    database.close()
    with pytest.raises(DktError, match=r"a\.db3.*a database without the tables of rosbag2"):
        BagReader(tmp_path / "a.db3")


def test_a_file_whose_topics_are_lost_is_refused_for_that(tmp_path: Path) -> None:
    path = recorded(tmp_path / "bag", range(1, 101), nothing)
    database = sqlite3.connect(path)
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'topics'"
    ((page,),) = database.execute(query).fetchall()
    database.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(DktError, match=r"bag\.db3: its topics cannot be read \(database disk"):
        BagReader(path)


KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN")
database.execute("INSERT INTO messages (topic_id, timestamp, data) "
                 "SELECT topic_id, timestamp + 1000, data FROM messages")
os._exit(0)
"""


def test_what_a_killed_recorder_was_writing_costs_itself_alone(tmp_path: Path) -> None:
    """It leaves a rollback journal, for which the file would have to be written to."""
    path = recorded(tmp_path / "bag", range(1, 21), nothing)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=True)
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    before = contents(path.parent)
    assert set(range(1, 21)) <= set(times(path)[0])
    assert contents(path.parent) == before


def test_a_write_ahead_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "bag",
        range(1, 6),
        lambda database: database.execute("PRAGMA journal_mode=WAL"),
    )
    path.with_name(f"{path.name}-wal").mkdir()
    found, remarks = times(path)
    assert found == [1, 2, 3, 4, 5]
    assert remarks == [f"{path.name}: messages in its -wal file are missing"]
