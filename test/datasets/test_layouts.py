"""Every data set in its public layout: values at known pixels, units, masks, axes, splits."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.dataset_trees import CAMERA_MATRIX, GLASS, HEIGHT, WIDTH, scene, true_depth

from dkt_ros.datasets.dataset import UNSPLIT
from dkt_ros.datasets.plausibility import normal_angle, suspicions
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.datasets.sample import BadFrameError, Sample
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass

_MILLIMETRE = 5.1e-4


def check_scene(
    sample: Sample, tolerance: float = 1e-6, raw_tolerance: float | None = None
) -> None:
    """What every layout must give back of the scene, its raw depth where it has one."""
    assert sample.rgb.shape == (HEIGHT, WIDTH, 3)
    assert sample.rgb.dtype == np.uint8
    assert sample.depth.dtype == np.float32
    for column in (1, 25, 79):
        assert sample.depth[5, column] == pytest.approx(true_depth(column), abs=tolerance)
        assert sample.depth[47, column] == pytest.approx(true_depth(column), abs=tolerance)
    assert np.isnan(sample.depth[0, 0])
    assert sample.known[1:].all()
    if sample.raw_depth is not None:
        assert sample.raw_depth.dtype == np.float32
        assert sample.raw_depth[5, 25] == pytest.approx(
            true_depth(25), abs=raw_tolerance or tolerance
        )
        assert np.isnan(sample.raw_depth[GLASS]).all()
        assert np.isfinite(sample.raw_depth[20:]).all()
    assert suspicions(sample) == ()


def check_glass(sample: Sample) -> None:
    """A mask with the glass in its place and nothing else transparent."""
    assert sample.mask is not None
    assert sample.mask.dtype == np.uint8
    assert (sample.mask[GLASS] == MaterialClass.TRANSPARENT).all()
    assert np.count_nonzero(sample.mask == MaterialClass.TRANSPARENT) == 100


def check_normal(sample: Sample, normal: np.ndarray, tolerance: float = 1e-3) -> None:
    """Unit normals in camera axes that fit the depth."""
    assert sample.normal is not None
    assert sample.normal.dtype == np.float32
    np.testing.assert_allclose(sample.normal[20, 40], normal, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(sample.normal[20, 40]), 1.0, atol=1e-6)
    angle = normal_angle(sample)
    assert angle is not None
    assert angle < 2.0


def check_camera(sample: Sample, expected: np.ndarray = CAMERA_MATRIX) -> None:
    assert sample.camera_matrix is not None
    np.testing.assert_allclose(sample.camera_matrix, expected, atol=1e-4)


def test_transphy3d(tmp_path: Path) -> None:
    folders = ("train", "test", "parametric_train/training", "parametric_train/validation")
    trees.transphy3d_tree(tmp_path, splits=(*folders, "parametric_train/test"))
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "transphy3d"
    assert {clip.name: clip.split for clip in dataset} == {
        "train/000000_materials.000000": "train",
        "test/000001_materials.000000": "test",
        "parametric_train/training/000002_materials.000000": "train",
        "parametric_train/validation/000003_materials.000000": "val",
        "parametric_train/test/000004_materials.000000": "test",
    }
    (clip,) = dataset.select("val")
    assert clip.is_video
    assert clip.keys == tuple(f"000003_{i:08d}" for i in range(3))
    sample = clip.read(2)
    check_scene(sample, tolerance=1e-5, raw_tolerance=_MILLIMETRE)
    assert sample.raw_depth is not None
    check_glass(sample)
    check_normal(sample, scene().normal, tolerance=0.01)
    check_camera(sample)
    np.testing.assert_array_equal(sample.rgb, scene(seed=2).rgb)
    assert sample.world_to_camera is not None
    assert sample.world_to_camera[0, 3] == pytest.approx(-0.02)
    assert clip.read(2, with_normal=False).normal is None
    assert clip.problems() == ()


def test_clearpose(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set4/scene6")
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "clearpose"
    (clip,) = dataset
    assert (clip.name, clip.split, clip.is_video) == ("set4/scene6", "test", True)
    assert clip.keys == ("000000", "000001", "000002")
    assert clip.problems() == ()
    sample = clip.read(1)
    check_scene(sample, _MILLIMETRE)
    check_glass(sample)
    assert sample.raw_depth is not None
    # Object 64 is opaque although its label is not 0.
    assert sample.mask is not None
    assert (sample.mask[30:40, 20:30] == MaterialClass.OPAQUE).all()
    # Stored pointing into the surface, they come out facing the camera.
    check_normal(sample, scene().normal, tolerance=0.01)
    check_camera(sample)
    # The file places the camera in the world: 1 cm to the right is a world 1 cm to the left.
    assert sample.world_to_camera is not None
    np.testing.assert_allclose(sample.world_to_camera[:, 3], [-0.01, 0, 0, 1])


def test_clearpose_depth_follows_the_factor_in_the_metadata(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set1/scene1", factor=4000)
    check_scene(open_dataset(tmp_path)[0].read(0), tolerance=_MILLIMETRE / 4)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("set1/scene4", "train"),
        ("set1/scene5", "test"),
        ("set2/scene1", "test"),
        ("set3/scene11", "test"),
        ("set4/scene5", "train"),
        ("set7/scene6", "test"),
        ("set8/scene1", "test"),
        ("set9/scene12", "test"),
    ],
)
def test_clearpose_split(tmp_path: Path, folder: str, split: str) -> None:
    trees.clearpose_scene(tmp_path / folder, frames=1)
    assert open_dataset(tmp_path)[0].split == split
    # The same when one scene's folder is opened by itself.
    (clip,) = open_dataset(tmp_path / folder)
    assert (clip.name, clip.split) == (folder.rpartition("/")[2], split)


def test_clearpose_without_metadata_still_reads(tmp_path: Path) -> None:
    trees.clearpose_scene(tmp_path / "set1/scene1")
    (tmp_path / "set1/scene1/metadata.mat").unlink()
    (clip,) = open_dataset(tmp_path)
    assert len(clip.problems()) == 1
    assert "metadata.mat: cannot be read (No such file" in clip.problems()[0]
    sample = clip.read(0)
    check_scene(sample, _MILLIMETRE)
    assert sample.camera_matrix is None
    assert sample.world_to_camera is None


@pytest.mark.parametrize("truth", ["depth_120", "depth_0"])
def test_dreds(tmp_path: Path, truth: str) -> None:
    trees.dreds_scene(tmp_path / "DREDS-CatKnown/train/part0/00001", truth=truth)
    trees.dreds_scene(tmp_path / "DREDS-CatNovel/00029", truth=truth)
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "dreds"
    assert {clip.name: clip.split for clip in dataset} == {
        "DREDS-CatKnown/train/part0/00001": "train",
        "DREDS-CatNovel/00029": "test",
    }
    clip = dataset[0]
    assert not clip.is_video
    assert clip.keys == ("0000", "0001")
    sample = clip.read(0)
    assert sample.raw_depth is not None
    check_scene(sample)  # -1 means unknown; colour came at twice the size
    np.testing.assert_array_equal(sample.rgb, scene().rgb)
    check_glass(sample)
    assert sample.mask is not None
    assert (sample.mask[30:40, 20:30] == MaterialClass.REFLECTIVE).all()
    assert (sample.mask[30:40, 40:50] == MaterialClass.OPAQUE).all()
    focal = 446.31 * WIDTH / 640
    check_normal(sample, scene(focal).normal)
    assert sample.camera_matrix is not None
    np.testing.assert_allclose(sample.camera_matrix[0], [focal, 0, 39.5])
    assert sample.remarks == ()


def test_std(tmp_path: Path) -> None:
    trees.std_sequence(tmp_path / "STD-CatKnown/train_0-5")
    (clip,) = open_dataset(tmp_path)
    # All of STD is for testing, whatever a sequence's name says.
    assert (clip.name, clip.split, clip.is_video) == ("STD-CatKnown/train_0-5", "test", True)
    sample = clip.read(2)
    assert sample.raw_depth is not None
    check_scene(sample)
    check_glass(sample)
    assert sample.normal is None
    assert sample.camera_matrix is not None
    assert sample.camera_matrix[0, 0] == pytest.approx(918.295227 * WIDTH / 1280)


def test_hiss(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "train/102344049/tables/glass")
    trees.hiss_folder(tmp_path / "val/102344280")
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "hiss"
    assert [(clip.name, clip.split) for clip in dataset] == [
        ("train/102344049/tables/glass", "train"),
        ("val/102344280", "val"),
    ]
    assert not dataset[0].is_video
    sample = dataset[0].read(1)
    assert np.isnan(sample.depth[0, 1])  # infinite in the file
    assert sample.depth[0, 2] == pytest.approx(true_depth(2))
    assert sample.raw_depth is not None
    assert np.isnan(sample.raw_depth[GLASS]).all()
    np.testing.assert_array_equal(sample.rgb, scene(seed=1).rgb)  # stored with alpha
    assert sample.mask is None
    assert sample.transparent_or_reflective is None
    assert sample.camera_matrix is not None
    assert sample.camera_matrix[0, 0] == pytest.approx(446.31 * WIDTH / 640)
    assert sample.remarks == suspicions(sample) == ()


def test_cleargrasp(tmp_path: Path) -> None:
    test_val = tmp_path / "cleargrasp-dataset-test-val"
    trees.cleargrasp_rendered(tmp_path / "cleargrasp-dataset-train/cup-with-waves-train")
    trees.cleargrasp_rendered(test_val / "synthetic-val/square-plastic-bottle-val")
    trees.cleargrasp_real(test_val / "real-test/d435")
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "cleargrasp"
    assert {clip.name: clip.split for clip in dataset} == {
        "cleargrasp-dataset-train/cup-with-waves-train": "train",
        "cleargrasp-dataset-test-val/synthetic-val/square-plastic-bottle-val": "val",
        "cleargrasp-dataset-test-val/real-test/d435": "test",
    }
    assert not any(clip.is_video for clip in dataset)
    assert [clip.problems() for clip in dataset] == [(), (), ()]
    (rendered,) = dataset.select("train")
    sample = rendered.read(1)
    check_scene(sample, _MILLIMETRE)
    assert sample.raw_depth is None
    check_glass(sample)
    check_normal(sample, scene().normal)
    check_camera(sample)
    (real,) = dataset.select("test")
    for index in range(2):  # 0 means unknown in one picture, NaN in the other
        sample = real.read(index)
        assert sample.raw_depth is not None
        check_scene(sample, _MILLIMETRE)
        check_glass(sample)
        check_camera(sample)
        assert sample.remarks == ()


def test_cleargrasps_folder_of_two_splits_names_neither(tmp_path: Path) -> None:
    both = tmp_path / "cleargrasp-dataset-test-val"
    trees.cleargrasp_real(both / "d435")
    trees.cleargrasp_real(both / "real-test" / "d435")
    found = {clip.name.rpartition("val/")[2]: clip.split for clip in open_dataset(tmp_path)}
    assert found == {"d435": UNSPLIT, "real-test/d435": "test"}


def test_cleargrasp_pictures_of_another_size_scale_the_camera(tmp_path: Path) -> None:
    trees.cleargrasp_real(tmp_path / "d415")
    camera = tmp_path / "d415/camera_intrinsics.yaml"
    camera.write_text("xres: 160\nyres: 96\nfx: 200\nfy: 200\ncx: 79.5\ncy: 47.5\n")
    check_camera(open_dataset(tmp_path)[0].read(0))


def test_the_real_scenes(shared_folder: Path) -> None:
    """Figures stated for the two real scenes, measured through the loader."""
    folder = shared_folder / "cleargrasp_d435"
    if not folder.is_dir():
        pytest.skip(f"no real scenes at {folder}")
    (clip,) = open_dataset(folder)
    assert clip.keys == ("000000080", "000000130")
    missing = []
    for index in range(2):
        sample = clip.read(index, with_normal=False)
        assert sample.depth.shape == (720, 1280)
        check_camera(sample, np.array([[921.0, 0, 642], [0, 921, 359], [0, 0, 1]]))
        assert sample.raw_depth is not None
        assert sample.transparent_or_reflective is not None
        on_glass = sample.transparent_or_reflective & sample.known
        missing.append(float(np.mean(np.isnan(sample.raw_depth[on_glass]))))
        assert suspicions(sample) == ()
    assert missing == pytest.approx([0.45, 0.75], abs=0.01)


def test_transcg(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.kind == "transcg"
    assert [(clip.name, clip.split, clip.keys) for clip in dataset] == [
        ("scene1/D435", "train", ("0", "1")),
        ("scene1/L515", "train", ("0",)),
        ("scene2/D435", "test", ("0", "1")),
        ("scene2/L515", "test", ("0",)),
    ]
    assert [clip.problems() for clip in dataset] == [()] * 4
    assert not dataset[0].is_video
    for clip, tolerance in ((dataset[0], _MILLIMETRE), (dataset[1], _MILLIMETRE / 4)):
        sample = clip.read(0)
        assert sample.raw_depth is not None
        check_scene(sample, tolerance)
        check_glass(sample)
        check_camera(sample)


@pytest.mark.parametrize("kind", ["clearpose", "transcg"])
def test_what_is_done_to_a_frames_camera_is_not_done_to_the_next(kind: str, tmp_path: Path) -> None:
    """Whoever crops or scales does it in place; the file is read once for all frames."""
    if kind == "transcg":
        trees.transcg_tree(tmp_path / kind)
    else:
        trees.clearpose_scene(tmp_path / kind)
    clip = open_dataset(tmp_path / kind)[0]
    sample, untouched = clip.read(0), clip.read(0)
    for name in ("camera_matrix", "world_to_camera"):
        if (matrix := getattr(sample, name)) is not None:
            expected = getattr(untouched, name).copy()
            matrix[:] = 0.0
            np.testing.assert_array_equal(getattr(clip.read(0), name), expected)


def test_transcg_without_lists_takes_every_view(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    for path in tmp_path.rglob("metadata.json"):
        path.unlink()
    dataset = open_dataset(tmp_path)
    assert [(clip.split, clip.keys) for clip in dataset] == [("all", ("0", "1"))] * 4
    for clip in dataset:
        (problem,) = clip.problems()
        assert problem.startswith(f"{tmp_path}: has no metadata.json, here or above, that tells")


def test_transcg_sorted_into_folders_keeps_its_splits_and_cameras(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    for number in (1, 2):
        (tmp_path / f"part{number}").mkdir()
        (tmp_path / f"scene{number}").rename(tmp_path / f"part{number}/scene{number}")
    text = (tmp_path / "metadata.json").read_bytes()
    (tmp_path / "metadata.json").write_bytes(b"\xef\xbb\xbf" + text)  # as of Windows' editors
    (tmp_path / "part2/metadata.json").write_text('{"name": "of the folder"}')
    dataset = open_dataset(tmp_path)
    assert [clip.split for clip in dataset] == ["train", "train", "test", "test"]
    assert all(clip.problems() == () for clip in dataset)
    check_camera(dataset[0].read(0))


def test_transcg_lists_that_are_damaged_are_named(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    (tmp_path / "scene1/metadata.json").write_text("{")
    (tmp_path / "scene2/metadata.json").write_text(json.dumps({"type": "isolated"}))
    dataset = open_dataset(tmp_path)
    assert "scene1/metadata.json: not readable as JSON" in dataset[0].problems()[0]
    assert "has no list L515_valid_perspective_list of numbers" in dataset[3].problems()[0]
    assert dataset[3].keys == ("0", "1")


def test_transcg_is_known_by_a_scene_without_usable_views(tmp_path: Path) -> None:
    trees.transcg_tree(tmp_path)
    lists: dict[str, list[int]] = {
        f"{camera}_valid_perspective_list": [] for camera in ("D435", "L515")
    }
    (tmp_path / "scene1/metadata.json").write_text(json.dumps(lists))
    dataset = open_dataset(tmp_path)
    assert (dataset.kind, len(dataset)) == ("transcg", 4)
    with pytest.raises(DktError, match=r"scene1: holds no frame"):
        dataset[0].keys  # noqa: B018
    assert dataset[2].keys == ("0", "1")


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no zip"])
def test_a_pickled_or_damaged_camera_is_refused(tmp_path: Path, content: bytes | None) -> None:
    trees.transcg_tree(tmp_path)
    path = tmp_path / "camera_intrinsics/1-camIntrinsics-D435.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    if content is not None:
        path.write_bytes(content)
    clip = open_dataset(tmp_path)[0]
    assert "1-camIntrinsics-D435.npy: cannot be read as numpy's plain arrays" in clip.problems()[0]
    assert clip.read(0).camera_matrix is None


def test_clips_travel_to_worker_processes(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path / "a")
    trees.clearpose_scene(tmp_path / "b/set1/scene1")
    trees.std_sequence(tmp_path / "c/test_1")
    for name in "abc":
        clip = open_dataset(tmp_path / name)[0]
        again = pickle.loads(pickle.dumps(clip))
        np.testing.assert_array_equal(again.read(1).depth, clip.read(1).depth)
    error = pickle.loads(pickle.dumps(BadFrameError(("a: bad", "b: worse"))))
    assert error.problems == ("a: bad", "b: worse")


def test_links_are_followed_but_no_circle(tmp_path: Path) -> None:
    trees.hiss_folder(tmp_path / "disk/train/scene")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "disk/train", tmp_path / "data/train")
    os.symlink(tmp_path / "data", tmp_path / "disk/train/scene/back")
    (clip,) = open_dataset(tmp_path / "data")
    assert (clip.name, clip.split) == ("train/scene", "train")


def test_links_keep_what_the_names_of_folders_tell(tmp_path: Path) -> None:
    """Sets lie on several disks: a link's name counts, and that of what it leads to."""
    disk, data = tmp_path / "disk", tmp_path / "data"
    trees.clearpose_scene(disk / "clearpose1/scene5")
    trees.clearpose_scene(disk / "set4/scene1")
    trees.transcg_tree(disk / "transcg")
    trees.cleargrasp_rendered(disk / "cups")
    trees.transphy3d_tree(disk / "videos", splits=("x",))
    places = {
        "clearpose/set1": "clearpose1",
        "clearpose/other": "set4",
        "cleargrasp-dataset-train": "cups",
        "test": "videos/x",
    }
    (disk / "transcg/scene1").rename(disk / "kept")
    for name, target in places.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).symlink_to(disk / target)
    (disk / "transcg/scene1").symlink_to(disk / "kept")

    def splits(name: str) -> dict[str, str]:
        return {clip.name: clip.split for clip in open_dataset(data / name)}

    assert splits("clearpose") == {"other/scene1": "train", "set1/scene5": "test"}
    assert set(splits("cleargrasp-dataset-train").values()) == {"train"}
    assert set(splits("test").values()) == {"test"}
    kept = {clip.name: clip.split for clip in open_dataset(disk / "transcg")}
    assert (kept["scene1/D435"], kept["scene2/D435"]) == ("train", "test")
