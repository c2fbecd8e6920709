"""What a run leaves for others: adapters in both layouts, and a checkpoint that is ready to run.

Knows a run's folder and the state in it. Knows nothing of training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from dkt_ros.errors import DktError
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.merge import transformer_weights, with_lora, write_with
from dkt_ros.model.weights import Weights, sha256
from dkt_ros.train.lora import public_tensors, write_adapter
from dkt_ros.train.recipe import Recipe
from dkt_ros.train.states import States, read_state
from dkt_ros.train.tuning import Trained

CHECKPOINT_DIR = "checkpoint"
STATES_DIR = "states"


def export_run(recipe: Recipe, output: Path) -> CheckpointInfo:
    """Writes `checkpoint/` (and for a LoRA both adapter files) of the run's newest state.

    Raises DktError where the run has no state yet.
    """
    latest = States(output / STATES_DIR, recipe.save.keep).latest()
    if latest is None:
        raise DktError(f"{output} holds no state of a run: there is nothing to export yet")
    state = read_state(latest)
    trained = state["average"] or state["weights"]
    if recipe.method == "lora":
        write_adapter(output, trained, recipe.lora)
    info = described(recipe, int(state["done"]), recipe.name or output.resolve().name)
    files = transformer_weights(recipe.checkpoint_folder()).files
    info = replace(info, sources={f"base/{file.name}": sha256(file) for file in files})
    write_with(recipe.checkpoint_folder(), merged(recipe, trained), output / CHECKPOINT_DIR, info)
    return info


def described(recipe: Recipe, done: int, name: str) -> CheckpointInfo:
    """The trained checkpoint's `dkt.json`: the base's, with size, steps and origin of this run."""
    base = CheckpointInfo.read(recipe.checkpoint_folder())
    height, width = recipe.data.size
    how = f"LoRA of rank {recipe.lora.rank}" if recipe.method == "lora" else "full fine-tuning"
    one_step = recipe.objective.kind == "one_step"
    return replace(
        base,
        name=name,
        height=height,
        width=width,
        steps=1 if one_step else base.steps,
        origin=f"{base.name}, {how} over {done} steps of dkt train, {recipe.objective.kind}",
        sources={},
    )


def merged(recipe: Recipe, trained: Trained) -> Weights:
    """The whole transformer with what was trained, in the types the base is stored in."""
    base = recipe.checkpoint_folder()
    if recipe.method == "lora":
        return with_lora(base, Weights.from_tensors(public_tensors(trained), "the adapter"))
    stored = transformer_weights(base)
    if unknown := set(trained) - set(stored.shapes):
        raise DktError(f"{base} has no weight {min(unknown)}, which the state holds")

    def read(name: str) -> torch.Tensor:
        return trained[name].to(stored.dtypes[name]) if name in trained else stored.read(name)

    return replace(stored, read=read)
