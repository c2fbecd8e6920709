"""Which layouts there are, and which one a folder is in. Imports a layout when it is needed."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dkt_ros.errors import DktError
from dkt_ros.files import PACKED, no_folder, shown
from dkt_ros.wording import counted

if TYPE_CHECKING:
    from dkt_ros.datasets.dataset import Clip, Dataset
    from dkt_ros.datasets.layout import Layout

KINDS = ("transphy3d", "clearpose", "dreds", "hiss", "cleargrasp", "transcg")
"""The names that open_dataset knows, each a module beside this one with a LAYOUT of that kind."""

_TRIED = 20
_PACKED = "recordings with the truth become one by `dkt pack`"
_log = logging.getLogger(__name__)


def layout_of(kind: str) -> Layout:
    """The layout of that name, one of KINDS."""
    layout: Layout = importlib.import_module(f"dkt_ros.datasets.{kind}").LAYOUT
    return layout


def open_dataset(path: Path | str, kind: str | None = None) -> Dataset:
    """The data set below a folder: the whole of it, one split's folder or a single scene's.

    kind: one of KINDS, or None to find out. Folders are listed here, frames only when asked for;
    a folder below that cannot be listed is logged and passed over.
    Raises DktError where nothing fits, or more than one kind does.
    """
    from dkt_ros.datasets.dataset import Dataset
    from dkt_ros.datasets.layout import walk

    root = Path(os.path.expanduser(path))  # recipes name folders beyond any shell
    if kind is not None and kind not in KINDS:
        raise DktError(f"no data set kind {kind!r}; known are {', '.join(KINDS)}")
    if root.is_file():
        raise DktError(f"{root}: {no_folder(root)} that holds a data set; {_PACKED}")
    layouts = [layout_of(name) for name in (KINDS if kind is None else (kind,))]
    found: dict[str, list[Clip]] = {}
    proven = set() if kind is None else {kind}
    unread: list[str] = []
    for folder in walk(root, unread):
        for layout in layouts:
            clips = list(layout.clips_of(folder))
            if clips:
                found.setdefault(layout.kind, []).extend(clips)
                if layout.kind not in proven and layout.proves(folder):
                    proven.add(layout.kind)
    for line in unread:
        _log.warning("passed over: %s", line)
    maybe = [clip for clips in found.values() for clip in clips]
    found = {name: clips for name, clips in found.items() if name in proven}
    if not found:
        expected = "; ".join(f"{layout.kind}: {layout.expected}" for layout in layouts)
        raise DktError(
            f"{root}: holds no data set{_unreadable(maybe) or _packed(root)}; looked for "
            f"{expected}; {_PACKED}"
        )
    if len(found) > 1:
        counts = ", ".join(
            f"{name} ({counted(len(clips), 'clip')})" for name, clips in found.items()
        )
        raise DktError(
            f"{root}: holds more than one kind of data set, {counts}; name the kind or give the "
            "folder of one"
        )
    ((name, clips),) = found.items()
    return Dataset(name, root, clips, unread)


def _packed(root: Path) -> str:
    """What archives lie there in place of one; "" where none do."""
    archives = [p.name for p in sorted(shown(root)) if p.suffix.lower() in PACKED]
    return f", but {archives[0]}, which is to be unpacked first" if archives else ""


def _unreadable(clips: Iterable[Clip]) -> str:
    """What keeps one of the first files that may be clips from being one; "" where nothing does."""
    for clip in islice((clip for clip in clips if clip.path.is_file()), _TRIED):
        try:
            len(clip)
        except DktError as error:
            return f" that can be read ({error})"
    return ""
