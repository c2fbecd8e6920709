"""The training loop of the matcher: a pool of samples that is renewed bit by bit, and steps on it.

Knows the order of things. A step depends on the configuration, the frames and the state alone, so a
run that is resumed goes on as the uninterrupted one would have, once its pool is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dkt_ros.errors import DktError
from dkt_ros.fusion.features import network_input
from dkt_ros.fusion.matcher import SMALLEST, Matcher, read_matcher, save_matcher
from dkt_ros.fusion.network import SIZE_MULTIPLE
from dkt_ros.progress import Report
from dkt_ros.train.fusion.config import MatcherTrainingConfig
from dkt_ros.train.fusion.frames import FrameFolder
from dkt_ros.train.fusion.loop import rate_factor
from dkt_ros.train.fusion.samples import TrainingSample, draw, first_drawn
from dkt_ros.train.small_trainer import SmallTrainer, run_folder

_SURE = 0.98
"""No pair is more certain than that: some that do not belong together look as if they did."""
_SMALLEST_CROP = 2 * SMALLEST


class MatcherTrainer(SmallTrainer):
    """The matcher's."""

    WEIGHTS = "matcher"
    FIXED = ("seed", "height", "width", "pool", "fresh")
    config: MatcherTrainingConfig
    model: Matcher

    def __init__(
        self, config: MatcherTrainingConfig, data: FrameFolder, start: Path | None = None
    ) -> None:
        """start: folder of weights to begin with, as save() writes them; DktError without them."""
        torch.manual_seed(config.seed)
        self.data = data
        self._pool: dict[int, tuple[Tensor, bool]] = {}
        matcher = Matcher() if start is None else read_matcher(start)
        super().__init__(
            config,
            matcher.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        )

    def train_step(self) -> dict[str, float]:
        """See SmallTrainer."""
        config, rng = self.config, np.random.default_rng([self.config.seed, self.step])
        torch.manual_seed(int(rng.integers(2**31)))  # of dropout
        first = self._renewed()
        numbers = first + rng.choice(config.pool, config.batch)
        inputs, belongs = zip(*(self._pool[int(number)] for number in numbers), strict=True)
        x = _varied(torch.stack(inputs).float(), rng)
        target = torch.tensor(belongs, dtype=torch.float32)
        with self.computing():
            answer = self.model(x.contiguous(memory_format=torch.channels_last)).float()
        wanted = (1 - _SURE) + (2 * _SURE - 1) * target
        losses = {"belongs": binary_cross_entropy_with_logits(answer, wanted)}
        return self.learn(losses, rate_factor(self.step, config), self.step)

    def export(self, folder: Path) -> None:
        """See SmallTrainer."""
        save_matcher(folder, self.average)

    def _renewed(self) -> int:
        """Makes the pool hold what this step learns from; returns its first sample's number."""
        first = self.step * self.config.fresh
        for number in [old for old in self._pool if old < first]:
            del self._pool[number]
        for number in range(first, first + self.config.pool):
            if number not in self._pool:
                sample = self._sample(number)
                x = torch.from_numpy(network_input(sample.scene)).half()
                self._pool[number] = x, sample.belongs
        return first

    def _sample(self, number: int) -> TrainingSample:
        config, frames = self.config, self.data.frames
        rng = np.random.default_rng([config.seed, 1, number])

        def one() -> TrainingSample | None:
            frame = other = frames[rng.integers(len(frames))]
            is_foreign = rng.random() < config.foreign
            while is_foreign and other.name == frame.name:
                other = frames[rng.integers(len(frames))]
            return draw(frame, rng, config, other if is_foreign else None, config.spoiled)

        return first_drawn(one, len(frames))


def _varied(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Inputs (B, 10, H, W), all cut alike, half of the batches mirrored, their colours changed."""
    if rng.random() < 0.5:
        x = x.flip(3)
    if rng.random() < 0.5:
        cut = []
        for side in x.shape[2:]:
            length = SIZE_MULTIPLE * int(
                rng.integers(_SMALLEST_CROP // SIZE_MULTIPLE, side // SIZE_MULTIPLE + 1)
            )
            begin = int(rng.integers(side - length + 1))
            cut.append(slice(begin, begin + length))
        x = x[:, :, cut[0], cut[1]]
    gain = np.exp(rng.normal(0, 0.3, (len(x), 1, 1, 1))).astype(np.float32)
    added = rng.normal(0, 0.1, (len(x), 3, 1, 1)).astype(np.float32)
    colour = x[:, :3] * torch.from_numpy(gain) + torch.from_numpy(added)
    return torch.cat([colour, x[:, 3:]], dim=1)


def train_matcher(
    config: MatcherTrainingConfig,
    make_data: Callable[[], FrameFolder],
    output: Path,
    resume: bool = False,
    start: Path | None = None,
    report: Report = print,
    report_every: int = 20,
) -> int | None:
    """Runs to config.steps, saving every config.save_every steps and at the end; see loop.train."""
    with run_folder(output, resume):
        data = make_data()
        names = {frame.name for frame in data.frames}
        if config.foreign > 0 and len(names) < 2:
            raise DktError(
                f"{data.folder} holds frames of a single scene, {names.pop()}, and foreign is "
                f"{config.foreign}: expected two or more, for depth that does not belong to a "
                "picture is another scene's; add some, or --set foreign=0"
            )
        trainer = MatcherTrainer(config, data, None if resume else start)
        return trainer.run(data, "frame", output, resume, report, report_every)
