"""A folder of the user's panoramas (HDRIs) that light scenes. Knows which can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy

from dkt_ros.errors import DktError
from dkt_ros.files import files_below
from dkt_ros.synth.passes import quiet
from dkt_ros.wording import counted

SUFFIXES = (".hdr", ".exr")


def find_panoramas(folder: Path, say: Callable[[str], None]) -> tuple[Path, ...]:
    """The readable equirectangular pictures below a folder in the order of their names.

    Unreadable ones and those that are not twice as wide as high are named and skipped. Raises
    DktError where none is left. Empties Blender.
    """
    if not folder.is_dir():
        raise DktError(f"--hdris {folder} is not a folder")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    paths = files_below(folder, SUFFIXES)
    if not paths:
        raise DktError(f"--hdris {folder}: holds no file that ends in {' or '.join(SUFFIXES)}")
    found = []
    for path in paths:
        if reason := _fault(path):
            say(f"skipped: {path}: {reason}")
        else:
            found.append(path)
    say(f"{folder}: {counted(len(found), 'panorama')}, {len(paths) - len(found)} skipped")
    if not found:
        raise DktError(f"--hdris {folder}: none of {counted(len(paths), 'file')} is usable")
    return tuple(found)


def _fault(path: Path) -> str | None:
    try:
        with quiet():
            picture = bpy.data.images.load(str(path.resolve()))
    except RuntimeError as error:
        return f"unreadable ({' '.join(str(error).split())})"
    width, height = picture.size
    # Blender decodes when asked for pixels, and gives a picture without size where it cannot.
    readable = width > 0 and len(picture.pixels) > 0
    bpy.data.images.remove(picture)
    if not readable:
        return "unreadable"
    if not 1.9 < width / height < 2.1:
        return f"{width}x{height}, expected an equirectangular picture twice as wide as high"
    return None
