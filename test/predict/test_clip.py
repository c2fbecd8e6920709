"""Sizes, orientation, clip length and options around the sampler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.model.canvas import resize, working_size
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import PredictOptions, predict_disparity


def clip(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours that move, so that every frame and place differs."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, 3)
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    waves = np.stack([np.sin(x / 9 + y / 7 * k + t + phase[k]) for k in range(3)], axis=-1)
    return ((waves + 1) * 127).astype(np.uint8)


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 9])
def test_any_number_of_frames(tiny_fast: FastNetwork, frames: int) -> None:
    disparity = predict_disparity(tiny_fast, clip(frames, 32, 48))
    assert disparity.shape == (frames, 32, 48)
    assert disparity.dtype == np.float32
    assert disparity.min() >= 0
    assert disparity.max() <= 1
    assert np.isfinite(disparity).all()


def test_a_clip_is_padded_with_its_last_frame(tiny_fast: FastNetwork) -> None:
    seven = clip(7, 32, 48)
    nine = np.concatenate([seven, seven[-1:], seven[-1:]])
    expected = predict_disparity(tiny_fast, nine)[:7]
    np.testing.assert_array_equal(predict_disparity(tiny_fast, seven), expected)


def test_portrait_is_turned_there_and_back(tiny_fast: FastNetwork) -> None:
    landscape = clip(5, 32, 48)
    portrait = np.rot90(landscape, k=-1, axes=(1, 2))
    assert portrait.shape == (5, 48, 32, 3)
    expected = np.rot90(predict_disparity(tiny_fast, landscape), k=-1, axes=(1, 2))
    np.testing.assert_array_equal(predict_disparity(tiny_fast, portrait), expected)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (17, 100), (1, 1), (8, 200)])
def test_output_has_the_size_of_the_input(tiny_fast: FastNetwork, shape: tuple[int, int]) -> None:
    assert predict_disparity(tiny_fast, clip(1, *shape)).shape == (1, *shape)


def test_size_changes_what_the_network_sees(tiny_fast: FastNetwork) -> None:
    rgb = clip(1, 64, 96)
    small = predict_disparity(tiny_fast, rgb, PredictOptions(size=(32, 48)))
    assert small.shape == (1, 64, 96)
    assert np.abs(small - predict_disparity(tiny_fast, rgb)).max() > 1e-3
    expected = predict_disparity(tiny_fast, rgb, PredictOptions(size=(64, 96)))
    np.testing.assert_array_equal(predict_disparity(tiny_fast, rgb), expected)


@pytest.mark.parametrize(
    ("native", "requested", "expected"),
    [
        ((480, 640), None, (480, 640)),
        ((720, 1280), None, (720, 1280)),
        ((1080, 1920), None, (1088, 1920)),
        ((640, 480), None, (480, 640)),
        ((480, 640), (480, 832), (480, 832)),
        ((480, 640), (832, 480), (832, 480)),
        ((640, 480), (480, 832), (480, 832)),
        ((640, 480), (832, 480), (480, 832)),
        ((480, 640), (100, 150), (96, 144)),
        ((3, 3), None, (16, 16)),
    ],
)
def test_working_size(
    native: tuple[int, int], requested: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert working_size(native, requested, 16) == expected


def test_resizing_down_averages_instead_of_skipping() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1.0
    small = resize(stripes, (8, 8))
    assert (small - 0.5).abs().max() < 0.05


def test_options_change_the_result(tiny_fast: FastNetwork) -> None:
    rgb = clip(17, 32, 48)
    base = predict_disparity(tiny_fast, rgb)
    for options in (
        PredictOptions(steps=3),
        PredictOptions(seed=2),
        PredictOptions(window=5),
        PredictOptions(overlap=0),
    ):
        assert np.abs(predict_disparity(tiny_fast, rgb, options) - base).max() > 1e-4, options


def test_the_checkpoint_says_what_is_not_asked_for(
    tiny_fast: FastNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = clip(17, 32, 48)
    info = tiny_fast.info
    explicit = PredictOptions(info.steps, info.window, info.overlap, seed=1)
    expected = predict_disparity(tiny_fast, rgb, explicit)
    np.testing.assert_array_equal(predict_disparity(tiny_fast, rgb), expected)
    monkeypatch.setattr(tiny_fast, "info", replace(info, sigma_shift=2.0))
    assert np.abs(predict_disparity(tiny_fast, rgb) - expected).max() > 1e-4


def test_a_window_longer_than_the_clip_is_one_window(tiny_fast: FastNetwork) -> None:
    rgb = clip(9, 32, 48)
    expected = predict_disparity(tiny_fast, rgb, PredictOptions(window=3, overlap=0))
    longer = predict_disparity(tiny_fast, rgb, PredictOptions(window=50, overlap=20))
    np.testing.assert_array_equal(longer, expected)


def test_a_small_window_shrinks_the_checkpoints_overlap(tiny_fast: FastNetwork) -> None:
    assert tiny_fast.info.overlap == 1
    rgb = clip(9, 32, 48)
    expected = predict_disparity(tiny_fast, rgb, PredictOptions(window=1, overlap=0))
    small = predict_disparity(tiny_fast, rgb, PredictOptions(window=1))
    np.testing.assert_array_equal(small, expected)


def test_progress_names_the_stages_and_reaches_the_end(tiny_fast: FastNetwork) -> None:
    seen: list[tuple[str, int, int]] = []
    options = PredictOptions(steps=2, window=2, overlap=1)
    predict_disparity(tiny_fast, clip(9, 32, 48), options, lambda *progress: seen.append(progress))
    assert [name for name, _, _ in seen if name == "denoise"] == ["denoise"] * 4
    assert {name: (done, total) for name, done, total in seen} == {
        "encode": (3, 3),
        "denoise": (4, 4),
        "decode": (3, 3),
    }


@pytest.mark.parametrize(
    ("rgb", "named"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint8), r"\(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"\(1, 8, 8, 4\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"\(0, 8, 8, 3\)"),
        ([[0]], "list"),
    ],
)
def test_other_input_is_refused_by_what_it_is(
    tiny_fast: FastNetwork, rgb: np.ndarray, named: str
) -> None:
    with pytest.raises(DktError, match=named):
        predict_disparity(tiny_fast, rgb)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"window": 0}, "window"),
        ({"overlap": -1}, "overlap"),
        ({"window": 3, "overlap": 3}, "overlap is 3"),
        ({"size": (0, 10)}, "size"),
        ({"seed": 2**64}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(values: dict, named: str) -> None:
    with pytest.raises(DktError, match=named):
        PredictOptions(**values)


def test_an_overlap_as_long_as_the_checkpoints_window_is_refused(tiny_fast: FastNetwork) -> None:
    with pytest.raises(DktError, match="window of 3"):
        predict_disparity(tiny_fast, clip(1, 16, 16), PredictOptions(overlap=3))
