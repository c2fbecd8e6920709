"""What the samplers and predictors need of a network, whoever computes it: torch or an engine.

Knows the interface. Knows nothing of checkpoints, graphs or devices' libraries.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.streaming_vae import Stream


class StreamingNetwork(Protocol):
    """A checkpoint at work: both halves of the VAE as streams, and the flow's velocity."""

    @property
    def info(self) -> CheckpointInfo:
        """The checkpoint's dkt.json."""

    @property
    def device(self) -> torch.device:
        """Where its inputs are wanted and its outputs lie."""

    @property
    def latent_channels(self) -> int:
        """Z, the VAE's latent channels."""

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent along each image side."""

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this many pixels."""

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(H, W) of the only images it takes; None: any multiples of size_multiple."""

    def encoder_stream(self) -> Stream:
        """At the start of a clip: images (1, 3, 1 then 4, H, W) -> latents (1, Z, 1, h, w)."""

    def decoder_stream(self) -> Stream:
        """At the start of a clip: latents (1, Z, 1, h, w) -> images (1, 3, 1 then 4, H, W)."""

    def embed_rgb(self, latents: Tensor) -> Tensor:
        """RGB latents (1, Z, T, h, w) -> what conditions the velocity, T at dimension 2.

        Where info.condition is raw_depth, (1, 2 Z, T, h, w): the raw depth's behind them.
        """

    def velocity(
        self, noisy: Tensor, rgb_latents: Tensor, timestep: Tensor | float, keep: int | None = None
    ) -> Tensor:
        """Flow velocity (1, Z, keep, h, w) of the last `keep` frames (all), float32.

        noisy: (1, Z, T, h, w); rgb_latents: as `embed_rgb` made of them; timestep: 1000 sigma.
        """
