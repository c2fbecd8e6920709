"""Stamps of messages that are not decoded. Knows where CDR puts a header; nothing of bags."""

from __future__ import annotations

import struct

NANOSECONDS_PER_SECOND = 1_000_000_000


def header_stamp_ns(cdr: bytes) -> int:
    """The stamp of a serialized message that begins with a Header, without decoding the rest."""
    order = "<" if cdr[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", cdr, 4)
    return int(seconds) * NANOSECONDS_PER_SECOND + int(nanoseconds)
