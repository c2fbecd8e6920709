"""The network being trained: DKT's architecture at dkt-nano's sizes, with gradients throughout.

Knows the two diffusers models, their initial weights and how they become a checkpoint. Knows
nothing of data, losses or optimisers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint, save_checkpoint
from dkt_ros.model.context import use_constant_context
from dkt_ros.model.conv import use_stacked_convolutions
from dkt_ros.train.nano.config import NanoConfig

LATENT_CHANNELS = 16
INPUT_CHANNELS = 48
_TAPS = 3
"""Frames that a temporal convolution of the VAE sees."""


class NanoModel(nn.Module):
    """Transformer, VAE and the latent statistics, with the three calls that training is made of.

    The prompt is one zero token (so all its 512 tokens are equal, and so are the image tokens):
    the context is a learned constant, held in the biases of its embedders.
    """

    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        sizes = config.network
        dim = sizes.heads * sizes.head_dim
        self.config = config
        self.transformer = WanTransformer3DModel(
            num_attention_heads=sizes.heads,
            attention_head_dim=sizes.head_dim,
            in_channels=INPUT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            text_dim=sizes.text_dim,
            freq_dim=sizes.freq_dim,
            ffn_dim=sizes.ffn_dim,
            num_layers=sizes.layers,
            image_dim=sizes.image_dim,
            added_kv_proj_dim=dim,
        )
        use_constant_context(self.transformer, torch.tensor([config.info.text_tokens]))
        self.vae = AutoencoderKLWan(
            base_dim=sizes.vae_base_dim,
            z_dim=LATENT_CHANNELS,
            num_res_blocks=sizes.vae_res_blocks,
        )
        use_stacked_convolutions(self.vae)
        self.register_buffer("latents_mean", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("latents_std", torch.ones(LATENT_CHANNELS))
        self.latents_mean: Tensor
        self.latents_std: Tensor
        _initialise_temporal(self.vae)
        _initialise_paths(self.transformer)

    @torch.no_grad()
    def start_from(self, checkpoint: Path) -> None:
        """Takes a checkpoint's weights and latent statistics; DktError where its sizes differ.

        Inputs that it was never shown begin at weight zero: the first step's answers are its own.
        """
        network = load_checkpoint(checkpoint, plain=True)
        try:
            self.transformer.load_state_dict(network.transformer.state_dict())
            self.vae.load_state_dict(network.vae.state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()[:100]
            raise DktError(
                f"start {checkpoint} is of another size than network: {reason}"
            ) from None
        for name in ("latents_mean", "latents_std"):
            getattr(self, name).copy_(torch.tensor(network.vae.config[name]))
        if not network.info.sees_depth:
            self.transformer.patch_embedding.weight[:, 2 * LATENT_CHANNELS :].zero_()

    def part_pictures(self) -> None:
        """The VAE sees every picture by itself, and goes on to: its temporal weights are fixed."""
        _initialise_temporal(self.vae)
        for layer, is_resampling in _temporal_layers(self.vae):
            if is_resampling:
                layer.requires_grad_(False)
            else:
                layer.weight.register_hook(_of_the_newest)

    def encode(self, video: Tensor) -> Tensor:
        """Video (B, 3, 4N+1, H, W) in [-1, 1] -> posterior mean (B, 16, N+1, h, w) as it comes."""
        vae = self.vae
        # Without a cache the temporal layers step aside, as they do for a first frame.
        single = video.shape[2] == 1
        moments = vae.quant_conv(vae.encoder(video)) if single else vae._encode(video)
        mean: Tensor = moments[:, :LATENT_CHANNELS]
        return mean

    def normalise(self, latents: Tensor) -> Tensor:
        """Posterior means -> what the transformer sees."""
        shape = (1, -1, 1, 1, 1)
        return (latents - self.latents_mean.view(shape)) / self.latents_std.view(shape)

    def decode(self, normalised: Tensor) -> Tensor:
        """Normalised latents (B, 16, N+1, h, w) -> video (B, 3, 4N+1, 8h, 8w), not clamped."""
        vae = self.vae
        shape = (1, -1, 1, 1, 1)
        z = normalised * self.latents_std.view(shape) + self.latents_mean.view(shape)
        x = vae.post_quant_conv(z)
        if x.shape[2] == 1:
            image: Tensor = vae.decoder(x)
            return image
        # As AutoencoderKLWan._decode, without its clamp, which would stop the gradients.
        vae.clear_cache()
        parts = []
        for index in range(x.shape[2]):
            vae._conv_idx = [0]
            parts.append(
                vae.decoder(
                    x[:, :, index : index + 1],
                    feat_cache=vae._feat_map,
                    feat_idx=vae._conv_idx,
                    first_chunk=index == 0,
                )
            )
        vae.clear_cache()
        return torch.cat(parts, dim=2)

    def velocity(
        self, noisy: Tensor, rgb_latents: Tensor, sigma: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """Flow velocity (noise - data) at noise levels sigma (B,); latents are normalised.

        conditions: latents of the raw depth, zero where it is not given.
        """
        batch = noisy.shape[0]
        sizes = self.config.network
        last = torch.zeros_like(noisy) if conditions is None else conditions
        x = torch.cat([noisy, rgb_latents, last], dim=1)
        result: Tensor = self.transformer(
            hidden_states=x,
            timestep=sigma * 1000.0,
            encoder_hidden_states=x.new_zeros(batch, 1, sizes.text_dim),
            encoder_hidden_states_image=x.new_zeros(batch, 1, sizes.image_dim),
            return_dict=False,
        )[0]
        return result


def _of_the_newest(gradient: Tensor) -> Tensor:
    """The gradient of a convolution's weight (O, I, 3, h, w), that of the newest frame's tap."""
    gradient = gradient.clone()
    gradient[:, :, : _TAPS - 1] = 0.0
    return gradient


def _temporal_layers(vae: AutoencoderKLWan) -> Iterator[tuple[WanCausalConv3d, bool]]:
    """The layers that see several frames, and whether each is one that resamples time."""
    for name, module in vae.named_modules():
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] == _TAPS:
            yield module, name.endswith("time_conv")


@torch.no_grad()
def _initialise_temporal(vae: AutoencoderKLWan) -> None:
    """Temporal layers begin as the per-frame network: a clip starts as good as its pictures."""
    for module, is_resampling in _temporal_layers(vae):
        module.weight[:, :, : _TAPS - 1].zero_()
        if is_resampling:
            # Down: keep the last frame. Up: both new frames start as copies of the old.
            copies = module.out_channels // module.in_channels
            eye = torch.eye(module.in_channels).repeat(copies, 1)
            module.weight[:, :, _TAPS - 1, 0, 0] = eye
            nn.init.zeros_(module.bias)


def _initialise_paths(transformer: WanTransformer3DModel) -> None:
    """Starts the transformer as velocity = noise - RGB latents, i.e. with the RGB as the estimate.

    The noise need not be learned to pass, and the pixel error reaches the RGB encoder at once, as
    in a plain encoder-decoder, instead of through random layers. What the blocks add refines it.
    """
    weight, projection = transformer.patch_embedding.weight, transformer.proj_out.weight
    values = transformer.proj_out.out_features  # of one patch: rows, columns, channels
    if weight.shape[0] < 2 * values:  # too narrow to reserve dimensions: diffusers' own start
        return
    channels = LATENT_CHANNELS
    with torch.no_grad():
        weight.zero_()
        nn.init.normal_(weight[2 * values :, : 2 * channels], std=(2 * values) ** -0.5)
        nn.init.zeros_(transformer.patch_embedding.bias)
        nn.init.normal_(projection, std=1e-3)
        nn.init.zeros_(transformer.proj_out.bias)
        for index in range(values):
            patch, channel = divmod(index, channels)
            row, column = divmod(patch, 2)
            weight[index, channel, 0, row, column] = 1.0
            weight[values + index, channels + channel, 0, row, column] = 1.0
            projection[index, index] = 1.0
            projection[index, values + index] = -1.0
        for block in transformer.blocks:
            for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
                layer.weight.mul_(0.5)
                nn.init.zeros_(layer.bias)


def export(model: NanoModel, state: dict[str, Tensor], folder: Path) -> None:
    """Writes weights `state` (a state dict of the model) as a checkpoint folder, stored in float16.

    model's own weights are untouched.
    """
    config = model.config
    copy = NanoModel(config)
    copy.load_state_dict(state)
    copy.vae.register_to_config(
        latents_mean=copy.latents_mean.tolist(), latents_std=copy.latents_std.tolist()
    )
    prompt = torch.zeros(1, config.network.text_dim)
    save_checkpoint(folder, copy.transformer.half(), copy.vae.half(), prompt, config.info)
