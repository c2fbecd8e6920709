"""NumPy's files come back as they were; everything else is one error that names the file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats.numpy_files import ONLY, arrays_in, mapped_array

VALUES = np.arange(600.0).reshape(20, 30)


def read_all(path: Path) -> dict[str, np.ndarray]:
    with arrays_in(path) as arrays:
        return {name: arrays[name] for name in arrays}


def test_the_content_tells_what_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    os.replace(tmp_path / "a.npy", tmp_path / "one.npz")
    found = read_all(tmp_path / "one.npz")
    np.testing.assert_array_equal(found[ONLY], VALUES)
    np.testing.assert_array_equal(mapped_array(tmp_path / "one.npz"), VALUES)
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES[0])
    found = read_all(tmp_path / "two.npz")
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["b"], VALUES[0])


class _Harmful:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._mark),)


def test_nothing_is_executed(tmp_path: Path) -> None:
    harmful = np.array([_Harmful(tmp_path / "mark")], object)
    np.savez(tmp_path / "a.npz", a=harmful)
    np.save(tmp_path / "a.npy", harmful)
    for read in (read_all, mapped_array):
        for name in ("a.npz", "a.npy"):
            with pytest.raises(DktError, match=f"{name}: cannot be read as numpy's plain arrays"):
                read(tmp_path / name)
    assert not (tmp_path / "mark").exists()


def test_more_than_any_memory_holds_is_named(tmp_path: Path) -> None:
    """As a file says whose shape was damaged."""
    np.save(tmp_path / "depth.npy", VALUES)
    header = (tmp_path / "depth.npy").read_bytes()
    header = header.replace(b"(20, 30), }" + b" " * 12, b"(10000000, 10000000), }")
    (tmp_path / "depth.npy").write_bytes(header)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", header)
    for name in ("depth.npy", "a.npz"):
        with pytest.raises(DktError, match=rf"{name}: cannot be read as .*Unable to allocate"):
            read_all(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damage_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with path.open("wb") as file:
        if suffix == ".npy":
            np.save(file, VALUES)
        else:
            np.savez_compressed(file, a=VALUES)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        at = int(rng.integers(0, len(content)))
        content[at : at + 8] = rng.bytes(len(content[at : at + 8]))
        path.write_bytes(content)
        try:
            read_all(path)
        except DktError as error:
            errors.append(str(error))
    assert len(errors) > 200
    named = f"{path}: cannot be read as numpy's plain arrays"
    assert [error for error in errors if not error.startswith(named)] == []
    path.unlink()
    with pytest.raises(DktError, match="No such file"):
        read_all(path)
