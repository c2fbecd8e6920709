"""Scenes drawn from a seed. Knows what goes with what; knows nothing of Blender.

Scene k of seed s depends on (s, k) and on the options alone, so that a run may start anywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.camera import CameraPath, HandPath, PathOptions, sample_path
from dkt_ros.synth.families import FAMILIES, make_shape
from dkt_ros.synth.placement import place, scatter
from dkt_ros.synth.scene import Area, Container, Item, Light, Panorama, Scene, Sky, Substance
from dkt_ros.synth.shapes import Shape
from dkt_ros.synth.substances import (
    clear_plastic,
    sample_colour,
    sample_metal,
    sample_substance,
    sample_texture,
)

HELD_OUT_FAMILIES = ("martini", "flask", "vase")
BIN_ELEVATION = np.radians(36)
"""A flatter view than this sees little but a bin's side."""


class Pool(enum.Enum):
    """Which shapes and substances a scene draws from."""

    TRAIN = "train"
    HELD_OUT = "held-out"
    ALL = "all"


@dataclass(frozen=True)
class SceneOptions:
    """What scenes may hold.

    objects: least and greatest number of objects. Shares from 0 to 1: of scenes whose objects are
    dropped rather than put down, of scenes with a tray or a bin, of objects that are the user's
    meshes where there are any. panoramas: pictures of light that replace the room.
    """

    pool: Pool = Pool.ALL
    objects: tuple[int, int] = (4, 7)
    drop_share: float = 0.5
    container_share: float = 0.3
    mesh_share: float = 0.5
    meshes: tuple[Shape, ...] = ()
    panoramas: tuple[Path, ...] = ()
    path: PathOptions = field(default_factory=PathOptions)

    def __post_init__(self) -> None:
        least, most = self.objects
        if not 1 <= least <= most <= 60:
            raise DktError(f"--objects is {least} {most}, expected 1 <= MIN <= MAX <= 60")
        for name in ("drop_share", "container_share", "mesh_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                option = name.replace("_", "-")
                raise DktError(f"--{option} is {value}, expected a share from 0 to 1")


def sample_scene(seed: int, index: int, options: SceneOptions) -> Scene:
    """Scene `index` of `seed`."""
    random = np.random.default_rng([seed, index])
    container = sample_container(random) if random.random() < options.container_share else None
    in_bin = container is not None and container.kind == "bin"
    path = sample_path(random, options.path, least_elevation=BIN_ELEVATION if in_bin else 0.0)
    area = sample_area(path, container)
    shapes = sample_shapes(random, options)
    # Nobody arranges things in a bin.
    dropped = bool(random.random() < options.drop_share or (in_bin and options.drop_share > 0))
    poses: Sequence[np.ndarray | None] = (scatter if dropped else place)(shapes, area, random)
    items = []
    for number, (shape, pose) in enumerate(zip(shapes, poses, strict=True)):
        held_out = is_held_out(random, options.pool)
        substance = sample_substance(shape, random, held_out, transparent=number == 0)
        if pose is not None:
            items.append(Item(shape, substance, pose))
    half = random.uniform(0.42, 0.9)
    outside = bool(options.panoramas)
    lamps = 0 if outside and random.random() < 0.6 else int(random.integers(1, 3))
    return Scene(
        items=tuple(items),
        area=area,
        dropped=dropped,
        table=sample_texture(random),
        table_half_size=(half, half * random.uniform(0.75, 1.0)),
        floor=sample_texture(random),
        floor_height=-random.uniform(0.4, 0.8),
        walls=None if outside else sample_texture(random),
        wall_distance=random.uniform(1.3, 2.6),
        lights=tuple(sample_light(random) for _ in range(lamps)),
        sky=sample_panorama(random, options.panoramas) if outside else sample_sky(random),
        brightness=float(np.exp(random.uniform(np.log(0.16), np.log(0.5)))),
        path=path,
        noise_seed=int(random.integers(0, 2**31 - 1)),
    )


def sample_area(path: CameraPath | HandPath, container: Container | None) -> Area:
    """Room for the objects in view, or a container's floor."""
    if container is not None:
        return Area(container.half_size, container)
    spread = float(np.clip(0.62 * path.radius * np.tan(0.5 * path.horizontal_fov), 0.12, 0.32))
    return Area((spread, spread))


def sample_shapes(random: np.random.Generator, options: SceneOptions) -> list[Shape]:
    """As many as the options ask for."""
    least, most = options.objects
    shapes = []
    for number in range(int(random.integers(least, most + 1))):
        family = _family(random, options.pool, first=number == 0)
        if options.meshes and random.random() < options.mesh_share:
            shapes.append(options.meshes[int(random.integers(len(options.meshes)))])
        else:
            shapes.append(make_shape(family, random))
    return shapes


def _family(random: np.random.Generator, pool: Pool, first: bool) -> str:
    names = list(FAMILIES)
    if pool is Pool.TRAIN:
        names = [name for name in names if name not in HELD_OUT_FAMILIES]
    elif pool is Pool.HELD_OUT and first:
        names = list(HELD_OUT_FAMILIES)
    return str(random.choice(names))


def is_held_out(random: np.random.Generator, pool: Pool) -> bool:
    """Whether an object takes the held-out member of its class of materials."""
    share = {Pool.TRAIN: 0.0, Pool.HELD_OUT: 0.5, Pool.ALL: 0.1}[pool]
    return bool(random.random() < share)


def sample_container(random: np.random.Generator) -> Container:
    """A tray or a bin."""
    kind, height = ("tray", (0.015, 0.035)) if random.random() < 0.55 else ("bin", (0.06, 0.12))
    length = random.uniform(0.15, 0.22)
    return Container(
        kind,
        half_size=(length, length * random.uniform(0.65, 0.85)),
        height=random.uniform(*height),
        wall=random.uniform(0.002, 0.005),
        flare=random.uniform(0.0, 0.02),
        turn=random.uniform(0, 2 * np.pi),
        surface=_container_surface(random),
    )


def _container_surface(random: np.random.Generator) -> Substance:
    choice = random.random()
    if choice < 0.12:
        return sample_metal(random)
    if choice < 0.2:
        return clear_plastic(random)
    texture = sample_texture(random, finest=60.0)
    rough = texture.roughness
    return Substance("opaque", MaterialClass.OPAQUE, texture.first, rough, texture=texture)


def sample_sky(random: np.random.Generator) -> Sky:
    """Two colours all around."""
    colours = sample_colour(random, 0.25, 0.3), sample_colour(random, 0.25, 1.0)
    return Sky(colours, random.uniform(0.2, 1.2))


def sample_panorama(random: np.random.Generator, paths: Sequence[Path]) -> Panorama:
    """One of the user's, turned."""
    path = paths[int(random.integers(len(paths)))]
    return Panorama(path, random.uniform(0, 2 * np.pi), random.uniform(0.6, 1.2))


def sample_light(random: np.random.Generator) -> Light:
    """A lamp above and beside the table."""
    bearing, height = random.uniform(0, 2 * np.pi), random.uniform(0.8, 1.8)
    out, size = random.uniform(0.3, 1.1), random.uniform(0.15, 0.9)
    warm = random.uniform(-0.25, 0.25)
    position = (float(out * np.cos(bearing)), float(out * np.sin(bearing)), height)
    power = random.uniform(6, 22) * (height**2 + out**2)
    return Light(position, size, power, (1 + min(warm, 0), 1 - 0.2 * abs(warm), 1 - max(warm, 0)))
