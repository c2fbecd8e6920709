"""`dkt eval`: its arguments, and the run from data sets to tables. Imports no network until run."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import as_json, finite, natural, path, positive
from dkt_ros.datasets.registry import KINDS
from dkt_ros.errors import DktError
from dkt_ros.files import check_writable
from dkt_ros.fusion.config import add_fusion_arguments, config_of
from dkt_ros.predict.options import add_arguments, options_of
from dkt_ros.progress import progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm

    from dkt_ros.datasets.dataset import Clip
    from dkt_ros.evaluation.predictions import PredictedDepth
    from dkt_ros.evaluation.videos import VideoReader

_ALIGN = ("video", "online", "fused", "kNN", "patches")
MODES = ("exact", "live", "both")
_DEFAULT_MAX_FRAMES = 120
_LINE_S = 10.0


def add_commands(subparsers: Any) -> None:
    """Adds `dkt eval`."""
    parser = subparsers.add_parser(
        "eval",
        help="errors of a checkpoint and of the baselines on any data set",
        description="Errors of depth, flicker (TAE) and normals per region (all, transparent and "
        "reflective objects together and apart, the rest), of checkpoints aligned per video to the "
        "truth, as papers do, online to the raw depth, or fused with it, which is what a robot "
        "has, and of completions of the raw depth that need no network; of fused depth also how "
        "true its confidence is. Averaged over frames, "
        "videos and data sets in turn.",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=path,
        required=True,
        action="append",
        metavar="DIR",
        help="a data set, one split of it or one scene; may be given several times",
    )
    data.add_argument("--kind", choices=KINDS, help="its layout; default: detected")
    data.add_argument("--split", choices=("train", "val", "test"), help="default: all of it")
    data.add_argument(
        "--stride",
        type=positive,
        default=1,
        metavar="N",
        help="look at every Nth frame (default 1)",
    )
    data.add_argument(
        "--max-frames",
        type=natural,
        default=_DEFAULT_MAX_FRAMES,
        metavar="N",
        help="frames looked at per video, which bounds the memory, or pictures per folder; 0: all "
        "(default %(default)s, the length of TransPhy3D's videos)",
    )
    data.add_argument(
        "--range",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="depths that count, metres (default 0.3 1.5 for clearpose, as published, else 0.1 10)",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--align",
        choices=(*_ALIGN, "both", "main", "all"),
        default="main",
        help="both: video and online; main: these and fused (default); all: also kNN and patches, "
        "the online line made local as others do, which takes longer",
    )
    add_arguments(network, checkpoints=True, modes=MODES)
    add_fusion_arguments(network)
    parser.add_argument(
        "--no-normals", action="store_true", help="skip the normals of depth, to save time"
    )
    parser.add_argument(
        "--long-run",
        type=natural,
        default=0,
        metavar="N",
        help="also show each network N frames of every video, one picture repeated and its frames "
        "forth and back, and tell its error at the beginning and at the end: of a stream that "
        "drifts it grows (300 is enough; the curves are in the JSON)",
    )
    others = parser.add_argument_group("depth of other systems")
    others.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a row NAME of depth in files, DIR/VIDEO/FRAME.png (16 bits), .exr, .npz or .npy "
        "(metres; integers are steps), where VIDEO is named as in the results and FRAME as in the "
        "data or by its place from 0; may be given several times",
    )
    others.add_argument(
        "--prediction-unit",
        type=finite,
        default=0.001,
        metavar="M",
        help="metres per step of PNG files and of integers (default %(default)s)",
    )
    parser.add_argument("--output", type=path, metavar="F.json", help="also write all figures here")
    parser.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> int:
    """Evaluates set by set, prints the tables, writes the JSON after each set."""
    import torch

    from dkt_ros.evaluation.evaluate import mean_summary
    from dkt_ros.evaluation.models import ALIGNMENTS, MAIN_ALIGNMENTS
    from dkt_ros.evaluation.networks import load_methods
    from dkt_ros.evaluation.report import (
        describe,
        format_difference,
        format_long_runs,
        format_summary,
        format_videos,
        legend,
        write_json,
    )
    from dkt_ros.evaluation.sets import evaluate_set
    from dkt_ros.evaluation.videos import depth_range_of

    _check(args)
    # All are opened before the first is measured: a wrong folder should not be found hours later.
    readers = _readers(args)
    others = _others(args, [clip for reader in readers for clip in reader.clips])
    modes = MODES[:2] if args.mode == "both" else (args.mode,)
    names, methods = load_methods(
        [options_of(args, checkpoint=path, mode=modes[0]) for path in args.checkpoint or [""]],
        modes,
        {"all": ALIGNMENTS, "main": MAIN_ALIGNMENTS, "both": ALIGNMENTS[:2]}.get(
            args.align, (args.align,)
        ),
        with_normals=not args.no_normals,
        fusion=config_of(args),
    )
    methods = replace(methods, models=[*methods.models, *others], long_run=args.long_run)
    task = "normal" if methods.predict_normals else "depth"
    about = {"checkpoint": ", ".join(names), "task": task, "arguments": as_json(args)}
    print(f"checkpoint {', '.join(names)}, task {task}", flush=True)
    reports = []
    for reader in readers:
        depth_range = args.range or depth_range_of(reader.dataset.kind)
        bar = progress_bar(len(reader.clips), "clip", mininterval=_LINE_S)
        try:
            report = evaluate_set(reader, methods, tuple(depth_range), partial(_show, bar))
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise DktError(
                f"{reader.dataset.root}: too little memory; take a smaller --max-frames or --size, "
                "or --dtype bfloat16"
            ) from error
        finally:
            bar.close()
        reports.append(report)
        parts = [describe(report), format_summary(report.summary), legend(report.summary)]
        parts += [format_difference([report.results], methods.models), format_videos(report)]
        parts.append(format_long_runs(report))
        print("\n" + "\n\n".join(part for part in parts if part), flush=True)
        if args.output is not None:
            write_json(args.output, reports, about, done=len(reports) == len(readers))
    if not any(report.results for report in reports):
        skipped = reports[0].skipped
        why = skipped if skipped.count else "no row has any depth; without raw depth take video"
        raise DktError(f"nothing could be measured with --align {args.align}: {why}")
    if len(reports) > 1:
        total = mean_summary([report.summary for report in reports])
        title = (
            f"mean over {len(reports)} data sets, each counting once; what a set lacks is the mean "
            "of the others"
        )
        results = [report.results for report in reports]
        parts = [title, format_summary(total), format_difference(results, methods.models)]
        print("\n" + "\n\n".join(part for part in parts if part))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raises DktError, or what check_writable does, for what nothing could be measured with."""
    if args.range is not None and not 0 < args.range[0] < args.range[1] < math.inf:
        low, high = args.range
        raise DktError(f"--range is {low:g} {high:g}, expected 0 < MIN < MAX metres")
    if args.output is not None and args.output.is_dir():
        raise DktError(f"--output is the folder {args.output}, expected a file's name")
    if args.output is not None:
        check_writable(args.output, ".json")


def _readers(args: argparse.Namespace) -> list[VideoReader]:
    from dkt_ros.datasets.registry import open_dataset
    from dkt_ros.evaluation.videos import VideoReader

    each: dict[Path, Path] = {}
    for folder in args.data:
        if (first := each.setdefault(folder.resolve(), folder)) is not folder:
            print(f"note: --data {folder} is {first} again and counts once", file=sys.stderr)
    datasets = [open_dataset(folder, args.kind) for folder in each.values()]
    for dataset in datasets:
        if args.split is None and len(dataset.splits) > 1 and "train" in dataset.splits:
            print(
                f"note: {dataset.root}: its {' and '.join(dataset.splits)} data are measured "
                "together, and networks may have learned from train; --split takes one",
                file=sys.stderr,
            )
    return [
        VideoReader(
            dataset,
            split=args.split,
            stride=args.stride,
            max_frames=args.max_frames or None,
            with_normals=not args.no_normals,
        )
        for dataset in datasets
    ]


def _others(args: argparse.Namespace, clips: Sequence[Clip]) -> list[PredictedDepth]:
    """The models that --predictions names, their folders looked at."""
    from dkt_ros.evaluation.baselines import BASELINES
    from dkt_ros.evaluation.evaluate import NORMALS, TRUTH
    from dkt_ros.evaluation.predictions import parse_predictions

    taken = {*BASELINES, NORMALS, TRUTH}
    others = parse_predictions(args.predictions, args.prediction_unit, taken)
    names = Counter(clip.name for clip in clips)
    if others and max(names.values()) > 1:
        name = names.most_common(1)[0][0]
        raise DktError(
            f"--predictions: the data sets have more than one video {name}; take one at a time"
        )
    for model in others:
        model.check(clips)
    return others


def _show(bar: tqdm, clips: int, name: str, frames: int) -> None:
    """clips: begun so far. name: of the video just measured. frames: measured in all."""
    bar.set_postfix_str(f"{name} done, frame {frames}", refresh=False)
    bar.update(clips - bar.n)
