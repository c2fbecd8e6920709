"""What a scene consists of, drawn from a seed. Knows nothing of Blender.

Scene k of seed s depends on (s, k) and on the pool alone, so that a run may start anywhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from dkt_ros.synth.camera import CameraPath, sample_path
from dkt_ros.synth.placement import place
from dkt_ros.synth.shapes import FAMILIES, Shape, make_shape
from dkt_ros.transphy3d import MaterialClass

Colour = tuple[float, float, float]

HELD_OUT_FAMILIES = ("martini", "flask", "vase")
HELD_OUT_SUBSTANCES = ("amber_glass", "copper")


class Pool(enum.Enum):
    """Which shapes and substances a scene draws from."""

    TRAIN = "train"
    HELD_OUT = "held-out"
    ALL = "all"


@dataclass(frozen=True)
class Substance:
    """A material. `ior` is read for dielectrics alone, `metallic` decides between the rest."""

    name: str
    kind: MaterialClass
    colour: Colour
    roughness: float
    ior: float = 1.5
    brushed: bool = False


@dataclass(frozen=True)
class Texture:
    """A procedural surface of two colours; `gloss` is the share it reflects like varnish."""

    pattern: str
    first: Colour
    second: Colour
    scale: float
    angle: float
    gloss: float
    roughness: float


@dataclass(frozen=True)
class Light:
    """A square lamp that shines on the origin. Metres and watts."""

    position: tuple[float, float, float]
    size: float
    power: float
    colour: Colour


@dataclass(frozen=True)
class Item:
    """One object; `pose` is (4,4) object to world."""

    shape: Shape
    substance: Substance
    pose: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything the renderer needs. The table top is the plane z = 0."""

    items: tuple[Item, ...]
    table: Texture
    table_half_size: tuple[float, float]
    floor: Texture
    floor_height: float
    walls: Texture
    wall_distance: float
    lights: tuple[Light, ...]
    sky: tuple[Colour, Colour]
    sky_strength: float
    brightness: float
    path: CameraPath
    noise_seed: int


def sample_scene(seed: int, index: int, pool: Pool = Pool.ALL) -> Scene:
    """Scene `index` of `seed`."""
    random = np.random.default_rng([seed, index])
    path = sample_path(random)
    count = int(random.integers(4, 8))
    families = [_family(random, pool, first=i == 0) for i in range(count)]
    shapes = [make_shape(family, random) for family in families]
    spread = 0.62 * path.radius * np.tan(0.5 * path.horizontal_fov)
    poses = place(shapes, float(np.clip(spread, 0.12, 0.32)), random)
    items = tuple(
        Item(shape, _substance(shape, random, pool, first=i == 0), pose)
        for i, (shape, pose) in enumerate(zip(shapes, poses, strict=True))
        if pose is not None
    )
    half = random.uniform(0.42, 0.9)
    return Scene(
        items=items,
        table=_texture(random),
        table_half_size=(half, half * random.uniform(0.75, 1.0)),
        floor=_texture(random),
        floor_height=-random.uniform(0.4, 0.8),
        walls=_texture(random),
        wall_distance=random.uniform(1.3, 2.6),
        lights=tuple(_light(random) for _ in range(random.integers(1, 3))),
        sky=(_colour(random, 0.25, 0.3), _colour(random, 0.25, 1.0)),
        sky_strength=random.uniform(0.2, 1.2),
        brightness=float(np.exp(random.uniform(np.log(0.16), np.log(0.5)))),
        path=path,
        noise_seed=int(random.integers(0, 2**31 - 1)),
    )


def _family(random: np.random.Generator, pool: Pool, first: bool) -> str:
    names = list(FAMILIES)
    if pool is Pool.TRAIN:
        names = [name for name in names if name not in HELD_OUT_FAMILIES]
    elif pool is Pool.HELD_OUT and first:
        names = list(HELD_OUT_FAMILIES)
    return str(random.choice(names))


def _substance(shape: Shape, random: np.random.Generator, pool: Pool, first: bool) -> Substance:
    kind = random.choice(3, p=[0.2, 0.6, 0.2])
    if first or (shape.family in ("wine_glass", "martini", "flask") and random.random() < 0.7):
        kind = MaterialClass.TRANSPARENT
    elif shape.family in ("can", "plate", "bowl"):
        kind = random.choice(3, p=[0.25, 0.35, 0.4])
    held_out = pool is not Pool.TRAIN and random.random() < (0.5 if pool is Pool.HELD_OUT else 0.1)
    if kind == MaterialClass.TRANSPARENT:
        return _transparent(random, held_out)
    if kind == MaterialClass.REFLECTIVE:
        return _metal(random, held_out)
    colour = _colour(random, 0.8, random.uniform(0.3, 1.0))
    return Substance("opaque", MaterialClass.OPAQUE, colour, random.uniform(0.15, 0.9))


def _transparent(random: np.random.Generator, held_out: bool) -> Substance:
    kind = MaterialClass.TRANSPARENT
    if held_out:
        amber = (random.uniform(0.75, 0.95), random.uniform(0.35, 0.55), random.uniform(0.05, 0.15))
        return Substance("amber_glass", kind, amber, 0.0, random.uniform(1.48, 1.56))
    name = random.choice(["clear_glass", "tinted_glass", "clear_plastic"], p=[0.62, 0.16, 0.22])
    if name == "tinted_glass":
        hue = np.array([0.95, 0.95, 0.95])
        hue[random.integers(0, 2)] = random.uniform(0.45, 0.85)
        hue[0] = min(hue[0], random.uniform(0.5, 0.95))
        return Substance(str(name), kind, _as_colour(hue), 0.0, random.uniform(1.48, 1.56))
    if name == "clear_plastic":
        rough = 0.0 if random.random() < 0.6 else random.uniform(0.03, 0.2)
        return Substance(str(name), kind, (0.97, 0.97, 0.97), rough, random.uniform(1.4, 1.5))
    white = random.uniform(0.95, 1.0)
    return Substance(str(name), kind, (white, 1.0, white), 0.0, random.uniform(1.44, 1.6))


def _metal(random: np.random.Generator, held_out: bool) -> Substance:
    kind = MaterialClass.REFLECTIVE
    if held_out:
        return Substance("copper", kind, (0.93, 0.55, 0.42), random.uniform(0.03, 0.2))
    brushed = bool(random.random() < 0.35)
    rough = random.uniform(0.15, 0.35) if brushed else random.uniform(0.01, 0.12)
    base = [(0.9, 0.9, 0.9), (0.75, 0.76, 0.78), (0.9, 0.78, 0.5)][
        random.choice(3, p=[0.5, 0.4, 0.1])
    ]
    return Substance("brushed_metal" if brushed else "metal", kind, base, rough, brushed=brushed)


def _texture(random: np.random.Generator) -> Texture:
    pattern = random.choice(
        ["wood", "checker", "noise", "brick", "marble", "plain"],
        p=[0.28, 0.12, 0.24, 0.08, 0.16, 0.12],
    )
    first = _colour(random, random.uniform(0.1, 0.7), random.uniform(0.15, 0.9))
    change = random.uniform(0.35, 1.0) if random.random() < 0.7 else random.uniform(1.0, 2.2)
    second = _as_colour(
        np.clip(np.array(first) * change + random.uniform(-0.08, 0.08, 3), 0.01, 0.95)
    )
    return Texture(
        str(pattern),
        first,
        second,
        scale=float(np.exp(random.uniform(np.log(3), np.log(25)))),
        angle=random.uniform(0, 2 * np.pi),
        gloss=random.uniform(0.03, 0.12) if random.random() < 0.5 else 0.0,
        roughness=random.uniform(0.1, 0.5),
    )


def _light(random: np.random.Generator) -> Light:
    bearing, height = random.uniform(0, 2 * np.pi), random.uniform(0.8, 1.8)
    out, size = random.uniform(0.3, 1.1), random.uniform(0.15, 0.9)
    warm = random.uniform(-0.25, 0.25)
    position = (float(out * np.cos(bearing)), float(out * np.sin(bearing)), height)
    power = random.uniform(6, 22) * (height**2 + out**2)
    return Light(position, size, power, (1 + min(warm, 0), 1 - 0.2 * abs(warm), 1 - max(warm, 0)))


def _colour(random: np.random.Generator, saturation: float, value: float) -> Colour:
    grey = random.random()
    return _as_colour(
        value * ((1 - saturation) * (0.6 + 0.4 * grey) + saturation * random.random(3))
    )


def _as_colour(values: np.ndarray) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])
