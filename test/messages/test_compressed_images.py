"""JPEG, PNG and compressedDepth; and a broken message of each kind."""

from __future__ import annotations

import struct
from array import array
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from sensor_msgs.msg import CompressedImage

from dkt_ros.formats import rvl
from dkt_ros.messages.compressed_images import (
    compressed_to_depth,
    compressed_to_rgb,
    depth_to_compressed,
)
from dkt_ros.messages.fields import MessageError

pytestmark = pytest.mark.ros


def colour() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[0:48, 0:64].astype(np.float64)
    return np.stack([40 + 2 * x, 200 - 2 * y, 90 + x / 2], axis=-1).round().astype(np.uint8)


def message(data: bytes, format_: str) -> CompressedImage:
    return CompressedImage(format=format_, data=array("B", data))


def encoded(image: npt.NDArray[Any], extension: str) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def depth_message(
    image: npt.NDArray[Any],
    format_: str = "16UC1; compressedDepth png",
    quant: tuple[float, float] = (0.0, 0.0),
) -> CompressedImage:
    return message(struct.pack("<iff", 0, *quant) + encoded(image, ".png"), format_)


def test_png_is_exact() -> None:
    png = encoded(colour()[..., ::-1], ".png")
    np.testing.assert_array_equal(compressed_to_rgb(message(png, "png")), colour())


@pytest.mark.parametrize("padding", [b"", b"\0" * 100, b"\0" * 9000])
def test_jpeg_is_near_and_may_be_padded(padding: bytes) -> None:
    jpeg = encoded(colour()[..., ::-1], ".jpg") + padding
    rgb = compressed_to_rgb(message(jpeg, "rgb8; jpeg compressed bgr8"))
    assert rgb.shape == colour().shape
    assert np.abs(rgb.astype(int) - colour()).mean() < 3


@pytest.mark.parametrize(
    ("format_", "is_swapped"),
    [
        ("rgb8; jpeg compressed", True),
        ("bgr8; jpeg compressed", True),
        ("rgb8; jpeg compressed rgb8", True),
        ("bgra8; png compressed bgra8", False),
        ("rgb8; jpeg", False),
        ("rgb8", False),
    ],
)
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_red_and_blue_stand_where_the_format_says(
    extension: str, format_: str, is_swapped: bool
) -> None:
    stored = colour() if is_swapped else colour()[..., ::-1]
    rgb = compressed_to_rgb(message(encoded(stored, extension), format_))
    assert np.abs(rgb.astype(int) - colour()).mean() < 3


def with_thumbnail(jpeg: bytes) -> bytes:
    """The same with a whole picture in a segment before it."""
    thumbnail = encoded(colour()[::4, ::4], ".jpg")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail + jpeg[2:]


@pytest.mark.parametrize("behind", [b"", b"\0" * 9000, bytes(range(255)) * 40])
def test_what_stands_behind_a_jpeg_is_not_looked_at(behind: bytes) -> None:
    jpeg = with_thumbnail(encoded(colour()[..., ::-1], ".jpg"))
    rgb = compressed_to_rgb(message(jpeg + behind, "jpeg"))
    assert np.abs(rgb.astype(int) - colour()).mean() < 3


def test_a_jpeg_that_says_it_is_turned_is_read_as_the_camera_sees_it() -> None:
    """With fill bytes before a marker, as the standard allows; calibration is of what was sent."""
    jpeg = encoded(colour()[..., ::-1], ".jpg")
    turned = struct.pack(">HHHIHH", 1, 0x0112, 3, 1, 6, 0)  # one entry: orientation, a quarter
    exif = b"Exif\0\0MM\0*" + struct.pack(">I", 8) + turned + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    at = jpeg.index(b"\xff\xc0")
    data = jpeg[:2] + segment + jpeg[2:at] + b"\xff\xff" + jpeg[at:]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (64, 48, 3)
    rgb = compressed_to_rgb(message(data, "jpeg"), (48, 64))
    assert np.abs(rgb.astype(int) - colour()).mean() < 3


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_jpeg_is_cut_short_whatever_its_thumbnail_ends_with(kept: float) -> None:
    plain = encoded(colour()[..., ::-1], ".jpg")
    jpeg = with_thumbnail(plain)
    before = len(jpeg) - len(plain)
    with pytest.raises(MessageError, match="cut short") as told:
        compressed_to_rgb(message(jpeg[: before + int(kept * len(plain))], "jpeg"))
    assert told.value.cause == "truncated image"


def test_a_message_without_bytes_is_named() -> None:
    for convert in (compressed_to_rgb, compressed_to_depth):
        with pytest.raises(MessageError, match="holds no bytes") as told:
            convert(message(b"", "16UC1; compressedDepth png"))
        assert told.value.cause == "truncated image"


def test_grey_jpeg_becomes_three_channels() -> None:
    rgb = compressed_to_rgb(message(encoded(colour()[..., 0], ".jpg"), "mono8; jpeg compressed "))
    assert rgb.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("stored", "is_mosaic"), [("", True), ("bayer_grbg8", True), ("mono8", False), ("bgr8", False)]
)
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_a_mosaic_becomes_colour_and_what_was_one_stays(
    extension: str, stored: str, is_mosaic: bool
) -> None:
    image = colour()[..., ::-1]
    if is_mosaic:
        image = np.empty(image.shape[:2], np.uint8)
        for row, column, channel in ((0, 0, 1), (0, 1, 0), (1, 0, 2), (1, 1, 1)):
            image[row::2, column::2] = colour()[row::2, column::2, channel]
    elif stored == "mono8":
        image = np.ascontiguousarray(image[..., 0])
    kind = {".png": "png", ".jpg": "jpeg"}[extension]
    name = f"bayer_grbg8; {kind} compressed {stored}"
    rgb = compressed_to_rgb(message(encoded(image, extension), name))
    expected = colour()[..., 2:].repeat(3, -1) if stored == "mono8" else colour()
    assert np.abs(rgb.astype(int) - expected)[2:-2, 2:-2].mean() < 5


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_grbg16"])
def test_of_a_picture_of_16_bits_those_are_read_that_the_camera_uses(encoding: str) -> None:
    stored = np.full((48, 64, 3) if encoding == "rgb16" else (48, 64), 60 << 4, np.uint16)
    stored[:, 32:] = 200 << 4
    rgb = compressed_to_rgb(message(encoded(stored, ".png"), f"{encoding}; png compressed"))
    assert rgb.dtype == np.uint8
    assert {(60, 60, 60), (200, 200, 200)} <= set(map(tuple, rgb[10, ::8].tolist()))


@pytest.mark.parametrize("format_", ["16UC1; png compressed ", "mono16; png compressed", "png"])
def test_depth_that_was_compressed_as_a_picture_of_16_bits_is_exact(format_: str) -> None:
    steps = np.array([[0, 1, 1234], [1000, 65535, 9]], dtype=np.uint16)
    depth = compressed_to_depth(message(encoded(steps, ".png"), format_))
    expected = np.array([[np.nan, 0.001, 1.234], [1.0, np.nan, 0.009]], np.float32)
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


def test_integer_depth_is_exact() -> None:
    steps = np.array([[0, 1, 1000], [65534, 742, 65535]], dtype=np.uint16)
    depth = compressed_to_depth(depth_message(steps))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[np.nan, 0.001, 1.0], [65.534, 0.742, np.nan]], rtol=1e-6)
    np.testing.assert_allclose(
        compressed_to_depth(depth_message(steps, "16UC1; compressedDepth"), 1e-4)[0, 2], 0.1
    )


def test_float_depth_comes_back_within_its_quantisation() -> None:
    """The quantisation of compressed_depth_image_transport with its default parameters."""
    depth_max, quantisation = 10.0, 100.0
    quant_a = quantisation * (quantisation + 1.0)
    quant_b = 1.0 - quant_a / depth_max
    depth = np.linspace(0.3, 9.9, 60, dtype=np.float32).reshape(6, 10)
    steps = (quant_a / depth + quant_b).astype(np.uint16)
    steps[0, 0] = 0
    seen = compressed_to_depth(
        depth_message(steps, "32FC1; compressedDepth png", (quant_a, quant_b))
    )
    assert np.isnan(seen[0, 0])
    known = np.isfinite(seen)
    assert known.sum() == 59
    assert np.abs(seen - depth)[known].max() < 0.01


def test_float_depth_at_or_beyond_infinity_is_unknown() -> None:
    """By what a publisher's own parameters say of its numbers."""
    steps = np.array([[1, 2, 3, 7]], np.uint16)
    seen = compressed_to_depth(depth_message(steps, "32FC1; compressedDepth png", (2.0, 2.0)))
    np.testing.assert_array_equal(seen, np.array([[np.nan, np.nan, 2.0, 0.4]], np.float32))


@pytest.mark.parametrize(
    ("data", "format_", "cause", "remedy"),
    [
        (b"\0\0\0\1\x67\x42", "h264", "unsupported color encoding", "color_transport to raw"),
        (b"", "jpeg", "truncated image", "holds no bytes"),
        (b"\0" * 40, "16UC1; compressedDepth", "unsupported color encoding", "depth topic"),
        (b"\xff\xd8\xff\xe0garbage\xff\xd9", "jpeg", "truncated image", "damaged"),
    ],
)
def test_broken_colour_is_named(data: bytes, format_: str, cause: str, remedy: str) -> None:
    with pytest.raises(MessageError) as caught:
        compressed_to_rgb(message(data, format_))
    assert caught.value.cause == cause
    assert remedy in str(caught.value)
    assert f"'{format_}'" in str(caught.value)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_colour_is_refused_rather_than_grey(extension: str, share: float) -> None:
    data = encoded(colour()[..., ::-1], extension)
    with pytest.raises(MessageError, match="cut short") as caught:
        compressed_to_rgb(message(data[: int(len(data) * share)], extension[1:]))
    assert caught.value.cause == "truncated image"


STEPS = np.full((8, 8), 1000, dtype=np.uint16)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (message(encoded(colour(), ".jpg"), "rgb8; jpeg compressed bgr8"), "'rgb8; jpeg"),
        (
            message(encoded(colour()[..., 0], ".jpg"), "16UC1; jpeg compressed "),
            "JPEG keeps 8 bits",
        ),
        (message(encoded(colour()[..., 0], ".png"), "16UC1; png compressed "), "uint8"),
        (depth_message(STEPS, "png"), "has format 'png'"),  # 16UC1 or 32FC1: nobody knows
        (message(b"\0" * 60, "16UC1; compressedDepth h264"), "no PNG"),
        (message(encoded(STEPS, ".png"), "32FC1; compressedDepth png"), "PNG without the 12-byte"),
        (depth_message(STEPS.astype(np.uint8)), "uint8"),
        (depth_message(colour()), r"\(48, 64, 3\)"),
        (depth_message(STEPS, "32FC1; compressedDepth png", (0.0, 1.0)), "parameters 0"),
        (depth_message(STEPS, "32FC1; compressedDepth png", (float("nan"), 1.0)), "nan"),
        (depth_message(STEPS, "8UC1; compressedDepth png"), "'8UC1;"),
    ],
)
def test_broken_depth_is_named(broken: CompressedImage, found: str) -> None:
    with pytest.raises(MessageError, match=found) as caught:
        compressed_to_depth(broken)
    assert caught.value.cause == "unsupported depth encoding"


def test_depth_whose_publisher_leaves_the_header_out_is_read() -> None:
    bare = message(encoded(STEPS, ".png"), "16UC1; compressedDepth png")
    np.testing.assert_array_equal(compressed_to_depth(bare), np.ones((8, 8), np.float32))


def test_truncated_depth_is_refused() -> None:
    whole = depth_message(np.arange(4096, dtype=np.uint16).reshape(64, 64))
    whole.data = whole.data[: len(whole.data) // 2]
    with pytest.raises(MessageError, match="cut short"):
        compressed_to_depth(whole)


@pytest.mark.parametrize("kind", ["png", "rvl"])
def test_depth_that_is_sent_comes_back(kind: str) -> None:
    y, x = np.mgrid[0:48, 0:64].astype(np.float32)
    depth = 0.2 + 0.1 * y + 0.01 * x
    depth[10:20, 5:30] = np.nan
    depth[0, 0], depth[0, 1] = 0.05, 12.0
    format_, data = depth_to_compressed(depth, kind, 0.1, 10.0)
    assert format_ == f"32FC1; compressedDepth {kind}"
    seen = compressed_to_depth(message(data, format_))
    known = np.isfinite(depth) & (depth >= 0.1) & (depth <= 10.0)
    np.testing.assert_array_equal(np.isfinite(seen), known)
    assert (np.abs(seen - depth)[known] < 1e-4 * depth[known] ** 2).all()


def test_integer_depth_in_rvl_is_exact() -> None:
    packed = struct.pack("<iff", 0, 0.0, 0.0) + rvl.encode(STEPS)
    seen = compressed_to_depth(message(packed, "16UC1; compressedDepth rvl"))
    np.testing.assert_array_equal(seen, np.ones((8, 8), np.float32))
    with pytest.raises(MessageError, match="cut short") as caught:
        compressed_to_depth(message(packed[:-4], "16UC1; compressedDepth rvl"))
    assert caught.value.cause == "truncated image"


def jpeg_that_says(width: int, height: int) -> bytes:
    jpeg = bytearray(encoded(colour(), ".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(jpeg)


def png_that_says(width: int, height: int) -> bytes:
    png = bytearray(encoded(STEPS, ".png"))
    png[16:24] = struct.pack(">II", width, height)
    return bytes(png)


def rvl_that_says(width: int, height: int) -> bytes:
    return struct.pack("<II", width, height) + rvl.encode(STEPS)[8:]


@pytest.mark.parametrize("size", [None, (8, 8)])
@pytest.mark.parametrize("said", [(65000, 65000), (0, 8), (9000, 9000)])
def test_what_says_it_is_huge_is_refused_before_memory_is_taken(
    said: tuple[int, int], size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    monkeypatch.setattr(rvl, "decode", lambda *_: pytest.fail("it was decoded"))
    depth = struct.pack("<iff", 0, 0.0, 0.0)
    attempts = (
        lambda: compressed_to_rgb(message(jpeg_that_says(*said), "jpeg"), size),
        lambda: compressed_to_rgb(message(png_that_says(*said), "png"), size),
        lambda: compressed_to_depth(
            message(depth + png_that_says(*said), "16UC1; compressedDepth png"), size=size
        ),
        lambda: compressed_to_depth(
            message(depth + rvl_that_says(*said), "16UC1; compressedDepth rvl"), size=size
        ),
    )
    for attempt in attempts:
        with pytest.raises(MessageError, match=f"{said[0]}x{said[1]}") as caught:
            attempt()
        assert caught.value.cause == "image size"


def test_an_image_of_another_size_than_its_calibrations_is_not_decoded() -> None:
    with pytest.raises(MessageError, match="64x48, camera_info is for 32x24") as caught:
        compressed_to_rgb(message(encoded(colour(), ".jpg"), "jpeg"), (24, 32))
    assert caught.value.cause == "compressed image of another size"
    whole = compressed_to_rgb(message(encoded(colour(), ".jpg"), "jpeg"), (48, 64))
    assert whole.shape == (48, 64, 3)
