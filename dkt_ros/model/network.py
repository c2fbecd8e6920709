"""RGB to latents, latents to velocity, latents to video: the three calls the samplers are made of.

Knows the channel order of DKT's input. Knows nothing of steps, windows, files or image sizes.
"""

from __future__ import annotations

import math

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from dkt_ros.errors import DktError
from dkt_ros.model.context import distinct_tokens, use_constant_context
from dkt_ros.model.info import CheckpointInfo

CLIP_TOKENS = 257
"""Image tokens the transformer's image branch expects; DKT feeds zeros."""
IMAGE_BRANCH_TEXT_TOKENS = 512
"""diffusers splits image from text tokens at this fixed text length."""


class DktNetwork:
    """A loaded checkpoint: `transformer`, `vae`, the constant prompt embedding and `info`.

    All latents are float32 (1, Z, T, h, w) with h = H/8, w = W/8 and Z = 16 for Wan's VAE; the
    parts compute in their own dtype. Gradients flow wherever the caller lets them.
    """

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        vae: AutoencoderKLWan,
        prompt_embeds: torch.Tensor,
        info: CheckpointInfo,
    ) -> None:
        """prompt_embeds: (L, text_dim), L at most info.text_tokens, padded here with zeros.

        Raises DktError where the parts do not fit each other.
        """
        self.transformer = transformer
        self.vae = vae
        self.info = info
        _check_parts(transformer, vae, info)
        self.device = next(transformer.parameters()).device
        self.dtype = transformer.proj_out.weight.dtype
        self.prompt_embeds = pad_prompt(
            prompt_embeds, info.text_tokens, transformer.config["text_dim"]
        ).to(self.device, self.dtype)
        image_dim = transformer.config["image_dim"]
        self.clip_features = (
            None
            if image_dim is None
            else torch.zeros(1, CLIP_TOKENS, image_dim, device=self.device, dtype=self.dtype)
        )
        shape = (1, -1, 1, 1, 1)
        self._mean, self._std = (
            torch.tensor(vae.config[name], device=self.device, dtype=torch.float32).view(shape)
            for name in ("latents_mean", "latents_std")
        )

    def collapse_context(self) -> None:
        """Gives cross-attention each distinct token once, in place; equal up to rounding.

        The prompt's padding tokens are all equal, and so are the zero image tokens.
        """
        self.prompt_embeds, counts = distinct_tokens(self.prompt_embeds)
        use_constant_context(self.transformer, counts)
        if self.clip_features is not None:
            self.clip_features = self.clip_features[:, :1]

    @property
    def latent_channels(self) -> int:
        """Z, the VAE's latent channels."""
        return int(self.vae.config["z_dim"])

    @property
    def spatial_ratio(self) -> int:
        """Pixels per latent along each image side."""
        return int(self.vae.config["scale_factor_spatial"])

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this many pixels."""
        return self.spatial_ratio * int(max(self.transformer.config["patch_size"][1:]))

    def encode_rgb(self, rgb: torch.Tensor) -> torch.Tensor:
        """Video (1, 3, 4N+1, H, W) in [-1, 1] -> normalised latents (1, Z, N+1, H/8, W/8), float32.

        The posterior's mean, (z - latents_mean) / latents_std of the VAE's config.
        """
        frames = rgb.shape[2]
        if frames % 4 != 1:
            raise ValueError(f"the VAE takes 4N+1 frames, got {frames}")
        mean = self.vae.encode(rgb.to(self.device, self.vae.dtype)).latent_dist.mode().float()
        return (mean - self._mean) / self._std

    def velocity(
        self, noisy: torch.Tensor, rgb_latents: torch.Tensor, timestep: torch.Tensor | float
    ) -> torch.Tensor:
        """Flow velocity (noise - data) of disparity latents, float32, shaped like `noisy`.

        noisy: (B, Z, T, h, w); rgb_latents: the same, or (B, 2 Z, ...) with those of the raw depth
        behind them. timestep: 1000 sigma, a number or one per batch item.
        Input channels: Z noisy, Z RGB, Z raw depth, zeros where there is none.
        """
        batch, channels, frames, height, width = noisy.shape
        spare = int(self.transformer.config["in_channels"]) - channels - rgb_latents.shape[1]
        zeros = noisy.new_zeros(batch, spare, frames, height, width)
        return self.transform(torch.cat([noisy, rgb_latents.to(noisy), zeros], dim=1), timestep)

    def transform(self, x: torch.Tensor, timestep: torch.Tensor | float) -> torch.Tensor:
        """The transformer on all its input channels (B, in_channels, T, h, w); float32 out."""
        batch = x.shape[0]
        steps = torch.as_tensor(timestep, dtype=torch.float32, device=self.device).expand(batch)
        clip = self.clip_features
        output = self.transformer(
            hidden_states=x.to(self.device, self.dtype),
            timestep=steps,
            encoder_hidden_states=self.prompt_embeds.expand(batch, -1, -1),
            encoder_hidden_states_image=None if clip is None else clip.expand(batch, -1, -1),
            return_dict=False,
        )[0]
        return output.float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised latents (1, Z, N+1, h, w) -> video (1, 3, 4N+1, 8h, 8w) in [-1, 1]."""
        z = latents.to(self.device) * self._std + self._mean
        decoded = self.vae.decode(z.to(self.vae.dtype), return_dict=False)[0]
        return decoded.float().clamp(-1.0, 1.0)


def pad_prompt(prompt_embeds: torch.Tensor, tokens: int, text_dim: int) -> torch.Tensor:
    """(L, text_dim) or (1, L, text_dim) -> (1, tokens, text_dim), zeros past the prompt's end."""
    embeds = prompt_embeds[0] if prompt_embeds.dim() == 3 else prompt_embeds
    if embeds.dim() != 2 or embeds.shape[0] > tokens or embeds.shape[1] != text_dim:
        raise DktError(
            f"prompt embedding of shape {tuple(prompt_embeds.shape)} does not fit: "
            f"expected at most {tokens} tokens of {text_dim} values"
        )
    padded = embeds.new_zeros(1, tokens, text_dim)
    padded[0, : embeds.shape[0]] = embeds
    return padded


def _check_parts(
    transformer: WanTransformer3DModel, vae: AutoencoderKLWan, info: CheckpointInfo
) -> None:
    z_dim, config = int(vae.config["z_dim"]), transformer.config
    if config["out_channels"] != z_dim or config["in_channels"] < 2 * z_dim:
        raise DktError(
            f"the transformer takes {config['in_channels']} and gives {config['out_channels']} "
            f"channels, the VAE has {z_dim}: expected at least {2 * z_dim} in and {z_dim} out"
        )
    for name in ("latents_mean", "latents_std"):
        if len(vae.config[name]) != z_dim:
            raise DktError(f"VAE config: {name} has {len(vae.config[name])} values, z_dim {z_dim}")
    if not all(map(math.isfinite, vae.config["latents_mean"])):
        raise DktError("VAE config: latents_mean has values that are no finite numbers")
    if not all(0 < value < float("inf") for value in vae.config["latents_std"]):
        raise DktError("VAE config: latents_std has values that are no finite numbers above 0")
    if info.sees_depth and config["in_channels"] < 3 * z_dim:
        raise DktError(
            f"the transformer takes {config['in_channels']} channels: expected at least "
            f"{3 * z_dim}, for dkt.json says that it is shown {info.condition}"
        )
    if config["image_dim"] is not None and info.text_tokens != IMAGE_BRANCH_TEXT_TOKENS:
        raise DktError(
            f"text_tokens is {info.text_tokens}; a transformer with an image branch needs "
            f"{IMAGE_BRANCH_TEXT_TOKENS}"
        )
