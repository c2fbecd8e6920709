"""`dkt predict`: flags, the order of the work, and what it prints. Imports no network until run."""

from __future__ import annotations

import argparse
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import path
from dkt_ros.errors import DktError
from dkt_ros.files import check_writable, write_whole
from dkt_ros.predict.options import add_arguments, options_of
from dkt_ros.progress import StageProgress
from dkt_ros.wording import counted

if TYPE_CHECKING:
    import numpy as np

    from dkt_ros.predict.predictor import Predictor


def add_commands(subparsers: Any) -> None:
    """Adds `dkt predict`."""
    parser = subparsers.add_parser(
        "predict",
        help="relative disparity of a video, without scale (metric depth: process)",
        description="Writes the relative disparity of a video, near = large. Mode exact sees the "
        "whole video; mode live processes frame by frame like a node in mode live, "
        "with NaN for frames that get no depth. For metric depth, and for bags: `dkt process`.",
    )
    parser.add_argument(
        "--input",
        required=True,
        type=path,
        metavar="PATH",
        help="a video, an image, a folder of images, or an .npz with rgb uint8 (T,H,W,3)",
    )
    parser.add_argument(
        "--color",
        metavar="GLOB",
        help="which images of the folder, such as '*rgb.png' or 'color/*'; needed if it also "
        "holds depth",
    )
    parser.add_argument(
        "--depth",
        metavar="GLOB",
        help="which files of the folder are raw depth, in the same order, 16 bits in mm or floats "
        "in metres, for a network that is shown it (an .npz has it as raw_depth or depth)",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=path,
        metavar="FILE",
        help=".npz to write: disparity, float32 (T,H,W) in [0,1], NaN in frames without depth; "
        "for a network that was shown raw depth, 1/depth in 1/m",
    )
    add_arguments(parser)
    parser.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> int:
    """Runs `dkt predict`; returns 0."""
    import numpy as np
    import torch

    from dkt_ros.formats.clips import read_clip, read_raw_depth
    from dkt_ros.frames import frames_of
    from dkt_ros.predict.load import clip_frames, load_predictor

    options = options_of(args)
    _check_output(args.output, args.input)
    rgb = read_clip(args.input, args.color)
    raw_depth = read_raw_depth(args.input, args.depth, rgb, args.color)
    readings = [None] * len(rgb) if raw_depth is None else list(raw_depth)
    progress = StageProgress()
    predictor = load_predictor(options, progress, clip_frames(options, readings))
    height, width = predictor.network_size(*rgb.shape[1:3])
    trained = "{}x{}".format(*predictor.natural_size)
    progress.end()
    print(
        f"{predictor.info.name}: {counted(len(rgb), 'frame')} of {rgb.shape[1]}x{rgb.shape[2]}, "
        f"worked on at {height}x{width} (trained at {trained}), on {predictor.info.device} in "
        f"{predictor.info.dtype}",
        file=sys.stderr,
    )
    if raw_depth is not None and (why := _unseen(predictor, raw_depth)):
        print(f"{why}: it sees colour alone, and its disparity is relative", file=sys.stderr)
    try:
        disparity = predictor.video(list(frames_of(zip(rgb, readings, strict=True))), progress)
    except torch.OutOfMemoryError as error:
        raise DktError(
            f"{options.device} has too little memory for {counted(len(rgb), 'frame')} at "
            f"{height}x{width}; take a smaller --size or --window, or --dtype bfloat16"
        ) from error
    finally:
        progress.end()
    packed = BytesIO()  # numpy's archive of a file that cannot be written complains once more
    np.savez_compressed(packed, disparity=disparity)
    write_whole(args.output, packed.getvalue())
    print(f"disparity {disparity.shape} written to {args.output}")
    return 0


def _unseen(predictor: Predictor, raw_depth: np.ndarray) -> str:
    """Why the network sees none of the raw depth; empty where it may."""
    import numpy as np

    from dkt_ros.predict.dkt import DktPredictor

    if isinstance(predictor, DktPredictor) and not predictor.sees_depth:
        return f"{predictor.info.name} takes no raw depth"
    return "" if np.isfinite(raw_depth).any() else "the raw depth has no reading at any pixel"


def _check_output(output: Path, given: Path) -> None:
    if output.suffix != ".npz":
        raise DktError(f"output {output} does not end in .npz")
    if output.exists() and given.exists() and output.samefile(given):
        raise DktError(f"output {output} is the input, which it would replace; choose another")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise DktError(f"output {output} cannot be written: no such folder, or a folder itself")
    check_writable(output)
