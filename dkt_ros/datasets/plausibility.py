"""What a readable frame can still give away as wrong: units, axes, empty pictures.

Knows one frame. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dkt_ros.arrays import count_of
from dkt_ros.datasets.sample import Sample
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.wording import kind_of

_MEDIAN_DEPTH_M = (0.01, 100.0)
_RAW_TO_TRUE = (0.8, 1.25)
_SAME = 1e-3
"""Relative: the steps in which the two are stored."""
_NORMAL_ANGLE_DEG = 45.0
_MIDDLE = (0.25, 0.75)
"""Of the picture's sides, where a camera's principal point lies."""
_SQUARE = 1.1
_MOST_OBJECTS = 0.95
_MANY_OBJECTS, _OF_BORDER = 0.5, 0.9
"""Shares of the picture and of its border that objects seldom are, and that what is around them is
nearly always."""
_WRONG = 0.05
"""Relative, of raw depth: of glass and metal much is, of what is around them little."""
_ENOUGH_PIXELS = 200
_GRID_POINTS = 20_000
_REACH = 4
"""Pixels to either side over which depth is differentiated: millimetre steps must not matter."""
_SMOOTH = 0.05
"""Neighbours whose depth differs by more than this share belong to different surfaces."""


def suspicions(sample: Sample) -> tuple[str, ...]:
    """One line for each thing that no frame of a sound data set shows."""
    checks = (_depth_unit, _raw_depth_unit, _same_depth, _camera, _normal_axes, _mask, _picture)
    found = (check(sample) for check in checks)
    return tuple(f"{sample.source}: {line}" for line in found if line)


class Suspects:
    """Tells each kind of suspicion once, with the frame that showed it first."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def of(self, sample: Sample) -> list[str]:
        """As suspicions, without what was told of a frame before."""
        told = []
        for line in suspicions(sample):
            kind = kind_of(line.removeprefix(sample.source))
            if kind not in self._kinds:
                self._kinds.add(kind)
                told.append(line)
        return told

    def of_learned(self, sample: Sample) -> list[str]:
        """Of what is learned from, which the camera's matrix is none of."""
        return self.of(replace(sample, camera_matrix=None))


def normal_angle(sample: Sample) -> float | None:
    """Median angle in degrees between the normals and those of the depth's own slope.

    None where there are no normals, no camera matrix or too few smooth pixels. A few degrees for
    consistent data; 90 or so where an axis is flipped.
    """
    if sample.normal is None or sample.camera_matrix is None:
        return None
    height, width = sample.depth.shape
    if min(height, width) <= 2 * _REACH:
        return None
    step = max(1, int(np.sqrt(height * width / _GRID_POINTS)))
    v, u = np.mgrid[_REACH : height - _REACH : step, _REACH : width - _REACH : step]

    def point(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        k = sample.camera_matrix
        assert k is not None
        z = sample.depth[rows, columns].astype(np.float64)
        return np.stack([(columns - k[0, 2]) / k[0, 0] * z, (rows - k[1, 2]) / k[1, 1] * z, z], -1)

    here = point(v, u)
    across = point(v, u + _REACH) - point(v, u - _REACH)
    down = point(v + _REACH, u) - point(v - _REACH, u)
    slope = np.cross(down, across)  # faces the camera: y down times x right is -z
    given = sample.normal[v, u]
    with np.errstate(invalid="ignore", divide="ignore"):
        slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
        jump = np.maximum(np.abs(across[..., 2]), np.abs(down[..., 2])) / here[..., 2]
        usable = (jump < _SMOOTH) & np.isfinite(slope).all(-1) & given.any(-1)
    if count_of(usable) < _ENOUGH_PIXELS:
        return None
    cosine = np.clip((slope * given).sum(-1)[usable], -1.0, 1.0)
    return float(np.degrees(np.median(np.arccos(cosine))))


def _depth_unit(sample: Sample) -> str | None:
    median = float(np.nanmedian(sample.depth))
    low, high = _MEDIAN_DEPTH_M
    if low <= median <= high:
        return None
    return f"median depth is {median:g} m, expected {low:g} to {high:g}; is it in another unit?"


def _raw_depth_unit(sample: Sample) -> str | None:
    if sample.raw_depth is None:
        return None
    both = np.isfinite(sample.raw_depth) & sample.known
    if sample.mask is not None:
        both &= sample.mask == MaterialClass.OPAQUE
    if count_of(both) < _ENOUGH_PIXELS:
        return None
    ratio = float(np.median(sample.raw_depth[both] / sample.depth[both]))
    low, high = _RAW_TO_TRUE
    if low <= ratio <= high:
        return None
    return f"raw depth is {ratio:.3g} times the true one in the median; another unit or camera?"


def _same_depth(sample: Sample) -> str | None:
    """Glass is where the two differ, and a sensor has noise and holes where the truth has none."""
    if sample.raw_depth is None or count_of(sample.known) < _ENOUGH_PIXELS:
        return None
    with np.errstate(invalid="ignore"):
        off = np.abs(sample.raw_depth - sample.depth) > _SAME * sample.depth
    if off.any() or (np.isfinite(sample.raw_depth) != sample.known).any():
        return None
    return "raw depth is the true depth at every pixel; is one of them named for both?"


def _camera(sample: Sample) -> str | None:
    if sample.camera_matrix is None:
        return None
    height, width = sample.depth.shape
    fx, fy = sample.camera_matrix[0, 0], sample.camera_matrix[1, 1]
    cx, cy = sample.camera_matrix[0, 2], sample.camera_matrix[1, 2]
    low, high = _MIDDLE
    if not (low <= cx / width <= high and low <= cy / height <= high):
        found = f"principal point ({cx:.4g}, {cy:.4g}) is far from the middle"
    elif not 1 / _SQUARE <= fx / fy <= _SQUARE:
        found = f"focal lengths are {fx:.4g} and {fy:.4g}"
    else:
        return None
    return f"{found} in {width}x{height} pixels; are the intrinsics of pictures of another size?"


def _normal_axes(sample: Sample) -> str | None:
    angle = normal_angle(sample)
    if angle is None or angle <= _NORMAL_ANGLE_DEG:
        return None
    return f"normals are {angle:.0f} degrees off the depth's slope in the median; other axes?"


def _mask(sample: Sample) -> str | None:
    objects = sample.transparent_or_reflective
    if objects is None:
        return None
    share = float(objects.mean())
    found = f"transparent and reflective objects are {share:.0%} of the picture"
    if share > _MOST_OBJECTS:
        return f"{found}; mask inverted?"
    edges = objects[0], objects[-1], objects[1:-1, 0], objects[1:-1, -1]
    border = float(np.concatenate(edges).mean())
    if share < _MANY_OBJECTS or border < _OF_BORDER or _is_worse(sample, objects):
        return None
    return f"{found} and {border:.0%} of its border; mask inverted?"


def _is_worse(sample: Sample, objects: np.ndarray) -> bool:
    """Whether there is raw depth, and more of it is missing or wrong on objects than elsewhere."""
    if sample.raw_depth is None:
        return False
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(sample.raw_depth - sample.depth) <= _WRONG * sample.depth)
    there, elsewhere = (wrong[sample.known & where] for where in (objects, ~objects))
    return len(there) > 0 and (len(elsewhere) == 0 or bool(there.mean() > elsewhere.mean()))


def _picture(sample: Sample) -> str | None:
    if (sample.rgb != sample.rgb[0, 0]).any():
        return None
    return f"the picture is of one colour, {sample.rgb[0, 0].tolist()}"
