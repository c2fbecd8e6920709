"""ROS 1 bags (format 2.0): by their index, else what a walk from the front finds.

A recorder that was killed leaves a `.bag.active` without an index; no reindexing is needed.
http://wiki.ros.org/Bags/Format/2.0
"""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import partial
from pathlib import Path

from rosbags.typesys.msg import normalize_msgtype

from dkt_ros.bags.storage import Channel, Chunk, ChunkedFile, DamageError, Message, decompressed
from dkt_ros.wording import counted

MAGIC = b"#ROSBAG V"
_VERSION = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CHUNK_INFO, _CONNECTION = b"\x02", b"\x05", b"\x06", b"\x07"
_LATCHED = 1  # a ROS 1 publisher keeps its last message

Fields = dict[str, bytes]


class Ros1File(ChunkedFile):
    """A storage.Storage. Raises DamageError where the bag is not of version 2.0, or encrypted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        version = self._read(0, len(_VERSION))
        if version != _VERSION:
            self.close()
            shown = version.decode(errors="replace").strip()
            raise DamageError(f"a bag of version {shown!r}, expected 2.0; `rosbag fix` converts it")
        self._refuse_encrypted()
        try:
            indexed = self._read_index()
        except (DamageError, struct.error, KeyError, UnicodeDecodeError):
            indexed = False
        if not indexed:
            self._forget()
            self._scan()

    def _refuse_encrypted(self) -> None:
        encryptor = b""
        with suppress(struct.error, UnicodeDecodeError):
            encryptor = self._record(len(_VERSION))[0].get("encryptor", b"")
        if encryptor:
            self.close()
            shown = encryptor.decode(errors="replace")
            raise DamageError(f"encrypted ({shown}); `rosbag decrypt` makes a bag that can be read")

    def _read_index(self) -> bool:
        fields, _, _, _ = self._record(len(_VERSION))
        position = struct.unpack("<Q", fields["index_pos"])[0]
        if not position:
            return False
        count = sum(struct.unpack("<I", fields[f"{kind}_count"])[0] for kind in ("conn", "chunk"))
        times = []
        for _ in range(count):
            fields, offset, size, position = self._record(position)
            content = self._read(offset, size)
            if len(content) != size:
                return False
            if fields["op"] == _CONNECTION:
                self._describe(fields, content)
            elif fields["op"] == _CHUNK_INFO and content:
                counts = dict(struct.iter_unpack("<II", content))
                first = _nanoseconds(fields["start_time"])
                (at,) = struct.unpack("<Q", fields["chunk_pos"])
                self._chunks.append(Chunk(first, counts.keys(), partial(self._load, at)))
                self.counts.update(counts)
                times += [first, _nanoseconds(fields["end_time"])]
        if times:
            self.start_ns, self.end_ns = min(times), max(times)
        return self.counts.keys() <= self.channels.keys()

    def _scan(self) -> None:
        """Everything from the front, as far as it goes."""
        position = len(_VERSION)
        try:
            while position < self._size:
                at = position
                fields, offset, size, position = self._record(at)
                if fields["op"] == _CHUNK:
                    self._scan_chunk(at, fields, offset, size)
                elif fields["op"] == _CONNECTION:
                    self._describe(fields, self._read(offset, size))
        except (struct.error, KeyError, UnicodeDecodeError):
            pass  # here it was cut
        self._remark(
            f"has no usable index; found {counted(self.counts.total(), 'message')} without it"
        )

    def _scan_chunk(self, at: int, fields: Fields, offset: int, size: int) -> None:
        found = []
        try:
            for inner, content in self._chunk_records(fields, offset, size):
                if inner["op"] == _CONNECTION:
                    self._describe(inner, content)
                elif inner["op"] == _MESSAGE:
                    found.append((_nanoseconds(inner["time"]), _uint32(inner["conn"])))
        except (DamageError, struct.error, KeyError, UnicodeDecodeError) as error:
            self._remark(str(error))
        self._found(found, partial(self._load, at))

    def _describe(self, fields: Fields, content: bytes) -> None:
        own = _fields(content)
        msgtype = normalize_msgtype(own["type"].decode())
        self.channels[_uint32(fields["conn"])] = Channel(
            "/" * fields["topic"].startswith(b"/")
            + "/".join(part for part in fields["topic"].decode().split("/") if part),
            msgtype,
            "ros1",
            _LATCHED if own.get("latching") == b"1" else 0,
            own["message_definition"].decode(errors="replace"),
            own["md5sum"].decode(),
            frozenset([own["callerid"].decode(errors="replace")] if own.get("callerid") else []),
        )

    def _load(self, position: int) -> list[Message]:
        """The messages of the chunk record at `position`."""
        try:
            fields, offset, size, _ = self._record(position)
            return [
                (_nanoseconds(fields["time"]), _uint32(fields["conn"]), content)
                for fields, content in self._chunk_records(fields, offset, size)
                if fields["op"] == _MESSAGE
            ]
        except (struct.error, KeyError, UnicodeDecodeError) as error:
            raise DamageError(f"a damaged chunk is left out ({error})") from error

    def _chunk_records(self, fields: Fields, offset: int, size: int) -> list[tuple[Fields, bytes]]:
        stored = self._read(offset, size)
        try:
            compression = fields["compression"].decode()
            data = decompressed(stored, compression, whole=len(stored) == size)
        except (DamageError, KeyError, UnicodeDecodeError) as error:
            raise DamageError(f"a damaged chunk is left out ({error})") from error
        records, at = [], 0
        try:
            while at < len(data):
                found, at = _sized(data, at)
                content, at = _sized(data, at)
                records.append((_fields(found), content))
        except struct.error:
            pass  # the chunk was cut here
        return records

    def _record(self, position: int) -> tuple[Fields, int, int, int]:
        """Header fields, offset and size of the content, and where the next record begins."""
        (size,) = struct.unpack("<I", self._read(position, 4))
        fields = _fields(self._read(position + 4, size))
        offset = position + 4 + size + 4
        (content,) = struct.unpack("<I", self._read(offset - 4, 4))
        return fields, offset, content, offset + content


def _fields(header: bytes) -> Fields:
    fields, at = {}, 0
    while at < len(header):
        field, at = _sized(header, at)
        name, _, value = field.partition(b"=")
        fields[name.decode()] = value
    return fields


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes behind the 32-bit size at `at`, and the offset behind them; struct.error."""
    (size,) = struct.unpack_from("<I", data, at)
    end = at + 4 + size
    if end > len(data):
        raise struct.error("cut short")
    return data[at + 4 : end], end


def _uint32(value: bytes) -> int:
    return int(struct.unpack("<I", value)[0])


def _nanoseconds(value: bytes) -> int:
    seconds, nanoseconds = struct.unpack("<II", value)
    return int(seconds * 1_000_000_000 + nanoseconds)
