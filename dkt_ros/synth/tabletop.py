"""Scenes to grasp in: the same shapes, poses, camera and room in each class of materials.

What a parallel-jaw gripper can hold stands or lies on a table, one thing or a few; or many were
dropped onto a heap, a tray, into a bin. Knows nothing of Blender or of grasps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.extras import install
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.camera import CameraPath, HandPath
from dkt_ros.synth.families import make_shape
from dkt_ros.synth.placement import place, scatter
from dkt_ros.synth.sampling import SceneOptions, sample_area, sample_container
from dkt_ros.synth.scene import LIFT, Area, Container, Item, Scene, Substance, placed
from dkt_ros.synth.shapes import Shape
from dkt_ros.synth.substances import sample_metal, sample_opaque, sample_transparent
from dkt_ros.synth.variety import Shares, complete, sample_varied_scene

_VIEWS = {
    "fixed": ((0.5, 0.7), (48.0, 65.0)),
    "wrist": ((0.45, 0.55), (75.0, 89.0)),
    "orbit": ((0.5, 0.65), (50.0, 65.0)),
}
"""Distances in metres and elevations in degrees."""
FAMILIES = (
    *("tumbler", "cup", "wine_glass", "martini", "bottle", "jar", "vase", "flask", "can", "ball"),
    *("tube", "box", "pitcher", "mug"),
)
"""All but what lies flat or is wider than a hand."""
_DROPPED = (*FAMILIES, "bowl", "bowl", "cutlery", "tool", "tool")
_HEAP, _FENCE = (0.04, 0.08), (0.12, 0.09)
"""Metres about the middle that a heap's objects are let go within, and held in as they fall."""
_MOSTLY = 0.7
"""Share of what was dropped that the picture has to show."""
_SWEEP = (35.0, 70.0)
"""Degrees that the camera goes round, first frame to last."""
_FOV, _SPREAD = (42.0, 52.0), 0.75
Thing = tuple[Shape, np.ndarray]
Stays = Callable[[Shape, np.ndarray], bool]
_SUNK = 0.002
_WIDEST, _LOWEST = 0.074, 0.03
"""Metres that a gripper of 85 mm takes between its fingers, and that it can reach into."""
_DENSITY, _HEAVIEST = 2500.0, 0.5
"""kg/m3 of glass; kg: whatever is heavier stands for something hollow."""
_PLAIN = Substance("plain", MaterialClass.OPAQUE, (0.5, 0.5, 0.5), 0.5)
_SHARES = Shares(ground=0, labels=0, prints=0, sheets=0, liquids=0, stacks=0, hands=0, grippers=0)


@dataclass(frozen=True)
class Tabletop:
    """Which of the scenes to grasp in, as formats.tabletop names them.

    parts: the folder where convex parts of what is dropped are kept.
    """

    material: str
    camera: str = "fixed"
    arrangement: str = "table"
    parts: Path | None = None

    def record(self) -> list[str]:
        """What metadata.json says of it."""
        more = [] if self.arrangement == "table" else [self.arrangement]
        return [self.material, self.camera, *more]


def sample_tabletop(
    seed: int, index: int, kind: Tabletop, objects: tuple[int, int], frames: int = 1
) -> Scene:
    """Scene `index` of `seed`: all but the objects' substance is the same for each material.

    Raises DktError where objects were dropped without MuJoCo.
    """
    scene = _arranged(seed, index, replace(kind, material=""), objects, frames)
    items = [
        replace(
            item,
            substance=_substance(kind.material, np.random.default_rng([seed, index, 7, number])),
        )
        for number, item in enumerate(scene.items)
    ]
    return complete(replace(scene, items=tuple(items)), seed, index, _SHARES)


@lru_cache(maxsize=1)
def _arranged(
    seed: int, index: int, kind: Tabletop, objects: tuple[int, int], frames: int
) -> Scene:
    """The scene but for what its objects are made of."""
    random = np.random.default_rng([seed, index, 6])
    scene = sample_varied_scene(seed, index, SceneOptions(container_share=0), _SHARES)
    (near, far), (low, high) = _VIEWS[kind.camera]
    hand = HandPath(
        target=(random.uniform(-0.02, 0.02), random.uniform(-0.02, 0.02), 0.05),
        radius=random.uniform(near, far),
        elevation=np.radians(random.uniform(low, high)),
        azimuth=scene.path.azimuth,
        roll=np.radians(random.normal(0, 3)),
        horizontal_fov=np.radians(random.uniform(*_FOV)),
    )
    path: CameraPath | HandPath = hand
    if kind.camera == "orbit":
        path = _orbit(hand, frames, np.random.default_rng([seed, index, 8]))
    spread = _SPREAD * sample_area(path, None).half_size[0]
    area = Area((spread, spread))
    # The picture is wider than high.
    turn = path.azimuth + np.pi / 2
    if kind.arrangement in ("tray", "bin"):
        container = _container(kind.arrangement, turn, random)
        area = Area(container.half_size, container)
    elif kind.arrangement == "heap":
        area = Area((random.uniform(*_HEAP),) * 2)

    def stays(shape: Shape, pose: np.ndarray) -> bool:
        if kind.arrangement == "table":
            return _can_be_held(shape, pose) and _seen(shape, pose, path, frames) == 1
        return _has_landed(shape, pose, area) and _seen(shape, pose, path, frames) > _MOSTLY

    things: list[Thing] = []
    while len(things) < objects[0] or not any(_can_be_held(*thing) for thing in things):
        count = int(random.integers(objects[0], objects[1] + 1))
        if kind.arrangement == "table":
            shapes = [make_shape(str(random.choice(FAMILIES)), random) for _ in range(count)]
            poses = place(shapes, area, random)
            things = [
                (shape, pose)
                for shape, pose in zip(shapes, poses, strict=True)
                if pose is not None and stays(shape, pose)
            ]
        else:
            things = _drop(count, kind, area, turn, random, stays)
    items = [Item(shape, _PLAIN, pose) for shape, pose in things]
    dropped = kind.arrangement != "table"
    return replace(scene, items=tuple(items), area=area, dropped=dropped, path=path)


def _orbit(hand: HandPath, frames: int, random: np.random.Generator) -> CameraPath:
    """Round the same place, at a height that changes a little."""
    sweep = np.radians(random.uniform(*_SWEEP)) * random.choice([-1, 1])
    return CameraPath(
        hand.target,
        hand.radius,
        hand.elevation,
        hand.azimuth,
        step=float(sweep / max(1, frames - 1)),
        radius_swing=random.uniform(0, 0.05),
        elevation_swing=np.radians(random.uniform(0, 4)),
        horizontal_fov=hand.horizontal_fov,
        period=2.0 * frames,
    )


def _container(kind: str, turn: float, random: np.random.Generator) -> Container:
    """It fits into the picture; its floor is so thin that fingers may end over it."""
    return replace(
        sample_container(random),
        kind=kind,
        half_size=(random.uniform(0.11, 0.14), random.uniform(0.08, 0.1)),
        height=random.uniform(*((0.015, 0.035) if kind == "tray" else (0.06, 0.1))),
        wall=random.uniform(0.002, 0.0025),
        turn=turn,
    )


def _drop(
    count: int, kind: Tabletop, area: Area, turn: float, random: np.random.Generator, stays: Stays
) -> list[Thing]:
    """Shapes where they rest after they fell into the area; those that stay."""
    try:
        from dkt_ros.rigid.parts import convex_parts
        from dkt_ros.rigid.settle import fall, settle
        from dkt_ros.rigid.world import Body
    except ImportError as error:
        raise DktError(
            f"--arrangement {kind.arrangement}: objects are dropped by MuJoCo, with CoACD "
            f"({error}); {install('grasp')} brings both"
        ) from error
    if kind.parts is None:
        raise DktError(f"{kind.arrangement}: no folder for convex parts, expected Tabletop.parts")
    half = _FENCE if area.container is None else area.container.half_size
    walls = [(turn + k * np.pi / 2, half[k % 2]) for k in range(4)]
    fixtures = [] if area.container is None else area.container.parts()
    shapes: list[Shape] = []
    while len(shapes) < count:
        shape = make_shape(str(random.choice(_DROPPED)), random)
        if np.ptp(shape.vertices, axis=0).max() < 2 * half[0]:
            shapes.append(shape)

    def bodies(things: Sequence[Thing]) -> list[Body]:
        return [
            Body(shape.family, pose, _mass(shape), mesh, ())
            for shape, pose in things
            for mesh in [_told(shape)]
        ]

    def staying(rest: Sequence[np.ndarray | None]) -> list[Thing]:
        pairs = zip(things, rest, strict=True)
        return [(s, pose) for (s, _), pose in pairs if pose is not None and stays(s, pose)]

    things = list(zip(shapes, scatter(shapes, area, random, walls), strict=True))
    things = staying(list(fall(bodies(things), fixtures, walls)))
    there = 0
    while things and there != len(things):
        there = len(things)
        whole = [
            replace(body, parts=convex_parts(body.mesh, kind.parts)) for body in bodies(things)
        ]
        # What stays may have leant on what goes.
        things = staying(settle(whole, fixtures))
    lowest = min((placed(shape.vertices, pose)[:, 2].min() for shape, pose in things), default=0.0)
    for _, pose in things:
        pose[2, 3] += max(0.0, area.floor + LIFT - lowest)
    return things


def _has_landed(shape: Shape, pose: np.ndarray, area: Area) -> bool:
    points = placed(shape.vertices, pose)
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    if area.container is None:
        return bool(points[:, 2].min() > -_SUNK)
    return area.holds(middle[0], middle[1]) and bool(points[:, 2].min() > area.floor - _SUNK)


def solid(item: Item) -> dict[str, Any]:
    """What a physics engine needs of an object: mesh (m), mass (kg)."""
    vertices, faces = _told(item.shape)
    return {"mass": _mass(item.shape), "vertices": vertices.tolist(), "faces": faces.tolist()}


def fixture(container: Container) -> dict[str, Any]:
    """And of what holds them and never moves: convex parts in the world's axes (m)."""
    parts = [[np.round(v, 6).tolist(), f.tolist()] for v, f in container.parts()]
    return {"fixed": True, "parts": parts}


def _told(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    return np.round(shape.vertices, 6), shape.faces


def _mass(shape: Shape) -> float:
    a, b, c = np.moveaxis(shape.vertices[shape.faces], 1, 0)
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6
    return round(min(_DENSITY * volume, _HEAVIEST), 4)


def _seen(shape: Shape, pose: np.ndarray, path: CameraPath | HandPath, frames: int) -> float:
    """How much of it a picture of 9:5 shows, in the first frame and in the last at least."""
    shares = []
    for frame in {0, frames - 1}:
        to_camera = path.world_to_camera(frame) @ pose
        points = placed(shape.vertices, to_camera)
        places = np.abs(points[:, :2] / points[:, 2:]) / np.tan(0.5 * path.horizontal_fov)
        shares.append(float((places < (0.97, 0.97 * 5 / 9)).all(axis=1).mean()))
    return min(shares)


def _can_be_held(shape: Shape, pose: np.ndarray) -> bool:
    points = shape.vertices @ pose[:3, :3].T
    angles = np.linspace(0, np.pi, 36, endpoint=False)
    across = np.ptp(points[:, :2] @ np.stack([np.cos(angles), np.sin(angles)]), axis=0).min()
    return bool(across <= _WIDEST and np.ptp(points[:, 2]) >= _LOWEST)


def _substance(material: str, random: np.random.Generator) -> Substance:
    if material == "transparent":
        return sample_transparent(random)
    return sample_metal(random) if material == "reflective" else sample_opaque(random)
