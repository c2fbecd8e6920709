"""Flicker of a depth video: how much one frame's depth contradicts its neighbour's. numpy alone.

Knows cameras and poses. Knows nothing of networks or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dkt_ros.evaluation.metrics import valid


def temporal_alignment_error(
    depth: Sequence[np.ndarray] | np.ndarray,
    camera_matrix: np.ndarray,
    world_to_camera: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray | None = None,
) -> float:
    """TAE: mean relative difference between each frame's depth, moved into its neighbour, and it.

    TAE = 1 / (2 (T - 1)) sum_k [r(k -> k+1) + r(k+1 -> k)], as Video Depth Anything defines it
    (there for a static scene, as here). depth: (T, H, W) metres along the optical axis, NaN or <= 0
    unknown; camera_matrix: (3, 3) pixels, centre of the top left pixel at (0, 0), or (T, 3, 3)
    where the frames' cameras differ; world_to_camera: (T, 4, 4), x right, y down, z forward; masks:
    boolean (T, H, W), True where a pixel counts, in the frame it comes from and in the one it falls
    into. A direction in which no pixel falls onto a known one does not count. NaN where none does.
    Raises ValueError for unequal lengths.
    """
    count = len(depth)
    if len(world_to_camera) != count or (masks is not None and len(masks) != count):
        raise ValueError(f"{len(world_to_camera)} poses for {count} frames; masks alike")
    cameras = np.broadcast_to(camera_matrix, (count, 3, 3))
    differences = []
    for k in range(count - 1):
        for source, target in ((k, k + 1), (k + 1, k)):
            motion = world_to_camera[target] @ np.linalg.inv(world_to_camera[source])
            differences.append(
                warped_difference(
                    _masked(depth[source], None if masks is None else masks[source]),
                    _masked(depth[target], None if masks is None else masks[target]),
                    cameras[source],
                    motion,
                    cameras[target],
                )
            )
    found = [value for value in differences if np.isfinite(value)]
    return float(np.mean(found)) if found else float("nan")


def warped_difference(
    source: np.ndarray,
    target: np.ndarray,
    camera_matrix: np.ndarray,
    motion: np.ndarray,
    target_camera_matrix: np.ndarray | None = None,
) -> float:
    """Mean |z' - z| / z over the source's pixels that fall onto known pixels of the target.

    source, target: (H, W) metres; motion: (4, 4) from the source camera to the target camera;
    target_camera_matrix: (3, 3) where that is another camera. Each pixel is moved in space and
    compared with the nearest pixel it falls on; where several fall on one, the nearest to the
    camera is compared, for it hides the others. NaN where none falls.
    """
    height, width = source.shape
    v, u = np.nonzero(valid(source))
    z = source[v, u].astype(np.float64)
    rays = np.stack([u, v, np.ones_like(u)]).astype(np.float64)
    points = np.linalg.inv(camera_matrix) @ rays * z
    moved = motion[:3, :3] @ points + motion[:3, 3:]
    moved = moved[:, moved[2] > 0]
    into = camera_matrix if target_camera_matrix is None else target_camera_matrix
    projected = into @ moved / moved[2]
    column, row = np.rint(projected[:2]).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel, moved_z = row[inside] * width + column[inside], moved[2, inside]
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, pixel, moved_z)
    seen = np.isfinite(nearest) & valid(target).ravel()
    if not seen.any():
        return float("nan")
    truth = target.ravel()[seen].astype(np.float64)
    return float(np.mean(np.abs(nearest[seen] - truth) / truth))


def _masked(depth: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return depth if mask is None else np.where(mask, depth, np.nan)
