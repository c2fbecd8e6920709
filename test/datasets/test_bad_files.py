"""Files that do not fit: each is named with its reason, none is learned from."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.dataset_trees import HEIGHT, WIDTH, truncate
from scipy.io import savemat

from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.datasets.sample import BadFrameError
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import encode_frame


def clearpose(root: Path) -> Clip:
    trees.clearpose_scene(root / "set1/scene1")
    return open_dataset(root)[0]


def problems_of(clip: Clip, index: int = 0) -> tuple[str, ...]:
    with pytest.raises(BadFrameError) as caught:
        clip.read(index)
    assert str(caught.value) == "; ".join(caught.value.problems)
    return caught.value.problems


def as_float(path: Path) -> None:
    trees.write_exr(path, {"Y": np.ones((HEIGHT, WIDTH), np.float32)})


def small_mask(path: Path) -> None:
    trees.write_picture(path, np.zeros((20, 30), np.uint8))


def flat(path: Path) -> None:
    trees.write_picture(path, np.full((HEIGHT, WIDTH), 700, np.uint16))


def no_depth(path: Path) -> None:
    trees.write_picture(path, np.zeros((HEIGHT, WIDTH), np.uint16))


def in_alpha(path: Path) -> None:
    picture = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    picture[:20, :, 3] = 0
    assert cv2.imwrite(str(path), picture)


def eight_bit(path: Path) -> None:
    trees.write_picture(path, np.full((HEIGHT, WIDTH), 7, np.uint8))


def colour(path: Path) -> None:
    trees.write_picture(path, np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH, 3), np.uint8))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("ending", "damage", "reason"),
    [
        ("color.png", Path.unlink, "cannot be read (No such file or directory)"),
        ("color.png", truncate, "truncated picture"),
        ("color.png", flip_byte, "damaged, or no picture"),
        ("color.png", empty, "is empty"),
        ("color.png", as_float, "damaged, or no picture"),
        ("color.png", flat, "uint16 with 1 channel, expected an 8-bit colour picture"),
        ("depth_true.png", Path.unlink, "cannot be read (No such file or directory)"),
        ("depth_true.png", truncate, "truncated picture"),
        ("depth_true.png", flat, "depth range of zero: every known pixel is at 0.7 m"),
        ("depth_true.png", no_depth, "no pixel has a known depth"),
        ("depth_true.png", eight_bit, "uint8 with 1 channel, expected depth in one channel of 16"),
        ("depth.png", Path.unlink, "cannot be read (No such file or directory)"),
        ("label.png", Path.unlink, "cannot be read (No such file or directory)"),
        ("label.png", small_mask, "is 30x20, expected 80x48 as 000001-color.png"),
        ("label.png", in_alpha, "is transparent in part, so that colour and alpha may both be"),
        ("label.png", colour, "uint8 with 3 channels, expected labels in one channel of 8 bits"),
        ("normal_true.png", truncate, "truncated picture"),
        ("normal_true.png", eight_bit, "uint8 with 1 channel, expected an 8-bit colour picture"),
    ],
)
def test_clearpose_file(
    tmp_path: Path, ending: str, damage: Callable[[Path], None], reason: str
) -> None:
    clip = clearpose(tmp_path)
    path = tmp_path / f"set1/scene1/000001-{ending}"
    damage(path)
    (problem,) = problems_of(clip, 1)
    assert problem.startswith(f"{path}: ")
    assert reason in problem
    clip.read(0)  # its neighbours are none the worse
    clip.read(2)


def test_every_bad_file_of_a_frame_is_named(tmp_path: Path) -> None:
    clip = clearpose(tmp_path)
    scene = tmp_path / "set1/scene1"
    (scene / "000000-color.png").unlink()
    truncate(scene / "000000-depth.png")
    empty(scene / "000000-label.png")
    problems = problems_of(clip)
    assert [problem.partition(": ")[0] for problem in problems] == [
        str(scene / f"000000-{ending}") for ending in ("color.png", "depth.png", "label.png")
    ]


def test_a_frame_of_which_one_file_is_left_is_still_noticed(tmp_path: Path) -> None:
    clearpose(tmp_path)
    for ending in ("color.png", "depth.png", "label.png", "normal_true.png"):
        (tmp_path / f"set1/scene1/000001-{ending}").unlink()
    clip = open_dataset(tmp_path)[0]
    assert clip.keys == ("000000", "000001", "000002")
    assert len(problems_of(clip, 1)) == 3


def test_an_all_unknown_raw_depth_is_remarked(tmp_path: Path) -> None:
    clip = clearpose(tmp_path)
    no_depth(tmp_path / "set1/scene1/000000-depth.png")
    (remark,) = clip.read(0).remarks
    assert remark.endswith("000000-depth.png: holds no reading at all")


def test_a_gap_in_a_video_is_named(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set1/scene1", frames=6)
    for path in (tmp_path / "set1/scene1").glob("000003-*"):
        path.unlink()
    (problem,) = open_dataset(tmp_path)[0].problems()
    assert "not at 1 place, first between 000002 and 000004" in problem


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.9])
def test_clearpose_metadata_cut_short(tmp_path: Path, keep: float) -> None:
    clip = clearpose(tmp_path)
    truncate(tmp_path / "set1/scene1/metadata.mat", keep)
    (problem,) = clip.problems()
    assert "set1/scene1/metadata.mat: not a readable MATLAB file" in problem
    assert clip.read(0).camera_matrix is None


@pytest.mark.parametrize(
    "entry",
    [
        {"intrinsic_matrix": np.eye(2)},
        {"intrinsic_matrix": np.zeros((3, 3))},
        {"intrinsic_matrix": np.full((3, 3), np.nan)},
        {"rotation_translation_matrix": 2 * np.eye(3, 4)},
        {"factor_depth": np.array([[0]])},
        {"factor_depth": "metres"},
    ],
)
def test_clearpose_metadata_without_sense(tmp_path: Path, entry: dict) -> None:
    clip = clearpose(tmp_path)
    good = {
        "intrinsic_matrix": trees.CAMERA_MATRIX,
        "rotation_translation_matrix": np.eye(3, 4),
        "factor_depth": np.array([[1000]]),
    }
    path = tmp_path / "set1/scene1/metadata.mat"
    savemat(str(path), {"000000": good, "000001": {**good, **entry}})
    assert clip.problems() == ()
    assert clip.read(0).camera_matrix is not None
    (remark,) = clip.read(1).remarks
    assert remark == f"{path}: has no usable entry 000001, so that frame has no camera"
    savemat(str(path), {"000001": {**good, **entry}})
    assert "has no frame with camera_intrinsics" in clip.problems()[0]


def rewrite_tar(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Applies a change to the members of a tar's first frame and writes it anew."""
    frames = [encode_frame(trees.sequence_frame(i), "s") for i in range(3)]
    change(frames[0])
    with tarfile.open(path, "w") as tar:
        for index, members in enumerate(frames):
            for name, content in members.items():
                info = tarfile.TarInfo(f"000000_{index:08d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("image.png"), "member image.png is missing"),
        (lambda m: m.pop("metadata.json"), "member metadata.json is missing"),
        (lambda m: m.update({"depth.png": m["depth.png"][:200]}), "depth.png is truncated"),
        (lambda m: m.update({"depth.json": b'{"max_depth": 0}'}), "max_depth is 0, expected"),
        (lambda m: m.update({"depth.json": b'{"max_depth": NaN}'}), "max_depth is nan, expected"),
        (lambda m: m.update({"depth.json": b"{"}), "depth.json is not JSON"),
    ],
)
def test_transphy3d_member(
    tmp_path: Path, change: Callable[[dict[str, bytes]], None], reason: str
) -> None:
    path = tmp_path / "train/000000.tar"
    path.parent.mkdir()
    rewrite_tar(path, change)
    (clip,) = open_dataset(tmp_path)
    (problem,) = problems_of(clip)
    assert problem.startswith(f"{path}: 000000_00000000: ")
    assert reason in problem
    clip.read(1)


@pytest.mark.parametrize(
    ("member", "array", "reason"),
    [
        ("mask.png", np.zeros((20, 30), np.uint8), "mask.png is 20x30, expected 48x80"),
        ("mask.png", np.full((HEIGHT, WIDTH), 255, np.uint8), "mask.png holds 255, expected"),
        ("depth.png", np.full((HEIGHT, WIDTH), 99, np.uint16), "depth range of zero"),
        ("depth.png", np.zeros((HEIGHT, WIDTH), np.uint16), "no pixel has a known depth"),
    ],
)
def test_transphy3d_picture(tmp_path: Path, member: str, array: np.ndarray, reason: str) -> None:
    picture = tmp_path / "picture.png"
    trees.write_picture(picture, array)
    rewrite_tar(tmp_path / "000000.tar", lambda m: m.update({member: picture.read_bytes()}))
    (problem,) = problems_of(open_dataset(tmp_path)[0])
    assert reason in problem


APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(82)


@pytest.mark.parametrize(
    "tree",
    [
        lambda root: trees.clearpose_scene(root / "set1/scene1"),
        lambda root: trees.dreds_scene(root / "train/00001"),
        lambda root: trees.hiss_folder(root / "train/scene"),
        lambda root: trees.cleargrasp_rendered(root / "cup-train"),
        lambda root: trees.cleargrasp_real(root / "real-val/d435"),
        trees.transphy3d_tree,
        trees.transcg_tree,
    ],
)
def test_what_systems_leave_behind_is_no_part_of_a_data_set(
    tmp_path: Path, tree: Callable[[Path], None]
) -> None:
    """macOS writes ._x beside every x, in tars and zips as well; Jupyter keeps copies."""
    tree(tmp_path / "data")
    before = {clip.name: clip.keys for clip in open_dataset(tmp_path / "data")}
    for path in [p for p in (tmp_path / "data").rglob("*") if p.is_file()]:
        below = path.relative_to(tmp_path / "data")
        places = [path.parent, tmp_path / "data/__MACOSX" / below.parent]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            (place / f"._{path.name}").write_bytes(APPLE_DOUBLE)
        (path.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
        (path.parent / ".ipynb_checkpoints" / path.name).write_bytes(path.read_bytes())
    dataset = open_dataset(tmp_path / "data")
    assert {clip.name: clip.keys for clip in dataset} == before
    assert all(clip.problems() == () for clip in dataset)


def members_of(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        found = []
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            found.append((info.name, file.read()))
        return found


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def test_a_tar_packed_on_macos_has_its_own_frames_alone(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("train",))
    path = tmp_path / "train/000000_materials.000000.tar"
    members = members_of(path)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            add(tar, f"./._{name}", APPLE_DOUBLE)
            add(tar, f"./{name}", content)
    (clip,) = open_dataset(tmp_path)
    assert clip.keys == ("000000_00000000", "000000_00000001", "000000_00000002")
    clip.read(2)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_tar_stands_for_what_it_leads_to(tmp_path: Path, kind: bytes) -> None:
    """tar writes them for files that share their content on the disk it was packed on."""
    trees.transphy3d_tree(tmp_path, splits=("train",))
    path = tmp_path / "train/000000_materials.000000.tar"
    before = open_dataset(tmp_path)[0].read(1)
    members = members_of(path)
    first = members[0][0].partition(".")[0]

    def pack(target: str) -> Clip:
        with tarfile.open(path, "w") as tar:
            for name, content in members:
                if name.endswith(".depth.json") and not name.startswith(first):
                    info = tarfile.TarInfo(f"seq/{name}")
                    info.type, info.linkname = kind, target
                    tar.addfile(info)
                else:
                    add(tar, f"seq/{name}", content)
        return open_dataset(tmp_path)[0]

    place = "" if kind == tarfile.SYMTYPE else "seq/"
    clip = pack(f"{place}{first}.depth.json")
    assert len(clip) == 3
    np.testing.assert_array_equal(clip.read(1).depth, before.depth)
    clip = pack("elsewhere.json")
    with pytest.raises(DktError, match=r"depth\.json is a link to elsewhere\.json, which does not"):
        len(clip)


def test_tars_put_together_by_cat_are_not_taken_for_the_first(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    first, second = sorted(tmp_path.rglob("*.tar"))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    (clip, sound) = open_dataset(tmp_path)
    with pytest.raises(DktError, match="more follows the end of the tar"):
        len(clip)
    assert len(sound) == 3


def shorten(path: Path) -> None:
    """Cuts a tar within a header, which tarfile takes for the end."""
    with tarfile.open(path) as tar:
        header = tar.getmembers()[7].offset
    path.write_bytes(path.read_bytes()[: header + 100])


def drop_end(path: Path) -> None:
    with tarfile.open(path) as tar:
        tar.getmembers()
        end = tar.offset
    path.write_bytes(path.read_bytes()[:end])


def spoil_header(path: Path) -> None:
    with tarfile.open(path) as tar:
        header = tar.getmembers()[7].offset
    content = bytearray(path.read_bytes())
    content[header + 148] ^= 0xFF  # its checksum
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: truncate(path, 0.001), "not a readable uncompressed tar"),
        (empty, "not a readable uncompressed tar"),
        (lambda path: path.write_bytes(b"\0" * 10240), "holds no frame"),
        (lambda path: path.write_bytes(b"nonsense" * 200), "not a readable uncompressed tar"),
        (lambda path: path.write_bytes(b"PKU/1.png" * 200), "not a readable uncompressed tar"),
        (shorten, "damaged or cut short after 1 frame,"),
        (spoil_header, "damaged or cut short after 1 frame,"),
        (drop_end, "damaged or cut short after 3 frames"),
    ],
)
def test_transphy3d_tar(tmp_path: Path, damage: Callable[[Path], None], reason: str) -> None:
    trees.transphy3d_tree(tmp_path)
    path = tmp_path / "train/000000_materials.000000.tar"
    damage(path)
    (clip,) = open_dataset(tmp_path).select("train")
    with pytest.raises(DktError) as caught:
        len(clip)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_a_tar_cut_within_its_last_member_is_refused(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    path = tmp_path / "train/000000_materials.000000.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + last.size // 2])
    with pytest.raises(DktError, match=f"cut short within {last.name}"):
        len(open_dataset(tmp_path).select("train")[0])


def test_a_tar_cut_anywhere_is_refused(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, frames=1)
    path = tmp_path / "train/000000_materials.000000.tar"
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        tar.getmembers()
        end = tar.offset
    for size in range(0, end + 512, 509):
        path.write_bytes(content[:size])
        (clip,) = open_dataset(tmp_path).select("train")
        with pytest.raises(DktError, match=r"000000_materials\.000000\.tar: "):
            len(clip)


def test_a_tar_that_changes_while_open_is_noticed(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("train",))
    (clip,) = open_dataset(tmp_path)
    assert len(clip) == 3
    trees.transphy3d_tree(tmp_path, splits=("train",), frames=2)
    assert problems_of(clip, 2) == (f"{clip.path}: 000000_00000002: is gone, the tar was changed",)
    truncate(clip.path)
    with pytest.raises(DktError, match="cut short"):
        clip.read(1)


def test_a_scene_that_lost_its_truth_is_not_overlooked(tmp_path: Path) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    trees.dreds_scene(tmp_path / "train/00002")
    for path in (tmp_path / "train/00002").glob("*_depth_120.exr"):
        path.unlink()
    dataset = open_dataset(tmp_path)
    assert [clip.name for clip in dataset] == ["train/00001", "train/00002"]
    assert "0000_depth_120.exr: cannot be read" in problems_of(dataset[1])[0]


def test_nan_depth_is_unknown_and_remarked(tmp_path: Path) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    path = tmp_path / "train/00001/0000_depth_120.exr"
    depth = trees.scene().depth
    depth[3, 4:9] = np.nan
    trees.write_grey_exr(path, depth)
    sample = open_dataset(tmp_path)[0].read(0)
    assert np.isnan(sample.depth[3, 4:9]).all()
    assert sample.remarks == (f"{path}: 5 of 3840 pixels are NaN; read as unknown",)


def test_negative_depth_is_remarked_where_it_is_no_marker(tmp_path: Path) -> None:
    trees.cleargrasp_real(tmp_path / "d435")
    path = tmp_path / "d435/000000000-opaque-depth-img.exr"
    depth = trees.scene().depth
    depth[3, 4] = -0.5
    depth[3, 5] = np.inf
    trees.write_grey_exr(path, depth)
    sample = open_dataset(tmp_path)[0].read(0)
    assert np.isnan(sample.depth[3, 4:6]).all()
    assert sample.remarks == (
        f"{path}: 1 of 3840 pixels are negative; read as unknown",
        f"{path}: 1 of 3840 pixels are at 1000 m or beyond; read as unknown",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [("1 2\n", "1 2"), ("one 2 3\n", "one 2 3"), ("1 2 9\n", "1 2 9"), ("256 1 2\n", "256 1 2")],
)
def test_dreds_meta_that_makes_no_sense(tmp_path: Path, text: str, line: str) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    path = tmp_path / "train/00001/0000_meta.txt"
    path.write_text(text)
    (problem,) = problems_of(open_dataset(tmp_path)[0])
    assert problem.startswith(f"{path}: line {line!r} names no instance")


def test_dreds_without_meta_has_no_mask_to_trust(tmp_path: Path) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    (tmp_path / "train/00001/0000_meta.txt").unlink()
    (problem,) = problems_of(open_dataset(tmp_path)[0])
    assert "0000_meta.txt: cannot be read" in problem


def test_colour_that_is_no_multiple_of_the_truth_is_refused(tmp_path: Path) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    path = tmp_path / "train/00001/0000_color.png"
    trees.write_picture(path, np.zeros((70, 120, 3), np.uint8))
    problems = problems_of(open_dataset(tmp_path)[0])
    assert all("expected 120x70 as 0000_color.png" in problem for problem in problems)
    assert any("0000_depth_120.exr: is 80x48" in problem for problem in problems)


def test_cleargrasp_parts(tmp_path: Path) -> None:
    trees.cleargrasp_rendered(tmp_path / "cup-train", frames=3)
    trees.cleargrasp_real(tmp_path / "real-val/d435")
    truncate(tmp_path / "cup-train/rgb-imgs/000000000-rgb.jpg")
    truncate(tmp_path / "cup-train/depth-imgs-rectified/000000001-depth-rectified.exr")
    (tmp_path / "cup-train/rgb-imgs/000000002-rgb.jpg").unlink()
    (tmp_path / "cup-train/json-files/000000002-masks.json").write_text("{}")
    (tmp_path / "real-val/d435/camera_intrinsics.yaml").write_text("fx: 1\n")
    rendered, real = open_dataset(tmp_path)
    assert "000000000-rgb.jpg: truncated picture" in problems_of(rendered, 0)[0]
    assert "000000001-depth-rectified.exr: truncated" in problems_of(rendered, 1)[0]
    assert "000000002-rgb.jpg: cannot be read" in problems_of(rendered, 2)[0]
    assert (
        "camera_intrinsics.yaml: no usable intrinsics (fy and cx and cy missing)"
        in real.problems()[0]
    )
    assert real.read(0).camera_matrix is None


def test_a_rendered_picture_without_its_field_of_view_has_no_camera(tmp_path: Path) -> None:
    trees.cleargrasp_rendered(tmp_path / "cup-train")
    (tmp_path / "cup-train/json-files/000000000-masks.json").write_text('{"camera": {}}')
    (tmp_path / "cup-train/json-files/000000001-masks.json").unlink()
    (clip,) = open_dataset(tmp_path)
    sample = clip.read(0)
    assert sample.camera_matrix is None
    assert "000000000-masks.json: no usable camera.field_of_view" in sample.remarks[0]
    assert clip.read(1).camera_matrix is None


def test_a_colour_picture_in_the_place_of_depth_is_named(tmp_path: Path) -> None:
    trees.dreds_scene(tmp_path / "train/00001")
    path = tmp_path / "train/00001/0000_depth_120.exr"
    colours = np.random.default_rng(0).random((3, HEIGHT, WIDTH), np.float32)
    trees.write_exr(path, dict(zip("RGB", colours, strict=True)))
    problem = problems_of(open_dataset(tmp_path)[0])[0]
    assert problem == f"{path}: is a picture in colours, expected depth; take the depth pass's file"
