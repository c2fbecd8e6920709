"""Which weights of the transformer learn, and the network that comes of them.

Knows the two methods, low-rank adapters and full fine-tuning. Knows nothing of losses, steps or
files. VAE, prompt embedding and everything that is not chosen stay frozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from dkt_ros.errors import DktError
from dkt_ros.model.network import DktNetwork
from dkt_ros.train.lora import add_lora
from dkt_ros.train.recipe import Recipe

Trained = dict[str, Tensor]
"""Weights that learn, by the names of the transformer's parameters."""


def prepare(network: DktNetwork, recipe: Recipe) -> dict[str, nn.Parameter]:
    """Makes the transformer trainable in place; returns what learns, by name.

    With a condition the patch embedding learns beside a LoRA. Parameters that cannot change
    the output stay frozen too: the queries and keys of the cross-attention where the prompt is a
    single distinct token, and the image branch's keys.
    Raises DktError where nothing is left to learn.
    """
    transformer = network.transformer
    network.vae.requires_grad_(False)
    if recipe.method == "lora":
        add_lora(transformer, recipe.lora, recipe.seed)
    else:
        transformer.requires_grad_(True)
    if recipe.data.shows_depth:
        _show_depth(network)
    network.info = replace(network.info, condition=recipe.data.condition)
    _freeze_idle(network)
    if recipe.data.shows_depth:
        transformer.patch_embedding.float()
    if recipe.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    chosen = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    if not chosen:
        raise DktError(
            f"lora.targets {list(recipe.lora.targets)} change nothing in this checkpoint, whose "
            "prompt is a single token: choose others"
        )
    return chosen


class Velocity(nn.Module):
    """The network as one module whose call is its velocity, for libraries that wrap modules."""

    def __init__(self, network: DktNetwork) -> None:
        super().__init__()
        self.transformer = network.transformer
        self._network = network

    def forward(self, noisy: Tensor, rgb: Tensor, timestep: Tensor) -> Tensor:
        """As `DktNetwork.velocity`."""
        return self._network.velocity(noisy, rgb, timestep)


@contextmanager
def wearing(parameters: Mapping[str, nn.Parameter], values: Trained) -> Iterator[None]:
    """Within it, the parameters hold other values; afterwards their own again, to the last bit."""
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        _fill(parameters, values)
        yield
    finally:
        _fill(parameters, own)


@torch.no_grad()
def _fill(parameters: Mapping[str, nn.Parameter], values: Trained) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


def _show_depth(network: DktNetwork) -> None:
    """Has the patch embedding learn; inputs that nothing was shown in yet begin at weight zero."""
    embedding, channels = network.transformer.patch_embedding, network.latent_channels
    embedding.requires_grad_(True)
    if not network.info.sees_depth:
        with torch.no_grad():
            embedding.weight[:, 2 * channels : 3 * channels].zero_()


def _freeze_idle(network: DktNetwork) -> None:
    """Freezes parameters that a backward pass over the smallest clip does not reach."""
    side = network.size_multiple // network.spatial_ratio
    latents = torch.ones(1, network.latent_channels, 1, side, side, device=network.device)
    shown = latents.repeat(1, 2 if network.info.sees_depth else 1, 1, 1, 1)
    # Where nothing learns there is still something to go back to.
    network.velocity(latents.requires_grad_(), shown, 500.0).sum().backward()
    for parameter in network.transformer.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
