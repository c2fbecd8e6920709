"""ClearPose's metadata.mat: every frame's camera and its pose. Knows nothing of pictures."""

from __future__ import annotations

import struct
import threading
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dkt_ros.errors import DktError

_INTRINSICS = ("camera_intrinsics", "intrinsic_matrix")  # the README's name and the files'
_KEPT_SCENES = 8


@dataclass(frozen=True)
class SceneMetadata:
    """One scene's cameras; rows: a frame's key to its row in the arrays.

    camera_matrix: (N,3,3) pixels. world_to_camera: (N,4,4). units_per_metre: (N,) of its depth.
    """

    rows: dict[str, int]
    camera_matrix: np.ndarray
    world_to_camera: np.ndarray
    units_per_metre: np.ndarray


def load_metadata(path: Path) -> SceneMetadata:
    """Reads a scene's file; the latest few are kept. Raises DktError."""
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise DktError(
            f"{path}: cannot be read ({error.strerror or error}); its frames have no camera"
        ) from error
    with _lock:  # a scene's file takes seconds: threads wait for one of them to read it
        return _load(path, modified)


_lock = threading.Lock()


@lru_cache(maxsize=_KEPT_SCENES)
def _load(path: Path, _modified: int) -> SceneMetadata:
    rows: dict[str, int] = {}
    cameras, poses, scales = [], [], []
    for key, entry in _entries(path).items():
        camera = _camera(entry)
        if camera is not None:
            rows[key] = len(rows)
            cameras.append(camera[0])
            poses.append(camera[1])
            scales.append(camera[2])
    if not rows:
        raise DktError(
            f"{path}: has no frame with camera_intrinsics, rotation_translation_matrix and "
            "factor_depth; its frames have no camera"
        )
    return SceneMetadata(rows, np.stack(cameras), np.stack(poses), np.array(scales))


def _entries(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (
        MatReadError,
        NotImplementedError,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        MemoryError,
        struct.error,
        zlib.error,
    ) as error:
        raise DktError(
            f"{path}: not a readable MATLAB file ({error}); its frames have no camera"
        ) from error
    return {key: entry for key, entry in content.items() if key.isdigit()}


def _camera(entry: Any) -> tuple[np.ndarray, np.ndarray, float] | None:
    """K, world to camera and the depth scale of one frame, None where they are not usable."""
    try:
        name = next(name for name in _INTRINSICS if name in entry.dtype.names)
        k = np.array(entry[name][0, 0], np.float64)
        rt = np.array(entry["rotation_translation_matrix"][0, 0], np.float64)
        scale = float(entry["factor_depth"][0, 0].item())
    except (StopIteration, AttributeError, TypeError, ValueError, IndexError, KeyError):
        return None
    if k.shape != (3, 3) or rt.shape != (3, 4) or not scale > 0 or not np.isfinite(scale):
        return None
    rotation = rt[:, :3]
    if not (
        np.isfinite(k).all()
        and k[0, 0] > 0
        and k[1, 1] > 0
        and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-2)
    ):
        return None
    # The matrix places the camera in the world: the tool that wrote it multiplies objects' poses
    # by its inverse to bring them into the camera.
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = rotation.T
    world_to_camera[:3, 3] = -rotation.T @ rt[:, 3]
    return k, world_to_camera, scale
