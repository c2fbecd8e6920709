"""TransCG (Fang et al., RA-L 2022): real table scenes, two cameras on a robot's hand.

``sceneN/<view>/{rgb,depth}{1,2}.png, depth{1,2}-gt.png, depth{1,2}-gt-mask.png``. Camera 1 is a
RealSense D435 (depth in millimetres), 2 an L515 (depth in quarters of a millimetre); 0 = unknown.
The mask is not 0 on transparent objects. ``metadata.json`` beside the scenes, or above where they
were sorted into folders, lists the scenes of each split, that in a scene the views whose truth is
usable. The views are stops on the robot's way, so pictures and no video.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from dkt_ros.datasets.assembly import FrameAssembly, Unknown
from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.layout import Folder, Layout, list_folder
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.numpy_files import ONLY, arrays_in
from dkt_ros.formats.pixels import read_depth_png, read_object_mask, read_rgb


@dataclass(frozen=True)
class _Camera:
    name: str
    number: int
    units_per_metre: float


_LEVELS = 3
_SPLITS = ("train", "test")
_CAMERAS = (_Camera("D435", 1, 1000.0), _Camera("L515", 2, 4000.0))


class TransCgClip(Clip):
    """One scene as one of the cameras saw it."""

    def __init__(self, scene: Path, name: str, split: str, camera: _Camera) -> None:
        super().__init__(scene, name, split, is_video=False)
        self._camera = camera

    def problems(self) -> tuple[str, ...]:
        """The scene's list of views and the camera's intrinsics, where one cannot be used."""
        found = []
        if _lists(self.path) is None:
            found.append(
                f"{self.path.parent}: has no metadata.json, here or above, that tells scenes for "
                "training from those for testing"
            )
        for check in (self._valid_views, self._camera_matrix):
            try:
                check()
            except DktError as error:
                found.append(str(error))
        return tuple(found)

    def _list_keys(self) -> Iterable[str]:
        try:
            valid = self._valid_views()
        except DktError:  # said by problems()
            valid = None
        if valid is not None:
            return valid
        files = _key_files(self._camera.number)
        return [
            view
            for view in list_folder(self.path)[1]
            if view.isdecimal() and any((self.path / view / file).exists() for file in files)
        ]

    def _valid_views(self) -> list[str] | None:
        """The views that the scene's metadata.json lists; None where there is no such file."""
        path = self.path / "metadata.json"
        metadata = _read_json(path)
        if metadata is None:
            return None
        name = f"{self._camera.name}_valid_perspective_list"
        views = metadata.get(name)
        if not isinstance(views, list) or not all(isinstance(view, int) for view in views):
            raise DktError(f"{path}: has no list {name} of numbers; all views are taken")
        return [str(view) for view in views]

    def _camera_matrix(self) -> np.ndarray | None:
        camera = self._camera
        folders = _around(self.path, "camera_intrinsics")
        if not folders:
            return None
        return _load_matrix(folders[0] / f"{camera.number}-camIntrinsics-{camera.name}.npy").copy()

    def _read(self, key: str, with_normal: bool) -> Sample:
        view = self.path / key
        frame = FrameAssembly(f"{view}: {self._camera.name}")
        number = self._camera.number
        read_depth = partial(read_depth_png, units_per_metre=self._camera.units_per_metre)
        frame.load("rgb", view / f"rgb{number}.png", read_rgb)
        frame.load_depth("depth", view / f"depth{number}-gt.png", read_depth, Unknown.ZERO)
        frame.load_depth("raw_depth", view / f"depth{number}.png", read_depth, Unknown.ZERO)
        frame.load("mask", view / f"depth{number}-gt-mask.png", read_object_mask)
        try:
            camera_matrix = self._camera_matrix()
        except DktError:  # said by problems()
            camera_matrix = None
        return frame.finish(camera_matrix)


@lru_cache(maxsize=4)
def _load_matrix(path: Path) -> np.ndarray:
    with arrays_in(path) as content:
        matrix = np.asarray(content[ONLY], np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise DktError(f"{path}: shape {matrix.shape}, expected a finite 3x3 camera matrix")
    return matrix


def _read_json(path: Path) -> dict | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DktError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DktError(f"{path}: holds a {type(content).__name__}, expected an object")
    return content


def _around(scene: Path, name: str) -> list[Path]:
    """What has that name beside the scenes, and above, where they may lie sorted into folders."""
    parents = scene.absolute().parents[:_LEVELS]
    return [path for parent in parents if (path := parent / name).exists()]


def _lists(scene: Path) -> dict | None:
    """The metadata.json of the data set, which lists its scenes; None where there is none."""
    for path in _around(scene, "metadata.json"):
        try:
            content = _read_json(path) or {}
        except DktError:
            if path.parent == scene.absolute().parent:
                raise
            continue  # of something else
        if not content.keys().isdisjoint(_SPLITS):
            return content
    return None


def _split(folder: Folder, number: int) -> str:
    metadata = _lists(folder.path) or {}
    for split in _SPLITS:
        scenes = metadata.get(split)
        if isinstance(scenes, list) and number in scenes:
            return split
    return folder.split


def _clips_of(folder: Folder) -> Iterator[Clip]:
    found = (re.fullmatch(r"scene(\d+)", path.name) for path in folder.names)
    scene = next(filter(None, found), None)
    views = [name for name in folder.subfolders if name.isdecimal()]
    if scene is None or not views:
        return
    for camera in _CAMERAS:
        # Any view may lack a camera.
        files = _key_files(camera.number)
        if any((folder.path / view / file).exists() for view in views for file in files):
            split = _split(folder, int(scene[1]))
            yield TransCgClip(folder.path, folder.clip_name(camera.name), split, camera)


def _key_files(number: int) -> tuple[str, str]:
    return f"depth{number}-gt.png", f"rgb{number}.png"


LAYOUT = Layout(
    "transcg",
    "sceneN/<view>/depth1-gt.png or depth2-gt.png",
    _clips_of,
    # A clip is false when empty, and listing an empty one raises.
    lambda folder: any(True for _ in _clips_of(folder)),
)
