"""MCAP files: the index where there is one, else what a walk from the front finds.

A recorder that was killed leaves no index and a last chunk cut short; both cost that chunk's end.
https://mcap.dev/spec
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from zlib import crc32

from dkt_ros.bags.storage import (
    Channel,
    Chunk,
    ChunkedFile,
    DamageError,
    Message,
    decompressed,
    latched_depth,
    numbered,
)
from dkt_ros.wording import counted

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x02, 0x03, 0x04, 0x05, 0x06
_CHUNK_INDEX, _STATISTICS, _DATA_END = 0x08, 0x0B, 0x0F
_FIRST_PRIVATE = 0x80
_RECORD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_CHUNK_HEAD = struct.Struct("<QQQI")  # first and last time, size, checksum
_FOOTER_SIZE = _RECORD.size + 20 + len(MAGIC)


class McapFile(ChunkedFile):
    """A storage.Storage of a file that begins with MAGIC."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._schemas: dict[int, tuple[str, str]] = {}
        self._expected: int | None = None
        self._is_whole = False
        try:
            indexed = self._read_summary()
        except (DamageError, struct.error, UnicodeDecodeError):
            indexed = False
        if not indexed:
            self._forget()
            self._scan()

    def _read_summary(self) -> bool:
        """Whether the summary section tells all that is needed."""
        footer = self._read(max(0, self._size - _FOOTER_SIZE), _FOOTER_SIZE)
        if not footer.endswith(MAGIC) or _RECORD.unpack_from(footer) != (_FOOTER, 20):
            return False
        start, _, checksum = struct.unpack_from("<QQI", footer, _RECORD.size)
        end = self._size - _FOOTER_SIZE
        self._is_whole = start == 0
        if not 0 < start <= end:
            return False
        summary = self._read(start, end - start)
        if checksum and crc32(summary + footer[: _RECORD.size + 16]) != checksum:
            return False
        for op, record in _records(summary):
            if op == _CHUNK_INDEX:
                first, _, offset, size, mapped = struct.unpack_from("<QQQQI", record)
                keys = [k for k, _ in struct.iter_unpack("<HQ", record[36 : 36 + mapped])]
                load = partial(self._load, offset + _RECORD.size, size - _RECORD.size)
                self._chunks.append(Chunk(first, keys or range(1 << 16), load))
            elif op == _STATISTICS:
                self._expected = struct.unpack_from("<Q", record)[0]
                self.start_ns, self.end_ns = struct.unpack_from("<QQ", record, 26)
                self.counts.update(dict(struct.iter_unpack("<HQ", record[46:])))
            else:
                self._describe(op, record)
        self._is_whole = True  # index and counts are optional
        return (
            self._expected == self.counts.total()
            and self.counts.keys() <= self.channels.keys()
            and (bool(self._chunks) or not self._expected)
        )

    def _scan(self) -> None:
        """Everything from the front, as far as it goes."""
        offset, ended = len(MAGIC), False
        while not ended and offset + _RECORD.size <= self._size:
            op, size = _RECORD.unpack(self._read(offset, _RECORD.size))
            offset += _RECORD.size
            if op == 0 or _DATA_END < op < _FIRST_PRIVATE:
                break
            try:
                self._scan_record(op, offset, size)
            except (DamageError, struct.error, UnicodeDecodeError) as error:
                self._remark(str(error))
            ended = op in (_FOOTER, _DATA_END)
            offset += size
        total = self.counts.total()
        if not (self._is_whole and ended and self._expected in (None, total)):
            self._remark(
                "its index is damaged, or missing: the recorder was killed, or still records; "
                f"found {counted(total, 'message')} without it"
            )

    def _scan_record(self, op: int, offset: int, size: int) -> None:
        if op == _CHUNK:
            found = []
            for inner, record in _records(self._chunk_content(offset, size)):
                if inner == _MESSAGE:
                    key, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
                    found.append((time_ns, key))
                else:
                    self._describe(inner, record)
            self._found(found, partial(self._load, offset, size))
        elif offset + size > self._size:
            return
        elif op == _MESSAGE:
            key, _, time_ns, _ = _MESSAGE_HEAD.unpack(self._read(offset, _MESSAGE_HEAD.size))
            self._found([(time_ns, key)], partial(self._loose, offset, size))
        elif op in (_SCHEMA, _CHANNEL):
            self._describe(op, self._read(offset, size))

    def _describe(self, op: int, record: bytes) -> None:
        """Keeps what a schema or channel says; other records say nothing here."""
        if op == _SCHEMA:
            name, at = _string(record, 2)
            _, at = _string(record, at)
            self._schemas[_uint16(record, 0)] = name, record[at + 4 :].decode(errors="replace")
        elif op == _CHANNEL:
            topic, at = _string(record, 4)
            encoding, at = _string(record, at)
            metadata, end = {}, at + 4 + struct.unpack_from("<I", record, at)[0]
            at += 4
            while at < end:
                name, at = _string(record, at)
                metadata[name], at = _string(record, at)
            msgtype, definition = self._schemas.get(_uint16(record, 2), ("", ""))
            profiles = metadata.get("offered_qos_profiles", "")
            latched, publishers = latched_depth(profiles), numbered(profiles)
            if encoding == "ros1":
                latched = int(metadata.get("latching") in ("1", "true"))
                publishers = frozenset(filter(None, [metadata.get("callerid")]))
            md5 = metadata.get("md5sum", "")
            self.channels[_uint16(record, 0)] = Channel(
                topic, msgtype, encoding, latched, definition, md5, publishers
            )

    def _load(self, offset: int, size: int) -> list[Message]:
        """The messages of the chunk whose content is at `offset`."""
        found = []
        for op, record in _records(self._chunk_content(offset, size)):
            if op == _MESSAGE:
                key, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
                found.append((time_ns, key, record[_MESSAGE_HEAD.size :]))
        return found

    def _loose(self, offset: int, size: int) -> list[Message]:
        """The message outside of any chunk whose content is at `offset`."""
        record = self._read(offset, size)
        key, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
        return [(time_ns, key, record[_MESSAGE_HEAD.size :])]

    def _chunk_content(self, offset: int, size: int) -> bytes:
        content = self._read(offset, size)
        try:
            _, _, expanded, checksum = _CHUNK_HEAD.unpack_from(content)
            compression, at = _string(content, _CHUNK_HEAD.size)
            (stored,) = struct.unpack_from("<Q", content, at)
        except (struct.error, UnicodeDecodeError) as error:
            raise DamageError(f"a damaged chunk is left out ({error})") from error
        data = content[at + 8 : at + 8 + stored]
        whole = len(data) == stored
        try:
            result = decompressed(data, compression, whole)
        except DamageError as error:
            raise DamageError(f"a damaged chunk is left out ({error})") from error
        if whole and (len(result) != expanded or (checksum and crc32(result) != checksum)):
            raise DamageError("a damaged chunk is left out (wrong checksum or size)")
        return result


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and content of each whole record; a last one that is cut short is left out."""
    at = 0
    while at + _RECORD.size <= len(data):
        op, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + size <= len(data) and (op != _MESSAGE or size >= _MESSAGE_HEAD.size):
            yield op, data[at : at + size]
        at += size


def _uint16(record: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", record, at)[0])


def _string(record: bytes, at: int) -> tuple[str, int]:
    """The string at `at` and the offset behind it; struct.error where it is cut short."""
    (size,) = struct.unpack_from("<I", record, at)
    end = at + 4 + size
    if end > len(record):
        raise struct.error("a string is cut short")
    return record[at + 4 : end].decode(), end
