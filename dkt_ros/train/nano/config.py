"""The training configuration of dkt-nano: what a YAML file may say, checked field by field.

Knows the fields, their ranges and their defaults. Knows nothing of tensors or data.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the two networks; the rest of the architecture is DKT's own.

    vae_base_dim: channels at full resolution. vae_res_blocks: residual blocks per encoder stage.
    heads, head_dim, layers, ffn_dim: of the transformer. text_dim, image_dim: of the constant
    prompt and image tokens. freq_dim: of the timestep embedding.
    """

    vae_base_dim: int = 12
    vae_res_blocks: int = 1
    heads: int = 6
    head_dim: int = 32
    layers: int = 7
    ffn_dim: int = 768
    text_dim: int = 16
    image_dim: int = 16
    freq_dim: int = 64

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            _positive(f"network.{entry.name}", getattr(self, entry.name))
        for name in ("head_dim", "freq_dim", "vae_base_dim"):
            value = getattr(self, name)
            _check(f"network.{name}", value, "an even number", value % 2 == 0)


@dataclass(frozen=True)
class StageConfig:
    """One stretch of training at one picture size.

    steps: optimiser steps. height, width: pixels, multiples of 16. batch: single frames per step.
    clip_every: every so many steps is made of 5-frame clips instead (0: never), clip_batch of them.
    rate: this stretch's share of the learning rate.
    """

    steps: int
    height: int
    width: int
    batch: int
    clip_every: int = 0
    clip_batch: int = 1
    rate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "height", "width", "batch", "clip_batch"):
            _positive(f"stages.{name}", getattr(self, name))
        for name in ("height", "width"):
            value = getattr(self, name)
            _check(f"stages.{name}", value, "a multiple of 16", value % 16 == 0)
        _check("stages.rate", self.rate, "a number above 0", _number(self.rate) and self.rate > 0)
        every = self.clip_every
        _check("stages.clip_every", every, "0 or more", isinstance(every, int) and every >= 0)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; losses.py says what each is.

    sigma_one_share: share of samples that start from pure noise, the rest being spread over the
    sigmas of a sampler of sigma_steps. object_weight: extra weight of transparent and reflective
    pixels. reconstruct_share: share of a batch whose disparity also goes through the VAE alone.
    """

    flow: float = 0.5
    pixel: float = 1.0
    gradient: float = 0.5
    reconstruction: float = 0.5
    latent_penalty: float = 1e-4
    object_weight: float = 3.0
    sigma_one_share: float = 0.5
    reconstruct_share: float = 0.25

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            _check(f"loss.{entry.name}", value, "0 or more", _number(value) and value >= 0)
        for name in ("sigma_one_share", "reconstruct_share"):
            value = getattr(self, name)
            _check(f"loss.{name}", value, "at most 1", value <= 1)


@dataclass(frozen=True)
class NanoConfig:
    """Everything that decides a training run, apart from the data.

    vae_steps: first steps, in which the VAE learns disparity alone; the latent statistics are
    measured at their end. encoder_steps: the steps after those, in which the encoder learns to give
    RGB the latents of its disparity; cheap, since neither decoder nor transformer runs.
    decay_steps: last steps, over which the learning rate falls to zero (before them it is constant,
    after warmup_steps). ema: decay of the averaged weights, which are what is saved.
    steps, sigma_shift, buffer_frames: defaults written into the checkpoint. sigma_steps: the noise
    levels trained on are those of a sampler of so many steps. save_every, rescan_every: in steps.
    """

    stages: tuple[StageConfig, ...]
    name: str = "dkt-nano"
    seed: int = 1
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    vae_steps: int = 200
    encoder_steps: int = 0
    warmup_steps: int = 100
    decay_steps: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.998
    steps: int = 1
    sigma_steps: int = 5
    sigma_shift: float = 5.0
    buffer_frames: int = 5
    save_every: int = 250
    rescan_every: int = 200
    origin: str = "trained from scratch by the dkt_ros project on scenes it rendered"

    def __post_init__(self) -> None:
        _check("stages", self.stages, "at least one stage", len(self.stages) > 0)
        _check("name", self.name, "a non-empty string", isinstance(self.name, str) and self.name)
        for name in ("vae_steps", "steps", "sigma_steps", "save_every", "rescan_every"):
            _positive(name, getattr(self, name))
        for name in ("seed", "encoder_steps", "warmup_steps", "decay_steps"):
            value = getattr(self, name)
            _check(name, value, "an integer, 0 or more", isinstance(value, int) and value >= 0)
        for name in ("learning_rate", "gradient_clip", "sigma_shift"):
            value = getattr(self, name)
            _check(name, value, "a number above 0", _number(value) and value > 0)
        value = self.weight_decay
        _check("weight_decay", value, "0 or more", _number(value) and value >= 0)
        _check("ema", self.ema, "in [0, 1)", _number(self.ema) and 0 <= self.ema < 1)
        total = self.total_steps
        used = max(self.vae_steps + self.encoder_steps, self.decay_steps)
        _check("stages", total, f"more than {used} steps in all", total > used)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> StageConfig:
        """The stage that the 0-based step belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def load_config(path: Path) -> NanoConfig:
    """Reads a YAML file; DktError names the file and the field that is unknown or out of range."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DktError(f"{path} cannot be read as YAML: {error}") from error
    try:
        return parse_config(content)
    except DktError as error:
        raise DktError(f"{path}: {error}") from error


def parse_config(content: Any) -> NanoConfig:
    """Builds the configuration from parsed YAML."""
    values = dict(_mapping("the file", content))
    stages = values.pop("stages", ())
    if not isinstance(stages, list):
        raise DktError(f"stages is {stages!r}, expected a list of stages")
    network = _build(NetworkConfig, "network", values.pop("network", {}))
    loss = _build(LossConfig, "loss", values.pop("loss", {}))
    parts = tuple(_build(StageConfig, "stages", stage) for stage in stages)
    built: NanoConfig = _build(
        NanoConfig, "", {**values, "stages": parts, "network": network, "loss": loss}
    )
    return built


def _build(kind: Any, name: str, content: Any) -> Any:
    values = _mapping(name or "the file", content)
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    prefix = f"{name}." if name else ""
    for key in values:
        if key not in known:
            raise DktError(f"{prefix}{key} is unknown; known are {', '.join(sorted(known))}")
    for key, entry in known.items():
        required = entry.default is dataclasses.MISSING
        if key not in values and required and entry.default_factory is dataclasses.MISSING:
            raise DktError(f"{prefix}{key} is missing")
    return kind(**values)


def _mapping(name: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DktError(f"{name} holds a {type(content).__name__}, expected fields with values")
    return content


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(name: str, value: object) -> None:
    valid = isinstance(value, int) and not isinstance(value, bool) and value > 0
    _check(name, value, "an integer above 0", valid)


def _check(name: str, value: object, expected: str, valid: object) -> None:
    if not valid:
        raise DktError(f"{name} is {value!r}, expected {expected}")
