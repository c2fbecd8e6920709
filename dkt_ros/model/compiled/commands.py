"""`dkt engine build` and `dkt engine check`: flags and what they print. Lazy like its siblings."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import finite, path, size
from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import checkpoint_folder
from dkt_ros.model.compiled.manifest import (
    PRECISIONS,
    Manifest,
    System,
    by,
    changed_files,
    plan_whole,
    window_lengths,
)
from dkt_ros.model.compiled.request import (
    EngineRequest,
    checkpoint_fingerprint,
    clip_fingerprint,
    in_words,
    system_differences,
)
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.latent_frames import images_of
from dkt_ros.model.live_options import PRESETS, LiveOptions
from dkt_ros.model.windows import exact_windows, live_windows
from dkt_ros.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from dkt_ros.model.compiled.build import BuildPlan
    from dkt_ros.model.compiled.manifest import GraphSpec

GIB = 2**30
MEMORY_BASE, MEMORY_PER_WEIGHT = 2e9, 6.0
"""Bytes that a build takes, and bytes more for each weight of the checkpoint."""


def add_commands(subparsers: Any) -> None:
    """Adds `dkt engine` and its two subcommands."""
    parser = subparsers.add_parser(
        "engine",
        help="graphs and TensorRT plans of a checkpoint",
        description="A checkpoint as static ONNX graphs and TensorRT plans, for one image size, "
        "one sampler and one GPU.",
    )
    commands = parser.add_subparsers(dest="engine_command", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_check(commands)


def _add_build(commands: Any) -> None:
    parser = commands.add_parser(
        "build",
        help="export graphs and build plans",
        description="Exports the network as ONNX graphs, checks them and builds a TensorRT plan "
        "from each. What is there already and fits is left as it is. Defaults marked * come from "
        "the checkpoint.",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=path,
        metavar="DIR",
        help="checkpoint folder, or dkt-nano",
    )
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="engine folder (NAME-PRESET-PRECISION.engine)"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="bf16", help="type of the plans (bf16)"
    )
    parser.add_argument(
        "--preset",
        choices=(*PRESETS, "exact"),
        default="balanced",
        help="the sampler: one of the live ones, or exact (balanced)",
    )
    parser.add_argument(
        "--publish",
        choices=("latest", "all"),
        help="as the node's live_publish; `all` takes more graphs (latest)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        nargs="+",
        metavar="N",
        help="with --preset exact: images of the clips to come (one whole window*). For a node in "
        "mode exact: every number from 1 to its buffer_frames, by fours, such as 1 5",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="sampling steps (5*)")
    parser.add_argument(
        "--size",
        type=size,
        metavar="HxW",
        help="working size, multiples of 16 (480x832*)",
    )
    parser.add_argument(
        "--calibrate", type=path, metavar="PATH", help="with fp8: a clip to measure activations on"
    )
    parser.add_argument(
        "--onnx-only", action="store_true", help="no plans; needs neither TensorRT nor a GPU"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", default="cuda:0", help="GPU here to build for (cuda:0)")
    where.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="SM",
        help="GPUs to build for ahead of time, such as sm89, on any machine (TensorRT for RTX)",
    )
    parser.add_argument(
        "--workspace", type=finite, metavar="GIB", help="scratch memory TensorRT may take (all)"
    )
    parser.add_argument(
        "--level", type=int, choices=range(6), default=3, help="optimization level (3)"
    )
    parser.set_defaults(run=run_build)


def _add_check(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="say what an engine was made for, whether it fits here and computes right",
        description="Prints what engine.json says and compares it with the files, with this "
        "machine's GPU and TensorRT, and with a checkpoint; then runs every graph on stored inputs "
        "and says how far it is from torch in float32: the plans, where they fit this machine, "
        "otherwise the graphs, by onnxruntime on the CPU, which takes minutes for a large network. "
        "Status 2 if something differs. `dkt eval --backend ... --engine-dir DIR` tells what that "
        "costs in depth.",
    )
    parser.add_argument("engine", type=path, metavar="DIR", help="output of `dkt engine build`")
    parser.add_argument("--checkpoint", type=path, metavar="DIR", help="compare with it too")
    parser.add_argument("--device", default="cuda:0", help="GPU it would run on (cuda:0)")
    parser.add_argument("--no-run", action="store_true", help="compare, and run no graph")
    parser.set_defaults(run=run_check)


def run_build(args: argparse.Namespace) -> int:
    """Runs `dkt engine build`; returns 0."""
    from dkt_ros.model.compiled.build import export_engine, update_graphs, update_plans

    if (args.precision == "fp8") != (args.calibrate is not None):
        raise DktError("--precision fp8 and --calibrate go together, one of them is missing")
    if args.workspace is not None and args.workspace <= 0:
        raise DktError(f"--workspace is {args.workspace}, expected GiB above 0")
    args.checkpoint = checkpoint_folder(args.checkpoint)
    info = CheckpointInfo.read(args.checkpoint)
    name = info.name.replace("/", "-")
    folder = args.output or Path(f"{name}-{args.preset}-{args.precision}.engine")
    progress = _Progress()
    # Asked first: a missing TensorRT is not found out after minutes of exporting.
    plans = None if args.onnx_only else _plan_builder(args, progress)
    request = _request(args, info)
    progress.say(_memory_needed(args.checkpoint))
    clip = _calibration_clip(args)
    if clip is not None:
        request = replace(request, calibration=clip_fingerprint(clip))
    try:
        manifest = update_graphs(
            folder,
            request,
            lambda request, folder: export_engine(
                request,
                folder,
                progress,
                _largest_inputs(clip, request, args.device),
                _torch_device(args.device),
            ),
            report=progress.say,
        )
        if plans is not None:
            manifest = update_plans(folder, manifest, *plans, progress.say)
    except OSError as error:
        raise DktError(f"engine {folder} cannot be made: {error}") from error
    finally:
        progress.end()
    print(f"{_summary(manifest)}: {folder}")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Runs `dkt engine check`; returns 0 where all fits, otherwise 2."""
    manifest = Manifest.read(args.engine)
    wrong = changed_files(args.engine, manifest)
    plans = [graph for graph in manifest.graphs if graph.plan is not None]
    wrong += [
        f"{graph.plan} is missing or is not the file that was built"
        for graph in plans
        if not plan_whole(args.engine, graph)
    ]
    elsewhere = _of_this_machine(manifest, args.device) if plans else []
    if args.checkpoint is not None:
        found = checkpoint_fingerprint(args.checkpoint)
        if found != manifest.checkpoint:
            wrong.append(
                f"it was made from a checkpoint with hash {manifest.checkpoint[:12]}, "
                f"{args.checkpoint} has {found[:12]}"
            )
    print(_summary(manifest))
    print(
        f"windows of {in_words(manifest.windows)} latent frames; {counted(manifest.steps, 'step')}"
    )
    if manifest.system is not None:
        system = manifest.system
        gpu = system.gpu or "GPUs of compute capability"
        print(f"for {gpu} ({system.compute_capability}), TensorRT {system.tensorrt}")
    if not args.no_run and not wrong:
        device = args.device if plans and not elsewhere else None
        wrong += _wrong_graphs(args.engine, manifest, device)
    wrong += elsewhere
    for line in wrong:
        print(f"  differs: {line}")
    if wrong:
        print("build it again with `dkt engine build`, see its --help")
    return 2 if wrong else 0


def _plan_builder(args: argparse.Namespace, progress: _Progress) -> tuple[System, BuildPlan]:
    """What plans are built for, and what builds one (see build.BuildPlan)."""
    import torch

    from dkt_ros.model.checkpoint import parse_device
    from dkt_ros.model.compiled import tensorrt_build as trt
    from dkt_ros.model.compiled.tensorrt_module import target_system

    if args.target:
        system, device = target_system(args.target), None
    else:
        system, device = trt.building_system(args.device), parse_device(args.device)
    options = trt.BuildOptions(
        workspace=None if args.workspace is None else int(args.workspace * GIB),
        level=args.level,
        timing_cache=None if args.target else trt.timing_cache_file(system),
        targets=tuple(args.target),
    )

    def build(graph: Path, plan: Path, profiles: Sequence[GraphSpec]) -> str:
        def report(phase: str, done: int, total: int) -> None:
            progress(f"{plan.name}: {phase}", done, total)

        with nullcontext() if device is None else torch.cuda.device(device):
            return trt.build_plan(graph, plan, profiles, options, report)

    return system, build


def _memory_needed(checkpoint: Path) -> str:
    """What a build is going to take, and what there is, in words."""
    from dkt_ros.model.checkpoint import TRANSFORMER_DIR, VAE_DIR
    from dkt_ros.model.weights import open_weights

    parts = [open_weights(checkpoint / part).shapes for part in (TRANSFORMER_DIR, VAE_DIR)]
    weights = sum(math.prod(shape) for shapes in parts for shape in shapes.values())
    need = (MEMORY_BASE + weights * MEMORY_PER_WEIGHT) / 1e9
    said = f"this takes about {need:.0f} GB of memory"
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        said += f", and {int(free.split()[1]) * 1024 / 1e9:.0f} GB are free"
    return said


def _request(args: argparse.Namespace, info: CheckpointInfo) -> EngineRequest:
    options: tuple[str, ...] = ("--preset", args.preset)
    steps = args.steps
    if args.preset == "exact":
        if args.publish is not None:
            raise DktError("--publish goes with a live --preset: quality, balanced or fast")
        frames = args.frames or [images_of(info.window)]
        if min(frames) < 1:
            raise DktError(f"--frames {min(frames)}: expected at least 1")
        windows = window_lengths(exact_windows(frames, info.window, info.overlap))
        options += ("--frames", *map(str, frames))
    elif args.frames:
        raise DktError("--frames goes with --preset exact")
    else:
        live = LiveOptions.preset(args.preset, publish=args.publish or "latest").within(info.clip)
        windows = window_lengths(live_windows(live))
        steps = live.steps if steps is None else steps
        options += ("--publish", live.publish)
    return EngineRequest(
        checkpoint=args.checkpoint,
        fingerprint=checkpoint_fingerprint(args.checkpoint),
        size=args.size or (info.height, info.width),
        windows=windows,
        steps=info.steps if steps is None else steps,
        precision=args.precision,
        options=options,
    )


def _calibration_clip(args: argparse.Namespace) -> np.ndarray | None:
    if args.calibrate is None:
        return None
    from dkt_ros.formats.clips import read_clip

    return read_clip(args.calibrate)


def _largest_inputs(
    clip: np.ndarray | None, request: EngineRequest, device: str
) -> dict[str, float] | None:
    """What precision fp8 needs; None for the others."""
    if clip is None:
        return None
    import torch

    from dkt_ros.model.compiled.build import DTYPES
    from dkt_ros.model.compiled.fp8 import measure

    return measure(request, clip, torch.device(_torch_device(device)), DTYPES["fp8"])


def _torch_device(device: str) -> str:
    """Where torch computes while an engine is made."""
    import torch

    return device if torch.cuda.is_available() else "cpu"


def _of_this_machine(manifest: Manifest, device: str) -> list[str]:
    from dkt_ros.model.compiled.tensorrt_build import building_system

    try:
        system = building_system(device)
    except DktError as error:
        return [f"its plans cannot run here: {error}"]
    return system_differences(manifest, system)


def _wrong_graphs(folder: Path, manifest: Manifest, device: str | None) -> list[str]:
    """Prints the error of every graph; what is wrong with them, in words.

    device: GPU that the plans run on; None: onnxruntime runs the graphs.
    """
    from dkt_ros.model.backends import engine_network
    from dkt_ros.model.compiled.self_check import TOLERANCE, graph_errors

    try:
        network = engine_network(folder, manifest, manifest.windows, device, widen=True)
        largest, wrong = TOLERANCE[manifest.precision], []
        by_whom = "onnxruntime in float32" if device is None else f"TensorRT on {device}"
        print(f"run by {by_whom}, beside torch in float32 (relative RMS error):")
        for name, error in graph_errors(network, folder, manifest, manifest.windows):
            print(f"  {name:<18}{error:.1e}", flush=True)
            if not error <= largest:
                wrong.append(f"{name} is {error:.2%} from torch in float32, expected {largest:.2%}")
    except DktError as error:
        return [str(error)]
    return wrong


def _summary(manifest: Manifest) -> str:
    plans = len({graph.plan for graph in manifest.graphs} - {None})
    return (
        f"{manifest.info.name} at {by(manifest.size)}, {manifest.precision}: "
        f"{counted(len(manifest.graphs), 'graph')}, {counted(plans, 'plan')}"
    )


class _Progress:
    """One line on stderr, rewritten on a terminal; elsewhere a line per graph or plan."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()
        self._last = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        line = f"{stage} {done}/{total}, {time.monotonic() - self._start:.0f} s"
        if self._live:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif stage.partition(":")[0] != self._last:
            self._last = stage.partition(":")[0]
            print(line, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """A line that stays."""
        print(f"\r\033[K{line}" if self._live else line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line behind."""
        if self._live:
            print(file=sys.stderr)
