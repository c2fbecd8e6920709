"""Single files: colours, padding, normals."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.dataset_trees import CAMERA_MATRIX, HEIGHT, WIDTH, write_picture

from dkt_ros.errors import DktError
from dkt_ros.formats import pixels
from dkt_ros.formats.pictures import encoded
from dkt_ros.messages.images import integer_to_depth


def test_colours_are_not_swapped(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    for name in ("a.png", "a.jpg"):
        write_picture(tmp_path / name, red)
        found = pixels.read_rgb(tmp_path / name)
        np.testing.assert_allclose(found[4, 4], [200, 0, 0], atol=3)


def test_colours_may_be_an_array(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    for stored, expected in ((rgb, rgb), (rgb[..., :1], np.repeat(rgb[..., :1], 3, axis=-1))):
        np.save(tmp_path / "a.npy", stored)
        np.testing.assert_array_equal(pixels.read_rgb(tmp_path / "a.npy"), expected)
    for wrong in (rgb / 255, rgb[..., :2], np.stack([rgb, rgb]), np.moveaxis(rgb, 2, 0)):
        np.save(tmp_path / "a.npy", wrong)
        with pytest.raises(DktError, match=r"a\.npy: .*, expected an 8-bit colour picture"):
            pixels.read_rgb(tmp_path / "a.npy")
    with pytest.raises(DktError, match=r"a\.EXR: an EXR holds no 8-bit colours; render"):
        pixels.read_rgb(tmp_path / "a.EXR")


def tiff(pixels: np.ndarray, order: str, orientation: int, big: bool) -> bytes:
    """A TIFF of one strip, whose metadata asks for it to be turned."""
    (height, width, *colours), bits = pixels.shape, 8 * pixels.itemsize
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    count, kind = colours[0] if colours else 1, {"u": 1, "f": 3}[pixels.dtype.kind]
    word, start, header = ("Q", 16, 8) if big else ("I", 8, 2)
    tags = [
        *((256, width), (257, height), (258, bits), (259, 1), (262, 2 if colours else 1)),
        *((273, start), (274, orientation), (277, count), (278, height), (279, len(data))),
        *((284, 1), (339, kind)),
    ]
    behind = start + len(data) + header + len(tags) * (20 if big else 12) + struct.calcsize(word)
    entries, more = b"", b""
    for tag, value in tags:
        if tag in (258, 339) and colours and not big:
            entries += struct.pack(f"{order}HHII", tag, 3, 3, behind + len(more))
            more += struct.pack(f"{order}3H", *3 * [value])
        elif tag in (258, 339) and colours:
            entries += struct.pack(f"{order}HHQ3Hxx", tag, 3, 3, *3 * [value])
        elif tag in (256, 257, 273, 278, 279):
            entries += struct.pack(
                f"{order}HH{word}{word}",
                tag,
                4,
                1,
                value << 32 * (big and order == ">") if big else value,
            )
        else:
            entries += struct.pack(f"{order}HH{word}H{'6x' if big else '2x'}", tag, 3, 1, value)
    mark = {"<": b"II", ">": b"MM"}[order]
    version = (
        struct.pack(f"{order}HHHQ", 43, 8, 0, start + len(data))
        if big
        else (struct.pack(f"{order}HI", 42, start + len(data)))
    )
    number = struct.pack(order + ("Q" if big else "H"), len(tags))
    return mark + version + data + number + entries + struct.pack(order + word, 0) + more


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_tiff_is_read_as_it_is_stored(
    tmp_path: Path, order: str, orientation: int, big: bool
) -> None:
    """As PNG and JPEG are, which the other one of colour and depth may be."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (6, 8, 3), np.uint8)
    depth = rng.uniform(0.3, 2.0, (6, 8)).astype(np.float32)
    steps = np.arange(300, 348, dtype=np.uint16).reshape(6, 8)
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(rgb, order, orientation, big))
    np.testing.assert_array_equal(pixels.read_rgb(path), rgb)
    path.write_bytes(tiff(depth, order, orientation, big))
    np.testing.assert_array_equal(pixels.read_depth(path), depth)
    path.write_bytes(tiff(steps, order, orientation, big))
    np.testing.assert_allclose(pixels.read_depth(path), steps * 0.001, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x18ftypheic", "a picture of HEIC, which is not read here; convert it to PNG"),
        (b"\0\0\0\x1cftypavif", "a picture of AVIF"),
        (tiff(np.ones((6, 8), np.float16), "<", 1, big=False), "a TIFF of numbers that OpenCV"),
        (tiff(np.ones((6, 8), np.uint16), "<", 1, big=False)[:40], "damaged, or a TIFF"),
        (b"II*\0", "damaged, or a TIFF"),
        (b"no picture", "damaged, or no picture; download it again"),
    ],
)
def test_what_a_picture_is_that_cannot_be_read(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (pixels.read_rgb, pixels.read_depth):
        with pytest.raises(DktError, match=said):
            read(path)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.exr", "a.npz"])
def test_a_pipe_is_refused_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for read in (pixels.read_depth, pixels.read_mask):
        with pytest.raises(DktError, match=rf"{name} is neither a file nor a folder; store it"):
            read(tmp_path / name)


@pytest.mark.parametrize("unit", [0.0, -0.001, float("nan"), float("inf")])
def test_a_step_of_depth_is_a_number_above_0(tmp_path: Path, unit: float) -> None:
    write_picture(tmp_path / "a.png", np.full((4, 4), 500, np.uint16))
    with pytest.raises(DktError, match=f"a step of depth is {unit:g} m, expected a finite number"):
        pixels.read_depth(tmp_path / "a.png", unit)
    with pytest.raises(DktError, match="a step of depth is"):
        integer_to_depth(np.full((4, 4), 500, np.uint16), unit)


def test_a_file_padded_after_its_end_is_whole(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for name in ("a.png", "a.jpg"):
        path = tmp_path / name
        write_picture(path, picture)
        path.write_bytes(path.read_bytes() + b"\0" * 9000)
        assert pixels.read_rgb(path).shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_picture(path, np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8))
    content = path.read_bytes()
    for size in range(0, len(content) - 2, 37):
        path.write_bytes(content[:size])
        with pytest.raises(DktError, match=rf"{name}: (is empty|truncated|damaged)"):
            pixels.read_rgb(path)


@pytest.mark.parametrize("picture", ["smooth", "noise", "flat"])
@pytest.mark.parametrize("quality", [30, 75, 100])
def test_sound_jpegs_are_read_as_opencv_reads_them(
    tmp_path: Path, picture: str, quality: int
) -> None:
    path, found = tmp_path / "a.jpg", pictures()[picture]
    for progressive, restarts in ((0, 0), (1, 0), (0, 2)):
        save_jpeg(path, found, quality, progressive, restarts)
        expected = cv2.imread(str(path))[..., ::-1]
        np.testing.assert_array_equal(pixels.read_rgb(path), expected)
    save_jpeg(path, found[..., 0], quality)
    grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(pixels.read_label(path), grey)


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_damaged_within_is_refused(tmp_path: Path, progressive: int) -> None:
    path = tmp_path / "a.jpg"
    save_jpeg(path, pictures()["smooth"], 90, progressive)
    sound = path.read_bytes()
    third = len(sound) // 3
    middle = {
        "zeros": bytes(third),
        "gone": b"",
        "other": np.random.default_rng(1).integers(0, 256, third, np.uint8).tobytes(),
    }
    for content in middle.values():
        path.write_bytes(sound[:third] + content + sound[2 * third :])
        with pytest.raises(DktError, match=r"a\.jpg: damaged \(.+\); download it again"):
            pixels.read_rgb(path)


def pictures() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 3).astype(float)
    smooth = np.rint(255 * (blurred - blurred.min()) / np.ptp(blurred)).astype(np.uint8)
    return {"noise": noise, "smooth": smooth, "flat": np.full_like(noise, 7)}


def save_jpeg(
    path: Path, picture: np.ndarray, quality: int, progressive: int = 0, restarts: int = 0
) -> None:
    options = {
        cv2.IMWRITE_JPEG_QUALITY: quality,
        cv2.IMWRITE_JPEG_PROGRESSIVE: progressive,
        cv2.IMWRITE_JPEG_RST_INTERVAL: restarts,
    }
    assert cv2.imwrite(str(path), picture, [value for item in options.items() for value in item])


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_grey_is_colour_of_three_equal_channels(tmp_path: Path, name: str) -> None:
    grey = np.repeat(np.arange(0, 160, 2, dtype=np.uint8)[None], 48, axis=0)
    write_picture(tmp_path / name, grey)
    rgb = pixels.read_rgb(tmp_path / name)
    assert (rgb.shape, rgb.dtype) == ((48, 80, 3), np.uint8)
    assert np.abs(rgb.astype(int) - grey[..., None]).max() <= 3


def test_labels_kept_as_grey_colour_are_read(tmp_path: Path) -> None:
    label = np.random.default_rng(0).integers(0, 70, (8, 9), np.uint8)
    write_picture(tmp_path / "a.png", np.repeat(label[..., None], 3, axis=-1))
    np.testing.assert_array_equal(pixels.read_label(tmp_path / "a.png"), label)


def test_labels_that_may_be_the_transparency_are_refused(tmp_path: Path) -> None:
    label = np.random.default_rng(0).integers(0, 2, (8, 9), np.uint8)
    grey = np.repeat(label[..., None], 3, axis=-1)
    for name, picture, alpha in (("a.png", np.zeros_like(grey), label), ("b.png", grey, 1 - label)):
        assert cv2.imwrite(str(tmp_path / name), np.dstack([picture, 255 * alpha]))
        with pytest.raises(DktError, match=rf"{name}: is transparent in part"):
            pixels.read_label(tmp_path / name)
    assert cv2.imwrite(str(tmp_path / "c.png"), np.dstack([grey, np.full_like(label, 255)]))
    np.testing.assert_array_equal(pixels.read_label(tmp_path / "c.png"), label)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("a.jpg", ".jpg", "JPEG"),
        ("named.png", ".jpg", "JPEG"),
        ("a.webp", ".webp", "WebP"),
        ("a.jp2", ".jp2", "JPEG"),
    ],
)
def test_masks_kept_as_jpeg_are_refused(tmp_path: Path, name: str, kind: str, said: str) -> None:
    """Around each edge it would have objects, some of them of metal."""
    mask = np.zeros((48, 48), np.uint8)
    mask[15:31, 9:27] = 255
    path = tmp_path / name
    quality = (cv2.IMWRITE_WEBP_QUALITY, 80) if kind == ".webp" else ()
    path.write_bytes(encoded(kind, mask, *quality))
    for read in (pixels.read_mask, pixels.read_object_mask):
        with pytest.raises(DktError, match=rf"{name}: a {said}, which keeps no exact numbers"):
            read(path)


def test_a_mask_may_be_a_webp_that_keeps_numbers(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (16, 16), np.uint8)
    (tmp_path / "a.webp").write_bytes(encoded(".webp", mask, cv2.IMWRITE_WEBP_QUALITY, 101))
    np.testing.assert_array_equal(pixels.read_mask(tmp_path / "a.webp"), mask)


def test_depth_is_divided_by_its_units(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 1, 4000, 65534, 65535]], np.uint16))
    depth = pixels.read_depth_png(tmp_path / "a.png", 4000)
    np.testing.assert_allclose(depth, [[0, 0.00025, 1.0, 16.3835, 0]])
    assert depth.dtype == np.float32


def test_grey_means_no_normal(tmp_path: Path) -> None:
    stored = np.full((4, 4, 3), 127, np.uint8)
    stored[0, 0] = [255, 128, 128]
    write_picture(tmp_path / "a.png", stored)
    normal = pixels.read_normal_png(tmp_path / "a.png")
    np.testing.assert_allclose(normal[0, 0], [1, 0, 0], atol=0.005)
    assert not normal[1:].any()


def test_normals_are_turned_towards_the_camera_by_their_ray() -> None:
    # At the left edge the ray leans so far left that a wall facing right is seen from within.
    normal = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    normal[..., 0], normal[..., 2] = 0.95, 0.31
    wide = CAMERA_MATRIX.copy()
    wide[0, 0] = 10.0
    turned = pixels.facing_camera(normal, wide)
    np.testing.assert_array_equal(turned[5, 0], normal[5, 0])  # 0.95 * -3.95 + 0.31 < 0
    np.testing.assert_array_equal(turned[5, 79], -normal[5, 79])
    down = np.zeros_like(normal)
    down[..., 1], down[..., 2] = 0.99, 0.05
    high = CAMERA_MATRIX.copy()
    high[1, 1] = 10.0
    turned = pixels.facing_camera(down, high)
    np.testing.assert_array_equal(turned[:22], down[:22])  # 0.99 * -0.25 + 0.05 < 0
    np.testing.assert_array_equal(turned[24:], -down[24:])
    np.testing.assert_array_equal(pixels.facing_camera(normal, None), -normal)
    np.testing.assert_array_equal(pixels.facing_camera(-normal, None), -normal)
