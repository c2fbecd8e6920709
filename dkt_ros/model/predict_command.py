"""`dkt predict`: flags, the order of the work, and what it prints. Imports no network until run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.errors import DktError
from dkt_ros.model.arguments import DTYPES, native_or_size, natural, positive
from dkt_ros.model.backends import BACKENDS, Request
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import PRESETS, PUBLISH, LiveOptions

if TYPE_CHECKING:
    import numpy as np

    from dkt_ros.model.network import DktNetwork
    from dkt_ros.model.predictor import PredictOptions
    from dkt_ros.model.streaming_network import StreamingNetwork


def add_predict(subparsers: Any) -> None:
    """Adds `dkt predict`."""
    parser = subparsers.add_parser(
        "predict",
        help="relative disparity of a video",
        description="Writes the relative disparity of a video, near = large. Defaults marked * "
        "come from the checkpoint.",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="default: dkt-nano, inside the package"
    )
    parser.add_argument(
        "--input",
        required=True,
        type=Path,
        metavar="PATH",
        help="a video, an image, a folder of images, or an .npz with rgb uint8 (T,H,W,3)",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help=".npz that gets disparity, float32 (T,H,W) in [0,1], NaN in frames without depth",
    )
    parser.add_argument(
        "--mode",
        choices=("exact", "live"),
        default="exact",
        help="the sampler: exact sees the whole clip, live is what a node in mode live makes of "
        "its frames one by one (exact)",
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="sampling steps (5*)")
    parser.add_argument(
        "--window", type=positive, metavar="N", help="exact: latent frames per window (21*)"
    )
    parser.add_argument(
        "--overlap",
        type=natural,
        metavar="N",
        help="exact: latent frames two windows share (3*, less where the window is small)",
    )
    parser.add_argument("--preset", choices=tuple(PRESETS), help="live: its windows (balanced)")
    parser.add_argument(
        "--publish",
        choices=PUBLISH,
        help="live: depth of every frame, or only each time a window is full (all)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the noise (1)")
    parser.add_argument(
        "--size",
        type=native_or_size,
        default="native",
        metavar="native|HxW",
        help="size the network works at, rounded to multiples of 16 (native; an engine's own)",
    )
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of torch (float32)")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="(torch)")
    parser.add_argument(
        "--engine", type=Path, metavar="DIR", help="of `dkt engine build`, for other backends"
    )
    parser.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> int:
    """Runs `dkt predict`; returns 0."""
    import numpy as np
    import torch

    from dkt_ros.model.backends import load_network
    from dkt_ros.model.canvas import working_size
    from dkt_ros.model.checkpoint import checked_folder, default_checkpoint
    from dkt_ros.model.fast_network import fast_network
    from dkt_ros.model.video import read_clip

    options = _exact_options(args) if args.mode == "exact" else _live_options(args)
    _check_output(args.output)
    checkpoint = args.checkpoint or default_checkpoint()
    info = CheckpointInfo.read(checked_folder(checkpoint))
    if info.task != "depth":
        raise DktError(
            f"checkpoint {info.name} predicts {info.task}s, no disparity; take a depth checkpoint"
        )
    rgb = read_clip(args.input)
    progress = _Progress()
    request = _request(args, checkpoint, options, info, len(rgb))
    network = load_network(request, progress).network
    options = replace(options, size=args.size or fast_network(network).fixed_size)
    height, width = working_size((rgb.shape[1], rgb.shape[2]), options.size, network.size_multiple)
    print(
        f"{info.name}: {len(rgb)} frames of {rgb.shape[1]}x{rgb.shape[2]}, worked on at "
        f"{height}x{width} (trained at {info.height}x{info.width})",
        file=sys.stderr,
    )
    try:
        disparity = _predict(network, rgb, options, progress)
    except torch.OutOfMemoryError as error:
        raise DktError(
            f"{args.device} has too little memory for {len(rgb)} frames at {height}x{width}; take "
            "a smaller --size or --window, or --dtype bfloat16"
        ) from error
    finally:
        progress.end()
    try:
        with args.output.open("wb") as file:
            np.savez_compressed(file, disparity=disparity)
    except OSError as error:
        raise DktError(f"output {args.output} cannot be written: {error}") from error
    print(f"disparity {disparity.shape} written to {args.output}")
    return 0


def _exact_options(args: argparse.Namespace) -> PredictOptions:
    from dkt_ros.model.predictor import PredictOptions

    _refuse(args, ("preset", "publish"), "--mode live")
    return PredictOptions(args.steps, args.window, args.overlap, args.seed, args.size)


def _live_options(args: argparse.Namespace) -> LiveOptions:
    _refuse(args, ("window", "overlap"), "--mode exact")
    return LiveOptions.preset(
        args.preset or "balanced",
        steps=args.steps,
        publish=args.publish or "all",
        seed=args.seed,
        size=args.size,
    )


def _refuse(args: argparse.Namespace, names: tuple[str, ...], belongs: str) -> None:
    given = [f"--{name}" for name in names if getattr(args, name) is not None]
    if given:
        raise DktError(f"{' and '.join(given)}: only with {belongs}")


def _check_output(output: Path) -> None:
    if output.suffix != ".npz":
        raise DktError(f"output {output} does not end in .npz")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise DktError(f"output {output} cannot be written: no such folder, or a folder itself")


def _request(
    args: argparse.Namespace,
    checkpoint: Path,
    options: PredictOptions | LiveOptions,
    info: CheckpointInfo,
    frames: int,
) -> Request:
    from dkt_ros.model.engine.windows import exact_windows, live_windows

    flags: tuple[str, ...]
    if isinstance(options, LiveOptions):
        windows = live_windows(options)
        flags = ("--preset", args.preset or "balanced", "--publish", options.publish)
    else:
        window = info.window if options.window is None else options.window
        overlap = info.overlap if options.overlap is None else options.overlap
        windows = exact_windows([frames], window, overlap)
        # By the windows' lengths, for a build cuts clips by the checkpoint's own window.
        lengths = (str(4 * length - 3) for length, _ in windows)
        flags = ("--preset", "exact", "--frames", *lengths)
    return Request(
        checkpoint=checkpoint,
        device=args.device,
        dtype=args.dtype,
        windows=windows,
        steps=args.steps,
        size=args.size,
        backend=args.backend,
        engine=args.engine,
        build_flags=flags,
    )


def _predict(
    network: DktNetwork | StreamingNetwork,
    rgb: np.ndarray,
    options: PredictOptions | LiveOptions,
    on_progress: Callable[[str, int, int], None],
) -> np.ndarray:
    """Disparity (T, H, W); NaN in frames for which a live stream has none."""
    import numpy as np

    if not isinstance(options, LiveOptions):
        from dkt_ros.model.predictor import predict_disparity

        return predict_disparity(network, rgb, options, on_progress)
    from dkt_ros.model.live import LivePredictor

    live = LivePredictor(network, options)
    disparity = np.full(rgb.shape[:3], np.nan, np.float32)
    for index, frame in enumerate(rgb):
        on_progress("live", index, len(rgb))
        result = live.push(frame)
        if result is not None:
            disparity[index] = result.disparity
    on_progress("live", len(rgb), len(rgb))
    return disparity


class _Progress:
    """One line on stderr, rewritten on a terminal, and a line per stage elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()

    def __call__(self, stage: str, done: int, total: int) -> None:
        line = f"{stage} {done}/{total}, {time.monotonic() - self._start:.1f} s"
        if self._live:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif done == total:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line behind."""
        if self._live:
            print(file=sys.stderr)
