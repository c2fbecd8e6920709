"""Colour and depth of an image message, raw or compressed. Knows how the two are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from dkt_ros.geometry import METRES_PER_MILLIMETRE
from dkt_ros.messages.compressed_images import Size, compressed_to_depth, compressed_to_rgb
from dkt_ros.messages.fields import CompressedImage, Image
from dkt_ros.messages.images import (
    BitsOf,
    DepthImage,
    RgbImage,
    bits_used,
    image_to_depth,
    image_to_rgb,
)

if TYPE_CHECKING:
    from typing_extensions import TypeIs

ImageMessage: TypeAlias = Image | CompressedImage


def is_raw(message: ImageMessage) -> TypeIs[Image]:
    """Whether it is a sensor_msgs/Image."""
    return hasattr(message, "encoding")


def rgb_of(message: Any, size: Size | None = None, bits_of: BitsOf = bits_used) -> RgbImage:
    """See image_to_rgb and compressed_to_rgb; size: that of a compressed one."""
    if is_raw(message):
        return image_to_rgb(message, bits_of)
    return compressed_to_rgb(message, size, bits_of)


def depth_of(
    message: Any, unit_m: float = METRES_PER_MILLIMETRE, size: Size | None = None
) -> DepthImage:
    """See image_to_depth and compressed_to_depth; size: that of a compressed one."""
    if is_raw(message):
        return image_to_depth(message, unit_m)
    return compressed_to_depth(message, unit_m, size)
