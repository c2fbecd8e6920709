"""Recorded messages of any rosbag, in order of time, as ROS 2 messages.

Knows bag folders and files, ROS 1 or ROS 2, compressed or not, and that one bad part must not take
the good ones with it. Knows nothing of what the messages mean, nor of a running ROS.
"""

from __future__ import annotations

import heapq
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PureWindowsPath
from tempfile import gettempdir, mkdtemp
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rosbags.serde import SerdeError

from dkt_ros.bags import mcap, rosbag1, sqlite
from dkt_ros.bags.bag_yaml import parsed
from dkt_ros.bags.message_types import types_of
from dkt_ros.bags.ros1 import Ros1Converter, ros1_converter
from dkt_ros.bags.storage import (
    ZSTD_MAGIC,
    Channel,
    DamageError,
    Storage,
    decompressed,
    latched_depth,
    zstd,
)
from dkt_ros.errors import DktError
from dkt_ros.files import NO_ROOM, packed, shown, storage_error
from dkt_ros.frames import NANOSECONDS_PER_SECOND
from dkt_ros.unique_keys import NO_YAML
from dkt_ros.wording import counted

if TYPE_CHECKING:
    from typing_extensions import Self

_KINDS = "a ROS 1 .bag file or a ROS 2 bag (sqlite3 or mcap)"
STORAGE_NAME = re.compile(r"\.(mcap|db3)(\.zstd?)?$")
_METADATA = "metadata.yaml"
_PACKED = (".zstd", ".zst")  # rosbag2's ending, and that of zstd's own command
_MESSAGE_TYPE = re.compile(r"\w+/msg/\w+")
_DDS_TYPE = re.compile(r"(\w+)::msg::(?:dds_::(?=\w+_$))?(\w+?)_?")
_ENCODINGS = {"cdr", "ros1"}
_LONGEST_NS = 365 * 86_400 * NANOSECONDS_PER_SECOND
_COPY_BYTES = 1 << 16  # what stands in a damaged one is lost
_NO_BAGS = {
    b"version https://": "a pointer of git LFS in place of the bag; `git lfs pull` fetches the bag",
    b"<": "a web page in place of the bag; download the bag again",
}
"""What files begin like that downloads leave under a bag's name."""


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag.

    msgtype: ROS 2 name, `package/msg/Type`.
    count: messages recorded.
    latched: recorded as transient local (ROS 1: latching).
    problem: why its messages cannot be read, empty where they can.
    kept: how many messages a late subscriber is due, 0 where it is not latched.
    publishers: how many sent to it, 0 where the recorder did not tell.
    definition: of a ROS 2 type in the bag itself, "" where the recorder wrote none.
    """

    name: str
    msgtype: str
    count: int
    latched: bool
    problem: str = ""
    kept: int = 0
    publishers: int = 0
    definition: str = ""


@dataclass(frozen=True)
class RecordedMessage:
    """One message as recorded: `time_ns` is when it was received, `cdr` its ROS 2 serialization."""

    topic: str
    msgtype: str
    time_ns: int
    cdr: bytes


class EmptyBagError(DktError):
    """A bag holds no messages."""


class BagReader:
    """A bag, opened for reading: a context manager.

    path: a ROS 2 bag folder, one of its storage files, or a ROS 1 `.bag` file.
    Topics that cannot be read have a `problem`; what else was lost stands in `remarks`.
    Raises DktError where the bag is missing, of an unknown kind, or nothing of it can be read
    (EmptyBagError where it holds no messages), StorageError where there is no room to expand it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._remarks: list[str] = []
        self._lost: Counter[str] = Counter()
        self._storages: list[Storage] = []
        with ExitStack() as opened:
            files, self._latched = _files_of(self.path, self._remarks)
            self._storages = _opened(files, opened, self._remarks)
            if not any(storage.counts.values() for storage in self._storages):
                detail = f" ({'; '.join(self.remarks)})" if self.remarks else ""
                raise EmptyBagError(
                    f"{self.path}: the bag holds no messages{detail}; record it again"
                )
            self._close = opened.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    @property
    def remarks(self) -> list[str]:
        """What of the bag cannot be read, one line each; reading messages may add to it."""
        found = [*self._remarks]
        for storage in self._storages:
            found += dict.fromkeys(storage.remarks)
        return [*found, *(f"{t}: {counted(n, 'damaged message')}" for t, n in self._lost.items())]

    @property
    def start_ns(self) -> int:
        """Time of the first message."""
        return min(storage.start_ns for storage in self._filled)

    @property
    def end_ns(self) -> int:
        """Time of the last message."""
        return max(storage.end_ns for storage in self._filled)

    @property
    def leap(self) -> str:
        """What is said of a clock that was set while it recorded; "" where none was."""
        if self.end_ns - self.start_ns < _LONGEST_NS:
            return ""
        ends = (time.gmtime(ns // NANOSECONDS_PER_SECOND) for ns in (self.start_ns, self.end_ns))
        days = " to ".join(time.strftime("%Y-%m-%d", end) for end in ends)
        return (
            f"its messages are recorded from {days}: the recorder's clock was set meanwhile, as "
            "where /clock (use_sim_time) or the network's time came late"
        )

    @cached_property
    def topics(self) -> dict[str, BagTopic]:
        """All topics by name, sorted."""
        channels: dict[str, list[tuple[Channel, int]]] = {}
        for storage in self._storages:
            for key, channel in storage.channels.items():
                entry = (channel, storage.counts.get(key, 0))
                channels.setdefault(channel.topic, []).append(entry)
        return {name: self._describe(name, found) for name, found in sorted(channels.items())}

    def require(self, names: Iterable[str]) -> None:
        """Raises DktError unless every named topic is in the bag and can be read."""
        for name in names:
            topic = self.topics.get(name)
            if topic is None:
                raise DktError(
                    f"{self.path}: no topic {name}; the bag holds {listing(self.topics.values())}. "
                    "Choose one of these"
                )
            if topic.problem:
                raise DktError(f"{self.path}: topic {name} cannot be read: {topic.problem}")

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[RecordedMessage]:
        """Messages of the named topics (None: all that can be read) in order of time.

        Damaged ones are left out and counted in `remarks`. Raises DktError for a topic that
        `require` refuses.
        """
        if topics is None:
            chosen = {name for name, topic in self.topics.items() if not topic.problem}
        else:
            chosen = set(topics)
            self.require(sorted(chosen))
        missing = Counter({name: self.topics[name].count for name in chosen})
        streams = [self._stream(storage, chosen) for storage in self._storages]
        for message in heapq.merge(*streams, key=lambda message: message.time_ns):
            missing[message.topic] -= 1
            yield message
        self._lost |= missing  # positive counts alone

    def first(self, topic: str) -> RecordedMessage | None:
        """The topic's first message that can be read; None where there is none."""
        return next(self.messages([topic]), None)

    @property
    def _filled(self) -> list[Storage]:
        return [storage for storage in self._storages if any(storage.counts.values())]

    def _stream(self, storage: Storage, topics: set[str]) -> Iterator[RecordedMessage]:
        keys = [key for key, channel in storage.channels.items() if channel.topic in topics]
        for time_ns, key, data in storage.messages(keys):
            channel = storage.channels[key]
            try:
                if data.startswith(ZSTD_MAGIC):  # no CDR message begins like this
                    data = decompressed(data, "zstd")
                if channel.encoding == "ros1":
                    data = _converter(channel).to_cdr(data)
            except (DamageError, SerdeError):
                continue
            yield RecordedMessage(channel.topic, _full_name(channel.msgtype), time_ns, data)

    def _describe(self, name: str, found: list[tuple[Channel, int]]) -> BagTopic:
        # A channel that nothing was written to says nothing.
        found = [(channel, count) for channel, count in found if count] or found
        types = sorted({_full_name(channel.msgtype) for channel, _ in found})
        count = sum(count for _, count in found)
        # What metadata.yaml says was perhaps edited for playback, and wins.
        kept = self._latched.get(name, sum(channel.latched for channel, _ in found))
        problem = self._problem(types, [channel for channel, _ in found])
        publishers = len(frozenset().union(*(channel.publishers for channel, _ in found)))
        told = [channel.definition for channel, _ in found if channel.encoding == "cdr"]
        return BagTopic(
            name,
            types[0],
            count,
            kept > 0,
            problem,
            min(kept, count),
            publishers,
            next(filter(None, told), ""),
        )

    def _problem(self, types: list[str], channels: list[Channel]) -> str:
        other = {channel.encoding for channel in channels} - _ENCODINGS
        if other:
            return f"its messages are serialized as {min(other)!r}, expected 'cdr'"
        if len(types) > 1:
            return f"it carries several message types ({', '.join(types)})"
        if not _MESSAGE_TYPE.fullmatch(types[0]):
            return f"its type {types[0]!r} is no message type (package/msg/Type)"
        converters = [_converter(channel) for channel in channels if channel.encoding == "ros1"]
        return next((each.problem for each in converters if each.problem), "")


def usable(topics: Mapping[str, BagTopic]) -> dict[str, BagTopic]:
    """Those that hold something that can be read."""
    return {name: topic for name, topic in topics.items() if topic.count and not topic.problem}


def first_message(bag: BagReader, name: str) -> Any:
    """The topic's first message. Raises DktError where there is none, or it is damaged."""
    message = bag.first(name)
    if message is None:
        raise DktError(f"{name} has no message that can be read")
    return decoded(message)


def decoded(message: RecordedMessage) -> Any:
    """A message of a type that ROS 2 has. Raises DktError where it is damaged."""
    # A buffer that may be written to, as rclpy's is: torch insists.
    data = memoryview(bytearray(message.cdr))
    try:
        return types_of().deserialize_cdr(data, message.msgtype)
    # Damaged bytes make rosbags raise almost anything.
    except Exception as error:
        raise DktError(f"a message of {message.topic} is damaged ({error})") from error


def listing(topics: Iterable[BagTopic]) -> str:
    """Topics with their types, and why one cannot be read."""
    return ", ".join(
        f"{topic.name} ({topic.msgtype}{f', unusable: {topic.problem}' if topic.problem else ''})"
        for topic in topics
    )


def _converter(channel: Channel) -> Ros1Converter:
    return ros1_converter(_full_name(channel.msgtype), channel.definition, channel.md5)


def _full_name(msgtype: str) -> str:
    """`package/msg/Type`; recorders of old wrote `package/Type`, those of DDS `package::msg::…`."""
    if found := _DDS_TYPE.fullmatch(msgtype):
        return f"{found[1]}/msg/{found[2]}"
    package, _, name = msgtype.partition("/")
    return f"{package}/msg/{name}" if name and "/" not in name else msgtype


def _files_of(path: Path, remarks: list[str]) -> tuple[list[Path], dict[str, int]]:
    """A recording's storage files, and the latched depth by topic where metadata.yaml tells."""
    if not path.exists():
        raise DktError(f"{path}: no such bag; expected a bag folder, .mcap, .db3 or .bag file")
    if path.is_file() and path.name == _METADATA:
        raise DktError(f"{path}: describes a bag, which is the folder: name {path.parent}")
    if path.is_file():
        return [path], {}
    if not path.is_dir():
        raise DktError(f"{path}: neither a file nor a folder; expected {_KINDS}")
    present = {p.name: p for p in shown(path) if STORAGE_NAME.search(p.name) and p.is_file()}
    # Players leave the expanded file beside the compressed one.
    present = {n: p for n, p in present.items() if n == _plain(n) or _plain(n) not in present}
    metadata = _metadata(path / _METADATA, remarks)
    paths = metadata.get("relative_file_paths") or ()
    paths = [paths] if isinstance(paths, str) else paths
    # A Windows path is split at either system's slash.
    names = dict.fromkeys(PureWindowsPath(str(path)).name for path in paths)
    found = {name: _named(path, name) for name in names}
    listed = list(dict.fromkeys(file for file in found.values() if file))
    if found and all(found.values()):
        return listed, _latched_topics(metadata)
    if found:
        missing = ", ".join(name for name, file in found.items() if not file)
        remarks.append(f"{missing} named by metadata.yaml is missing")
    files = [*listed, *(p for p in sorted(present.values()) if p not in listed)]
    if len({re.sub(r"_\d+$", "", p.name.partition(".")[0]) for p in files}) > 1 and not listed:
        raise DktError(
            f"{path}: found {', '.join(p.name for p in files)} without a metadata.yaml that lists "
            "them, which may be several bags; name one of the files"
        )
    if not files:
        bags = sorted(p.name for p in shown(path, "*.bag*"))
        hint = f"; name one of {', '.join(bags[:5])}" if bags else ""
        lost = "; ".join(remarks) or "found neither metadata.yaml nor .mcap or .db3"
        raise DktError(f"{path}: not a bag folder: {lost}{hint}")
    return files, _latched_topics(metadata)


def _named(folder: Path, name: str) -> Path | None:
    """The storage file of that name, which may have been expanded or compressed since."""
    plain = _plain(name)
    files = [folder / each for each in (name, plain, *(plain + ending for ending in _PACKED))]
    return next((file for file in files if file.is_file()), None)


def _plain(name: str) -> str:
    """The storage file's name without what says that it is packed."""
    for ending in _PACKED:
        name = name.removesuffix(ending)
    return name


def _metadata(path: Path, remarks: list[str]) -> dict[str, Any]:
    """What metadata.yaml holds; nothing where it is missing or damaged: the storages tell all."""
    if not path.exists():
        return {}
    try:
        return dict(parsed(path.read_text(encoding="utf-8"))["rosbag2_bagfile_information"])
    except (OSError, TypeError, KeyError, *NO_YAML):
        remarks.append("metadata.yaml cannot be read and is passed over")
        return {}


def _latched_topics(metadata: dict[str, Any]) -> dict[str, int]:
    found = {}
    for entry in metadata.get("topics_with_message_count") or ():
        topic = entry.get("topic_metadata") if isinstance(entry, dict) else None
        if isinstance(topic, dict) and topic.get("offered_qos_profiles"):
            found[str(topic.get("name"))] = latched_depth(topic["offered_qos_profiles"])
    return found


def _opened(files: list[Path], stack: ExitStack, remarks: list[str]) -> list[Storage]:
    """The storages that can be read; DktError with the first one's reason where none can."""
    storages, failures = [], []
    for file in files:
        try:
            storage = _open_storage(file, stack, remarks)
        except PermissionError as error:
            raise DktError(f"{file}: not readable ({error}); check its permissions") from error
        # Unchecked bytes are parsed: damage surfaces as almost any exception.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                advice = f"expanding {file} takes more: make room there, or set TMPDIR"
                raise storage_error(Path(gettempdir()), error, advice) from error
            failures.append(f"{file}: {error}")
        else:
            stack.callback(storage.close)
            storages.append(storage)
    if not storages:
        raise DktError(f"{failures[0]}; expected {_KINDS}")
    remarks += failures
    return storages


def _open_storage(path: Path, stack: ExitStack, remarks: list[str]) -> Storage:
    with path.open("rb") as file:
        magic = file.read(16)
    if magic.startswith(ZSTD_MAGIC):
        return _open_storage(_expanded(path, stack, remarks), stack, remarks)
    if magic.startswith(mcap.MAGIC):
        return mcap.McapFile(path)
    if magic.startswith(sqlite.MAGIC):
        return sqlite.SqliteFile(path)
    if magic.startswith(rosbag1.MAGIC):
        return rosbag1.Ros1File(path)
    if not magic:
        raise DamageError("is empty")
    known = (what for start, what in _NO_BAGS.items() if magic.lstrip().startswith(start))
    raise DamageError(next(known, packed(magic) or "not a bag, or its beginning is damaged"))


def _expanded(path: Path, stack: ExitStack, remarks: list[str]) -> Path:
    """A zstd-compressed storage file, expanded for as long as the bag is open."""
    folder = Path(mkdtemp(prefix="dkt-bag-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    target = folder / _plain(path.name)
    frame = zstd.ZstdDecompressor()
    with path.open("rb") as source, target.open("wb") as sink:
        try:
            while block := source.read(_COPY_BYTES):
                while block:
                    if frame.eof:
                        frame = zstd.ZstdDecompressor()
                    sink.write(frame.decompress(block))
                    block = frame.unused_data
            if not frame.eof:
                remarks.append(f"{path.name}: cut short; read as far as it goes")
        except zstd.ZstdError as error:
            if not sink.tell():
                raise DamageError(f"damaged ({error})") from error
            remarks.append(f"{path.name}: damaged ({error}); read as far as that")
    return target
