"""sensor_msgs/CompressedImage and numpy: image_transport's `compressed` and `compressedDepth`.

Knows the two wire formats; nothing of nodes. image_transport's own Python binding opens a node of
its own for this, so the decoding is done here.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dkt_ros.errors import DktError
from dkt_ros.formats import rvl
from dkt_ros.formats.pictures import JPEG, PNG, cut_short, encoded
from dkt_ros.geometry import METRES_PER_MILLIMETRE
from dkt_ros.messages.fields import CompressedImage, MessageError
from dkt_ros.messages.images import (
    DEPTH_ENCODINGS,
    INTEGER_DEPTH,
    BitsOf,
    DepthImage,
    RgbImage,
    bits_used,
    demosaic_code,
    integer_to_depth,
    upper_bits,
)
from dkt_ros.wording import counted

# compressed_depth_image_transport: int32 format, float32 depthQuantA, float32 depthQuantB.
_DEPTH_HEADER = struct.Struct("<iff")
_INVERSE_DEPTH = 0
_AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION

MOST_PIXELS = 1 << 26
"""Of any image; 8192x8192."""
COMPRESSED_OF_ANOTHER_SIZE = "compressed image of another size"
"""The cause of a frame that was dropped for that."""
_PNG_DEPTH_AT = 24
Size = tuple[int, int]


def compressed_to_rgb(
    message: CompressedImage, size: Size | None = None, bits_of: BitsOf = bits_used
) -> RgbImage:
    """A JPEG or PNG as (H, W, 3) uint8 RGB.

    size: (height, width) that it has to have. bits_of: as in `image_to_rgb`. A mosaic (bayer) that
    was compressed as it is becomes colour. Raises MessageError naming what it is instead, before
    memory is taken for what it says of itself.
    """
    data = _bytes_of(message, "color")
    if not _starts_with(data, JPEG) and not _starts_with(data, PNG):
        hint = (
            "This is compressedDepth: is color/image mapped to a depth topic?"
            if "compressedDepth" in message.format
            else "Other codecs are not decoded here: take the raw images (of a node: set "
            "color_transport to raw), or have them sent as JPEG or PNG."
        )
        raise MessageError(
            "unsupported color encoding",
            f"compressed color image of format '{message.format}' is neither JPEG nor PNG. {hint}",
        )
    what = f"compressed color image of format '{message.format}'"
    mosaic = _mosaic_code(message.format)
    if mosaic is not None:
        grey = _in_8_bits(_decode(data, cv2.IMREAD_GRAYSCALE | _AS_STORED, what, size), bits_of)
        return cv2.cvtColor(grey, mosaic)  # type: ignore[return-value]
    bgr = _in_8_bits(_decode(data, cv2.IMREAD_COLOR | _AS_STORED, what, size), bits_of)
    if _is_swapped(message.format):
        return bgr
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def is_deep(message: Any) -> bool:
    """Whether an image message is a PNG of 16 bits; at the cost of its header."""
    head = bytes(memoryview(message.data)[: _PNG_DEPTH_AT + 1])
    return head.startswith(PNG) and head[_PNG_DEPTH_AT:] == b"\x10"


def _in_8_bits(picture: npt.NDArray[Any], bits_of: BitsOf) -> npt.NDArray[np.uint8]:
    return upper_bits(picture, bits_of(picture)) if picture.dtype == np.uint16 else picture


def _mosaic_code(format_: str) -> int | None:
    """How a picture becomes RGB that holds a mosaic, None for others.

    "bayer_rggb8; jpeg compressed " is one, as is "… compressed bayer_rggb8"; "… compressed mono8"
    was turned to grey, "… compressed bgr8" to colour (compressed_publisher.cpp).
    """
    encoding, _, rest = format_.partition(";")
    encoding, stored = encoding.strip(), rest.partition("compressed")[2].strip()
    return demosaic_code(encoding) if stored in ("", encoding) else None


def _is_swapped(format_: str) -> bool:
    """Whether red and blue stand in each other's place in the file, as in ROS 1's first years.

    "rgb8; jpeg compressed" is one, as is "… compressed rgb8" (compressed_subscriber.cpp); "jpeg",
    of cameras and scripts, says nothing of it.
    """
    encoding, _, rest = format_.partition(";")
    of_transport = encoding.strip().startswith(("rgb", "bgr")) and "compressed" in rest
    return of_transport and "compressed bgr" not in rest


def compressed_to_depth(
    message: CompressedImage, unit_m: float = METRES_PER_MILLIMETRE, size: Size | None = None
) -> DepthImage:
    """Depth in a compressedDepth image, PNG or RVL, or in a 16-bit PNG of `compressed`.

    (H, W) float32 metres, NaN where unknown.

    16UC1 is stored as it is, in steps of `unit_m`; 32FC1 as a 16-bit image of quantised inverse
    depth q with depth = A / (q - B), A and B in the message's own header, q = 0 unknown
    (compressed_depth_image_transport, codec.cpp). A 16UC1 PNG is read without a header too.
    size as in `compressed_to_rgb`. Raises MessageError.
    """
    encoding, _, kind = message.format.partition(";")
    encoding = encoding.strip()
    data = _bytes_of(message, "depth")
    bare = _starts_with(data, PNG)
    is_png = "compressedDepth" not in kind and (kind or encoding).split()[:1] == ["png"]
    if bare and is_png and encoding in (*INTEGER_DEPTH, "png"):
        encoding, kind = "16UC1", "compressedDepth png"
    if "compressedDepth" not in kind or encoding not in DEPTH_ENCODINGS:
        lossy = "JPEG keeps 8 bits of depth, the rest is lost: " if "jpeg" in kind else ""
        raise MessageError(
            "unsupported depth encoding",
            f"compressed depth image has format '{message.format}', expected '16UC1; "
            f"compressedDepth png' or '32FC1; compressedDepth png', or rvl for png. {lossy}Map "
            "depth/image to a topic that has a compressedDepth transport, or set depth_transport "
            "to raw.",
        )
    what = f"compressed depth image of format '{message.format}'"
    if bare and encoding == "32FC1":
        raise MessageError(
            "unsupported depth encoding",
            f"{what} is a PNG without the 12-byte "
            "header that says what its numbers mean. Have the publisher write compressedDepth's "
            "header, or set depth_transport to raw.",
        )
    body = data if bare else data[_DEPTH_HEADER.size :]
    if kind.split()[-1] == "rvl" and not bare:
        steps = _decode_rvl(body, what, size)
    elif _starts_with(body, PNG):
        steps = _decode(body, cv2.IMREAD_UNCHANGED, what, size)
    else:
        raise MessageError(
            "unsupported depth encoding",
            f"{what} holds no PNG behind its 12-byte header. Set the publisher's compressedDepth "
            "format to png or rvl, or depth_transport to raw.",
        )
    if steps.ndim != 2 or steps.dtype != np.uint16:
        raise MessageError(
            "unsupported depth encoding",
            f"{what} holds a PNG of shape "
            f"{steps.shape} and type {steps.dtype}, expected one channel of 16 bits. The publisher "
            "fills the message wrongly.",
        )
    if encoding != "32FC1":
        return integer_to_depth(steps, unit_m)
    _, quant_a, quant_b = _DEPTH_HEADER.unpack_from(data)
    return _dequantised(steps, quant_a, quant_b)


def depth_to_compressed(depth: DepthImage, kind: str, near: float, far: float) -> tuple[str, bytes]:
    """(H, W) float32 metres, NaN unknown -> format and data of a compressedDepth image of 32FC1.

    kind: "png" or "rvl". near, far: metres; depth outside becomes unknown, within it is kept to
    depth^2 / 2A metres, with A = 65534 / (1/near - 1/far): 0.1 mm at 1 m for 0.1 .. 10 m.
    """
    quant_a = np.float32(65534.0 / (1.0 / near - 1.0 / far))
    quant_b = np.float32(1.0 - quant_a / far)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steps = np.rint(quant_a / depth + quant_b)
        steps[~((steps >= 1.0) & (steps <= 65535.0))] = 0.0
    image = steps.astype(np.uint16)
    header = _DEPTH_HEADER.pack(_INVERSE_DEPTH, quant_a, quant_b)
    if kind == "rvl":
        code = rvl.encode(image)
    else:
        code = encoded(".png", image, cv2.IMWRITE_PNG_COMPRESSION, 1)
    return f"32FC1; compressedDepth {kind}", header + code


def _dequantised(steps: npt.NDArray[np.uint16], quant_a: float, quant_b: float) -> DepthImage:
    if not quant_a > 0.0 or not np.isfinite([quant_a, quant_b]).all():
        raise MessageError(
            "unsupported depth encoding",
            f"compressed 32FC1 depth image has quantisation parameters {quant_a:g} and "
            f"{quant_b:g}, expected a positive first and finite numbers. The publisher fills the "
            "message wrongly.",
        )
    offset = steps.astype(np.float32) - np.float32(quant_b)
    known = (steps > 0) & (offset > 0.0)
    depth = np.full(steps.shape, np.nan, dtype=np.float32)
    np.divide(np.float32(quant_a), offset, out=depth, where=known)
    return depth


def _decode(data: memoryview, flags: int, what: str, expected: Size | None) -> npt.NDArray[Any]:
    """Decodes a JPEG or PNG; refuses one cut short, which OpenCV would fill up with grey."""
    image, found = None, _jpeg_size(data) if _starts_with(data, JPEG) else _png_size(data)
    if found is not None and not cut_short(data):
        _check_size(found, what, expected)
        try:
            image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
        except cv2.error as error:
            raise MessageError("truncated image", f"{what} cannot be decoded: {error}.") from error
    if image is None:
        raise MessageError(
            "truncated image",
            f"{what}, {counted(len(data), 'byte')}, cannot be decoded: it is cut short or "
            "damaged. Data was lost on the way; a reliable subscription (qos_overrides) or a "
            "smaller image may help.",
        )
    return image


def _decode_rvl(data: memoryview, what: str, expected: Size | None) -> npt.NDArray[np.uint16]:
    try:
        _check_size(rvl.size(data), what, expected)
        return rvl.decode(data)
    except MessageError:
        raise
    except DktError as error:
        raise MessageError("truncated image", f"{what} cannot be decoded: {error}.") from error


def _check_size(found: Size, what: str, expected: Size | None) -> None:
    """Refuses what a few bytes say of gigabytes, before memory is taken for them."""
    height, width = found
    if height * width > MOST_PIXELS or height * width == 0:
        raise MessageError(
            "image size",
            f"{what} says it has {width}x{height} pixels, expected at least one and at most "
            f"{MOST_PIXELS}. It is damaged, or no camera's.",
        )
    if expected is not None and found != expected:
        raise MessageError(
            COMPRESSED_OF_ANOTHER_SIZE,
            f"{what} is {width}x{height}, camera_info is for {expected[1]}x{expected[0]} images: "
            "expected the same size. Have the driver register depth to colour at colour's size, "
            "and map color/camera_info to the topic that belongs to color/image.",
        )


def _png_size(data: memoryview) -> Size | None:
    if len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return int(height), int(width)


def _jpeg_size(data: memoryview) -> Size | None:
    """(height, width) from its frame header; None where there is none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return int(height), int(width)
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _bytes_of(message: CompressedImage, what: str) -> memoryview:
    data = memoryview(message.data).cast("B")
    if not data:
        raise MessageError(
            "truncated image",
            f"compressed {what} image of format '{message.format}' holds no bytes, expected a "
            "picture. Look at the camera's driver, or at what compresses its images.",
        )
    return data


def _starts_with(data: memoryview, magic: bytes) -> bool:
    return bytes(data[: len(magic)]) == magic
