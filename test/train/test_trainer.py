"""Steps: what learns and what stays, micro-batches, averages, bad numbers, resuming."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from accelerate.state import AcceleratorState
from fixtures.latent_source import FixedLatents
from fixtures.train_process import small_recipe
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import default_checkpoint
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.environment import load_network, make_accelerator
from dkt_ros.train.trainer import Trainer


def trainer(checkpoint: Path, source: Any = None, **values: Any) -> Trainer:
    recipe = small_recipe(checkpoint, **values)
    accelerator = make_accelerator(recipe)
    network = load_network(recipe, accelerator)
    return Trainer(recipe, network, source or FixedLatents(), accelerator)


@pytest.fixture
def other_precision() -> Iterator[None]:
    """accelerate remembers the first precision of a process; within the test it may be another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def weights(of: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in of.parameters.items()}


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["flow", "one_step"])
def test_what_is_fixed_is_learned_and_the_rest_stays(
    tiny_checkpoint: Path, method: str, kind: str
) -> None:
    made = trainer(
        tiny_checkpoint,
        FixedLatents(count=4),
        method=method,
        objective={"kind": kind, "weighting": "uniform"},
        optimizer={"learning_rate": 2e-2 if method == "lora" else 3e-3, "warmup": 2},
        lora={"rank": 16},
        latent_frames=[1],
        steps=60,
    )
    parts = {"transformer": made.network.transformer, "vae": made.network.vae}
    before = {
        f"{part}.{name}": value.clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    prompt = made.network.prompt_embeds.clone()
    history = [made.step()["loss"] for _ in range(60)]
    # Few directions in a frozen network of random weights can only learn so much.
    assert sum(history[-10:]) < (0.95 if method == "lora" else 0.85) * sum(history[:10])
    moved = {
        f"{part}.{name}"
        for part, module in parts.items()
        for name, value in module.state_dict().items()
        if not torch.equal(value, before[f"{part}.{name}"])
    }
    chosen = {f"transformer.{name}" for name in made.parameters}
    assert moved <= chosen
    assert len(moved) > 0.9 * len(chosen)
    assert torch.equal(made.network.prompt_embeds, prompt)
    assert all(("lora_" in name) == (method == "lora") for name in moved)


def test_what_cannot_change_the_output_stays_frozen(tiny_checkpoint: Path) -> None:
    """dkt-nano's prompt is one token: neither queries nor keys of its cross-attention matter."""
    names = {".".join(n.split(".")[2:4]) for n in trainer(default_checkpoint()).parameters}
    assert {"attn1.to_q", "attn1.to_k", "attn2.to_v", "attn2.to_out"} <= names
    assert not {"attn2.to_q", "attn2.to_k"} & names
    several = {".".join(n.split(".")[2:4]) for n in trainer(tiny_checkpoint).parameters}
    assert {"attn2.to_q", "attn2.to_k"} <= several
    with pytest.raises(DktError, match=r"lora\.targets .*cross_attn\.q.* change nothing"):
        trainer(default_checkpoint(), lora={"rank": 4, "targets": ["cross_attn.q"]})


def test_accumulated_micro_batches_equal_the_whole_batch(tiny_checkpoint: Path) -> None:
    source = FixedLatents(hole=0.4)
    whole = trainer(tiny_checkpoint, FixedLatents(hole=0.4), micro_batch=4)
    parts = trainer(tiny_checkpoint, source, micro_batch=1)
    for _ in range(4):
        a, b = whole.step(), parts.step()
        assert a == pytest.approx(b, rel=1e-4)
    assert len(parts.micro_batches) == 4
    assert [asked[1] for asked in source.asked[:4]] == [(0,), (1,), (2,), (3,)]
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.usefixtures("other_precision")
@pytest.mark.parametrize(
    "values", [{"method": "lora"}, {"method": "full"}, {"method": "lora", "condition": "raw_depth"}]
)
def test_bfloat16_computes_and_float32_learns(
    tiny_checkpoint: Path, values: dict[str, str]
) -> None:
    made = trainer(tiny_checkpoint, **values, precision="bfloat16", gradient_checkpointing=True)
    computed = []
    layer = made.network.transformer.blocks[0].ffn.net[2]
    layer.register_forward_hook(lambda module, given, result: computed.append(result.dtype))
    loss = made.step()["loss"]
    assert set(computed) == {torch.bfloat16}
    assert {p.dtype for p in made.parameters.values()} == {torch.float32}
    stored = made.network.transformer.state_dict()["blocks.0.attn1.norm_q.weight"].dtype
    assert stored == (torch.bfloat16 if values["method"] == "lora" else torch.float32)
    AcceleratorState._reset_state(reset_partial_state=True)
    exact = trainer(tiny_checkpoint, **values).step()["loss"]
    assert loss != exact
    assert loss == pytest.approx(exact, rel=0.02)
    with made.finished() as network, torch.no_grad():
        latents = torch.ones(1, 16, 1, 2, 2)
        assert network.velocity(latents, latents, 500.0).isfinite().all()


def gradients(of: Trainer) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    original = of.optimizer.step

    def step() -> None:
        seen.update({n: p.grad.clone() for n, p in of.parameters.items() if p.grad is not None})
        original()

    of.optimizer.step = step
    of.step()
    return seen


def test_gradient_checkpointing_changes_memory_alone(tiny_checkpoint: Path) -> None:
    kept = trainer(tiny_checkpoint, gradient_checkpointing=False)
    again = trainer(tiny_checkpoint, gradient_checkpointing=True)
    assert again.network.transformer.is_gradient_checkpointing
    first, second = gradients(kept), gradients(again)
    assert set(first) == set(kept.parameters)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_gradient_is_clipped(tiny_checkpoint: Path) -> None:
    made = trainer(tiny_checkpoint, optimizer={"clip": 1e-3, "warmup": 0, "learning_rate": 1e-3})
    found = gradients(made)
    total = torch.stack([value.norm() for value in found.values()]).norm().item()
    assert total == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.usefixtures("other_precision")
@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "auto"}, "'auto'"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, r"RANK=0 WORLD_SIZE=2.*MASTER_ADDR"),
        ({"LOCAL_RANK": "0"}, "RANK expected, but not set"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not installed"),
    ],
)
def test_processes_that_are_not_there_are_named_by_what_tells_of_them(
    tiny_checkpoint: Path, variables: dict[str, str], named: str
) -> None:
    said: list[str] = []
    matching = rf"environment tells .*{named}.*torchrun.*unset"
    with (
        patch.dict(os.environ, variables),  # accelerate adds some of its own
        pytest.raises(DktError, match=matching) as caught,
    ):
        make_accelerator(small_recipe(tiny_checkpoint), said.append)
    assert "\n" not in str(caught.value)
    assert bool(said) is ("RANK" in variables)


@pytest.mark.usefixtures("other_precision")
def test_a_launcher_s_accumulation_divides_no_loss(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients(trainer(tiny_checkpoint))
    monkeypatch.setenv("WORLD_SIZE", "")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    found = gradients(trainer(tiny_checkpoint))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_every_step_draws_noise_levels_anew(tiny_checkpoint: Path) -> None:
    made, asked = trainer(tiny_checkpoint), set[tuple[float, ...]]()
    made.network.transformer.register_forward_pre_hook(
        lambda _, __, words: asked.add(tuple(words["timestep"].tolist())), with_kwargs=True
    )
    for _ in range(3):
        made.step()
    assert len(asked) == 3


def test_weights_and_inputs_learn_at_the_schedule_s_rate(tiny_checkpoint: Path) -> None:
    settings = {"learning_rate": 1e-3, "warmup": 2, "schedule": "cosine", "final": 0.1}
    made = trainer(
        tiny_checkpoint, condition="raw_depth", steps=4, optimizer=settings | {"input_rate": 0.5}
    )
    for expected in (0.5e-3, 1e-3, 1e-3, 0.55e-3):
        assert made.step()["rate"] == pytest.approx(expected)
        rates = [group["lr"] for group in made.optimizer.param_groups]
        assert rates == pytest.approx([expected, 0.5 * expected])


def test_one_clip_length_per_step_for_all_samples(tiny_checkpoint: Path) -> None:
    source = FixedLatents()
    made = trainer(tiny_checkpoint, source, micro_batch=2, latent_frames=[1, 2, 3])
    logged = [made.step()["latent_frames"] for _ in range(8)]
    by_step = {step: {a[2] for a in source.asked if a[0] == step} for step in range(8)}
    assert [{length} for length in logged] == list(by_step.values())
    assert len(set(logged)) > 1


def test_averaged_weights(tiny_checkpoint: Path) -> None:
    made = trainer(tiny_checkpoint, ema=0.5)
    expected = weights(made)
    for step in range(1, 4):
        made.step()
        decay = min(0.5, step / (9 + step))
        for name, value in weights(made).items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in made.trained().items():
        torch.testing.assert_close(value, expected[name])
    own = weights(made)
    some = next(name for name in own if "lora_B" in name)
    with made.finished() as network:
        shown = dict(network.transformer.named_parameters())[some]
        assert torch.equal(shown, made.trained()[some])
        assert not torch.equal(shown, own[some])
    assert all(torch.equal(value, own[name]) for name, value in weights(made).items())


class Spoiled(FixedLatents):
    """From step 2 on a latent is not a number."""

    def batch(self, step: int, indices: Any, latent_frames: int) -> LatentBatch:
        made = super().batch(step, indices, latent_frames)
        if step >= 2:
            made.rgb[0, 0, 0, 0, 0] = float("nan")
        return made


def test_a_loss_that_is_no_number_changes_no_weight(tiny_checkpoint: Path) -> None:
    made = trainer(tiny_checkpoint, Spoiled())
    made.step(), made.step()
    before = weights(made)
    with pytest.raises(DktError, match=r"loss became nan at step 3; lower optimizer\.learning"):
        made.step()
    assert made.done == 2
    assert all(torch.equal(value, before[name]) for name, value in weights(made).items())


def test_a_gradient_that_is_no_number_changes_no_weight(tiny_checkpoint: Path) -> None:
    made = trainer(tiny_checkpoint)
    before = weights(made)
    for parameter in made.parameters.values():
        parameter.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DktError, match="norm of the gradient became nan at step 1; lower"):
        made.step()
    assert made.done == 0
    assert all(torch.equal(value, before[name]) for name, value in weights(made).items())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_loaded_state_goes_on_to_the_last_bit(tiny_checkpoint: Path, method: str) -> None:
    whole = trainer(tiny_checkpoint, method=method, ema=0.9)
    losses = [whole.step() for _ in range(6)]
    begun = trainer(tiny_checkpoint, method=method, ema=0.9)
    for _ in range(3):
        begun.step()
    file = io.BytesIO()
    torch.save(begun.state(), file)
    file.seek(0)
    resumed = trainer(tiny_checkpoint, method=method, ema=0.9)
    resumed.load(torch.load(file, weights_only=True))
    assert [resumed.step() for _ in range(3)] == losses[3:]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
        assert torch.equal(whole.trained()[name], resumed.trained()[name]), name
    with pytest.raises(DktError, match="other weights than the recipe trains"):
        trainer(tiny_checkpoint, method=method, lora={"rank": 4, "targets": ["ffn.0"]}).load(
            whole.state() | ({} if method == "lora" else {"weights": {}})
        )


def test_a_resumed_run_has_the_recipe_s_decay_betas_and_shares(tiny_checkpoint: Path) -> None:
    """Resuming reports that they changed; the state brings those of before along."""
    begun = trainer(tiny_checkpoint, condition="raw_depth")
    settings = {"learning_rate": 1e-3, "input_rate": 2.0, "betas": [0.8, 0.9], "weight_decay": 0.3}
    resumed = trainer(tiny_checkpoint, condition="raw_depth", optimizer=settings)
    resumed.load(begun.state())
    groups = resumed.optimizer.param_groups
    assert [group["betas"] for group in groups] == [(0.8, 0.9)] * 2
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert [group["share"] for group in groups] == [1.0, 2.0]
