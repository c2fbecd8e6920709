"""Raw depth completed without a network: what any learned depth has to beat.

Each takes one frame of raw sensor depth (H, W) in metres, NaN (or 0) where the sensor saw nothing,
and returns float32 (H, W) metres; `completions` has them all, of a video. Knows nothing of colour,
networks or truth. Readings that exist are kept, right or wrong: a baseline cannot know which ones
saw through glass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from dkt_ros.geometry import disparity_of, is_reading, known_depth, nearest_fill

_PLANE_HYPOTHESES = 200
_PLANE_SAMPLE = 2000
_PLANE_ITERATIONS = 20
_PLANE_SCALE_FLOOR = 1e-3
"""1/m: residuals below this are noise, about 1 mm at 1 m."""
_TELEA_RADIUS_PX = 3
_TELEA_STEPS = 65535


def raw(raw_depth: np.ndarray) -> np.ndarray:
    """The sensor's own depth; NaN stays where it saw nothing."""
    return known_depth(raw_depth)


def fit_plane(raw_depth: np.ndarray) -> np.ndarray:
    """The dominant plane everywhere: 1/z = a x + b y + c fitted to the raw depth, holes or not.

    A plane in space is linear in image coordinates in disparity. The best of many planes through
    three random readings (fixed seed) by median residual, then reweighted least squares with
    Tukey's biweight: things standing on the plane and see-through readings lose their vote. All NaN
    with fewer than three readings.
    """
    known = is_reading(raw_depth)
    height, width = raw_depth.shape
    if known.sum() < 3:
        return np.full(raw_depth.shape, np.nan, np.float32)
    rows, columns = np.mgrid[0:height, 0:width]
    basis = np.stack([columns / width, rows / height, np.ones_like(rows, float)], axis=-1)
    a, b = basis[known], 1.0 / raw_depth[known].astype(np.float64)
    plane = _initial_plane(a, b)
    for _ in range(_PLANE_ITERATIONS):
        residual = a @ plane - b
        scale = max(1.4826 * float(np.median(np.abs(residual))), _PLANE_SCALE_FLOOR)
        root = np.clip(1.0 - (residual / (4.685 * scale)) ** 2, 0.0, None)  # of the weight
        weighted = a * np.square(root)[:, None]
        plane = np.linalg.solve(weighted.T @ a + 1e-9 * np.eye(3), weighted.T @ b)
    disparity = basis @ plane
    # Past the horizon the plane has no depth.
    depth = np.full(raw_depth.shape, np.nan)
    np.divide(1.0, disparity, out=depth, where=disparity > 1e-6)
    return depth.astype(np.float32)


def _initial_plane(basis: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    sample = rng.integers(0, len(disparity), _PLANE_SAMPLE)
    triples = rng.integers(0, len(disparity), (_PLANE_HYPOTHESES, 3))
    # A reading drawn twice gives a plane through two, which a few readings would confirm.
    first, second, third = triples.T
    triples = triples[(first != second) & (second != third) & (third != first)]
    planes = np.linalg.pinv(basis[triples]) @ disparity[triples][..., None]
    residuals = np.abs(basis[sample] @ planes[..., 0].T - disparity[sample][:, None])
    return np.asarray(planes[np.median(residuals, axis=0).argmin(), :, 0])


def telea_fill(raw_depth: np.ndarray) -> np.ndarray:
    """Holes filled by Telea's fast-marching inpainting (OpenCV), in disparity of 16 bits."""
    known = is_reading(raw_depth)
    if not known.any():
        return raw(raw_depth)
    disparity = disparity_of(raw_depth).astype(np.float64)
    low, high = float(disparity[known].min()), float(disparity[known].max())
    span = max(high - low, 1e-9)
    steps = np.where(known, np.rint((disparity - low) / span * _TELEA_STEPS), 0).astype(np.uint16)
    filled = cv2.inpaint(steps, (~known).astype(np.uint8), _TELEA_RADIUS_PX, cv2.INPAINT_TELEA)
    depth = 1.0 / (low + filled.astype(np.float64) / _TELEA_STEPS * span)
    return np.where(known, raw_depth, depth).astype(np.float32)


BASELINES = ("raw", "nearest fill", "plane", "plane fill", "Telea")


def completions(raw_depth: np.ndarray) -> Iterator[np.ndarray]:
    """What each of BASELINES, in order, makes of a video (T, H, W); one at a time."""

    def each(complete: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([complete(frame) for frame in raw_depth])

    yield each(raw)
    yield each(nearest_fill)
    plane = each(fit_plane)
    yield plane
    yield np.where(is_reading(raw_depth), raw_depth, plane).astype(np.float32)
    del plane
    yield each(telea_fill)
