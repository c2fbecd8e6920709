"""What the network is asked for and how far off it was: flow matching, or regression in one step.

Knows latents, noise and velocities. Knows nothing of networks, data sets or optimisers. Every loss
is a mean over samples of a mean over known latents, so that micro-batches and processes average to
the loss of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.sampler import sigmas, timesteps
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.fields import at_least
from dkt_ros.train.schedule import NOISE_STREAM, generator


@dataclass(frozen=True)
class Objective:
    """The `objective` part of a recipe.

    kind: "flow" (velocity at random noise levels) or "one_step" (the disparity itself, from pure
    noise at timestep 1000: what the sampler computes with steps = 1). levels: the timesteps drawn
    from are those of a sampler of so many steps. weighting of the flow loss: "bell" over the
    levels, centred at timestep 500, or "uniform". gradient: weight of one_step's latent-gradient
    loss.
    """

    kind: Literal["flow", "one_step"] = "flow"
    levels: int = 1000
    weighting: Literal["bell", "uniform"] = "bell"
    gradient: float = 0.5

    def __post_init__(self) -> None:
        at_least(1, self, "levels")
        at_least(0, self, "gradient")


@dataclass(frozen=True)
class Question:
    """What the network sees and what decides the loss.

    noisy, noise: (B, Z, n, h, w) disparity latents at noise level sigma, and their noise.
    timestep: (B,), 1000 sigma. weight: (B,) of each sample's loss.
    """

    noisy: Tensor
    noise: Tensor
    timestep: Tensor
    weight: Tensor


def ask(
    objective: Objective,
    batch: LatentBatch,
    seed: int,
    step: int,
    indices: Sequence[int],
    info: CheckpointInfo,
) -> Question:
    """Draws noise and noise level of each sample; pure in (seed, step, index).

    info: the trained checkpoint's, whose sampler and beginning of the flow are learned for.
    flow: level uniform among `levels` of its sampler, x = (1 - s) x0 + s e.
    one_step: s = 1, so that x is noise alone, drawn anew for every sample as inference draws it
    from whatever seed it is given; the network learns to give the same answer for any.
    Where the flow begins at the raw depth that is shown, its latents take the noise's place.
    """
    data = batch.disparity
    shape = tuple(data.shape[1:])
    levels = sigmas(objective.levels, info.sigma_shift)
    weights = level_weights(objective, timesteps(levels))
    chosen, noises = [], []
    for index in indices:
        source = generator(seed, step, index, NOISE_STREAM)
        chosen.append(int(torch.randint(len(levels), (1,), generator=source)))
        noises.append(torch.randn(shape, generator=source))
    noise = torch.stack(noises).to(data)
    if info.begins_at_raw_depth:
        raw = batch.rgb[:, shape[0] :]
        noise = torch.where(raw.any(dim=(1, 2, 3, 4), keepdim=True), raw, noise)
    if objective.kind == "one_step":
        ones = data.new_ones(len(indices))
        return Question(noise, noise, timesteps(ones), ones)
    sigma = levels[chosen].to(data)
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = (1.0 - level) * data + level * noise
    return Question(noisy, noise, timesteps(sigma), weights[chosen].to(data))


def losses(
    objective: Objective, question: Question, velocity: Tensor, batch: LatentBatch
) -> dict[str, Tensor]:
    """Named scalar losses whose sum is learned from.

    velocity: (B, Z, n, h, w), the network's noise - data.
    """
    known = batch.weight
    if objective.kind == "flow":
        error = velocity - (question.noise - batch.disparity)
        return {"flow": (question.weight * _mean(error.square(), known)).mean()}
    error = (question.noise - velocity) - batch.disparity
    found = {"latent": _mean(error.square(), known).mean()}
    if objective.gradient > 0:
        found["gradient"] = objective.gradient * gradient_loss(error, known)
    return found


def gradient_loss(error: Tensor, known: Tensor) -> Tensor:
    """Mean absolute step of the error between neighbouring latents, over rows and columns.

    error: (B, Z, n, h, w); known: (B, 1, n, h, w); a step counts by the lesser of its two ends.
    """
    parts = []
    for dim in (-1, -2):
        if (size := error.shape[dim] - 1) < 1:
            continue
        ends = [known.narrow(dim, start, size) for start in (0, 1)]
        parts.append(_mean(error.diff(dim=dim).abs(), torch.minimum(*ends)))
    return torch.stack(parts).mean() if parts else error.new_zeros(())


def level_weights(objective: Objective, steps: Tensor) -> Tensor:
    """Weight of each timestep's loss, mean 1 over all of them.

    bell: exp(-2 ((t - 500) / 1000)^2) less its smallest value, as the reference trains.
    """
    if objective.weighting == "uniform" or len(steps) == 1:
        return torch.ones_like(steps)
    bell = torch.exp(-2.0 * ((steps - 500.0) / 1000.0).square())
    bell = bell - bell.min()
    return bell / bell.mean()


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of values (B, Z, ...) over known latents (B, 1, ...), per sample (B,)."""
    channels = values.shape[1]
    total = (values * known).flatten(1).sum(dim=1)
    count = channels * known.flatten(1).sum(dim=1)
    # A sample of which nothing is known teaches nothing, and divides by nothing.
    return total / count.clamp(min=math.ulp(1.0))
