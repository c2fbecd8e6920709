"""The training configuration of dkt-nano: what a YAML file may say, checked field by field.

Knows the fields, their ranges and their defaults. Knows nothing of tensors or data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dkt_ros.checks import check
from dkt_ros.model.info import CONDITIONS, CheckpointInfo
from dkt_ros.model.latent_frames import FRAMES_PER_LATENT, latents_of
from dkt_ros.train.fields import RECIPES, above_zero, at_least, build, load, multiples, shares
from dkt_ros.train.small import SmallConfig

SHORTEST_CLIP = 1 + FRAMES_PER_LATENT


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
        at_least(1, self, *vars(self))
        multiples(2, self, "head_dim", "freq_dim", "vae_base_dim")


@dataclass(frozen=True)
class StageConfig:
    """One stretch of training at one picture size.

    steps: optimiser steps. height, width: pixels, multiples of 16. batch: single frames per step.
    clip_every: every so many steps is made of clips instead (0: never), of 5, 9, ... clip_frames
    frames in turn. clip_batch: how many of 5 frames; of longer ones fewer.
    rate: this stretch's share of the learning rate.
    """

    steps: int
    height: int
    width: int
    batch: int
    clip_every: int = 0
    clip_batch: int = 1
    clip_frames: int = SHORTEST_CLIP
    rate: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, self, "steps", "batch", "clip_batch")
        multiples(16, self, "height", "width")
        above_zero(self, "rate")
        at_least(0, self, "clip_every")
        frames = self.clip_frames
        fits = frames >= SHORTEST_CLIP and frames % FRAMES_PER_LATENT == 1
        check("clip_frames", frames, f"4N+1, at least {SHORTEST_CLIP}", fits)

    def clips_at(self, step: int) -> tuple[int, int] | None:
        """Number of clips and their frames in a step; None: the step is made of single frames."""
        if self.clip_every == 0 or step % self.clip_every != self.clip_every - 1:
            return None
        lengths = range(SHORTEST_CLIP, self.clip_frames + 1, FRAMES_PER_LATENT)
        frames = lengths[step // self.clip_every % len(lengths)]
        return max(1, self.clip_batch * SHORTEST_CLIP // frames), frames


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
        at_least(0, self, *vars(self))
        shares(self, "sigma_one_share", "reconstruct_share")


@dataclass(frozen=True, kw_only=True)
class NanoConfig(SmallConfig):
    """Everything that decides a training run, apart from the data.

    vae_steps: first steps, in which the VAE learns disparity alone; the latent statistics are
    measured at their end. encoder_steps: the steps after those, in which the encoder learns to give
    RGB the latents of its disparity; cheap, since neither decoder nor transformer runs.
    start: folder or name of a checkpoint of the same sizes whose weights the run starts from; its
    latent statistics stay, so vae_steps and encoder_steps may be 0. condition: "raw_depth" shows
    the network the clip's raw depth too (model/condition.py); "from_raw_depth" also begins the flow
    there, not at noise; "none". condition_dropped: share of clips that are shown without it.
    picture_vae: the VAE sees every picture of a clip by itself, a latent telling the newest of its
    four, so that a stream's newest answer is as sharp as a single picture's (else its temporal
    layers, which begin so, learn to tell all four, and a small VAE blurs them).
    steps, sigma_shift, buffer_frames, clip: defaults written into the checkpoint; clip in latents,
    0: as many as the longest clip trained on. sigma_steps: the noise levels trained on are those of
    a sampler of so many steps.
    """

    stages: tuple[StageConfig, ...]
    name: str = "dkt-nano"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    start: str = ""
    condition: str = "none"
    condition_dropped: float = 0.2
    picture_vae: bool = False
    vae_steps: int = 200
    encoder_steps: int = 0
    steps: int = 1
    sigma_steps: int = 5
    sigma_shift: float = 5.0
    buffer_frames: int = 5
    clip: int = 0
    save_every: int = 250
    rescan_every: int = 200
    origin: str = "trained from scratch by the dkt_ros project on scenes it rendered"

    def __post_init__(self) -> None:
        super().__post_init__()
        check("stages", self.stages, "at least one stage", len(self.stages) > 0)
        at_least(0 if self.start else 1, self, "vae_steps")
        known = self.condition in CONDITIONS
        check("condition", self.condition, f"one of {', '.join(CONDITIONS)}", known)
        shares(self, "condition_dropped")
        at_least(1, self, "steps", "sigma_steps")
        at_least(0, self, "encoder_steps", "clip")
        above_zero(self, "sigma_shift")
        total = self.total_steps
        used = max(self.vae_steps + self.encoder_steps, self.decay_steps)
        check("stages", total, f"more than {used} steps in all", total > used)
        _ = self.info  # what it says must be sound before anything is trained

    @property
    def conditioned(self) -> float:
        """Share of clips that are shown with their raw depth."""
        return 1.0 - self.condition_dropped if self.info.sees_depth else 0.0

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def longest_clip(self) -> int:
        """Frames of the longest clip trained on; 1 where there are single frames alone."""
        return max(stage.clip_frames if stage.clip_every else 1 for stage in self.stages)

    @property
    def info(self) -> CheckpointInfo:
        """The `dkt.json` of what is trained."""
        stage = self.stages[-1]
        return CheckpointInfo(
            name=self.name,
            steps=self.steps,
            sigma_shift=self.sigma_shift,
            buffer_frames=self.buffer_frames,
            clip=self.clip or latents_of(self.longest_clip),
            window=21,
            overlap=3,
            height=stage.height,
            width=stage.width,
            origin=self.origin,
            condition=self.condition,
        )

    def stage_at(self, step: int) -> StageConfig:
        """The stage that the 0-based step belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


def load_config(name: str | Path, changes: Sequence[str] = ()) -> NanoConfig:
    """The configuration in a file, or the shipped one of that name, with `field=value` changes.

    Raises DktError naming the file and the field.
    """
    return load(partial(build, NanoConfig), name, RECIPES / "pretrain", changes)
