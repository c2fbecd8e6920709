"""Where shapes stand or lie on the table without touching one another.

Knows shapes' outlines and the table plane z = 0. Knows nothing of materials or of Blender.
Poses are analytic: a shape stands on its base, on its mouth, or lies on the edge of its outline
that supports it. A rigid-body drop would take this module's place and return the same poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dkt_ros.synth.shapes import Shape

_CLEARANCE = 0.004
_LIFT = 2e-4
"""Objects hover by this much, so that glass and table never share a surface."""

Disc = tuple[float, float, float]


def place(
    shapes: Sequence[Shape], spread: float, random: np.random.Generator, tries: int = 60
) -> list[np.ndarray | None]:
    """A (4,4) object-to-world matrix for each shape, None where no free place was found.

    spread: radius in metres of the area on the table about the origin.
    """
    taken: list[Disc] = []
    poses: list[np.ndarray | None] = []
    for shape in shapes:
        poses.append(None)
        for _ in range(tries):
            rest, discs = _resting(shape, random)
            distance, bearing = spread * np.sqrt(random.random()), random.uniform(0, 2 * np.pi)
            x, y = distance * np.cos(bearing), distance * np.sin(bearing)
            moved = [(x + dx, y + dy, r) for dx, dy, r in discs]
            if not any(_touch(a, b) for a in moved for b in taken):
                pose = rest.copy()
                pose[:2, 3] += x, y
                poses[-1] = pose
                taken += moved
                break
    return poses


def _touch(a: Disc, b: Disc) -> bool:
    return float(np.hypot(a[0] - b[0], a[1] - b[1])) < a[2] + b[2] + _CLEARANCE


def _resting(shape: Shape, random: np.random.Generator) -> tuple[np.ndarray, list[Disc]]:
    """A pose at the origin and the discs that cover its footprint."""
    turn = _about_z(random.uniform(0, 2 * np.pi))
    choice = random.random()
    slender = shape.height > 1.2 * shape.radius
    if shape.round and slender and choice < 0.25:
        return _lying(shape, turn)
    pose = turn
    if shape.open and 0.25 <= choice < 0.37:
        pose = turn @ np.diag([1.0, -1.0, -1.0, 1.0])
        pose[2, 3] = shape.height
    pose[2, 3] += _LIFT
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
    lay[2, 3] = _LIFT - lowest
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


def _about_z(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
