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
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.counts import full_size
from benchmarks.device import Machine, peak_memory, synchronise
from benchmarks.program import script
from dkt_ros.model.checkpoint import EMBEDDED, checked_folder
from dkt_ros.model.network import DktNetwork
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.environment import load_network, make_accelerator
from dkt_ros.train.memory import count as count_memory
from dkt_ros.train.memory import on_meta
from dkt_ros.train.recipe import Recipe, parse_recipe
from dkt_ros.train.trainer import Trainer
from dkt_ros.train.tuning import prepare

SIZE = (480, 832)
LATENT_FRAMES = 6
METHODS: dict[str, dict[str, Any]] = {
    "LoRA 128": {"method": "lora", "lora": {"rank": 128}},
    "LoRA 32": {"method": "lora", "lora": {"rank": 32}},
    "LoRA 128, raw depth": {"method": "lora", "lora": {"rank": 128}, "condition": "raw_depth"},
    "full": {"method": "full"},
}


@dataclass(frozen=True)
class Counted:
    """One method and what it costs. Bytes in GiB; tflop: of one sample, forward and backward.

    kept: activations for the backward pass, of one sample. total: everything but kernels' scratch
    space, the VAE and what the allocator wastes.
    """

    method: str
    images: int
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
        "size": list(SIZE),
        "gradient_checkpointing": checkpointing,
        "batch": 1,
        "latent_frames": [LATENT_FRAMES],
        "optimizer": {"warmup": 0},
    }
    return parse_recipe({**settings, **METHODS[method], **values})


def meta_network(layers: int | None = None) -> DktNetwork:
    """The published network without memory, its context collapsed as the trainer has it."""
    return on_meta(full_size("meta", torch.bfloat16), torch.randn(3, 4096), layers)


def tflop_of(network: DktNetwork, recipe: Recipe, frames: int = LATENT_FRAMES) -> float:
    """Forward and backward of one sample, by a network that is prepared for training."""
    height, width = (side // network.spatial_ratio for side in SIZE)
    x = torch.empty(1, network.latent_channels, frames, height, width, device="meta")
    shown = x if recipe.data.condition == "none" else torch.cat([x, x], dim=1)
    network.transformer.patch_embedding.to(network.dtype)  # as autocast does
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        network.velocity(x, shown, 500.0).sum().backward()
    return counter.get_total_flops() / 1e12


def count(method: str, frames: int = LATENT_FRAMES) -> list[Counted]:
    """A method without and with gradient checkpointing."""
    rows = []
    for checkpointing in (False, True):
        recipe = recipe_of(method, checkpointing, latent_frames=[frames])
        memory = count_memory(recipe, meta_network, bf16=True)
        network = meta_network()
        prepare(network, recipe)
        rows.append(
            Counted(
                method=method,
                images=4 * frames - 3,
                gradient_checkpointing=checkpointing,
                parameters=memory.parameters,
                learn=memory.learn,
                weights_gib=memory.weights / 2**30,
                gradients_gib=memory.gradients / 2**30,
                optimizer_gib=memory.optimizer / 2**30,
                kept_gib=memory.kept / 2**30,
                total_gib=memory.total / 2**30,
                tflop=tflop_of(network, recipe, frames),
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
    if not args.full_size and not args.count_only:
        checked_folder(args.checkpoint)
    lengths = {method: [LATENT_FRAMES] for method in METHODS}
    lengths["LoRA 128, raw depth"] = list(range(1, LATENT_FRAMES + 1))
    counted = [row for method in METHODS for n in lengths[method] for row in count(method, n)]
    show(f"Counted: 1.3B at {SIZE[1]}x{SIZE[0]}, one sample", counted)
    encoding = encoding_tflop()
    print(
        f"encoding one of 21 images, RGB and disparity: {encoding:.3g} TFLOP, with raw depth half "
        "as much again"
    )
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
    script(main)
