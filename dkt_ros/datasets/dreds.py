"""DREDS (rendered pictures) and STD (real videos), Dai et al., ECCV 2022.

DREDS: ``<scene>/0000_{color.png, depth_120.exr, simDepthImage.exr, mask.exr, normal.exr,
meta.txt}`` (depth_0.exr in some parts); random camera poses, so pictures and no video. STD:
``<sequence>/0000_{color.png, gt_depth.exr, depth_415.exr, mask.png, meta.txt}``.

Depth is in metres, every channel alike, unknown below or at 0. Colour is 1280x720 where the truth
is 640x360: frames are brought to the truth's size. Masks hold instance ids, meta.txt their
material: 0 raw, 1 diffuse, 2 transparent, 3 specular.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkt_ros.datasets.assembly import FrameAssembly, Unknown
from dkt_ros.datasets.dataset import UNSPLIT, Clip
from dkt_ros.datasets.layout import Folder, Layout, keys_by_ending, list_folder
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.exr import read_exr_depth, read_exr_plane
from dkt_ros.formats.pixels import read_label, read_normal_exr_blender, read_rgb
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.geometry import Intrinsics

_UNKNOWN = Unknown.ZERO | Unknown.NEGATIVE | Unknown.FAR
_CLASS_OF_MATERIAL = {
    0: MaterialClass.OPAQUE,
    1: MaterialClass.OPAQUE,
    2: MaterialClass.TRANSPARENT,
    3: MaterialClass.REFLECTIVE,
}


@dataclass(frozen=True)
class _Parts:
    """File endings and camera of one of the two data sets; truth: whichever ending occurs."""

    truth: tuple[str, ...]
    raw_depth: str
    mask: str
    camera: Intrinsics
    is_video: bool


# Rendered at a horizontal view of 71.28 degrees; the real camera's principal point is not published
# and taken as the centre.
_DREDS = _Parts(
    truth=("_depth_120.exr", "_depth_0.exr"),
    raw_depth="_simDepthImage.exr",
    mask="_mask.exr",
    camera=Intrinsics(446.31, 446.31, 319.5, 179.5, 640, 360),
    is_video=False,
)
_STD = _Parts(
    truth=("_gt_depth.exr",),
    raw_depth="_depth_415.exr",
    mask="_mask.png",
    camera=Intrinsics(918.295227, 917.543945, 639.5, 359.5, 1280, 720),
    is_video=True,
)


class DredsClip(Clip):
    """One scene of DREDS or one sequence of STD."""

    def __init__(self, path: Path, name: str, split: str, parts: _Parts) -> None:
        super().__init__(path, name, split, parts.is_video)
        self._parts = parts

    def _list_keys(self) -> Iterable[str]:
        parts = self._parts
        endings = ("_color.png", *parts.truth, parts.raw_depth, parts.mask)
        return keys_by_ending(list_folder(self.path)[0], endings)

    def _read(self, key: str, with_normal: bool) -> Sample:
        frame = FrameAssembly(f"{self.path}: {key}")
        truth = self._truth(key)
        frame.load("rgb", self._file(key, "_color.png"), read_rgb)
        frame.load_depth("depth", truth, read_exr_depth, _UNKNOWN)
        raw_depth = self._file(key, self._parts.raw_depth)
        frame.load_depth("raw_depth", raw_depth, read_exr_depth, _UNKNOWN)
        instances = frame.load("mask", self._file(key, self._parts.mask), _read_instances)
        if instances is not None:
            try:
                frame.replace("mask", _mask(instances, self._file(key, "_meta.txt")))
            except DktError as error:
                frame.problem(str(error))
        if with_normal:
            path = self._file(key, "_normal.exr")
            frame.load("normal", path, read_normal_exr_blender, optional=True)
        frame.shrink_to_depth()
        size = frame.size
        camera = None if size is None else self._parts.camera.scaled_to(size[1], size[0]).matrix
        return frame.finish(camera)

    def _truth(self, key: str) -> Path:
        files = [self._file(key, ending) for ending in self._parts.truth]
        return next((file for file in files if file.exists()), files[0])


def _read_instances(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        return read_label(path)
    # The renderer writes id / 255 as a colour.
    return np.rint(read_exr_plane(path) * 255.0).clip(0, 255).astype(np.uint8)


def _mask(instances: np.ndarray, meta: Path) -> np.ndarray:
    """Material classes (H,W) of instance ids; ids that meta.txt does not name are background."""
    try:
        lines = meta.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DktError(f"{meta}: cannot be read ({error})") from error
    classes = np.zeros(256, np.uint8)
    for line in lines:
        words = line.split()
        if not words:
            continue
        try:
            # Full lines: id, label, folder, name, scale, material, pose. Short ones: id, label,
            # material.
            instance, material = int(words[0]), int(words[5 if len(words) > 5 else 2])
            classes[instance] = _CLASS_OF_MATERIAL[material]
        except (ValueError, IndexError, KeyError) as error:
            raise DktError(
                f"{meta}: line {line!r} names no instance (0 to 255) and material (0 to 3)"
            ) from error
    return classes[instances]


def _clips_of(folder: Folder) -> Iterator[Clip]:
    for parts in (_DREDS, _STD):
        if not folder.endings.isdisjoint((*parts.truth, parts.raw_depth)):
            split = folder.split
            # All of STD and the objects of unknown categories are there for testing.
            if parts is _STD or (split == UNSPLIT and "CatNovel" in str(folder.path)):
                split = "test"
            yield DredsClip(folder.path, folder.clip_name(), split, parts)


def _proves(folder: Folder) -> bool:
    return not folder.endings.isdisjoint((*_DREDS.truth, *_STD.truth))


LAYOUT = Layout(
    "dreds",
    "<scene>/0000_depth_120.exr (DREDS) or 0000_gt_depth.exr (STD)",
    _clips_of,
    _proves,
    tells_reflective=True,
)
