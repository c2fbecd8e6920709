"""TensorRT's plans of a checkpoint: sizes, seconds to build, and how far each is from torch.

    python benchmarks/gpu/tensorrt.py [--checkpoint DIR] [--target sm89] [--output F.json]

On a GPU that TensorRT knows, plans are built for it and run; before that come the tests that need
both. With --target plans are built ahead of time, on any machine, and onnxruntime runs the graphs
in their place. Returns 1 where a test fails or a graph is beyond its precision's tolerance.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.device import Machine
from dkt_ros.arguments import size
from dkt_ros.errors import DktError
from dkt_ros.files import write_whole
from dkt_ros.model.backends import engine_network
from dkt_ros.model.checkpoint import checkpoint_folder
from dkt_ros.model.compiled.build import DTYPES, export_engine, update_plans
from dkt_ros.model.compiled.fp8 import measure
from dkt_ros.model.compiled.manifest import PRECISIONS, GraphSpec, window_lengths
from dkt_ros.model.compiled.request import EngineRequest, checkpoint_fingerprint
from dkt_ros.model.compiled.self_check import TOLERANCE, graph_errors
from dkt_ros.model.compiled.tensorrt_build import BuildOptions, build_plan, building_system
from dkt_ros.model.compiled.tensorrt_module import target_system
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.windows import live_windows

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """One plan. errors: relative RMS of each graph in it, by name, beside torch in float32."""

    precision: str
    system: str
    plan: str
    megabytes: float
    seconds: float
    errors: dict[str, float]


def rows(args: argparse.Namespace, precision: str, folder: Path) -> list[Row]:
    """Exports, builds and runs the graphs of a preset in one precision."""
    info = CheckpointInfo.read(args.checkpoint)
    request = EngineRequest(
        checkpoint=args.checkpoint,
        fingerprint=checkpoint_fingerprint(args.checkpoint),
        size=args.size or (info.height, info.width),
        windows=window_lengths(live_windows(LiveOptions.preset(args.preset))),
        steps=info.steps,
        precision=precision,
    )
    device = "cpu" if args.target else args.device
    largest = None
    if precision == "fp8":
        clip = np.random.default_rng(0).integers(0, 256, (9, *request.size, 3), np.uint8)
        largest = measure(request, clip, torch.device(device), DTYPES["fp8"])
    manifest = export_engine(request, folder, largest_inputs=largest, device=device)
    system = target_system(args.target) if args.target else building_system(args.device)
    options = BuildOptions(targets=tuple(args.target))
    took: dict[str, float] = {}

    def build(graph: Path, plan: Path, profiles: Sequence[GraphSpec]) -> str:
        start = time.monotonic()
        with nullcontext() if args.target else torch.cuda.device(args.device):
            digest = build_plan(graph, plan, profiles, options, lambda *progress: None)
        took[graph.name] = time.monotonic() - start
        return digest

    manifest = update_plans(folder, manifest, system, build, print)
    network = engine_network(
        folder, manifest, manifest.windows, None if args.target else device, widen=True
    )
    errors = dict(graph_errors(network, folder, manifest, manifest.windows))
    return [
        Row(
            precision,
            f"{system.gpu or ''} {system.compute_capability}, TensorRT {system.tensorrt}".strip(),
            f"{Path(file).stem}.plan",
            (folder / file).with_suffix(".plan").stat().st_size / 1e6,
            seconds,
            {graph.name: errors[graph.name] for graph in manifest.sharing(file)},
        )
        for file, seconds in took.items()
    ]


def main() -> int:
    """Tests where there is a GPU, then prints a line for each plan, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--checkpoint", type=checkpoint_folder, default=checkpoint_folder())
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--size", type=size, help="HxW; default: the checkpoint's")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--target", nargs="+", default=[], help="build ahead, such as sm89")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    failed = []
    if not args.target:
        tests = [sys.executable, "-m", "pytest", "test/model/compiled", "-q"]
        if subprocess.run(tests, cwd=ROOT, check=False).returncode:
            failed.append("tests")
    found: list[Row] = []
    for precision in args.precisions:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found += rows(args, precision, Path(folder))
            except DktError as error:  # Turing, for one, has no float32 in TensorRT for RTX
                failed.append(f"{precision}: {error}")
    print(f"{'plan':<24}{'precision':<11}{'MB':>8}{'s':>8}   relative RMS error")
    for row in found:
        errors = ", ".join(f"{name} {error:.1e}" for name, error in row.errors.items())
        print(f"{row.plan:<24}{row.precision:<11}{row.megabytes:8.1f}{row.seconds:8.1f}   {errors}")
        if not max(row.errors.values()) <= TOLERANCE[row.precision]:
            failed.append(f"{row.plan} in {row.precision}")
    if args.output:
        content = {**asdict(Machine.here()), "plans": [asdict(row) for row in found]}
        write_whole(args.output, json.dumps(content, indent=1) + "\n")
    for what in failed:
        print(f"FAILED: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
