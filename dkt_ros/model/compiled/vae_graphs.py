"""The streaming VAE with its frames as the batch: the form that is exported.

The walk of streaming_vae, laid out as (T, C, H, W) from end to end: causal convolutions are
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
    WanResample,
    WanRMS_norm,
)
from torch import Tensor, nn
from torch.nn import functional

from dkt_ros.model.streaming_vae import (
    Caches,
    Past,
    StreamingDecoder,
    StreamingEncoder,
    decoded,
    encoded,
)


def encode(part: StreamingEncoder, images: Tensor, caches: Caches | None) -> tuple[Tensor, ...]:
    """Images (1, 3, 1 or 4, H, W) -> latents (1, Z, 1, h, w) and the new caches.

    caches: those that the chunk before returned; None: there is none, and images is one frame.
    """
    past = _Frames(caches)
    x = encoded(part.encoder, images[0].transpose(0, 1).to(part.quant_conv.weight.dtype), past)
    mean = past.pointwise(part.quant_conv, x)[:, : part.mean.shape[1]].float()
    latents = (mean - part.mean[0, :, 0]) / part.std[0, :, 0]
    return (latents.transpose(0, 1)[None], *past.end())


def decode(part: StreamingDecoder, latents: Tensor, caches: Caches | None) -> tuple[Tensor, ...]:
    """Latents (1, Z, 1, h, w) -> images (1, 3, 1 or 4, 8h, 8w) in [-1, 1] and the new caches."""
    past = _Frames(caches)
    z = latents[0].transpose(0, 1) * part.std[0, :, 0] + part.mean[0, :, 0]
    z = past.pointwise(part.post_quant_conv, z.to(part.post_quant_conv.weight.dtype))
    x = decoded(part.decoder, z, past)
    return (x.float().clamp(-1.0, 1.0).transpose(0, 1)[None], *past.end())


class _Frames(Past):
    """The layers on (T, C, H, W); keeps views, for nothing of a graph stays alive."""

    def convolve(self, layer: WanCausalConv3d, x: Tensor) -> Tensor:
        if self.is_first:  # before it come zeros, which add nothing
            self.new.append(torch.cat([torch.zeros_like(x), x]))
            return _tap(layer, 2, x, layer.bias)
        frames = torch.cat([self.given.pop(0), x])
        self.new.append(frames[-2:])
        count = x.shape[0]
        out = _tap(layer, 2, frames[2:], layer.bias)
        for tap in (1, 0):
            out = out + _tap(layer, tap, frames[tap : tap + count])
        return out

    def pointwise(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, nn.Identity):
            return x
        assert isinstance(layer, nn.Conv3d)
        return functional.conv2d(x, layer.weight[:, :, 0], layer.bias)

    def attend(self, block: WanAttentionBlock, x: Tensor) -> Tensor:
        qkv = block.to_qkv(block.norm(x)).flatten(2).transpose(1, 2)[:, None]
        out = functional.scaled_dot_product_attention(*qkv.chunk(3, dim=-1))
        return x + block.proj(out[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))

    def norm_silu(self, norm: WanRMS_norm, x: Tensor) -> Tensor:
        wide = x.float()
        length = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12)
        gamma = norm.gamma.flatten()[:, None, None] * norm.scale
        return functional.silu((wide / length) * gamma).to(x.dtype)

    def downsample(self, layer: WanResample, x: Tensor) -> Tensor:
        x = layer.resample(x)
        if layer.mode == "downsample3d":
            before = None if self.is_first else self.given.pop(0)
            self.new.append(x[-1:])
            if before is not None:  # a first frame has no pair to be merged with
                frames, conv = torch.cat([before, x]), layer.time_conv
                # Windows of three frames, two apart.
                taken = [frames[tap : frames.shape[0] - 2 + tap : 2] for tap in range(3)]
                x = _tap(conv, 2, taken[2], conv.bias) + _tap(conv, 1, taken[1])
                x = x + _tap(conv, 0, taken[0])
        return x

    def upsample(self, layer: WanResample, x: Tensor) -> Tensor:
        if layer.mode == "upsample3d":
            if self.is_first:  # the first frame stays one, and later ones see zeros in its place
                # Computed, for an output that is a constant is none to some compilers.
                self.new.append(torch.cat([x.clamp(0.0, 0.0)] * 2))
            else:
                # Channels (2, C) -> frames (T, 2).
                x = self.convolve(layer.time_conv, x).unflatten(1, (2, -1)).flatten(0, 1)
        _, convolution = layer.resample
        return convolution(_twice_as_large(x))


def _tap(layer: WanCausalConv3d, tap: int, frames: Tensor, bias: Tensor | None = None) -> Tensor:
    """One temporal tap of a convolution whose spatial padding keeps the size."""
    _, _, _, height, width = layer.weight.shape
    padding = (height // 2, width // 2)
    return functional.conv2d(frames, layer.weight[:, :, tap], bias, padding=padding)


def _twice_as_large(x: Tensor) -> Tensor:
    """Nearest neighbours: every pixel four times; (T, C, H, W) -> (T, C, 2H, 2W)."""
    frames, channels, height, width = x.shape
    spread = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return spread.reshape(frames, channels, 2 * height, 2 * width)
