"""The camera's path and its matrices. Knows nothing of scenes or of Blender.

World: z up, the table at z = 0. Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CameraPath:
    """A circle about `target` with a sine in radius and elevation. Metres, radians."""

    target: tuple[float, float, float]
    radius: float
    elevation: float
    azimuth: float
    step: float
    radius_swing: float
    elevation_swing: float
    horizontal_fov: float

    def world_to_camera(self, frame: float) -> np.ndarray:
        """(4,4) at a frame number; fractions lie between frames."""
        phase = 2 * np.pi * frame / 60.0
        radius = self.radius * (1 + self.radius_swing * np.sin(phase))
        elevation = self.elevation + self.elevation_swing * np.sin(1.3 * phase)
        azimuth = self.azimuth + self.step * frame
        level = np.cos(elevation)
        away = np.array(
            [level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], float
        )
        target = np.asarray(self.target, float)
        return look_at(target + radius * away, target)


def sample_path(random: np.random.Generator) -> CameraPath:
    """A path as the published data have it, for a handful of objects about the origin."""
    fov = random.uniform(40, 70)
    # A narrow view needs distance for the objects to fit in.
    near = 0.5 + 0.3 * (70 - fov) / 30
    return CameraPath(
        target=(
            random.uniform(-0.03, 0.03),
            random.uniform(-0.03, 0.03),
            random.uniform(0.0, 0.06),
        ),
        radius=random.uniform(near, min(near * 1.3, 1.2)),
        elevation=np.radians(random.uniform(20, 55)),
        azimuth=random.uniform(0, 2 * np.pi),
        step=np.radians(random.uniform(1, 3) * random.choice([-1, 1])),
        radius_swing=random.uniform(0, 0.08),
        elevation_swing=np.radians(random.uniform(0, 4)),
        horizontal_fov=np.radians(fov),
    )


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4,4) world to camera for an eye that looks at a target with the horizon level."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ eye
    return pose


def camera_matrix(horizontal_fov: float, width: int, height: int) -> np.ndarray:
    """(3,3) in square pixels, the axis through the picture's middle.

    (0, 0) is the centre of the first pixel.
    """
    focal = 0.5 * width / np.tan(0.5 * horizontal_fov)
    return np.array(
        [[focal, 0, 0.5 * (width - 1)], [0, focal, 0.5 * (height - 1)], [0, 0, 1]], float
    )
