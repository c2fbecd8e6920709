"""Files and folders that appear whole or not at all; their order and digests; a full disk."""

from __future__ import annotations

import ast
import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from dkt_ros.errors import DktError

PARTIAL = ".partial"
"""Ending of a file that is being written, or that a kill left behind."""
_PACKED_BEGIN = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x1f\x8b": "packed with gzip; unpack it",
    b"BZh": "packed with bzip2; unpack it",
    b"\xfd7zXZ": "packed with xz; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it",
}
PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")
"""Endings that archives and packed files have."""
_unfinished: set[Path] = set()
_PATIENCE_S = 0.5
"""A process that was killed frees its locks a moment after it is gone."""
_DIGITS_OF_A_TIME = 9  # or more, in seconds since 1970
_DECIMALS = 20
_LEFT_BY_SYSTEMS = (
    *("__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information", "@eaDir"),
)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
"""What numpy says of it, without a number."""


class StorageError(DktError):
    """Files cannot be written, which the next one would meet as well."""


class BusyError(DktError):
    """Another process is writing the same file, or works in the same folder."""


def storage_error(path: Path, error: OSError, advice: str = "make room") -> StorageError:
    """What stopped a write, in words. advice: what to do when the disk is full."""
    if error.errno in NO_ROOM or _CUT_SHORT.fullmatch(str(error)):
        why = error.strerror or error
        if error.errno == errno.EFBIG:
            why = f"{why}: no file may be larger there, as on FAT (4 GB) or by `ulimit -f`"
        return StorageError(f"{path}: the disk is full ({why}); {advice}")
    if blocking := next(filter(os.path.isfile, path.parents), None):
        return StorageError(f"{path}: cannot be written: {blocking} is a file, not a folder")
    return StorageError(f"{path}: cannot be written ({error.strerror or error})")


@contextmanager
def writing(path: Path, advice: str = "make room") -> Iterator[None]:
    """Within it files are written and nothing is read: an OSError is a storage_error of path."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, advice) from error


@contextmanager
def whole_file(path: Path, advice: str = "make room") -> Iterator[IO[bytes]]:
    """A stream for a new file, which gets its name once it is whole and on the disk.

    advice: see storage_error. The folder is made. Raises StorageError for an OSError, the block's
    included, and BusyError where another process is writing the same file. Whatever is raised, what
    was there stays as it was.
    """
    with writing(path, advice):
        if path.is_dir():  # as replacing it would say in the end
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial = path.with_name(path.name + PARTIAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(partial) as stream:
            _unfinished.add(partial)
            done = False
            try:
                stream.truncate()
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(partial, path)
                done = True
            finally:
                _unfinished.discard(partial)
                if not done:
                    with suppress(OSError):
                        partial.unlink(missing_ok=True)


def no_folder(path: Path) -> str:
    """Why a path is no folder, in words."""
    return "is a file, expected a folder" if path.exists() else "no such folder"


def write_whole(path: Path, content: bytes | str, advice: str = "make room") -> None:
    """Writes a file as whole_file does: text as UTF-8, escapes for names that are none."""
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with whole_file(path, advice) as stream:
        stream.write(content)


def user_cache() -> Path:
    """A folder of the user's for what can be made again. Raises RuntimeError without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dkt_ros"


def check_writable(path: Path, ending: str = "") -> None:
    """Raises what whole_file would, before long work for a file; what is there stays as it was.

    ending: of the name; DktError for another, as a recording has that was named by mistake.
    """
    if ending and path.suffix.lower() != ending:
        raise DktError(f"output {path} does not end in {ending}")

    class _Enough(Exception):  # noqa: N818
        pass

    with suppress(_Enough), whole_file(path):
        raise _Enough


def remove_unfinished() -> None:
    """Removes what whole_file is writing in this process, which is about to end."""
    for partial in tuple(_unfinished):
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes path's place once it is filled and on the disk.

    Whatever is raised, OSError included, what was there stays as it was.
    """
    partial = path.with_name(f"{PARTIAL}-{path.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for item in (partial, *partial.rglob("*")):
            flush(item)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
        flush(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def only_process(path: Path, busy: str) -> Iterator[None]:
    """Holds a lock file, which the end of the process frees, a kill included.

    Raises BusyError with the text `busy` where another process holds it, and StorageError where it
    cannot be made; what the block raises passes.
    """
    with ExitStack() as held:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(path, busy))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def packed(begin: bytes) -> str | None:
    """How what begins like that is packed, and what to do; None: it is not."""
    return next((what for start, what in _PACKED_BEGIN.items() if begin.startswith(start)), None)


def check_no_pipe(path: Path) -> None:
    """Raises DktError for a pipe or a device, which opening and reading may wait for for ever."""
    with suppress(OSError):  # as opening it tells
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DktError(f"{path} is neither a file nor a folder; store it as a file first")


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden or what systems leave behind, which nobody put there.

    macOS writes ._x.png beside x.png, in tars and zips too; a disk's root has its lost+found.
    """
    return (name.startswith(".") and name != "..") or name in _LEFT_BY_SYSTEMS


def shown(folder: Path, pattern: str = "") -> list[Path]:
    """What is in a folder, or matches a pattern in it, in no order, without leftovers.

    Without a pattern it raises OSError where the folder cannot be listed, with one DktError where
    that is none.
    """
    try:
        found = list(folder.glob(pattern) if pattern else folder.iterdir())
    except (NotImplementedError, ValueError) as error:
        raise DktError(
            f"{folder}: pattern {pattern!r} cannot be used ({error}); expected one of names below "
            "that folder, such as 'depth/*'"
        ) from error
    return [path for path in found if not any(map(is_leftover, path.relative_to(folder).parts))]


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """What ends in one of the suffixes, in any case, by name; broken links too, but no folders.

    Leftovers are passed over.
    """
    found = (path for path in shown(folder, "**/*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if not path.is_dir())


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sort key under which scene2 comes before scene10; no two names have the same.

    Of times in seconds, 1700000000.25 comes before 1700000000.5.
    """
    pieces = re.split(r"(\d+)", name)  # text and number in turn
    key = [(int(piece) if i % 2 else 0, piece) for i, piece in enumerate(pieces)]
    for i in range(3, len(pieces), 2):
        if pieces[i - 1] == "." and len(pieces[i - 2]) >= _DIGITS_OF_A_TIME:
            key[i] = (int(pieces[i].ljust(_DECIMALS, "0")), pieces[i])
    return key


def sha256(path: Path) -> str:
    """Hex digest of a file's contents."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**24):
            digest.update(block)
    return digest.hexdigest()


def code_digest(path: Path) -> str:
    """Hex digest of what a Python module says to compute: no comments, docstrings or layout.

    Of a file that is none, sha256.
    """
    content = path.read_bytes()
    try:
        told = _syntax(ast.parse(content))
    except (SyntaxError, ValueError):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()


def _syntax(node: object) -> str:
    """As ast.dump, which takes twice as long, but without strings that are statements."""
    if isinstance(node, list):
        return f"[{','.join(_syntax(item) for item in node if not _is_docstring(item))}]"
    if isinstance(node, ast.AST):
        fields = (_syntax(getattr(node, name, None)) for name in node._fields)
        return f"{type(node).__name__}({','.join(fields)})"
    return repr(node)


def _is_docstring(node: object) -> bool:
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)


@contextmanager
def _locked(path: Path, busy: str = "") -> Iterator[IO[bytes]]:
    # Unlike mode "wb", this leaves the contents alone that another process is writing.
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with open(handle, "wb") as stream:
        try:
            ours = _lock(handle) and os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            ours = False
        if not ours:
            raise BusyError(busy or f"{path} is being written by another process; leave it to that")
        yield stream


def _lock(handle: int) -> bool:
    """Whether the lock is had, which is tried for a moment."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
        time.sleep(_PATIENCE_S / 50)


def flush(path: Path) -> None:
    """Returns when a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
