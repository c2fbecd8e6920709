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
from dkt_ros.formats.transphy3d import write_sequence
from dkt_ros.model.condition import range_of
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import PredictOptions, predict_disparity
from dkt_ros.train.data.preparation import FrameView
from dkt_ros.train.preview import PreviewClip, check_validation, load_clips, preview, sampled

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
    objects[4:8, 4:6], objects[4:8, 6:8] = 1, 2
    views = tuple(
        FrameView(torch.zeros(3, HEIGHT, WIDTH), depth, (HEIGHT, WIDTH), objects=objects)
        for depth in clip.depth
    )

    def through(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
        disparity = true_disparity(rgb)
        disparity[:, objects == 1] = 0.4
        return disparity

    seen = replace(clip, views=views)
    result = preview([seen], through)
    assert result.glass is not None
    half = result.glass.rel
    assert 0.6 > half > 0.4 > 8 * result.errors.rel  # of glass twice too far, of metal right
    answers = iter([through, true_disparity])
    both = preview([seen, replace(seen, name="again")], lambda *shown: next(answers)(*shown))
    assert both.glass is not None
    assert both.glass.rel == pytest.approx(half / 2, rel=1e-3)
    some = replace(clip, views=(*views[1:], replace(views[0], objects=None)))
    for unknown in (clip, some):
        assert preview([unknown], through).glass is None


def test_depth_beyond_the_clips_is_taken_for_its_farthest() -> None:
    def far(rgb: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
        disparity = true_disparity(rgb)
        disparity[:, 0, 1:3] = 0.0  # of 1 m; on the line of all others without end
        return disparity

    pixels = HEIGHT * (WIDTH - 2)
    assert preview([halves()], far).errors.rel == pytest.approx(2 / pixels, abs=0.01)


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
    mine = sampled(tiny_network(), steps=3, seed=3)(rgb, None)
    reference = predict_disparity(
        FastNetwork(new_network()), rgb, PredictOptions(steps=3, seed=3, window=4)
    )
    np.testing.assert_allclose(mine, reference, atol=1e-4)
    np.testing.assert_array_equal(sampled(tiny_network(), steps=3, seed=3)(rgb, None), mine)
    assert np.abs(sampled(tiny_network(), steps=3, seed=4)(rgb, None) - mine).max() > 1e-3


@pytest.mark.parametrize("condition", ["raw_depth", "from_raw_depth"])
def test_a_network_that_is_shown_raw_depth_gets_it_in_previews(condition: str) -> None:
    network, random = new_network(), np.random.default_rng(1)
    network.info = replace(network.info, condition=condition)
    rgb = random.integers(0, 256, (5, *SIZE, 3), dtype=np.uint8)
    depth = random.uniform(0.5, 2.0, (5, *SIZE)).astype(np.float32)
    mine = sampled(network, seed=3)(rgb, 1 / depth)
    options = PredictOptions(seed=3, window=2)
    metric = predict_disparity(FastNetwork(network), rgb, options, raw_depth=list(depth))
    limits = range_of(1 / depth)
    assert limits is not None
    np.testing.assert_allclose(limits.disparity(mine), metric, atol=1e-3)
    assert np.abs(sampled(network, seed=3)(rgb, None) - mine).max() > 1e-3


def test_a_prediction_follows_the_weights() -> None:
    network = new_network()
    rgb = np.random.default_rng(1).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    predict = sampled(network)
    before = predict(rgb, None)
    with torch.no_grad():
        network.transformer.proj_out.weight.mul_(3.0)
    assert np.abs(predict(rgb, None) - before).max() > 1e-3


def test_clips_come_from_held_out_data_in_turn(tmp_path: Path) -> None:
    video, pictures = tmp_path / "v", picture_set(tmp_path / "p")
    trees.transphy3d_tree(video, frames=6, splits=("train", "test", "test/more"))
    clips = load_clips(config(video, pictures), 4, 21)
    assert [len(clip.rgb) for clip in clips] == [5, 1, 5]  # no more to be had
    assert clips[0].name.startswith(f"{tmp_path}/v/test/")
    assert clips[0].rgb.shape == (5, *SIZE, 3)
    assert clips[0].depth.shape == (5, *SIZE)
    again = load_clips(config(video, pictures), 4, 21)
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


def test_a_validation_set_that_cannot_be_opened_is_told_by_its_number(tmp_path: Path) -> None:
    video, missing = video_set(tmp_path / "v"), str(tmp_path / "none")
    check_validation(config(video, validation=[{"path": str(video)}]))
    with pytest.raises(DktError, match=rf"validation\[1\]: .*{missing}"):
        check_validation(config(video, validation=[{"path": str(video)}, {"path": missing}]))
    with pytest.raises(DktError, match=r"validation\[0\]: .*val"):
        check_validation(config(video, validation=[{"path": str(video), "split": "val"}]))


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


def test_clips_without_two_depths_or_of_two_sizes_are_passed_over(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("val/sound",))
    frames = [trees.sequence_frame(index) for index in range(5)]
    flat = [replace(one, depth=np.full_like(one.depth, 0.7)) for one in frames]
    write_sequence(tmp_path / "val/flat/000001_x.000000.tar", "000001", flat)
    smaller = replace(frames[0], rgb=frames[0].rgb[::2], depth=frames[0].depth[::2], mask=None)
    smaller = replace(smaller, normal=None, raw_depth=None)
    sizes = [smaller, *frames[1:]]
    write_sequence(tmp_path / "val/sizes/000002_x.000000.tar", "000002", sizes)
    clips = load_clips(config(tmp_path), 3, 5)
    assert len(clips) == 2
    assert [len(clip.rgb) for clip in clips] == [1, 1]
    assert not any("flat" in clip.name for clip in clips)


def test_bad_clips_are_passed_over(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path, splits=("val", "val/more"))
    broken, sound = sorted(tmp_path.rglob("*.tar"), key=lambda path: len(path.parts))
    trees.truncate(broken, 0.5)
    (clip,) = load_clips(config(tmp_path), 2, 1)
    assert str(sound) in clip.name
    trees.truncate(sound, 0.5)
    with pytest.raises(DktError, match="no clip offers a usable frame"):
        load_clips(config(tmp_path), 2, 1)
