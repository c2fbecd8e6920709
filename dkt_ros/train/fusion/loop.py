"""The training loop of the refiner: steps, learning rate, averaging, saving and resuming.

Knows the order of things. A step depends on the configuration, the frames and the state alone, so a
run that is resumed goes on as the uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkt_ros.errors import DktError
from dkt_ros.fusion.features import closeness, evidence, network_input
from dkt_ros.fusion.network import (
    Refiner,
    RefinerSizes,
    read_refiner,
    save_refiner,
    sizes_info,
)
from dkt_ros.progress import Report
from dkt_ros.train.fusion.config import FusionTrainingConfig, SamplesConfig
from dkt_ros.train.fusion.frames import FrameFolder
from dkt_ros.train.fusion.losses import Target, losses
from dkt_ros.train.fusion.samples import TrainingSample, draw, first_drawn
from dkt_ros.train.small_trainer import SmallTrainer, falling, run_folder


class RefinerTrainer(SmallTrainer):
    """The refiner's."""

    WEIGHTS = "refiner"
    FIXED = ("channels", "seed", "on_scale")
    config: FusionTrainingConfig
    model: Refiner

    def __init__(
        self, config: FusionTrainingConfig, data: FrameFolder, start: Path | None = None
    ) -> None:
        """start: folder of weights to begin with, as save() writes them; DktError without them."""
        torch.manual_seed(config.seed)
        self.data = data
        refiner = (
            Refiner(RefinerSizes(config.channels)) if start is None else read_refiner(start)[0]
        )
        if refiner.sizes.channels != config.channels:
            raise DktError(
                f"{start} has channels {list(refiner.sizes.channels)}, the recipe "
                f"{list(config.channels)}: expected the same"
            )
        self._start = {k: v.clone() for k, v in refiner.state_dict().items()}
        super().__init__(
            config,
            refiner.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        )

    def train_step(self) -> dict[str, float]:
        """See SmallTrainer."""
        config = self.config
        *inputs, target = batch_of(self._samples())
        with self.computing():
            refined = self.model(*inputs)
        parts = losses(refined, target, config.loss)
        return self.learn(parts, rate_factor(self.step, config), self.step)

    def export(self, folder: Path) -> None:
        """See SmallTrainer."""
        kept = self.config.kept_of_start
        weights = {
            name: torch.lerp(value, self._start[name].to(value), kept)
            if value.is_floating_point()
            else value
            for name, value in self.average.items()
        }
        save_refiner(folder, weights, sizes_info(self.model.sizes) | {"steps": self.step})

    def state(self) -> dict[str, Any]:
        """See SmallTrainer."""
        return super().state() | {"start": self._start}

    def restore(self, state: dict[str, Any]) -> None:
        """See SmallTrainer."""
        super().restore(state)
        self._start = state.get("start", self._start)  # older states have none

    def _samples(self) -> list[TrainingSample]:
        frames, rng = self.data.frames, np.random.default_rng([self.config.seed, self.step])

        def one() -> TrainingSample | None:
            return draw(frames[rng.integers(len(frames))], rng, self.config)

        return [first_drawn(one, len(frames)) for _ in range(self.config.batch)]


def batch_of(
    samples: list[TrainingSample],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Target]:
    """Samples of one size as the refiner's five inputs and the losses' target."""

    def stacked(maps: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(maps).astype(np.float32))[:, None]

    scenes = [sample.scene for sample in samples]
    x = torch.from_numpy(np.stack([network_input(scene) for scene in scenes]))
    filled = stacked([scene.filled for scene in scenes])
    predicted = stacked([s.filled if s.predicted is None else s.predicted for s in scenes])
    close = torch.tensor([closeness(scene) for scene in scenes])
    silence = np.zeros((2, *scenes[0].filled.shape), np.float32)
    heard = [evidence(scene) for scene in scenes]
    said = torch.from_numpy(np.stack([silence if one is None else one for one in heard]))
    target = Target(
        disparity=stacked([scene.disparity for scene in scenes]),
        truth=stacked([sample.truth for sample in samples]),
        objects=stacked([sample.classes > 0 for sample in samples]),
    )
    return x.contiguous(memory_format=torch.channels_last), filled, predicted, close, said, target


def rate_factor(step: int, config: SamplesConfig) -> float:
    """The learning rate at a step as a share: warm-up, constant, a cosine down to 2% at the end."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warm * falling(config.steps - step, config.decay_steps)


def train(
    config: FusionTrainingConfig,
    make_data: Callable[[], FrameFolder],
    output: Path,
    resume: bool = False,
    start: Path | None = None,
    report: Report = print,
    report_every: int = 20,
) -> int | None:
    """Runs to config.steps, saving every config.save_every steps and at the end.

    start: see RefinerTrainer. On SIGINT or SIGTERM the step is finished and saved, and the signal
    returned.
    """
    with run_folder(output, resume):
        if config.kept_of_start > 0 and start is None and not resume:
            raise DktError(
                f"kept_of_start is {config.kept_of_start}, but no weights to begin with are named: "
                "expected --start DIR"
            )
        data = make_data()
        trainer = RefinerTrainer(config, data, None if resume else start)
        return trainer.run(data, "frame", output, resume, report, report_every)
