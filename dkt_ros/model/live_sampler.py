"""Denoising an endless stream of latents in short windows, with the past as context.

Knows latents, the schedule and what is kept from window to window. Knows nothing of images or how
a velocity is computed. Context by replacement: at every step the latents that are already known
are put where the flow would have them at that noise level, (1 - sigma) z + sigma e, with the noise
they began from; only the new ones are integrated. Of one step there is no feedback: at sigma 1 the
context is its noise, and what a window knows of the past is the pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dkt_ros.model.sampler import TRAIN_TIMESTEPS, sigmas


class ConditionedVelocity(Protocol):
    """What the live sampler needs of a network."""

    def velocity(
        self, noisy: Tensor, rgb_latents: Tensor, timestep: Tensor | float, keep: int | None = None
    ) -> Tensor:
        """(1, Z, T, h, w), conditions with T at dimension 2 -> velocity of the last keep frames."""


class LiveSampler:
    """State: the last latents, the conditions they were made under, and the index that follows."""

    def __init__(
        self,
        model: ConditionedVelocity,
        *,
        steps: int,
        shift: float,
        window: int,
        new: int,
        warm_start: float | None,
        seed: int,
    ) -> None:
        """Options as in LiveOptions; shift: the checkpoint's sigma shift."""
        self._model, self._seed = model, seed
        self._context_length = window - new
        self._levels: list[float] = sigmas(steps, shift).tolist()
        self._warm_levels = self._levels
        if warm_start is not None:
            below = [level for level in self._levels if level <= warm_start]
            self._warm_levels = below or self._levels[-1:]
        self.index = 0
        self._latents: Tensor | None = None
        self._conditions: Tensor | None = None
        self._last: Tensor | None = None
        # What each latent's flow began at, mostly noise, on the device, by absolute index.
        self._begun: dict[int, Tensor] = {}

    def reset(self) -> None:
        """Forgets the stream so far."""
        self.index = 0
        self._latents = self._conditions = self._last = None
        self._begun.clear()

    @property
    def context(self) -> int:
        """Latent frames the next window takes over from the windows before."""
        return 0 if self._latents is None else self._latents.shape[2]

    def nbytes(self) -> int:
        """Bytes of the state."""
        kept = (self._latents, self._conditions, self._last, *self._begun.values())
        return sum(part.untyped_storage().nbytes() for part in kept if part is not None)

    def denoise(
        self,
        conditions: Tensor,
        shape: tuple[int, int, int],
        begin: Tensor | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:
        """Disparity latents (1, Z, m, h, w) float32 of the m latent frames that come next.

        conditions: of those m frames, at dimension 2. shape: (Z, h, w). begin: (1, Z, m, h, w),
        what the flow begins at; None: noise. Changes no state, so the same frames may be denoised
        again when more is known of the last.
        """
        count, device = conditions.shape[2], conditions.device
        fresh = begin
        if fresh is None:
            fresh = self._noise(range(self.index, self.index + count), shape, device)
        levels = self._levels
        x = fresh
        if self._last is not None:
            levels = self._warm_levels
            x = (1.0 - levels[0]) * self._last + levels[0] * fresh
        past, kept_noise = self._latents, None
        if past is not None and self._conditions is not None:
            first = self.index - past.shape[2]
            kept_noise = self._noise(range(first, self.index), shape, device)
            conditions = torch.cat([self._conditions, conditions], dim=2)
        for done, (level, after) in enumerate(
            zip(levels, [*levels[1:], 0.0], strict=True), start=1
        ):
            noisy = x
            if past is not None and kept_noise is not None:
                noisy = torch.cat([(1.0 - level) * past + level * kept_noise, x], dim=2)
            v = self._model.velocity(noisy, conditions, level * TRAIN_TIMESTEPS, count)
            x = x + v * (after - level)
            on_step(done, len(levels))
        return x

    def commit(self, latents: Tensor, conditions: Tensor, begin: Tensor | None = None) -> None:
        """Takes the next frames' denoised latents (1, Z, m, h, w) as known, and what made them."""
        if begin is not None:
            frames = begin.split(1, dim=2)
            self._begun.update(enumerate(frames, self.index))
        self.index += latents.shape[2]
        self._last = latents[:, :, -1:].clone()
        for index in [old for old in self._begun if old < self.index - self._context_length]:
            del self._begun[index]
        if self._context_length == 0:
            return
        if self._latents is not None and self._conditions is not None:
            latents = torch.cat([self._latents, latents], dim=2)
            conditions = torch.cat([self._conditions, conditions], dim=2)
        self._latents = latents[:, :, -self._context_length :].clone()
        self._conditions = conditions[:, :, -self._context_length :].clone()

    def _noise(self, indices: range, shape: tuple[int, int, int], device: torch.device) -> Tensor:
        """What latents began at; noise is drawn and uploaded once, however many windows see it."""
        for index in indices:
            if index not in self._begun:
                self._begun[index] = frame_noise(self._seed, index, shape).to(device)
        return torch.cat([self._begun[index] for index in indices], dim=2)


def frame_noise(seed: int, index: int, shape: tuple[int, int, int]) -> Tensor:
    """Noise (1, Z, 1, h, w) of the latent frame at an absolute index; shape: (Z, h, w).

    Drawn on the CPU, the same for every device. torch's generator takes no more than 32 bits of a
    seed, so both numbers are mixed into as many.
    """
    mixed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    generator = torch.Generator("cpu").manual_seed(mixed)
    channels, height, width = shape
    size = (1, channels, 1, height, width)
    return torch.randn(size, generator=generator, dtype=torch.float32)
