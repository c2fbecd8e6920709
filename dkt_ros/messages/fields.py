"""Stamps and camera calibration of ROS messages, as plain values.

Messages are whatever has the fields: rclpy's own, or those read from a bag without ROS.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dkt_ros.errors import DktError
from dkt_ros.frames import NANOSECONDS_PER_SECOND
from dkt_ros.geometry import Intrinsics


class Image(Protocol):
    """sensor_msgs/Image."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: Any
    step: int
    data: Any


class CompressedImage(Protocol):
    """sensor_msgs/CompressedImage."""

    header: Any
    format: str
    data: Any


class CameraInfo(Protocol):
    """sensor_msgs/CameraInfo."""

    header: Any
    height: int
    width: int
    distortion_model: str
    d: Any
    k: Any
    r: Any
    p: Any
    binning_x: int
    binning_y: int
    roi: Any


class MessageError(DktError):
    """A ROS message that cannot be used; the text says what was found, expected, and what to do.

    `cause` is a short constant name under which diagnostics count such messages.
    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


HowToSet = Callable[[bool], str]
"""In words, how whoever reads them says whether images are rectified."""


def as_parameter(rectified: bool) -> str:
    """Of a node."""
    return f"set rectified to {str(rectified).lower()}"


def as_option(rectified: bool) -> str:
    """Of a command."""
    return "add --rectified" if rectified else "omit --rectified"


def stamp_to_ns(stamp: Any) -> int:
    """A stamp in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS_PER_SECOND + int(stamp.nanosec)


def camera_info_to_intrinsics(
    info: CameraInfo, rectified: bool, how_to_set: HowToSet = as_parameter
) -> Intrinsics:
    """The pinhole camera of the images that `info` comes with, in their own pixels.

    `rectified` tells whether those images are rectified: then the left 3x3 of P holds, else K.
    Binning and region of interest, which K and P leave out, are applied. Distortion is not.

    Raises MessageError when the camera is not calibrated or the numbers cannot be a camera's.
    """
    matrices = {"P": _entries(info.p, 4), "K": _entries(info.k, 3)}
    name, other = ("P", "K") if rectified else ("K", "P")
    fx, fy, cx, cy = matrices[name]
    if fx == 0.0 or fy == 0.0:
        raise MessageError(
            "uncalibrated camera",
            f"camera_info has {name}[0]={fx:g}, "
            + (
                f"and {other}[0]={matrices[other][0]:g}: it is filled for "
                f"{'raw' if rectified else 'rectified'} images only. If these are, "
                f"{how_to_set(not rectified)}."
                if matrices[other][0] > 0.0
                else f"and no {other} either: the camera is not calibrated. Calibrate it "
                "(camera_calibration) or let its driver publish the factory calibration."
            ),
        )
    if not all(math.isfinite(value) for value in (fx, fy, cx, cy)) or fx < 0.0 or fy < 0.0:
        raise MessageError(
            "invalid camera_info",
            f"camera_info has fx={fx:g} fy={fy:g} cx={cx:g} cy={cy:g} in {name}, expected finite "
            "numbers and positive focal lengths in pixels. Calibrate the camera anew.",
        )
    roi, (bin_x, bin_y), (width, height) = info.roi, _bins(info), image_size(info)
    if width == 0 or height == 0:
        raise MessageError(
            "invalid camera_info",
            f"camera_info says {info.width}x{info.height} pixels, binned {bin_x}x{bin_y}: expected "
            "the size of the image. Mend the calibration that the camera's driver loads.",
        )
    return Intrinsics(
        fx=fx / bin_x,
        fy=fy / bin_y,
        cx=(cx - roi.x_offset) / bin_x,
        cy=(cy - roi.y_offset) / bin_y,
        width=width,
        height=height,
    )


def of_rectified_images(info: CameraInfo) -> CameraInfo:
    """A copy that says P's camera in K too, without distortion: many planners read K alone.

    Drivers send K and distortion of the raw images with the rectified ones too.
    """
    copied = copy.copy(info)
    copied.k, copied.r, copied.d = copy.copy(info.k), copy.copy(info.r), copy.copy(info.d)
    for at in range(9):
        row, column = divmod(at, 3)
        copied.k[at] = info.p[4 * row + column]
        copied.r[at] = float(row == column)
    for at in range(len(copied.d)):
        copied.d[at] = 0.0
    return copied


def of_images_as_sent(info: CameraInfo) -> CameraInfo:
    """The calibration of a full sensor of the images' size: many planners read K or P alone.

    A copy with region and binning worked into K and P; what has neither is returned as it is.
    """
    camera, bins = info.roi, _bins(info)
    whole = camera.width in (0, info.width) and camera.height in (0, info.height)
    if bins == (1, 1) and whole and (camera.x_offset, camera.y_offset) == (0, 0):
        return info
    copied = copy.copy(info)
    copied.k, copied.p = copy.copy(info.k), copy.copy(info.p)
    offsets = (camera.x_offset, camera.y_offset)
    for matrix, columns in ((copied.k, 3), (copied.p, 4)):
        for row, (offset, binned) in enumerate(zip(offsets, bins, strict=True)):
            matrix[row * columns + 2] -= offset * matrix[columns * 2 + 2]
            for at in range(row * columns, (row + 1) * columns):
                matrix[at] /= binned
    copied.width, copied.height = image_size(info)
    copied.binning_x = copied.binning_y = 0
    copied.roi = copy.copy(camera)
    copied.roi.x_offset = copied.roi.y_offset = copied.roi.width = copied.roi.height = 0
    return copied


def how_reduced(info: CameraInfo) -> str:
    """A sentence on the region and the binning that the images' size comes from; "" without."""
    roi, bins = info.roi, _bins(info)
    reduced = []
    if roi.width or roi.height:
        reduced.append(f"region of interest {roi.width}x{roi.height}")
    if bins != (1, 1):
        reduced.append(f"binning {bins[0]}x{bins[1]}")
    if not reduced:
        return ""
    return (
        f" This camera_info says {info.width}x{info.height}, {', '.join(reduced)}: width and "
        "height are those before region and binning. Have the driver fill all as the image is, or "
        "leave region and binning at 0."
    )


def has_distortion(info: CameraInfo) -> bool:
    """Whether raw images of this camera deviate from a pinhole camera's."""
    return any(coefficient != 0.0 for coefficient in info.d)


def moved_aside(info: CameraInfo) -> float:
    """Metres by which P says that the camera is beside the frame that it projects points of."""
    fx, fy, *_ = _entries(info.p, 4)
    return math.hypot(*(off / f if f else 0.0 for off, f in ((info.p[3], fx), (info.p[7], fy))))


def image_size(info: CameraInfo) -> tuple[int, int]:
    """(width, height) after region and binning."""
    bin_x, bin_y = _bins(info)
    return (info.roi.width or info.width) // bin_x, (info.roi.height or info.height) // bin_y


def _bins(info: CameraInfo) -> tuple[int, int]:
    """Pixels of the sensor in one of the image, along x and y; 0 is 1."""
    return max(info.binning_x, 1), max(info.binning_y, 1)


def _entries(matrix: Sequence[float], columns: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of a row-major camera matrix of that many columns."""
    return (
        float(matrix[0]),
        float(matrix[columns + 1]),
        float(matrix[2]),
        float(matrix[columns + 2]),
    )
