"""The training configurations of refiner and matcher: what a YAML file may say.

Knows the fields, their ranges and their defaults. Knows nothing of tensors or data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dkt_ros.checks import check
from dkt_ros.train.fields import RECIPES, at_least, build, load, multiples, shares
from dkt_ros.train.sensor import BETTER
from dkt_ros.train.small import SmallConfig


@dataclass(frozen=True)
class PredictionConfig:
    """Which disparity a training sample comes with, as shares; the rest has none.

    embedded: the checkpoint's that is fused with, by default the embedded one. made_up: the truth,
    degraded as networks err: smooth errors of a standard deviation of up to smooth_error
    (relative), edges blurred by up to blur_px, with the probability object_share objects whose
    disparity is off. good_share: of those, err by a third of that at most and overlook nothing.
    failed_share: of either, made grossly wrong everywhere.
    """

    embedded: float = 0.4
    made_up: float = 0.35
    smooth_error: float = 0.1
    blur_px: float = 8.0
    object_share: float = 0.5
    good_share: float = 0.0
    failed_share: float = 0.15

    def __post_init__(self) -> None:
        at_least(0, self, *vars(self))
        shares(self, "object_share", "good_share", "failed_share")
        total = self.embedded + self.made_up
        check("made_up", total, "embedded and made_up of at most 1 together", total <= 1)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; losses.py says what each is. objects: weight of their pixels."""

    fused: float = 1.0
    corrected: float = 0.5
    trust: float = 0.1
    edges: float = 0.3
    error: float = 0.02
    objects: float = 6.0

    def __post_init__(self) -> None:
        at_least(0, self, *vars(self))


@dataclass(frozen=True, kw_only=True)
class SamplesConfig(SmallConfig):
    """What samples are drawn, and for how many steps.

    steps: optimiser steps. height, width: of the pictures trained on, multiples of 16. batch: of
    them per step. skewed, upside_down: shares of the samples whose scene is projected onto another
    one, and that stand on their head. on_scale: for networks that are shown raw depth; else none is
    shown to the checkpoint either. better_sensor: share of the samples whose readings off glass and
    metal are better than the simulated sensor's.
    """

    steps: int
    height: int = 128
    width: int = 224
    batch: int = 8
    skewed: float = 0.0
    upside_down: float = 0.0
    on_scale: bool = True
    better_sensor: float = BETTER
    prediction: PredictionConfig = field(default_factory=PredictionConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "steps", "batch")
        multiples(16, self, "height", "width")
        shares(self, "skewed", "upside_down", "better_sensor")

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps


@dataclass(frozen=True, kw_only=True)
class FusionTrainingConfig(SamplesConfig):
    """Everything that decides a refiner's run, apart from the data.

    kept_of_start: share that the weights which a run begins with have in what is saved; so a
    refiner has learned what is new and holds on what is not in the data (WiSE-FT, Wortsman et al.
    2022).
    """

    channels: tuple[int, int, int, int] = (16, 32, 64, 112)
    warmup_steps: int = 50
    decay_steps: int = 1000
    learning_rate: float = 2e-3
    kept_of_start: float = 0.0
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares(self, "kept_of_start")
        groups = all(count > 0 and count % 4 == 0 for count in self.channels)
        check("channels", self.channels, "multiples of 4", groups)


@dataclass(frozen=True, kw_only=True)
class MatcherTrainingConfig(SamplesConfig):
    """Everything that decides a matcher's run, apart from the data.

    foreign: share of the samples whose readings do not belong to the colour. spoiled: share of the
    colours, and of the readings, that are made unlike the other (spoiled.py).
    pool: samples that are learned from again and again, for one costs as much as many steps on it.
    fresh: how many of the pool are others with each step, the oldest first.
    """

    height: int = 160
    width: int = 288
    batch: int = 32
    foreign: float = 0.5
    spoiled: float = 0.5
    pool: int = 2000
    fresh: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        shares(self, "foreign", "spoiled")
        at_least(1, self, "pool")
        at_least(0, self, "fresh")
        at_least(96, self, "height", "width")


def load_config(name: str | Path, changes: Sequence[str] = ()) -> FusionTrainingConfig:
    """The configuration in a file, or the shipped one of that name, with `field=value` changes.

    Raises DktError naming the file and the field.
    """
    return load(partial(build, FusionTrainingConfig), name, RECIPES / "pretrain-fusion", changes)


def load_matcher_config(name: str | Path, changes: Sequence[str] = ()) -> MatcherTrainingConfig:
    """The same of a matcher's."""
    return load(partial(build, MatcherTrainingConfig), name, RECIPES / "pretrain-matcher", changes)
