"""A new ROS 2 bag. Knows storages and message types; knows nothing of what is recorded."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores

from dkt_ros.bags.message_types import types_of
from dkt_ros.errors import DktError
from dkt_ros.files import StorageError, writing

if TYPE_CHECKING:
    from typing_extensions import Self

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

METADATA_VERSION: Literal[8] = 8
"""Version 9 writes QoS in a form that releases before Jazzy do not parse."""


class BagWriter:
    """A bag folder being written: a context manager. The folder appears when all is written.

    path: the bag folder to make; it must not exist.
    storage: "mcap" or "sqlite3".
    compress: zstd; inside the file for mcap (any reader opens it), per message for sqlite3.
    typestore: the message types that may be written, a recent ROS 2's.

    Leaving the block by an error leaves nothing behind. Raises DktError where the path is taken or
    the storage unknown, StorageError where the disk is full or cannot be written to.
    """

    def __init__(self, path: Path | str, *, storage: str = "mcap", compress: bool = True) -> None:
        self.path = Path(path)
        if storage not in STORAGES:
            raise DktError(f"unknown storage {storage!r}; expected one of {', '.join(STORAGES)}")
        if storage == "sqlite3" and not _is_its_own_uri(str(self.path)):
            raise DktError(
                f"{self.path}: SQLite's storage would lie elsewhere, by the #, ? or % in that "
                "name; take another name, or the storage mcap"
            )
        if self.path.exists():
            raise DktError(f"{self.path} exists already; remove it or choose another name")
        self.typestore = types_of(Stores.ROS2_HUMBLE)
        # The storage file is named after its folder, so the unfinished bag lies in another
        # folder and keeps its name.
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        with self._told():
            self._partial.mkdir(parents=True)
        self._writer = Writer(
            self._partial / self.path.name,
            version=METADATA_VERSION,
            storage_plugin=STORAGES[storage],
        )
        if compress:
            mode = CompressionMode.STORAGE if storage == "mcap" else CompressionMode.MESSAGE
            self._writer.set_compression(mode, CompressionFormat.ZSTD)
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> Self:
        try:
            with self._told():
                self._writer.open()
        except StorageError:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._told():
                    self._writer.close()
                    (self._partial / self.path.name).rename(self.path)
            else:
                self._writer.abort()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def write(self, topic: str, message: object, time_ns: int) -> None:
        """Appends one message of the typestore's types, received at `time_ns`.

        Raises DktError where the topic has carried another type before.
        """
        msgtype = str(message.__msgtype__)  # type: ignore[attr-defined]
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._writer.add_connection(topic, msgtype, typestore=self.typestore)
            self._connections[topic] = connection
        elif connection.msgtype != msgtype:
            raise DktError(f"topic {topic} carries {connection.msgtype}, not {msgtype}")
        with self._told():
            self._writer.write(connection, time_ns, self.typestore.serialize_cdr(message, msgtype))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: cannot be written ({error})") from error


def _is_its_own_uri(path: str) -> bool:
    """Whether `file:` before a path means that path; rosbags hands SQLite such URIs."""
    return not {"#", "?"} & set(path) and unquote(path) == path
