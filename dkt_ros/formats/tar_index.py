"""Random access to the members of an uncompressed tar: one pass over the headers, then reads.

Knows tar files whose members are named ``<key>.<member>`` (WebDataset). Knows nothing of what the
members hold.
"""

from __future__ import annotations

import posixpath
import tarfile
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.files import check_no_pipe, is_leftover, packed
from dkt_ros.wording import counted

TarIndex = dict[str, dict[str, tuple[int, int]]]
"""key -> member -> (offset, size) in bytes."""


def tar_index(path: Path) -> TarIndex:
    """The tar's members. Indexes of recently used, unchanged tars are kept.

    Leftovers of the system that packed it are passed over; a link stands for what it leads to.
    Raises DktError where the tar is cut short, damaged, compressed, several tars in one file, or
    holds a member twice.
    """
    check_no_pipe(path)
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
    places: dict[str, tuple[int, int]] = {}
    try:
        # "r:" refuses compressed tars, in which there is no seeking.
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                full = posixpath.normpath(info.name)
                key, _, name = full.rpartition("/")[2].partition(".")
                if is_leftover(f"{key}.{name}"):
                    continue
                if info.isfile():
                    places[full] = info.offset_data, info.size
                elif info.islnk() or info.issym():
                    _follow(path, info, full, places)
                else:
                    continue
                if sum(places[full]) > file_size:
                    raise DktError(
                        f"{path}: cut short within {info.name}; download or render it again"
                    )
                members = index.setdefault(key, {})
                if name in members:
                    raise DktError(f"{path}: member {key}.{name} occurs twice")
                members[name] = places[full]
            # tarfile takes a damaged header for the end; the real end is a block of zeros.
            with path.open("rb") as file:
                file.seek(tar.offset)
                end = file.read(tarfile.BLOCKSIZE)
                more = any(any(block) for block in iter(partial(file.read, 2**20), b""))
    except IsADirectoryError as error:
        raise DktError(f"{path}: is a folder, expected one tar, such as of those in it") from error
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        with suppress(OSError), path.open("rb") as file:
            if how := packed(file.read(tarfile.BLOCKSIZE)):
                raise DktError(f"{path}: {how}") from error
        raise DktError(
            f"{path}: not a readable uncompressed tar ({error}); download or render it again"
        ) from error
    if end != bytes(tarfile.BLOCKSIZE):
        raise DktError(
            f"{path}: damaged or cut short after {counted(len(index), 'frame')}, where neither a "
            "member nor the end follows; download or render it again"
        )
    if more:
        raise DktError(
            f"{path}: more follows the end of the tar, as where several are put together by cat; "
            "keep them apart, or put them together by `tar --concatenate`"
        )
    return index


def _follow(
    path: Path, info: tarfile.TarInfo, full: str, places: dict[str, tuple[int, int]]
) -> None:
    """Gives a link the place of the member before it that it leads to."""
    start = posixpath.dirname(full) if info.issym() else ""
    target = posixpath.normpath(posixpath.join(start, info.linkname))
    if target not in places:
        raise DktError(
            f"{path}: {info.name} is a link to {info.linkname}, which does not stand before it; "
            "pack the files themselves, by `tar --dereference --hard-dereference`"
        )
    places[full] = places[target]
