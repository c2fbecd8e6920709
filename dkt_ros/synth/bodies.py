"""Hands and grippers as meshes in frames of their own, labels and sheets of paper.

Knows their shape. Knows nothing of where they go. Metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from dkt_ros.synth.lathe import SEGMENTS, Mesh, stack, turn

REACH = 0.09
"""From a gripper's palm to its fingertips."""
FINGERS = 4
PALM = 0.075
"""From a hand's wrist to the middle of what it holds."""
_LENGTHS = ((0.036, 0.024, 0.02), (0.04, 0.028, 0.021), (0.037, 0.026, 0.021), (0.029, 0.02, 0.018))


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [mesh[1] + start for mesh, start in zip(meshes, starts, strict=False)]
    return np.vstack([vertices for vertices, _ in meshes]), np.vstack(faces)


def block(low: Sequence[float], high: Sequence[float]) -> Mesh:
    """A box between two corners."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    vertices, faces = stack([(0.5 * (x1 - x0), 0.5 * (y1 - y0), z) for z in (z0, z1)])
    return vertices + np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1), 0.0]), faces


def capsule(start: np.ndarray, stop: np.ndarray, first: float, last: float) -> Mesh:
    """A rod with round ends of two radii."""
    along = np.asarray(stop, float) - start
    length = float(np.linalg.norm(along))
    t = np.linspace(-0.5 * np.pi, 0, 5)
    lower = np.stack([first * np.cos(t), first * np.sin(t)], axis=1)
    upper = np.stack([last * np.cos(t[::-1]), length - last * np.sin(t[::-1])], axis=1)
    section = np.vstack([lower, upper])
    section[[0, -1], 0] = 0.0
    vertices, faces = turn(section)
    axis = along / max(length, 1e-9)
    side = np.cross([0.0, 1.0, 0.0] if abs(axis[1]) < 0.9 else [1.0, 0.0, 0.0], axis)
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side), axis], axis=1)
    return vertices @ frame.T + start, faces


def gripper(opening: float, broad: float, long: float) -> tuple[Mesh, Mesh]:
    """A parallel-jaw gripper: its body with the arm behind, and its two fingers.

    The middle between the fingertips is the origin, the fingers point along +z, the jaws move
    along x. `opening` between the pads, `broad` a finger's width, `long` the arm's length.
    """
    half, thick = 0.5 * opening, 0.014
    fingers = []
    for side in (-1, 1):
        for low, high, x0, x1 in (
            (-REACH, -0.035, half + 0.004, half + 0.004 + thick),
            (-0.045, 0.0, half, half + 0.004 + 0.6 * thick),
        ):
            a, b = sorted((side * x0, side * x1))
            fingers.append(block((a, -0.5 * broad, low), (b, 0.5 * broad, high)))
    wide = max(0.055, half + 0.024)
    palm = block((-wide, -0.02, -REACH - 0.03), (wide, 0.02, -REACH + 0.002))
    case = block((-0.042, -0.032, -REACH - 0.1), (0.042, 0.032, -REACH - 0.028))
    flange = rod_along_z(0.036, -REACH - 0.125, -REACH - 0.098)
    arm = rod_along_z(0.046, -REACH - 0.125 - long, -REACH - 0.123)
    return join([palm, case, flange, arm]), join(fingers)


def rod_along_z(radius: float, low: float, high: float) -> Mesh:
    """A cylinder."""
    edge = 0.12 * radius
    rings = [(radius - edge, low), (radius, low + edge), (radius, high - edge)]
    return turn(np.array([(0, low), *rings, (radius - edge, high), (0, high)], float))


def finger(number: int, curls: tuple[float, float, float]) -> list[Mesh]:
    """One of FINGERS fingers; curls in radians bend its joints towards -z."""
    at = np.array([0.033 - 0.0215 * number, 0.092 - 0.006 * abs(number - 1.2), 0.0])
    angle, radius, parts = 0.0, 0.0098 - 0.0006 * (number == 3), []
    for length, curl in zip(_LENGTHS[number], curls, strict=True):
        angle += curl
        end = at + length * np.array([0.0, np.cos(angle), -np.sin(angle)])
        parts.append(capsule(at, end, radius, 0.93 * radius))
        at, radius = end, 0.93 * radius
    return parts


def palm(thumb: float) -> list[Mesh]:
    """A right hand's palm and thumb: wrist at the origin, fingers along +y, palm towards -z.

    The thumb lies at +x and closes towards -z by `thumb` radians.
    """
    base, c, s = np.array([0.024, 0.018, -0.006]), np.cos(thumb), np.sin(thumb)
    knuckle = base + 0.048 * np.array([0.62 * c + 0.1, 0.75, -0.62 * s])
    middle = knuckle + 0.034 * np.array([0.45 * c, 0.8, -0.6 * s])
    tip = middle + 0.026 * np.array([0.25 * c, 0.85, -0.6 * s])
    parts = [capsule(base, knuckle, 0.016, 0.0125), capsule(knuckle, middle, 0.0125, 0.0105)]
    return [*_bones(), *parts, capsule(middle, tip, 0.0105, 0.0085)]


@cache
def _bones() -> list[Mesh]:
    """The palm's own, one for each finger."""
    return [
        capsule(
            np.array([0.018 - 0.012 * k, 0.005, 0.0]),
            np.array([0.033 - 0.0215 * k, 0.088 - 0.006 * abs(k - 1.2), 0.0]),
            0.0155,
            0.0125,
        )
        for k in range(FINGERS)
    ]


def forearm(long: float) -> tuple[list[Mesh], Mesh]:
    """The wrist of a hand as skin, and the sleeve behind it."""
    wrist = capsule(np.array([0.0, 0.01, 0.0]), np.array([0.0, -0.1, 0.004]), 0.023, 0.029)
    sleeve = capsule(np.array([0.0, -0.085, 0.004]), np.array([0.0, -long, 0.02]), 0.036, 0.052)
    return [wrist], sleeve


def band(radius: float, low: float, high: float, span: float, thick: float) -> Mesh:
    """A label about z: a thin sheet over `span` radians of a cylinder, closed."""
    columns = max(3, round(2 * SEGMENTS * span / (2 * np.pi)) + 1)
    angle = np.linspace(-0.5 * span, 0.5 * span, columns)
    corners = [(radius, low), (radius + thick, low), (radius + thick, high), (radius, high)]
    rings = np.array([[(r * np.cos(a), r * np.sin(a), z) for r, z in corners] for a in angle])
    index = np.arange(4 * columns).reshape(columns, 4)
    faces = []
    for k in range(4):
        a, b = index[:-1, k], index[:-1, (k + 1) % 4]
        d, c = index[1:, k], index[1:, (k + 1) % 4]
        # With z up and the angle growing, corners run outwards, up, inwards: sides face out.
        faces += [np.stack([a, d, c], -1), np.stack([a, c, b], -1)]
    first, last = index[0], index[-1]
    ends = [first[[0, 1, 2]], first[[0, 2, 3]], last[[0, 2, 1]], last[[0, 3, 2]]]
    return rings.reshape(-1, 3), np.vstack([*faces, np.array(ends)])
