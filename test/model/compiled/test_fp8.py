"""What a clip shows of the layers' inputs, for FP8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.compiled.fp8 import (
    LARGEST,
    Fp8Linear,
    fp8_round,
    measure,
    observed,
    use_fp8,
)
from dkt_ros.model.compiled.request import EngineRequest

LAYERS = {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"}


def request_for(checkpoint: Path, windows: tuple[int, ...], steps: int) -> EngineRequest:
    return EngineRequest(checkpoint, "", (32, 48), windows, steps, "fp8")


def clip(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, 30, 40, 3), np.uint8)


@pytest.fixture
def seen(tiny_checkpoint: Path) -> dict[str, float]:
    wanted = request_for(tiny_checkpoint, (1, 2), 2)
    return measure(wanted, clip(11), torch.device("cpu"), "float32")


def test_every_layer_is_seen(seen: dict[str, float]) -> None:
    assert {name.removeprefix("blocks.0.") for name in seen} == LAYERS
    # The three take the same input.
    assert len({seen[f"blocks.0.attn1.to_{letter}"] for letter in "qkv"}) == 1


def test_a_longer_look_never_lowers_what_was_seen(
    seen: dict[str, float], tiny_checkpoint: Path
) -> None:
    """One step is the first of two: the same noise, the same windows."""
    wanted = request_for(tiny_checkpoint, (1, 2), 1)
    first = measure(wanted, clip(11), torch.device("cpu"), "float32")
    assert all(first[name] <= seen[name] for name in seen)
    assert any(first[name] < seen[name] for name in seen)


def test_the_scales_are_of_what_was_seen(seen: dict[str, float], tiny_checkpoint: Path) -> None:
    network = load_checkpoint(tiny_checkpoint)
    use_fp8(network.transformer, seen)
    layer = network.transformer.blocks[0].ffn.net[2]
    assert isinstance(layer, Fp8Linear)
    assert layer.input_scale == pytest.approx(seen["blocks.0.ffn.net.2"] / 448.0, rel=1e-6)


def test_fp8_rounds_to_e4m3_and_saturates() -> None:
    x = torch.tensor([0.0, 1.0, 1.06, -17.0, 500.0, -1e6])
    torch.testing.assert_close(
        fp8_round(x, 1.0), torch.tensor([0.0, 1.0, 1.0, -16.0, LARGEST, -LARGEST])
    )
    torch.testing.assert_close(fp8_round(x, 0.5)[4], torch.tensor(224.0))


def test_an_fp8_layer_is_near_the_layer() -> None:
    layer = torch.nn.Linear(64, 32)
    x = torch.randn(4, 64)
    rounded = Fp8Linear(layer, float(x.abs().max()))
    error = (rounded(x) - layer(x)).norm() / layer(x).norm()
    assert 0 < error < 0.1


def test_the_largest_input_may_be_negative_and_is_never_forgotten(tiny_checkpoint: Path) -> None:
    transformer = load_checkpoint(tiny_checkpoint).transformer
    layer = transformer.blocks[0].attn1.to_q
    with observed(transformer) as largest:
        for value in (2.0, -7.0, 3.0):
            layer(torch.tensor([[value] * layer.in_features]))
    layer(torch.full((1, layer.in_features), 9.0))
    assert largest == {"blocks.0.attn1.to_q": 7.0}


def test_scales_are_numbers_that_the_type_has_and_never_zero() -> None:
    """The graph holds them in the type that the network computes in."""
    layer = torch.nn.Linear(64, 32, dtype=torch.bfloat16)
    rounded = Fp8Linear(layer, 0.3)
    for scale in (rounded.input_scale, rounded.weight_scale):
        assert float(torch.tensor(scale).bfloat16()) == scale
    torch.nn.init.zeros_(layer.weight)
    x = torch.randn(4, 64, dtype=torch.bfloat16)
    assert torch.equal(Fp8Linear(layer, 0.3)(x), layer.bias.expand(4, -1))


def test_calibration_must_have_seen_every_layer(tiny_checkpoint: Path) -> None:
    network = load_checkpoint(tiny_checkpoint)
    with pytest.raises(DktError, match=r"blocks\.0\.attn1\.to_q"):
        use_fp8(network.transformer, {})
    with pytest.raises(DktError, match="saw inf"):
        use_fp8(network.transformer, {"blocks.0.attn1.to_q": float("inf")})
