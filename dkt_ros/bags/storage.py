"""What the storages of recordings share: channels, messages in order of time, compression.

Knows nothing of any file format. What is damaged is left out and named in `remarks`.
"""

from __future__ import annotations

import bz2
import heapq
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lz4.frame

from dkt_ros.bags.bag_yaml import parsed
from dkt_ros.unique_keys import NO_YAML

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
UNLIMITED = sys.maxsize

Message = tuple[int, int, bytes]
"""Time of reception in nanoseconds, the channel's key, the message as it was serialized."""

Load = Callable[[], Iterable[Message]]


class DamageError(Exception):
    """A part of a file cannot be read. Never leaves this package."""


@dataclass(frozen=True)
class Channel:
    """One publisher of a topic, or all of them where the storage makes no difference.

    encoding: "cdr", "ros1" or what else a recorder wrote.
    latched: how many messages a late subscriber is due, 0 where it was volatile.
    definition: of the message type, as the recorder wrote it; md5: ROS 1 only.
    publishers: names of those who sent, as far as the recorder told them apart.
    """

    topic: str
    msgtype: str
    encoding: str
    latched: int = 0
    definition: str = ""
    md5: str = ""
    publishers: frozenset[str] = frozenset()


class Storage(Protocol):
    """One file of a recording.

    counts: messages per channel. remarks: what was lost; reading may add to it.
    """

    channels: dict[int, Channel]
    counts: Counter[int]
    start_ns: int
    end_ns: int
    remarks: list[str]

    def messages(self, keys: Collection[int]) -> Iterator[Message]:
        """Those of the given channels in order of time."""

    def close(self) -> None:
        """Gives the file back."""


@dataclass(frozen=True)
class Chunk:
    """Messages that are stored, and read, together. load may raise DamageError."""

    start_ns: int
    keys: Collection[int]
    load: Load


class ChunkedFile:
    """A Storage whose messages lie in chunks; a chunk is read when its time has come."""

    def __init__(self, path: Path) -> None:
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] = Counter()
        self.start_ns, self.end_ns = 0, 0
        self.remarks: list[str] = []
        self._chunks: list[Chunk] = []
        self._path = path
        self._size = path.stat().st_size
        self._file = path.open("rb")

    def messages(self, keys: Collection[int]) -> Iterator[Message]:
        """Those of the given channels in order of time."""
        wanted = set(keys)
        order = itertools.count()
        pending: list[tuple[int, int, Message]] = []
        suitable = [chunk for chunk in self._chunks if not wanted.isdisjoint(chunk.keys)]
        for chunk in sorted(suitable, key=lambda chunk: chunk.start_ns):
            while pending and pending[0][0] < chunk.start_ns:
                yield heapq.heappop(pending)[2]
            try:
                for message in chunk.load():
                    if message[1] in wanted:
                        heapq.heappush(pending, (message[0], next(order), message))
            # Unchecked bytes are parsed: damage surfaces as almost any exception.
            except Exception as error:  # noqa: BLE001
                self._remark(str(error))
        while pending:
            yield heapq.heappop(pending)[2]

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def _read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, which a damaged file may exaggerate."""
        if size < 0 or offset > self._size:
            return b""
        self._file.seek(offset)
        return self._file.read(min(size, self._size))

    def _remark(self, text: str) -> None:
        self.remarks.append(f"{self._path.name}: {text}")

    def _found(self, messages: Collection[tuple[int, int]], load: Load) -> None:
        """A chunk of (time, channel) was found without an index."""
        if messages:
            times = [time_ns for time_ns, _ in messages]
            known = self.counts.total() > 0
            self.start_ns = min(*times, self.start_ns if known else times[0])
            self.end_ns = max(*times, self.end_ns if known else times[0])
            self._chunks.append(Chunk(min(times), {key for _, key in messages}, load))
            self.counts.update(key for _, key in messages)

    def _forget(self) -> None:
        """Drops what a damaged index told."""
        for found in (self.channels, self.counts, self._chunks):
            found.clear()


def decompressed(data: bytes, compression: str, whole: bool = True) -> bytes:
    """`data` expanded, or as much as a beginning that is cut short gives; DamageError.

    compression: "" or "none", "zstd", "lz4" or "bz2".
    """
    if compression in ("", "none"):
        return data
    makers: dict[str, Callable[[], Any]] = {
        "zstd": zstd.ZstdDecompressor,
        "lz4": lz4.frame.LZ4FrameDecompressor,
        "bz2": bz2.BZ2Decompressor,
    }
    if compression not in makers:
        raise DamageError(f"compression {compression!r} is not known")
    result = b""
    # Whatever the libraries raise on damaged data: theirs, OSError, RuntimeError, MemoryError.
    try:
        while data:  # one frame after the other
            decompressor = makers[compression]()
            result += decompressor.decompress(data)
            if not decompressor.eof:
                break
            data = decompressor.unused_data or b""
        else:
            return result
    except Exception as error:
        raise DamageError(f"damaged {compression} data ({error})") from error
    if whole:
        raise DamageError(f"damaged {compression} data (it ends too early)")
    return result


def qos_profiles(profiles: object) -> list[Any]:
    """What `offered_qos_profiles` holds, one for each publisher; [] where nobody understands it."""
    if isinstance(profiles, str):
        try:
            profiles = parsed(profiles)
        except NO_YAML:
            return []
    return profiles if isinstance(profiles, list) else []


def numbered(profiles: object) -> frozenset[str]:
    """Names for the publishers of `offered_qos_profiles`, which has none."""
    return frozenset(f"publisher {number}" for number in range(len(qos_profiles(profiles))))


def latched_depth(profiles: object) -> int:
    """How many messages a late subscriber is due by `offered_qos_profiles`, 0 for volatile.

    profiles: the YAML text or what it holds; what cannot be understood counts as volatile.
    """
    depth = 0
    for profile in qos_profiles(profiles):
        if isinstance(profile, dict) and profile.get("durability") in (1, "transient_local"):
            kept = profile.get("depth")
            last = profile.get("history") in (1, "keep_last")
            depth += kept if last and isinstance(kept, int) and kept > 0 else UNLIMITED
    return depth
