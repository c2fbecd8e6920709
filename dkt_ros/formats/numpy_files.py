"""NumPy's own files, .npy and .npz, to plain arrays.

Knows all that numpy and zip raise for what is damaged, cut short, pickled or no such file. Knows
nothing of what the arrays mean. Nothing in a file is ever executed.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.files import check_no_pipe

ONLY = "one array without a name"
"""What arrays_in calls an .npy's."""
_UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, OverflowError, SyntaxError, TokenError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError),
)


@contextmanager
def arrays_in(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Name -> array of an .npz, each read when it is asked for; an .npy has ONLY.

    What the file is, its content tells. Take the arrays out and leave: whatever goes wrong within
    the block is said to be the file's, as DktError.
    """
    with _told(path), path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                yield content
        else:
            yield {ONLY: content}


def mapped_array(path: Path) -> NDArray[Any]:
    """The array of an .npy, which stays on the disk until it is used. Raises DktError."""
    with _told(path):
        return np.lib.format.open_memmap(path, mode="r")


def may_be_depth(dtype: np.dtype[Any]) -> bool:
    """Whether such numbers can tell depth: 8 bits are a picture of it, for looking at."""
    return dtype.kind in "fiu" and dtype.itemsize > 1


@contextmanager
def _told(path: Path) -> Iterator[None]:
    check_no_pipe(path)
    try:
        yield
    except _UNREADABLE as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DktError(f"{path}: cannot be read as numpy's plain arrays ({why})") from error
