"""A recipe's data as the run takes it: encoded samples and the previews of fixed clips.

Knows what the recipe says of its data. Knows nothing of steps or weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from accelerate import Accelerator

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import checked_folder
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.latent_frames import images_of
from dkt_ros.model.network import DktNetwork
from dkt_ros.progress import Report, no_report
from dkt_ros.train.data.encoded_source import EncodedSource
from dkt_ros.train.data.sources import Mixture
from dkt_ros.train.environment import check_task
from dkt_ros.train.environment import described as placed
from dkt_ros.train.export import described
from dkt_ros.train.log import wandb_module
from dkt_ros.train.memory import count, without_memory
from dkt_ros.train.preview import PreviewClip, check_validation, load_clips, preview, sampled
from dkt_ros.train.recipe import Recipe
from dkt_ros.train.validation import ValidationLoss
from dkt_ros.wording import counted

LATENTS_DIR = "latents"


class Materials:
    """Opens what is asked for, and closes it at the end of `with`."""

    def __init__(self, recipe: Recipe, output: Path, report: Report = no_report) -> None:
        self.recipe, self.output, self.report = recipe, output, report
        self._opened: EncodedSource | None = None
        self._clips: tuple[PreviewClip, ...] | None = None
        self._noted: set[str] = set()

    def source(self, network: DktNetwork) -> EncodedSource:
        """The samples, encoded by the network's VAE. DktError where the data cannot give them."""
        recipe = self.recipe
        self._opened = EncodedSource(
            network,
            recipe.data,
            recipe.seed,
            self.output / LATENTS_DIR,
            latent_frames=recipe.latent_frames,
        )
        return self._opened

    def describe(self, accelerator: Accelerator) -> None:
        """Reports what is to be done, on what; DktError where the data cannot give that."""
        recipe = self.recipe
        base = CheckpointInfo.read(checked_folder(recipe.checkpoint_folder()))
        check_task(base)
        if recipe.wandb is not None:
            wandb_module(recipe.wandb)
        check_validation(recipe.data)  # before clips are listed, which may take minutes
        height, width = recipe.data.size
        self.report(placed(recipe, accelerator))
        mixture = Mixture(recipe.data.data, stride=lambda frames: frames, threads=1)
        lengths = [images_of(count) for count in sorted(set(recipe.latent_frames))]
        for frames in reversed(lengths):
            mixture.require(frames)
        self.report(
            f"{base.name}, {recipe.method}, {recipe.objective.kind}: "
            f"{counted(recipe.steps, 'step')} at {height}x{width}, clips of "
            f"{', '.join(map(str, lengths))} frames, into {self.output}"
        )
        for line in mixture.summary(with_frames=True):
            self.report(line)
        for line in (*mixture.shared(), *mixture.suspicions()):
            self._note(line)
        if (warmup := recipe.optimizer.warmup) > recipe.steps:
            self._note(
                f"the learning rate rises for {warmup} steps and the run has {recipe.steps}, so it "
                f"comes to {recipe.steps / warmup:.1%} of optimizer.learning_rate: lower "
                "optimizer.warmup"
            )
        if recipe.data.conditioned:
            if not mixture.has_raw_depth():
                raise DktError(
                    f"condition is {recipe.data.condition}, and no clip has raw depth; name a data "
                    "set that has, or render one with `dkt synth render --raw-depth`"
                )
            share = recipe.data.conditioned
            self.report(f"raw depth is shown in {share:.0%} of the samples whose clip has it")
        elif base.condition != recipe.data.condition:
            self.report(
                f"{base.name} is shown raw depth, what it is trained to be is not: to keep that, "
                f"--set condition={base.condition}"
            )
        bf16 = accelerator.mixed_precision == "bf16"
        self.report(count(recipe, without_memory(recipe), bf16).described())
        if recipe.preview.every > 0:
            self._shown()
        elif recipe.data.validation:
            self.report("preview.every is 0: validation is not looked at, and no state is the best")

    def previews(self) -> Callable[[DktNetwork], tuple[dict[str, float], np.ndarray]]:
        """What measures loss, REL, RMSE and delta after one scale and shift per clip, and draws."""
        wanted, clips = self.recipe.preview, self._shown()
        steps = wanted.steps or described(self.recipe, 0, self.output).steps

        loss = ValidationLoss(self.recipe, clips)

        def judge(network: DktNetwork) -> tuple[dict[str, float], np.ndarray]:
            found = preview(clips, sampled(network, steps=steps, seed=wanted.seed))
            measures = {"loss": loss(network), **vars(found.errors)}
            if found.glass is not None:
                measures |= {f"glass_{name}": value for name, value in vars(found.glass).items()}
            return measures, found.picture

        return judge

    def _shown(self) -> tuple[PreviewClip, ...]:
        """The clips, read once; reports which these are, and which of them are trained on."""
        if self._clips is not None:
            return self._clips
        wanted = self.recipe.preview
        self._clips = clips = load_clips(self.recipe.data, wanted.clips, wanted.frames, self._note)
        if held_out := [clip.name for clip in clips if not clip.trained]:
            self.report(f"previews show held-out clips: {', '.join(held_out)}")
        if trained := [clip.name for clip in clips if clip.trained]:
            named = self.recipe.data.validation
            why = "validation names them" if named else "no held-out split found"
            self.report(f"previews show training clips: {why}: {', '.join(trained)}")
        return clips

    def _note(self, line: str) -> None:
        """Reports it once: what is validated on may be what is trained on."""
        if line not in self._noted:
            self._noted.add(line)
            self.report(f"note: {line}")

    def __enter__(self) -> Materials:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            self.report(self._opened.report())
            self._opened.close()
