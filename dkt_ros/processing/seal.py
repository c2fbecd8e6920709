"""Tells what this user's runs saved from what somebody else put in its place.

Knows a key in the user's cache, and bytes. Knows nothing of what they mean. A saved stream is a
pickle, which can run code; an output folder may come from anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from dkt_ros.files import user_cache

_KEY_BYTES = 32


def seal(data: bytes) -> str:
    """What to keep beside the bytes; "" where there is no place for a key: nothing opens that."""
    key = _key()
    return hashlib.blake2b(data, key=key, digest_size=32).hexdigest() if key else ""


def is_sealed(data: bytes, sealed: str) -> bool:
    """Whether a run of this user saved these bytes."""
    own = seal(data)
    return bool(own) and hmac.compare_digest(own.encode(), sealed.encode())


def _key() -> bytes:
    """Made when first asked for; b"" where it can be neither made nor read."""
    with suppress(OSError, RuntimeError):  # the latter without a home
        path = user_cache() / "key"
        if not path.exists():
            _make(path)
        key = path.read_bytes()
        return key if len(key) == _KEY_BYTES else b""
    return b""


def _make(path: Path) -> None:
    """Whole or not at all, and never in place of one that another process made meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"key-{secrets.token_hex(8)}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
    try:
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink()
