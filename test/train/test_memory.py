"""What a training is said to hold, against what one holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dkt_ros.model.checkpoint import EMBEDDED, PROMPT_FILE, load_checkpoint, read_prompt
from dkt_ros.train.memory import Memory, count, without_memory
from dkt_ros.train.recipe import Recipe, parse_recipe
from dkt_ros.train.tuning import prepare


def recipe(**values: Any) -> Recipe:
    size, lengths = [64, 112], [2, 1]
    given = {"data": [{"path": "x"}], "size": size, "latent_frames": lengths, "lora": {"rank": 4}}
    return parse_recipe({**given, **values})


def held(asked: Recipe, bf16: bool = False) -> tuple[int, int, int]:
    """Weights that learn, bytes of all weights, and bytes kept of one sample for going back."""
    network = load_checkpoint(EMBEDDED, dtype="bfloat16" if bf16 else "float32")
    learn = sum(parameter.numel() for parameter in prepare(network, asked).values())
    own = {p.untyped_storage().data_ptr() for p in network.transformer.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    latents = torch.ones(1, network.latent_channels, 2, 8, 14)
    shown = latents if asked.data.condition == "none" else latents.repeat(1, 2, 1, 1, 1)
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        velocity = network.velocity(latents, shown, 500.0)
    assert velocity.requires_grad
    weights = sum(parameter.nbytes for parameter in network.transformer.parameters())
    return learn, weights, sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(("method", "condition"), [("lora", "none"), ("full", "raw_depth")])
def test_a_run_holds_what_is_counted(method: str, condition: str) -> None:
    asked = recipe(
        method=method, condition=condition, gradient_checkpointing=False, ema=0.9, micro_batch=2
    )
    found = count(asked, without_memory(asked), bf16=False)
    learn, weights, kept = held(asked)
    assert (found.learn, found.weights, found.gradients) == (learn, weights, 4 * learn)
    assert (found.optimizer, found.average) == (8 * learn, 4 * learn)
    assert found.kept == pytest.approx(2 * kept, rel=0.01)
    assert found.total == weights + 16 * learn + found.kept
    if method == "full":
        return
    thin = replace(asked, ema=0.0, lora=replace(asked.lora, rank=1))  # few copies of adapters
    half = count(thin, without_memory(thin), bf16=True)
    assert half.weights == pytest.approx(2 * half.parameters + 6 * half.learn, rel=2e-3)
    assert half.kept == pytest.approx(2 * held(thin, bf16=True)[2], rel=0.03)
    cheap = replace(asked, gradient_checkpointing=True)
    # Each block's input, and all of the one block that is gone back through.
    inputs, layers = held(cheap)[2], 7
    expected = 2 * (inputs + (kept - inputs) / layers)
    assert count(cheap, without_memory(cheap), bf16=False).kept == pytest.approx(expected, rel=0.03)


def test_it_is_said_in_gibibytes() -> None:
    said = Memory(9000, 1000, 3 * 2**30, 2**29, 0, 0, 2**30).described()
    assert said.startswith("about 4.5 GiB a process")
    assert "(weights 3, gradients 0.5, kept 1); 1,000 of 9,000 weights learn" in said


def test_the_prompt_is_read_once(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[Path]()

    def counted_prompt(file: Path) -> Tensor:
        read.append(file)
        return read_prompt(file)

    for module in ("dkt_ros.model.checkpoint", "dkt_ros.train.memory"):
        monkeypatch.setattr(f"{module}.read_prompt", counted_prompt)
    asked = recipe(checkpoint=str(tiny_checkpoint))
    count(asked, without_memory(asked), bf16=False)
    assert read == [tiny_checkpoint / PROMPT_FILE]
