"""What the engine costs: counted operations at full size, time and memory here, in one table each.

    python benchmarks/engine.py [--checkpoint DIR] [--output F.json]
    python benchmarks/engine.py --full-size --device cuda --reference DIR --output F.json
    python benchmarks/engine.py --checkpoint DIR --device cuda --backend tensorrt --engine DIR

Counted: the published network (1.3 billion parameters, 832x480) on the meta device, TFLOP per frame
of a long clip, by torch's counter. Measured: a checkpoint at its training size, or with --full-size
one of random weights at 832x480; ms per new frame, latency of the newest frame, peak memory, and
the share of the matrix-product rate that the device reaches in the same run.

`reference` is the public code, a copy of which --reference names (see reference.py). `plain` is
this project's plain sampler, which takes the same way with the layers of diffusers: what to compare
with where there is no copy. `plain sliding` is what it costs a live user: a clip of the newest 5
frames for every new frame. `reference`, `plain` and `exact` are the mean over a clip of --frames
frames; the network's layers change between `plain` and `exact`, so that rows run in the table's
order. `to depth` is the live preset `balanced` from the camera's image to metric depth in the
host's memory, alignment included; what crosses to and from the device is printed with it. CPU ms is
the processor time, which other programs on the machine do not lengthen.

Peak memory on a GPU is what torch allocated for the row, the network included; TensorRT's own, the
weights of its plans above all, is not in it. An engine's rows take the operations of torch's, whose
sampler they share.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "test")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from fixtures.transfers import Transfers  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.counts import (  # noqa: E402
    LIVE,
    SLIDING_FRAMES,
    Counts,
    count,
    full_size,
    without_weights,
)
from benchmarks.device import Machine, matmul_rate, peak_memory, synchronise  # noqa: E402
from benchmarks.program import script  # noqa: E402
from benchmarks.reference import Reference, published_transformer  # noqa: E402
from dkt_ros.arguments import DTYPES  # noqa: E402
from dkt_ros.arrays import to_host  # noqa: E402
from dkt_ros.errors import DktError  # noqa: E402
from dkt_ros.estimator import DepthEstimator  # noqa: E402
from dkt_ros.frames import Frame, frames_of  # noqa: E402
from dkt_ros.model.backends import BACKENDS  # noqa: E402
from dkt_ros.model.canvas import Canvas  # noqa: E402
from dkt_ros.model.checkpoint import checked_folder, default_checkpoint, load_checkpoint  # noqa: E402
from dkt_ros.model.fast_network import FastNetwork  # noqa: E402
from dkt_ros.model.network import DktNetwork  # noqa: E402
from dkt_ros.model.sampler import initial_noise, sample  # noqa: E402
from dkt_ros.predict.clip import predict_disparity  # noqa: E402
from dkt_ros.predict.dkt import DktPredictor  # noqa: E402
from dkt_ros.predict.load import load_predictor  # noqa: E402
from dkt_ros.predict.options import PredictorOptions  # noqa: E402
from dkt_ros.predict.predictor import Predictor  # noqa: E402
from dkt_ros.predict.stream import StreamPredictor  # noqa: E402

FRAME_S = 1 / 30
WARM_UPS = 3
"""Calls on a GPU before the first that is timed: compiling, recording, and one as all that follow.

One is enough for what is neither compiled nor recorded, and on a CPU.
"""
AS_THEY_ARE = ("reference", "plain", "plain sliding")
Run = Callable[[], tuple[int, float]]
"""-> new frames, seconds until the newest had its depth since it came."""


@dataclass(frozen=True)
class Row:
    """One line: times in milliseconds, memory in MiB, TFLOP per new frame."""

    mode: str
    preset: str
    backend: str = "torch"
    ms_per_frame: float | None = None
    cpu_ms_per_frame: float | None = None
    latency_ms: float | None = None
    peak_mib: float | None = None
    tflop_per_frame: float | None = None
    share_of_matmul_rate: float | None = None


class Bench:
    """Times on one device at one size."""

    def __init__(
        self, device: torch.device, dtype: torch.dtype, rgb: np.ndarray, repeats: int
    ) -> None:
        """rgb: the clip (T, H, W, 3)."""
        self.device, self.rgb, self.repeats = device, rgb, repeats
        self.rate = matmul_rate(device, dtype)
        self.counts: Counts = {}
        self.rows: list[Row] = []
        self.crossings: dict[str, Any] = {}

    def measure(self, mode: str, preset: str, run: Run, backend: str = "torch") -> None:
        """Adds a row. Without a count of its operations they are counted where that is possible."""
        on_cpu = self.device.type == "cpu"
        if not on_cpu:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        for _ in range(1 if on_cpu or mode in AS_THEY_ARE else WARM_UPS):
            run()
        tries = []
        for _ in range(self.repeats):
            start, busy = time.perf_counter(), time.process_time()
            frames, latency = run()
            wall, busy = time.perf_counter() - start, time.process_time() - busy
            tries.append((wall / frames, busy / frames, latency))
        seconds, busy, latency = (min(values) for values in zip(*tries, strict=True))
        peak = peak_memory(self.device)
        if on_cpu and backend == "torch" and mode != "to depth":
            self.counts[mode, preset] = _counted(run)
        tflop = self.counts.get((mode, preset))
        row = Row(
            mode,
            preset,
            backend,
            1000 * seconds,
            1000 * busy if on_cpu else None,
            1000 * latency,
            peak,
            tflop,
            None if tflop is None else tflop / seconds / self.rate,
        )
        self.rows.append(row)
        print(f"  {mode} {preset} {backend}: {row.ms_per_frame:.1f} ms a frame", flush=True)

    def on_clip(
        self, mode: str, compute: Callable[[np.ndarray], object], backend: str = "torch"
    ) -> None:
        """A row of something that takes a whole clip."""
        self.measure(mode, "", self._timed(lambda: compute(self.rgb), len(self.rgb)), backend)

    def plain(self, network: DktNetwork) -> None:
        """The plain sampler's rows."""
        self.on_clip("plain", lambda rgb: _plain(network, rgb))
        few = self.rgb[:SLIDING_FRAMES]
        sliding = f"{SLIDING_FRAMES} frames"
        self.measure("plain sliding", sliding, self._timed(lambda: _plain(network, few), 1))

    def live(self, predictor: Predictor, name: str, backend: str = "torch") -> None:
        """The row of one preset: disparity in the host's memory."""

        def push(frame: Frame) -> object:
            answer = predictor.push(frame)
            return None if answer is None else to_host(answer.disparity)

        self.measure("live", name, self._steady(predictor.proof_frames, LIVE[name], push), backend)

    def to_depth(self, predictor: Predictor, name: str) -> None:
        """The row from image to metric depth, and what crosses between host and device for it."""
        estimator = DepthEstimator(predictor)
        run = self._steady(predictor.proof_frames, LIVE[name], estimator.push)
        self.counts["to depth", name] = self.counts.get(("live", name), float("nan"))
        self.measure("to depth", name, run)
        if self.device.type == "cpu":
            return
        with Transfers() as transfers:
            frames, _ = run()
        crossings = asdict(transfers.crossings)
        self.crossings = {"frames": frames, **crossings}
        for way in ("uploads", "downloads"):
            sizes = crossings[way]
            print(f"  {frames} frames: {len(sizes)} {way}, {sum(sizes) / 1e6:.2f} MB")

    def _steady(self, warm: int, options: PredictorOptions, push: Callable[[Frame], object]) -> Run:
        """One window's frames, once windows have their whole context after `warm` frames."""
        height, width = self.rgb.shape[1:3]
        raw = np.repeat(np.linspace(0.5, 2.0, height, dtype=np.float32)[:, None], width, axis=1)
        frames = frames_of(((rgb, raw) for rgb in itertools.cycle(self.rgb)), period_s=FRAME_S)
        for frame in itertools.islice(frames, warm):
            push(frame)
        steady = 4 * options.live.new

        def run() -> tuple[int, float]:
            latency = 0.0
            for frame in itertools.islice(frames, steady):
                start = time.perf_counter()
                result = push(frame)
                synchronise(self.device)
                latency = time.perf_counter() - start if result is not None else latency
            return steady, latency

        return run

    def _timed(self, function: Callable[[], object], frames: int) -> Run:
        def run() -> tuple[int, float]:
            start = time.perf_counter()
            function()
            synchronise(self.device)
            return frames, time.perf_counter() - start

        return run


def _plain(network: DktNetwork, rgb: np.ndarray) -> None:
    """The reference's way, stage by stage over the whole clip."""
    info = network.info
    canvas = Canvas((rgb.shape[1], rgb.shape[2]), None, network.size_multiple)
    with torch.inference_mode():
        latents = network.encode_rgb(canvas.paint(rgb))
        result = sample(
            network,
            latents,
            initial_noise(tuple(latents.shape), 1),
            steps=info.steps,
            shift=info.sigma_shift,
            window=info.window,
            overlap=info.overlap,
        )
        canvas.disparity(network.decode(result))


def _counted(run: Run) -> float:
    """TFLOP per frame, of what torch computes eagerly on a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        frames, _ = run()
    return counter.get_total_flops() / 1e12 / frames


def show(title: str, rows: list[Row]) -> None:
    """One table."""
    print(f"\n{title}")
    print(
        f"{'mode':15}{'backend':12}{'preset':11}{'ms/frame':>10}{'CPU ms':>9}{'latency ms':>12}"
        f"{'peak MiB':>10}{'TFLOP/frame':>13}{'of matmul':>11}"
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
        print(f"{row.mode:15}{row.backend:12}{row.preset:11}{cells}")


def show_ratios(rows: list[Row]) -> None:
    """How many times as fast as the plain ways, and as the reference, exact and live are."""
    ms = {(row.mode, row.preset, row.backend): row for row in rows}
    for row in rows:
        if row.mode not in ("exact", "live"):
            continue
        ratios = []
        for name, key in (
            ("reference", ("reference", "", "torch")),
            ("plain", ("plain", "", "torch")),
            ("plain sliding", ("plain sliding", f"{SLIDING_FRAMES} frames", "torch")),
        ):
            if key in ms:
                theirs, ours = (one.cpu_ms_per_frame or one.ms_per_frame for one in (ms[key], row))
                ratios.append(f"{(theirs or np.nan) / (ours or np.nan):.2f}x {name}")
        print(f"{row.mode} {row.preset} {row.backend}: {', '.join(ratios)}")


def measure_torch(args: argparse.Namespace, dtype: str) -> tuple[Bench, str]:
    """The rows of the reference and of torch; what was measured, in words."""
    device = torch.device(args.device)
    kind = getattr(torch, dtype)
    if args.full_size:
        network = full_size("meta", kind)
    else:
        path = args.checkpoint or default_checkpoint()
        network = load_checkpoint(path, args.device, dtype, plain=args.plain_layers)
    info = network.info
    size = (info.height, info.width)
    rgb = np.random.default_rng(0).integers(0, 256, (args.frames, *size, 3), np.uint8)
    bench = Bench(device, kind, rgb, args.repeats)
    if device.type != "cpu":  # compiled and recorded functions hide what they compute
        bench.counts = count(without_weights(network), size, args.frames)
    if args.reference:
        if not args.full_size:
            raise SystemExit("--reference is the published network: it needs --full-size")
        reference = Reference(args.reference, device, kind, info, published_transformer())
        bench.counts["reference", ""] = bench.counts.get(("plain", ""), float("nan"))
        bench.on_clip("reference", reference)
        del reference
    if args.full_size:
        network = full_size(args.device, kind)
    bench.plain(network)
    fast = FastNetwork(network)
    bench.on_clip("exact", lambda clip: predict_disparity(fast, clip))
    for name in args.live:
        bench.live(StreamPredictor(fast, LIVE[name]), name)
    if "balanced" in args.live:
        bench.to_depth(StreamPredictor(fast, LIVE["balanced"]), "balanced")
    layers = ", diffusers' layers" if args.plain_layers or args.full_size else ""
    return bench, f"{info.name} at {info.width}x{info.height}, {args.device}, {dtype}{layers}"


def measure_engine(bench: Bench, args: argparse.Namespace) -> None:
    """The rows of an engine: of every mode and preset that it was built for."""
    height, width = bench.rgb.shape[1:3]

    def load(mode: str, name: str, options: PredictorOptions) -> DktPredictor | None:
        chosen = replace(
            options,
            checkpoint=args.checkpoint or "",
            device=args.device if args.backend == "tensorrt" else "cpu",
            cpu_threads=args.threads or 0,
            inference_size=f"{height}x{width}",
            backend=args.backend,
            engine_dir=args.engine,
        )
        try:
            found = load_predictor(chosen, video_frames=len(bench.rgb))
        except DktError as error:
            print(f"  {mode} {name} {args.backend}: left out: {error}", flush=True)
            return None
        assert isinstance(found, DktPredictor)
        return found

    exact = load("exact", "", PredictorOptions())
    if exact is not None:
        network = exact.network
        bench.on_clip("exact", lambda clip: predict_disparity(network, clip), args.backend)
    for name in args.live:
        live = load("live", name, LIVE[name])
        if live is not None:
            bench.live(live, name, args.backend)


def main() -> None:
    """Counts, measures, prints, and writes the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--full-size", action="store_true", help="measure random 1.3B weights")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="rows beside torch's")
    parser.add_argument("--engine", type=Path, help="what `dkt engine build` wrote, for --backend")
    parser.add_argument("--reference", type=Path, help="copy of the public code, see reference.py")
    parser.add_argument(
        "--plain-layers",
        action="store_true",
        help="plain rows with diffusers' own layers (3-D convolutions, the whole context)",
    )
    parser.add_argument("--live", nargs="*", choices=LIVE, default=list(LIVE), help="live rows")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--repeats", type=int, default=3, help="of which the best counts")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--count-only", action="store_true", help="leave the measurements out")
    parser.add_argument("--no-count", action="store_true", help="leave the table of counts out")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.backend != "torch" and (args.engine is None or args.full_size):
        parser.error(f"--backend {args.backend} needs --engine and a --checkpoint")
    if args.checkpoint and not args.count_only:
        checked_folder(args.checkpoint)
    if args.threads:
        torch.set_num_threads(args.threads)
    counted: list[Row] = []
    if not args.no_count:
        found = count(full_size("meta", torch.bfloat16), (480, 832))
        counted = [Row(mode, preset, tflop_per_frame=n) for (mode, preset), n in found.items()]
        show("Counted: 1.3B at 832x480", counted)
    measured: list[Row] = []
    name, crossings = "", {}
    if not args.count_only:
        dtype = args.dtype or ("bfloat16" if args.device.startswith("cuda") else "float32")
        bench, name = measure_torch(args, dtype)
        if args.backend != "torch":
            measure_engine(bench, args)
        measured, crossings = bench.rows, bench.crossings
        show(f"Measured: {name}", measured)
        print(f"matrix products: {bench.rate:.3g} TFLOP/s")
        show_ratios(measured)
    if args.output:
        content = {
            **asdict(Machine.here()),
            "counted": [asdict(row) for row in counted],
            "measured": {
                "what": name,
                "rows": [asdict(row) for row in measured],
                "crossings": crossings,
            },
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    script(main)
