"""Random access to the members of an uncompressed tar: one pass over the headers, then reads.

Knows tar files whose members are named ``<key>.<member>`` (WebDataset). Knows nothing of what the
members hold.
"""

from __future__ import annotations

import tarfile
from functools import lru_cache
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.wording import counted

TarIndex = dict[str, dict[str, tuple[int, int]]]
"""key -> member -> (offset, size) in bytes."""


def tar_index(path: Path) -> TarIndex:
    """The tar's members. Indexes of recently used, unchanged tars are kept.

    Raises DktError where the tar is cut short, damaged, compressed or holds a member twice.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
    return _index(path, status.st_size, status.st_mtime_ns)


def read_members(path: Path, key: str, members: dict[str, tuple[int, int]]) -> dict[str, bytes]:
    """The contents of the given members of one key; DktError where one is not whole."""
    contents = {}
    try:
        with path.open("rb") as file:
            for name, (offset, size) in members.items():
                file.seek(offset)
                contents[name] = file.read(size)
    except OSError as error:
        raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
    for name, (_, size) in members.items():
        if len(contents[name]) != size:
            raise DktError(f"{path}: {key}.{name} is truncated; download or render it again")
    return contents


@lru_cache(maxsize=64)
def _index(path: Path, file_size: int, _modified: int) -> TarIndex:
    index: TarIndex = {}
    try:
        # "r:" refuses compressed tars, in which there is no seeking.
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if not info.isfile():
                    continue
                key, _, name = info.name.rpartition("/")[2].partition(".")
                if info.offset_data + info.size > file_size:
                    raise DktError(
                        f"{path}: cut short within {info.name}; download or render it again"
                    )
                members = index.setdefault(key, {})
                if name in members:
                    raise DktError(f"{path}: member {key}.{name} occurs twice")
                members[name] = (info.offset_data, info.size)
            # tarfile takes a damaged header for the end; the real end is a block of zeros.
            with path.open("rb") as file:
                file.seek(tar.offset)
                end = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DktError(
            f"{path}: not a readable uncompressed tar ({error}); download or render it again"
        ) from error
    if end != bytes(tarfile.BLOCKSIZE):
        raise DktError(
            f"{path}: damaged or cut short after {counted(len(index), 'frame')}, where neither a "
            "member nor the end follows; download or render it again"
        )
    return index
