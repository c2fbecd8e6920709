"""Files to arrays: units, unknown pixels, and files that will not do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats.pixels import read_depth, read_mask


def write_exr(path: Path, channels: dict[str, np.ndarray]) -> Path:
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))
    return path


def test_depth_png_is_millimetres_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    cv2.imwrite(str(path), np.array([[0, 500], [4000, 65534], [7, 65535]], np.uint16))
    expected = [[np.nan, 0.5], [4.0, 65.534], [0.007, np.nan]]
    np.testing.assert_allclose(read_depth(path), expected, rtol=1e-6)
    np.testing.assert_allclose(read_depth(path, 1 / 4000)[1, 0], 1.0)


@pytest.mark.parametrize("name", ["R", "Z", "Y"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_depth_exr_is_metres(tmp_path: Path, name: str, dtype: type[np.floating]) -> None:
    pixels = np.array([[0.0, 0.5], [np.nan, -1.0], [np.inf, 2.0]], dtype)
    depth = read_depth(write_exr(tmp_path / f"d.{name}.EXR", {name: pixels}))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, [[np.nan, 0.5], [np.nan, np.nan], [np.nan, 2.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_depth_tiff_of_floats_is_metres(tmp_path: Path, dtype: type[np.floating]) -> None:
    pixels = np.array([[0.0, 0.5], [np.nan, -1.0], [np.inf, 2.0]], dtype)
    cv2.imwrite(str(tmp_path / "d.tiff"), pixels)
    depth = read_depth(tmp_path / "d.tiff", 0.001)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, [[np.nan, 0.5], [np.nan, np.nan], [np.nan, 2.0]])
    cv2.imwrite(str(tmp_path / "d.tiff"), np.ones((4, 4, 3), dtype))
    with pytest.raises(DktError, match=r"d\.tiff: float.. with 3 channels, expected depth in one"):
        read_depth(tmp_path / "d.tiff")


def test_depth_kept_as_equal_colours_is_depth(tmp_path: Path) -> None:
    """As programs of pictures save it, with alpha too."""
    steps = np.arange(300, 348, dtype=np.uint16).reshape(6, 8)
    path, opaque = str(tmp_path / "d.png"), np.full_like(steps, 65535)
    for picture in (np.dstack([steps] * 3), np.dstack([steps] * 3 + [opaque])):
        assert cv2.imwrite(path, picture)
        np.testing.assert_allclose(read_depth(tmp_path / "d.png"), steps * 0.001, rtol=1e-6)
    for picture in (np.dstack([steps, steps, opaque]), np.dstack([steps] * 4)):
        assert cv2.imwrite(path, picture)
        with pytest.raises(DktError, match=r"uint16 with . channels, expected depth in one"):
            read_depth(tmp_path / "d.png")


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32])
def test_depth_tiff_of_integers_is_steps(tmp_path: Path, dtype: type[np.integer]) -> None:
    nothing = np.iinfo(dtype)
    pixels = np.array([[0, 500, 4000], [nothing.max, 7, nothing.min]], dtype)
    assert cv2.imwrite(str(tmp_path / "d.tiff"), pixels)
    expected = [[np.nan, 0.5, 4.0], [np.nan, 0.007, np.nan]]
    np.testing.assert_allclose(read_depth(tmp_path / "d.tiff"), expected, rtol=1e-6)
    np.testing.assert_allclose(read_depth(tmp_path / "d.tiff", 1 / 4000)[0, 2], 1.0)


def test_the_mask_keeps_classes_and_takes_white_for_transparent(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[0, 1, 2, 255]], np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [[0, 1, 2, 1]])


def test_a_mask_may_be_an_array(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    np.save(tmp_path / "m.npy", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npy"), [[0, 1, 2, 1]])
    np.savez(tmp_path / "m.npz", mask=mask[None] > 0, score=np.ones(3))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.npz"), [[0, 1, 1, 1]])
    np.save(tmp_path / "m.npy", mask / 255)
    with pytest.raises(DktError, match=r"m\.npy: float64 .*, expected a mask .H,W., integers or b"):
        read_mask(tmp_path / "m.npy")


def test_a_mask_of_a_labelling_tool_is_its_numbers(tmp_path: Path) -> None:
    """Not its colours; what such a tool leaves out is nothing."""
    picture = pytest.importorskip("PIL.Image").fromarray(
        np.array([[0, 1, 2, 3, 255]], np.uint8), mode="P"
    )
    others = [128, 0, 0, 0, 128, 0, 128, 128, 0] + 252 * [224, 224, 192]
    picture.putpalette([0, 0, 0, *others])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), [[0, 1, 2, 1, 0]])
    picture.putpalette([255, 255, 255, *others])
    picture.save(tmp_path / "m.png")
    with pytest.raises(DktError, match=r"m\.png: .+, or in a PNG the numbers of a palette that be"):
        read_mask(tmp_path / "m.png")


def test_depth_npy_is_metres_or_units(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[[0.5], [np.inf]]], np.float64))
    np.testing.assert_array_equal(read_depth(tmp_path / "m.npy"), [[0.5, np.nan]])
    np.save(tmp_path / "M.npy", np.array([[[0.5, 0.25], [np.inf, 1.0]]], np.float32))
    (tmp_path / "M.npy").rename(tmp_path / "M.NPY")
    np.testing.assert_array_equal(read_depth(tmp_path / "M.NPY"), [[0.5, 0.25], [np.nan, 1.0]])
    np.save(tmp_path / "mm.npy", np.array([[500, 0]], np.int32))
    np.testing.assert_allclose(read_depth(tmp_path / "mm.npy", 0.01), [[5.0, np.nan]])
    np.save(tmp_path / "full.npy", np.array([[500, 65535]], np.uint16))
    np.testing.assert_allclose(read_depth(tmp_path / "full.npy"), [[0.5, np.nan]])
    np.save(tmp_path / "rgb.npy", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DktError, match=r"uint8 of shape \(2, 2, 3\), expected depth"):
        read_depth(tmp_path / "rgb.npy")
    np.save(tmp_path / "view.npy", np.full((2, 2), 128, np.uint8))
    with pytest.raises(DktError, match=r"view\.npy: uint8 .*integers of 16 bits or more"):
        read_depth(tmp_path / "view.npy")
    (tmp_path / "junk.npy").write_bytes(b"nothing")
    with pytest.raises(DktError, match=r"junk\.npy: cannot be read"):
        read_depth(tmp_path / "junk.npy")


def test_unusable_files_are_named(tmp_path: Path) -> None:
    junk = tmp_path / "junk.png"
    junk.write_bytes(b"nothing")
    for read in (read_depth, read_mask):
        with pytest.raises(DktError, match=r"junk\.png"):
            read(junk)
    (tmp_path / "junk.exr").write_bytes(b"nothing")
    with pytest.raises(DktError, match="no EXR file"):
        read_depth(tmp_path / "junk.exr")
    cv2.imwrite(str(tmp_path / "8bit.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DktError, match="uint8 with 3 channels, expected depth"):
        read_depth(tmp_path / "8bit.png")
    with pytest.raises(DktError, match="has channels other"):
        read_depth(write_exr(tmp_path / "o.exr", {"other": np.zeros((2, 2), np.float32)}))
