"""What the engine costs: counted operations at full size, time and memory here.

    python benchmarks/engine.py [--device cuda] [--checkpoint DIR] [--output F.json]

Two tables. Counted: the published network (1.3 billion parameters, 832x480) on the meta device,
TFLOP per frame of a long clip, by torch's counter. Measured: a checkpoint at its training size, or
with --full-size one of random weights at 832x480; ms per new frame, latency of the newest frame,
peak memory, and the share of the matrix-product rate that the device reaches in the same run.

The plain rows run first, on the network as it is loaded: the later ones change its layout. `plain
sliding` is what the plain sampler costs a live user: a clip of the newest 5 frames for every
new frame. `plain` and `exact` are the mean over a clip of --frames frames. CPU ms is the processor
time, which other programs on the machine do not lengthen; the ratios below the table are of it.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dkt_ros.model.canvas import Canvas
from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live import LivePredictor
from dkt_ros.model.live_options import PRESETS, LiveOptions
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.predictor import PredictOptions, predict_disparity
from dkt_ros.model.sampler import initial_noise, sample, sigmas

FULL_STEPS = 5
WINDOW, OVERLAP = 21, 3
SLIDING_FRAMES = 5
PROMPT_TOKENS = 3
"""Tokens of the prompt "depth" before its padding; all that the counted cost depends on."""


@dataclass(frozen=True)
class Row:
    """One line: times in milliseconds, memory in MiB, TFLOP per new frame."""

    mode: str
    preset: str
    ms_per_frame: float | None = None
    cpu_ms_per_frame: float | None = None
    latency_ms: float | None = None
    peak_mib: float | None = None
    tflop_per_frame: float | None = None
    share_of_matmul_rate: float | None = None


def full_size(device: str, dtype: torch.dtype) -> DktNetwork:
    """The published network with weights of no meaning."""
    diffusers.utils.logging.set_verbosity_error()  # types of weights that mean nothing
    with torch.device(device):
        transformer = WanTransformer3DModel(
            num_attention_heads=12,
            in_channels=48,
            out_channels=16,
            ffn_dim=8960,
            num_layers=30,
            image_dim=1280,
            added_kv_proj_dim=1536,
        )
        vae = AutoencoderKLWan()
    info = CheckpointInfo(name="dkt-1.3b (random)", steps=FULL_STEPS)
    prompt = torch.randn(PROMPT_TOKENS, 4096)
    parts = (part.to(dtype).eval().requires_grad_(False) for part in (transformer, vae))
    return DktNetwork(next(parts), next(parts), prompt, info)


def counted(function: Callable[[], object]) -> float:
    """TFLOP of a call; attention as plain products, so that every kernel counts alike."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        counter = FlopCounterMode(display=False)
        with counter:
            function()
    return counter.get_total_flops() / 1e12


def count_full_size() -> list[Row]:
    """Steady state per frame of a long clip at 832x480, without the first chunk."""
    network = full_size("meta", torch.bfloat16)
    prompt = torch.randn(1, 512, 4096).masked_fill(torch.arange(512)[:, None] >= PROMPT_TOKENS, 0)
    latent = torch.empty(1, 16, 1, 60, 104, device="meta")
    clip = torch.empty(1, 3, 5, 480, 832, device="meta")
    one = clip[:, :, :1]

    def transformer(frames: int) -> float:
        x = latent.expand(-1, -1, frames, -1, -1)
        return counted(lambda: network.velocity(x, x, 500.0))

    # Before the fast form lays the VAE out anew.
    plain_vae = (
        counted(lambda: network.encode_rgb(clip))
        - counted(lambda: network.encode_rgb(one))
        + counted(lambda: network.decode(latent.expand(-1, -1, 2, -1, -1)))
        - counted(lambda: network.decode(latent))
    ) / 4
    stride = 4 * (WINDOW - OVERLAP)
    sliding_vae = counted(lambda: network.encode_rgb(clip)) + counted(
        lambda: network.decode(latent.expand(-1, -1, 2, -1, -1))
    )
    rows = [
        Row("plain", "", tflop_per_frame=FULL_STEPS * transformer(WINDOW) / stride + plain_vae),
        Row(
            "plain sliding",
            f"{SLIDING_FRAMES} frames",
            tflop_per_frame=FULL_STEPS * transformer(2) + sliding_vae,
        ),
    ]
    network.prompt_embeds = prompt  # its distinct tokens are found by value
    fast = FastNetwork(network)
    encoder, decoder = fast.encoder_stream(), fast.decoder_stream()
    encoder.advance(one)
    decoder.advance(latent)
    fast_vae = (
        counted(lambda: encoder.peek(clip[:, :, 1:])) + counted(lambda: decoder.peek(latent))
    ) / 4
    conditions = fast.embed_rgb(latent)

    def step(frames: int, keep: int) -> float:
        noisy = latent.expand(-1, -1, frames, -1, -1)
        tokens = conditions.expand(-1, -1, frames, -1, -1)
        return counted(lambda: fast.velocity(noisy, tokens, 500.0, keep))

    embed = counted(lambda: fast.embed_rgb(latent)) / 4
    exact = FULL_STEPS * step(WINDOW, WINDOW) / stride + fast_vae + embed
    rows.append(Row("exact", "", tflop_per_frame=exact))
    for name, options in PRESETS.items():
        levels = sigmas(options.steps or FULL_STEPS, 5.0).tolist()
        if options.warm_start is not None:
            levels = [s for s in levels if s <= options.warm_start] or levels[-1:]
        window = len(levels) * step(options.window, options.new) / (4 * options.new)
        rows.append(Row("live", name, tflop_per_frame=window + fast_vae + embed))
    return rows


class Bench:
    """Times of one network on one device at one size."""

    def __init__(
        self, network: DktNetwork, size: tuple[int, int], frames: int, repeats: int
    ) -> None:
        self.network = network
        self.repeats = repeats
        self.device = network.device
        rng = np.random.default_rng(0)
        self.rgb = rng.integers(0, 256, (frames, *size, 3), np.uint8)
        self.rate = matmul_rate(self.device, network.dtype)

    def plain(self, rgb: np.ndarray) -> None:
        """The reference's way, stage by stage over the whole clip."""
        info = self.network.info
        canvas = Canvas((rgb.shape[1], rgb.shape[2]), None, self.network.size_multiple)
        with torch.inference_mode():
            latents = self.network.encode_rgb(canvas.paint(rgb))
            result = sample(
                self.network,
                latents,
                initial_noise(tuple(latents.shape), 1),
                steps=info.steps,
                shift=info.sigma_shift,
                window=info.window,
                overlap=info.overlap,
            )
            canvas.disparity(self.network.decode(result))

    def row(self, mode: str, preset: str, run: Callable[[], tuple[int, float]]) -> Row:
        """run() -> new frames, seconds until the newest had its depth since it came."""
        run()
        self._synchronise()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        tries = []
        for _ in range(self.repeats):
            start, busy = time.perf_counter(), time.process_time()
            frames, latency = run()
            wall, busy = time.perf_counter() - start, time.process_time() - busy
            tries.append((wall / frames, busy / frames, latency))
        seconds, busy, latency = (min(values) for values in zip(*tries, strict=True))
        on_cpu = self.device.type == "cpu"
        exact_kernels = sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext()
        with FlopCounterMode(display=False) as counter, exact_kernels:
            run()
        tflop = counter.get_total_flops() / 1e12 / frames
        return Row(
            mode,
            preset,
            1000 * seconds,
            1000 * busy if on_cpu else None,
            1000 * latency,
            peak_memory(self.device),
            tflop,
            tflop / seconds / self.rate,
        )

    def rows(self) -> list[Row]:
        """Plain, exact and every preset."""

        def timed(function: Callable[[], object], frames: int) -> Callable[[], tuple[int, float]]:
            def run() -> tuple[int, float]:
                start = time.perf_counter()
                function()
                self._synchronise()
                return frames, time.perf_counter() - start

            return run

        count, few = len(self.rgb), self.rgb[:SLIDING_FRAMES]
        sliding = f"{SLIDING_FRAMES} frames"
        rows = [
            self.row("plain", "", timed(lambda: self.plain(self.rgb), count)),
            self.row("plain sliding", sliding, timed(lambda: self.plain(few), 1)),
        ]
        exact = timed(lambda: predict_disparity(self.network, self.rgb, PredictOptions()), count)
        rows.append(self.row("exact", "", exact))
        for name, options in PRESETS.items():
            rows.append(self.row("live", name, self._live(options)))
        return rows

    def _live(self, options: LiveOptions) -> Callable[[], tuple[int, float]]:
        live = LivePredictor(self.network, LiveOptions(**(vars(options) | {"scene_cut": None})))
        warm = 1 + 4 * (options.window + options.new)  # until windows have their whole context
        warm += -(warm - 1) % (4 * options.new)
        steady = 4 * options.new
        frames = np.concatenate([self.rgb] * (1 + (warm + steady) // len(self.rgb)))
        for frame in frames[:warm]:
            live.push(frame)

        def run() -> tuple[int, float]:
            latency = 0.0
            for frame in frames[warm : warm + steady]:
                start = time.perf_counter()
                result = live.push(frame)
                self._synchronise()
                latency = time.perf_counter() - start if result is not None else latency
            return steady, latency

        return run

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP per second of a large square product, the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times) / 1e12


def peak_memory(device: torch.device) -> float:
    """MiB: on a GPU since the last reset, on a CPU the process's so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(title: str, rows: list[Row]) -> None:
    """One table."""
    print(f"\n{title}")
    print(
        f"{'mode':15}{'preset':11}{'ms/frame':>10}{'CPU ms':>9}{'latency ms':>12}{'peak MiB':>10}"
        f"{'TFLOP/frame':>13}{'of matmul':>11}"
    )
    for row in rows:
        numbers = (
            (row.ms_per_frame, 10, ".1f"),
            (row.cpu_ms_per_frame, 9, ".1f"),
            (row.latency_ms, 12, ".1f"),
            (row.peak_mib, 10, ".0f"),
            (row.tflop_per_frame, 13, ".4g"),
            (row.share_of_matmul_rate, 11, ".0%"),
        )
        cells = "".join(
            f"{'-':>{width}}" if value is None else f"{value:>{width}{form}}"
            for value, width, form in numbers
        )
        print(f"{row.mode:15}{row.preset:11}{cells}")


def main() -> None:
    """Counts, measures, prints, and writes the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--full-size", action="store_true", help="measure random 1.3B weights")
    parser.add_argument(
        "--reference",
        action="store_true",
        help="plain rows with diffusers' own layers (3-D convolutions, the whole context)",
    )
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--repeats", type=int, default=3, help="of which the best counts")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--count-only", action="store_true", help="leave the measurements out")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    count = count_full_size()
    show("Counted: 1.3B at 832x480", count)
    measured: list[Row] = []
    name = ""
    if not args.count_only:
        dtype = args.dtype or ("bfloat16" if args.device.startswith("cuda") else "float32")
        if args.full_size:
            network = full_size(args.device, getattr(torch, dtype))
        else:
            path = args.checkpoint or default_checkpoint()
            network = load_checkpoint(path, args.device, dtype, plain=args.reference)
        info = network.info
        layers = ", diffusers' layers" if args.reference or args.full_size else ""
        name = f"{info.name} at {info.width}x{info.height}, {args.device}, {dtype}{layers}"
        measured = Bench(network, (info.height, info.width), args.frames, args.repeats).rows()
        show(f"Measured: {name}", measured)
        ms = {
            (row.mode, row.preset): row.cpu_ms_per_frame or row.ms_per_frame or np.nan
            for row in measured
        }
        for preset in PRESETS:
            live = ms["live", preset]
            ratios = (ms[key] / live for key in (("plain", ""), ("plain sliding", "5 frames")))
            print(f"live {preset}: {next(ratios):.2f}x plain, {next(ratios):.2f}x plain sliding")
    if args.output:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        content = {
            "machine": platform.platform(),
            "gpu": gpu,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "counted": [asdict(row) for row in count],
            "measured": {"what": name, "rows": [asdict(row) for row in measured]},
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
