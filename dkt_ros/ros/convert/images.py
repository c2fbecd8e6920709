"""numpy -> sensor_msgs/Image. The way back is messages/images.py's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dkt_ros.geometry import to_millimetres
from dkt_ros.messages.images import DepthImage, RgbImage


def depth_to_image(depth: DepthImage, header: Header) -> Image:
    """(H, W) float32 metres, NaN = unknown -> 32FC1 image."""
    return _image(np.ascontiguousarray(depth, dtype="<f4"), "32FC1", header)


def depth_to_millimetres(depth: DepthImage, header: Header) -> Image:
    """(H, W) float32 metres, NaN = unknown -> 16UC1 image, see to_millimetres."""
    return _image(to_millimetres(depth).astype("<u2", copy=False), "16UC1", header)


def normals_to_image(normals: npt.NDArray[np.float32], header: Header) -> Image:
    """(H, W, 3) float32 unit vectors, NaN = unknown -> 32FC3 image."""
    return _image(np.ascontiguousarray(normals, dtype="<f4"), "32FC3", header)


def rgb_to_image(rgb: RgbImage, header: Header) -> Image:
    """(H, W, 3) uint8 RGB -> rgb8 image."""
    return _image(np.ascontiguousarray(rgb), "rgb8", header)


def mask_to_image(mask: npt.NDArray[np.uint8], header: Header) -> Image:
    """(H, W) uint8 -> mono8 image."""
    return _image(np.ascontiguousarray(mask), "mono8", header)


def _image(values: npt.NDArray[Any], encoding: str, header: Header) -> Image:
    message = Image(
        header=header,
        height=values.shape[0],
        width=values.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=values.strides[0],
    )
    # Into the message's own array: assigning copies once more, or looks at every element.
    message.data.frombytes(values.data.cast("B"))
    return message
