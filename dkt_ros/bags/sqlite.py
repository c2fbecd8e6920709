"""rosbag2's SQLite files, with what lies in a `-wal` file beside them.

Nothing is written to the recording's folder: no lock, no `-shm` file, no checkpoint.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from dkt_ros.bags.storage import Channel, DamageError, Message, latched_depth, numbered
from dkt_ros.wording import counted

MAGIC = b"SQLite format 3\x00"
# Without shared memory a write-ahead log is read too; should its journal need more, the file alone.
_WAYS = ("mode=ro&vfs=unix-none", "immutable=1")


class SqliteFile:
    """A storage.Storage. Raises DamageError where the file is no rosbag2 database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.remarks: list[str] = []
        with ExitStack() as resources:
            self._database = self._connect(_whole_pages(path, resources))
            resources.callback(self._database.close)
            self._resources = resources.pop_all()
        self.channels = self._read_channels()
        # Column by column: id, topic, time.
        self._rows = np.array(self._read_rows(), np.int64).reshape(-1, 3)
        self._rows = self._rows[np.argsort(self._rows[:, 2], kind="stable")]
        self.counts = Counter(self._rows[:, 1].tolist())
        self.start_ns, self.end_ns = (
            (int(self._rows[0, 2]), int(self._rows[-1, 2])) if len(self._rows) else (0, 0)
        )

    def messages(self, keys: Collection[int]) -> Iterator[Message]:
        """Those of the given channels in order of time."""
        wanted = np.isin(self._rows[:, 1], list(keys))
        for row, key, time_ns in self._rows[wanted].tolist():
            try:
                query = "SELECT data FROM messages WHERE id = ?"
                (data,) = self._database.execute(query, (row,)).fetchone()
            except (sqlite3.Error, TypeError):
                continue  # whoever counts misses it
            yield time_ns, key, bytes(data)

    def close(self) -> None:
        """Gives the file back."""
        self._resources.close()

    def _connect(self, path: Path) -> sqlite3.Connection:
        failure: Exception | None = None
        for way in _WAYS:
            uri = f"{path.absolute().as_uri()}?{way}"
            database = sqlite3.connect(uri, uri=True, check_same_thread=False)
            database.text_factory = lambda text: text.decode(errors="replace")
            try:
                database.execute("PRAGMA locking_mode=EXCLUSIVE")
                database.execute("PRAGMA writable_schema=ON")  # else a cut file is not opened
                tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            except sqlite3.Error as error:
                failure = error
                database.close()
                continue
            if {"topics", "messages"} <= tables:
                if way != _WAYS[0] and self._path.with_name(f"{self._path.name}-wal").exists():
                    self.remarks.append(f"{self._path.name}: messages in its -wal file are missing")
                return database
            database.close()
            failure = failure or DamageError("a database without the tables of rosbag2")
        raise DamageError(str(failure)) from failure

    def _read_channels(self) -> dict[int, Channel]:
        try:
            names = [row[1] for row in self._database.execute("PRAGMA table_info(topics)")]
            rows = self._database.execute("SELECT * FROM topics").fetchall()
        except sqlite3.Error as error:
            raise DamageError(f"its topics cannot be read ({error})") from error
        definitions: dict[str, str] = {}
        with contextlib.suppress(sqlite3.Error):  # from Iron on
            query = "SELECT topic_type, encoded_message_definition FROM message_definitions"
            definitions = dict(self._database.execute(query).fetchall())
        channels = {}
        for row in rows:
            values = dict(zip(names, row, strict=True))
            profiles = values.get("offered_qos_profiles") or ""
            channels[values["id"]] = Channel(
                str(values["name"]),
                str(values["type"]),
                str(values["serialization_format"]),
                latched_depth(profiles),
                definition=definitions.get(str(values["type"])) or "",
                publishers=numbered(profiles),
            )
        return channels

    def _read_rows(self) -> list[tuple[int, int, int]]:
        """Id, topic and time of all messages: from the front, and behind damage from the back."""
        found: dict[int, tuple[int, int, int]] = {}
        try:
            for row in self._walk("ASC"):
                found[row[0]] = row
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                for row in self._walk("DESC"):
                    if row[0] in found:
                        break
                    found[row[0]] = row
            self.remarks.append(
                f"{self._path.name}: damaged ({error}); found {counted(len(found), 'message')}"
            )
        return sorted(row for row in found.values() if all(isinstance(v, int) for v in row))

    def _walk(self, order: str) -> Iterator[tuple[int, int, int]]:
        yield from self._database.execute(
            f"SELECT id, topic_id, timestamp FROM messages ORDER BY id {order}"
        )


def _whole_pages(path: Path, resources: ExitStack) -> Path:
    """The file, or a copy without its last page where that is cut: SQLite fills it with zeros."""
    with path.open("rb") as file:
        header = file.read(18)
        page_size = int.from_bytes(header[16:18], "big")
        page_size = 65536 if page_size == 1 else page_size
        size = path.stat().st_size
        if not page_size or not size % page_size:
            return path
        copy = resources.enter_context(tempfile.NamedTemporaryFile(prefix="dkt-bag-"))  # noqa: SIM115
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.truncate(size - size % page_size)
        copy.flush()
    return Path(copy.name)
