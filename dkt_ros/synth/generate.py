"""Scenes to tars: the loop over seeds, what is already there, progress.

Knows the order of work. Knows nothing of how a scene is drawn or rendered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.synth.render import Renderer, RenderOptions
from dkt_ros.synth.scene import Pool, sample_scene
from dkt_ros.synth.sensor import StereoSensor
from dkt_ros.transphy3d import SequenceFrame, write_sequence


@dataclass(frozen=True)
class GenerateOptions:
    """What to render: scenes start .. start + scenes - 1 of a seed, `frames` views of each."""

    output: Path
    seed: int
    scenes: int
    frames: int
    start: int = 0
    pool: Pool = Pool.ALL
    raw_depth: bool = False
    render: RenderOptions = field(default_factory=RenderOptions)
    sensor: StereoSensor = field(default_factory=StereoSensor)

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("scenes", 1), ("frames", 1), ("start", 0)):
            if getattr(self, name) < least:
                raise DktError(f"--{name} is {getattr(self, name)}, expected at least {least}")


def tar_path(options: GenerateOptions, index: int) -> Path:
    """Where scene `index` of these options goes."""
    return options.output / f"{sequence_id(options, index)}.tar"


def sequence_id(options: GenerateOptions, index: int) -> str:
    """Unique over seeds and scenes."""
    return f"s{options.seed:04d}-{index:06d}"


def generate(options: GenerateOptions, say: Callable[[str], None] = print) -> int:
    """Renders the scenes whose tar is missing; returns how many were rendered.

    Safe to kill and to call again. A line of progress per scene goes to `say`.
    """
    wanted = range(options.start, options.start + options.scenes)
    missing = [index for index in wanted if not tar_path(options, index).exists()]
    if len(missing) < options.scenes:
        say(f"{options.scenes - len(missing)} of {options.scenes} scenes are there already")
    started = time.monotonic()
    for done, index in enumerate(missing, start=1):
        path = tar_path(options, index)
        write_sequence(path, sequence_id(options, index), render_scene(options, index))
        spent = time.monotonic() - started
        left = spent / done * (len(missing) - done)
        say(
            f"{path.name}  {done}/{len(missing)}  "
            f"{spent / done / options.frames:.2f} s/frame  {left / 60:.1f} min left"
        )
    return len(missing)


def render_scene(options: GenerateOptions, index: int) -> Iterator[SequenceFrame]:
    """The frames of one scene, rendered one by one as they are asked for."""
    scene = sample_scene(options.seed, index, options.pool)
    renderer = Renderer(scene, options.render)
    for number in range(options.frames):
        pose = scene.path.world_to_camera(number)
        geometry = renderer.geometry(pose)
        raw_depth = None
        if options.raw_depth:
            random = np.random.default_rng([options.seed, index, number])
            raw_depth = renderer.raw_depth(pose, options.sensor, random)
        yield SequenceFrame(
            rgb=renderer.picture(pose),
            depth=geometry.depth,
            camera_matrix=renderer.camera_matrix,
            world_to_camera=pose,
            mask=geometry.mask,
            normal=geometry.normal,
            raw_depth=raw_depth,
            index=number,
        )
