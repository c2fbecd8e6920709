"""The network's pure functions as modules to be exported, with example inputs and stable names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dkt_ros.model.compiled.manifest import (
    DECODER_FIRST,
    DECODER_FOLLOWING,
    EMBED_RGB,
    ENCODER_FIRST,
    ENCODER_FOLLOWING,
    STEP,
    TensorSpec,
    cache_name,
)
from dkt_ros.model.compiled.vae_graphs import decode, encode
from dkt_ros.model.fast_transformer import FastTransformer
from dkt_ros.model.latent_frames import FRAMES_PER_LATENT
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.streaming_vae import StreamingDecoder, StreamingEncoder

EXAMPLE_FRAMES = 3
"""Of the window that the step is traced with; 1 would be taken for a size that never changes."""


@dataclass(frozen=True, eq=False)
class Traceable:
    """A function to be exported. module: called with the inputs in order, returns a tuple.

    inputs, outputs: their names, in order. examples: inputs of the right shapes and types.
    open: of every input the dimension that other calls have another size of, the same in all; None
    where there is none.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    examples: tuple[Tensor, ...]
    open: tuple[int | None, ...] = ()

    def specs(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Names, shapes and types of inputs and outputs; computes nothing."""
        results = _shaped_like(self.module, *self.examples)
        return _specs(self.inputs, self.examples), _specs(self.outputs, results)


class NetworkGraphs:
    """All graphs of a network at one size. Shares the network's weights."""

    def __init__(self, network: DktNetwork, size: tuple[int, int]) -> None:
        """size: (H, W) in pixels, multiples of the network's size_multiple."""
        self.encoder = StreamingEncoder(network.vae)
        self.decoder = StreamingDecoder(network.vae)
        self.transformer = FastTransformer(
            network.transformer, network.prompt_embeds, network.info.sees_depth
        )
        self.size = size
        self.channels = network.latent_channels
        ratio = network.spatial_ratio
        self.latent_size = (size[0] // ratio, size[1] // ratio)

    def all(self) -> Iterator[Traceable]:
        """Every graph, one at a time."""
        yield from self.vae()
        yield self.embed_rgb()
        yield self.step()

    def vae(self) -> Iterator[Traceable]:
        """First and following chunk of encoder and decoder."""
        encoder, decoder = self.encoder, self.decoder
        image, latent = self._images(1), self._latents(1)
        following = self._images(FRAMES_PER_LATENT)
        yield from _pair(
            (ENCODER_FIRST, ENCODER_FOLLOWING),
            ("images", "latents"),
            encoder,
            lambda x, caches: encode(encoder, x, caches),
            image,
            following,
        )
        yield from _pair(
            (DECODER_FIRST, DECODER_FOLLOWING),
            ("latents", "images"),
            decoder,
            lambda z, caches: decode(decoder, z, caches),
            latent,
            latent,
        )

    def embed_rgb(self) -> Traceable:
        """Latents of RGB, and of raw depth where it is shown, to their part of the tokens."""
        transformer = self.transformer
        module = _Function(transformer, lambda latents: (transformer.embed_rgb(latents),))
        return Traceable(EMBED_RGB, module, ("latents",), ("tokens",), (self._conditions(1),))

    def step(self, frames: int = EXAMPLE_FRAMES) -> Traceable:
        """The velocity of a window, of `frames` latent frames or any other number."""
        transformer = self.transformer
        modulation, final = transformer.modulations(0.0)
        noisy = self._latents(frames)
        (tokens,) = _shaped_like(
            lambda latents: (transformer.embed_rgb(latents),), self._conditions(frames)
        )

        def run(
            noisy: Tensor,
            tokens: Tensor,
            modulation: Tensor,
            final: Tensor,
            cos: Tensor,
            sin: Tensor,
        ) -> tuple:
            cos, sin = cos.flatten(0, 1)[:, None], sin.flatten(0, 1)[:, None]
            kept = noisy.shape[2]
            return (transformer.step(noisy, tokens, modulation, final, cos, sin, kept),)

        return Traceable(
            STEP,
            _Function(transformer, run),
            ("noisy", "rgb_tokens", "modulation", "final", "cos", "sin"),
            ("velocity",),
            (noisy, tokens, modulation, final, *self.rope(frames)),
            (2, 2, None, None, 0, 0),
        )

    def rope(self, frames: int) -> tuple[Tensor, Tensor]:
        """The rotary tables cos and sin (T, n, d / 2) of a window; longer ones begin the same."""
        (t, h, w), (height, width) = self.transformer.patch, self.latent_size
        cos, sin = self.transformer.rope(frames // t, height // h, width // w)
        return cos[:, 0].unflatten(0, (frames // t, -1)), sin[:, 0].unflatten(0, (frames // t, -1))

    def _images(self, frames: int) -> Tensor:
        return torch.zeros(1, 3, frames, *self.size)

    def _latents(self, frames: int) -> Tensor:
        return torch.zeros(1, self.channels, frames, *self.latent_size)

    def _conditions(self, frames: int) -> Tensor:
        return torch.zeros(1, self.transformer.conditions, frames, *self.latent_size)


class _Function(nn.Module):
    """A function of a module's weights, as the exporter wants it."""

    def __init__(self, owner: nn.Module, function: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.owner, self.function = owner, function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


def _pair(
    names: tuple[str, str],
    ends: tuple[str, str],
    owner: nn.Module,
    function: Callable[[Tensor, tuple[Tensor, ...] | None], tuple[Tensor, ...]],
    first: Tensor,
    following: Tensor,
) -> Iterator[Traceable]:
    """A stream's first chunk, and the one that follows with caches in and out."""
    given, result = ends
    _, *caches = _shaped_like(lambda x: function(x, None), first)
    old = tuple(cache_name(index) for index in range(len(caches)))
    new = tuple(cache_name(index, new=True) for index in range(len(caches)))
    start = _Function(owner, lambda x: function(x, None))
    yield Traceable(names[0], start, (given,), (result, *new), (first,))
    go_on = _Function(owner, lambda x, *caches: function(x, caches))
    examples = (following, *caches)
    yield Traceable(names[1], go_on, (given, *old), (result, *new), examples)


def _shaped_like(
    function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
) -> tuple[Tensor, ...]:
    """Zeros of the shapes and types that the function returns, without computing it."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        shapes = [(tuple(out.shape), out.dtype) for out in function(*inputs)]
    return tuple(torch.zeros(shape, dtype=dtype) for shape, dtype in shapes)


def _specs(names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in zip(names, tensors, strict=True)
    )
