"""From frames to what the VAE is fed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.geometry import disparity_of
from dkt_ros.model.canvas import Canvas
from dkt_ros.model.condition import fill, pictures, range_of
from dkt_ros.train.data.augmentation import AS_IT_IS, Augmentation
from dkt_ros.train.data.config import DisparityConfig
from dkt_ros.train.data.preparation import FrameView, latent_weight, view_clip, view_frame
from dkt_ros.train.sensor import failing_clip

WHOLE = DisparityConfig(0, 100)
PLAIN = Augmentation()


def sample(height: int = 48, width: int = 80, seed: int = 0) -> Sample:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(rgb, random.uniform(0.5, 2.0, (height, width)).astype(np.float32), "made up")


def views(*depths: np.ndarray) -> list[FrameView]:
    return [
        FrameView(
            torch.full((3, *depth.shape), 100.0),
            depth.astype(np.float32),
            (depth.shape[0], depth.shape[1]),
        )
        for depth in depths
    ]


@pytest.mark.parametrize("size", [(48, 80), (24, 40), (96, 160)])
def test_rgb_is_what_the_network_sees_at_inference(size: tuple[int, int]) -> None:
    one = sample()
    frame = view_frame(one, PLAIN, size)
    clip = view_clip([frame], PLAIN, WHOLE, 8)
    expected = Canvas((48, 80), size, 8).paint(one.rgb[None])
    assert torch.equal(clip.rgb, expected)
    assert clip.disparity.shape == (1, 1, 1, *size)


def test_portrait_pictures_are_turned_as_at_inference() -> None:
    one = sample(80, 48)
    frame = view_frame(one, PLAIN, (48, 80))
    clip = view_clip([frame], PLAIN, WHOLE, 8)
    assert torch.equal(clip.rgb, Canvas((80, 48), (48, 80), 8).paint(one.rgb[None]))
    np.testing.assert_array_equal(frame.depth, np.rot90(one.depth))
    np.testing.assert_array_equal(view_frame(one, PLAIN, (80, 48)).depth, one.depth)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (64, 96), (16, 16)])
def test_depth_stays_under_its_colour(size: tuple[int, int], flip: bool) -> None:
    # Depth says the same as red: 1 m where dark, 2 m where bright, in patches of 8 pixels.
    patches = np.random.default_rng(3).integers(0, 2, (12, 20)).repeat(8, axis=0).repeat(8, axis=1)
    rgb = np.repeat((patches * 200).astype(np.uint8)[..., None], 3, axis=-1)
    depth = (1.0 + patches).astype(np.float32)
    one = Sample(rgb, depth, "made up", raw_depth=depth, mask=patches.astype(np.uint8))
    augmentation = Augmentation(share=0.7, top=0.3, left=0.8, flip=flip)
    frame = view_frame(one, augmentation, size)
    agree = (frame.rgb[0].numpy() > 100) == (frame.depth > 1.5)
    assert agree.mean() > 0.95
    assert frame.readings is not None
    assert frame.objects is not None
    assert ((frame.readings < 0.75) == (frame.depth > 1.5)).mean() > 0.95
    np.testing.assert_array_equal(frame.objects, frame.depth > 1.5)
    mirrored = view_frame(one, Augmentation(0.7, 0.3, 0.8, flip=not flip), size)
    np.testing.assert_array_equal(mirrored.depth, frame.depth[:, ::-1])
    torch.testing.assert_close(mirrored.rgb, frame.rgb.flip(-1), atol=1e-2, rtol=0)


def test_depth_out_of_range_is_unknown() -> None:
    one = sample()
    one.depth[0, 0] = np.nan
    frame = view_frame(one, PLAIN, (48, 80), (0.8, 1.5))
    inside = (one.depth >= 0.8) & (one.depth <= 1.5)
    np.testing.assert_array_equal(np.isfinite(frame.depth), inside)
    np.testing.assert_array_equal(frame.depth[inside], one.depth[inside])


def test_disparity_is_normalised_over_the_clip_not_the_frame() -> None:
    near, far = np.full((16, 16), 1.0), np.full((16, 16), 2.0)
    near[0, :] = 4.0
    clip = view_clip(views(near, far, far, far, far), PLAIN, WHOLE, 8)
    # 1/m: 1 is the nearest and becomes 1; 0.25 becomes -1; 0.5 lies a third of the way up.
    assert float(clip.disparity[0, 0, 0, 5, 5]) == 1.0
    assert float(clip.disparity[0, 0, 0, 0, 0]) == -1.0
    torch.testing.assert_close(clip.disparity[0, 0, 1], torch.full((16, 16), -1 / 3))


def test_disparity_is_clamped_beyond_the_percentiles() -> None:
    disparity = np.linspace(1.0, 2.0, 1000).reshape(20, 50)
    clip = view_clip(views(1.0 / disparity), PLAIN, DisparityConfig(10, 90), 2)
    normalised = clip.disparity[0, 0, 0].numpy()
    np.testing.assert_allclose(normalised, np.clip((disparity - 1.1) / 0.4 - 1.0, -1, 1), atol=1e-5)
    assert (normalised == 1).sum() == pytest.approx(100, abs=2)
    assert (normalised == -1).sum() == pytest.approx(100, abs=2)


def test_unknown_pixels_take_the_nearest_known_value() -> None:
    disparity = np.zeros((2, 4, 6), np.float32)
    disparity[0, :, :2], disparity[0, :, 5] = 1.0, 3.0
    disparity[1] = 2.0
    filled = fill(disparity)
    np.testing.assert_array_equal(filled[0], [[1, 1, 1, 1, 3, 3]] * 4)
    np.testing.assert_array_equal(filled[1], disparity[1])


def test_a_frame_without_depth_takes_the_nearest_frames() -> None:
    disparity = np.zeros((5, 2, 2), np.float32)
    disparity[0], disparity[4] = 1.0, 3.0
    assert fill(disparity)[:, 0, 0].tolist() == [1, 1, 1, 3, 3]


def test_weights_are_shares_of_the_pixels_behind_a_latent() -> None:
    known = np.zeros((5, 16, 24), bool)
    known[0, :8, :8] = True  # the first frame has a latent of its own
    known[1:3, 8:, 8:16] = True  # two of the four frames behind the second
    known[4, 15, 23] = True
    weight = latent_weight(known, 8)
    assert weight.shape == (1, 2, 2, 3)
    assert weight[0, 0].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert weight[0, 1].tolist() == [[0, 0, 0], [0, 0.5, 1 / 256]]


def test_filled_pixels_have_no_weight_and_no_say_in_the_range() -> None:
    depth = np.full((16, 16), np.nan)
    depth[:8, :8], depth[8:, :8] = 1.0, 2.0
    clip = view_clip(views(depth), PLAIN, WHOLE, 8)
    assert clip.weight[0, 0].tolist() == [[1, 0], [1, 0]]
    assert clip.disparity[0, 0, 0, :8].unique().tolist() == [1.0]
    assert clip.disparity[0, 0, 0, 8:].unique().tolist() == [-1.0]


def test_raw_depth_is_shown_as_the_sensor_of_the_augmentation_reads_it() -> None:
    one = sample()
    classes = np.zeros_like(one.depth, np.uint8)
    classes[10:30, 20:60] = 1
    raw = np.where(classes, np.float32(np.nan), one.depth + 0.1)
    frame = view_frame(replace(one, raw_depth=raw, mask=classes), PLAIN, (48, 80))
    readings, truth = disparity_of(raw)[None], 1 / one.depth[None]
    failed = failing_clip(readings, truth, classes[None], np.random.default_rng(7))
    nowhere = np.zeros_like(classes[None])
    unmasked = failing_clip(readings, truth, nowhere, np.random.default_rng(7))
    for given, sensor, expected in (
        (frame, AS_IT_IS, readings),
        (frame, 7, failed),
        (replace(frame, objects=None), 7, unmasked),
    ):
        clip = view_clip([given], Augmentation(sensor=sensor), WHOLE, 8)
        limits = range_of(expected)
        assert limits is not None
        assert clip.raw is not None
        np.testing.assert_array_equal(clip.raw[0], pictures(expected, limits))
        np.testing.assert_array_equal(clip.disparity[0, 0], limits.normalise(truth))
    assert not np.array_equal(failed, unmasked)
    frames = [frame, replace(frame, readings=None), frame, frame, frame]
    assert view_clip(frames, Augmentation(sensor=AS_IT_IS), WHOLE, 8).raw is None
    assert view_clip([frame], PLAIN, WHOLE, 8).raw is None


@pytest.mark.parametrize(
    ("depths", "why"),
    [
        ([np.full((16, 16), 1.5)], "depth range of zero"),
        ([np.linspace(1.5, 1.5006, 256).reshape(16, 16)], "depth range of zero"),
        ([np.where(np.eye(16) > 2, 1.0, np.nan)], "0.00%"),
        ([np.where(np.arange(400).reshape(20, 20) < 3, 1.0, np.nan)], "0.75%"),
        ([np.eye(16) + 1, np.eye(24)[:16] + 1], "several sizes 16x16, 16x24"),
    ],
)
def test_clips_without_use_are_refused(depths: list[np.ndarray], why: str) -> None:
    with pytest.raises(DktError, match=why):
        view_clip(views(*depths), PLAIN, WHOLE, 8)
