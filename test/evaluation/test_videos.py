"""Every kind of data set as videos: what is stacked, what is passed over, what is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures import dataset_trees as trees
from fixtures.dataset_trees import CAMERA_MATRIX, GLASS, HEIGHT, WIDTH

from dkt_ros.datasets.registry import open_dataset
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.evaluation.regions import UNKNOWN_CLASS
from dkt_ros.evaluation.videos import VideoReader, depth_range_of, stack
from dkt_ros.formats.transphy3d import write_sequence


def test_a_rendered_sequence_is_a_video_with_all_parts(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, frames=3, splits=("test",))
    (video,) = VideoReader(open_dataset(tmp_path))
    assert video.name == "test/000000_materials.000000"
    assert len(video) == 3
    assert video.size == (HEIGHT, WIDTH)
    assert video.reflective
    assert video.classes is not None
    assert video.raw is not None
    assert video.normals is not None
    assert video.world_to_camera is not None
    assert (video.classes[:, GLASS[0], GLASS[1]] == 1).all()
    assert np.isnan(video.raw[:, GLASS[0], GLASS[1]]).all()
    assert video.camera_matrices is not None
    np.testing.assert_allclose(video.camera_matrices, np.repeat(CAMERA_MATRIX[None], 3, axis=0))
    np.testing.assert_allclose(video.world_to_camera[:, 0, 3], [0.0, -0.01, -0.02])
    # Frames are in order: each has colours of its own.
    np.testing.assert_array_equal(video.rgb[2], trees.scene(seed=2).rgb)


@pytest.mark.parametrize(
    ("make", "kind", "names", "frames"),
    [
        (lambda p: trees.clearpose_scene(p / "set2/scene1"), "clearpose", ["set2/scene1"], 3),
        (lambda p: trees.std_sequence(p / "test/0"), "dreds", ["test/0"], 3),
        (lambda p: trees.dreds_scene(p / "0001"), "dreds", ["0001/0000", "0001/0001"], 1),
        (lambda p: trees.hiss_folder(p / "val/a"), "hiss", ["val/a/0000", "val/a/0001"], 1),
        (
            lambda p: trees.cleargrasp_real(p / "real-test/d435"),
            "cleargrasp",
            ["real-test/d435/000000000", "real-test/d435/000000001"],
            1,
        ),
    ],
)
def test_videos_are_whole_and_pictures_one_by_one(
    tmp_path: Path, make: Callable[[Path], None], kind: str, names: list[str], frames: int
) -> None:
    make(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.kind == kind
    videos = list(VideoReader(dataset))
    assert [video.name for video in videos] == names
    assert [len(video) for video in videos] == [frames] * len(names)
    places = [i for video in videos for i in video.indices]
    assert places == list(range(frames * len(names)))
    for video in videos:
        assert video.raw is not None
        assert (video.classes is None) == (kind == "hiss")
        assert video.reflective == (kind == "dreds")


def test_stride_and_max_frames_bound_what_is_held(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, frames=7, splits=("test",))
    reader = VideoReader(open_dataset(tmp_path), stride=2, max_frames=3)
    (video,) = reader
    np.testing.assert_array_equal(video.rgb[1], trees.scene(seed=2).rgb)
    assert len(video) == 3
    assert reader.left_out == 4
    with pytest.raises(DktError, match="stride is 0"):
        VideoReader(open_dataset(tmp_path), stride=0)
    with pytest.raises(DktError, match="max_frames is -1"):
        VideoReader(open_dataset(tmp_path), max_frames=-1)


def test_only_the_split_that_was_asked_for(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    names = [video.name for video in VideoReader(open_dataset(tmp_path), split="train")]
    assert names == ["train/000000_materials.000000"]
    whole = VideoReader(open_dataset(tmp_path), max_frames=1)
    assert [list(video.indices) for video in whole] == [[0], [0]]
    assert whole.left_out == 4, "of both clips"
    with pytest.raises(DktError, match="no clip of split 'val'"):
        VideoReader(open_dataset(tmp_path), split="val")


def test_bad_frames_are_left_out_and_named(tmp_path: Path) -> None:
    scene = tmp_path / "set2" / "scene1"
    trees.clearpose_scene(scene, frames=4)
    trees.truncate(scene / "000001-color.png")
    (scene / "000002-label.png").unlink()
    reader = VideoReader(open_dataset(tmp_path))
    (video,) = reader
    assert list(video.indices) == [0, 3]
    np.testing.assert_array_equal(video.rgb[1], trees.scene(seed=3).rgb)
    assert list(reader.skipped.reasons) == ["set2/scene1 frame 1", "set2/scene1 frame 2"]
    assert "000001-color.png: truncated" in reader.skipped.reasons["set2/scene1 frame 1"]
    assert "000002-label.png" in reader.skipped.reasons["set2/scene1 frame 2"]


def test_an_unreadable_clip_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    (tmp_path / "test" / "broken.tar").write_bytes(b"no tar")
    reader = VideoReader(open_dataset(tmp_path))
    assert len(list(reader)) == 2
    assert list(reader.skipped.reasons) == ["test/broken"]


def test_a_frame_of_another_size_is_no_part_of_the_video(tmp_path: Path) -> None:
    scene = tmp_path / "set2" / "scene1"
    trees.clearpose_scene(scene)
    for path in scene.glob("000001-*.png"):
        import cv2

        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert cv2.imwrite(str(path), picture[:24])
    reader = VideoReader(open_dataset(tmp_path))
    (video,) = reader
    assert len(video) == 2
    (why,) = reader.skipped.reasons.values()
    assert why == "is 80x24, expected 80x48 as the video's first frame"


def test_parts_that_some_frames_lack_are_unknown_there(tmp_path: Path) -> None:
    from dkt_ros.formats.transphy3d import SequenceFrame, write_sequence

    frames = [trees.sequence_frame(i) for i in range(2)]
    bare = frames[1]
    frames[1] = SequenceFrame(
        bare.rgb, bare.depth, bare.camera_matrix, bare.world_to_camera, index=1
    )
    write_sequence(tmp_path / "a.tar", "a", frames)
    (video,) = VideoReader(open_dataset(tmp_path))
    assert video.classes is not None
    assert video.raw is not None
    assert video.normals is not None
    assert (video.classes[1] == UNKNOWN_CLASS).all()
    assert np.isnan(video.raw[1]).all()
    assert not video.normals[1].any()
    (video,) = VideoReader(open_dataset(tmp_path), with_normals=False)
    assert video.normals is None


def test_cameras_and_poses_are_those_of_every_frame_or_none() -> None:
    bare = Sample(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.float32), "made up")
    whole = replace(bare, camera_matrix=np.eye(3), world_to_camera=np.eye(4))
    video = stack("a", [whole, bare], reflective=True)
    assert (video.camera_matrices, video.world_to_camera) == (None, None)


def test_what_is_odd_about_a_clip_is_told(tmp_path: Path) -> None:
    scene = tmp_path / "set2" / "scene1"
    trees.clearpose_scene(scene)
    (scene / "metadata.mat").unlink()
    reader = VideoReader(open_dataset(tmp_path))
    (video,) = reader
    assert video.world_to_camera is None
    assert any("metadata.mat" in remark for remark in reader.remarks)


def test_what_its_first_frames_give_away_as_wrong_is_told_once(tmp_path: Path) -> None:
    """Raw depth of a tenth in all frames of three videos; one sound video more says nothing."""
    for name, factor in (("a", 0.1), ("b", 0.1), ("c", 0.1), ("d", 1.02)):
        frames = [trees.sequence_frame(index) for index in range(2)]
        wrong = [replace(f, raw_depth=np.float32(factor) * f.depth) for f in frames]
        write_sequence(tmp_path / f"{name}.tar", name, wrong)
    reader = VideoReader(open_dataset(tmp_path))
    assert len(list(reader)) == 4
    (told,) = reader.remarks
    assert "a_00000000: raw depth is 0.1 times the true one in the median" in told


def test_depth_ranges() -> None:
    assert depth_range_of("clearpose") == (0.3, 1.5)
    assert depth_range_of("transphy3d") == depth_range_of("hiss") == (0.1, 10.0)
