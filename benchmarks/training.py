"""What training costs: parameters, operations and bytes at full size, time and memory here.

    python benchmarks/training.py [--full-size] [--checkpoint DIR] [--output F.json]

Counted: the published network (1.3 billion parameters) at 832x480 on the meta device, one sample of
F = 21 images (6 latent frames, the longest of the recipe), by torch's counter; forward and
backward, with gradient checkpointing also the second forward. Bytes held by weights, gradients and
AdamW, and the activations kept for the backward pass, as torch records them (attention as a fused
kernel, which keeps no matrix of weights). Adapters, gradients and moments are float32, the rest
bfloat16; in full fine-tuning the weights are float32 too.

Measured: whole optimiser steps of the trainer on latents that lie in memory, --full-size with
random weights at 832x480 or else a checkpoint at its own size, on the GPU if there is one. Peak
memory is the step's on a GPU; on a CPU the process's so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.counts import full_size
from benchmarks.device import Machine, peak_memory, synchronise
from dkt_ros.model.checkpoint import EMBEDDED
from dkt_ros.model.network import DktNetwork
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.environment import load_network, make_accelerator
from dkt_ros.train.recipe import Recipe, parse_recipe
from dkt_ros.train.trainer import Trainer
from dkt_ros.train.tuning import prepare

SIZE = (480, 832)
LATENT_FRAMES = 6
METHODS: dict[str, dict[str, Any]] = {
    "LoRA 128": {"method": "lora", "lora": {"rank": 128}},
    "LoRA 32": {"method": "lora", "lora": {"rank": 32}},
    "full": {"method": "full"},
}


@dataclass(frozen=True)
class Counted:
    """One method and what it costs. Bytes in GiB; tflop: of one sample, forward and backward.

    kept: activations for the backward pass, of one sample. total: everything but kernels' scratch
    space, the VAE and what the allocator wastes.
    """

    method: str
    gradient_checkpointing: bool
    parameters: int
    learn: int
    weights_gib: float
    gradients_gib: float
    optimizer_gib: float
    kept_gib: float
    total_gib: float
    tflop: float


@dataclass(frozen=True)
class Measured:
    """One method's optimiser steps on this machine."""

    what: str
    method: str
    gradient_checkpointing: bool
    batch: int
    images: int
    height: int
    width: int
    seconds_per_step: float
    samples_per_s: float
    peak_mib: float


def recipe_of(method: str, checkpointing: bool, **values: Any) -> Recipe:
    """The recipe whose cost is asked for."""
    settings = {
        "data": [{"path": "none"}],
        "gradient_checkpointing": checkpointing,
        "batch": 1,
        "latent_frames": [LATENT_FRAMES],
        "optimizer": {"warmup": 0},
    }
    return parse_recipe({**settings, **METHODS[method], **values})


def meta_network(layers: int | None = None) -> DktNetwork:
    """The published network without memory, its context collapsed as the trainer has it."""
    network = full_size("meta", torch.bfloat16)
    # The prompt's distinct tokens are found by value, so it must have some.
    prompt = torch.zeros(1, 512, 4096)
    prompt[:, :3] = torch.randn(3, 4096)
    network.prompt_embeds = prompt
    network.collapse_context()
    network.prompt_embeds = network.prompt_embeds.to("meta", torch.bfloat16)
    if layers is not None:
        network.transformer.blocks = network.transformer.blocks[:layers]
    return network


def sample_shape(network: DktNetwork, frames: int = LATENT_FRAMES) -> tuple[int, ...]:
    """Latents of one clip at full size."""
    ratio = network.spatial_ratio
    return (1, network.latent_channels, frames, SIZE[0] // ratio, SIZE[1] // ratio)


def tflop_of(network: DktNetwork, frames: int = LATENT_FRAMES) -> float:
    """Forward and backward of one sample."""
    x = torch.empty(sample_shape(network, frames), device="meta")
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        network.velocity(x, x, 500.0).sum().backward()
    return counter.get_total_flops() / 1e12


def kept_bytes(layers: int, method: str) -> int:
    """Bytes that a network of so many blocks keeps for the backward pass of one sample."""
    network = meta_network(layers)
    prepare(network, recipe_of(method, False))
    parameters = list(network.transformer.parameters())
    for parameter in parameters:  # autocast computes with bfloat16 copies
        parameter.data = parameter.data.to(torch.bfloat16)
    own = {parameter.untyped_storage()._cdata for parameter in parameters}
    kept: dict[int, torch.UntypedStorage] = {}
    x = torch.empty(sample_shape(network), device="meta")
    tokens = x[0, 0].numel() // 4

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.shape[-2:] != (tokens, tokens) and storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        network.velocity(x, x, 500.0)
    return sum(storage.nbytes() for storage in kept.values())


def count(method: str) -> list[Counted]:
    """A method without and with gradient checkpointing."""
    one, two = (kept_bytes(layers, method) for layers in (1, 2))
    block, outside = two - one, 2 * one - two
    rows = []
    for checkpointing in (False, True):
        network = meta_network()
        learning = prepare(network, recipe_of(method, checkpointing))
        transformer = network.transformer
        learn = sum(p.numel() for p in learning.values())
        adapters = learn if method != "full" else 0
        parameters = sum(p.numel() for p in transformer.parameters()) - adapters
        layers = len(transformer.blocks)
        shape = sample_shape(network)
        width = transformer.config["num_attention_heads"] * transformer.config["attention_head_dim"]
        hidden = 2 * width * (shape[2] * shape[3] * shape[4] // 4)  # a block's input, bfloat16
        kept = outside + (layers * hidden + block if checkpointing else layers * block)
        weights = 4 * parameters if method == "full" else 2 * parameters + 4 * learn
        rows.append(
            Counted(
                method=method,
                gradient_checkpointing=checkpointing,
                parameters=parameters,
                learn=learn,
                weights_gib=weights / 2**30,
                gradients_gib=4 * learn / 2**30,
                optimizer_gib=8 * learn / 2**30,
                kept_gib=kept / 2**30,
                total_gib=(weights + 12 * learn + kept) / 2**30,
                tflop=tflop_of(network),
            )
        )
    return rows


def encoding_tflop() -> float:
    """The VAE on one sample, RGB and disparity, which the cache saves from the second time on."""
    network = full_size("meta", torch.bfloat16)
    clip = torch.empty(1, 3, 4 * LATENT_FRAMES - 3, *SIZE, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        network.encode_rgb(clip)
    return 2 * counter.get_total_flops() / 1e12


class InMemory:
    """A LatentSource whose every sample is the same."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def batch(self, step: int, indices: Sequence[int], latent_frames: int) -> LatentBatch:
        """Random latents."""
        channels, _, height, width = self.shape[1:]
        size = (len(indices), channels, latent_frames, height, width)
        latents = torch.randn(size, generator=torch.Generator().manual_seed(0))
        return LatentBatch(latents, latents, torch.ones_like(latents[:, :1]))


def measure(method: str, checkpointing: bool, args: argparse.Namespace) -> Measured:
    """Optimiser steps of one method, the first two left out."""
    recipe = recipe_of(
        method, checkpointing, batch=args.batch, micro_batch=args.batch, checkpoint=args.checkpoint
    )
    accelerator = make_accelerator(recipe)
    if args.full_size:
        dtype = torch.float32 if method == "full" else torch.bfloat16
        network, what, size = full_size(str(accelerator.device), dtype), "1.3B, random", SIZE
        network.collapse_context()
    else:
        network = load_network(recipe, accelerator)
        what, size = network.info.name, recipe.data.size
    ratio = network.spatial_ratio
    shape = (1, network.latent_channels, LATENT_FRAMES, size[0] // ratio, size[1] // ratio)
    trainer = Trainer(recipe, network, InMemory(shape), accelerator)
    for _ in range(2):
        trainer.step()
    gc.collect()  # what an earlier method left
    if network.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(network.device)
    synchronise(network.device)
    start = time.perf_counter()
    for _ in range(args.steps):
        trainer.step()
    synchronise(network.device)
    seconds = (time.perf_counter() - start) / args.steps
    return Measured(
        what,
        method,
        checkpointing,
        args.batch,
        4 * LATENT_FRAMES - 3,
        *size,
        seconds,
        args.batch / seconds,
        peak_memory(network.device),
    )


def show(title: str, rows: Sequence[Any]) -> None:
    """One table."""
    names = [field.name for field in dataclasses.fields(rows[0])]
    cells = [[_cell(getattr(row, name)) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    print(f"\n{title}")
    for line in (names, *cells):
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Counts, measures, prints, and writes the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", default=EMBEDDED)
    parser.add_argument("--full-size", action="store_true", help="measure random 1.3B weights")
    parser.add_argument("--batch", type=int, default=1, help="samples of a step, taken at once")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--count-only", action="store_true", help="leave the measurements out")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    counted = [row for method in METHODS for row in count(method)]
    show(f"Counted: 1.3B at {SIZE[1]}x{SIZE[0]}, one sample of 21 images", counted)
    encoding = encoding_tflop()
    print(f"encoding it, RGB and disparity: {encoding:.3g} TFLOP")
    measured = []
    if not args.count_only:
        for method in METHODS:
            for checkpointing in (False, True):
                try:
                    measured.append(measure(method, checkpointing, args))
                except torch.OutOfMemoryError:
                    print(f"{method}, checkpointing {_cell(checkpointing)}: out of memory")
        if measured:
            show("Measured", measured)
    if args.output:
        content = {
            **asdict(Machine.here()),
            "counted": [asdict(row) for row in counted],
            "encoding_tflop": encoding,
            "measured": [asdict(row) for row in measured],
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
