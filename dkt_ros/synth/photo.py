"""What a camera makes of light: exposure, white balance, blur, noise, its own processing.

Knows linear pictures and how their pixels move. Knows nothing of Blender or of scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_BLUR_STEPS = 6
_SKY_DISTANCE = 10.0


@dataclass(frozen=True)
class Photo:
    """One clip's camera.

    stops: exposure off the automatic one, its slow drift in stops and that drift's period in
    frames; gains: white balance of red and blue; shutter: share of a frame's time it is open;
    defocus, halo: standard deviations in pixels of the lens's blur and of the sharpening; noise:
    standard deviation at white, linear (shot), and in the dark (read); jpeg: quality, 0 for none.
    """

    stops: float = 0.0
    drift: float = 0.0
    drift_period: float = 40.0
    gains: tuple[float, float] = (1.0, 1.0)
    saturation: float = 1.0
    contrast: float = 1.0
    vignette: float = 0.0
    shutter: float = 0.0
    defocus: float = 0.0
    sharpening: float = 0.0
    halo: float = 1.0
    shot_noise: float = 0.0
    read_noise: float = 0.0
    jpeg: int = 0


def exposure(linear: np.ndarray, brightness: float) -> float:
    """The factor that a camera's automatic exposure would choose for a linear picture.

    It brings the 60th percentile of luminance to `brightness`.
    """
    return brightness / max(float(np.percentile(linear @ _LUMINANCE, 60)), 1e-6)


def develop(linear: np.ndarray) -> np.ndarray:
    """Linear (H,W,3) to 8-bit sRGB (IEC 61966-2-1) with a soft shoulder above 0.8."""
    value = np.maximum(linear, 0.0)
    over = np.maximum(value - 0.8, 0.0)
    value = np.where(value > 0.8, 0.8 + 0.2 * (1 - np.exp(-over / 0.2)), value)
    curve = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.rint(np.clip(curve, 0, 1) * 255).astype(np.uint8)


def take(
    linear: np.ndarray,
    photo: Photo,
    motion: np.ndarray,
    frame: int,
    random: np.random.Generator,
) -> np.ndarray:
    """(H,W,3) linear, at the automatic exposure, as this camera's (H,W,3) uint8.

    motion: (H,W,2) pixels that each pixel's surface moves in a frame's time.
    """
    height, width = linear.shape[:2]
    value = smear(linear.astype(np.float32), photo.shutter * motion)
    if photo.defocus > 0:
        value = cv2.GaussianBlur(value, (0, 0), photo.defocus)
    y, x = np.mgrid[:height, :width]
    square = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) / 0.5
    value *= (1 - photo.vignette * square).astype(np.float32)[..., None]
    drift = photo.drift * np.sin(2 * np.pi * frame / photo.drift_period)
    value *= 2.0 ** (photo.stops + drift)
    value *= np.array([photo.gains[0], 1.0, photo.gains[1]], np.float32)
    deviation = np.sqrt(photo.shot_noise**2 * np.maximum(value, 0) + photo.read_noise**2)
    value += deviation * random.normal(0, 1, value.shape)
    picture = develop(value).astype(np.float32)
    if photo.sharpening > 0:
        picture += photo.sharpening * (picture - cv2.GaussianBlur(picture, (0, 0), photo.halo))
    grey = (picture @ _LUMINANCE)[..., None]
    picture = grey + photo.saturation * (picture - grey)
    picture = 128 + photo.contrast * (picture - 128)
    done = np.rint(np.clip(picture, 0, 255)).astype(np.uint8)
    if photo.jpeg:
        _, code = cv2.imencode(".jpg", done[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, photo.jpeg])
        done = np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])
    return done


def smear(picture: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """(H,W,C) float32: the mean along each pixel's (H,W,2) motion, centred on the pixel."""
    if np.abs(motion).max(initial=0.0) < 0.25:
        return picture.copy()
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    total = np.zeros_like(picture)
    for share in np.linspace(-0.5, 0.5, _BLUR_STEPS):
        x = (columns + share * motion[..., 0]).astype(np.float32)
        y = (rows + share * motion[..., 1]).astype(np.float32)
        total += cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return total / _BLUR_STEPS


def motion_between(
    depth: np.ndarray, camera_matrix: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """(H,W,2) float32: where the surfaces seen at pose `before` have moved to at `after`.

    depth: (H,W) planar metres, NaN far away. Poses: (4,4) world to camera.
    """
    z = np.where(np.isfinite(depth), depth, _SKY_DISTANCE)
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    fx, fy, cx, cy = camera_matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    points = np.stack([(u - cx) / fx * z, (v - cy) / fy * z, z], axis=-1)
    step = after @ np.linalg.inv(before)
    moved = points @ step[:3, :3].T + step[:3, 3]
    ahead = np.maximum(moved[..., 2], 0.02)
    there = np.stack([fx * moved[..., 0] / ahead + cx, fy * moved[..., 1] / ahead + cy], axis=-1)
    motion = there - np.stack([u, v], axis=-1)
    return np.clip(motion, -0.2 * depth.shape[1], 0.2 * depth.shape[1]).astype(np.float32)
