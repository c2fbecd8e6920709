"""ROS image messages -> numpy. Knows encodings, row steps and byte order; nothing of ROS itself.

One converter for every machine, built on the OpenCV calls that cv_bridge makes too: cv_bridge
comes with a ROS installation only, and copies each image twice. A message is whatever has
sensor_msgs/Image's fields: rclpy's own, or one read from a bag.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dkt_ros.geometry import (
    METRES_PER_MILLIMETRE,
    check_unit,
    has_reading,
    known_depth,
    unknown_unless,
)
from dkt_ros.messages.fields import Image, MessageError
from dkt_ros.wording import counted

RgbImage = npt.NDArray[np.uint8]
DepthImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Encoding:
    """Memory layout of a colour encoding and OpenCV's way from it to RGB (None: it is RGB)."""

    channels: int
    to_rgb: int | None
    bytes_per_channel: int = 1
    even_size: bool = False
    rows: float = 1.0  # of data for each of the image


_BAYER = {
    "rggb": cv2.COLOR_BayerRGGB2RGB,
    "bggr": cv2.COLOR_BayerBGGR2RGB,
    "gbrg": cv2.COLOR_BayerGBRG2RGB,
    "grbg": cv2.COLOR_BayerGRBG2RGB,
}
_COLOR = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "rgb16": _Encoding(3, None, 2),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, 2),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even_size=True),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even_size=True),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUYV, even_size=True),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUYV, even_size=True),
    "nv12": _Encoding(1, cv2.COLOR_YUV2RGB_NV12, even_size=True, rows=1.5),
    "nv21": _Encoding(1, cv2.COLOR_YUV2RGB_NV21, even_size=True, rows=1.5),
    **{f"bayer_{p}8": _Encoding(1, code, even_size=True) for p, code in _BAYER.items()},
    **{f"bayer_{p}16": _Encoding(1, code, 2, even_size=True) for p, code in _BAYER.items()},
}
_BITS = 10, 12, 16
"""That cameras use of 16."""
_BITS_ROWS, _BRIGHTER = 70, 100
"""That tell, about; of their pixels one in so many may be brighter, as glints are."""
_DOUBTED_FOR, _IN_A_ROW, _A_LITTLE, _ALONE_FOR = 10, 5, 2, 2
"""Pictures for which one that was brighter than all others is believed; so many in a row are
believed for good, as are two of no more than so many times what was enough before. One of more
than that which stays alone, torn perhaps, is believed for itself and the next: a lamp that blinks
comes again, and pictures that are dark for as long as ten show nothing."""
BitsOf = Callable[[npt.NDArray[Any]], int]
"""How many of 16 bits the camera uses, by a picture (H, W, ...)."""
_UNORDERED = ("8UC3", "8UC4")
INTEGER_DEPTH = ("16UC1", "mono16")
_FLOAT_DEPTH = ("32FC1",)

COLOR_ENCODINGS = tuple(_COLOR)
DEPTH_ENCODINGS = INTEGER_DEPTH + _FLOAT_DEPTH


def bits_used(pixels: npt.NDArray[Any]) -> int:
    """Of 16: told by one picture (H, W, ...) alone, of which a dark one needs less than others."""
    return _bits_for(_light_of(pixels))


def _light_of(pixels: npt.NDArray[Any]) -> int:
    """Below which nearly all of a picture is."""
    stride = min(pixels.shape[:2]) // _BITS_ROWS | 1  # of a mosaic all colours
    some = pixels[::stride, ::stride].astype(np.uint16)
    at = some.size - 1 - some.size // _BRIGHTER
    return int(np.partition(some, at, axis=None)[at])


def _bits_for(light: int) -> int:
    return next(bits for bits in _BITS if light < 1 << bits)


class UsedBits:
    """The same of a stream, whose brightness must not step whenever light comes near a limit.

    What pictures have needed that were no torn ones holds for all that follow.
    """

    def __init__(self) -> None:
        self._believed = _BITS[0]
        self._lights: deque[int] = deque(maxlen=_DOUBTED_FOR)

    def __call__(self, pixels: npt.NDArray[Any]) -> int:
        """With the next picture."""
        self._lights.append(_light_of(pixels))
        newest = list(self._lights)[-_IN_A_ROW:]
        if len(newest) == _IN_A_ROW:
            self._believed = max(self._believed, _bits_for(min(newest)))
        enough = 1 << self._believed
        near = [light for light in self._lights if enough <= light < _A_LITTLE * enough]
        if len(near) > 1:
            self._believed = _bits_for(near[0])
        remembered = list(self._lights)
        far = [light >= _A_LITTLE << self._believed for light in remembered]
        if sum(far) == 1 and (at := far.index(True)) < len(far) - _ALONE_FOR:
            del remembered[at]
        return max(self._believed, _bits_for(max(remembered)))


def image_to_rgb(message: Image, bits_of: BitsOf = bits_used) -> RgbImage:
    """Colour as (H, W, 3) uint8 RGB; shares the message's memory where that is RGB already.

    Of 16 bits the upper 8 that the camera uses are kept. Raises MessageError naming encoding, size
    or step.
    """
    encoding, pixels = _color_view(message)
    if encoding.bytes_per_channel == 2:
        pixels = upper_bits(pixels, bits_of(pixels))
    if encoding.to_rgb is None:
        return np.ascontiguousarray(pixels)
    return cv2.cvtColor(np.ascontiguousarray(pixels), encoding.to_rgb)  # type: ignore[return-value]


def told_bits(message: Image, bits_of: BitsOf) -> BitsOf:
    """What `bits_of` says of this picture, whenever it is asked; of 8 bits it is not asked."""
    encoding, pixels = _color_view(message)
    if encoding.bytes_per_channel != 2:
        return bits_of
    bits = bits_of(pixels)
    return lambda _: bits


def upper_bits(pixels: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    """16-bit numbers (H, W, ...) as 8: the upper ones of those `bits` that the camera uses.

    Many cameras measure 10 or 12 bits and send them as the lower ones, of which the upper 8 of 16
    are black. A picture of all 16 that is as dark as that shows nothing otherwise either.
    """
    upper = pixels >> (bits - 8)
    return (upper if bits == 16 else np.minimum(upper, 255, out=upper)).astype(np.uint8)


def demosaic_code(encoding: str) -> int | None:
    """OpenCV's way from a mosaic of that encoding to RGB; None for an encoding that is none."""
    known = _COLOR.get(encoding) if encoding.startswith("bayer_") else None
    return known.to_rgb if known else None


def check_color(message: Image) -> None:
    """Raises the MessageError that image_to_rgb would, at the cost of looking at no pixel."""
    _color_view(message)


def check_depth(message: Image) -> None:
    """Raises the MessageError that image_to_depth would, at the cost of looking at no pixel."""
    _depth_view(message)


def _color_view(message: Image) -> tuple[_Encoding, npt.NDArray[Any]]:
    encoding = _COLOR.get(message.encoding)
    if encoding is None:
        hint = "let the camera's driver publish one of them."
        if message.encoding in DEPTH_ENCODINGS:
            hint = "this is a depth encoding: is color/image mapped to a depth topic?"
        elif message.encoding in _UNORDERED:
            hint = (
                "this one does not say which channel is red: have the publisher name the order "
                "(cv_bridge: cv2_to_imgmsg(image, 'bgr8'))."
            )
        raise MessageError(
            "unsupported color encoding",
            f"color image has encoding '{message.encoding}', expected one of "
            f"{', '.join(COLOR_ENCODINGS)}; {hint}",
        )
    if encoding.even_size and (message.width % 2 or message.height % 2):
        raise MessageError(
            "image size",
            f"color image of encoding '{message.encoding}' is {message.width}x{message.height}, "
            "expected even sizes: its colours span two pixels. Crop it by a pixel.",
        )
    rows = round(message.height * encoding.rows)
    return encoding, _view(message, encoding.channels, encoding.bytes_per_channel, "u", rows)


def image_to_depth(message: Image, unit_m: float = METRES_PER_MILLIMETRE) -> DepthImage:
    """Raw depth as (H, W) float32 metres along the optical axis, NaN where unknown (REP-118).

    `unit_m` is what one step of an integer image means, whose 0 and 65535 mean unknown, as
    negative numbers, NaN and inf do. Raises MessageError naming encoding, size or step.
    """
    values = _depth_view(message)
    if message.encoding in INTEGER_DEPTH:
        return integer_to_depth(values, unit_m)
    return known_depth(values)


def _depth_view(message: Image) -> npt.NDArray[Any]:
    """(H, W) of the message's own type."""
    if message.encoding in INTEGER_DEPTH:
        return _view(message, 1, 2, "u")[..., 0]
    if message.encoding in _FLOAT_DEPTH:
        return _view(message, 1, 4, "f")[..., 0]
    hint = (
        "this is a colour encoding: is depth/image mapped to a colour topic?"
        if message.encoding in _COLOR
        else "let the camera's driver publish one of them."
    )
    raise MessageError(
        "unsupported depth encoding",
        f"depth image has encoding '{message.encoding}', expected 16UC1 or mono16 (millimetres) or "
        f"32FC1 (metres); {hint}",
    )


def image_to_mask(message: Any) -> npt.NDArray[np.bool_]:
    """An object's mask as (H, W) bool, true where the image is not 0; mono8 or 8UC1."""
    if message.encoding not in ("mono8", "8UC1"):
        raise MessageError(
            "unsupported encoding",
            f"mask has encoding '{message.encoding}', expected mono8: 0 where the object is not",
        )
    return np.asarray(_view(message, 1, 1, "u")[..., 0] != 0)


def integer_to_depth(steps: npt.NDArray[np.uint16], unit_m: float) -> DepthImage:
    """(H, W) uint16 in steps of `unit_m` -> (H, W) float32 metres, NaN where it is no reading."""
    check_unit(unit_m)
    depth = steps.astype(np.float32)
    depth *= np.float32(unit_m)
    return unknown_unless(has_reading(steps), depth)


def _view(
    message: Image, channels: int, bytes_per_channel: int, kind: str, rows: int | None = None
) -> npt.NDArray[Any]:
    """(H, W, channels) view of the message's own memory, step and byte order honoured.

    rows: of data, where they are not the image's.
    """
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise MessageError(
            "image size",
            f"image of encoding '{message.encoding}' is {width}x{height}, expected at least one "
            "pixel. Look at who publishes it: it is empty.",
        )
    row_bytes = width * channels * bytes_per_channel
    if step < row_bytes:
        raise MessageError(
            "image step",
            f"image of encoding '{message.encoding}' and width {width} has step {step}, expected "
            f"at least {row_bytes} bytes a row. The publisher fills the message wrongly.",
        )
    rows = height if rows is None else rows
    expected = (rows - 1) * step + row_bytes
    if len(message.data) < expected:
        raise MessageError(
            "truncated image",
            f"image of encoding '{message.encoding}', {width}x{height}, step {step} holds "
            f"{counted(len(message.data), 'byte')}, expected {expected}. Data was lost on the "
            "way, or the publisher fills the message wrongly.",
        )
    order = ">" if message.is_bigendian else "<"
    return np.ndarray(
        (rows, width, channels),
        dtype=np.dtype(f"{order}{kind}{bytes_per_channel}"),
        buffer=memoryview(message.data),
        strides=(step, channels * bytes_per_channel, bytes_per_channel),
    )
