"""Intrinsics, depth and which of it are readings, back-projection, normals.

Knows pinhole geometry. Knows nothing of frames, networks, alignment or ROS. What a cloud is made
with (backproject, remove_flying_pixels, known_points) takes numpy arrays, or torch tensors and
leaves them on their device; the rest is numpy's.

Conventions: depth is metres along the optical axis; 0, NaN, inf and negative values all mean
unknown and leave every function here as NaN. Points are in the camera's optical frame (x right,
y down, z forward). Integer pixel coordinates are pixel centres, as in ROS (image_geometry) and
OpenCV: the top left pixel's centre is (0, 0), the image spans -0.5 .. width - 0.5.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros import arrays
from dkt_ros.arrays import (
    Array,
    constant,
    count_of,
    device_of,
    invert,
    is_floating,
    is_tensor,
    namespace,
)
from dkt_ros.checks import check_fields, check_type
from dkt_ros.errors import DktError

METRES_PER_MILLIMETRE = 1e-3

FloatArray = NDArray[np.floating]
Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion, in pixels: u = fx x/z + cx, v = fy y/z + cy."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        check_fields(self, nan=True)  # said below, with what to do
        if self.width < 1 or self.height < 1:
            raise DktError(f"image size {self.width}x{self.height}: expected at least 1x1 pixels")
        if (
            not np.isfinite([self.fx, self.fy, self.cx, self.cy]).all()
            or min(self.fx, self.fy) <= 0
        ):
            raise DktError(
                f"intrinsics fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}: expected finite "
                "numbers and positive focal lengths; calibrate the camera or fix its camera_info"
            )

    @classmethod
    def from_matrix(cls, matrix: FloatArray, width: int, height: int) -> Intrinsics:
        """From a (3, 3) camera matrix K in pixels. Skew must be 0."""
        try:
            k = np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DktError(f"camera matrix: {error}; expected (3, 3) numbers") from error
        if k.shape != (3, 3):
            raise DktError(f"camera matrix of shape {k.shape}: expected (3, 3)")
        if k[0, 1] != 0 or k[1, 0] != 0 or not np.array_equal(k[2], (0, 0, 1)):
            raise DktError(f"camera matrix {k.tolist()}: expected [[fx,0,cx],[0,fy,cy],[0,0,1]]")
        return cls(k[0, 0], k[1, 1], k[0, 2], k[1, 2], width, height)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The (3, 3) camera matrix K."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def scaled_to(self, width: int, height: int) -> Intrinsics:
        """The camera whose image is this one's resized to width x height (no crop).

        x and y have factors of their own. The principal point keeps its place relative to the
        image's borders, c' = (c + 1/2) s - 1/2, as resizing by pixel areas does (cv2.resize,
        torch align_corners=False).
        """
        check_type("size", (width, height), tuple[int, int])
        sx, sy = width / self.width, height / self.height
        return Intrinsics(
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            width=width,
            height=height,
        )


@lru_cache(maxsize=8)
def _rays(intrinsics: Intrinsics) -> tuple[Float32Array, Float32Array]:
    x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    rays = x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]
    for ray in rays:
        ray.setflags(write=False)
    return rays


@lru_cache(maxsize=8)
def _rays_on(device: Hashable, intrinsics: Intrinsics) -> tuple[Array, Array]:
    x, y = _rays(intrinsics)
    return constant(x, device), constant(y, device)


def _check_depth(depth: Array, intrinsics: Intrinsics | None = None) -> None:
    if not is_floating(depth):
        raise TypeError(
            f"depth of type {depth.dtype}: expected floats in metres; multiply millimetres by "
            "METRES_PER_MILLIMETRE"
        )
    if depth.ndim != 2:
        raise ValueError(f"depth of shape {tuple(depth.shape)}: expected (height, width)")
    if intrinsics is not None and depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"depth of {depth.shape[1]}x{depth.shape[0]} pixels with intrinsics of "
            f"{intrinsics.width}x{intrinsics.height}: expected the same size (see scaled_to)"
        )


def _known(depth: Array) -> Array:
    """A copy with NaN for every kind of unknown."""
    known = depth.clone() if is_tensor(depth) else depth.copy()
    known[~((depth > 0) & (depth < np.inf))] = np.nan
    return known


def backproject(depth: Array, intrinsics: Intrinsics, out: Array | None = None) -> Array:
    """Depth (H, W) in metres to an organised cloud (H, W, 3) float32 in the optical frame.

    Unknown depth becomes a point of three NaN. `out`, any (H, W, 3) float32 view beside the depth
    (a message's buffer, say), is filled and returned when given.
    """
    depth = depth if is_tensor(depth) else np.asarray(depth)
    _check_depth(depth, intrinsics)
    expected = (*depth.shape, 3)
    if out is None:
        out = arrays.empty(expected, depth)
    elif out.shape != expected or out.dtype != namespace(out).float32:
        raise ValueError(f"out of {tuple(out.shape)} {out.dtype}: expected {expected} float32")
    ray_x, ray_y = _rays_on(device_of(depth), intrinsics)
    z = _known(arrays.float32(depth))
    out[..., 2] = z
    multiply = namespace(depth).multiply
    multiply(z, ray_x, out=out[..., 0])
    multiply(z, ray_y, out=out[..., 1])
    return out


@dataclass(frozen=True)
class Box:
    """A box, lowest and highest x, y, z in metres.

    In a frame in which a point p of the camera's optical frame is rotation p + translation; by
    default the optical frame itself.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    translation: tuple[float, float, float] = (0, 0, 0)

    @classmethod
    def parse(cls, text: str) -> Box:
        """From "XMIN XMAX YMIN YMAX ZMIN ZMAX" in metres; raises DktError for anything else."""
        try:
            x, X, y, Y, z, Z = (float(word) for word in text.split())
        except ValueError:
            x = X = np.nan
        if not (np.isfinite([x, X]).all() and x < X and y < Y and z < Z):
            raise DktError(
                f"box {text!r}: expected XMIN XMAX YMIN YMAX ZMIN ZMAX in metres, each minimum the "
                "smaller"
            )
        return cls((x, y, z), (X, Y, Z))


def inside(depth: Array, intrinsics: Intrinsics, box: Box) -> Array:
    """Depth (H, W) without the points outside of the box, which become NaN."""
    points = backproject(depth, intrinsics)
    kept = _known(depth)
    for row, shift, low, high in zip(box.rotation, box.translation, box.low, box.high, strict=True):
        along = points[..., 0] * row[0] + points[..., 1] * row[1] + points[..., 2] * row[2]
        kept[(along < low - shift) | (along > high - shift)] = np.nan  # NaN stays what it is
    return kept


def where(mask: Array, depth: Array) -> Array:
    """Depth (H, W) where mask (H, W) is true, NaN elsewhere."""
    if mask.shape != depth.shape:
        raise DktError(
            f"mask of {mask.shape[1]}x{mask.shape[0]} pixels for depth of "
            f"{depth.shape[1]}x{depth.shape[0]}: expected the colour image's size"
        )
    kept = _known(depth)
    kept[~mask] = np.nan
    return kept


def remove_flying_pixels(depth: Array, relative_jump: float = 0.03) -> Array:
    """Depth (H, W) without the pixels next to a jump in depth, which become NaN.

    Where a foreground ends, sensors and networks leave pixels that float between it and the
    background. A pixel goes when its depth and that of any of its four neighbours differ by more
    than `relative_jump` times the nearer of the two. Unknown neighbours say nothing.
    """
    if relative_jump <= 0:
        raise ValueError(f"relative_jump {relative_jump}: expected a positive ratio")
    _check_depth(depth)
    xp = namespace(depth)
    kept = _known(depth)
    leap = 1 + relative_jump
    edge = xp.zeros_like(depth, dtype=bool)
    for a, b, edge_a, edge_b in (
        (kept[:, 1:], kept[:, :-1], edge[:, 1:], edge[:, :-1]),
        (kept[1:], kept[:-1], edge[1:], edge[:-1]),
    ):
        jump = xp.maximum(a, b) > leap * xp.minimum(a, b)  # false where either is NaN
        edge_a |= jump
        edge_b |= jump
    kept[edge] = np.nan
    return kept


def normals(depth: FloatArray, intrinsics: Intrinsics, reach: int = 2) -> Float32Array:
    """Unit normals (H, W, 3) float32 of depth (H, W), facing the camera; three NaN where unknown.

    In the optical frame (x right, y down, z forward). From disparity 1/depth, of which a plane's is
    linear in the picture, over `reach` pixels to each side: exact on planes. Unknown at the
    picture's border, beside unknown depth and across a jump in it.
    """
    if reach < 1:
        raise ValueError(f"reach {reach}: expected at least 1 pixel")
    _check_depth(depth, intrinsics)
    out = np.full((*depth.shape, 3), np.nan, np.float32)
    r = reach
    if min(depth.shape) <= 2 * r:
        return out
    disparity = known_depth(np.asarray(depth))
    invert(disparity)
    left, right = disparity[r:-r, : -2 * r], disparity[r:-r, 2 * r :]
    above, below = disparity[: -2 * r, r:-r], disparity[2 * r :, r:-r]
    middle = disparity[r:-r, r:-r]
    per_u, per_v = (right - left) / np.float32(2 * r), (below - above) / np.float32(2 * r)
    u = np.arange(r, intrinsics.width - r, dtype=np.float32) - np.float32(intrinsics.cx)
    v = np.arange(r, intrinsics.height - r, dtype=np.float32)[:, None] - np.float32(intrinsics.cy)
    inner = out[r:-r, r:-r]
    np.multiply(per_u, -np.float32(intrinsics.fx), out=inner[..., 0])
    np.multiply(per_v, -np.float32(intrinsics.fy), out=inner[..., 1])
    np.subtract(u * per_u + v * per_v, middle, out=inner[..., 2])
    inner /= np.sqrt(np.einsum("hwc,hwc->hw", inner, inner))[..., None]
    for a, b in ((left, right), (above, below)):
        # On one surface the middle lies between the two sides, also where it slants.
        jump = np.abs(a + b - 2 * middle) > _JUMP * middle
        inner[jump | (np.abs(a - b) > _STEEPEST * middle)] = np.nan
    return out


_JUMP, _STEEPEST = 0.02, 0.3
"""Across one surface: change of slope, and of disparity, in shares of the disparity."""


def unit_vectors(vectors: FloatArray) -> Float32Array:
    """(..., 3) of length 1; 0 where they are shorter than half or not finite: no direction at all.

    So 0 and the mid grey of stored normals, whose length is rounding only, stay unknown.
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    known = (length > 0.5) & (length < np.inf)
    return np.where(known, vectors / np.where(known, length, 1.0), 0.0).astype(np.float32)


def nearest_fill(depth: np.ndarray) -> Float32Array:
    """Depth (H, W) whose unknown pixels take the value of the nearest known one; NaN without any.

    Nearest in the picture: so, too, for a map of disparity.
    """
    known = is_reading(depth)
    if not known.any():
        return np.full(depth.shape, np.nan, np.float32)
    return depth.ravel()[nearest_places(known)[1]].astype(np.float32)


def nearest_places(known: NDArray[np.bool_]) -> tuple[Float32Array, NDArray[np.int32]]:
    """Pixels to the nearest of those (H, W) that are known, and its flat place; one at least is."""
    distance, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.flatnonzero(known).astype(np.int32)
    by_label = np.zeros(int(labels.max()) + 1, np.int32)
    by_label[labels.ravel()[places]] = places
    return np.asarray(distance, np.float32), by_label[labels]


def depth_unit(given_m: float, stated_m: float | None, override: bool) -> float:
    """Metres that a step of depth means: as given, or as stated where that is but the default.

    override: what is given holds even so.
    """
    default = given_m == METRES_PER_MILLIMETRE and not override
    return stated_m if default and stated_m else given_m


def check_unit(unit_m: float) -> None:
    """Raises DktError for what no step of integer depth means."""
    if not 0 < unit_m < np.inf:
        raise DktError(f"a step of depth is {unit_m:g} m, expected a finite number above 0")


def has_reading(steps: NDArray[Any]) -> NDArray[np.bool_]:
    """Where depth in integer steps is a reading: not 0, nor its type's largest number.

    0 is unknown (REP-118); at the largest the sensor, or who wrote the file, ran out of numbers.
    """
    return np.asarray((steps != 0) & (steps != np.iinfo(steps.dtype).max))


def is_reading(depth: NDArray[Any]) -> NDArray[np.bool_]:
    """The same of depth in metres: above 0 and finite, as is 1/depth.

    So small a number that it is not are integers that were sent as if they were float32.
    """
    return np.asarray((depth > np.finfo(np.float32).tiny) & (depth < np.inf))


def disparity_of(depth: FloatArray) -> FloatArray:
    """1/depth, of depth's type; 0 where it is no reading."""
    return np.divide(1.0, depth, out=np.zeros_like(depth), where=is_reading(depth))


USABLE_DEPTH_M = (0.1, 10.0)
"""What the node aligns to unless told otherwise; all depth beyond that is in another unit."""


NOTHING_M = 10_000.0
"""True depth from here on is a renderer's word for nothing: 65504 and 1e10 are, no millimetres."""


def is_true_depth(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Where depth in metres that a renderer may have made is that of something."""
    return is_reading(truth) & np.asarray(truth < NOTHING_M)


def known_depth(depth: NDArray[Any]) -> Float32Array:
    """A float32 copy of depth of any float type, NaN where it is no reading."""
    metres = depth.astype(np.float32)
    return unknown_unless(is_reading(metres), metres)


def to_millimetres(depth: NDArray[Any]) -> NDArray[np.uint16]:
    """Metres to whole millimetres, rounded; 0 where unknown or beyond 65.535 m (REP-118)."""
    steps = np.rint(np.asarray(depth, np.float32) / np.float32(METRES_PER_MILLIMETRE))
    steps[~((steps >= 1) & (steps <= np.iinfo(np.uint16).max))] = 0
    return steps.astype(np.uint16)


def unknown_unless(known: NDArray[np.bool_], depth: Float32Array) -> Float32Array:
    """Writes NaN where `known` is false: all bits set, at a tenth of what an index takes."""
    bits = depth.view(np.int32)
    bits |= np.subtract(known.view(np.int8), np.int8(1))
    return depth


def resize_nearest(depth: FloatArray, width: int, height: int) -> FloatArray:
    """Depth (H, W) resized to (height, width) by nearest neighbour: values are never mixed."""
    if width < 1 or height < 1:
        raise ValueError(f"size {width}x{height}: expected at least 1x1 pixels")
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.intp)
    return depth[rows[:, None], columns[None, :]]


_DENSE = 0.75
"""With more of the pixels that are looked at being readings, there is none to be looked for."""
_CONNECTED = 0.5
"""Share of readings with one beside them, along rows and along columns, that do not lie apart."""
_TELLING = 1000
"""So many readings tell whether they do."""


def resize_readings(depth: FloatArray, width: int, height: int) -> FloatArray:
    """Raw depth (H, W) resized by `resize_nearest`, and no reading passed over that lies apart."""
    return with_readings_between(resize_nearest(depth, width, height), depth)


def with_readings_between(picked: FloatArray, depth: FloatArray) -> FloatArray:
    """Depth (H, W) that `resize_nearest` made of depth, with readings that it passed over.

    A laser's lines, or a sensor's pixels registered to a picture of more, lie apart, and most of
    them between the pixels that are looked at. Where readings do, a pixel without one takes one
    that lies in it. 0, NaN and infinity are no reading.
    """
    (height, width), (rows, columns) = picked.shape, depth.shape
    found = is_reading(picked)
    if count_of(found) > _DENSE * picked.size or not _lie_apart(depth):
        return picked
    known = is_reading(depth)
    row, column = np.nonzero(known)
    there = np.full(picked.shape, np.nan, picked.dtype)
    there[row * height // rows, column * width // columns] = depth[known]
    return np.where(found, picked, there)


def _lie_apart(depth: FloatArray) -> bool:
    """Whether most readings have none beside them, along rows or along columns."""
    rows, columns = depth.shape
    pairs = depth[: rows // 2 * 2].reshape(-1, 2, columns)
    known = is_reading(pairs[::8])
    if count_of(known) < _TELLING:
        known = is_reading(pairs)
    beside = (
        count_of(known[..., 1:] & known[..., :-1]),
        2 * count_of(known[:, 0] & known[:, 1]),
    )
    return min(beside) < _CONNECTED * count_of(known)


def known_points(cloud: Array, rgb: Array | None = None) -> tuple[Array, Array | None]:
    """The finite points of an organised cloud (H, W, 3), as (N, 3), with their colours (N, 3)."""
    if rgb is not None and rgb.shape != cloud.shape:
        raise ValueError(
            f"colours of shape {tuple(rgb.shape)}: expected the cloud's {tuple(cloud.shape)}"
        )
    known = namespace(cloud).isfinite(cloud[..., 2]).reshape(-1)
    points = arrays.float32(cloud.reshape(-1, 3))
    if rgb is None:
        return arrays.rows_where(known, points)[0], None
    points, colors = arrays.rows_where(known, points, rgb.reshape(-1, 3))
    return points, colors
