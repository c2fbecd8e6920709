"""EXR pictures: values and channels come through, and each kind of damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.dataset_trees import truncate, write_exr, write_grey_exr

from dkt_ros.errors import DktError
from dkt_ros.formats.exr import read_exr, read_exr_plane, read_exr_vectors

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


def test_the_first_channel_named_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    write_exr(path, {"R": _PLANE, "Z": _PLANE + 1})
    np.testing.assert_array_equal(read_exr_plane(path), _PLANE + 1)
    np.testing.assert_array_equal(read_exr_plane(path, ("R", "Z")), _PLANE)


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
