"""Flicker of a depth video: how much one frame's depth contradicts its neighbour's. numpy alone.

Knows cameras and poses. Knows nothing of networks or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.geometry import is_reading


def temporal_errors(
    depth: Sequence[np.ndarray] | np.ndarray,
    camera_matrix: np.ndarray,
    world_to_camera: Sequence[np.ndarray] | np.ndarray,
    masks: Mapping[str, Sequence[np.ndarray] | np.ndarray],
) -> dict[str, float]:
    """TAE: mean relative difference between each frame's depth, moved into its neighbour, and it.

    TAE = 1 / (2 (T - 1)) sum_k [r(k -> k+1) + r(k+1 -> k)], as Video Depth Anything defines it
    (there for a static scene, as here). depth: (T, H, W) metres along the optical axis, NaN or <= 0
    unknown; camera_matrix: (3, 3) pixels, centre of the top left pixel at (0, 0), or (T, 3, 3)
    where the frames' cameras differ; world_to_camera: (T, 4, 4), x right, y down, z forward; masks:
    for each a value is returned; boolean (T, H, W), True where a pixel counts, in the frame it
    comes from and in the one it falls into. Each pixel is moved in space and compared with the
    nearest pixel it falls on; where several fall on one, the nearest to the camera is compared, for
    it hides the others. A direction in which no pixel falls onto a known one does not count. NaN
    where none does. Raises ValueError for unequal lengths.
    """
    count = len(depth)
    if len(world_to_camera) != count or any(len(mask) != count for mask in masks.values()):
        raise ValueError(f"{len(world_to_camera)} poses for {count} frames; masks alike")
    cameras = np.broadcast_to(camera_matrix, (count, 3, 3))
    sums, found = dict.fromkeys(masks, 0.0), dict.fromkeys(masks, 0)
    for k in range(count - 1):
        for source, target in ((k, k + 1), (k + 1, k)):
            motion = world_to_camera[target] @ np.linalg.inv(world_to_camera[source])
            warped = _warp(depth[source], depth[target], cameras[source], motion, cameras[target])
            for name, mask in masks.items():
                difference = warped.mean_difference(mask[source], mask[target])
                if np.isfinite(difference):
                    sums[name] += difference
                    found[name] += 1
    return {name: sums[name] / found[name] if found[name] else float("nan") for name in masks}


@dataclass(frozen=True)
class _Warped:
    """Pixels of one frame that are seen in another: their flat places in both, |z' - z| / z."""

    source: np.ndarray
    target: np.ndarray
    difference: np.ndarray

    def mean_difference(self, source_mask: np.ndarray, target_mask: np.ndarray) -> float:
        used = source_mask.ravel()[self.source] & target_mask.ravel()[self.target]
        return float(self.difference[used].mean()) if used.any() else float("nan")


def _warp(
    source: np.ndarray,
    target: np.ndarray,
    source_camera: np.ndarray,
    motion: np.ndarray,
    target_camera: np.ndarray,
) -> _Warped:
    height, width = source.shape
    known = np.flatnonzero(is_reading(source))
    v, u = np.divmod(known, width)
    rays = np.stack([u, v, np.ones_like(u)]).astype(np.float64)
    points = np.linalg.inv(source_camera) @ rays * source.ravel()[known].astype(np.float64)
    moved = motion[:3, :3] @ points + motion[:3, 3:]
    before = moved[2] > 0
    known, moved = known[before], moved[:, before]
    column, row = np.rint((target_camera @ moved / moved[2])[:2])
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    known, z = known[inside], moved[2, inside]
    pixel = (row[inside] * width + column[inside]).astype(np.int64)
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, pixel, z)
    seen = (z == nearest[pixel]) & is_reading(target).ravel()[pixel]
    known, pixel, z = known[seen], pixel[seen], z[seen]
    truth = target.ravel()[pixel].astype(np.float64)
    return _Warped(known, pixel, np.abs(z - truth) / truth)
