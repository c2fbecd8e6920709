"""A hand or a gripper in the picture, about one of the objects, free, or the camera's own.

Knows how they hold things without touching others. Knows nothing of how often they are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth import bodies
from dkt_ros.synth.clearance import clear_along, fits, frame_of, hides_much, outside_all
from dkt_ros.synth.lathe import Mesh
from dkt_ros.synth.scene import Item, Prop, Scene, Substance, about_z
from dkt_ros.synth.substances import sample_surface, vivid


def gripper(random: np.random.Generator, scene: Scene, points: np.ndarray) -> tuple[Prop, ...]:
    """The camera's own, at the picture's edge, or another robot's about one of the objects."""
    wrist = scene.path.elevation > np.radians(55) or scene.path.radius < 0.4
    body, fingers = (_gripper_substance(random, part) for part in ("body", "fingers"))
    broad, long = random.uniform(0.014, 0.026), random.uniform(0.5, 0.8)
    if wrist and random.random() < 0.75:
        opening = random.uniform(0.03, 0.1)
        meshes = bodies.gripper(opening, broad, long)
        for _ in range(12):
            # In the camera's axes: beside it, the fingers forward and somewhat into the view.
            aside = random.uniform(0.075, 0.11)
            tips = np.array(
                [
                    random.uniform(-0.01, 0.01),
                    random.uniform(0.3, 0.6) * aside,
                    random.uniform(0.11, 0.19),
                ]
            )
            back = np.array([0.0, aside, 0.0]) - tips
            bearing = random.choice([0.0, np.pi, np.pi / 2, -np.pi / 2])
            turn = about_z(bearing)
            pose = turn @ frame_of(np.array([1.0, 0.0, 0.0]), -back, tips)
            if clear_along(scene, meshes[1][0], pose, points):
                return _parts(meshes, pose, (body, fingers), attached=True)
        return ()
    for _ in range(25):
        item = scene.items[int(random.integers(len(scene.items)))]
        top = item.vertices
        middle, high = top.mean(axis=0), float(top[:, 2].max())
        tilt, bearing = np.radians(random.uniform(0, 60)), random.uniform(0, 2 * np.pi)
        down = -np.array(
            [np.sin(tilt) * np.cos(bearing), np.sin(tilt) * np.sin(bearing), np.cos(tilt)]
        )
        wide = 2 * item.shape.radius + random.uniform(0.004, 0.03)
        meshes = bodies.gripper(min(wide, 0.14), broad, long)
        grasped = np.array([middle[0], middle[1], high * random.uniform(0.5, 0.95)])
        grasped += random.uniform(0, 0.12) * -down * (random.random() < 0.5)
        across = np.array([-np.sin(bearing), np.cos(bearing), 0.0])
        pose = frame_of(across, down, grasped)
        free = all(fits(mesh, pose, scene, points, 0.002) for mesh in meshes)
        if free and not hides_much(meshes, pose, scene):
            return _parts(meshes, pose, (body, fingers), attached=False)
    return ()


def hand(random: np.random.Generator, scene: Scene, points: np.ndarray) -> tuple[Prop, ...]:
    """About an upright object, or free above the table; nothing where neither fits."""
    tone = np.array([0.62, 0.36, 0.25]) * random.uniform(0.12, 1.15)
    r, g, b = np.clip(tone * [1, 1 + random.uniform(-0.1, 0.1), 1], 0, 0.9).tolist()
    skin = Substance("skin", MaterialClass.OPAQUE, (r, g, b), random.uniform(0.4, 0.6))
    cloth = sample_surface(random, "cloth")
    sleeve = Substance("cloth", MaterialClass.OPAQUE, cloth.first, 0.9, texture=cloth)
    tall = [item for item in scene.items if item.stands and item.shape.height > 0.06]
    slim = [item for item in tall if item.shape.radius < 0.05]
    mirror = np.diag([random.choice([-1.0, 1.0]), 1.0, 1.0])
    for attempt in range(24):
        away = scene.path.azimuth + np.radians(random.uniform(20, 150) * random.choice([-1, 1]))
        inwards = -np.array([np.cos(away), np.sin(away), 0.0])
        held = None
        if slim and attempt < 12:
            held = slim[int(random.integers(len(slim)))]
            pose = _grasp(random, held, inwards, float(mirror[0, 0]))
        else:
            over = random.uniform(-0.1, 0.1, 2)
            height = random.uniform(0.1, 0.28)
            pitch = np.radians(random.uniform(5, 35))
            ahead = inwards * np.cos(pitch) - np.array([0, 0, np.sin(pitch)])
            up = np.array([0, 0, 1.0]) + random.normal(0, 0.3, 3)
            pose = _palm_frame(ahead, up, np.array([*over, height]) - 0.1 * ahead)
        meshes = _hand_mesh(random, pose, mirror, scene.items)
        if meshes is None:
            continue
        if all(fits(mesh, pose, scene, points, -1.0) for mesh in meshes):
            free = [item for item in scene.items if item is not held]
            if all(outside_all(mesh, pose, free) for mesh in meshes) and not hides_much(
                meshes, pose, scene
            ):
                return (
                    Prop("hand", *meshes[0], skin, pose, voxel=0.0032),
                    Prop("sleeve", *meshes[1], sleeve, pose),
                )
    return ()


def _parts(
    meshes: tuple[Mesh, Mesh], pose: np.ndarray, kinds: Sequence[Substance], attached: bool
) -> tuple[Prop, ...]:
    names = ("gripper", "fingers")
    return tuple(
        Prop(name, *mesh, kind, pose, attached)
        for name, mesh, kind in zip(names, meshes, kinds, strict=True)
    )


def _gripper_substance(random: np.random.Generator, part: str) -> Substance:
    choice = random.random()
    if choice < (0.15 if part == "body" else 0.3):
        rough = random.uniform(0.15, 0.4)
        return Substance("aluminium", MaterialClass.REFLECTIVE, (0.8, 0.8, 0.82), rough)
    if choice < 0.75:
        grey = random.uniform(0.01, 0.12)
        return Substance("plastic", MaterialClass.OPAQUE, (grey, grey, grey), 0.45)
    if choice < 0.9:
        return Substance("plastic", MaterialClass.OPAQUE, (0.75, 0.75, 0.76), 0.35)
    return Substance("plastic", MaterialClass.OPAQUE, vivid(random, 0.9, 0.6), 0.4)


def _palm_frame(ahead: np.ndarray, back: np.ndarray, wrist: np.ndarray) -> np.ndarray:
    """(4,4): fingers (+y) along `ahead`, the back of the hand (+z) near `back`."""
    y = ahead / np.linalg.norm(ahead)
    x = np.cross(y, back)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, y, np.cross(x, y)], axis=1)
    pose[:3, 3] = wrist
    return pose


def _grasp(
    random: np.random.Generator, item: Item, inwards: np.ndarray, mirror: float
) -> np.ndarray:
    """The palm beside the object, the thumb up, the arm horizontal or somewhat raised."""
    up = np.array([0.0, 0.0, 1.0])
    ahead = inwards - np.tan(np.radians(random.uniform(0, 30))) * up
    ahead /= np.linalg.norm(ahead)
    # x = ahead x back has to point up for a right hand (down for a left one, mirrored).
    back = np.cross(up, ahead) * mirror
    radius = item.shape.radius
    height = max(random.uniform(0.4, 0.7) * item.shape.height, 0.05)
    centre = item.pose[:3, 3] + [0.0, 0.0, height]
    wrist = centre - bodies.PALM * ahead + (radius + 0.016) * back
    return _palm_frame(ahead, back, wrist)


def _hand_mesh(
    random: np.random.Generator, pose: np.ndarray, mirror: np.ndarray, items: Sequence[Item]
) -> tuple[Mesh, Mesh] | None:
    """Skin and sleeve; each finger closes until it touches. None where the palm does not fit."""

    def turned(meshes: list[Mesh]) -> Mesh:
        vertices, faces = bodies.join(meshes)
        return vertices @ mirror, faces[:, ::-1] if mirror[0, 0] < 0 else faces

    wrist, sleeve = bodies.forearm(random.uniform(0.45, 0.6))
    loose = random.uniform(0.6, 1.0)
    skin = [*wrist]
    for thumb in (1.1, 0.8, 0.5, 0.2, -0.1):
        part = bodies.palm(thumb * loose)
        if outside_all(turned(part), pose, items):
            skin += part
            break
    else:
        return None
    for number in range(bodies.FINGERS):
        for share in (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0):
            bend = share * loose * np.radians(62)
            part = bodies.finger(number, (bend, bend, 0.8 * bend))
            if outside_all(turned(part), pose, items):
                skin += part
                break
        else:
            return None
    return turned(skin), turned([sleeve])
