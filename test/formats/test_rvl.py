"""RVL as Wilson's code, in image_transport's packing, reads and writes it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats import rvl

SMALL = np.array([[0, 0, 1000, 1001, 999, 0], [0, 65535, 3, 0, 0, 0]], np.uint16)
THEIRS = bytes.fromhex("0600000002000000" + "23f38a23f38c8e2230f3fffe")
"""SMALL by compressed_depth_image_transport's RvlCodec (2026), behind its width and height."""


def images() -> list[npt.NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 65536, (37, 53)).astype(np.uint16)
    holed = np.where(rng.random(noise.shape) < 0.5, 0, noise).astype(np.uint16)
    return [
        np.zeros((3, 5), np.uint16),
        np.full((4, 4), 65535, np.uint16),
        np.array([[7]], np.uint16),
        np.array([[7, 0]], np.uint16),
        noise,
        holed,
    ]


def test_bytes_are_those_of_the_reference() -> None:
    assert rvl.encode(SMALL) == THEIRS
    np.testing.assert_array_equal(rvl.decode(THEIRS), SMALL)
    assert rvl.size(THEIRS) == (2, 6)


@pytest.mark.parametrize("image", images(), ids=str)
def test_what_was_packed_comes_back(image: npt.NDArray[np.uint16]) -> None:
    np.testing.assert_array_equal(rvl.decode(rvl.encode(image)), image)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (THEIRS[:-4], "cut short"),
        (THEIRS[:8], "cut short"),
        (THEIRS[:8] + bytes(12), "a run of 0"),
        (THEIRS[:8] + b"\xff" * 12, "cut short"),
        (THEIRS[:8] + b"\xff" * 4 + b"\xf7\xff\xff\xff", "more than 32 bits"),
        (rvl.encode(np.arange(1, 20, dtype=np.uint16)[None])[:-4], "lacks .* of its numbers"),
        (THEIRS[:4] + b"\x01\0\0\0" + THEIRS[8:], "at pixel"),
    ],
)
def test_damaged_data_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(DktError, match=said):
        rvl.decode(data)
