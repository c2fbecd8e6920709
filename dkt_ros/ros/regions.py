"""The part of a picture that a request means. Knows its region of interest, its mask, and sizes."""

from __future__ import annotations

from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from dkt_ros.errors import DktError
from dkt_ros.ros.masks import Mask


def of_another_camera(mask: Header, picture: Header) -> str:
    """What is told of a mask whose frame_id is not the picture's; "" for one that has none."""
    if mask.frame_id in ("", picture.frame_id):
        return ""
    return (
        f"the mask has frame_id '{mask.frame_id}', the colour image '{picture.frame_id}': expected "
        "the mask of this camera's image, with the image's header; where it is, leave frame_id "
        "empty"
    )


def rows_and_columns(
    region: RegionOfInterest, mask: Mask | None, shape: tuple[int, ...]
) -> tuple[slice, slice]:
    """The region in an image of that (height, width); all of it for width and height 0.

    Raises DktError where the region is not inside, or the mask is of another size or marks nothing
    of the region.
    """
    height, width = shape
    if mask is not None and mask.shape != (height, width):
        raise DktError(
            f"mask is {mask.shape[1]}x{mask.shape[0]}, the colour image {width}x{height}: "
            "expected the same size"
        )
    place = slice(0, height), slice(0, width)
    if region.width or region.height:
        right, bottom = region.x_offset + region.width, region.y_offset + region.height
        if not region.width or not region.height or right > width or bottom > height:
            raise DktError(
                f"region is {region.width}x{region.height} at ({region.x_offset}, "
                f"{region.y_offset}), the image {width}x{height}: expected a region inside of it, "
                "or width and height 0 for all"
            )
        place = slice(region.y_offset, bottom), slice(region.x_offset, right)
    if mask is not None and not mask[place].any():
        where = " inside the region" if mask.any() else ""
        raise DktError(
            f"the mask marks no pixel{where}: expected other than 0 where the object is seen"
        )
    return place
