"""TransPhy3D, and what `dkt synth` writes: one tar per video, in folders that name the split.

Knows how the sequences lie on disk; dkt_ros.formats.transphy3d knows what a sequence holds.

Folders train, test and parametric_train/{training,validation,test}, or none. A tar's own name does
not count: its sequence's frames are whatever keys it has.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dkt_ros.datasets.assembly import depth_problem
from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.layout import Folder, Layout
from dkt_ros.datasets.sample import BadFrameError, Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.tar_index import read_members, tar_index
from dkt_ros.formats.transphy3d import MaterialClass, decode_frame

_MEMBER = ".depth.json"
_PEEKED_TARS = 20
_PEEKED_MEMBERS = 12


class TransPhy3dClip(Clip):
    """One tar."""

    def _list_keys(self) -> Iterable[str]:
        return tar_index(self.path)

    def _read(self, key: str, with_normal: bool) -> Sample:
        source = f"{self.path}: {key}"
        members = tar_index(self.path).get(key)
        if members is None:
            raise BadFrameError((f"{source}: is gone, the tar was changed",))
        if not with_normal:
            members = {name: place for name, place in members.items() if name != "normal.png"}
        try:
            frame = decode_frame(read_members(self.path, key, members), source)
        except DktError as error:
            raise BadFrameError((str(error),)) from error
        problems = [depth_problem(frame.depth), _mask_problem(frame.mask)]
        if any(problems):
            raise BadFrameError(tuple(f"{source}: {problem}" for problem in problems if problem))
        remarks: tuple[str, ...] = ()
        if frame.raw_depth is not None and not np.isfinite(frame.raw_depth).any():
            remarks = (f"{source}: raw_depth.png holds no reading at all",)
        return Sample(
            rgb=frame.rgb,
            depth=frame.depth,
            source=source,
            raw_depth=frame.raw_depth,
            mask=frame.mask,
            normal=frame.normal,
            camera_matrix=frame.camera_matrix,
            world_to_camera=frame.world_to_camera,
            remarks=remarks,
        )


def _mask_problem(mask: np.ndarray | None) -> str | None:
    if mask is None or mask.max() <= max(MaterialClass):
        return None
    return f"mask.png holds {int(mask.max())}, expected material classes up to {max(MaterialClass)}"


def _clips_of(folder: Folder) -> Iterator[Clip]:
    for name in _tars(folder):
        clip_name = folder.clip_name(name.removesuffix(".tar"))
        yield TransPhy3dClip(folder.path / name, clip_name, folder.split, is_video=True)


def _proves(folder: Folder) -> bool:
    # Data sets are downloaded as tars too: those left beside the unpacked files are not sequences.
    return any(_is_sequence(folder.path / name) for name in _tars(folder)[:_PEEKED_TARS])


def _tars(folder: Folder) -> list[str]:
    return sorted(name for name in folder.files if name.endswith(".tar"))


def _is_sequence(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:") as tar:
            for _, info in zip(range(_PEEKED_MEMBERS), tar, strict=False):
                if info.name.endswith(_MEMBER):
                    return True
    except (tarfile.TarError, OSError, EOFError, ValueError):
        pass
    return False


LAYOUT = Layout(
    "transphy3d",
    "*.tar with members like 000000_00000000.depth.json, below train/, test/ or the folder itself",
    _clips_of,
    _proves,
    tells_reflective=True,
)
