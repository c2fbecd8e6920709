"""A contact sheet of rendered sequences: what a person looks at before training on them.

Knows decoded sequences alone. Knows nothing of Blender.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.colors import colored
from dkt_ros.errors import DktError
from dkt_ros.files import check_writable, shown, write_whole
from dkt_ros.formats.transphy3d import SequenceFrame, read_sequence

_CLASS_COLOURS = np.array([[70, 70, 70], [0, 190, 255], [255, 140, 0]], np.uint8)

_TILE_WIDTH = 240
_SUFFIXES = (".png", ".jpg", ".jpeg")


def contact_sheet(paths: Sequence[Path], columns: int) -> np.ndarray:
    """(H,W,3) uint8: for the first and the last frame of each tar, rgb, depth, mask, raw depth.

    Depths of one frame share one colour scale, from the 1st to the 95th percentile of the truth.
    """
    if not paths:
        raise DktError("no sequence to show; give a folder that holds .tar files")
    strips = [_label(strip, path.stem) for path in paths for strip in _strips(path)]
    columns = min(columns, len(strips))
    width = max(strip.shape[1] for strip in strips)
    strips = [_fit(strip, strip.shape[0], width) for strip in strips]
    rows = []
    for first in range(0, len(strips), columns):
        row = strips[first : first + columns]
        row += [np.zeros_like(row[0])] * (columns - len(row))
        height = max(strip.shape[0] for strip in row)
        rows.append(np.hstack([_fit(strip, height, width) for strip in row]))
    return np.vstack(rows)


def write_contact_sheet(folder: Path, output: Path, count: int, columns: int = 2) -> int:
    """Draws up to `count` tars spread evenly over a folder's; returns how many were drawn.

    Raises DktError, before any tar is read where that is possible, if there is nothing to draw or
    output cannot be written.
    """
    if output.suffix.lower() not in _SUFFIXES:
        raise DktError(f"cannot write {output}; expected a name that ends in .png or .jpg")
    if not folder.is_dir():
        raise DktError(f"{folder} is not a folder; expected one that holds .tar files")
    paths = sorted(shown(folder, "*.tar"))
    if len(paths) > count:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)]
    check_writable(output)
    sheet = contact_sheet(paths, columns)
    try:
        done, encoded = cv2.imencode(output.suffix, np.ascontiguousarray(sheet[..., ::-1]))
    except cv2.error:  # a JPEG has at most 65535 pixels a side
        done = False
    if not done:
        height, width = sheet.shape[:2]
        raise DktError(
            f"cannot draw {width}x{height} pixels into {output}; show fewer or end it in .png"
        )
    write_whole(output, encoded.tobytes())
    return len(paths)


def _strips(path: Path) -> list[np.ndarray]:
    frames = read_sequence(path)
    chosen = [frames[0]] if len(frames) == 1 else [frames[0], frames[-1]]
    return [_strip(frame) for frame in chosen]


def _strip(frame: SequenceFrame) -> np.ndarray:
    known = frame.depth[np.isfinite(frame.depth)]
    near, far = np.percentile(known, (1, 95)) if known.size else (0.0, 1.0)
    tiles = [frame.rgb, colored(frame.depth, near, far)]
    if frame.mask is not None:
        tiles.append(_CLASS_COLOURS[np.minimum(frame.mask, len(_CLASS_COLOURS) - 1)])
    if frame.raw_depth is not None:
        tiles.append(colored(frame.raw_depth, near, far))
    height = max(1, round(_TILE_WIDTH * frame.rgb.shape[0] / frame.rgb.shape[1]))
    return np.hstack(
        [cv2.resize(tile, (_TILE_WIDTH, height), interpolation=cv2.INTER_AREA) for tile in tiles]
    )


def _label(strip: np.ndarray, text: str) -> np.ndarray:
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(strip, text, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, thickness)
    return strip


def _fit(strip: np.ndarray, height: int, width: int) -> np.ndarray:
    room = ((0, height - strip.shape[0]), (0, width - strip.shape[1]), (0, 0))
    return np.pad(strip, room)
