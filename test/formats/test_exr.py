"""EXR pictures: values and channels come through, and each kind of damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from fixtures.dataset_trees import truncate, write_exr, write_grey_exr

from dkt_ros.errors import DktError
from dkt_ros.formats.exr import read_exr, read_exr_depth, read_exr_plane, read_exr_vectors

_PLANE = np.arange(12, dtype=np.float32).reshape(3, 4) / 8


def test_half_floats_and_floats_come_back_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_exr(path, {"R": _PLANE, "G": _PLANE.astype(np.float16)})
    planes = read_exr(path)
    assert set(planes) == {"R", "G"}
    for plane in planes.values():
        assert plane.dtype == np.float32
        np.testing.assert_array_equal(plane, _PLANE)


def test_unknown_values_survive(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    plane = np.array([[np.nan, np.inf, -1.0, 0.0]], np.float32)
    write_grey_exr(path, plane)
    np.testing.assert_array_equal(read_exr_plane(path), plane)


def test_the_likeliest_channel_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_exr(path, {"R": _PLANE, "Z": _PLANE + 1})
    np.testing.assert_array_equal(read_exr_plane(path), _PLANE + 1)


def test_vectors_are_stacked_in_the_order_named(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_exr(path, {"R": _PLANE, "G": _PLANE + 1, "B": _PLANE + 2})
    np.testing.assert_array_equal(read_exr_vectors(path)[1, 2], _PLANE[1, 2] + [0, 1, 2])


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_exr(path, {"A": _PLANE, "G": _PLANE})
    with pytest.raises(DktError, match=r"a\.exr: has channels A, G, expected one of Z, Y"):
        read_exr_plane(path)
    with pytest.raises(DktError, match=r"a\.exr: has channels A, G, lacks R, B of R, G, B"):
        read_exr_vectors(path)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.exr"
    noise = np.random.default_rng(0).random((40, 60), dtype=np.float32)
    write_grey_exr(path, noise)
    truncate(path, keep)
    with pytest.raises(DktError, match=r"a\.exr: truncated or damaged EXR"):
        read_exr(path)


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_grey_exr(path, np.tile(_PLANE, (20, 20)))
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DktError, match=r"a\.exr: truncated or damaged EXR"):
        read_exr(path)


def test_what_is_no_exr_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    with pytest.raises(DktError, match="No such file"):
        read_exr(path)
    path.write_bytes(b"")
    with pytest.raises(DktError, match="is empty"):
        read_exr(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DktError, match="starts with 89504e47, no EXR"):
        read_exr(path)


_COLOURS = {"R": _PLANE + 1, "G": _PLANE * 0.5, "B": _PLANE * 0.1, "A": _PLANE * 0 + 1}
_GREY = dict.fromkeys("RGB", _PLANE)


@pytest.mark.parametrize(
    "channels",
    [
        _GREY,
        {"R": _PLANE},
        {"R": _PLANE, "G": 0 * _PLANE, "B": 0 * _PLANE},
        {"R": _PLANE, "G": _PLANE * 1.004, "B": _PLANE},
        {"V": _PLANE},
        {**_COLOURS, "Z": _PLANE},
        {"Y": _PLANE + 1, "Z": _PLANE},
        {**_COLOURS, "Depth.V": _PLANE},
        {"ViewLayer.Combined.R": _PLANE + 1, "ViewLayer.Depth.Z": _PLANE},
        {"ViewLayer.Normal.Z": _PLANE + 1, "z.R": _PLANE, "z.G": _PLANE, "z.B": _PLANE},
        {"DEPTH": _PLANE, "R": _PLANE + 1, "G": _PLANE + 1, "B": _PLANE + 1},
        {"z": _PLANE, "A": _PLANE + 1},
    ],
)
def test_depth_is_found_in_its_layer(tmp_path: Path, channels: dict[str, np.ndarray]) -> None:
    write_exr(tmp_path / "a.exr", dict(channels))  # OpenEXR alters what it is given
    np.testing.assert_array_equal(read_exr_depth(tmp_path / "a.exr"), _PLANE)


def test_depth_kept_as_grey_may_have_holes(tmp_path: Path) -> None:
    holes = np.where(_PLANE > 0.5, _PLANE, np.nan)
    write_exr(tmp_path / "a.exr", {name: holes.copy() for name in "RGB"})
    np.testing.assert_array_equal(read_exr_depth(tmp_path / "a.exr"), holes)


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        (_COLOURS, "is a picture in colours, expected depth"),
        (dict.fromkeys(("Y", "RY", "BY"), _PLANE), "is a picture in colours, expected depth"),
        ({"Normal.X": _PLANE, "Normal.Z": _PLANE}, "has channels Normal.X, Normal.Z, expected one"),
        ({"a.Depth.Z": _PLANE, "b.Depth.Z": _PLANE}, "several layers of depth, a.Depth.Z, b.Depth"),
    ],
)
def test_what_is_no_depth_is_not_taken_for_it(
    tmp_path: Path, channels: dict[str, np.ndarray], says: str
) -> None:
    write_exr(tmp_path / "a.exr", dict(channels))  # OpenEXR alters what it is given
    with pytest.raises(DktError, match=says):
        read_exr_depth(tmp_path / "a.exr")


@pytest.mark.parametrize("name", ["Z", "R"])
def test_depth_is_found_in_a_second_part(tmp_path: Path, name: str) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = [
        OpenEXR.Part(dict(header), dict(_COLOURS), "rgba"),
        OpenEXR.Part(dict(header), {name: _PLANE}, "depth"),
    ]
    OpenEXR.File(parts).write(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(read_exr_depth(tmp_path / "a.exr"), _PLANE)
    np.testing.assert_array_equal(read_exr(tmp_path / "a.exr")["R"], _COLOURS["R"])


@pytest.mark.parametrize(
    ("low", "high", "rows", "columns"),
    [
        ((1, 1), (2, 2), slice(1, 3), slice(1, 3)),
        ((0, 2), (3, 2), slice(2, 3), slice(0, 4)),
        ((-2, -1), (5, 4), slice(0, 3), slice(0, 4)),
        ((9, 9), (12, 11), slice(0, 0), slice(0, 0)),
    ],
)
def test_what_was_cropped_lies_in_its_place(
    tmp_path: Path, low: tuple[int, int], high: tuple[int, int], rows: slice, columns: slice
) -> None:
    """Windows are (x, y) of the first and the last pixel; the picture is 4x3."""

    def window(first: tuple[int, int], last: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        return np.array(first, np.int32), np.array(last, np.int32)

    wide = np.zeros((20, 20), np.float32)
    wide[4:7, 4:8] = _PLANE + 1
    stored = wide[low[1] + 4 : high[1] + 5, low[0] + 4 : high[0] + 5]
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "dataWindow": window(low, high),
        "displayWindow": window((0, 0), (3, 2)),
    }
    OpenEXR.File(header, {"Z": np.ascontiguousarray(stored)}).write(str(tmp_path / "a.exr"))
    expected = np.zeros_like(_PLANE)
    expected[rows, columns] = _PLANE[rows, columns] + 1
    np.testing.assert_array_equal(read_exr_depth(tmp_path / "a.exr"), expected)
