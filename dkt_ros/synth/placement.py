"""Where shapes stand or lie without touching one another, and from where they are dropped.

Knows shapes' outlines and the area they rest on. Knows nothing of materials or of Blender.
Resting poses are analytic: a shape stands on its base, on its mouth, or lies on the edge of its
outline that supports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dkt_ros.synth.lathe import SEGMENTS
from dkt_ros.synth.scene import LIFT, Area, about_z
from dkt_ros.synth.shapes import Shape

_CLEARANCE = 0.004
_TRIES = 60
_UPRIGHT_DROPS = 0.4
_DROP = 0.02
"""Metres between the floor and the lowest bodies at the start of a drop."""

Disc = tuple[float, float, float]


def place(
    shapes: Sequence[Shape], area: Area, random: np.random.Generator
) -> list[np.ndarray | None]:
    """A (4,4) object-to-world matrix for each shape, None where no free place was found."""
    taken: list[Disc] = []
    poses: list[np.ndarray | None] = []
    for shape in shapes:
        poses.append(None)
        for _ in range(_TRIES):
            rest, discs = _resting(shape, random)
            x, y = _somewhere(area, random)
            moved = [(x + dx, y + dy, r) for dx, dy, r in discs]
            if area.container is not None and not all(area.holds(*disc) for disc in moved):
                continue
            if not any(_touch(a, b) for a in moved for b in taken):
                pose = rest.copy()
                pose[:3, 3] += x, y, area.floor
                poses[-1] = pose
                taken += moved
                break
    return poses


def scatter(
    shapes: Sequence[Shape],
    area: Area,
    random: np.random.Generator,
    walls: Sequence[tuple[float, float]] = (),
) -> list[np.ndarray]:
    """Poses over the area to drop shapes from: any way up, clear of one another.

    walls: bearing about z, and distance from it, of upright planes that hold them in.
    """
    balls: list[tuple[np.ndarray, float]] = []
    poses = []
    for shape in shapes:
        low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
        middle = 0.5 * (low + high)
        reach = float(np.linalg.norm(shape.vertices - middle, axis=1).max())
        pose = np.eye(4)
        if random.random() < _UPRIGHT_DROPS:
            pose = about_z(random.uniform(0, 2 * np.pi))
            up = float(middle[2])
        else:
            pose[:3, :3] = _any_rotation(random)
            up = reach
        centre = np.array([*_somewhere(area, random, 0.8), area.floor + up + _DROP])
        points = (shape.vertices - middle) @ pose[:3, :3].T
        for bearing, distance in walls:
            out = np.array([np.cos(bearing), np.sin(bearing), 0.0])
            centre -= max(0.0, centre @ out + (points @ out).max() - distance) * out
        while any(np.linalg.norm(centre - other) < reach + r for other, r in balls):
            centre[2] += 0.01
        pose[:3, 3] = centre - pose[:3, :3] @ middle
        balls.append((centre, reach))
        poses.append(pose)
    return poses


def stack_up(shape: Shape) -> float | None:
    """How far a second vessel of the same shape rises above the first that it stands in.

    Metres; None where it would not go in, or hardly.
    """
    if shape.cavity is None:
        return None
    first, count = shape.cavity
    rings = shape.vertices[: (first + count) * SEGMENTS].reshape(-1, SEGMENTS, 3)
    inner = rings[first:]
    room, level = np.linalg.norm(inner[..., :2], axis=-1), inner[..., 2].mean(axis=1)
    outer, height = np.linalg.norm(rings[:first, :, :2], axis=-1), rings[:first, :, 2].mean(axis=1)
    order = np.argsort(level)
    for rise in np.arange(level.min() + 3e-4, 0.8 * shape.height, 5e-4):
        inside = height + rise < shape.height
        at = height[inside] + rise
        free = (
            np.array([np.interp(at, level[order], room[order, k]) for k in range(SEGMENTS)]).T
            - outer[inside]
        )
        if inside.any() and free.min() > 2e-4:
            return float(rise)
    return None


def _somewhere(area: Area, random: np.random.Generator, share: float = 1.0) -> tuple[float, float]:
    if area.container is not None:
        x, y = share * random.uniform(-1, 1, 2) * area.half_size
        turned = about_z(area.container.turn)[:2, :2] @ (x, y)
        return float(turned[0]), float(turned[1])
    distance, bearing = np.sqrt(random.random()), random.uniform(0, 2 * np.pi)
    distance *= share * area.half_size[0]
    return float(distance * np.cos(bearing)), float(distance * np.sin(bearing))


def _any_rotation(random: np.random.Generator) -> np.ndarray:
    """Uniform over all rotations, from a unit quaternion."""
    w, x, y, z = (q := random.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _touch(a: Disc, b: Disc) -> bool:
    return float(np.hypot(a[0] - b[0], a[1] - b[1])) < a[2] + b[2] + _CLEARANCE


def _resting(shape: Shape, random: np.random.Generator) -> tuple[np.ndarray, list[Disc]]:
    """A pose at the origin and the discs that cover its footprint."""
    turn = about_z(random.uniform(0, 2 * np.pi))
    choice = random.random()
    slender = shape.height > 1.2 * shape.radius
    if shape.round and slender and choice < 0.25:
        return _lying(shape, turn)
    pose = turn
    if shape.open and 0.25 <= choice < 0.37:
        pose = turn @ np.diag([1.0, -1.0, -1.0, 1.0])
        pose[2, 3] = shape.height
    pose[2, 3] += LIFT
    return pose, [(0.0, 0.0, shape.radius)]


def _lying(shape: Shape, turn: np.ndarray) -> tuple[np.ndarray, list[Disc]]:
    """On its side, on the edge of its outline's hull under the middle of its height."""
    radius, height = shape.outline.T
    low, high = _supporting_edge(radius, height, 0.45 * shape.height)
    tilt = np.arctan2(radius[high] - radius[low], height[high] - height[low])
    # The axis z turns to x and the outline's side +x downwards; `tilt` makes that edge level.
    angle = 0.5 * np.pi - tilt
    lay = np.eye(4)
    lay[:3, :3] = [
        [np.cos(angle), 0.0, np.sin(angle)],
        [0.0, 1.0, 0.0],
        [-np.sin(angle), 0.0, np.cos(angle)],
    ]
    lowest = (shape.vertices @ lay[:3, :3].T)[:, 2].min()
    lay[2, 3] = LIFT - lowest
    pose = turn @ lay
    discs = []
    for level in np.linspace(0, shape.height, 9):
        centre = pose[:3, :3] @ np.array([0.0, 0.0, level])
        near = np.abs(height - level) <= shape.height / 8
        reach = float(radius[near].max()) if near.any() else shape.radius
        discs.append((float(centre[0]), float(centre[1]), reach))
    return pose, discs


def _supporting_edge(radius: np.ndarray, height: np.ndarray, middle: float) -> tuple[int, int]:
    """The edge of the upper hull of radius over height that spans `middle`."""
    hull: list[int] = []
    for i in np.lexsort((-radius, height)):
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            cross = (height[b] - height[a]) * (radius[i] - radius[a])
            if cross - (radius[b] - radius[a]) * (height[i] - height[a]) < 0:
                break
            hull.pop()
        if not hull or height[i] > height[hull[-1]]:
            hull.append(int(i))
    for a, b in pairwise(hull):
        if height[a] <= middle <= height[b]:
            return a, b
    return hull[0], hull[-1]
