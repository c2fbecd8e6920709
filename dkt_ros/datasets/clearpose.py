"""ClearPose (Chen et al., ECCV 2022): videos of glass and plastic on tables, RealSense L515.

``setN/sceneM/{metadata.mat, 000000-color.png, -depth.png, -depth_true.png, -label.png,
-normal_true.png}``, 640x480. Depth is uint16 millimetres, 0 = unknown; depth_true is the sensor's
depth with the objects' models rendered over it. Labels are object ids: 1 to 63 (objects.csv) are
transparent, higher ones opaque. Test split: set1/scene5, sets 2, 3, 8 and 9, and scene6 of sets 4
to 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from dkt_ros.datasets.assembly import FrameAssembly, Unknown
from dkt_ros.datasets.clearpose_metadata import SceneMetadata, load_metadata
from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.layout import Folder, Layout, keys_by_ending, list_folder
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.pixels import (
    facing_camera,
    read_depth_png,
    read_label,
    read_normal_png,
    read_rgb,
)
from dkt_ros.formats.transphy3d import MaterialClass

_LAST_TRANSPARENT_ID = 63
_UNITS_PER_METRE = 1000.0
_ENDINGS = ("-color.png", "-depth.png", "-depth_true.png", "-label.png")
_TRAIN_SCENES = {1: range(1, 5), 4: range(1, 6), 5: range(1, 6), 6: range(1, 6), 7: range(1, 6)}


class ClearPoseClip(Clip):
    """One scene's video."""

    def problems(self) -> tuple[str, ...]:
        """Breaks in the numbering, and metadata.mat where it is missing or unreadable."""
        try:
            load_metadata(self.path / "metadata.mat")
        except DktError as error:
            return (*super().problems(), str(error))
        return super().problems()

    def _list_keys(self) -> Iterable[str]:
        return keys_by_ending(list_folder(self.path)[0], _ENDINGS)

    def _read(self, key: str, with_normal: bool) -> Sample:
        frame = FrameAssembly(f"{self.path}: {key}")
        metadata, row = self._metadata(key, frame)
        scale = _UNITS_PER_METRE if metadata is None else float(metadata.units_per_metre[row])
        camera_matrix = None if metadata is None else metadata.camera_matrix[row].copy()
        read_depth = partial(read_depth_png, units_per_metre=scale)
        frame.load("rgb", self._file(key, "-color.png"), read_rgb)
        frame.load_depth("depth", self._file(key, "-depth_true.png"), read_depth, Unknown.ZERO)
        frame.load_depth("raw_depth", self._file(key, "-depth.png"), read_depth, Unknown.ZERO)
        label = frame.load("mask", self._file(key, "-label.png"), read_label)
        if label is not None:
            frame.replace("mask", _mask(label))
        if with_normal:
            path = self._file(key, "-normal_true.png")
            normal = frame.load("normal", path, read_normal_png, optional=True)
            if normal is not None:
                # Computed from depth by a library that can let them point into the surface.
                frame.replace("normal", facing_camera(normal, camera_matrix))
        pose = None if metadata is None else metadata.world_to_camera[row].copy()
        return frame.finish(camera_matrix, pose)

    def _metadata(self, key: str, frame: FrameAssembly) -> tuple[SceneMetadata | None, int]:
        path = self.path / "metadata.mat"
        try:
            metadata = load_metadata(path)
        except DktError:
            return None, 0  # said once for the clip, by problems()
        if key not in metadata.rows:
            frame.remark(f"{path}: has no usable entry {key}, so that frame has no camera")
            return None, 0
        return metadata, metadata.rows[key]


def _mask(label: np.ndarray) -> np.ndarray:
    transparent = (label >= 1) & (label <= _LAST_TRANSPARENT_ID)
    return np.where(transparent, MaterialClass.TRANSPARENT, MaterialClass.OPAQUE).astype(np.uint8)


def _clips_of(folder: Folder) -> Iterator[Clip]:
    if folder.endings.isdisjoint(_ENDINGS):
        return
    found = (re.search(r"set(\d+)/scene(\d+)$", path.as_posix()) for path in folder.names)
    match = next(filter(None, found), None)
    split = folder.split
    if match:
        in_train = int(match[2]) in _TRAIN_SCENES.get(int(match[1]), ())
        split = "train" if in_train else "test"
    yield ClearPoseClip(folder.path, folder.clip_name(), split, is_video=True)


def _proves(folder: Folder) -> bool:
    return "-depth_true.png" in folder.endings


LAYOUT = Layout(
    "clearpose",
    "setN/sceneM/000000-depth_true.png",
    _clips_of,
    _proves,
    published_range=(0.3, 1.5),
)
