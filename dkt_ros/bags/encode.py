"""Pictures, depth and intrinsics as ROS messages for a bag, without a ROS installation.

Knows the messages' fields and the compressions of image_transport. Knows nothing of topics, files
or time other than the stamp that it is given.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import cv2
import numpy as np
from rosbags.typesys.store import Typestore

from dkt_ros.errors import DktError
from dkt_ros.formats.pictures import encoded
from dkt_ros.frames import NANOSECONDS_PER_SECOND
from dkt_ros.geometry import Intrinsics, known_depth, to_millimetres

COLOR_ENCODINGS = ("jpeg", "raw")
DEPTH_ENCODINGS = ("png", "16UC1", "32FC1")

# The highest level takes ten times as long for a tenth less.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 6)

# compressed_depth_image_transport's header before the PNG: int32 format, two float32 quantisation
# parameters that 16-bit millimetres do not use.
_COMPRESSED_DEPTH_HEADER = bytes(12)


@dataclass(frozen=True)
class MessageEncoder:
    """Makes messages of `typestore`'s types with one frame_id.

    color: "jpeg" (CompressedImage) or "raw" (Image, rgb8).
    depth: "png" (CompressedImage, compressedDepth of 16UC1), "16UC1" or "32FC1" (Image).
    jpeg_quality: 1 to 100.
    Raises DktError where an encoding is unknown.
    """

    typestore: Typestore
    frame_id: str
    color: str = "jpeg"
    depth: str = "png"
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        for name, value, known in (
            ("color encoding", self.color, COLOR_ENCODINGS),
            ("depth encoding", self.depth, DEPTH_ENCODINGS),
        ):
            if value not in known:
                raise DktError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise DktError(f"jpeg_quality is {self.jpeg_quality}, expected 1 to 100")

    def color_image(self, rgb: np.ndarray, stamp_ns: int) -> object:
        """rgb: (H,W,3) uint8."""
        if self.color == "raw":
            return self.image(rgb, "rgb8", stamp_ns)
        jpeg = encoded(".jpg", rgb, cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality)
        return self._compressed(jpeg, "rgb8; jpeg compressed bgr8", stamp_ns)

    def depth_image(self, depth: np.ndarray, stamp_ns: int) -> object:
        """depth: (H,W) float metres; NaN, inf and what is not positive mean unknown.

        16-bit encodings hold whole millimetres, 0 for unknown and for what exceeds 65.535 m.
        """
        if self.depth == "32FC1":
            return self.image(known_depth(depth), "32FC1", stamp_ns)
        millimetres = to_millimetres(depth)
        if self.depth == "16UC1":
            return self.image(millimetres, "16UC1", stamp_ns)
        data = _COMPRESSED_DEPTH_HEADER + encoded(".png", millimetres, *_PNG_OPTIONS)
        return self._compressed(data, "16UC1; compressedDepth png", stamp_ns)

    def mask_image(self, mask: np.ndarray, stamp_ns: int) -> object:
        """mask: (H,W) uint8 of material classes; a PNG, or mono8 where colour is raw."""
        if self.color == "raw":
            return self.image(mask, "mono8", stamp_ns)
        png = encoded(".png", mask, *_PNG_OPTIONS)
        return self._compressed(png, "mono8; png compressed mono8", stamp_ns)

    def camera_info(self, intrinsics: Intrinsics, stamp_ns: int) -> object:
        """An undistorted pinhole camera."""
        fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
        return self._make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp_ns),
            height=intrinsics.height,
            width=intrinsics.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
            r=np.eye(3).ravel(),
            p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
            binning_x=0,
            binning_y=0,
            roi=self._make(
                "sensor_msgs/msg/RegionOfInterest",
                x_offset=0,
                y_offset=0,
                height=0,
                width=0,
                do_rectify=False,
            ),
        )

    def image(self, pixels: np.ndarray, encoding: str, stamp_ns: int) -> object:
        """An Image of these pixels as they are."""
        pixels = np.ascontiguousarray(pixels)
        return self._make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=int(sys.byteorder == "big"),
            step=pixels.strides[0],
            data=pixels.view(np.uint8).ravel(),
        )

    def _compressed(self, data: bytes, file_format: str, stamp_ns: int) -> object:
        return self._make(
            "sensor_msgs/msg/CompressedImage",
            header=self.header(stamp_ns),
            format=file_format,
            data=np.frombuffer(data, np.uint8),
        )

    def header(self, stamp_ns: int) -> object:
        """Stamp and frame_id."""
        seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS_PER_SECOND)
        stamp = self._make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._make("std_msgs/msg/Header", stamp=stamp, frame_id=self.frame_id)

    def _make(self, msgtype: str, **fields: object) -> object:
        return self.typestore.types[msgtype](**fields)  # type: ignore[arg-type]
