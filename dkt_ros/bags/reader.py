"""Recorded messages of any rosbag, in order of time, as ROS 2 messages.

Knows ROS 1 `.bag` files and ROS 2 bags (sqlite3 and mcap, zstd or not) through `rosbags`. Knows
nothing of what the messages mean, nor of a running ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    QosDurability,
    TopicInfo,
)
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from dkt_ros.bags.ros1 import Ros1Converter
from dkt_ros.errors import DktError

if TYPE_CHECKING:
    from typing_extensions import Self

_STORAGE_SUFFIXES = (".mcap", ".db3")


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag.

    msgtype: ROS 2 name, `package/msg/Type`.
    count: messages recorded.
    latched: recorded as transient local (ROS 1: latching).
    problem: why its messages cannot be read, empty where they can.
    """

    name: str
    msgtype: str
    count: int
    latched: bool
    problem: str = ""


@dataclass(frozen=True)
class RecordedMessage:
    """One message as recorded: `time_ns` is when it was received, `cdr` its ROS 2 serialization."""

    topic: str
    msgtype: str
    time_ns: int
    cdr: bytes


class BagReader:
    """A bag, opened for reading: a context manager.

    path: a ROS 2 bag folder, a `.mcap` or `.db3` file, or a ROS 1 `.bag` file.
    Raises DktError where the bag is missing, damaged, of an unknown kind or empty.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        storage = _storage_of(self.path)
        with self._damage_named():
            # Bags recorded before ROS 2 Iron carry no message definitions: the newest stand in.
            self._reader = AnyReader([storage], default_typestore=get_typestore(Stores.LATEST))
            self._reader.open()
        try:
            if not self._reader.message_count:
                raise DktError(f"{self.path}: the bag holds no messages; record it again")
        except DktError:
            self._reader.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader.close()

    @property
    def start_ns(self) -> int:
        """Time of the first message."""
        return int(self._reader.start_time)

    @property
    def end_ns(self) -> int:
        """Time of the last message."""
        # rosbags counts the end exclusively.
        return int(self._reader.end_time) - 1

    @cached_property
    def topics(self) -> dict[str, BagTopic]:
        """All topics by name, sorted."""
        with self._damage_named():
            found = self._reader.topics.items()
        return {name: self._describe(name, info) for name, info in sorted(found)}

    def require(self, names: Iterable[str]) -> None:
        """Raises DktError unless every named topic is in the bag and can be read."""
        for name in names:
            topic = self.topics.get(name)
            if topic is None:
                raise DktError(
                    f"{self.path}: no topic {name}; the bag holds {self._listing()}. "
                    "Choose one of these"
                )
            if topic.problem:
                raise DktError(f"{self.path}: topic {name} cannot be read: {topic.problem}")

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[RecordedMessage]:
        """Messages of the named topics (None: all that can be read) in order of time.

        Raises DktError for a topic that `require` refuses, and where the bag turns out damaged.
        """
        if topics is None:
            chosen = {name for name, topic in self.topics.items() if not topic.problem}
        else:
            chosen = set(topics)
            self.require(sorted(chosen))
        connections = [c for c in self._reader.connections if c.topic in chosen]
        if not connections:
            return
        to_cdr = self._cdr_converter()
        with self._damage_named():
            for connection, time_ns, data in self._reader.messages(connections=connections):
                msgtype = connection.msgtype
                yield RecordedMessage(
                    connection.topic, msgtype, time_ns, bytes(to_cdr(data, msgtype))
                )

    def _cdr_converter(self) -> Callable[[bytes, str], bytes | memoryview]:
        if self._reader.is2:
            return lambda data, _msgtype: data
        return self._ros1.to_cdr

    @cached_property
    def _ros1(self) -> Ros1Converter:
        return Ros1Converter(self._typestore)

    @property
    def _typestore(self) -> Typestore:
        return self._reader.typestore

    def _describe(self, name: str, info: TopicInfo) -> BagTopic:
        types = sorted({connection.msgtype for connection in info.connections})
        latched = any(_is_latched(connection) for connection in info.connections)
        return BagTopic(name, types[0], info.msgcount, latched, self._problem(types))

    def _problem(self, types: list[str]) -> str:
        if len(types) > 1:
            return f"it carries several message types ({', '.join(types)})"
        if types[0] not in self._typestore.fielddefs:
            return f"the bag has no definition of its type {types[0]}, nor does rosbags know it"
        return "" if self._reader.is2 else self._ros1.problem(types[0])

    def _listing(self) -> str:
        return ", ".join(f"{topic.name} ({topic.msgtype})" for topic in self.topics.values())

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except DktError:
            raise
        except PermissionError as error:
            raise DktError(f"{self.path}: not readable ({error}); check its permissions") from error
        # rosbags parses unchecked bytes: damage surfaces as almost any exception, from struct's to
        # zstd's and MemoryError for a length that makes no sense.
        except Exception as error:
            detail = str(error) or type(error).__name__
            raise DktError(
                f"{self.path}: damaged or not a bag ({detail}); expected a ROS 1 .bag file or a "
                "ROS 2 bag (sqlite3 or mcap). `ros2 bag reindex` or `rosbag reindex` mends a "
                "recording that was cut short"
            ) from error


def _storage_of(path: Path) -> Path:
    """What rosbags is to open: a recording that crashed has no metadata.yaml, but its storage."""
    if not path.exists():
        raise DktError(f"{path}: no such bag; expected a bag folder, .mcap, .db3 or .bag file")
    if path.is_file():
        if path.suffix not in (*_STORAGE_SUFFIXES, ".bag"):
            raise DktError(
                f"{path}: a file of unknown kind ({path.suffix or 'no suffix'}); expected a bag "
                "folder, or a file ending in .mcap, .db3 or .bag"
            )
        return path
    if (path / "metadata.yaml").exists():
        return path
    files = sorted(p for p in path.iterdir() if p.suffix in _STORAGE_SUFFIXES)
    if len(files) == 1:
        return files[0]
    found = f"{len(files)} storage files" if files else "neither metadata.yaml nor .mcap or .db3"
    raise DktError(
        f"{path}: not a bag folder: found {found}, expected metadata.yaml; name one storage file, "
        "or run `ros2 bag reindex` on the folder"
    )


def _is_latched(connection: Connection) -> bool:
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return bool(connection.ext.latching)
    return any(
        qos.durability is QosDurability.TRANSIENT_LOCAL
        for qos in connection.ext.offered_qos_profiles
    )
