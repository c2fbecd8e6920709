"""Which layouts there are, and which one a folder is in."""

from __future__ import annotations

from pathlib import Path

from dkt_ros.datasets import cleargrasp, clearpose, dreds, hiss, transcg, transphy3d
from dkt_ros.datasets.dataset import Clip, Dataset
from dkt_ros.datasets.layout import Layout, walk
from dkt_ros.errors import DktError

_LAYOUTS: dict[str, Layout] = {
    module.LAYOUT.kind: module.LAYOUT
    for module in (transphy3d, clearpose, dreds, hiss, cleargrasp, transcg)
}
KINDS = tuple(_LAYOUTS)
"""The names that open_dataset knows."""


def open_dataset(path: Path | str, kind: str | None = None) -> Dataset:
    """The data set below a folder: the whole of it, one split's folder or a single scene's.

    kind: one of KINDS, or None to find out. Folders are listed here, frames only when asked for.
    Raises DktError where nothing fits, or more than one kind does.
    """
    root = Path(path)
    if kind is not None and kind not in _LAYOUTS:
        raise DktError(f"no data set kind {kind!r}; known are {', '.join(KINDS)}")
    layouts = list(_LAYOUTS.values()) if kind is None else [_LAYOUTS[kind]]
    found: dict[str, list[Clip]] = {}
    proven = set() if kind is None else {kind}
    for folder in walk(root):
        for layout in layouts:
            clips = list(layout.clips_of(folder))
            if clips:
                found.setdefault(layout.kind, []).extend(clips)
                if layout.kind not in proven and layout.proves(folder):
                    proven.add(layout.kind)
    found = {name: clips for name, clips in found.items() if name in proven}
    if not found:
        expected = "; ".join(f"{layout.kind}: {layout.expected}" for layout in layouts)
        raise DktError(f"{root}: holds no data set; looked for {expected}")
    if len(found) > 1:
        counts = ", ".join(f"{name} ({len(clips)} clips)" for name, clips in found.items())
        raise DktError(
            f"{root}: holds more than one kind of data set, {counts}; name the kind or give the "
            "folder of one"
        )
    ((name, clips),) = found.items()
    return Dataset(name, root, clips)
