"""What a run leaves for others: adapters in both layouts, and a checkpoint that is ready to run.

Knows a run's folder and the state in it, which says itself how it was made. Knows nothing of
training.
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import checked_folder
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.merge import transformer_weights, with_lora, write_with
from dkt_ros.model.weights import Weights
from dkt_ros.train.fields import build, changed, plain
from dkt_ros.train.lora import public_tensors, write_adapter
from dkt_ros.train.recipe import Recipe, as_in_file
from dkt_ros.train.resuming import base_digest
from dkt_ros.train.states import States, read_state
from dkt_ros.train.tuning import Trained
from dkt_ros.wording import counted

CHECKPOINT_DIR = "checkpoint"
BEST_CHECKPOINT_DIR = "checkpoint-best"
STATES_DIR = "states"
BEST_DIR = "best"
_DECIDING = ("name", "method", "lora", "objective", "size", "condition")


def export_run(recipe: Recipe, output: Path) -> CheckpointInfo:
    """Writes `checkpoint/` (and for a LoRA both adapter files) of the run's newest state.

    What is written follows the recipe in the state. The given one says where the base checkpoint
    lies now. Raises DktError where the run has no state yet, where the given recipe says another
    thing than the run's on what decides the result, where the checkpoint is not the one the run
    began with, and where nothing can be written.
    """
    state = _newest(output)
    return _export(state, _own_recipe(state, recipe, output), output)


def export_result(recipe: Recipe, output: Path) -> CheckpointInfo:
    """The same at the end of a run, whose recipe has been compared with the state's already."""
    return _export(_newest(output), recipe, output)


def export_best(recipe: Recipe, output: Path, done: int) -> None:
    """Writes `checkpoint-best/` of the state of least validation loss.

    Where that is the last, `checkpoint/` is it, and what an earlier end of the run left there goes.
    """
    latest = States(output / BEST_DIR, keep=1).latest()
    if latest is None or (state := read_state(latest))["done"] == done:
        shutil.rmtree(output / BEST_CHECKPOINT_DIR, ignore_errors=True)
        return
    _export(state, recipe, output, BEST_CHECKPOINT_DIR)


def _newest(output: Path) -> dict[str, Any]:
    latest = States(output / STATES_DIR, keep=1).latest()
    if latest is None:
        raise DktError(f"{output} holds no state of a run: there is nothing to export yet")
    return read_state(latest)


def _own_recipe(state: dict[str, Any], given: Recipe, output: Path) -> Recipe:
    """The recipe of the state, with the given place of the base checkpoint."""
    try:
        own = build(Recipe, state["recipe"])
    except DktError as error:
        raise DktError(f"{output}: the recipe in its state does not fit: {error}") from error
    deciding = [name for name in _DECIDING if name != "lora" or own.method == "lora"]
    trained, asked = (as_in_file(plain(one)) for one in (own, given))
    found = [entry for name in deciding for entry in changed(trained[name], asked[name], name)]
    if found:
        told = ", ".join(f"{name} was {was}, the recipe says {now}" for name, was, now in found)
        # Not its file: that is of a run that may have been resumed and come to no state since.
        advice = [f"--set {shlex.quote(f'{name}={json.dumps(was)}')}" for name, was, _ in found]
        raise DktError(f"{output}: {told}; export as it was trained: {' '.join(advice)}")
    return replace(own, checkpoint=given.checkpoint)


def _export(
    state: dict[str, Any], recipe: Recipe, output: Path, folder: str = CHECKPOINT_DIR
) -> CheckpointInfo:
    base = recipe.checkpoint_folder()
    digest = base_digest(recipe)
    if digest != state["base"]:
        raise DktError(
            f"checkpoint {recipe.checkpoint} holds other weights than the run in {output} began "
            "with; name the one it began with as checkpoint"
        )
    trained = state.get("average") or state["weights"]
    info = described(recipe, int(state["done"]), output)
    names = [f"base/{file.name}" for file in transformer_weights(base).files]
    info = replace(info, sources=dict(zip(names, digest.split(), strict=True)))
    try:
        if recipe.method == "lora" and folder == CHECKPOINT_DIR:
            write_adapter(output, trained, recipe.lora, info)
        write_with(base, merged(recipe, trained), output / folder, info)
    except (OSError, SafetensorError) as error:
        raise DktError(f"the run cannot be exported to {output}: {error}") from error
    return info


def described(recipe: Recipe, done: int, output: Path) -> CheckpointInfo:
    """The trained checkpoint's `dkt.json`: the base's, with size, steps and origin of this run.

    Raises DktError where the recipe and the run's folder make none.
    """
    base = CheckpointInfo.read(checked_folder(recipe.checkpoint_folder()))
    height, width = recipe.data.size
    how = f"LoRA of rank {recipe.lora.rank}" if recipe.method == "lora" else "full fine-tuning"
    one_step = recipe.objective.kind == "one_step"
    return replace(
        base,
        name=recipe.name or output.resolve().name,
        height=height,
        width=width,
        steps=1 if one_step else base.steps,
        condition=recipe.data.condition,
        origin=(
            f"{base.name}, {how} over {counted(done, 'step')} of dkt train, {recipe.objective.kind}"
        ),
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
