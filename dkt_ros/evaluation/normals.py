"""Errors of surface normals, and the normals of a depth map. numpy alone.

Normals are unit vectors (H, W, 3) in camera axes (x right, y down, z forward), 0 where unknown; a
visible surface faces the camera. Knows nothing of networks or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkt_ros.geometry import is_reading, remove_flying_pixels

ANGLE_THRESHOLDS_DEG = (11.25, 22.5, 30.0)
_NAN = float("nan")


@dataclass(frozen=True)
class NormalErrors:
    """Angles to the true normal, degrees; within_*: share of pixels below 11.25, 22.5, 30 degrees.

    normal_coverage: share of the pixels with a true normal that had a predicted one; the others
    count in none of the errors. All NaN (coverage too) where no true normal was there to compare.
    """

    mean_deg: float = _NAN
    median_deg: float = _NAN
    within_1125: float = _NAN
    within_2250: float = _NAN
    within_3000: float = _NAN
    normal_coverage: float = _NAN


def normals_of_depth(depth: np.ndarray, camera_matrix: np.ndarray) -> np.ndarray:
    """Normals of a depth map (H, W) in metres, float32 (H, W, 3), facing the camera.

    The cross product of the central differences of the back-projected points, dP/dv x dP/du; exact
    on planes. 0 at the picture's border and where one of the four neighbours has no depth.
    camera_matrix: (3, 3) pixels, centre of the top left pixel at (0, 0).
    """
    height, width = depth.shape
    known = is_reading(depth)
    z = np.where(known, depth, np.nan).astype(np.float64)
    rays = np.linalg.inv(camera_matrix)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    points = (pixels @ rays.T) * z[..., None]
    normals = np.zeros((height, width, 3), np.float32)
    along_u = points[1:-1, 2:] - points[1:-1, :-2]
    along_v = points[2:, 1:-1] - points[:-2, 1:-1]
    cross = np.cross(along_v, along_u)
    length = np.linalg.norm(cross, axis=-1, keepdims=True)
    inner = known[1:-1, 1:-1, None] & (length > 0)  # comparisons with NaN are false
    np.divide(cross, length, out=normals[1:-1, 1:-1], where=inner, casting="same_kind")
    return normals


def away_from_edges(truth: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of a true depth map whose neighbourhood is one surface.

    Central differences across a jump in depth belong to no surface. Taken from the truth, so that
    the same pixels count for every prediction.
    """
    return np.isfinite(remove_flying_pixels(truth.astype(np.float32)))


def frame_normal_errors(
    predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
) -> NormalErrors:
    """Errors of one normal map (H, W, 3) against the truth, over a boolean mask (H, W).

    Vectors need not be of length 1; 0 or NaN is unknown. Raises ValueError where shapes differ.
    """
    if predicted.shape != truth.shape or predicted.shape[-1] != 3:
        raise ValueError(
            f"normals of {predicted.shape}, truth of {truth.shape}: expected (H, W, 3)"
        )
    if mask is None:
        mask = np.ones(truth.shape[:2], bool)
    if mask.shape != truth.shape[:2] or mask.dtype != np.bool_:
        raise ValueError(f"mask of {mask.shape} {mask.dtype}: expected {truth.shape[:2]} bool")
    known = mask & _known(truth)
    used = known & _known(predicted)
    if not used.any():
        return NormalErrors(normal_coverage=0.0 if known.any() else _NAN)
    p, t = (vectors[used].astype(np.float64) for vectors in (predicted, truth))
    # The angle by its tangent: arccos loses half of the digits near 0.
    angle = np.degrees(
        np.arctan2(np.linalg.norm(np.cross(p, t), axis=-1), np.einsum("nc,nc->n", p, t))
    )
    shares = [float(np.mean(angle < threshold)) for threshold in ANGLE_THRESHOLDS_DEG]
    return NormalErrors(
        float(np.mean(angle)),
        float(np.median(angle)),
        shares[0],
        shares[1],
        shares[2],
        float(used.sum() / known.sum()),
    )


def _known(vectors: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.isfinite(vectors).all(axis=-1) & (np.abs(vectors).sum(axis=-1) > 0)
