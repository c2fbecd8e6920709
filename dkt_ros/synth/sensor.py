"""Depth of an active stereo camera from its infrared pair: matching, registration to colour.

Knows a D435's geometry and OpenCV's matcher. Knows nothing of how the pair was rendered.

The imagers sit 25 mm left and right of the colour camera, parallel to it. Depth comes out as the
real driver gives it: planar, registered to colour, whole millimetres. Where a pixel's surface is
glass, the pair shows what lies behind or mirrors, so the matcher finds nothing or too far a depth:
nothing here knows of materials.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_STEPS_PER_PIXEL = 16
"""StereoSGBM returns disparities in sixteenths of a pixel."""
_LENS_BLUR = 0.9
_WINDOW = 15
_REFINED = 9
"""Window in pixels of the refinement."""
_SAME_SURFACE = 0.02
"""Relative depth within which two pixels see one surface."""
_FAINT = 4.0
"""Contrast in grey levels below which a window counts as plain."""


@dataclass(frozen=True)
class StereoSensor:
    """What the sensor is, and how it matches.

    Baseline and range in metres, focal length of the infrared pictures in pixels, noise of a
    pixel in grey levels (standard deviation), whether it projects dots; the rest are StereoSGBM's
    parameters.
    """

    baseline: float = 0.05
    focal: float = 400.0
    nearest: float = 0.3
    farthest: float = 4.0
    noise: float = 2.0
    block: int = 9
    uniqueness: int = 50
    speckle_size: int = 60
    speckle_range: int = 1
    projector: bool = True

    @property
    def disparities(self) -> int:
        """Search range in pixels, a multiple of 16 as the matcher wants it."""
        return int(np.ceil(self.focal * self.baseline / self.nearest / 16)) * 16

    def infrared_size(self, colour_matrix: np.ndarray, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels of the infrared pictures.

        They cover the colour camera's view beyond `nearest`, with room for the search at the left.
        """
        half_width = 0.5 * width / colour_matrix[0, 0] * self.focal
        half_height = 0.5 * height / colour_matrix[1, 1] * self.focal
        wide = 2 * (half_width + self.disparities / 2) + self.disparities + 2 * self.block
        return 2 * int(np.ceil(wide / 2)), 2 * int(np.ceil(half_height)) + 2 * self.block


def stereo_poses(world_to_camera: np.ndarray, baseline: float) -> tuple[np.ndarray, np.ndarray]:
    """World to left and to right imager, (4,4) each, for a colour camera between them."""
    left, right = world_to_camera.copy(), world_to_camera.copy()
    left[0, 3] += 0.5 * baseline
    right[0, 3] -= 0.5 * baseline
    return left, right


def level(picture: np.ndarray) -> np.ndarray:
    """(H,W) float32 with local brightness and contrast evened out, about 128, 0 to 255.

    As a census matcher sees it.
    """
    value = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _LENS_BLUR)
    mean = cv2.blur(value, (_WINDOW, _WINDOW))
    variance = cv2.blur(value * value, (_WINDOW, _WINDOW)) - mean * mean
    contrast = np.sqrt(np.maximum(variance, 0.0)) + _FAINT
    return np.clip(128 + 40 * (value - mean) / contrast, 0, 255)


def match(left: np.ndarray, right: np.ndarray, sensor: StereoSensor) -> np.ndarray:
    """(H,W) float32 disparity in pixels of the left picture, NaN where nothing matched.

    left, right: (H,W) uint8, rectified.
    """
    left, right = level(left), level(right)
    matcher = cv2.StereoSGBM.create(
        minDisparity=0,
        numDisparities=sensor.disparities,
        blockSize=sensor.block,
        P1=8 * sensor.block**2,
        P2=32 * sensor.block**2,
        disp12MaxDiff=1,
        preFilterCap=63,
        uniquenessRatio=sensor.uniqueness,
        speckleWindowSize=sensor.speckle_size,
        speckleRange=sensor.speckle_range,
        mode=cv2.STEREO_SGBM_MODE_SGBM,
    )
    coarse = matcher.compute(left.astype(np.uint8), right.astype(np.uint8))
    disparity = refine(left, right, coarse.astype(np.float32) / _STEPS_PER_PIXEL)
    least = sensor.focal * sensor.baseline / sensor.farthest
    disparity[disparity < least] = np.nan
    return disparity


def refine(left: np.ndarray, right: np.ndarray, disparity: np.ndarray) -> np.ndarray:
    """Disparities by least squares on the brightness around each pixel.

    StereoSGBM's parabola leans towards whole pixels; this (Lucas and Kanade, 1981, along rows)
    does not. No disparity moves by more than a pixel; negative ones mean "no match" and are kept.
    (H,W) float32 each.
    """
    columns = np.broadcast_to(np.arange(left.shape[1], dtype=np.float32), left.shape)
    known = disparity > 0
    found = np.where(known, disparity, 0).astype(np.float32)
    slopes = np.gradient(right, axis=1).astype(np.float32)
    # Each pixel's own error would survive a step that is a mean over its window.
    found = _smooth(found, known)
    warped = _along_rows(right, columns - found)
    slope = np.where(known, _along_rows(slopes, columns - found), 0)
    above = cv2.blur(slope * (warped - left), (_REFINED, _REFINED))
    below = cv2.blur(slope * slope, (_REFINED, _REFINED))
    # The right picture at x - d grows with x, hence falls with d, by its slope.
    step = above / np.maximum(below, 1e-3)
    moved = found + np.clip(step, -0.5, 0.5)
    return np.where(known, moved, disparity).astype(np.float32)


def _smooth(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Means over windows where they are on the same surface."""
    window = (_REFINED, _REFINED)
    count = cv2.blur(known.astype(np.float32), window)
    mean = cv2.blur(np.where(known, disparity, 0), window) / np.maximum(count, 1e-3)
    return np.where(known & (np.abs(mean - disparity) < 0.5), mean, disparity).astype(np.float32)


def _along_rows(picture: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Catmull-Rom samples of each row at columns x; cv2.remap knows but 32 steps a pixel."""
    base = np.floor(x)
    t = x - base
    last = picture.shape[1] - 1
    at = base.astype(np.intp)
    a, b, c, d = (
        np.take_along_axis(picture, np.clip(at + k, 0, last), axis=1) for k in (-1, 0, 1, 2)
    )
    cubic = 2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)
    return (b + 0.5 * t * (c - a + t * cubic)).astype(np.float32)


def register(
    disparity: np.ndarray, sensor: StereoSensor, colour_matrix: np.ndarray, width: int, height: int
) -> np.ndarray:
    """Left imager's disparity to (height,width) float32 metres in the colour picture.

    Every depth pixel's square is drawn into the colour picture and the nearest surface wins, as
    the camera's driver does it; where several pixels of that surface fall on one colour pixel,
    their mean is taken (their nearest would lean towards the camera by the noise). NaN where
    nothing falls. Whole millimetres.
    """
    rows, columns = np.nonzero(np.isfinite(disparity))
    z = sensor.focal * sensor.baseline / disparity[rows, columns]
    centre_x, centre_y = 0.5 * (disparity.shape[1] - 1), 0.5 * (disparity.shape[0] - 1)
    corners = []
    for step in (-0.5, 0.4999):
        x = (columns + step - centre_x) / sensor.focal * z - 0.5 * sensor.baseline
        y = (rows + step - centre_y) / sensor.focal * z
        u = np.rint(colour_matrix[0, 0] * x / z + colour_matrix[0, 2]).astype(int)
        v = np.rint(colour_matrix[1, 1] * y / z + colour_matrix[1, 2]).astype(int)
        corners.append((u, v))
    (u0, v0), (u1, v1) = corners
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    # A square spans few colour pixels; one pass over the pixels per offset inside it.
    for dv in range(int((v1 - v0).max(initial=0)) + 1):
        for du in range(int((u1 - u0).max(initial=0)) + 1):
            u, v = u0 + du, v0 + dv
            inside = (u <= u1) & (v <= v1) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            drawn.append((v[inside] * width + u[inside], z[inside]))
    places = np.concatenate([place for place, _ in drawn])
    depths = np.concatenate([depth for _, depth in drawn])
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, places, depths)
    same = depths < (1 + _SAME_SURFACE) * nearest[places]
    count = np.bincount(places[same], minlength=height * width)
    total = np.bincount(places[same], depths[same], minlength=height * width)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(height, width)
    return (np.rint(mean * 1000.0) / 1000.0).astype(np.float32)


def sense(
    left: np.ndarray,
    right: np.ndarray,
    sensor: StereoSensor,
    colour_matrix: np.ndarray,
    width: int,
    height: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Raw depth (height,width) float32 metres, NaN where there is none.

    left, right: (H,W) float, noiseless, in grey levels 0 to 255.
    """
    noisy = [picture + random.normal(0, sensor.noise, picture.shape) for picture in (left, right)]
    first, second = (np.rint(np.clip(picture, 0, 255)).astype(np.uint8) for picture in noisy)
    return register(match(first, second, sensor), sensor, colour_matrix, width, height)
