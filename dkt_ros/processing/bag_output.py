"""A bag (mcap) that is written in parts: what a kill leaves is whole up to the last part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys.store import Typestore

from dkt_ros.bags.bag_yaml import parsed
from dkt_ros.bags.message_types import types_in, types_of
from dkt_ros.bags.writer import METADATA_VERSION
from dkt_ros.files import flush, write_whole
from dkt_ros.processing.source import PassedMessage

_INFORMATION = "rosbag2_bagfile_information"
_NEVER = QosTime(9223372036, 854775807)  # as rosbag2 writes infinity


class BagOutput:
    """Parts NAME_0, NAME_1 … in a folder of their own until `finish` makes a bag of them.

    That folder stays, lest a kill meanwhile take the parts; who has the bag removes it.
    """

    def __init__(self, folder: Path, name: str, store: Typestore, parts: int = 0) -> None:
        """folder: becomes the bag. parts: how many of an earlier run are kept; others go."""
        self._folder = folder
        self._parts_folder = parts_folder(folder)
        self._name = name
        self._stores = (store, types_of())
        self.parts = parts
        self._writer: Writer | None = None
        self._connections: dict[str, Connection] = {}
        kept = {self._part(number) for number in range(parts)}
        self._parts_folder.mkdir(parents=True, exist_ok=True)
        for other in set(self._parts_folder.iterdir()) - kept:
            shutil.rmtree(other)
        for part in kept:  # an earlier run may have been killed while it joined them
            with suppress(FileNotFoundError):
                os.replace(folder / f"{part.name}.mcap", part / f"{part.name}.mcap")
        shutil.rmtree(folder, ignore_errors=True)

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Appends a message of the store's types."""
        msgtype = str(message.__msgtype__)
        store = self._stores[0]
        self.write_cdr(topic, msgtype, store.serialize_cdr(message, msgtype), time_ns)

    def pass_on(self, message: PassedMessage) -> None:
        """Appends a recorded message."""
        one = message
        self.write_cdr(one.topic, one.msgtype, one.cdr, one.time_ns, one.kept, one.definition)

    def write_cdr(
        self,
        topic: str,
        msgtype: str,
        cdr: bytes | memoryview,
        time_ns: int,
        kept: int = 0,
        definition: str = "",
    ) -> None:
        """Appends a serialized message, of a known type or one that is defined.

        kept: of a latched topic, 0 of others.
        """
        writer = self._writer or self._open()
        connection = self._connections.get(topic)
        if connection is None:
            known = (one for one in self._stores if msgtype in one.fielddefs)
            store = next(known, None) or types_in(definition, msgtype)
            connection = writer.add_connection(
                topic,
                msgtype,
                typestore=store,
                offered_qos_profiles=[_latched(kept)] if kept else [],
            )
            self._connections[topic] = connection
        writer.write(connection, time_ns, cdr)

    def cut(self) -> None:
        """Ends the part, which is on the disk then."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        for file in self._part(self.parts).iterdir():
            flush(file)
        self.parts += 1

    def finish(self) -> None:
        """Makes a bag of the parts; does nothing where there are none."""
        self.cut()
        if not self.parts:
            return
        parts = [self._part(number) for number in range(self.parts)]
        metadata = merged(
            [parsed((p / "metadata.yaml").read_text(encoding="utf-8")) for p in parts]
        )
        self._folder.mkdir()
        for part in parts:
            file = f"{part.name}.mcap"
            os.replace(part / file, self._folder / file)
        write_whole(self._folder / "metadata.yaml", yaml.safe_dump(metadata, sort_keys=False))

    def abort(self) -> None:
        """Lets go of the part that is being written."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _open(self) -> Writer:
        self._connections.clear()
        self._writer = Writer(
            self._part(self.parts),
            version=METADATA_VERSION,
            storage_plugin=StoragePlugin.MCAP,
        )
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        return self._writer

    def _part(self, number: int) -> Path:
        return self._parts_folder / f"{self._name}_{number}"


def _latched(kept: int) -> Qos:
    """A reliable publisher of which a late subscriber gets so many messages."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=kept,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL,
        deadline=_NEVER,
        lifespan=_NEVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_NEVER,
        avoid_ros_namespace_conventions=False,
    )


def parts_folder(folder: Path) -> Path:
    """Where the parts of the bag `folder` are while it is made."""
    return folder.with_name(f"{folder.name}.parts")


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """metadata.yaml of a bag of several files, from those of its parts."""
    found = [part[_INFORMATION] for part in parts]
    topics: dict[str, dict[str, Any]] = {}
    for part in found:
        for entry in part["topics_with_message_count"]:
            name = entry["topic_metadata"]["name"]
            known = topics.setdefault(name, {**entry, "message_count": 0})
            known["message_count"] += entry["message_count"]
    starts = [part["starting_time"]["nanoseconds_since_epoch"] for part in found]
    ends = [
        start + part["duration"]["nanoseconds"] for start, part in zip(starts, found, strict=True)
    ]
    return {
        _INFORMATION: {
            **found[0],
            "relative_file_paths": [path for part in found for path in part["relative_file_paths"]],
            "files": [file for part in found for file in part["files"]],
            "starting_time": {"nanoseconds_since_epoch": min(starts)},
            "duration": {"nanoseconds": max(ends) - min(starts)},
            "message_count": sum(part["message_count"] for part in found),
            "topics_with_message_count": list(topics.values()),
        }
    }
