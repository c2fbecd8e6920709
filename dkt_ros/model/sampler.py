"""The exact offline sampler: the reference's noise, sigmas, windows and blending.

Knows latents and the schedule. Knows nothing of images, files or how a velocity is computed.
Windows and overlaps count latent frames; one latent frame after the first stands for 4 images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from dkt_ros.model.windows import window_spans

TRAIN_TIMESTEPS = 1000.0
Embed = Callable[[torch.Tensor], torch.Tensor]
"""RGB latents (1, Z, T, h, w) of a window -> what the model takes in their place."""


class VelocityModel(Protocol):
    """What the sampler needs of a network."""

    def velocity(
        self, noisy: torch.Tensor, rgb_latents: torch.Tensor, timestep: torch.Tensor | float
    ) -> torch.Tensor:
        """(1, Z, T, h, w) noisy and RGB latents -> velocity of the same shape."""


def as_they_are(rgb_latents: torch.Tensor) -> torch.Tensor:
    """The Embed of a model that takes RGB latents themselves."""
    return rgb_latents


def sigmas(steps: int, shift: float) -> torch.Tensor:
    """Noise levels before each step, (steps,) float32 from 1 downwards; the last step ends at 0.

    Rectified-flow shift: s -> shift s / (1 + (shift - 1) s) over s = linspace(1, 0, steps + 1).
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    levels = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float32)[:-1]
    return shift * levels / (1.0 + (shift - 1.0) * levels)


def timesteps(noise_levels: torch.Tensor) -> torch.Tensor:
    """The transformer's timestep for each sigma: 1000 sigma."""
    return noise_levels * TRAIN_TIMESTEPS


def initial_noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """One float32 standard normal draw on the CPU, the same for every device and dtype."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def blend_weights(start: int, stop: int, length: int, overlap: int) -> torch.Tensor:
    """Weight of each frame of a window: 1, with linear ramps (k + 0.5) / overlap at inner edges."""
    weights = torch.ones(stop - start, dtype=torch.float32)
    if overlap:
        ramp = (torch.arange(overlap, dtype=torch.float32) + 0.5) / overlap
        if start > 0:
            weights[:overlap] = ramp
        if stop < length:
            weights[-overlap:] = ramp.flip(0)
    return weights


def blended_velocity(
    model: VelocityModel,
    noisy: torch.Tensor,
    rgb_latents: torch.Tensor,
    timestep: torch.Tensor | float,
    window: int,
    overlap: int,
    on_window: Callable[[], None] = lambda: None,
    embed: Embed = as_they_are,
) -> torch.Tensor:
    """Velocity of a whole clip (1, Z, T, h, w): windows weighted, summed, divided by the weights.

    Every window's positions start at 0. `on_window` is called after each network evaluation.
    embed: called for each window, so that no more than one window is ever embedded.
    """
    length = noisy.shape[2]
    total = torch.zeros_like(noisy)
    weight = noisy.new_zeros(1, 1, length, 1, 1)
    for start, stop in window_spans(length, window, overlap):
        span = slice(start, stop)
        mask = blend_weights(start, stop, length, overlap).to(noisy).view(1, 1, -1, 1, 1)
        total[:, :, span] += mask * model.velocity(
            noisy[:, :, span], embed(rgb_latents[:, :, span]), timestep
        )
        weight[:, :, span] += mask
        on_window()
    return total / weight


def sample(
    model: VelocityModel,
    rgb_latents: torch.Tensor,
    noise: torch.Tensor,
    *,
    steps: int,
    shift: float,
    window: int,
    overlap: int,
    embed: Embed = as_they_are,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Integrates the flow from noise to disparity latents with Euler steps; float32 throughout.

    noise, or what the flow begins at in its place; rgb_latents: (1, Z, T, h, w). embed: makes of a
    window's RGB latents what the model takes, at every step anew unless one window is the whole
    clip: what is embedded may be many times as large, and making it is a small part of a step.
    on_progress(done, total) counts network evaluations.
    """
    levels = sigmas(steps, shift)
    following = torch.cat([levels[1:], levels.new_zeros(1)])
    windows = len(window_spans(noise.shape[2], window, overlap))
    total = steps * windows
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    x = noise.to(rgb_latents.device)
    if windows == 1:
        rgb_latents, embed = embed(rgb_latents), as_they_are
    for level, timestep, next_level in zip(levels, timesteps(levels), following, strict=True):
        v = blended_velocity(model, x, rgb_latents, timestep, window, overlap, count, embed)
        x = x + v * (next_level - level).item()
    return x
