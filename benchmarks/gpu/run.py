"""Every measurement that wants a GPU, in one call: tables here, figures in benchmarks/results/.

    python benchmarks/gpu/run.py [--reference DIR] [--tensorrt [DIR --checkpoint DIR]]

Each measurement is a process of its own, so that one that fails, or runs out of memory or time,
does not take the others with it; it writes NAME-GPU.json, which names the GPU and the libraries.
Prints at the end what failed, and returns 1 if anything did. With --device cpu everything runs
small, to try the script itself where there is no GPU.

The most wanted come first. --reference is a copy of the public code (see benchmarks/reference.py),
--tensorrt runs the tests of TensorRT that need a GPU, then dkt-nano's plans in every precision
(tensorrt.py), and with DIR an engine that `dkt engine build` made of --checkpoint on this GPU.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1800


@dataclass(frozen=True)
class Measurement:
    """A script of benchmarks/ and what it is told."""

    script: str
    arguments: list[str] = field(default_factory=list)


def measurements(args: argparse.Namespace) -> dict[str, Measurement]:
    """What to run on the device, by name."""
    on_gpu = args.device != "cpu"
    device = ["--device", args.device]
    small = [] if on_gpu else ["--frames", "9", "--repeats", "1", "--live", "fast"]
    reference = ["--reference", str(args.reference)] if args.reference and on_gpu else []
    full = ["--full-size"] if on_gpu else []
    found = {
        "engine": Measurement("engine.py", [*device, *full, *small, *reference, "--no-count"]),
        "convolution": Measurement("convolution.py", device),
        "training": Measurement("training.py", [*full, "--steps", "5" if on_gpu else "1"]),
        "engine-nano": Measurement("engine.py", [*device, *small, "--no-count"]),
    }
    if args.tensorrt is not None:
        found["tensorrt"] = Measurement("gpu/tensorrt.py", device)
    if args.tensorrt:
        engine = ["--backend", "tensorrt", "--engine", str(args.tensorrt)]
        checkpoint = ["--checkpoint", str(args.checkpoint)]
        found["engine-tensorrt"] = Measurement(
            "engine.py", [*device, *checkpoint, *engine, "--no-count"]
        )
    return found


def run(name: str, measurement: Measurement, device: str, output: Path, limit_s: float) -> str:
    """Runs one; returns why it failed, "" when it did not."""
    # Training is accelerate's, which takes its device from here.
    environment = {**os.environ, "ACCELERATE_TORCH_DEVICE": device}
    script = ROOT / "benchmarks" / measurement.script
    if not script.is_file():
        return f"there is no {script.relative_to(ROOT)}"
    command = [sys.executable, str(script), *measurement.arguments, "--output", str(output)]
    print(f"\n== {name}: {' '.join(command[1:])}", flush=True)
    started = time.monotonic()
    try:
        result = subprocess.run(command, cwd=ROOT, env=environment, timeout=limit_s, check=False)
        status = result.returncode
    except subprocess.TimeoutExpired:
        return f"took longer than {limit_s:.0f} s"
    print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return "" if status == 0 else f"ended with status {status}"


def device_name(device: str) -> str:
    """As part of a file's name: `nvidia-h200`, `cpu`."""
    if device == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def _folder(text: str) -> Path:
    """Absolute: measurements run in the repository's root, wherever this was called."""
    return Path(text).resolve()


def main() -> int:
    """Runs what was asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--reference", type=_folder, help="copy of the public code")
    parser.add_argument(
        "--tensorrt",
        type=_folder,
        nargs="?",
        const=False,
        help="test it; also an engine built here",
    )
    parser.add_argument("--checkpoint", type=_folder, help="what --tensorrt was built from")
    parser.add_argument("--only", nargs="+", help="names of measurements; default: all")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help=f"of each, s ({LIMIT_S})")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    if bool(args.tensorrt) != bool(args.checkpoint):
        parser.error("--tensorrt and --checkpoint go together")
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --device cpu tries the script itself")
    found = measurements(args)
    unknown = set(args.only or ()) - found.keys()
    if unknown:
        parser.error(f"no measurement {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    where = device_name(args.device)
    failed = {}
    for name in args.only or found:
        output = args.results.resolve() / f"{name}-{where}.json"
        if why := run(name, found[name], args.device, output, args.limit):
            failed[name] = why
    for name, why in failed.items():
        print(f"{name} FAILED: {why}")
    print(f"figures in {args.results}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
