"""Closed triangle meshes from sections: turned about z, stacked, swept along a line.

Knows numpy alone. Knows nothing of which vessels there are.

A section is an (N,2) array of radius and height in metres, from the axis at the bottom outwards.
Meshes are (V,3) float64 vertices and (F,3) int64 faces, outward by the right hand.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SEGMENTS = 48
_ROD_SEGMENTS = 10
Profile = np.ndarray
Mesh = tuple[np.ndarray, np.ndarray]


def smooth_curve(points: list[tuple[float, float]], steps: int) -> Profile:
    """A uniform Catmull-Rom curve through (radius, height) points, `steps` points a piece."""
    p = np.asarray(points, float)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        cubic = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
        pieces.append(0.5 * (cubic + (3 * b - a - 3 * c + d) * t**3))
    curve = np.vstack([*pieces, p[-2:-1]])
    curve[:, 0] = np.maximum(curve[:, 0], 0.0)
    return curve


def hollow(outer: Profile, wall: float, floor: float, start: int) -> Profile:
    """Closes an open-topped outer profile with its inner wall.

    The inner wall is the outer one from point `start` on, moved inwards along its normal by
    `wall`; the cavity ends in a flat floor at height `floor`.
    """
    tangent = np.gradient(outer, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    inner = (outer + wall * np.stack([-tangent[:, 1], tangent[:, 0]], axis=1))[start:]
    inner[:, 1] = np.minimum(inner[:, 1], outer[-1, 1])
    inner[-1, 1] = outer[-1, 1]
    inner = inner[(inner[:, 1] > floor) & (inner[:, 0] > 1e-3)]
    # The offset of a tight curve folds back on itself; keep heights rising towards the rim.
    keep = inner[:, 1] >= np.maximum.accumulate(inner[:, 1]) - 1e-9
    inner = inner[keep]
    corner = np.array([[0.0, floor], [max(inner[0, 0] - 0.5 * wall, 1e-3), floor]])
    return np.vstack([outer, inner[::-1], corner[::-1]])


def turn(section: Profile, cross: np.ndarray | None = None, closed_ring: bool = False) -> Mesh:
    """Turns a section about z. `cross` (SEGMENTS,) scales the radius around the axis.

    An ordinary section begins and ends on the axis; a closed ring (a tube's wall) does not.
    """
    angle = np.linspace(0, 2 * np.pi, SEGMENTS, endpoint=False)
    factor = np.ones(SEGMENTS) if cross is None else cross
    ring = np.stack([np.cos(angle) * factor, np.sin(angle) * factor], axis=1)
    body = section if closed_ring else section[1:-1]
    rings = len(body)
    xyz = np.empty((rings, SEGMENTS, 3))
    xyz[..., :2] = body[:, None, :1] * ring
    xyz[..., 2] = body[:, None, 1]
    vertices = xyz.reshape(-1, 3)
    if not closed_ring:
        ends = [[0.0, 0.0, section[0, 1]], [0.0, 0.0, section[-1, 1]]]
        vertices = np.vstack([vertices, ends])
    return vertices, _turned_faces(rings, closed_ring)


@lru_cache(maxsize=64)
def _turned_faces(rings: int, closed_ring: bool) -> np.ndarray:
    """Faces of so many rings of SEGMENTS vertices and, unless closed, the two ends after them."""
    index = np.arange(rings * SEGMENTS).reshape(rings, SEGMENTS)
    lower = index if closed_ring else index[:-1]
    upper = np.roll(index, -1, axis=0) if closed_ring else index[1:]
    a, b = lower, np.roll(lower, -1, axis=1)
    d, c = upper, np.roll(upper, -1, axis=1)
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    if not closed_ring:
        first, last = index.size, index.size + 1
        around = np.arange(SEGMENTS)
        after = np.roll(around, -1)
        base, top = index[0], index[-1]
        faces.append(np.stack([np.full(SEGMENTS, first), base[after], base[around]], -1))
        faces.append(np.stack([np.full(SEGMENTS, last), top[around], top[after]], -1))
    together = np.vstack(faces)
    together.flags.writeable = False  # all that are turned alike share them
    return together


def stack(rings: list[tuple[float, float, float]]) -> Mesh:
    """Rectangles (half x, half y, z) one after another, the first and the last capped."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    vertices = [np.column_stack([corners * (x, y), np.full(4, z)]) for x, y, z in rings]
    faces = [(0, 2, 1), (0, 3, 2)]
    for ring in range(len(rings) - 1):
        for side in range(4):
            a, b = 4 * ring + side, 4 * ring + (side + 1) % 4
            faces += [(a, b, b + 4), (a, b + 4, a + 4)]
    top = 4 * (len(rings) - 1)
    faces += [(top, top + 1, top + 2), (top, top + 2, top + 3)]
    return np.vstack(vertices), np.array(faces)


def rod(line: np.ndarray, radius: float) -> Mesh:
    """A round rod along an (N,3) line in the plane y = 0, both ends capped."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    normal = np.cross(side, tangent)
    angle = np.linspace(0, 2 * np.pi, _ROD_SEGMENTS, endpoint=False)
    # normal, side and tangent are right-handed, so that rings turn outwards.
    rings = (
        line[:, None]
        + radius * np.cos(angle)[None, :, None] * normal[:, None]
        + radius * np.sin(angle)[None, :, None] * side
    )
    return _swept(rings)


def slab(
    along: np.ndarray, half: np.ndarray, rise: np.ndarray, dip: np.ndarray, thick: float
) -> Mesh:
    """A thin sheet along x: at each `along` its half width, height, and how far its middle dips."""
    u = np.linspace(-1, 1, 9)
    y = half[:, None] * u
    low = rise[:, None] - dip[:, None] * (1 - u**2)
    x = np.broadcast_to(along[:, None], y.shape)
    under = np.stack([x, y, low], axis=-1)
    over = np.stack([x, y, low + thick], axis=-1)
    # Seen along +x, under from left to right and back over the top turns outwards.
    return _swept(np.concatenate([under, over[:, ::-1]], axis=1))


def _swept(rings: np.ndarray) -> Mesh:
    """(N,M,3) rings one after another, the first and the last closed by a fan."""
    count, around = rings.shape[:2]
    index = np.arange(count * around).reshape(count, around)
    a, b = index[:-1], np.roll(index[:-1], -1, axis=1)
    d, c = index[1:], np.roll(index[1:], -1, axis=1)
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    ends = rings[[0, -1]].mean(axis=1)
    first, last = count * around, count * around + 1
    start, stop = index[0], index[-1]
    faces.append(np.stack([np.full(around, first), np.roll(start, -1), start], -1))
    faces.append(np.stack([np.full(around, last), stop, np.roll(stop, -1)], -1))
    return np.vstack([rings.reshape(-1, 3), ends]), np.vstack(faces)
