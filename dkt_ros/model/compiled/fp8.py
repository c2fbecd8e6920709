"""FP8 (e4m3) for the transformer's large linear layers: measured scales, and how they are exported.

Per-tensor scales: of a weight from its largest value, of an activation from the largest value seen
while a clip was computed. Both are rounded to FP8 and back, which TensorRT fuses into FP8 products.
Self-attention's own products, norms, softmax and everything outside the blocks stay as they are.
`measure` sees the largest inputs of the layers of diffusers' `WanTransformer3DModel` on a clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn

from dkt_ros.errors import DktError
from dkt_ros.model.canvas import Canvas
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.compiled.request import EngineRequest
from dkt_ros.model.latent_frames import chunk_spans, pad_chunk
from dkt_ros.model.sampler import initial_noise, sample
from dkt_ros.model.streaming_vae import Stream, StreamingEncoder

LARGEST = 448.0
"""Of e4m3."""
SEED = 1


@torch.library.custom_op("dkt_ros::fp8_round", mutates_args=())
def fp8_round(x: Tensor, scale: float) -> Tensor:
    """x rounded to e4m3 multiples of `scale`, in x's own type; beyond the range it saturates."""
    scaled = (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return scaled.to(x.dtype) * scale


@fp8_round.register_fake
def _(x: Tensor, scale: float) -> Tensor:
    return torch.empty_like(x)


def onnx_fp8_round(x: Any, scale: float) -> Any:
    """`fp8_round` as ONNX: QuantizeLinear and DequantizeLinear, the scale in x's type."""
    import onnx
    from onnxscript import opset22 as op

    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0])
    step = op.Cast(op.Constant(value_float=scale), to=x.dtype)
    rounded = op.QuantizeLinear(x, step, op.Constant(value=zero))
    return op.DequantizeLinear(rounded, step, op.Constant(value=zero))


class Fp8Linear(nn.Module):
    """A linear layer whose input and weight are rounded to FP8; the product is wider."""

    def __init__(self, linear: nn.Linear, largest_input: float) -> None:
        """largest_input: the largest absolute value of the inputs, above 0."""
        super().__init__()
        weight = linear.weight.detach()
        self.weight = nn.Parameter(weight.T.contiguous(), requires_grad=False)
        self.bias = linear.bias
        self.input_scale = _scale(largest_input, weight.dtype)
        self.weight_scale = _scale(float(weight.abs().max()), weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = fp8_round(x, self.input_scale) @ fp8_round(self.weight, self.weight_scale)
        return y if self.bias is None else y + self.bias


@contextmanager
def observed(transformer: WanTransformer3DModel) -> Iterator[dict[str, float]]:
    """Within it, every run of the transformer raises the largest inputs by layer, yielded here."""
    largest: dict[str, float] = {}

    def watch(name: str) -> Any:
        def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            largest[name] = max(largest.get(name, 0.0), float(inputs[0].abs().max()))

        return see

    handles = [
        layer.register_forward_pre_hook(watch(name))
        for name, _, _, layer in _linear_layers(transformer)
    ]
    try:
        yield largest
    finally:
        for handle in handles:
            handle.remove()


def use_fp8(transformer: WanTransformer3DModel, largest: Mapping[str, float]) -> int:
    """Puts Fp8Linear in the place of the layers, in place; returns how many there are.

    largest: as `observed` has seen it, of this very checkpoint. Raises DktError where a layer was
    not seen, or saw zeros or what is not finite.
    """
    layers = list(_linear_layers(transformer))
    for name, owner, attribute, layer in layers:
        seen = largest.get(name)
        if seen is None or not 0 < seen < float("inf"):
            raise DktError(
                f"calibration saw {seen} as the largest input of {name}, expected a number above "
                "0; calibrate with a clip on this checkpoint"
            )
        setattr(owner, attribute, Fp8Linear(layer, seen))
    return len(layers)


def _linear_layers(
    transformer: WanTransformer3DModel,
) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    """Name, owner, attribute and layer of self-attention and feed-forward in every block."""
    for index, block in enumerate(transformer.blocks):
        attention, feed_forward = block.attn1, block.ffn.net
        for owner, attribute, name in (
            (attention, "to_q", "attn1.to_q"),
            (attention, "to_k", "attn1.to_k"),
            (attention, "to_v", "attn1.to_v"),
            (attention.to_out, "0", "attn1.to_out.0"),
            (feed_forward[0], "proj", "ffn.net.0.proj"),
            (feed_forward, "2", "ffn.net.2"),
        ):
            yield f"blocks.{index}.{name}", owner, attribute, getattr(owner, attribute)


def _scale(largest: float, dtype: torch.dtype) -> float:
    """What e4m3's largest value stands for `largest` with, as a number that dtype can hold."""
    return float(torch.tensor(largest / LARGEST).to(dtype)) or float(torch.finfo(dtype).tiny)


@torch.inference_mode()
def measure(
    request: EngineRequest, rgb: np.ndarray, device: torch.device, dtype: str
) -> dict[str, float]:
    """Layer name -> largest absolute input, while the exact sampler works on the clip.

    rgb: uint8 (T, H, W, 3). dtype: what the network computes in. Windows are as long as the longest
    that is asked for.
    """
    # Eager and plain: neither a compiled step nor a recorded one calls what watches a layer.
    network = load_checkpoint(request.checkpoint, device, dtype)
    canvas = Canvas((rgb.shape[1], rgb.shape[2]), request.size, network.size_multiple)
    part = StreamingEncoder(network.vae)
    encoder = Stream(part.first, part.following)
    latents = torch.cat(
        [
            encoder.advance(canvas.paint(pad_chunk(rgb[start:stop], start)).to(device))
            for start, stop in chunk_spans(len(rgb))
        ],
        dim=2,
    )
    window = max(request.windows)
    with observed(network.transformer) as largest:
        sample(
            network,
            latents,
            initial_noise(tuple(latents.shape), SEED),
            steps=request.steps,
            shift=network.info.sigma_shift,
            window=window,
            overlap=min(network.info.overlap, window - 1),
        )
    return largest
