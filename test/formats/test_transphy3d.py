"""Rendered sequences on disk: what goes in comes out, and damage is named."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.files import BusyError, StorageError
from dkt_ros.formats.transphy3d import (
    SequenceFrame,
    decode_frame,
    encode_frame,
    fine_step,
    read_sequence,
    write_sequence,
)

_K = np.array([[50.0, 0.0, 23.5], [0.0, 50.0, 15.5], [0.0, 0.0, 1.0]])


def make_frame(index: int = 0, seed: int = 0) -> SequenceFrame:
    random = np.random.default_rng(seed)
    height, width = 32, 48
    depth = random.uniform(0.4, 1.7, (height, width)).astype(np.float32)
    depth[:3, :5] = np.nan
    raw = np.round(depth, 3)
    raw[10:20, 10:20] = np.nan
    raw[20, 20] = 70.0
    depth[5, 5] = 1e-5  # less than half a step, and known all the same
    normal = random.normal(size=(height, width, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal[0, 0] = 0.0
    pose = np.eye(4)
    pose[:3, 3] = 0.1, -0.2, 0.8
    return SequenceFrame(
        rgb=random.integers(0, 256, (height, width, 3), dtype=np.uint8),
        depth=depth,
        camera_matrix=_K,
        world_to_camera=pose,
        mask=random.integers(0, 3, (height, width), dtype=np.uint8),
        normal=normal,
        raw_depth=raw,
        index=index,
    )


def test_round_trip(tmp_path: Path) -> None:
    frames = [make_frame(index, seed=index) for index in range(3)]
    path = tmp_path / "new" / "a.tar"
    assert write_sequence(path, "000007", iter(frames)) == 3
    read = read_sequence(path)
    assert [frame.index for frame in read] == [0, 1, 2]
    for given, found in zip(frames, read, strict=True):
        np.testing.assert_array_equal(found.rgb, given.rgb)
        np.testing.assert_allclose(found.depth, given.depth, atol=1.7 / 65535)
        assert found.mask is not None
        assert found.normal is not None
        assert found.raw_depth is not None
        np.testing.assert_array_equal(found.mask, np.asarray(given.mask))
        raw = np.asarray(given.raw_depth)
        raw = np.where(raw < 65, raw, np.nan)
        np.testing.assert_allclose(found.raw_depth, raw, atol=6e-4)
        np.testing.assert_allclose(found.normal, np.asarray(given.normal), atol=0.012)
        lengths = np.linalg.norm(found.normal, axis=-1)
        assert lengths[0, 0] == 0.0
        np.testing.assert_allclose(lengths.ravel()[1:], 1.0, atol=1e-6)
        np.testing.assert_allclose(found.camera_matrix, _K, atol=1e-9)
        assert found.world_to_camera is not None
        np.testing.assert_array_equal(found.world_to_camera, np.asarray(given.world_to_camera))
        assert found.depth.dtype == found.raw_depth.dtype == np.float32


def test_a_reading_far_away_coarsens_none_of_the_near_ones() -> None:
    raw = np.linspace(0.3, 0.8, 32 * 48, dtype=np.float32).reshape(32, 48)
    raw[0, 0] = 200.0
    given = replace(make_frame(), raw_depth=raw, raw_step_m=fine_step(raw))
    found = decode_frame(encode_frame(given, "s"), "here").raw_depth
    assert found is not None
    np.testing.assert_allclose(found[1:], raw[1:], atol=5.1e-4)


def test_a_camera_whose_place_nobody_knows_has_none() -> None:
    """In a standing camera's place, the change from frame to frame would be taken for flicker."""
    members = encode_frame(replace(make_frame(), world_to_camera=None), "s")
    assert "extrinsics" not in json.loads(members["metadata.json"])["camera_matrices"]
    found = decode_frame(members, "here")
    assert found.world_to_camera is None
    np.testing.assert_allclose(found.camera_matrix, _K, atol=1e-9)
    members["metadata.json"] = b'{"camera_matrices": {"intrinsics": [[1]], "extrinsics": null}}'
    with pytest.raises(DktError, match="here: "):
        decode_frame(members, "here")


def test_members_follow_the_public_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_sequence(path, "000007", [make_frame(4)])
    with tarfile.open(path) as tar:
        assert "000007_00000004.depth.json" in tar.getnames()
    members = encode_frame(make_frame(4), "000007")
    intrinsics = json.loads(members["metadata.json"])["camera_matrices"]["intrinsics"]
    assert intrinsics == [[50 / 48, 0, 0.5], [0, 50 / 48, 0.5], [0, 0, 1]]


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_sequence(tmp_path / name, "s", [make_frame()])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_own_members_are_optional() -> None:
    members = encode_frame(make_frame(), "s")
    for name in ("mask.png", "raw_depth.png", "normal.png"):
        del members[name]
    frame = decode_frame(members, "here")
    assert frame.mask is None
    assert frame.raw_depth is None
    assert frame.normal is None


@pytest.mark.parametrize(
    "name", ["image.png", "depth.png", "depth.json", "metadata.json", "mask.png", "raw_depth.png"]
)
def test_a_truncated_member_is_named(name: str) -> None:
    members = encode_frame(make_frame(), "s")
    whole = members[name]
    for end in (len(whole) // 2, -9):  # decoders do not miss the last chunk
        members[name] = whole[:end]
        with pytest.raises(DktError, match=f"here: {name}"):
            decode_frame(members, "here")


def test_a_missing_member_is_named() -> None:
    members = encode_frame(make_frame(), "s")
    del members["depth.json"]
    with pytest.raises(DktError, match=r"here: member depth\.json is missing"):
        decode_frame(members, "here")


def test_another_size_is_refused() -> None:
    members = encode_frame(make_frame(), "s")
    small = replace(make_frame(), rgb=np.zeros((8, 8, 3), np.uint8), depth=np.ones((8, 8)))
    small = replace(small, mask=None, normal=None, raw_depth=None)
    members["depth.png"] = encode_frame(small, "s")["depth.png"]
    with pytest.raises(DktError, match=r"depth\.png is 8x8, expected 32x48"):
        decode_frame(members, "here")
    for name in ("mask", "instance", "raw_depth"):
        other: dict[str, Any] = {name: np.ones((8, 8), np.uint8)}
        with pytest.raises(DktError, match=f"{name} is 8x8, expected 32x48"):
            encode_frame(replace(make_frame(), **other), "s")


@pytest.mark.parametrize("max_depth", [0, -1, None, "far"])
def test_a_depth_range_that_means_nothing_is_refused(max_depth: object) -> None:
    members = encode_frame(make_frame(), "s")
    members["depth.json"] = json.dumps({"max_depth": max_depth}).encode()
    with pytest.raises(DktError, match="max_depth"):
        decode_frame(members, "here")


def test_a_cut_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_sequence(path, "s", [make_frame()])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DktError, match=r"a\.tar"):
        read_sequence(path)
    path.write_bytes(b"not a tar at all")
    with pytest.raises(DktError, match=r"a\.tar: not a readable"):
        read_sequence(path)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(DktError):
        read_sequence(path)


def test_a_tar_cut_within_a_header_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_sequence(path, "s", [make_frame(0), make_frame(1)])
    with tarfile.open(path) as tar:
        second = next(info for info in tar if info.name.startswith("s_00000001"))
    path.write_bytes(path.read_bytes()[: second.offset + 100])
    with pytest.raises(DktError, match=r"a\.tar: damaged or cut short"):
        read_sequence(path)


def test_a_member_that_occurs_twice_is_named(tmp_path: Path) -> None:
    """As tar --append leaves it: which of the two is meant?"""
    path = tmp_path / "a.tar"
    write_sequence(path, "s", [make_frame()])
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("s_00000000.depth.json"))
    with pytest.raises(DktError, match=r"a\.tar: member s_00000000\.depth\.json occurs twice"):
        read_sequence(path)


def test_a_failing_source_leaves_no_tar(tmp_path: Path) -> None:
    def frames() -> Iterator[SequenceFrame]:
        yield make_frame()
        raise RuntimeError("the renderer died")

    with pytest.raises(RuntimeError):
        write_sequence(tmp_path / "a.tar", "s", frames())
    assert not (tmp_path / "a.tar").exists()


def test_instances_and_further_metadata_come_back(tmp_path: Path) -> None:
    instance = np.random.default_rng(0).integers(0, 9, (32, 48), dtype=np.uint8)
    extra = {"generator": {"version": 3}, "frame_id": "never this"}
    write_sequence(tmp_path / "a.tar", "x", [replace(make_frame(), instance=instance, extra=extra)])
    (found,) = read_sequence(tmp_path / "a.tar")
    assert found.instance is not None
    np.testing.assert_array_equal(found.instance, instance)
    assert found.extra == {"generator": {"version": 3}}
    assert found.index == 0


def test_a_second_writer_is_refused_and_the_first_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"

    def frames() -> Iterator[SequenceFrame]:
        yield make_frame(0)
        with pytest.raises(BusyError, match="being written by another process"):
            write_sequence(path, "x", [make_frame(5)])
        yield make_frame(1)

    write_sequence(path, "x", frames())
    assert [frame.index for frame in read_sequence(path)] == [0, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/a\.tar: cannot be written"):
        write_sequence(tmp_path / "file" / "a.tar", "x", [make_frame()])
