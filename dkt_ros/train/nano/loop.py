"""The training loop of dkt-nano: steps, learning rate, averaging, saving and resuming.

Knows the order of things. Knows nothing of how losses or pictures are made. A step depends on the
configuration, the data and the state alone, so a run that is resumed ends where the uninterrupted
one would have ended, to the last bit on one machine.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import checkpoint_folder
from dkt_ros.progress import Report
from dkt_ros.train.nano.config import NanoConfig
from dkt_ros.train.nano.dataset import Batch, SequenceFolder
from dkt_ros.train.nano.losses import TensorBatch, denoising_loss, encoder_loss, vae_loss
from dkt_ros.train.nano.network import NanoModel, export
from dkt_ros.train.small_trainer import SmallTrainer, falling, run_folder
from dkt_ros.wording import counted

_NOISE_STREAM = 7919
"""Keeps the noise of a step apart from its augmentation, which starts from the same seed."""


class NanoTrainer(SmallTrainer):
    """dkt-nano's. Of a resumed run only lengths and rates may differ."""

    WEIGHTS = "checkpoint"
    FIXED = ("network", "seed", "vae_steps", "condition", "picture_vae")
    config: NanoConfig
    model: NanoModel

    def __init__(self, config: NanoConfig, data: SequenceFolder) -> None:
        torch.manual_seed(config.seed)
        model = NanoModel(config)
        if config.start:
            model.start_from(checkpoint_folder(config.start))
        if config.picture_vae:
            model.part_pictures()
        super().__init__(config, model, betas=(0.9, 0.98))
        self.data = data
        self.teacher: NanoModel | None = None

    def train_step(self) -> dict[str, float]:
        """See SmallTrainer."""
        config = self.config
        stage = config.stage_at(self.step)
        denoising = self.step >= config.vae_steps + config.encoder_steps
        clips = stage.clips_at(self.step) if denoising else None
        count, frames = clips or (stage.batch, 1)
        size = stage.height, stage.width
        batch = self.data.batch(config.seed, self.step, size, count, frames, config.conditioned)
        tensors = to_tensors(batch)
        generator = torch.Generator().manual_seed(config.seed * _NOISE_STREAM + self.step)
        if self.step == config.vae_steps > 0:
            self._measure_latents()
            self._keep_teacher(self.model.state_dict())
        with self.computing():
            if self.step < config.vae_steps:
                losses = vae_loss(self.model, tensors, config)
            elif self.step < config.vae_steps + config.encoder_steps:
                assert self.teacher is not None
                losses = encoder_loss(self.model, self.teacher, tensors, config)
            else:
                losses = denoising_loss(self.model, tensors, config, generator)
        averaged = max(0, self.step - config.vae_steps)
        return self.learn(losses, rate_factor(self.step, config), averaged)

    def export(self, folder: Path) -> None:
        """See SmallTrainer."""
        export(self.model, self.average, folder)

    def state(self) -> dict[str, Any]:
        """See SmallTrainer."""
        teacher = None if self.teacher is None else self.teacher.state_dict()
        return {**super().state(), "teacher": teacher}

    def restore(self, state: dict[str, Any]) -> None:
        """See SmallTrainer."""
        super().restore(state)
        if state["teacher"] is not None:
            self._keep_teacher(state["teacher"])

    def _keep_teacher(self, state: dict[str, torch.Tensor]) -> None:
        self.teacher = copy.deepcopy(self.model)
        self.teacher.load_state_dict(state)

    @torch.no_grad()
    def _measure_latents(self) -> None:
        """Sets the latent statistics from the disparity of 64 random crops."""
        stage = self.config.stage_at(self.step)
        batch = self.data.batch(self.config.seed, 2**31, (stage.height, stage.width), 64, 1)
        target = to_tensors(batch).target
        latents = torch.cat(
            [self.model.encode(some.expand(-1, 3, -1, -1, -1)) for some in target.split(8)]
        )
        self.model.latents_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
        self.model.latents_std.copy_(latents.std(dim=(0, 2, 3, 4)).clamp(min=1e-3))


def train(
    config: NanoConfig,
    data_folder: Path,
    output: Path,
    resume: bool = False,
    report: Report = print,
    report_every: int = 20,
) -> int | None:
    """Runs to config.total_steps, saving every config.save_every steps and at the end.

    On SIGINT or SIGTERM the step is finished and saved, and the signal returned.
    """
    with run_folder(output, resume):
        data = SequenceFolder(data_folder, report)
        shown = [clip for clip in data.clips if clip.readings is not None]
        if config.conditioned > 0 and not shown:
            raise DktError(
                f"condition is {config.condition}, and no sequence in {data_folder} has raw depth; "
                "render some with `dkt synth render --raw-depth`"
            )
        if config.conditioned > 0 and len(shown) < len(data.clips):
            report(f"raw depth: {len(shown)} of {counted(len(data.clips), 'sequence')} have it")
        longest = max(len(clip.rgb) for clip in data.clips)
        if longest < config.longest_clip:
            report(
                f"clips of up to {config.longest_clip} frames are trained on, the longest sequence "
                f"has {longest}: longer clips show one frame standing still"
            )
        trainer = NanoTrainer(config, data)
        return trainer.run(data, "sequence", output, resume, report, report_every)


def to_tensors(batch: Batch) -> TensorBatch:
    """Numpy to torch, without copies."""
    return TensorBatch(**{name: torch.from_numpy(array) for name, array in vars(batch).items()})


def rate_factor(step: int, config: NanoConfig) -> float:
    """The learning rate at a step, as a share of the configured one.

    Linear warm-up wherever another loss sets in, then the stage's share, then a cosine to 2% of it
    over the last decay_steps.
    """
    starts = (0, config.vae_steps, config.vae_steps + config.encoder_steps)
    since = step - max(start for start in starts if start <= step)
    warm = min(1.0, (since + 1) / max(1, config.warmup_steps)) * config.stage_at(step).rate
    return warm * falling(config.total_steps - step, config.decay_steps)
