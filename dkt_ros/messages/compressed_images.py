"""sensor_msgs/CompressedImage -> numpy, for image_transport's `compressed` and `compressedDepth`.

Knows the two wire formats; nothing of nodes. image_transport's own Python binding opens a node of
its own for this, so the decoding is done here.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dkt_ros.geometry import METRES_PER_MILLIMETRE
from dkt_ros.messages.fields import CompressedImage, MessageError
from dkt_ros.messages.images import DepthImage, RgbImage, integer_to_depth

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_TAIL = 1024  # cameras may pad a JPEG behind its end marker, with zeros by any length

# compressed_depth_image_transport: int32 format, float32 depthQuantA, float32 depthQuantB.
_DEPTH_HEADER = struct.Struct("<iff")


def compressed_to_rgb(message: CompressedImage) -> RgbImage:
    """A JPEG or PNG as (H, W, 3) uint8 RGB. Raises MessageError naming what it is instead."""
    data = memoryview(message.data).cast("B")
    if not _starts_with(data, _JPEG_START) and not _starts_with(data, _PNG_START):
        hint = (
            "This is compressedDepth: is color/image mapped to a depth topic?"
            if "compressedDepth" in message.format
            else "Other codecs are not decoded here: set color_transport to raw."
        )
        raise MessageError(
            "unsupported color encoding",
            f"compressed color image of format '{message.format}' is neither JPEG nor PNG. {hint}",
        )
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = _decode(data, flags, f"compressed color image of format '{message.format}'")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def compressed_to_depth(
    message: CompressedImage, unit_m: float = METRES_PER_MILLIMETRE
) -> DepthImage:
    """A compressedDepth image as (H, W) float32 metres, NaN where unknown.

    16UC1 is stored as it is, in steps of `unit_m`; 32FC1 as a 16-bit image of quantised inverse
    depth q with depth = A / (q - B), A and B in the message's own header, q = 0 unknown
    (compressed_depth_image_transport, codec.cpp). A 16UC1 image is read without a header too.
    Raises MessageError.
    """
    encoding = message.format.partition(";")[0].strip()
    if "compressedDepth" not in message.format or encoding not in ("16UC1", "mono16", "32FC1"):
        raise MessageError(
            "unsupported depth encoding",
            f"compressed depth image has format '{message.format}', expected '16UC1; "
            "compressedDepth png' or '32FC1; compressedDepth png'. Map depth/image to a topic that "
            "has a compressedDepth transport, or set depth_transport to raw.",
        )
    data = memoryview(message.data).cast("B")
    bare = _starts_with(data, _PNG_START)
    if bare and encoding == "32FC1":
        raise MessageError(
            "unsupported depth encoding",
            f"compressed depth image of format '{message.format}' is a PNG without the 12-byte "
            "header that says what its numbers mean. Have the publisher write compressedDepth's "
            "header, or set depth_transport to raw.",
        )
    body = data if bare else data[_DEPTH_HEADER.size :]
    if not _starts_with(body, _PNG_START):
        raise MessageError(
            "unsupported depth encoding",
            f"compressed depth image of format '{message.format}' holds no PNG behind its 12-byte "
            "header. Set the publisher's compressedDepth format to png (RVL is not decoded here), "
            "or depth_transport to raw.",
        )
    steps = _decode(
        body, cv2.IMREAD_UNCHANGED, f"compressed depth image of format '{message.format}'"
    )
    if steps.ndim != 2 or steps.dtype != np.uint16:
        raise MessageError(
            "unsupported depth encoding",
            f"compressed depth image of format '{message.format}' holds a PNG of shape "
            f"{steps.shape} and type {steps.dtype}, expected one channel of 16 bits. The publisher "
            "fills the message wrongly.",
        )
    if encoding != "32FC1":
        return integer_to_depth(steps, unit_m)
    _, quant_a, quant_b = _DEPTH_HEADER.unpack_from(data)
    return _dequantised(steps, quant_a, quant_b)


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


def _decode(data: memoryview, flags: int, what: str) -> npt.NDArray[Any]:
    """Decodes a JPEG or PNG; refuses one cut short, which OpenCV would fill up with grey."""
    end = _JPEG_END if _starts_with(data, _JPEG_START) else _PNG_END
    whole = end in bytes(data[-_TAIL:]) or end in bytes(data).rstrip(b"\0")[-_TAIL:]
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags) if whole else None
    except cv2.error as error:
        raise MessageError("truncated image", f"{what} cannot be decoded: {error}.") from error
    if image is None:
        raise MessageError(
            "truncated image",
            f"{what}, {len(data)} bytes, cannot be decoded: it is cut short or damaged. Data was "
            "lost on the way; a reliable subscription (qos_overrides) or a smaller image may help.",
        )
    return image


def _starts_with(data: memoryview, magic: bytes) -> bool:
    return bytes(data[: len(magic)]) == magic
