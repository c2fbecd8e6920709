"""Who is in whose way: the camera, objects, the table, walls.

Knows points and poses. Knows nothing of what is put there, or why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from dkt_ros.synth.camera import CameraPath, HandPath, eye_of
from dkt_ros.synth.lathe import Mesh
from dkt_ros.synth.scene import Item, Scene, about_z, placed

WATCHED = 48
"""Frames of a path that are looked at for what the camera must not run into."""
_CLEAR = 0.07
"""Metres that the camera keeps from all objects."""
_ASPECT, _MOST_HIDDEN = 0.6, 0.4


def frame_of(x: np.ndarray, z: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """(4,4) with z along one vector and x near another."""
    z = z / np.linalg.norm(z)
    y = np.cross(z, x)
    y /= np.linalg.norm(y)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(y, z), y, z], axis=1)
    pose[:3, 3] = origin
    return pose


@lru_cache(maxsize=1)
def eyes_along(path: CameraPath | HandPath) -> np.ndarray:
    """(WATCHED, 3): where the camera is, frame by frame; not to be written to."""
    eyes = np.array([eye_of(path.world_to_camera(frame)) for frame in range(WATCHED)])
    eyes.flags.writeable = False
    return eyes


def least_distance(some: np.ndarray, others: np.ndarray) -> float:
    """Least distance between two sets of points."""
    x, y, z = others.T.copy()  # each on its own: sums over rows of three are slow
    return min(
        float(np.sqrt(((px - x) ** 2 + (py - y) ** 2 + (pz - z) ** 2).min()))
        for px, py, pz in (
            part.T[..., None] for part in np.array_split(some, max(1, len(some) // 64))
        )
    )


def cleared(path: CameraPath | HandPath, points: np.ndarray) -> CameraPath | HandPath:
    """The path farther out until the camera keeps clear of all points and of the table."""
    for _ in range(30):
        eyes = eyes_along(path)
        if least_distance(eyes, points) > _CLEAR and eyes[:, 2].min() > 0.04:
            break
        path = replace(path, radius=1.1 * path.radius)
        if isinstance(path, HandPath) and eyes[:, 2].min() <= 0.04:
            path = replace(path, elevation=path.elevation + np.radians(3))
    return path


def fits(mesh: Mesh, pose: np.ndarray, scene: Scene, points: np.ndarray, gap: float) -> bool:
    """Whether a mesh keeps clear of the objects, the table, the near walls and the camera.

    gap: least distance in metres from the objects; below 0 they are not looked at.
    """
    vertices = placed(mesh[0], pose)
    if vertices[:, 2].min() < 0.002 or least_distance(eyes_along(scene.path), vertices[::5]) < 0.1:
        return False
    for panel in scene.panels:
        local = placed(vertices - panel.centre, about_z(-panel.turn))
        if (np.abs(local) < np.array(panel.half)).all(axis=1).any():
            return False
    if gap < 0:
        return True
    near = points[(np.abs(points - vertices.mean(axis=0)) < np.ptp(vertices, axis=0)).all(axis=1)]
    return not len(near) or least_distance(vertices[::5], near) > gap


def hides_much(meshes: Sequence[Mesh], pose: np.ndarray, scene: Scene) -> bool:
    """Whether meshes cover too much of a wide picture, by their hull in a few frames."""
    points = np.vstack([placed(vertices, pose) for vertices, _ in meshes])
    half = np.tan(0.5 * scene.path.horizontal_fov)
    for frame in range(0, WATCHED, 12):
        seen = placed(points, scene.path.world_to_camera(frame))
        seen = seen[seen[:, 2] > 0.02]
        flat = np.clip(seen[:, :2] / (half * seen[:, 2:]), [-1, -_ASPECT], [1, _ASPECT])
        if len(flat) > 2:
            area = cv2.contourArea(cv2.convexHull(flat.astype(np.float32)))
            if area > _MOST_HIDDEN * 4 * _ASPECT:
                return True
    return False


def outside_all(mesh: Mesh, pose: np.ndarray, items: Sequence[Item]) -> bool:
    """Whether no vertex lies inside an object's outline."""
    vertices = placed(mesh[0], pose)
    for item in items:
        local = placed(vertices, np.linalg.inv(item.pose))
        inside = (local[:, 2] > 0) & (local[:, 2] < item.shape.height)
        if (np.hypot(local[inside, 0], local[inside, 1]) < item.shape.radius + 5e-4).any():
            return False
    return True


def clear_along(scene: Scene, vertices: np.ndarray, pose: np.ndarray, points: np.ndarray) -> bool:
    """Whether something fixed to the camera stays clear of all points and of the table."""
    held = placed(vertices, pose)
    for frame in range(0, WATCHED, 3):
        back = np.linalg.inv(scene.path.world_to_camera(frame))
        now = placed(held, back)
        if now[:, 2].min() < 0.005 or least_distance(now, points) < 0.004:
            return False
    return True
