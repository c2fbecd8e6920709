"""The loss that the best state is chosen by: always of the same, and of what is shown in use."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from fixtures.training_data import config, new_network, picture_set, video_set
from fixtures.training_scenes import write_scene
from torch import Tensor

from dkt_ros.model.condition import pictures, range_of
from dkt_ros.train.data.augmentation import Augmentation
from dkt_ros.train.data.encoded_source import encode_clip
from dkt_ros.train.data.preparation import view_clip
from dkt_ros.train.objective import Objective
from dkt_ros.train.preview import load_clips
from dkt_ros.train.recipe import PreviewRecipe, Recipe
from dkt_ros.train.validation import ValidationLoss

ONE_STEP = Objective("one_step", gradient=0.0)


def test_it_is_the_mean_over_clips_and_the_same_draws_every_time(tmp_path: Path) -> None:
    data = config(video_set(tmp_path / "v"), picture_set(tmp_path / "p"))
    clips, network = load_clips(data, 2, 5), new_network()
    views = [view_clip(clip.views, Augmentation(), data.disparity, 8) for clip in clips]
    truth = [encode_clip(network, view)["disparity"].float() for view in views]
    assert [one.shape[1] for one in truth] == [2, 1]
    asked: list[Tensor] = []

    def velocity(noisy: Tensor, rgb: Tensor, timestep: Tensor) -> Tensor:
        asked.append(noisy)
        clip = 0 if noisy.shape[2] == 2 else 1
        return noisy - truth[clip] + (0.1, 0.3)[clip]

    network.velocity = velocity  # type: ignore[assignment,method-assign]
    judge = ValidationLoss(Recipe(data, objective=ONE_STEP), clips)
    assert judge(network) == pytest.approx((0.1**2 + 0.3**2) / 2, rel=1e-4)
    assert judge(network) == pytest.approx((0.1**2 + 0.3**2) / 2, rel=1e-4)
    first, second = asked[: len(asked) // 2], asked[len(asked) // 2 :]
    assert all(map(torch.equal, first, second))
    assert len(first) == 2 * 4
    beginnings = [one[:, :, :1] for one in first]
    assert not any(torch.equal(one, other) for one, other in combinations(beginnings, 2))
    other = ValidationLoss(Recipe(data, objective=ONE_STEP, preview=PreviewRecipe(seed=2)), clips)
    other(network)
    assert not torch.equal(asked[-1], second[-1])


def test_raw_depth_is_shown_as_it_was_read(tmp_path: Path) -> None:
    write_scene(tmp_path, "scene", frames=5, size=(32, 48), raw_depth=True)
    data, network = config(tmp_path, condition="raw_depth"), new_network()
    (clip,) = load_clips(data, 1, 5)
    assert clip.readings is not None
    limits = range_of(clip.readings)
    assert limits is not None
    with torch.no_grad():
        raw = network.encode_rgb(torch.from_numpy(pictures(clip.readings, limits))[None])
    asked: list[Tensor] = []

    def velocity(noisy: Tensor, rgb: Tensor, timestep: Tensor) -> Tensor:
        asked.append(rgb)
        return noisy

    network.velocity = velocity  # type: ignore[assignment,method-assign]
    ValidationLoss(Recipe(data, objective=ONE_STEP), [clip])(network)
    torch.testing.assert_close(asked[0][:, 16:], raw, atol=5e-3, rtol=1e-3)
