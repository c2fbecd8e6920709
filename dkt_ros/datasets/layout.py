"""How folders are told apart: one walk, each folder shown to every layout.

Knows folders and file name endings. Knows no layout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dkt_ros.datasets.dataset import Clip, split_of
from dkt_ros.errors import DktError
from dkt_ros.files import is_leftover, natural_order, no_folder


@dataclass
class Folder:
    """One folder of the walk.

    path: where it is. below: its path from the data set's folder, "" for that itself.
    split: what dataset.split_of makes of that path. endings: its files' names without leading
    digits ("-color.png"). files, subfolders: their names, the latter in natural order.
    """

    path: Path
    below: str
    split: str
    files: tuple[str, ...]
    subfolders: tuple[str, ...]
    endings: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.endings = frozenset(re.sub(r"^\d+", "", name, count=1) for name in self.files)

    @property
    def names(self) -> tuple[Path, Path]:
        """Where it is, in full: as it was come to, and with links followed; either may tell."""
        return Path(os.path.abspath(self.path)), self.path.resolve()

    def clip_name(self, inside: str = "") -> str:
        """A clip's name: the folder's path and what tells it from others inside."""
        return "/".join(filter(None, (self.below, inside))) or self.path.resolve().name


@dataclass(frozen=True)
class Layout:
    """kind: the layout's name. expected: what it looks for, for messages.

    clips_of: the clips that a folder would hold if the data set were of this layout; generous, so
    that a scene which lost some files is not overlooked.
    proves: whether a folder shows that the data set is of this layout and no other.
    tells_reflective: whether its masks tell reflective from transparent objects.
    published_range: the depths that its publication evaluates, in metres.
    """

    kind: str
    expected: str
    clips_of: Callable[[Folder], Iterable[Clip]]
    proves: Callable[[Folder], bool]
    tells_reflective: bool = False
    published_range: tuple[float, float] | None = None


def walk(root: Path, unread: list[str]) -> Iterator[Folder]:
    """Every folder from root on, in natural order; links are followed, but no folder twice.

    unread: gets a line for each folder below root that cannot be listed, and is passed over.
    """
    if not root.is_dir():
        raise DktError(f"{root}: {no_folder(root)}")
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            folder = _folder(path, root)
        except (OSError, DktError) as error:
            if path == root:
                raise
            unread.append(str(error))
            continue
        yield folder
        waiting.extend(path / name for name in reversed(folder.subfolders))


def keys_by_ending(names: Iterable[str], endings: Iterable[str]) -> set[str]:
    """What stands before any of the endings.

    A frame shows up when any one of its files is there, so that missing ones are noticed.
    """
    endings = tuple(endings)
    return {
        name[: -len(ending)]
        for name in names
        for ending in endings
        if name.endswith(ending) and len(name) > len(ending)
    }


def _folder(path: Path, root: Path) -> Folder:
    files, subfolders = list_folder(path)
    below = path.relative_to(root)
    return Folder(
        path=path,
        below="" if path == root else below.as_posix(),
        split=split_of(
            (root.resolve().name, os.path.basename(os.path.abspath(root)), *below.parts)
        ),
        files=tuple(files),
        subfolders=tuple(sorted(subfolders, key=natural_order)),
    )


def list_folder(path: Path) -> tuple[list[str], list[str]]:
    """The names of a folder's files and of its subfolders, without leftovers.

    Raises DktError where it cannot be listed.
    """
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_leftover(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() or entry.is_symlink():  # of a pipe reading would wait
                    files.append(entry.name)
    except OSError as error:
        raise DktError(f"{path}: cannot be listed ({error.strerror or error})") from error
    return files, folders
