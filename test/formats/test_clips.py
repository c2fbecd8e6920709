"""Clips from every kind of file, and what is wrong with broken ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats.clips import read_clip, read_raw_depth
from dkt_ros.formats.pictures import natural_key


def frames(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Even colours, a different one per frame, red unlike blue."""
    rgb = np.empty((count, height, width, 3), np.uint8)
    for n in range(count):
        rgb[n] = (200 - 15 * n, 100, 10 * n)
    return rgb


def write_image(file: Path, rgb: np.ndarray) -> None:
    assert cv2.imwrite(str(file), rgb[..., ::-1])


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    clip = frames(12)
    for n in (10, 2, 0, 11, 1, 9, 3, 4, 5, 6, 7, 8):
        write_image(tmp_path / f"frame{n}.png", clip[n])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._frame0.png").write_bytes(b"macOS")
    np.testing.assert_array_equal(read_clip(tmp_path), clip)


def test_natural_order() -> None:
    names = ["10.png", "a2.png", "A10.png", "2.png", "a1b3.png", "a1b20.png"]
    ordered = ["2.png", "10.png", "a1b3.png", "a1b20.png", "a2.png", "A10.png"]
    assert sorted(names, key=lambda name: natural_key(Path(name))) == ordered


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".bmp", ".tiff", ".webp", ".ppm", ".jp2"])
def test_image_formats(tmp_path: Path, suffix: str) -> None:
    clip = frames(1)
    write_image(tmp_path / f"x{suffix}", clip[0])
    for source in (tmp_path, tmp_path / f"x{suffix}"):
        read = read_clip(source)
        assert read.shape == clip.shape
        assert np.abs(read.astype(int) - clip).max() <= 6


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.full((8, 8), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), np.full((8, 8, 4), (1, 2, 3, 4), np.uint8))
    clip = read_clip(tmp_path)
    assert clip[0, 0, 0].tolist() == [77, 77, 77]
    assert clip[1, 0, 0].tolist() == [3, 2, 1]


def test_mixed_sizes_name_the_file(tmp_path: Path) -> None:
    for n, width in enumerate((48, 48, 40)):
        write_image(tmp_path / f"{n}.png", frames(1, 32, width)[0])
    with pytest.raises(DktError, match=r"2\.png is 32x40, 0\.png is 32x48"):
        read_clip(tmp_path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", frames(1)[0])
    write_image(tmp_path / "0.jpg", frames(1)[0])
    jpeg = (tmp_path / "0.jpg").read_bytes()
    for content, problem in (
        (b"", "is empty"),
        (b"\x89PNG broken", "damaged, or no picture"),
        (jpeg[: len(jpeg) // 2], "truncated picture"),  # OpenCV would fill it up with grey
    ):
        (tmp_path / "1.png").write_bytes(content)
        with pytest.raises(DktError, match=rf"1\.png: {problem}"):
            read_clip(tmp_path)


def test_depth_beside_colour_is_named_and_left_to_a_pattern(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    for index, picture in enumerate(rgb):
        cv2.imwrite(str(tmp_path / f"{index}_rgb.png"), picture[..., ::-1])
        cv2.imwrite(str(tmp_path / f"{index}_depth.png"), np.full((8, 12), 500, np.uint16))
    with pytest.raises(
        DktError, match=r"0_depth\.png: uint16 with 1 channel, expected an 8-bit colour.*--color"
    ):
        read_clip(tmp_path)
    np.testing.assert_array_equal(read_clip(tmp_path, "*rgb.png"), rgb)
    with pytest.raises(DktError, match=r"holds no image \*color\*; it holds 0_depth\.png"):
        read_clip(tmp_path, "*color*")
    with pytest.raises(DktError, match="is no folder"):
        read_clip(tmp_path / "0_rgb.png", "*rgb.png")


def test_colour_and_depth_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    clip = frames(2)
    for role in ("color", "depth", "scene10", "scene9"):
        (tmp_path / role).mkdir()
    for n, picture in enumerate(clip):
        write_image(tmp_path / "color" / f"{9 + n}.png", picture)
        depth_file = tmp_path / "depth" / f"{9 + n}.png"
        cv2.imwrite(str(depth_file), np.full((32, 48), 500 + n, np.uint16))
    np.testing.assert_array_equal(read_clip(tmp_path, "color/*"), clip)
    for scene, picture in zip(("scene9", "scene10"), clip, strict=True):
        write_image(tmp_path / scene / "rgb.png", picture)
    np.testing.assert_array_equal(read_clip(tmp_path, "*/rgb.png"), clip)
    depth = read_raw_depth(tmp_path, "depth/*", clip)
    assert depth is not None
    np.testing.assert_allclose(depth[:, 0, 0], [0.5, 0.501])
    with pytest.raises(DktError, match=r"holds no images; .* below \(--color 'color/\*'\)"):
        read_clip(tmp_path)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DktError, match="holds no images"):
        read_clip(tmp_path)


@pytest.mark.parametrize(("suffix", "code"), [(".avi", "MJPG"), (".mp4", "mp4v")])
def test_a_video(tmp_path: Path, suffix: str, code: str) -> None:
    clip = frames(6, 64, 96)
    file = tmp_path / f"clip{suffix}"
    fourcc = cv2.VideoWriter_fourcc(*code)  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(file), fourcc, 10, (96, 64))
    for frame in clip:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    read = read_clip(file)
    assert read.shape == clip.shape
    assert np.abs(read.astype(int) - clip).mean() < 6


@pytest.mark.parametrize("name", ["clip.mp4", "clip.weights", "clip"])
def test_what_is_no_video_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a video at all")
    with pytest.raises(DktError, match=f"{name} gives no video frames"):
        read_clip(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp4", "a.npz"])
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DktError, match=rf"{name} is neither a file nor a folder"):
        read_clip(tmp_path / name)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rgb=frames(3), other=np.zeros(2))
    np.testing.assert_array_equal(read_clip(tmp_path / "a.npz"), frames(3))


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"frames": frames(1)}, r"holds \['frames'\], expected an array rgb"),
        ({"rgb": frames(1).astype(np.float32)}, "float32"),
        ({"rgb": frames(1)[0]}, r"\(32, 48, 3\)"),
        ({"rgb": frames(1)[..., :2]}, r"\(1, 32, 48, 2\)"),
        ({"rgb": frames(0)}, r"\(0, 32, 48, 3\)"),
        ({"rgb": np.array([{"a": 1}], dtype=object)}, "cannot be read as numpy's plain arrays"),
    ],
)
def test_npz_that_does_not_fit_is_named(tmp_path: Path, arrays: dict, named: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DktError, match=rf"a\.npz.*{named}"):
        read_clip(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_a_broken_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DktError, match=r"a\.npz"):
        read_clip(tmp_path / "a.npz")


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"none\.mp4 does not exist"):
        read_clip(tmp_path / "none.mp4")


def test_raw_depth_of_a_folder_is_millimetres_or_metres(tmp_path: Path) -> None:
    rgb = frames(2)
    depth = np.full(rgb.shape[1:3], 0.5, np.float32)
    depth[0] = np.inf
    cv2.imwrite(str(tmp_path / "0_depth.png"), np.where(np.isinf(depth), 0, 500).astype(np.uint16))
    np.save(tmp_path / "1_depth.npy", depth)
    found = read_raw_depth(tmp_path, "*_depth.*", rgb)
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.stack([np.where(np.isinf(depth), np.nan, depth)] * 2))


@pytest.mark.parametrize("name", ["raw_depth", "depth"])
def test_raw_depth_of_arrays_has_either_name_and_unit(tmp_path: Path, name: str) -> None:
    path, rgb = tmp_path / "clip.npz", frames(2)
    metres = np.full(rgb.shape[:3], 0.5, np.float32)
    metres[0, 0], metres[1, 0] = np.nan, 20.0
    millimetres = np.nan_to_num(1000 * metres).astype(np.uint16)
    millimetres[0, 0, 1:] = 65535
    otherwise = np.nan_to_num(metres)
    otherwise[0, 0, 1:3] = np.inf, -1.0
    for depth in (metres, otherwise, millimetres):
        np.savez(path, rgb=rgb, **{"depth": 2 * metres, name: depth})
        found = read_raw_depth(path, None, rgb)
        assert found is not None
        np.testing.assert_allclose(found, metres)
    np.savez(path, rgb=rgb, **{name: np.full(rgb.shape[:3], 128, np.uint8)})
    with pytest.raises(DktError, match=r"raw depth is uint8 .* or millimetres as integers of 16"):
        read_raw_depth(path, None, rgb)


def test_raw_depth_of_another_size_is_refused(tmp_path: Path) -> None:
    rgb = frames(2)
    for n in range(2):
        cv2.imwrite(str(tmp_path / f"{n}_depth.png"), np.full((16, 24), 500, np.uint16))
    with pytest.raises(DktError, match=r"0_depth\.png is 16x24, the colour images are 32x48: raw"):
        read_raw_depth(tmp_path, "*_depth.png", rgb)
    for shape in ((2, 16, 24), (1, 32, 48)):
        np.savez(tmp_path / "clip.npz", rgb=rgb, depth=np.ones(shape, np.float32))
        with pytest.raises(
            DktError, match=r"raw depth is float32 .*one picture for each of colour"
        ):
            read_raw_depth(tmp_path / "clip.npz", None, rgb)


def test_depth_that_would_go_to_another_picture_is_refused(tmp_path: Path) -> None:
    """Of as many, each side lacks another one."""
    (tmp_path / "color").mkdir()
    for number in (0, 1, 3):
        write_image(tmp_path / f"color/{number}.png", np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "depth").mkdir()
    for number in (0, 1, 2):
        cv2.imwrite(str(tmp_path / f"depth/{number}.png"), np.full((4, 6), 500, np.uint16))
    rgb = read_clip(tmp_path, "color/*")
    with pytest.raises(DktError, match=r"3\.png would have 2\.png: a picture is missing before"):
        read_raw_depth(tmp_path, "depth/*", rgb, "color/*")
    np.savez(tmp_path / "clip.npz", rgb=rgb, depth=np.ones((3, 4, 6), np.float32))
    with pytest.raises(DktError, match=r"clip\.npz is no folder: .* an \.npz has it as raw_depth"):
        read_raw_depth(tmp_path / "clip.npz", "depth/*", rgb)
