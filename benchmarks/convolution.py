"""The VAE's causal convolutions, 3-D against 2-D over stacked frames: time, memory and error.

    python benchmarks/convolution.py [--device cuda] [--output F.json]

Four frames after two cached ones, as every chunk of a stream but the first. Error is that of the
computing type, relative to the same convolution in float64 on the CPU, on a part of the image small
enough for that. `3-D last` keeps its tensors channels_last_3d.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.device import Machine, peak_memory, synchronise  # noqa: E402
from benchmarks.program import script  # noqa: E402
from dkt_ros.arguments import DTYPES  # noqa: E402
from dkt_ros.model.conv import StackedCausalConv3d  # noqa: E402
from dkt_ros.model.torch_backend import arrange  # noqa: E402

FULL_SIZE = ((96, 480, 832), (192, 240, 416), (384, 120, 208), (384, 60, 104))
"""Channels, height, width of the stages of the published VAE at 832x480."""
SMALL = ((8, 96, 160), (16, 48, 80), (32, 24, 40))
CROP = 24
KINDS = ("3-D", "3-D last", "stacked")


@dataclass(frozen=True)
class Row:
    """Milliseconds a call, MiB beyond the tensors given, largest error over the largest value."""

    kind: str
    channels: int
    height: int
    width: int
    ms: float
    mib: float | None
    error: float


def layer(kind: str, channels: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A causal 3x3x3 convolution of one kind; its weights are the same for all kinds."""
    torch.manual_seed(channels)
    conv = WanCausalConv3d(channels, channels, 3, padding=1).to(device, dtype)
    conv.requires_grad_(False)
    if kind == "stacked":
        arrange(nn.ModuleList([conv]))
        assert isinstance(conv, StackedCausalConv3d)
    if kind == "3-D last":
        conv.to(memory_format=torch.channels_last_3d)
    return conv


def frames(kind: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normal values (1, C, T, H, W), laid out as the kind has them between two layers."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    if kind == "3-D":
        return values
    return values.contiguous(memory_format=torch.channels_last_3d)


def milliseconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median of a call."""
    times = []
    for _ in range(repeats + 3):
        synchronise(device)
        start = time.perf_counter()
        function()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[3:])[repeats // 2]


@torch.inference_mode()
def measure(
    kind: str,
    size: tuple[int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    repeats: int,
) -> Row:
    """One row."""
    channels, height, width = size
    conv = layer(kind, channels, device, dtype)
    given = frames(kind, (1, channels, 6, height, width), device, dtype)
    before, x = given[:, :, :2], given[:, :, 2:]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
    ms = milliseconds(lambda: conv(x, before), device, repeats)
    mib = peak_memory(device) - start / 2**20 if device.type == "cuda" else None
    # Its own corner: the borders right and below are computed by neither.
    corner = given[..., : CROP + 1, : CROP + 1].cpu().double()
    exact = layer("3-D", channels, torch.device("cpu"), torch.float32)
    if dtype != torch.float32:  # the same rounded weights
        exact.to(dtype)
    exact.double()
    truth = exact(corner[:, :, 2:], corner[:, :, :2])[..., :CROP, :CROP]
    ours = conv(x, before)[..., :CROP, :CROP].cpu().double()
    error = float((ours - truth).abs().max() / truth.abs().max())
    return Row(kind, channels, height, width, ms, mib, error)


def main() -> None:
    """Measures and prints the table, and writes it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    rows = [
        measure(kind, size, device, getattr(torch, dtype), args.repeats)
        for size in (FULL_SIZE if on_gpu else SMALL)
        for kind in KINDS
    ]
    print(
        f"{args.device}, {dtype}\n{'kind':10}{'C':>5}{'size':>10}{'ms':>10}{'MiB':>8}{'error':>11}"
    )
    for row in rows:
        mib = "-" if row.mib is None else f"{row.mib:.0f}"
        size = f"{row.width}x{row.height}"
        print(f"{row.kind:10}{row.channels:5}{size:>10}{row.ms:10.2f}{mib:>8}{row.error:11.1e}")
    if args.output:
        content = {**asdict(Machine.here()), "dtype": dtype, "rows": [asdict(row) for row in rows]}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    script(main)
