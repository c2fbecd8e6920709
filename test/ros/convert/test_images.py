"""Every image encoding, byte order and row padding; and a broken message of each kind."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from sensor_msgs.msg import Image

from dkt_ros.messages.fields import MessageError
from dkt_ros.messages.images import (
    COLOR_ENCODINGS,
    DEPTH_ENCODINGS,
    image_to_depth,
    image_to_mask,
    image_to_rgb,
)
from dkt_ros.ros.convert.images import depth_to_image, depth_to_millimetres, rgb_to_image
from dkt_ros.ros.convert.messages import make_header

pytestmark = pytest.mark.ros

HEADER = make_header(123_456_789_012, "camera_color_optical_frame")
BAYER = {  # colour channel at (row, column) of the 2x2 tile
    "rggb": ((0, 1), (1, 2)),
    "bggr": ((2, 1), (1, 0)),
    "gbrg": ((1, 2), (0, 1)),
    "grbg": ((1, 0), (2, 1)),
}


def colour(height: int = 12, width: int = 16) -> npt.NDArray[np.uint8]:
    """A smooth picture with three different channels, so that swapped ones are seen."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return np.stack([40 + 6 * x, 200 - 5 * y, 90 + 2 * x + 3 * y], axis=-1).round().astype(np.uint8)


def to_yuv(rgb: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """BT.601 limited range, as OpenCV's YUV 4:2:2 codes assume."""
    r, g, b = (rgb[..., i].astype(np.float64) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return (np.clip(np.round(channel), 0, 255).astype(np.uint8) for channel in (y, u, v))


def encode(rgb: npt.NDArray[np.uint8], encoding: str) -> npt.NDArray[Any]:
    """The picture as the encoding's array (H, W, C) or (H, W), native byte order."""
    if encoding.startswith("bayer_"):
        tile = BAYER[encoding[6:10]]
        mosaic = np.empty(rgb.shape[:2], dtype=np.uint8)
        for row in (0, 1):
            for column in (0, 1):
                mosaic[row::2, column::2] = rgb[row::2, column::2, tile[row][column]]
        return mosaic if encoding.endswith("8") else mosaic.astype(np.uint16) << 8
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv"):
        y, u, v = to_yuv(rgb)
        chroma = np.where(np.arange(rgb.shape[1]) % 2 == 0, u, v)
        pair = (chroma, y) if encoding in ("yuv422", "uyvy") else (y, chroma)
        return np.stack(pair, axis=-1)
    if encoding in ("nv12", "nv21"):
        y, u, v = to_yuv(rgb)
        pair = (u, v) if encoding == "nv12" else (v, u)
        chroma = np.stack([plane[::2, ::2] for plane in pair], axis=-1)
        return np.concatenate([y, chroma.reshape(len(y) // 2, -1)])
    wide = encoding.endswith("16")
    values = rgb.astype(np.uint16) << 8 if wide else rgb
    order = encoding.rstrip("0123456789")
    if order == "mono" or encoding == "8UC1":
        return values[..., 1]
    alpha = np.full((*rgb.shape[:2], 1), 7, dtype=values.dtype)
    return {
        "rgb": values,
        "bgr": values[..., ::-1],
        "rgba": np.concatenate([values, alpha], axis=-1),
        "bgra": np.concatenate([values[..., ::-1], alpha], axis=-1),
    }[order]


def image(
    values: npt.NDArray[Any],
    encoding: str,
    /,
    big_endian: bool = False,
    padding: int = 0,
    **changes: Any,
) -> Image:
    """An Image message of these pixels, rows padded with bytes that must not be read."""
    ordered = np.ascontiguousarray(
        values.astype(values.dtype.newbyteorder(">" if big_endian else "<"))
    )
    rows = ordered.view(np.uint8).reshape(values.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    fields = {
        "header": HEADER,
        "height": values.shape[0],
        "width": values.shape[1],
        "encoding": encoding,
        "is_bigendian": int(big_endian),
        "step": rows.shape[1],
        "data": array("B", rows.tobytes()),
    }
    return Image(**(fields | changes))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", COLOR_ENCODINGS)
def test_every_colour_encoding_is_read(encoding: str, big_endian: bool, padding: int) -> None:
    rgb = colour()
    message = image(encode(rgb, encoding), encoding, big_endian, padding, height=len(rgb))
    seen = image_to_rgb(message)
    assert seen.dtype == np.uint8
    assert seen.shape == rgb.shape
    assert seen.flags.c_contiguous
    if encoding.startswith("mono") or encoding == "8UC1":
        np.testing.assert_array_equal(seen, np.repeat(rgb[..., 1:2], 3, axis=-1))
    elif encoding.startswith("bayer"):  # the borders are extrapolated
        assert np.abs(seen[2:-2, 2:-2].astype(int) - rgb[2:-2, 2:-2]).max() <= 6
    elif encoding.startswith(("yuv", "uyvy", "yuyv", "nv")):
        assert np.abs(seen.astype(int) - rgb).max() <= 8
    else:
        np.testing.assert_array_equal(seen, rgb)


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16"])
@pytest.mark.parametrize("bits", [10, 12])
def test_of_sixteen_bits_those_are_read_that_the_camera_uses(bits: int, encoding: str) -> None:
    rgb = np.full((20, 30, 3), 3, np.uint8)
    rgb[:, 15:] = 255
    stored = encode(rgb, encoding) >> (16 - bits)
    seen = image_to_rgb(image(stored, encoding, height=20))
    apart = np.abs(np.arange(30) - 14.5) > 2  # from the edge, which a mosaic blurs
    np.testing.assert_array_equal(seen[:, apart], rgb[:, apart])


def test_a_large_mosaic_is_judged_by_all_of_its_colours() -> None:
    rgb = np.full((300, 300, 3), (3, 200, 3), np.uint8)
    seen = image_to_rgb(image(encode(rgb, "bayer_rggb16") >> 4, "bayer_rggb16"))
    np.testing.assert_array_equal(seen[2:-2, 2:-2], rgb[2:-2, 2:-2])


def test_a_glint_leaves_the_bits_as_they_are_and_a_lens_cap_stays_black() -> None:
    infrared = np.full((60, 80), 700, np.uint16)
    infrared[30, 40] = 40_000
    seen = image_to_rgb(image(infrared, "mono16"))
    assert (seen[0, 0, 0], seen[30, 40, 0]) == (700 >> 2, 255)
    assert image_to_rgb(image(np.full((60, 80), 20, np.uint16), "mono16")).max() < 10


def test_rgb8_is_not_copied() -> None:
    message = image(colour(), "rgb8")
    assert np.shares_memory(image_to_rgb(message), np.frombuffer(message.data, dtype=np.uint8))


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
def test_integer_depth_is_millimetres_and_both_ends_are_unknown(
    encoding: str, big_endian: bool, padding: int
) -> None:
    values = np.array([[0, 1, 1000], [65534, 65535, 742]], dtype=np.uint16)
    depth = image_to_depth(image(values, encoding, big_endian, padding))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(
        depth, np.array([[np.nan, 0.001, 1.0], [65.534, np.nan, 0.742]]), rtol=1e-6
    )


def test_integer_depth_of_another_unit() -> None:
    values = np.array([[0, 5000]], dtype=np.uint16)
    np.testing.assert_allclose(image_to_depth(image(values, "16UC1"), 2e-4), [[np.nan, 1.0]])


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("big_endian", [False, True])
def test_float_depth_is_metres_and_nonsense_is_unknown(big_endian: bool, padding: int) -> None:
    values = np.array([[0.5, 0.0, -1.0], [np.nan, np.inf, 3.25]], dtype=np.float32)
    depth = image_to_depth(image(values, "32FC1", big_endian, padding))
    np.testing.assert_array_equal(
        depth, np.array([[0.5, np.nan, np.nan], [np.nan, np.nan, 3.25]], dtype=np.float32)
    )


def test_depth_encodings_are_all_tested() -> None:
    assert set(DEPTH_ENCODINGS) == {"16UC1", "mono16", "32FC1"}


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.one_of(st.just(float("nan")), st.floats(0.125, 100.0, width=32)),
    )
)
def test_published_depth_reads_back_bit_for_bit(depth: npt.NDArray[np.float32]) -> None:
    message = depth_to_image(depth, HEADER)
    assert (message.encoding, message.step) == ("32FC1", 4 * depth.shape[1])
    assert (message.height, message.width) == depth.shape
    assert message.header == HEADER
    assert isinstance(message.data, array)
    np.testing.assert_array_equal(image_to_depth(message), depth)


def test_published_colour_reads_back() -> None:
    rgb = colour()
    message = rgb_to_image(rgb[:, ::-1], HEADER)
    assert (message.encoding, message.step) == ("rgb8", 3 * 16)
    np.testing.assert_array_equal(image_to_rgb(message), rgb[:, ::-1])


BROKEN = [
    ({"encoding": "8UC3"}, "encoding", "'8UC3'", "rgb8"),
    ({"encoding": "8UC3"}, "encoding", "'8UC3'", "name the order"),
    ({"encoding": ""}, "encoding", "''", "expected"),
    ({"step": 3 * 16 - 1}, "image step", "step 47", "at least 48"),
    ({"step": 0}, "image step", "step 0", "at least 48"),
    ({"width": 0}, "image size", "0x12", "at least one"),
    ({"height": 0}, "image size", "16x0", "at least one"),
    ({"height": 13}, "truncated image", "576 bytes", "expected 624"),
    ({"data": array("B")}, "truncated image", "0 bytes", "expected 576"),
]


@pytest.mark.parametrize(("changes", "cause", "found", "expected"), BROKEN)
def test_a_broken_colour_image_is_named(
    changes: dict[str, Any], cause: str, found: str, expected: str
) -> None:
    with pytest.raises(MessageError) as caught:
        image_to_rgb(image(colour(), "rgb8", **changes))
    assert cause in caught.value.cause
    assert found in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "cause", "found"),
    [
        ({"encoding": "8UC1"}, "encoding", "'8UC1'"),
        ({"step": 31}, "image step", "step 31"),
        ({"width": 0}, "image size", "0x12"),
        ({"height": 13}, "truncated image", "384 bytes"),
        ({"encoding": "32FC1"}, "image step", "at least 64"),
    ],
)
def test_a_broken_depth_image_is_named(changes: dict[str, Any], cause: str, found: str) -> None:
    values = np.ones((12, 16), dtype=np.uint16)
    with pytest.raises(MessageError, match="expected") as caught:
        image_to_depth(image(values, "16UC1", **changes))
    assert cause in caught.value.cause
    assert found in str(caught.value)


def test_swapped_topics_are_recognised() -> None:
    depth = image(np.ones((2, 2), dtype=np.uint16), "16UC1")
    with pytest.raises(MessageError, match="color/image mapped to a depth topic"):
        image_to_rgb(depth)
    with pytest.raises(MessageError, match="depth/image mapped to a colour topic"):
        image_to_depth(image(colour(), "rgb8"))


@pytest.mark.parametrize(("height", "width"), [(12, 15), (11, 16)])
@pytest.mark.parametrize("encoding", ["yuv422", "yuyv", "bayer_rggb8"])
def test_odd_sizes_of_subsampled_colour_are_refused(encoding: str, height: int, width: int) -> None:
    values = encode(colour(), encoding)[:height, :width]
    with pytest.raises(MessageError, match=f"{width}x{height}, expected even") as caught:
        image_to_rgb(image(values, encoding))
    assert caught.value.cause == "image size"


def test_the_last_row_need_not_be_padded() -> None:
    message = image(colour(), "rgb8", padding=5)
    message.data = message.data[:-5]
    np.testing.assert_array_equal(image_to_rgb(message), colour())


def test_millimetres_say_0_for_all_that_is_unknown_or_too_far() -> None:
    depth = np.array([[np.nan, 0.0004, 0.0006, 1.2344, 65.535, 65.6]], np.float32)
    message = depth_to_millimetres(depth, HEADER)
    assert (message.encoding, message.step, message.is_bigendian) == ("16UC1", 12, 0)
    assert np.frombuffer(message.data, "<u2").tolist() == [0, 0, 1, 1234, 65535, 0]
    assert message.header == HEADER


def test_a_mask_is_true_where_it_is_not_0() -> None:
    message = Image(height=2, width=2, encoding="mono8", step=3, data=[0, 255, 9, 1, 0, 9])
    assert image_to_mask(message).tolist() == [[False, True], [True, False]]
    message.encoding = "32SC1"
    with pytest.raises(MessageError, match="mask has encoding '32SC1', expected mono8"):
        image_to_mask(message)
