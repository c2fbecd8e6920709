"""Previews: figures known by hand, and pictures that show what they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import dataset_trees as trees
from fixtures.training_data import SIZE, config, new_network, picture_set, tiny_network, video_set

from dkt_ros.errors import DktError
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import PredictOptions, predict_disparity
from dkt_ros.train.data.preparation import FrameView
from dkt_ros.train.preview import PreviewClip, load_clips, preview, sampled

HEIGHT, WIDTH = 16, 32


def halves(name: str = "halves", frames: int = 5) -> PreviewClip:
    """1 m on the left, 2 m on the right, one column of unknown depth."""
    depth = np.ones((frames, HEIGHT, WIDTH), np.float32)
    depth[:, :, WIDTH // 2 :] = 2.0
    depth[:, :, 0] = np.nan
    depth[:, :, -1] = np.nan
    rgb = np.random.default_rng(0).integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return PreviewClip(name, rgb, depth)


def true_disparity(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
    disparity = np.full(rgb.shape[:3], 0.9, np.float32)
    disparity[:, :, WIDTH // 2 :] = 0.4
    return disparity


def test_a_right_prediction_has_no_error() -> None:
    result = preview([halves()], true_disparity)
    assert result.errors.rel == pytest.approx(0, abs=1e-6)
    assert result.errors.delta_105 == result.errors.delta_110 == result.errors.delta_125 == 1


def test_a_constant_has_the_error_of_the_mean() -> None:
    def constant(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
        return np.full(rgb.shape[:3], 0.5, np.float32)

    result = preview([halves()], constant)
    # Mean disparity 0.75, so 1.333 m everywhere: a third too far, and a third too near.
    assert result.errors.rel == pytest.approx(1 / 3, rel=1e-5)
    assert result.errors.delta_125 == 0


def test_errors_are_averaged_over_clips() -> None:
    def per_clip(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
        return true_disparity(rgb) if len(rgb) == 5 else np.full(rgb.shape[:3], 0.5, np.float32)

    result = preview([halves("good"), halves("bad", frames=1)], per_clip)
    assert result.clips["good"].rel == pytest.approx(0, abs=1e-6)
    assert result.errors.rel == pytest.approx(1 / 6, rel=1e-4)
    assert result.errors.delta_105 == pytest.approx(0.5)


def test_errors_on_glass_are_of_glass_alone() -> None:
    clip = halves()
    objects = np.zeros((HEIGHT, WIDTH), np.uint8)
    objects[4:8, 4:8] = 1
    views = tuple(
        FrameView(torch.zeros(3, HEIGHT, WIDTH), depth, (HEIGHT, WIDTH), objects=objects)
        for depth in clip.depth
    )

    def through(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
        disparity = true_disparity(rgb)
        disparity[:, objects > 0] = 0.4
        return disparity

    result = preview([replace(clip, views=views)], through)
    assert result.glass is not None
    assert result.glass.rel > 0.5 > 4 * result.errors.rel
    assert preview([clip], through).glass is None


def test_one_alignment_serves_the_whole_clip() -> None:
    def flickering(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
        disparity = true_disparity(rgb)
        disparity[::2] *= 0.5  # right up to a scale in every frame, but not in the clip
        return disparity

    assert preview([halves()], flickering).errors.rel > 0.05


def test_the_picture_shows_rgb_truth_and_prediction() -> None:
    clip = halves()
    picture = preview([clip, clip], true_disparity).picture
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * HEIGHT + 2, 3 * WIDTH + 4, 3)
    rgb, truth, predicted = (picture[:HEIGHT, i * (WIDTH + 2) :][:, :WIDTH] for i in range(3))
    np.testing.assert_array_equal(rgb, clip.rgb[2])
    assert (truth[:, [0, -1]] == 0).all()
    near, far = truth[0, 5].astype(int), truth[0, -5].astype(int)
    assert near[0] > near[2] + 50  # red
    assert far[2] > far[0]  # blue
    np.testing.assert_array_equal(predicted[:, 1:-1], truth[:, 1:-1])


def test_the_sampled_prediction_is_the_predictors() -> None:
    """The whole clip at once, though it is longer than the checkpoint's window."""
    rgb = np.random.default_rng(1).integers(0, 256, (13, *SIZE, 3), dtype=np.uint8)
    mine = sampled(tiny_network(), steps=2, seed=3)(rgb, None)
    reference = predict_disparity(
        FastNetwork(new_network()), rgb, PredictOptions(steps=2, seed=3, window=4)
    )
    np.testing.assert_allclose(mine, reference, atol=1e-4)
    np.testing.assert_array_equal(sampled(tiny_network(), steps=2, seed=3)(rgb, None), mine)
    assert np.abs(sampled(tiny_network(), steps=2, seed=4)(rgb, None) - mine).max() > 1e-3


def test_a_prediction_follows_the_weights() -> None:
    network = new_network()
    rgb = np.random.default_rng(1).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    predict = sampled(network)
    before = predict(rgb, None)
    with torch.no_grad():
        network.transformer.proj_out.weight.mul_(3.0)
    assert np.abs(predict(rgb, None) - before).max() > 1e-3


def test_clips_come_from_held_out_data_in_turn(tmp_path: Path) -> None:
    video, pictures = video_set(tmp_path / "v"), picture_set(tmp_path / "p")
    clips = load_clips(config(video, pictures), 3, 21)
    assert [len(clip.rgb) for clip in clips] == [5, 1]  # each has one clip: no more to be had
    assert clips[0].name.startswith(f"{tmp_path}/v/test/")
    assert clips[0].rgb.shape == (5, *SIZE, 3)
    assert clips[0].depth.shape == (5, *SIZE)
    again = load_clips(config(video, pictures), 3, 21)
    for one, other in zip(clips, again, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.rgb, other.rgb)
    (alone,) = load_clips(config(video, pictures), 1, 3)
    assert alone.rgb.shape == (1, *SIZE, 3)


def test_named_validation_data_come_first(tmp_path: Path) -> None:
    video, pictures = video_set(tmp_path / "v"), picture_set(tmp_path / "p")
    clips = load_clips(config(video, validation=[{"path": str(pictures)}]), 2, 5)
    assert len(clips) == 1
    assert str(pictures) in clips[0].name


def test_clips_that_are_trained_on_are_marked(tmp_path: Path) -> None:
    video, pictures = video_set(tmp_path / "v"), picture_set(tmp_path / "p")

    def marks(*sources: Path | dict[str, Any], **fields: Any) -> list[bool]:
        return [clip.trained for clip in load_clips(config(*sources, **fields), 2, 1)]

    assert marks(video) == [False]
    assert marks(pictures) == [True]  # has no split at all
    assert marks(video, pictures) == [False, True]
    assert marks({"path": str(video), "split": "any"}) == [True]
    assert marks({"path": str(video), "split": "test"}) == [True]
    assert marks(video, validation=[{"path": str(pictures)}]) == [False]
    assert marks(video, validation=[{"path": str(video)}]) == [False]  # its test split
    assert marks(video, validation=[{"path": str(video / "test")}]) == [False]
    assert marks(video, validation=[{"path": str(video), "split": "train"}]) == [True]


def test_a_held_out_split_that_is_trained_on_is_not_the_first_choice(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("val", "test"))
    (clip,) = load_clips(config({"path": str(tmp_path), "split": "val"}), 2, 1)
    assert f"{tmp_path}/test/" in clip.name
    assert not clip.trained


def test_bad_clips_are_passed_over(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("val", "val/more"))
    broken, sound = sorted(tmp_path.rglob("*.tar"), key=lambda path: len(path.parts))
    trees.truncate(broken, 0.5)
    (clip,) = load_clips(config(tmp_path), 2, 1)
    assert str(sound) in clip.name
    trees.truncate(sound, 0.5)
    with pytest.raises(DktError, match="no clip offers a usable frame"):
        load_clips(config(tmp_path), 2, 1)
