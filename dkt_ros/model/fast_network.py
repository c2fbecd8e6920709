"""A loaded checkpoint as the samplers use it: streaming VAE and transformer with its constants.

Equal to `DktNetwork` up to rounding, and never slower in counted operations. Knows which functions
are compiled and recorded. Knows nothing of steps, windows or image sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dkt_ros.model.fast_transformer import FastTransformer
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.streaming_vae import Stream, StreamingDecoder, StreamingEncoder
from dkt_ros.model.torch_backend import accelerated, arrange, attention_kernels


class FastNetwork:
    """Streams of encoder and decoder, and the velocity; all without gradients."""

    def __init__(self, network: DktNetwork, accelerate: bool = True) -> None:
        """Shares the network's weights and lays the VAE's out anew, in place.

        They must not change afterwards. accelerate: compile and record where there is a GPU.
        """
        self.device = network.device
        self.info = network.info
        self.latent_channels = network.latent_channels
        self.spatial_ratio = network.spatial_ratio
        self.size_multiple = network.size_multiple
        self.fixed_size: tuple[int, int] | None = None
        arrange(network.vae)
        self.encoder = StreamingEncoder(network.vae)
        self.decoder = StreamingDecoder(network.vae)
        self.transformer = FastTransformer(
            network.transformer, network.prompt_embeds, network.info.sees_depth
        )
        device = self.device if accelerate else torch.device("cpu")
        self._encode = accelerated(self.encoder.first, device)
        self._encode_on = accelerated(self.encoder.following, device)
        self._decode = accelerated(self.decoder.first, device)
        self._decode_on = accelerated(self.decoder.following, device)
        self._step = accelerated(self.transformer.step, device)
        on_cpu = device.type == "cpu"
        self._encode_last = self.encoder.last if on_cpu else None
        self._decode_last = self.decoder.last if on_cpu else None

    def encoder_stream(self) -> Stream:
        """At the start of a clip: images (1, 3, 1 then 4, H, W) -> latents (1, Z, 1, h, w)."""
        return Stream(self._encode, self._encode_on, self._encode_last)

    def decoder_stream(self) -> Stream:
        """At the start of a clip: latents (1, Z, 1, h, w) -> images (1, 3, 1 then 4, H, W)."""
        return Stream(self._decode, self._decode_on, self._decode_last)

    @torch.inference_mode()
    def embed_rgb(self, latents: Tensor) -> Tensor:
        """Latents (1, Z or 2 Z, T, h, w) -> what conditions the velocity, T at dimension 2."""
        return self.transformer.embed_rgb(latents.to(self.device))

    @torch.inference_mode()
    def velocity(
        self,
        noisy: Tensor,
        rgb_latents: Tensor,
        timestep: Tensor | float,
        keep: int | None = None,
    ) -> Tensor:
        """Flow velocity (1, Z, keep, h, w) of the last `keep` frames (all), float32.

        noisy: (1, Z, T, h, w); rgb_latents: as `embed_rgb` made of them; timestep: 1000 sigma.
        """
        _, _, frames, height, width = noisy.shape
        t, h, w = self.transformer.patch
        modulation, final = self.transformer.modulations(float(timestep))
        cos, sin = self.transformer.rope(frames // t, height // h, width // w)
        # A window of a clip has the clip's strides, for each of which torch would compile anew.
        noisy, kept = noisy.contiguous(), frames if keep is None else keep
        with attention_kernels(self.device):
            return self._step(noisy, rgb_latents, modulation, final, cos, sin, kept)
