"""The recipe of a training: one YAML file, every field checked and named when it is wrong.

Knows the fields, their ranges and their defaults. Knows nothing of tensors; what concerns the data
stands in data.config, what concerns the loss in objective. The shipped files in recipes/
explain every default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dkt_ros.checks import check
from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import EMBEDDED, checkpoint_folder
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.train.data.config import DATA_FIELDS, DataConfig, parse_data
from dkt_ros.train.fields import RECIPES, above_zero, at_least, build, convert, load, shares
from dkt_ros.train.lora import LoraShape
from dkt_ros.train.objective import Objective
from dkt_ros.wording import NAME, is_name


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW. learning_rate: after warmup steps, over which it rises linearly.

    schedule: "constant", or a half "cosine" down to `final` times learning_rate at the last step.
    clip: largest norm of the gradient. input_rate: the patch embedding's learning rate beside a
    LoRA, as a multiple.
    """

    learning_rate: float = 1e-5
    input_rate: float = 10.0
    warmup: int = 500
    schedule: Literal["constant", "cosine"] = "constant"
    final: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        above_zero(self, "learning_rate", "input_rate", "clip")
        at_least(0, self, "warmup", "weight_decay")
        shares(self, "final")
        valid = all(0 <= beta < 1 for beta in self.betas)
        check("betas", list(self.betas), "two numbers in [0, 1)", valid)


@dataclass(frozen=True)
class SaveRecipe:
    """Every so many steps the state is saved; the last `keep` states stay."""

    every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        at_least(1, self, "every", "keep")


@dataclass(frozen=True)
class PreviewRecipe:
    """Predictions of fixed clips with the weights so far, for TensorBoard.

    every: steps between them, 0 for none. clips: how many. frames: images of each. seed: of the
    sampler's noise. steps: of the sampler, None for the trained checkpoint's own.
    """

    every: int = 500
    clips: int = 2
    frames: int = 21
    seed: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        at_least(0, self, "every", "seed")
        at_least(1, self, "clips", "frames")
        check("steps", self.steps, "at least 1", self.steps is None or self.steps >= 1)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    data: see DataConfig; its fields stand at the top level of the file. checkpoint: folder to start
    from, or dkt-nano for the one in the package. name: of the result, by default the output
    folder's. method: "lora", or "full" for all weights of the transformer. steps: of the optimiser.
    batch: samples of each step over all processes. micro_batch: samples that a process takes at
    once; the gradients of the rest of its share are added up. latent_frames: clip lengths n of
    which every step draws one, for clips of 4n - 3 images. ema: decay of the averaged weights,
    which are then what is saved; 0 for none. precision: of the computing; "auto" is bfloat16 on a
    GPU and float32 on a CPU. gradient_checkpointing: computes activations twice to keep fewer.
    wandb: project that numbers are logged to as well.
    """

    data: DataConfig
    checkpoint: str = EMBEDDED
    name: str | None = None
    method: Literal["lora", "full"] = "lora"
    seed: int = 1
    steps: int = 70000
    batch: int = 8
    micro_batch: int = 1
    latent_frames: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    lora: LoraShape = field(default_factory=LoraShape)
    objective: Objective = field(default_factory=Objective)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    ema: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool = True
    wandb: str | None = None
    save: SaveRecipe = field(default_factory=SaveRecipe)
    preview: PreviewRecipe = field(default_factory=PreviewRecipe)

    def __post_init__(self) -> None:
        at_least(0, self, "seed")
        check("name", self.name, NAME, self.name is None or is_name(self.name))
        at_least(1, self, "steps", "batch", "micro_batch")
        lengths = list(self.latent_frames)
        valid = len(lengths) > 0 and min(lengths) >= 1
        check("latent_frames", lengths, "one length or more, of at least 1", valid)
        check("ema", self.ema, "in [0, 1)", 0 <= self.ema < 1)

    def checkpoint_folder(self) -> Path:
        """The folder that `checkpoint` names."""
        return checkpoint_folder(self.checkpoint)


def as_in_file(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's plain values as its file has them: those of the data at the top level."""
    return {**{name: value for name, value in values.items() if name != "data"}, **values["data"]}


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, or the shipped one of that name.

    changes: `field=value` each, put over the file's values (`lora.rank=16`). Raises DktError naming
    the file and the field.
    """
    return load(parse_recipe, name, RECIPES, changes)


def parse_recipe(content: Any) -> Recipe:
    """Builds a recipe from parsed YAML; an absent or null `size` is the checkpoint's own."""
    if not isinstance(content, Mapping):
        raise DktError(f"the file holds a {type(content).__name__}, expected fields with values")
    known = {entry.name for entry in dataclasses.fields(Recipe)} | set(DATA_FIELDS)
    for key in content:
        if key not in known:
            raise DktError(f"{key} is unknown; known are {', '.join(sorted(known))}")
    values = {key: value for key, value in content.items() if key not in DATA_FIELDS}
    data = {key: value for key, value in content.items() if key in DATA_FIELDS}
    if data.get("size") is None:
        named = convert(str, content.get("checkpoint", EMBEDDED), "checkpoint")
        info = CheckpointInfo.read(checkpoint_folder(named))
        data["size"] = [info.height, info.width]
    return build(Recipe, {**values, "data": parse_data(data)})
