"""`dkt eval`: the command line of the evaluation room. Knows arguments and the printed table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.errors import DktError

if TYPE_CHECKING:
    from dkt_ros.evaluation.metrics import DepthErrors


def add_commands(subparsers: Any) -> None:
    """Adds `dkt eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="errors of a checkpoint and of the baselines on rendered sequences",
        description="Depth errors per region (all, transparent, reflective, rest), of a checkpoint "
        "aligned per video to the truth, as papers do, or online to the raw depth, as a robot "
        "does, and of completions of the raw depth that need no network.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of tars")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="default: the embedded dkt-nano"
    )
    parser.add_argument(
        "--align", choices=("video", "online", "both"), default="both", help="default: both"
    )
    parser.add_argument("--steps", type=int, help="sampler steps (default: the checkpoint's)")
    parser.add_argument(
        "--size",
        default="auto",
        metavar="auto|native|HxW",
        help="size the network works at; auto: the area it was trained at (default)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the noise (default 1)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument(
        "--range",
        type=float,
        nargs=2,
        default=(0.1, 10.0),
        metavar=("MIN", "MAX"),
        help="depths that count, metres (default 0.1 10)",
    )
    parser.add_argument("--output", type=Path, metavar="F.json", help="also write all figures here")
    parser.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> int:
    """Evaluates, prints the table, writes the JSON."""
    import numpy as np

    from dkt_ros.evaluation.evaluate import ALIGNMENTS, evaluate_video, load_videos, summarise
    from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from dkt_ros.model.predictor import PredictOptions, predict_disparity

    low, high = args.range
    if not 0 < low < high:
        raise DktError(f"--range is {low} {high}, expected 0 < MIN < MAX metres")
    network = load_checkpoint(args.checkpoint or default_checkpoint(), args.device, args.dtype)
    area = network.info.height * network.info.width
    alignments = ALIGNMENTS if args.align == "both" else (args.align,)

    def predict(rgb: np.ndarray, /) -> np.ndarray:
        size = working_size(args.size, (rgb.shape[1], rgb.shape[2]), area)
        return predict_disparity(
            network, rgb, PredictOptions(args.steps, seed=args.seed, size=size)
        )

    results = []
    for video in load_videos(args.data):
        wanted = [a for a in alignments if a == "video" or video.raw is not None]
        if args.align == "online" and not wanted:
            raise DktError(f"{video.name} has no raw depth to align to; use --align video")
        results += evaluate_video(video, predict, wanted, (low, high))
        print(f"{video.name} done", flush=True)
    summary = summarise(results)
    print(f"\n{network.info.name}, {len({r.video for r in results})} videos of {args.data}")
    print(format_table(summary))
    if args.output is not None:
        write_json(args.output, results, summary, network.info.name, vars(args))
    return 0


def working_size(text: str, native: tuple[int, int], area: int) -> tuple[int, int] | None:
    """(height, width) for --size; auto keeps the aspect ratio, never enlarges; None is native."""
    if text == "native":
        return None
    if text == "auto":
        from dkt_ros.model.canvas import fit_area

        return fit_area(*native, area)
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise DktError(f"--size is {text!r}, expected auto, native or HxW such as 192x320")
    return int(parts[0]), int(parts[1])


def format_table(summary: Mapping[str, Mapping[str, DepthErrors]]) -> str:
    """One block per region: REL %, RMSE cm, delta %, and the share of pixels with a prediction."""
    lines = []
    for region in next(iter(summary.values())):
        header = ("REL %", "RMSE cm", "d1.05 %", "d1.10 %", "d1.25 %", "covered %")
        lines.append(f"{region:<16}" + "".join(f"{title:>11}" for title in header))
        for method, regions in summary.items():
            values = list(vars(regions[region]).values())
            cells = "".join(
                f"{'-':>11}" if math.isnan(value) else f"{100 * value:>11.2f}" for value in values
            )
            lines.append(f"  {method:<14}{cells}")
        lines.append("")
    return "\n".join(lines)


def write_json(
    path: Path, results: Any, summary: Any, checkpoint: str, arguments: Mapping[str, Any]
) -> None:
    """Every figure, per video and in the mean; NaN becomes null."""

    def plain(errors: DepthErrors) -> dict[str, float | None]:
        values = dataclasses.asdict(errors)
        return {name: None if math.isnan(value) else value for name, value in values.items()}

    def regions(errors: Mapping[str, DepthErrors]) -> dict[str, Any]:
        return {region: plain(e) for region, e in errors.items()}

    content = {
        "checkpoint": checkpoint,
        "arguments": {k: str(v) for k, v in arguments.items() if k != "run"},
        "mean": {method: regions(e) for method, e in summary.items()},
        "videos": [
            {"method": r.method, "video": r.video, "errors": regions(r.errors)} for r in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
