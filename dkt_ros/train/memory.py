"""What a training holds in memory, counted on the meta device before anything is loaded.

Knows shapes, types and what autograd keeps. Leaves out the VAE, kernels' scratch space and what an
allocator wastes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel

from dkt_ros.model.checkpoint import PROMPT_FILE, checked_folder, empty_network, read_prompt
from dkt_ros.model.network import DktNetwork
from dkt_ros.train.recipe import Recipe
from dkt_ros.train.tuning import prepare

MakeNetwork = Callable[[int], DktNetwork]
"""A network on the meta device, of so many blocks, its context collapsed."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process; parameters and learn count weights.

    kept: activations for the backward pass of a micro-batch of the longest clips.
    """

    parameters: int
    learn: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    kept: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.average + self.kept

    def described(self) -> str:
        """One line."""
        parts = ("weights", "gradients", "optimizer", "average", "kept")
        sizes = {name: getattr(self, name) / 2**30 for name in parts}
        named = ", ".join(f"{name} {size:.2g}" for name, size in sizes.items() if size)
        total = self.total / 2**30
        return (
            f"about {total:.2g} GiB a process without VAE and scratch space ({named}); "
            f"{self.learn:,} of {self.parameters:,} weights learn"
        )


def without_memory(recipe: Recipe) -> MakeNetwork:
    """Makes the recipe's checkpoint on the meta device; DktError where it is no sound one."""
    folder = checked_folder(recipe.checkpoint_folder())
    prompt = read_prompt(folder / PROMPT_FILE)

    def make(layers: int) -> DktNetwork:
        return on_meta(empty_network(folder, prompt), prompt, layers)

    return make


def on_meta(network: DktNetwork, prompt: Tensor, layers: int | None) -> DktNetwork:
    """The network on the meta device as the trainer has it; prompt: (L, text_dim), in memory."""
    tokens, width = network.prompt_embeds.shape[1:]
    # The prompt's distinct tokens are found by value, so it must have some.
    padded = torch.zeros(1, tokens, width)
    padded[0, : len(prompt)] = prompt
    network.prompt_embeds = padded
    network.collapse_context()
    network.prompt_embeds = network.prompt_embeds.to("meta", network.dtype)
    if layers is not None:
        network.transformer.blocks = network.transformer.blocks[:layers]
    return network


def count(recipe: Recipe, make: MakeNetwork, bf16: bool) -> Memory:
    """What the recipe's training holds; bf16: computes in bfloat16."""
    short = make(1)
    one, two = (_counts(recipe, network, bf16) for network in (short, make(2)))
    config = short.transformer.config
    layers = config["num_layers"]  # all alike
    parameters, learn, adapters, kept = (
        a + (layers - 1) * (b - a) for a, b in zip(one, two, strict=True)
    )
    frozen_bytes = 2 if bf16 and recipe.method == "lora" else 4
    if recipe.gradient_checkpointing:
        width = config["num_attention_heads"] * config["attention_head_dim"]
        tokens = _latents(recipe, short)[0, 0].numel() // 4
        block = two[-1] - one[-1]
        kept += block - layers * (block - (2 if bf16 else 4) * width * tokens)
    return Memory(
        parameters=parameters,
        learn=learn,
        # What learns is float32, and of it autocast keeps copies.
        weights=frozen_bytes * (parameters - (learn - adapters)) + (6 if bf16 else 4) * learn,
        gradients=4 * learn,
        optimizer=8 * learn,
        average=4 * learn if recipe.ema > 0 else 0,
        kept=recipe.micro_batch * kept,
    )


def _latents(recipe: Recipe, network: DktNetwork) -> Tensor:
    """Of the longest clip."""
    height, width = (side // network.spatial_ratio for side in recipe.data.size)
    shape = (1, network.latent_channels, max(recipe.latent_frames), height, width)
    return torch.empty(shape, device="meta")


def _counts(recipe: Recipe, network: DktNetwork, bf16: bool) -> tuple[int, int, int, int]:
    """Of a short network: its weights, those that learn, adapters' own; bytes that it keeps.

    The last for the backward pass of one sample.
    """
    parameters = sum(p.numel() for p in network.transformer.parameters())
    chosen = prepare(network, replace(recipe, gradient_checkpointing=False))
    learn = sum(p.numel() for p in chosen.values())
    named = network.transformer.named_parameters()
    adapters = sum(p.numel() for name, p in named if "lora_" in name)
    if bf16:  # autocast computes with bfloat16 copies
        for parameter in network.transformer.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        network.dtype = torch.bfloat16
        # Else what comes of the context would be float32, and with it all that follows.
        network.prompt_embeds = network.prompt_embeds.to(torch.bfloat16)
        if network.clip_features is not None:
            network.clip_features = network.clip_features.to(torch.bfloat16)
    own = {StorageWeakRef(p.untyped_storage()).cdata for p in network.transformer.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}
    x = _latents(recipe, network)
    tokens = x[0, 0].numel() // 4

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Attention counts as a fused kernel, which keeps no matrix of weights.
        place = StorageWeakRef(storage).cdata
        if tensor.shape[-2:] != (tokens, tokens) and place not in own:
            kept[place] = storage
        return tensor

    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        network.velocity(x, x, 500.0)  # input channels are as many, whatever is shown
    return parameters, learn, adapters, sum(storage.nbytes() for storage in kept.values())
