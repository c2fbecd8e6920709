"""Depth of one camera as another one, beside it, sees it.

Knows pinhole cameras with OpenCV's distortion and how one stands to the other. Knows nothing of
where either is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.geometry import Intrinsics, is_reading

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_LARGEST_PX = 24
"""Of the other picture that a pixel of depth covers; more is a surface at the lens."""
_NEAREST_M = 1e-3
_WIDEST = 10.0
"""Of x/z, as far as a lens is asked how it bends."""
_FARTHEST_M = 5.0
"""Between two cameras that see the same; more is no metres."""
_STRAIGHT = {"", "none"}
_BENT = {"plumb_bob", "rational_polynomial"}
_FISHEYE = {"equidistant"}
_BENT_BY, _FISHEYE_BY = (4, 5, 8, 12, 14), (4,)
"""Numbers of coefficients that OpenCV takes."""


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera and how its lens bends: `model` is camera_info's name of it, `coefficients` its D.

    Raises DktError for a model that is not known, or numbers that are none of its.
    """

    camera: Intrinsics
    model: str = ""
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.bends and self.model not in _BENT | _FISHEYE:
            known = ", ".join(sorted(_BENT | _FISHEYE))
            raise DktError(f"distortion model is {self.model!r}: expected one of {known}")
        counts = _FISHEYE_BY if self.model in _FISHEYE else _BENT_BY
        is_whole = len(self.coefficients) in counts and all(map(math.isfinite, self.coefficients))
        if self.bends and not is_whole:
            told = ", ".join(f"{number:g}" for number in self.coefficients)
            raise DktError(
                f"distortion {self.model} by D=[{told}]: expected "
                f"{' or '.join(map(str, counts))} finite numbers"
            )

    @property
    def bends(self) -> bool:
        """Whether the lens is more than a pinhole."""
        return self.model not in _STRAIGHT and any(self.coefficients)

    @property
    def reach(self) -> float:
        """Distance from the axis, of x/z, beyond which a point's pixel moves inwards again.

        There the polynomial holds no longer: what lies beyond is in no picture.
        """
        away = np.linspace(0, _WIDEST, 1001, dtype=np.float32)
        pixels = self.pixels(np.stack([away, np.zeros_like(away), np.ones_like(away)], axis=1))
        inwards = np.flatnonzero(np.diff(pixels[:, 0]) <= 0)
        return float(away[inwards[0]]) if len(inwards) else np.inf

    def rays(self, pixels: Float64) -> Float64:
        """(N, 2) pixels -> x/z and y/z of what they see, (N, 2)."""
        matrix, bent = self.camera.matrix, np.array(self.coefficients, np.float64)
        if not self.bends:
            centre, focal = matrix[:2, 2], matrix[[0, 1], [0, 1]]
            return np.asarray((pixels - centre) / focal, np.float64)
        undo = cv2.fisheye.undistortPoints if self.model in _FISHEYE else cv2.undistortPoints
        return np.asarray(undo(pixels[:, None], matrix, bent), np.float64)[:, 0]

    def pixels(self, points: Float32) -> Float32:
        """(N, 3) points before the camera, metres -> (N, 2) pixels."""
        matrix, bent = self.camera.matrix, np.array(self.coefficients, np.float64)
        if not self.bends:
            focal, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
            seen = points[:, :2] / points[:, 2:]
            return np.asarray(seen * focal.astype(np.float32) + centre.astype(np.float32))
        nowhere = np.zeros(3)
        points = points[:, None]
        if self.model in _FISHEYE:
            found, _ = cv2.fisheye.projectPoints(points, nowhere, nowhere, matrix, bent)
        else:
            found, _ = cv2.projectPoints(points, nowhere, nowhere, matrix, bent)
        return np.asarray(found, np.float32)[:, 0]


class DepthRegistration:
    """Depth images of one camera, as the other one beside it would have taken them."""

    def __init__(self, depth: Lens, other: Lens, other_from_depth: Float64) -> None:
        """other_from_depth: (4, 4), points of the depth camera's optical frame into the other's.

        Raises DktError where that is no rigid motion in metres.
        """
        turn = np.asarray(other_from_depth, np.float64)
        if turn.shape != (4, 4) or not np.isfinite(turn).all():
            raise DktError(f"pose of the depth camera {turn.tolist()}: expected (4, 4) numbers")
        if not np.allclose(turn[:3, :3] @ turn[:3, :3].T, np.eye(3), atol=1e-3):
            raise DktError(f"pose of the depth camera {turn.tolist()}: expected a rotation in it")
        if (away_m := np.linalg.norm(turn[:3, 3])) > _FARTHEST_M:
            raise DktError(
                f"the cameras stand {away_m:.3g} m apart: expected two beside each other, in metres"
            )
        self._depth, self._other, self._turn = depth, other, turn.astype(np.float32)
        self._reach = other.reach
        height, width = depth.camera.height, depth.camera.width
        # Where pixels end: centres have whole numbers.
        rows, columns = np.mgrid[: height + 1, : width + 1] - 0.5
        ends = depth.rays(np.stack([columns.ravel(), rows.ravel()], axis=1))
        self._ends = ends.reshape(height + 1, width + 1, 2).astype(np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what `apply` takes."""
        return self._depth.camera.height, self._depth.camera.width

    @property
    def other_size(self) -> tuple[int, int]:
        """(height, width) of what it gives."""
        return self._other.camera.height, self._other.camera.width

    def apply(self, depth: Float32) -> Float32:
        """(h, w) metres of the depth camera -> (H, W) of the other, NaN where it sees none of it.

        The nearest surface counts. Each pixel covers what it covers there, so that a finer
        picture has no gaps between them. Raises DktError where the size is not the camera's.
        """
        if depth.shape != self.size:
            size = "x".join(str(n) for n in depth.shape[::-1])
            raise DktError(
                f"depth image of {size}, its camera_info is for {self.size[1]}x{self.size[0]}: "
                "expected the same size"
            )
        camera = self._other.camera
        rows, columns = np.nonzero(is_reading(depth))
        metres = depth[rows, columns]
        first, last = (self._moved(self._ends[rows + by, columns + by], metres) for by in (0, 1))
        ahead = np.minimum(first[:, 2], last[:, 2]) > _NEAREST_M
        if self._reach < np.inf:
            for ends in (first, last):
                ahead &= np.hypot(ends[:, 0], ends[:, 1]) <= self._reach * ends[:, 2]
        first, last = first[ahead], last[ahead]
        one, other = self._other.pixels(first), self._other.pixels(last)
        low, high = np.ceil(np.minimum(one, other)), np.ceil(np.maximum(one, other))
        seen = (high > 0).all(axis=1) & (low < (camera.width, camera.height)).all(axis=1)
        seen &= (high - low <= _LARGEST_PX).all(axis=1)
        low = low[seen].astype(np.intp) + _LARGEST_PX
        spans = high[seen].astype(np.intp) + _LARGEST_PX - low
        away = 0.5 * (first[seen, 2] + last[seen, 2])
        # With a rim, that pixels at the border reach into.
        wide = camera.width + 2 * _LARGEST_PX
        found = np.full((camera.height + 2 * _LARGEST_PX, wide), np.inf, np.float32)
        start = low[:, 1] * wide + low[:, 0]
        for right, down in np.ndindex(*(int(n) for n in spans.max(axis=0, initial=0))):
            reached = (right < spans[:, 0]) & (down < spans[:, 1])
            at = start[reached] + (down * wide + right)
            np.minimum.at(found.ravel(), at, away[reached])
        found[np.isinf(found)] = np.nan
        return np.ascontiguousarray(found[_LARGEST_PX:-_LARGEST_PX, _LARGEST_PX:-_LARGEST_PX])

    def _moved(self, rays: Float32, metres: Float32) -> Float32:
        points = np.empty((len(rays), 3), np.float32)
        points[:, 2] = metres
        np.multiply(rays, metres[:, None], out=points[:, :2])
        return points @ self._turn[:3, :3].T + self._turn[:3, 3]
