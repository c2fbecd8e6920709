"""Filters of clouds (N, 3) with colours: thinned, and without outliers.

Knows points, and scipy for the neighbour search; other threads go on while a large cloud is
filtered. Knows nothing of cameras or depth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.extras import advice

FloatArray = NDArray[np.floating]
Float32Array = NDArray[np.float32]

_QUERY_POINTS = 1 << 14


def voxel_downsample(
    points: FloatArray, voxel_m: float, rgb: NDArray[np.uint8] | None = None
) -> tuple[Float32Array, NDArray[np.uint8] | None]:
    """One point (the mean) for each cube of `voxel_m` metres that holds any.

    points (N, 3) finite metres, rgb (N, 3) or None; returns the same kinds with fewer rows.
    """
    if voxel_m <= 0:
        raise ValueError(f"voxel size {voxel_m} m: expected a positive length")
    points = _checked_cloud(points, rgb)
    if len(points) == 0:
        return points, rgb
    voxels = np.floor((points - points.min(axis=0)).astype(np.float64) / voxel_m + 0.5)
    extent = voxels.max(axis=0) + 1
    if np.log2(extent).sum() > 62:  # more than int64 counts, and next to none has a neighbour
        voxels = np.stack([np.unique(axis, return_inverse=True)[1] for axis in voxels.T], axis=1)
        extent = voxels.max(axis=0) + 1
    index = voxels.astype(np.int64)
    _, members, counts = np.unique(
        (index[:, 0] * int(extent[1]) + index[:, 1]) * int(extent[2]) + index[:, 2],
        return_inverse=True,
        return_counts=True,
    )

    def means(values: NDArray[Any]) -> NDArray[np.float64]:
        sums = [np.bincount(members, column, len(counts)) for column in values.T]
        return np.stack(sums, axis=1) / counts[:, None]

    colours = None if rgb is None else np.rint(means(rgb)).astype(np.uint8)
    return means(points).astype(np.float32), colours


def remove_outliers(
    points: FloatArray,
    neighbours: int = 20,
    deviations: float = 2.0,
    rgb: NDArray[np.uint8] | None = None,
) -> tuple[Float32Array, NDArray[np.uint8] | None]:
    """Statistical outlier removal: drops points that stand off from their neighbours.

    A point goes when its mean distance to its `neighbours` nearest points exceeds the cloud's mean
    of that distance by more than `deviations` standard deviations. points (N, 3) finite metres,
    rgb (N, 3) or None; order is kept.
    """
    if neighbours < 1 or deviations <= 0:
        raise ValueError(
            f"neighbours {neighbours}, deviations {deviations}: expected both to be positive"
        )
    points = _checked_cloud(points, rgb)
    if len(points) <= neighbours:
        return points, rgb
    try:
        from scipy.spatial import cKDTree  # of an extra
    except ModuleNotFoundError as error:
        raise DktError(f"clouds cannot be filtered: {advice(error) or error}") from error
    tree = cKDTree(points)
    means = np.empty(len(points))
    for start in range(0, len(points), _QUERY_POINTS):  # distances of all may be gigabytes
        part = slice(start, start + _QUERY_POINTS)
        distances, _ = tree.query(points[part], neighbours + 1)  # it is the nearest to itself
        means[part] = distances[:, 1:].mean(axis=1)
    kept = means <= means.mean() + deviations * means.std()
    return points[kept], None if rgb is None else rgb[kept]


def _checked_cloud(points: FloatArray, rgb: NDArray[np.uint8] | None) -> Float32Array:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points of shape {points.shape}: expected (N, 3)")
    if rgb is not None and rgb.shape != points.shape:
        raise ValueError(f"colours of shape {rgb.shape}: expected {points.shape}")
    return np.asarray(points, dtype=np.float32)
