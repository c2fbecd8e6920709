"""Depth seen along the table's normal: the table's plane, and the height over it in a grid.

Knows points and planes; nothing of grippers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.geometry import Intrinsics, backproject

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_HYPOTHESES = 256
_SAMPLE = 4096
_NEIGHBOURS_TO_FILL = 5
_PLANES = 4  # that a table is chosen from
_TOLERANCE_M = 0.006  # from a plane, of its points
_LEAST_SHARE = 0.15  # of all points, that a plane holds
_LEVEL = np.cos(np.radians(20.0))
_MOST_TO_STAND = 200_000  # points that are looked at for what stands on a plane
_MORE_STANDS = 2.0  # times as much on another plane than on the largest
_THING_M, _LEAST_THING = 0.35, 0.001  # the longest edge of a thing, its least share of the points
_MOST_CELLS = 4_000_000
_COLUMN_M = 0.006  # from point to point of the room over a cell that is looked at
_BEHIND_M = 0.004  # behind what is seen by more: hidden


@dataclass(frozen=True, eq=False)
class Scene:
    """What the gripper is to work in; every array (H, W).

    depth       metres along the optical axis, NaN = unknown
    confidence  0 to 1, NaN = unknown, which counts as 0; None: all known depth is trusted
    target      where there may be grasped; None: everywhere. What is outside is an obstacle
    up          (3,) against gravity, in camera axes; None: what things stand on tells the table
    """

    depth: Float32
    intrinsics: Intrinsics
    confidence: Float32 | None = None
    target: NDArray[np.bool_] | None = None
    up: Float64 | None = None

    def __post_init__(self) -> None:
        for name in ("confidence", "target"):
            array = getattr(self, name)
            if array is not None and array.shape != self.depth.shape:
                raise DktError(f"{name} is {array.shape}, expected depth's {self.depth.shape}")
        if self.up is not None and not abs(np.linalg.norm(self.up) - 1) < 1e-3:
            raise DktError(f"up is {np.asarray(self.up).tolist()}, expected length 1")
        if self.target is not None and self.target.dtype != bool:
            raise DktError(f"target is {self.target.dtype}, expected bool: mask > 0")
        if self.confidence is not None and (
            np.nanmin(self.confidence, initial=0) < 0 or np.nanmax(self.confidence, initial=0) > 1
        ):
            low, high = np.nanmin(self.confidence), np.nanmax(self.confidence)
            raise DktError(f"confidence is {low:g} to {high:g}, expected 0 to 1 or NaN")


@dataclass(frozen=True, eq=False)
class Plane:
    """The points p with normal p = offset, metres; the camera, at 0, lies on the normal's side."""

    normal: Float64
    offset: float

    def __post_init__(self) -> None:
        if not (abs(np.linalg.norm(self.normal) - 1) < 1e-3 and -np.inf < self.offset <= 0):
            raise DktError(
                f"plane with normal {np.asarray(self.normal).tolist()}, offset {self.offset:g}: "
                "expected a normal of length 1 towards the camera, and minus its distance in metres"
            )

    def heights(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Metres over the plane of points (..., 3)."""
        return points @ self.normal.astype(points.dtype) - points.dtype.type(self.offset)


def find_table(points: Float32, seed: int = 0, up: Float64 | None = None) -> Plane | None:
    """The plane on which things stand, of those that hold enough of the points by RANSAC.

    A wall or a floor may be larger. points: (H, W, 3), NaN unknown, or (N, 3), which do not tell
    what stands where; then, or where nothing does, the largest. up: (3,)
    against gravity in the points' frame; what is not level is no table then. None where there is
    no such plane. The same seed finds the same plane.
    """
    picture, points = points, points[np.isfinite(points[..., 2])]
    if len(points) < 3:
        return None
    rng = np.random.default_rng(seed)
    sample = points[rng.choice(len(points), min(len(points), _SAMPLE), replace=False)]
    rest = sample = sample.astype(np.float64)
    found: list[Plane] = []
    for _ in range(_PLANES):
        plane = _largest_plane(rest, rng, _LEAST_SHARE * len(sample))
        if plane is None:
            break
        if up is None or plane.normal @ up > _LEVEL:
            found.append(plane)
        rest = rest[np.abs(plane.heights(rest)) >= 2 * _TOLERANCE_M]
    if len(found) < 2 or picture.ndim == 2:
        return found[0] if found else None
    stand = _supported(picture, found)
    best = int(np.argmax(stand))
    return found[best] if stand[best] > _MORE_STANDS * stand[0] else found[0]


def _largest_plane(points: Float64, rng: np.random.Generator, least: float) -> Plane | None:
    if len(points) < 3:
        return None
    a, b, c = points[rng.integers(len(points), size=(3, _HYPOTHESES))]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    normals, a = normals[length > 0] / length[length > 0, None], a[length > 0]
    if not len(normals):
        return None
    distance = np.abs(points @ normals.T - np.einsum("ij,ij->i", normals, a))
    best = int(np.argmax((distance < _TOLERANCE_M).sum(axis=0)))
    inliers = points[distance[:, best] < _TOLERANCE_M]
    plane = _fitted(inliers)
    for _ in range(3):
        inliers = points[np.abs(plane.heights(points)) < _TOLERANCE_M]
        if len(inliers) < max(3, least):
            return None
        plane = _fitted(inliers)
    return plane


def _supported(points: Float32, planes: list[Plane]) -> list[int]:
    """How many pixels of points (H, W, 3) belong to things on each plane.

    A thing is what lies together in the picture, on no plane, is small and is seen whole: other
    walls and arms reach out of it. It stands on the plane that its foot is nearest to.
    """
    every = 1 + math.isqrt(points[..., 0].size // _MOST_TO_STAND)
    points = points[::every, ::every]
    heights = np.stack([plane.heights(points) for plane in planes])
    with np.errstate(invalid="ignore"):
        is_thing = (heights > 2 * _TOLERANCE_M).all(axis=0).astype(np.uint8)
    number, labels = cv2.connectedComponents(is_thing, connectivity=4)
    found = [0] * len(planes)
    for pixels in _by_label(labels, number):
        rows, columns = np.divmod(pixels, labels.shape[1])
        inside = rows[0] > 0 and rows[-1] < labels.shape[0] - 1
        inside &= columns.min() > 0 and columns.max() < labels.shape[1] - 1
        if not inside or len(pixels) < _LEAST_THING * labels.size:
            continue
        edges = np.ptp(np.percentile(points.reshape(-1, 3)[pixels], [5, 95], axis=0), axis=0)
        if edges.max() < _THING_M:
            feet = np.percentile(heights.reshape(len(planes), -1)[:, pixels], 2, axis=1)
            found[int(np.argmin(feet))] += len(pixels)
    return found


def _by_label(labels: NDArray[np.int32], number: int) -> list[NDArray[np.intp]]:
    """The places in labels of each but 0."""
    order = np.argsort(labels, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel(), minlength=number))
    return np.split(order, ends[:-1])[1:]


def _fitted(points: Float64) -> Plane:
    middle = points.mean(axis=0)
    normal = np.linalg.svd(points - middle, full_matrices=False)[2][2]
    if normal @ middle > 0:
        normal = -normal
    return Plane(normal, float(normal @ middle))


@dataclass(frozen=True, eq=False)
class HeightMap:
    """The highest point over each cell of the table, seen from above; arrays (rows, columns).

    height  metres over the table, NaN where nothing was seen
    trust   0 to 1: mean confidence of the cell's points near the highest, 0 where nothing was seen
    target  whether the highest may be grasped
    cell_m  edge of a cell
    axes    (3, 3): rows are the map's x (columns), y (rows) and up, in camera axes
    origin  (3,) the table's point at the centre of cell (0, 0), camera axes
    """

    height: Float32
    trust: Float32
    target: NDArray[np.bool_]
    cell_m: float
    axes: Float64
    origin: Float64

    def point(self, x: Float64, y: Float64, up: Float64) -> Float64:
        """(..., 3) in camera axes of places in cells and heights in metres."""
        along = np.stack([np.multiply(x, self.cell_m), np.multiply(y, self.cell_m), up], axis=-1)
        return np.asarray(self.origin + along @ self.axes)


def height_map(
    scene: Scene, table: Plane, cell_m: float, margin_m: float, least_height_m: float
) -> HeightMap | None:
    """The map around what stands on the table, by at least `least_height_m`, within the target.

    margin_m: how far around it, and how far beyond the table that is seen something still stands on
    it: neither walls behind it nor a stray point make the map large. A cell is larger than `cell_m`
    where the camera's pixels are, or where the map would have more than 4 million. None where
    nothing stands there.
    """
    points = backproject(scene.depth, scene.intrinsics).reshape(-1, 3)
    known = np.isfinite(points[:, 2])
    points = points[known]
    if scene.confidence is None:
        trust = np.ones(len(points), np.float32)
    else:
        trust = np.nan_to_num(scene.confidence.reshape(-1)[known])
    target = np.ones(len(points), bool)
    if scene.target is not None:
        target = scene.target.reshape(-1)[known]
    up = table.heights(points)
    axes = _axes(table.normal)
    across = points @ axes[:2].T.astype(np.float32)
    stands = target & (up > least_height_m)
    level = np.abs(up) < least_height_m
    if level.any():
        low, high = np.percentile(across[level], [0.5, 99.5], axis=0)
        stands &= ((across >= low - margin_m) & (across <= high + margin_m)).all(axis=1)
    if not stands.any():
        return None
    pixel_m = float(np.median(points[stands, 2])) / min(scene.intrinsics.fx, scene.intrinsics.fy)
    cell_m = max(cell_m, 1.5 * pixel_m)
    low = across[stands].min(axis=0) - margin_m
    high = across[stands].max(axis=0) + margin_m
    cell_m = max(cell_m, float(np.sqrt(np.prod(high - low) / _MOST_CELLS)))
    columns, rows = (np.ceil((high - low) / cell_m).astype(int) + 1).tolist()
    place = np.rint((across - low) / cell_m).astype(np.intp)
    inside = ((place >= 0) & (place < (columns, rows))).all(axis=1)
    index = place[inside, 1] * columns + place[inside, 0]
    found = _gridded(
        index, up[inside], trust[inside], target[inside], (rows, columns), cell_m,
        axes, axes[:2].T @ low.astype(np.float64) + table.normal * table.offset,
    )  # fmt: skip
    under = _under_what_hides(found, scene)
    return replace(
        found,
        height=np.where(under, np.float32(np.nan), found.height),
        trust=np.where(under, np.float32(0), found.trust),
    )


def _under_what_hides(found: HeightMap, scene: Scene) -> NDArray[np.bool_]:
    """(rows, columns) cells that were seen past something which hides the room over them.

    A camera that looks down by little sees the table under a ball; what is over it there may be
    the ball.
    """
    # Of a pixel and those around it the farthest: a silhouette is sure to no more than a pixel.
    depth = np.nan_to_num(scene.depth, nan=np.inf)
    seen = cv2.dilate(depth, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero(np.isfinite(found.height))
    height = found.height[rows, columns]
    is_hidden = np.zeros(found.height.shape, bool)
    camera, up = scene.intrinsics, found.axes[2].astype(np.float32)
    foot = found.point(*np.stack([columns, rows, 0.0 * rows])).astype(np.float32)
    for level in np.arange(_COLUMN_M, height.max(initial=0.0), _COLUMN_M, np.float32):
        lower = height < level - _COLUMN_M / 2
        x, y, z = (foot[lower] + level * up).T
        with np.errstate(divide="ignore", invalid="ignore"):
            u = np.rint(camera.fx * x / z + camera.cx)
            v = np.rint(camera.fy * y / z + camera.cy)
            inside = (z > 0) & (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
        at = seen[v[inside].astype(np.int32), u[inside].astype(np.int32)]
        cells = np.flatnonzero(lower)[inside][z[inside] > at + _BEHIND_M]
        is_hidden[rows[cells], columns[cells]] = True
    return is_hidden


def _gridded(
    index: NDArray[np.intp],
    up: Float32,
    trust: Float32,
    target: NDArray[np.bool_],
    shape: tuple[int, int],
    cell_m: float,
    axes: Float64,
    origin: Float64,
) -> HeightMap:
    count = shape[0] * shape[1]
    height = np.full(count, -np.inf, np.float32)
    np.maximum.at(height, index, up)
    near = up >= height[index] - np.float32(cell_m)
    weight = np.bincount(index[near], minlength=count)
    mean_trust = np.bincount(index[near], trust[near], count) / np.maximum(weight, 1)
    is_target = 2 * np.bincount(index[near], target[near], count) > weight
    height[np.isinf(height)] = np.nan
    height, is_target = height.reshape(shape), is_target.reshape(shape)
    mean_trust = mean_trust.reshape(shape)
    filled = _without_pinholes(height)
    made_up = np.isfinite(filled) & np.isnan(height)
    if made_up.any():
        around = np.isfinite(_neighbours(height))[made_up]
        mean_trust[made_up] = _neighbours(mean_trust)[made_up].sum(-1) / around.sum(-1)
        is_target[made_up] = 2 * _neighbours(is_target)[made_up].sum(-1) > around.sum(-1)
    return HeightMap(filled, mean_trust.astype(np.float32), is_target, cell_m, axes, origin)


def _without_pinholes(height: Float32) -> Float32:
    """Cells that no pixel fell on, amid cells that some did, as high as the highest of those."""
    around = _neighbours(height)
    fill = np.isnan(height) & (np.isfinite(around).sum(axis=-1) >= _NEIGHBOURS_TO_FILL)
    filled = height.copy()
    if fill.any():
        filled[fill] = np.nanmax(around[fill], axis=-1)
    return filled


def _neighbours(cells: NDArray[np.generic]) -> NDArray[np.generic]:
    """(rows, columns, 8), the borders repeated."""
    padded = np.pad(cells, 1, mode="edge")
    rows, columns = cells.shape
    return np.stack(
        [
            padded[y : y + rows, x : x + columns]
            for y in range(3)
            for x in range(3)
            if (y, x) != (1, 1)
        ],
        axis=-1,
    )


def _axes(up: Float64) -> Float64:
    """Rows x, y, up of a right-handed frame; x as near to the camera's x as it can be."""
    x = np.array([1.0, 0.0, 0.0]) if abs(up[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    x = x - (x @ up) * up
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])
