"""ClearGrasp (Sajjan et al., ICRA 2020): rendered and real pictures of clear plastic.

Rendered: ``<object>/{rgb-imgs/*-rgb.jpg, depth-imgs-rectified/*-depth-rectified.exr,
camera-normals/*-cameraNormals.exr, segmentation-masks/*-segmentation-mask.png,
json-files/*-masks.json}``. Real: ``real-{val,test}/{d415,d435}/*-{transparent-rgb-img.jpg,
transparent-depth-img.exr (raw), opaque-depth-img.exr (truth: the objects were painted), mask.png}``
and ``camera_intrinsics.yaml``. Depth is in metres, every channel alike, 0 or NaN = unknown. Masks
are not 0 on the transparent objects. All are pictures, no video.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dkt_ros.datasets.assembly import FrameAssembly, Unknown
from dkt_ros.datasets.dataset import UNSPLIT, Clip
from dkt_ros.datasets.layout import Folder, Layout, keys_by_ending, list_folder
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.exr import read_exr_depth
from dkt_ros.formats.intrinsics import read_intrinsics
from dkt_ros.formats.pixels import read_normal_exr_blender, read_object_mask, read_rgb
from dkt_ros.geometry import Intrinsics

_UNKNOWN = Unknown.ZERO | Unknown.NAN
_RENDERED = {
    "rgb": ("rgb-imgs", "-rgb.jpg"),
    "depth": ("depth-imgs-rectified", "-depth-rectified.exr"),
    "mask": ("segmentation-masks", "-segmentation-mask.png"),
}
_NORMAL = ("camera-normals", "-cameraNormals.exr")
_JSON = ("json-files", "-masks.json")
_REAL = {
    "rgb": "-transparent-rgb-img.jpg",
    "raw_depth": "-transparent-depth-img.exr",
    "depth": "-opaque-depth-img.exr",
    "mask": "-mask.png",
}
_REAL_ONLY = (_REAL["rgb"], _REAL["raw_depth"], _REAL["depth"])


class RenderedClip(Clip):
    """The pictures of one object."""

    def _list_keys(self) -> Iterable[str]:
        keys: set[str] = set()
        for folder, ending in _RENDERED.values():
            if (self.path / folder).is_dir():
                keys |= keys_by_ending(list_folder(self.path / folder)[0], (ending,))
        return keys

    def _read(self, key: str, with_normal: bool) -> Sample:
        frame = FrameAssembly(f"{self.path}: {key}")
        frame.load("rgb", self._placed(key, _RENDERED["rgb"]), read_rgb)
        frame.load_depth("depth", self._placed(key, _RENDERED["depth"]), read_exr_depth, _UNKNOWN)
        frame.load("mask", self._placed(key, _RENDERED["mask"]), read_object_mask)
        if with_normal:
            path = self._placed(key, _NORMAL)
            frame.load("normal", path, read_normal_exr_blender, optional=True)
        return frame.finish(self._camera_matrix(key, frame))

    def _placed(self, key: str, place: tuple[str, str]) -> Path:
        folder, ending = place
        return self.path / folder / f"{key}{ending}"

    def _camera_matrix(self, key: str, frame: FrameAssembly) -> np.ndarray | None:
        path = self._placed(key, _JSON)
        if frame.size is None or not path.exists():
            return None
        height, width = frame.size
        try:
            view = json.loads(path.read_text(encoding="utf-8-sig"))["camera"]["field_of_view"]
            half_x, half_y = float(view["x_axis_rads"]) / 2, float(view["y_axis_rads"]) / 2
            fx, fy = width / 2 / np.tan(half_x), height / 2 / np.tan(half_y)
            return Intrinsics(fx, fy, (width - 1) / 2, (height - 1) / 2, width, height).matrix
        except (OSError, ValueError, KeyError, TypeError, RecursionError, DktError) as error:
            frame.remark(f"{path}: no usable camera.field_of_view ({error!r}); no intrinsics")
            return None


class RealClip(Clip):
    """The pictures of one camera."""

    def problems(self) -> tuple[str, ...]:
        """camera_intrinsics.yaml, where it cannot be used."""
        try:
            self._camera()
        except DktError as error:
            return (str(error),)
        return ()

    def _list_keys(self) -> Iterable[str]:
        return keys_by_ending(list_folder(self.path)[0], _REAL.values())

    def _read(self, key: str, with_normal: bool) -> Sample:
        frame = FrameAssembly(f"{self.path}: {key}")
        files = {part: self._file(key, ending) for part, ending in _REAL.items()}
        frame.load("rgb", files["rgb"], read_rgb)
        frame.load_depth("depth", files["depth"], read_exr_depth, _UNKNOWN)
        frame.load_depth("raw_depth", files["raw_depth"], read_exr_depth, _UNKNOWN)
        frame.load("mask", files["mask"], read_object_mask)
        return frame.finish(self._camera_matrix(frame.size))

    def _camera(self) -> Intrinsics:
        return read_intrinsics(self.path / "camera_intrinsics.yaml")

    def _camera_matrix(self, size: tuple[int, int] | None) -> np.ndarray | None:
        try:
            return None if size is None else self._camera().scaled_to(size[1], size[0]).matrix
        except DktError:  # said by problems()
            return None


def _clips_of(folder: Folder) -> Iterator[Clip]:
    if _rendered_parts(folder):
        yield RenderedClip(folder.path, folder.clip_name(), _split(folder), is_video=False)
    if not folder.endings.isdisjoint(_REAL_ONLY):
        yield RealClip(folder.path, folder.clip_name(), _split(folder), is_video=False)


def _proves(folder: Folder) -> bool:
    return len(_rendered_parts(folder)) > 1 or not folder.endings.isdisjoint(_REAL_ONLY)


def _rendered_parts(folder: Folder) -> set[str]:
    return {subfolder for subfolder, _ in _RENDERED.values()} & set(folder.subfolders)


def _split(folder: Folder) -> str:
    """By folders named synthetic-val, real-test, cleargrasp-dataset-train and the like."""
    if folder.split != UNSPLIT:
        return folder.split
    for part in (part for path in folder.names for part in reversed(path.parts)):
        for split in ("train", "val", "test"):
            # cleargrasp-dataset-test-val holds both; the folders in it decide.
            if part.endswith(f"-{split}") and part != "cleargrasp-dataset-test-val":
                return split
    return UNSPLIT


LAYOUT = Layout(
    "cleargrasp",
    "<object>/rgb-imgs and depth-imgs-rectified (rendered), or *-opaque-depth-img.exr (real)",
    _clips_of,
    _proves,
)
