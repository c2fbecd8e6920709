"""Whether a calibration is like any camera's. Knows pinhole cameras; nothing of messages."""

from __future__ import annotations

from dkt_ros.geometry import Intrinsics

FOCAL_RANGE = (0.2, 5.0)
"""Focal length over the image's longer side of cameras that people use: 136 down to 11 degrees."""
CENTRE_TOLERANCE, OF_ANOTHER_SIZE = 1.3, 1.12
"""Centres farther off than the first, by about one factor (the second) along both sides, are of
images of another size; those of images that were cut out are off by two."""
CORNER = 0.05
"""Centres nearer than this share of both sides to the first pixel are no pixels, or none."""
USUAL_SIZES = (
    *((320, 180), (424, 240), (480, 270), (640, 360), (848, 480), (960, 540), (1280, 720)),
    *((1920, 1080), (2208, 1242), (3840, 2160), (320, 240), (640, 480), (800, 600), (1024, 768)),
    *((1280, 960), (1440, 1080), (1600, 1200), (2048, 1536), (640, 400), (1280, 800), (1920, 1200)),
)
"""Of cameras' images, width and height."""
USUAL_CENTRE = 0.05
"""A centre nearer than this share to that of such a size is one of its images."""
TURNED = 0.1
"""A centre nearer than this share to that of the image turned by a quarter is that one's."""


def unlikely(camera: Intrinsics) -> str:
    """What no camera's calibration is like, and what to do; "" where it is like one."""
    found = unlike_any(camera)
    return found and (
        f"color/camera_info says {found}. Points will lie in wrong places; mend the calibration "
        "that the driver loads."
    )


def unlike_any(camera: Intrinsics) -> str:
    """Its numbers and what was expected in their place; "" where they are like a camera's."""
    expected = _expected(camera)
    return expected and (
        f"fx={camera.fx:g} fy={camera.fy:g} cx={camera.cx:g} cy={camera.cy:g} for images of "
        f"{camera.width}x{camera.height}: expected {expected}"
    )


def _expected(camera: Intrinsics) -> str:
    size = camera.width, camera.height
    # The size of the images that a calibration was made for.
    twice = 2.0 * camera.cx, 2.0 * camera.cy
    if all(0 <= a / b < 2.0 * CORNER for a, b in zip(twice, size, strict=True)):
        return "a centre near the image's, in pixels"
    if made_for := _made_for(size, twice):
        return f"a centre near the image's. It seems to be a calibration for {made_for}"
    longer, (low, high) = max(size), FOCAL_RANGE
    is_long = all(low <= focal / longer <= high for focal in (camera.fx, camera.fy))
    is_square = 0.5 < camera.fx / camera.fy < 2.0
    is_inside = 0 <= camera.cx <= camera.width and 0 <= camera.cy <= camera.height
    if is_long and is_square and is_inside:
        return ""
    return (
        f"focal lengths of {low * longer:.0f} to {high * longer:.0f} pixels and a centre inside "
        "the image"
    )


def _made_for(size: tuple[int, int], twice: tuple[float, float]) -> str:
    """Which images a calibration is of, where it is of others. twice: its centre."""
    scale = [a / b for a, b in zip(twice, size, strict=True)]
    if max(scale) < OF_ANOTHER_SIZE * min(scale) and not _is_near(scale[0]):
        return "images of another size"
    turned = [a / b for a, b in zip(twice, size[::-1], strict=True)]
    if all(abs(one - 1.0) < TURNED for one in turned) and not _is_near(size[0] / size[1]):
        return "images that were turned by a quarter"
    for usual in USUAL_SIZES if not all(map(_is_near, scale)) else ():
        if all(abs(a / b - 1.0) < USUAL_CENTRE for a, b in zip(twice, usual, strict=True)):
            return f"images of {usual[0]}x{usual[1]}, unless these were cut out of such"
    return ""


def _is_near(ratio: float) -> bool:
    return 1.0 / CENTRE_TOLERANCE < ratio < CENTRE_TOLERANCE
