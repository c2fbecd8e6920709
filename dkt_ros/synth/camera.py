"""The camera's path and its matrices. Knows nothing of scenes or of Blender.

World: z up, the table at z = 0. Camera axes: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkt_ros.errors import DktError

Range = tuple[float, float]


@dataclass(frozen=True)
class PathOptions:
    """Ranges that paths are drawn from: degrees (step: degrees a frame) and metres.

    The defaults are the published data's. `period` is the length of the radius's sine in frames.
    """

    fov: Range = (40.0, 70.0)
    radius: Range = (0.5, 1.6)
    elevation: Range = (15.0, 60.0)
    step: Range = (1.0, 3.0)
    period: float = 60.0

    def __post_init__(self) -> None:
        limits = {"fov": (5, 150), "radius": (0.1, 10), "elevation": (1, 89), "step": (0, 180)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise DktError(
                    f"--{name} is {low:g} {high:g}, expected {least} <= MIN <= MAX <= {most}"
                )
        if not 1 <= self.period < np.inf:
            raise DktError(f"--period is {self.period:g} frames, expected 1 or more")


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
    period: float = 60.0

    def world_to_camera(self, frame: float) -> np.ndarray:
        """(4,4) at a frame number; fractions lie between frames."""
        phase = 2 * np.pi * frame / self.period
        radius = self.radius * (1 + self.radius_swing * np.sin(phase))
        elevation = self.elevation + self.elevation_swing * np.sin(1.3 * phase)
        azimuth = self.azimuth + self.step * frame
        level = np.cos(elevation)
        away = np.array(
            [level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], float
        )
        target = np.asarray(self.target, float)
        return look_at(target + radius * away, target)


@dataclass(frozen=True)
class Sway:
    """A sine in one of HandPath's numbers; period in frames, phase in radians."""

    number: str
    amplitude: float
    period: float
    phase: float


@dataclass(frozen=True)
class HandPath:
    """A camera in a hand or on a wrist: a place about `target` and sines about it.

    It never strays from that place, however long the clip. Metres, radians; elevation 90 degrees
    looks straight down; roll turns the picture about its axis.
    """

    target: tuple[float, float, float]
    radius: float
    elevation: float
    azimuth: float
    roll: float
    horizontal_fov: float
    sways: tuple[Sway, ...] = ()

    def world_to_camera(self, frame: float) -> np.ndarray:
        """(4,4) at a frame number; fractions lie between frames."""
        x, y, z = self.target
        now = {"x": x, "y": y, "z": z, "radius": self.radius, "elevation": self.elevation}
        now |= {"azimuth": self.azimuth, "roll": self.roll, "pan": 0.0, "tilt": 0.0}
        for sway in self.sways:
            turn = 2 * np.pi * frame / sway.period + sway.phase
            now[sway.number] += sway.amplitude * float(np.sin(turn))
        a, e = now["azimuth"], now["elevation"]
        away = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.array([-np.sin(a), np.cos(a), 0.0])
        rotation = np.stack([right, np.cross(-away, right), -away])
        rotation = _turned(now["roll"], now["pan"], now["tilt"]) @ rotation
        eye = np.array([now["x"], now["y"], now["z"]]) + now["radius"] * away
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = -rotation @ eye
        return pose


def _turned(roll: float, pan: float, tilt: float) -> np.ndarray:
    """(3,3): about the camera's own z, y and x."""
    (cr, sr), (cp, sp), (ct, st) = ((np.cos(v), np.sin(v)) for v in (roll, pan, tilt))
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
    return about_z @ about_y @ about_x


def eye_of(world_to_camera: np.ndarray) -> np.ndarray:
    """(3,) where the camera is."""
    return -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]


def sample_path(
    random: np.random.Generator, options: PathOptions, least_elevation: float
) -> CameraPath:
    """A path about a handful of objects at the origin, never flatter than `least_elevation`."""
    fov = random.uniform(*options.fov)
    # A narrow view needs distance for the objects to fit in.
    near = 0.35 / np.tan(np.radians(0.5 * fov))
    swing = random.uniform(0, 4)
    low, high = options.elevation
    swing = min(swing, 0.5 * (high - low))
    low = min(max(low + swing, np.degrees(least_elevation)), high - swing)
    return CameraPath(
        target=(
            random.uniform(-0.03, 0.03),
            random.uniform(-0.03, 0.03),
            random.uniform(0.0, 0.06),
        ),
        radius=float(np.clip(near * random.uniform(1.0, 1.5), *options.radius)),
        elevation=np.radians(random.uniform(low, high - swing)),
        azimuth=random.uniform(0, 2 * np.pi),
        step=np.radians(random.uniform(*options.step) * random.choice([-1, 1])),
        radius_swing=random.uniform(0, 0.08),
        elevation_swing=np.radians(swing),
        horizontal_fov=np.radians(fov),
        period=options.period,
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
