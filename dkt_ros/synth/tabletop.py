"""Scenes to grasp in: the same shapes, poses, camera and room in each class of materials.

What a parallel-jaw gripper can hold stands or lies on a table, one thing or a few. Knows nothing of
Blender or of grasps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dkt_ros.synth.camera import HandPath
from dkt_ros.synth.families import make_shape
from dkt_ros.synth.placement import place
from dkt_ros.synth.sampling import SceneOptions, sample_area
from dkt_ros.synth.scene import Area, Item, Scene, Substance
from dkt_ros.synth.shapes import Shape
from dkt_ros.synth.substances import sample_metal, sample_opaque, sample_transparent
from dkt_ros.synth.variety import Shares, complete, sample_varied_scene

MATERIALS = ("transparent", "reflective", "diffuse")
CAMERAS = {"fixed": ((0.5, 0.7), (48.0, 65.0)), "wrist": ((0.45, 0.55), (75.0, 89.0))}
"""Distances in metres and elevations in degrees."""
FAMILIES = (
    *("tumbler", "cup", "wine_glass", "martini", "bottle", "jar", "vase", "flask", "can", "ball"),
    *("tube", "box", "pitcher", "mug"),
)
"""All but what lies flat or is wider than a hand."""
_FOV, _SPREAD = (42.0, 52.0), 0.75
_WIDEST, _LOWEST = 0.074, 0.03
"""Metres that a gripper of 85 mm takes between its fingers, and that it can reach into."""
_DENSITY, _HEAVIEST = 2500.0, 0.5
"""kg/m3 of glass; kg: whatever is heavier stands for something hollow."""
_SHARES = Shares(ground=0, labels=0, prints=0, sheets=0, liquids=0, stacks=0, hands=0, grippers=0)


def sample_tabletop(
    seed: int, index: int, material: str, camera: str, objects: tuple[int, int]
) -> Scene:
    """Scene `index` of `seed`: all but the objects' substance is the same for each material."""
    random = np.random.default_rng([seed, index, 6])
    scene = sample_varied_scene(seed, index, SceneOptions(container_share=0), _SHARES)
    (near, far), (low, high) = CAMERAS[camera]
    path = HandPath(
        target=(random.uniform(-0.02, 0.02), random.uniform(-0.02, 0.02), 0.05),
        radius=random.uniform(near, far),
        elevation=np.radians(random.uniform(low, high)),
        azimuth=scene.path.azimuth,
        roll=np.radians(random.normal(0, 3)),
        horizontal_fov=np.radians(random.uniform(*_FOV)),
    )
    spread = _SPREAD * sample_area(path, None).half_size[0]
    area = Area((spread, spread))
    things: list[tuple[Shape, np.ndarray]] = []
    while len(things) < objects[0]:
        count = int(random.integers(objects[0], objects[1] + 1))
        shapes = [make_shape(str(random.choice(FAMILIES)), random) for _ in range(count)]
        poses = place(shapes, area, random)
        things = [
            (shape, pose)
            for shape, pose in zip(shapes, poses, strict=True)
            if pose is not None and _can_be_held(shape, pose) and _in_view(shape, pose, path)
        ]
    items = [
        Item(shape, _substance(material, np.random.default_rng([seed, index, 7, number])), pose)
        for number, (shape, pose) in enumerate(things)
    ]
    scene = replace(scene, items=tuple(items), area=area, dropped=False, path=path)
    return complete(scene, seed, index, _SHARES)


def solid(item: Item) -> dict[str, Any]:
    """What a physics engine needs of an object: mesh (m), mass (kg)."""
    shape = item.shape
    a, b, c = np.moveaxis(shape.vertices[shape.faces], 1, 0)
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6
    return {
        "mass": round(min(_DENSITY * volume, _HEAVIEST), 4),
        "vertices": np.round(shape.vertices, 6).tolist(),
        "faces": shape.faces.tolist(),
    }


def _in_view(shape: Shape, pose: np.ndarray, path: HandPath) -> bool:
    """Whether a picture of 9:5 shows it whole."""
    to_camera = path.world_to_camera(0) @ pose
    points = shape.vertices @ to_camera[:3, :3].T + to_camera[:3, 3]
    seen = np.abs(points[:, :2] / points[:, 2:]) / np.tan(0.5 * path.horizontal_fov)
    return bool((seen < (0.97, 0.97 * 5 / 9)).all())


def _can_be_held(shape: Shape, pose: np.ndarray) -> bool:
    points = shape.vertices @ pose[:3, :3].T
    angles = np.linspace(0, np.pi, 36, endpoint=False)
    across = np.ptp(points[:, :2] @ np.stack([np.cos(angles), np.sin(angles)]), axis=0).min()
    return bool(across <= _WIDEST and np.ptp(points[:, 2]) >= _LOWEST)


def _substance(material: str, random: np.random.Generator) -> Substance:
    if material == "transparent":
        return sample_transparent(random)
    return sample_metal(random) if material == "reflective" else sample_opaque(random)
