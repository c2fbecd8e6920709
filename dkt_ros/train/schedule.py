"""What each optimiser step consists of, as pure functions of the seed and the step.

Since nothing here has a state, a resumed run draws what the uninterrupted one would have drawn, and
every process knows what the others draw. Knows nothing of networks or data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from dkt_ros.errors import DktError

NOISE_STREAM = 1
LENGTH_STREAM = 2
"""Streams keep draws apart that start from the same seed and step; data draws have a third."""


def generator(*entropy: int) -> torch.Generator:
    """torch's CPU generator, seeded from several numbers of at least 0.

    It takes 32 bits of a seed, so all numbers are mixed into as many.
    """
    mixed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    return torch.Generator("cpu").manual_seed(mixed)


def clip_length(seed: int, step: int, lengths: Sequence[int]) -> int:
    """Latent frames of every clip of a step, drawn once for all processes from `lengths`."""
    source = generator(seed, step, 0, LENGTH_STREAM)
    return lengths[int(torch.randint(len(lengths), (1,), generator=source))]


def rate_factor(
    step: int, steps: int, warmup: int, kind: str = "constant", final: float = 0.0
) -> float:
    """The learning rate at the 0-based step as a share of the configured one.

    Linear warm-up over the first `warmup` steps; then constant, or a half cosine down to `final`
    at the end of `steps`.
    """
    if step < warmup:
        return (step + 1) / warmup
    if kind == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


def share(batch: int, micro_batch: int, rank: int, processes: int) -> list[range]:
    """The positions of the global batch that one process learns from, micro-batch by micro-batch.

    Raises DktError where the batch does not divide into equal shares.
    """
    together = micro_batch * processes
    if batch % together:
        raise DktError(
            f"batch is {batch}, expected a multiple of {together}: micro_batch "
            f"{micro_batch} times the processes, {processes}"
        )
    own = batch // processes
    starts = range(rank * own, (rank + 1) * own, micro_batch)
    return [range(start, start + micro_batch) for start in starts]
