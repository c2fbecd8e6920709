"""The part of a picture that a request means. Knows its region of interest, its mask, and sizes."""

from __future__ import annotations

from sensor_msgs.msg import RegionOfInterest

from dkt_ros.errors import DktError
from dkt_ros.ros.masks import Mask


def check_mask(mask: Mask | None, shape: tuple[int, ...]) -> None:
    """Raises DktError where a mask is not of the colour image's (height, width)."""
    if mask is not None and mask.shape != tuple(shape):
        raise DktError(
            f"mask is {mask.shape[1]}x{mask.shape[0]}, the colour image {shape[1]}x{shape[0]}: "
            "expected the same size"
        )


def rows_and_columns(region: RegionOfInterest, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The region in an image of that (height, width); all of it for width and height 0.

    Raises DktError where the region is not inside.
    """
    height, width = shape
    if not region.width and not region.height:
        return slice(0, height), slice(0, width)
    right, bottom = region.x_offset + region.width, region.y_offset + region.height
    if not region.width or not region.height or right > width or bottom > height:
        raise DktError(
            f"region is {region.width}x{region.height} at ({region.x_offset}, {region.y_offset}), "
            f"the image {width}x{height}: expected a region inside of it, or width and height 0 "
            "for all"
        )
    return slice(region.y_offset, bottom), slice(region.x_offset, right)
