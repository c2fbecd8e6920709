"""Cut-outs, colours and where they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dkt_ros.train.data.augmentation import Augmentation, draw
from dkt_ros.train.data.config import AugmentationConfig


def colours(*values: tuple[float, float, float]) -> torch.Tensor:
    """A clip of one frame and one row."""
    return torch.tensor(values, dtype=torch.float32).T[None, :, None, :].clone()


@pytest.mark.parametrize("native", [(480, 640), (48, 80), (100, 333), (333, 334)])
@pytest.mark.parametrize(("share", "place"), [(1.0, 0.5), (0.75, 0.0), (0.5, 1.0), (0.1, 0.3)])
def test_the_cut_out_keeps_the_aspect_and_lies_within(
    native: tuple[int, int], share: float, place: float
) -> None:
    size = (96, 160)
    rows, columns = Augmentation(share=share, top=place, left=1 - place).box(native, size)
    assert 0 <= rows.start < rows.stop <= native[0]
    assert 0 <= columns.start < columns.stop <= native[1]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert abs(width - height * 160 / 96) < 1.5
    largest = min(native[0] / 96, native[1] / 160)
    assert abs(height - share * largest * 96) <= 0.5
    assert abs(rows.start - place * (native[0] - height)) <= 0.5
    assert abs(columns.start - (1 - place) * (native[1] - width)) <= 0.5


def test_the_default_changes_nothing() -> None:
    rgb = torch.rand(2, 3, 4, 5) * 255
    assert torch.equal(Augmentation().colour(rgb.clone()), rgb)
    assert Augmentation().box((96, 160), (96, 160)) == (slice(0, 96), slice(0, 160))


def test_brightness_and_contrast() -> None:
    brighter = Augmentation(brightness=1.2).colour(colours((100, 50, 10), (250, 0, 0)))
    torch.testing.assert_close(brighter, colours((120, 60, 12), (255, 0, 0)))
    # About the mean grey of the whole clip, here 100.
    flatter = Augmentation(contrast=0.5).colour(colours((50, 50, 50), (150, 150, 150)))
    torch.testing.assert_close(flatter, colours((75, 75, 75), (125, 125, 125)))
    both = Augmentation(brightness=1.2, contrast=0.5).colour(colours((50, 50, 50), (150, 150, 150)))
    torch.testing.assert_close(both, colours((90, 90, 90), (150, 150, 150)))


def test_frames_of_a_clip_keep_their_difference() -> None:
    # A contrast about each frame's own mean would make these two equal.
    clip = torch.cat([torch.full((1, 3, 4, 4), 50.0), torch.full((1, 3, 4, 4), 150.0)])
    changed = Augmentation(contrast=0.8).colour(clip)
    torch.testing.assert_close(changed[1] - changed[0], torch.full((3, 4, 4), 80.0))


def test_saturation_and_hue_leave_grey_alone() -> None:
    grey = colours((80, 80, 80), (200, 200, 200))
    changed = Augmentation(saturation=0.3, hue=0.4).colour(grey.clone())
    torch.testing.assert_close(changed, grey)
    none = Augmentation(saturation=0.0).colour(colours((200, 100, 50)))
    lightness = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    torch.testing.assert_close(none, colours((lightness,) * 3))


def test_a_third_of_a_turn_swaps_the_channels() -> None:
    turned = Augmentation(hue=1 / 3).colour(colours((200, 20, 70)))
    torch.testing.assert_close(turned, colours((70, 200, 20)), atol=1e-3, rtol=0)


def test_draws_keep_to_the_configured_ranges() -> None:
    config = AugmentationConfig(crop=0.6, brightness=0.3, contrast=0.1, saturation=0.5, hue=0.05)
    random = np.random.default_rng(1)
    drawn = [draw(config, random) for _ in range(400)]
    for name, low, high in (
        ("share", 0.6, 1.0),
        ("top", 0.0, 1.0),
        ("left", 0.0, 1.0),
        ("brightness", 0.7, 1.3),
        ("contrast", 0.9, 1.1),
        ("saturation", 0.5, 1.5),
        ("hue", -0.05, 0.05),
    ):
        values = np.array([getattr(one, name) for one in drawn])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert 150 < sum(one.flip for one in drawn) < 250


def test_one_setting_does_not_shift_the_others() -> None:
    full = draw(AugmentationConfig(), np.random.default_rng(5))
    flipless = draw(AugmentationConfig(flip=False, hue=0.0), np.random.default_rng(5))
    assert flipless.contrast == full.contrast
    assert flipless.left == full.left
    flips = [draw(AugmentationConfig(flip=False), np.random.default_rng(n)).flip for n in range(9)]
    assert (any(flips), flipless.hue, full.sensor) == (False, 0.0, None)
    shown = [draw(AugmentationConfig(), np.random.default_rng(n), 0.8) for n in range(200)]
    seeds = [one.sensor for one in shown if one.sensor is not None]
    assert 140 < len(seeds) == len(set(seeds)) < 180
    assert shown[5].hue == full.hue
