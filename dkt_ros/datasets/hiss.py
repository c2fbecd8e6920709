"""HISS (Wei et al., CoRL 2024, D3RoMa): rendered home scenes with specular and transparent objects.

``train|val/<scene>/.../0000_{color.png, depth.exr, ir_l.png, ir_r.png, simDepthImage.exr}``,
640x360. Colour, depth and the left infrared picture share one camera. Depth is in metres; what is
0, negative, infinite or far away is unknown. There are no masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dkt_ros.datasets.assembly import FrameAssembly, Unknown
from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.layout import Folder, Layout, keys_by_ending, list_folder
from dkt_ros.datasets.sample import Sample
from dkt_ros.formats.exr import read_exr_depth
from dkt_ros.formats.pixels import read_rgb
from dkt_ros.geometry import Intrinsics

_UNKNOWN = Unknown.ZERO | Unknown.NEGATIVE | Unknown.FAR
_ENDINGS = ("_color.png", "_depth.exr", "_simDepthImage.exr")
_CAMERA = Intrinsics(446.31, 446.31, 319.5, 179.5, 640, 360)


class HissClip(Clip):
    """The pictures of one folder."""

    def _list_keys(self) -> Iterable[str]:
        return keys_by_ending(list_folder(self.path)[0], _ENDINGS)

    def _read(self, key: str, with_normal: bool) -> Sample:
        frame = FrameAssembly(f"{self.path}: {key}")
        color, depth, raw_depth = (self._file(key, ending) for ending in _ENDINGS)
        frame.load("rgb", color, read_rgb)
        frame.load_depth("depth", depth, read_exr_depth, _UNKNOWN)
        frame.load_depth("raw_depth", raw_depth, read_exr_depth, _UNKNOWN)
        frame.shrink_to_depth()
        size = frame.size
        return frame.finish(None if size is None else _CAMERA.scaled_to(size[1], size[0]).matrix)


def _clips_of(folder: Folder) -> Iterator[Clip]:
    if "_depth.exr" in folder.endings:
        yield HissClip(folder.path, folder.clip_name(), folder.split, is_video=False)


def _proves(folder: Folder) -> bool:
    return folder.endings >= {"_depth.exr", "_color.png"}


LAYOUT = Layout(
    "hiss", "train|val/<scene>/.../0000_depth.exr with 0000_color.png", _clips_of, _proves
)
