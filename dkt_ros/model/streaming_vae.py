"""The Wan VAE as a stream: chunk in, chunk out, with the past in caches of constant size.

Knows the causal layers of diffusers' `AutoencoderKLWan` and the order of their caches. Knows
nothing of sampling. The first chunk is one frame, every later one is a latent frame (4 images);
both are pure functions of tensors, so that they can be compiled and exported.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanAttentionBlock,
    WanCausalConv3d,
    WanDecoder3d,
    WanEncoder3d,
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn
from torch.nn import functional

from dkt_ros.errors import DktError

Caches = tuple[Tensor, ...]
"""What a part of the VAE remembers, one tensor (B, C, 1 or 2, H', W') per causal convolution."""
First = Callable[[Tensor], tuple[Tensor, Caches]]
Following = Callable[[Tensor, Caches], tuple[Tensor, Caches]]
Last = Callable[[Tensor, Caches | None], Tensor]


class _Half(nn.Module):
    """What encoder and decoder do alike; the weights are those of the VAE they are made from."""

    mean: Tensor
    std: Tensor

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        _check_supported(vae)
        self.register_buffer("mean", _per_channel(vae, "latents_mean"), persistent=False)
        self.register_buffer("std", _per_channel(vae, "latents_std"), persistent=False)

    def first(self, chunk: Tensor) -> tuple[Tensor, Caches]:
        """The result of a clip's first chunk (B, C, 1, H, W), and caches."""
        return self.run(chunk, past := Past(None)), past.end()

    def following(self, chunk: Tensor, caches: Caches) -> tuple[Tensor, Caches]:
        """That of the next one, four images or one latent frame, and new caches."""
        return self.run(chunk, past := Past(caches)), past.end()

    def last(self, chunk: Tensor, caches: Caches | None) -> Tensor:
        """That of `first` (caches None) or `following`, where no other chunk follows."""
        return self.run(chunk, Past(caches, keeps=False))

    def run(self, chunk: Tensor, past: Past) -> Tensor:
        """That of a chunk after the past, which it adds to."""
        raise NotImplementedError


class StreamingEncoder(_Half):
    """Images (B, 3, 1 then 4, H, W) in [-1, 1] to latents (B, Z, 1, H/8, W/8).

    Latents are float32, the posterior's mean, normalised by the VAE's latents_mean and _std.
    """

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__(vae)
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def run(self, chunk: Tensor, past: Past) -> Tensor:
        """See above."""
        x = encoded(self.encoder, chunk.to(self.quant_conv.weight.dtype), past)
        mean = self.quant_conv(x)[:, : self.mean.shape[1]].float()
        return (mean - self.mean) / self.std


class StreamingDecoder(_Half):
    """Normalised latents (B, Z, 1, h, w) to images (B, 3, 1 then 4, 8h, 8w) in [-1, 1]."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__(vae)
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv

    def run(self, chunk: Tensor, past: Past) -> Tensor:
        """See above."""
        z = (chunk * self.std + self.mean).to(self.post_quant_conv.weight.dtype)
        return decoded(self.decoder, self.post_quant_conv(z), past).float().clamp(-1.0, 1.0)


class Past:
    """Hands each causal layer its cache, in the order of the layers, and collects the new ones.

    Computes the layers, too, on (B, C, T, H, W); a subclass may do so in another layout. keeps:
    whether it collects; half of a first chunk's copying is for caches.
    """

    def __init__(self, caches: Caches | None, keeps: bool = True) -> None:
        self.is_first, self.keeps = caches is None, keeps
        self.given = list(caches or ())
        self.new: list[Tensor] = []

    def end(self) -> Caches:
        """The new caches; ValueError where some that were given belong to no layer."""
        if self.given:
            raise ValueError(f"{len(self.given)} caches more than the causal layers")
        return tuple(self.new)

    def keep(self, *frames: Tensor) -> None:
        """The frames, joined along time: a copy, for a view would keep the activation alive."""
        if self.keeps:
            self.new.append(frames[0].clone() if len(frames) == 1 else torch.cat(frames, dim=2))

    def convolve(self, layer: WanCausalConv3d, x: Tensor) -> Tensor:
        """A causal convolution over the two frames before x and x; keeps its last two frames."""
        if self.is_first:
            if self.keeps:
                self.keep(torch.zeros_like(x), x)
            return layer(x)
        before = self.given.pop(0)
        self.keep(*([x[:, :, -2:]] if x.shape[2] > 1 else [before[:, :, -1:], x]))
        return layer(x, before)

    def pointwise(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A 1x1x1 convolution, or nothing."""
        return layer(x)

    def attend(self, block: WanAttentionBlock, x: Tensor) -> Tensor:
        """One head over the pixels of each frame."""
        return block(x)

    def norm_silu(self, norm: WanRMS_norm, x: Tensor) -> Tensor:
        """silu(norm(x)): RMS over the channels times gamma, in fewer passes over memory."""
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12)
        normed = (wide / length).mul_(norm.gamma * norm.scale)
        return functional.silu(normed, inplace=True).to(x.dtype)

    def downsample(self, layer: WanResample, x: Tensor) -> Tensor:
        """Half of height and width and, of a later chunk where the layer says so, of the frames."""
        x = _each_image(layer.resample, x)
        if layer.mode == "downsample3d":
            before = None if self.is_first else self.given.pop(0)
            self.keep(x[:, :, -1:])
            if before is not None:  # a first frame has no pair to be merged with
                x = layer.time_conv(torch.cat([before, x], dim=2))
        return x

    def upsample(self, layer: WanResample, x: Tensor) -> Tensor:
        """The reverse."""
        if layer.mode == "upsample3d":
            if self.is_first:  # the first frame stays one, and later ones see zeros in its place
                self.keep(torch.zeros_like(x).expand(-1, -1, 2, -1, -1))
            else:
                twice = self.convolve(layer.time_conv, x)
                # Channels (2, C) -> frames (T, 2).
                x = twice.unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        return _each_image(layer.resample, x)


def encoded(encoder: WanEncoder3d, x: Tensor, past: Past) -> Tensor:
    """Images of one chunk through all of the encoder, in the past's layout."""
    x = past.convolve(encoder.conv_in, x)
    for layer in encoder.down_blocks:
        if isinstance(layer, WanResidualBlock):
            x = _residual(layer, x, past)
        else:
            x = past.downsample(layer, x)
    x = _middle(encoder.mid_block, x, past)
    return past.convolve(encoder.conv_out, past.norm_silu(encoder.norm_out, x))


def decoded(decoder: WanDecoder3d, x: Tensor, past: Past) -> Tensor:
    """Latents of one chunk through all of the decoder."""
    x = _middle(decoder.mid_block, past.convolve(decoder.conv_in, x), past)
    for block in decoder.up_blocks:
        for layer in block.resnets:
            x = _residual(layer, x, past)
        if block.upsamplers is not None:
            x = past.upsample(block.upsamplers[0], x)
    return past.convolve(decoder.conv_out, past.norm_silu(decoder.norm_out, x))


def _residual(block: WanResidualBlock, x: Tensor, past: Past) -> Tensor:
    h = past.convolve(block.conv1, past.norm_silu(block.norm1, x))
    h = past.convolve(block.conv2, past.norm_silu(block.norm2, h))
    return h + past.pointwise(block.conv_shortcut, x)


def _middle(block: WanMidBlock, x: Tensor, past: Past) -> Tensor:
    x = _residual(block.resnets[0], x, past)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(resnet, past.attend(attention, x), past)
    return x


def _each_image(layer: nn.Module, x: Tensor) -> Tensor:
    """A 2-D layer over the frames of x (B, C, T, H, W)."""
    frames = x.permute(0, 2, 3, 4, 1)
    # Flat and back: of a single frame torch has strides that keep its layers from channels last.
    images = frames.flatten().view(-1, *frames.shape[2:]).permute(0, 3, 1, 2)
    return layer(images).unflatten(0, frames.shape[:2]).transpose(1, 2)


def _per_channel(vae: AutoencoderKLWan, name: str) -> Tensor:
    device = next(vae.parameters()).device
    return torch.tensor(vae.config[name], dtype=torch.float32, device=device).view(1, -1, 1, 1, 1)


def _check_supported(vae: AutoencoderKLWan) -> None:
    if vae.config["is_residual"] or vae.config["patch_size"] is not None:
        raise DktError(
            "the VAE has residual resampling or patches (Wan 2.2): expected the VAE of Wan 2.1"
        )
    layers = [*vae.encoder.down_blocks, *vae.decoder.up_blocks]
    for layer in layers:
        if isinstance(layer, WanAttentionBlock):
            raise DktError("the VAE has attention between its stages: expected Wan 2.1's VAE")


class Stream:
    """One half of the VAE at work on one clip: `advance` chunk by chunk, `reset` for the next."""

    def __init__(self, first: First, following: Following, last: Last | None = None) -> None:
        """The pure functions of a StreamingEncoder or a StreamingDecoder.

        last: None where functions are compiled, of which fewer are better.
        """
        self._first, self._following, self._last = first, following, last
        self.caches: Caches | None = None

    def reset(self) -> None:
        """Forgets the clip so far."""
        self.caches = None

    def advance(self, chunk: Tensor) -> Tensor:
        """The next chunk's result: the first's, or that of the one that follows."""
        result, self.caches = self._run(chunk)
        return result

    def peek(self, chunk: Tensor) -> Tensor:
        """What `advance` would return, without moving on: cheaper where a clip ends."""
        if self._last is not None:
            return self._last(chunk, self.caches)
        return self._run(chunk)[0]

    def nbytes(self) -> int:
        """Bytes the caches hold."""
        return sum(cache.untyped_storage().nbytes() for cache in self.caches or ())

    def _run(self, chunk: Tensor) -> tuple[Tensor, Caches]:
        if self.caches is None:
            return self._first(chunk)
        return self._following(chunk, self.caches)
