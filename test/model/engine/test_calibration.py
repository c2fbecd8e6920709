"""What a clip shows of the layers' inputs, for FP8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.engine.calibration import measure
from dkt_ros.model.engine.fingerprint import clip_fingerprint
from dkt_ros.model.engine.fp8 import Fp8Linear, use_fp8
from dkt_ros.model.engine.request import EngineRequest

LAYERS = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"}


def request_for(
    checkpoint: Path, windows: tuple[tuple[int, int], ...], steps: int
) -> EngineRequest:
    return EngineRequest(checkpoint, "", (32, 48), windows, steps, "fp8")


def clip(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 30, 40, 3), np.uint8)


@pytest.fixture
def seen(tiny_checkpoint: Path) -> dict[str, float]:
    wanted = request_for(tiny_checkpoint, ((1, 1), (2, 1)), 2)
    return measure(wanted, clip(11), torch.device("cpu"), "float32")


def test_every_layer_is_seen(seen: dict[str, float]) -> None:
    assert {name.removeprefix("blocks.0.") for name in seen} == LAYERS
    # The three take the same input.
    assert len({seen[f"blocks.0.attn1.to_{letter}"] for letter in "qkv"}) == 1


def test_a_longer_look_never_lowers_what_was_seen(
    seen: dict[str, float], tiny_checkpoint: Path
) -> None:
    """One step is the first of two: the same noise, the same windows."""
    wanted = request_for(tiny_checkpoint, ((1, 1), (2, 1)), 1)
    first = measure(wanted, clip(11), torch.device("cpu"), "float32")
    assert all(first[name] <= seen[name] for name in seen)
    assert any(first[name] < seen[name] for name in seen)


def test_the_scales_are_of_what_was_seen(seen: dict[str, float], tiny_checkpoint: Path) -> None:
    network = load_checkpoint(tiny_checkpoint)
    use_fp8(network.transformer, seen)
    layer = network.transformer.blocks[0].ffn.net[2]
    assert isinstance(layer, Fp8Linear)
    assert layer.input_scale == pytest.approx(seen["blocks.0.ffn.net.2"] / 448.0, rel=1e-6)


def test_clips_are_told_apart_by_their_pixels() -> None:
    one = clip(5)
    other = one.copy()
    other[4, 0, 0, 0] ^= 1
    assert clip_fingerprint(one) == clip_fingerprint(np.asfortranarray(one))
    prints = {clip_fingerprint(rgb) for rgb in (one, other, one[:4], one.reshape(5, 40, 30, 3))}
    assert len(prints) == 4
