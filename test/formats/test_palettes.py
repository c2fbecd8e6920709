"""Numbers of a palette's colours, from files as labelling tools write them."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest

from dkt_ros.formats.palettes import palette_numbers

Image: Any = pytest.importorskip("PIL.Image")
LABEL = np.zeros((5, 7), np.uint8)
LABEL[1:3, 2:5], LABEL[3], LABEL[4, 4:] = 1, 2, 3


def voc(count: int = 256) -> list[int]:
    """The colours of PASCAL VOC, labelme and many others."""
    bits = [
        sum(((number >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3))
        for number in range(count)
        for channel in range(3)
    ]
    assert bits[:6] == [0, 0, 0, 128, 0, 0]
    return bits


def stored(label: np.ndarray, palette: list[int], **options: Any) -> bytes:
    picture = Image.fromarray(label, mode="P")
    picture.putpalette(palette)
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"optimize": True}])
def test_numbers_are_read_at_every_depth(bits: int, options: dict[str, Any]) -> None:
    content = stored(LABEL, voc(2**bits), bits=bits, **options)
    assert content[24:26] == bytes([bits, 3])
    found = palette_numbers(content)
    assert found is not None
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, LABEL)


def test_two_colours_take_a_bit() -> None:
    found = palette_numbers(stored(LABEL % 2, voc(2), bits=1))
    assert found is not None
    np.testing.assert_array_equal(found, LABEL % 2)


def test_all_numbers_are_themselves_and_the_last_is_nothing() -> None:
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = palette_numbers(stored(label, voc()))
    assert found is not None
    np.testing.assert_array_equal(found, label % 255)


def test_a_grey_class_is_no_grey_picture() -> None:
    """VOC's class 7 is (128, 128, 128)."""
    found = palette_numbers(stored(LABEL // 3 * 7, voc()))
    assert found is not None
    assert np.unique(found).tolist() == [0, 7]


@pytest.mark.parametrize("what", ["greys", "white first", "grey", "colour", "jpeg", "cut", "bits"])
def test_of_all_else_there_are_none(what: str) -> None:
    greys = [value for grey in range(256) for value in (grey, grey, grey)]
    sound = stored(LABEL, voc())
    damaged = bytearray(sound)
    damaged[sound.index(b"PLTE") + 8] ^= 1
    colour = np.zeros((4, 4, 3), np.uint8)
    contents = {
        "greys": stored(LABEL, greys),
        "white first": stored(LABEL, [255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0]),
        "grey": cv2.imencode(".png", LABEL)[1].tobytes(),
        "colour": cv2.imencode(".png", colour)[1].tobytes(),
        "jpeg": cv2.imencode(".jpg", colour)[1].tobytes(),
        "cut": sound[: sound.index(b"IDAT") + 6],
        "bits": bytes(damaged),
    }
    assert palette_numbers(contents[what]) is None
