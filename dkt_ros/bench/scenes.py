"""Rendered scenes to grasp in: pictures with their truth, and the bodies that they show."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dkt_ros import child
from dkt_ros.arguments import parse_size
from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.evaluation.videos import Video, stack
from dkt_ros.formats.tabletop import MATERIALS
from dkt_ros.formats.transphy3d import SequenceFrame
from dkt_ros.geometry import Intrinsics
from dkt_ros.rigid.parts import convex_parts
from dkt_ros.rigid.world import Body, Mesh

_NAME = re.compile(rf"(s\d+-\d+)-({'|'.join(MATERIALS)})")


@dataclass(frozen=True, eq=False)
class TableScene:
    """One scene in one material.

    video: its frames; grasped is what the last one shows. name: the same for all materials.
    instance: (H, W), 0 the room or what holds the bodies, n body n - 1. camera_to_world: (4, 4),
    camera axes x right, y down, z forward; the table is z = 0. fixtures: convex meshes in the
    world's axes, of what holds them and never moves.
    """

    name: str
    material: str
    video: Video
    bodies: list[Body]
    instance: np.ndarray
    intrinsics: Intrinsics
    camera_to_world: np.ndarray
    fixtures: tuple[Mesh, ...] = ()

    @property
    def truth(self) -> np.ndarray:
        """(H, W) metres."""
        return np.asarray(self.video.truth[-1])


def render(
    folder: Path, seed: int, start: int, scenes: int, jobs: int, more: Sequence[str]
) -> Iterator[str]:
    """Renders what is missing, by `dkt synth tabletop` in so many processes; what they say.

    more: arguments of that command. Raises DktError where a process failed.
    """
    numbers = range(start, start + scenes)
    names = [f"s{seed:04d}-{n:06d}-{material}.tar" for n in numbers for material in MATERIALS]
    if all((folder / name).is_file() for name in names):
        return
    words = ["synth", "tabletop", "--output", str(folder), "--seed", str(seed)]
    words += ["--scenes", str(scenes), "--start", str(start), *more]
    running = [
        subprocess.Popen(
            child.command("dkt_ros.cli", *words, "--shard", f"{shard}/{jobs}"),
            stdout=subprocess.PIPE if shard == 0 else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if shard == 0 else subprocess.DEVNULL,
            text=True,
        )
        for shard in range(jobs)
    ]
    # The first tells for all how far they are.
    assert running[0].stdout is not None
    line = ""
    for line in running[0].stdout:
        yield line.rstrip()
    codes = [process.wait() for process in running]
    if any(codes):
        raise DktError(
            f"{folder}: rendering ended with exit status {max(codes)}: {line.strip()}; try "
            f"`dkt {' '.join(words)}`"
        )


def clips_of(folder: Path, numbers: Sequence[int] | None = None) -> list[Clip]:
    """The scenes' clips in the order of scenes, then materials. numbers: only those scenes.

    Raises DktError where the folder holds no such scene.
    """
    found = {}
    for clip in open_dataset(folder).clips:
        if match := _NAME.fullmatch(clip.name):
            number = int(match[1].partition("-")[2])
            if numbers is None or number in numbers:
                found[match[1], MATERIALS.index(match[2])] = clip
    if not found:
        raise DktError(
            f"{folder}: no scene to grasp in, expected tars such as s0000-000000-diffuse.tar; "
            "`dkt synth tabletop` makes them"
        )
    return [found[key] for key in sorted(found)]


def check_look(path: Path, frame: SequenceFrame, camera: str, arrangement: str, size: str) -> None:
    """Raises DktError where the file's frame is of another camera, arrangement or size, HxW."""
    made = frame.extra.get("generator", {}).get("tabletop")
    if made is None:
        return
    found = [*made[1:], "table"][:2]
    found.append("x".join(map(str, frame.depth.shape)))
    wanted = [camera, arrangement, size]
    if found[:2] != wanted[:2] or frame.depth.shape != parse_size(size):
        raise DktError(
            f"{path} was rendered with camera, arrangement and size {' '.join(found)}, "
            f"expected {' '.join(wanted)}; take another --data"
        )


def scene_of(clip: Clip, frames: Sequence[SequenceFrame], cache: Path) -> TableScene:
    """The clip's scene. frames: all of it. cache: where convex parts are kept.

    Raises DktError where it tells no bodies.
    """
    match = _NAME.fullmatch(clip.name)
    assert match
    frame = frames[-1]
    bodies, fixtures = [], []
    for thing in frame.extra.get("objects", ()):
        if thing.get("fixed"):
            fixtures += [
                (np.array(v, np.float64), np.array(f, np.int64)) for v, f in thing["parts"]
            ]
        elif "vertices" in thing:
            mesh = np.array(thing["vertices"], np.float64), np.array(thing["faces"], np.int64)
            pose = np.array(thing["object_to_world"], np.float64)
            parts = convex_parts(mesh, cache)
            bodies.append(Body(thing["shape"], pose, float(thing["mass"]), mesh, parts))
    if not bodies or frame.instance is None or frame.world_to_camera is None:
        raise DktError(f"{clip.path}: tells no meshes or camera; make it by `dkt synth tabletop`")
    height, width = frame.depth.shape
    return TableScene(
        match[1],
        match[2],
        _video(clip, frames),
        bodies,
        np.where(frame.instance <= len(bodies), frame.instance, 0),
        Intrinsics.from_matrix(frame.camera_matrix, width, height),
        np.linalg.inv(frame.world_to_camera),
        tuple(fixtures),
    )


def _video(clip: Clip, frames: Sequence[SequenceFrame]) -> Video:
    samples = [
        Sample(
            frame.rgb,
            frame.depth,
            f"{clip.path}: {frame.index}",
            frame.raw_depth,
            frame.mask,
            camera_matrix=frame.camera_matrix,
            world_to_camera=frame.world_to_camera,
        )
        for frame in frames
    ]
    return replace(stack(clip.name, samples, True), clip=clip, indices=range(len(frames)))
