"""The streaming VAE with its frames as the batch: the form that is exported.

The arithmetic of streaming_vae, laid out as (T, C, H, W) from end to end: causal convolutions are
sums of 2-D ones over runs of frames, so a graph compiler finds neither transposes nor 3-D
convolutions (of which TensorRT has fewer kernels), and nearest upsampling is reshape and expand,
not Resize. Knows the layers of diffusers' `AutoencoderKLWan`; nothing of ONNX.

Caches are (2, C, H, W), one tensor per causal convolution, or (1, C, H, W) where time is halved.
"""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanMidBlock,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn
from torch.nn import functional

from dkt_ros.model.streaming_vae import Caches, StreamingDecoder, StreamingEncoder


def encode(part: StreamingEncoder, images: Tensor, caches: Caches | None) -> tuple[Tensor, ...]:
    """Images (1, 3, 1 or 4, H, W) -> latents (1, Z, 1, h, w) and the new caches.

    caches: those that the chunk before returned; None: there is none, and images is one frame.
    """
    past, encoder = _Past(caches), part.encoder
    frames = images[0].transpose(0, 1).to(part.quant_conv.weight.dtype)
    x = past.convolve(encoder.conv_in, frames)
    for layer in encoder.down_blocks:
        if isinstance(layer, WanResidualBlock):
            x = _residual(layer, x, past)
        else:
            x = _downsample(layer, x, past)
    x = _middle(encoder.mid_block, x, past)
    x = past.convolve(encoder.conv_out, _norm_silu(encoder.norm_out, x))
    mean = _pointwise(part.quant_conv, x)[:, : part.mean.shape[1]].float()
    latents = (mean - part.mean[0, :, 0]) / part.std[0, :, 0]
    return (latents.transpose(0, 1)[None], *past.end())


def decode(part: StreamingDecoder, latents: Tensor, caches: Caches | None) -> tuple[Tensor, ...]:
    """Latents (1, Z, 1, h, w) -> images (1, 3, 1 or 4, 8h, 8w) in [-1, 1] and the new caches."""
    past, decoder = _Past(caches), part.decoder
    z = latents[0].transpose(0, 1) * part.std[0, :, 0] + part.mean[0, :, 0]
    z = _pointwise(part.post_quant_conv, z.to(part.post_quant_conv.weight.dtype))
    x = _middle(decoder.mid_block, past.convolve(decoder.conv_in, z), past)
    for block in decoder.up_blocks:
        for layer in block.resnets:
            x = _residual(layer, x, past)
        if block.upsamplers is not None:
            x = _upsample(block.upsamplers[0], x, past)
    x = past.convolve(decoder.conv_out, _norm_silu(decoder.norm_out, x))
    return (x.float().clamp(-1.0, 1.0).transpose(0, 1)[None], *past.end())


class _Past:
    """Hands each causal layer its cache, in the order of the layers, and collects the new ones."""

    def __init__(self, caches: Caches | None) -> None:
        self.is_first = caches is None
        self._given = list(caches or ())
        self._new: list[Tensor] = []

    def take(self) -> Tensor:
        return self._given.pop(0)

    def keep(self, x: Tensor) -> None:
        self._new.append(x)

    def end(self) -> Caches:
        """The new caches; ValueError where some that were given belong to no layer."""
        if self._given:
            raise ValueError(f"{len(self._given)} caches more than the causal layers")
        return tuple(self._new)

    def convolve(self, layer: WanCausalConv3d, x: Tensor) -> Tensor:
        """A temporal kernel of 3 over the two frames before x and x; keeps the last two."""
        if self.is_first:  # before it come zeros, which add nothing
            self.keep(torch.cat([torch.zeros_like(x), x]))
            return _tap(layer, 2, x, layer.bias)
        frames = torch.cat([self.take(), x])
        self.keep(frames[-2:])
        count = x.shape[0]
        out = _tap(layer, 2, frames[2:], layer.bias)
        for tap in (1, 0):
            out = out + _tap(layer, tap, frames[tap : tap + count])
        return out


def _tap(layer: WanCausalConv3d, tap: int, frames: Tensor, bias: Tensor | None = None) -> Tensor:
    """One temporal tap of a convolution whose spatial padding keeps the size."""
    _, _, _, height, width = layer.weight.shape
    padding = (height // 2, width // 2)
    return functional.conv2d(frames, layer.weight[:, :, tap], bias, padding=padding)


def _pointwise(layer: nn.Conv3d | nn.Identity, x: Tensor) -> Tensor:
    """A 1x1x1 convolution, or nothing."""
    if isinstance(layer, nn.Identity):
        return x
    return functional.conv2d(x, layer.weight[:, :, 0], layer.bias)


def _norm_silu(norm: WanRMS_norm, x: Tensor) -> Tensor:
    """silu(RMS norm over the channels of (T, C, H, W)), in float32 as in streaming_vae."""
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12)
    gamma = norm.gamma.flatten()[:, None, None] * norm.scale
    return functional.silu((wide / length) * gamma).to(x.dtype)


def _residual(block: WanResidualBlock, x: Tensor, past: _Past) -> Tensor:
    h = past.convolve(block.conv1, _norm_silu(block.norm1, x))
    h = past.convolve(block.conv2, _norm_silu(block.norm2, h))
    return h + _pointwise(block.conv_shortcut, x)


def _middle(block: WanMidBlock, x: Tensor, past: _Past) -> Tensor:
    x = _residual(block.resnets[0], x, past)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(resnet, _attention(attention, x), past)
    return x


def _attention(block: WanAttentionBlock, x: Tensor) -> Tensor:
    """One head over the pixels of each frame."""
    qkv = block.to_qkv(block.norm(x)).flatten(2).transpose(1, 2)[:, None]
    out = functional.scaled_dot_product_attention(*qkv.chunk(3, dim=-1))
    return x + block.proj(out[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


def _downsample(layer: WanResample, x: Tensor, past: _Past) -> Tensor:
    x = layer.resample(x)
    if layer.mode == "downsample3d":
        before = None if past.is_first else past.take()
        past.keep(x[-1:])
        if before is not None:  # a first frame has no pair to be merged with
            frames, conv = torch.cat([before, x]), layer.time_conv
            # Windows of three frames, two apart.
            taken = [frames[tap : frames.shape[0] - 2 + tap : 2] for tap in range(3)]
            x = _tap(conv, 2, taken[2], conv.bias) + _tap(conv, 1, taken[1])
            x = x + _tap(conv, 0, taken[0])
    return x


def _upsample(layer: WanResample, x: Tensor, past: _Past) -> Tensor:
    if layer.mode == "upsample3d":
        if past.is_first:  # the first frame stays one, and later ones see zeros in its place
            # Computed, for an output that is a constant is none to some compilers.
            past.keep(torch.cat([x.clamp(0.0, 0.0)] * 2))
        else:
            # Channels (2, C) -> frames (T, 2).
            x = past.convolve(layer.time_conv, x).unflatten(1, (2, -1)).flatten(0, 1)
    _, convolution = layer.resample
    return convolution(_twice_as_large(x))


def _twice_as_large(x: Tensor) -> Tensor:
    """Nearest neighbours: every pixel four times; (T, C, H, W) -> (T, C, 2H, 2W)."""
    frames, channels, height, width = x.shape
    spread = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return spread.reshape(frames, channels, 2 * height, 2 * width)
