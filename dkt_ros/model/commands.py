"""`dkt convert` and `dkt predict`: flags and what they print. Imports no network until run."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.model.info import TASKS

DTYPES = ("float32", "bfloat16", "float16")


def add_commands(subparsers: Any) -> None:
    """Adds the model's subcommands to the `dkt` command."""
    _add_convert(subparsers)
    _add_predict(subparsers)


def _add_convert(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "convert",
        help="turn original model files, or a checkpoint and a LoRA, into a checkpoint folder",
        description="Turns the original files of Wan2.1-Fun-Control and a DKT LoRA into a "
        "checkpoint folder, or merges a LoRA into a checkpoint folder (--checkpoint with --lora "
        "alone). Sizes come from the tensors' shapes; the LoRA is merged.",
    )
    file = {"type": Path, "metavar": "FILE"}
    base = parser.add_mutually_exclusive_group(required=True)
    base.add_argument(
        "--transformer",
        help="base transformer: .safetensors, its .index.json, or a folder of shards",
        **file,
    )
    base.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="checkpoint folder to add a LoRA to"
    )
    parser.add_argument("--vae", help="Wan2.1_VAE.pth (with --transformer)", **file)
    parser.add_argument(
        "--lora", help="LoRA by DKT's or peft's names: .safetensors or peft's folder", **file
    )
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-embeds", help="the prompt's embedding, .safetensors", **file)
    prompt.add_argument(
        "--text-encoder", help="models_t5_umt5-xxl-enc-bf16.pth (with --tokenizer)", **file
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="folder of google/umt5-xxl's tokenizer"
    )
    parser.add_argument(
        "--prompt", choices=TASKS, default="depth", help="the task and its prompt (default depth)"
    )
    parser.add_argument(
        "--num-heads",
        type=_positive,
        metavar="N",
        help="attention heads (default: config.json beside the transformer, else width / 128)",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, help="stored type of the transformer (default: as it is)"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the checkpoint")
    parser.set_defaults(run=run_convert)


def _add_predict(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="relative disparity of a video",
        description="Writes the relative disparity of a video, near = large, by the exact "
        "sampler. Defaults marked * come from the checkpoint.",
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
        help=".npz that gets disparity, float32 (T,H,W) in [0,1]",
    )
    parser.add_argument("--steps", type=_positive, metavar="N", help="sampling steps (5*)")
    parser.add_argument(
        "--window", type=_positive, metavar="N", help="latent frames per window (21*)"
    )
    parser.add_argument(
        "--overlap",
        type=_natural,
        metavar="N",
        help="latent frames two windows share (3*, less where the window is small)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the noise (1)")
    parser.add_argument(
        "--size",
        type=_size,
        default="native",
        metavar="native|HxW",
        help="size the network works at, rounded to multiples of 16 (native)",
    )
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(float32)")
    parser.set_defaults(run=run_predict)


def run_convert(args: argparse.Namespace) -> int:
    """Runs `dkt convert`; returns 0."""
    if args.checkpoint is not None:
        return _run_merge(args)
    if args.vae is None:
        raise DktError("--vae is missing: original files need it")
    if args.prompt_embeds is None and args.text_encoder is None:
        raise DktError("no prompt: give --prompt-embeds, or --text-encoder with --tokenizer")
    if (args.text_encoder is None) != (args.tokenizer is None):
        raise DktError("--text-encoder and --tokenizer go together, one of them is missing")
    from dkt_ros.model.checkpoint import parse_dtype
    from dkt_ros.model.convert import OriginalFiles, convert

    files = OriginalFiles(
        transformer=args.transformer,
        vae=args.vae,
        lora=args.lora,
        prompt_embeds=args.prompt_embeds,
        text_encoder=args.text_encoder,
        tokenizer=args.tokenizer,
        task=args.prompt,
        num_heads=args.num_heads,
    )
    dtype = parse_dtype(args.dtype) if args.dtype else None
    info = convert(files, args.output, dtype, report=lambda line: print(line, file=sys.stderr))
    print(f"{info.name} ({info.task}) written to {args.output}")
    return 0


def _run_merge(args: argparse.Namespace) -> int:
    """`dkt convert --checkpoint DIR --lora FILE`."""
    names = ("vae", "prompt_embeds", "text_encoder", "tokenizer", "num_heads", "dtype")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if given:
        raise DktError(f"{', '.join(given)} cannot go with --checkpoint, which has these already")
    if args.lora is None:
        raise DktError("--lora is missing: --checkpoint takes what is added to it")
    from dkt_ros.model.merge import merge_into_checkpoint

    info = merge_into_checkpoint(args.checkpoint, args.lora, args.output)
    print(f"{info.name} ({info.task}) written to {args.output}")
    return 0


def run_predict(args: argparse.Namespace) -> int:
    """Runs `dkt predict`; returns 0."""
    import numpy as np
    import torch

    from dkt_ros.model.canvas import working_size
    from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
    from dkt_ros.model.predictor import PredictOptions, predict_disparity
    from dkt_ros.model.video import read_clip

    options = PredictOptions(args.steps, args.window, args.overlap, args.seed, args.size)
    if args.output.suffix != ".npz":
        raise DktError(f"output {args.output} does not end in .npz")
    if args.output.is_dir() or not args.output.absolute().parent.is_dir():
        raise DktError(
            f"output {args.output} cannot be written: no such folder, or a folder itself"
        )
    network = load_checkpoint(args.checkpoint or default_checkpoint(), args.device, args.dtype)
    if network.info.task != "depth":
        raise DktError(
            f"checkpoint {network.info.name} predicts {network.info.task}s, no disparity; take a "
            "depth checkpoint"
        )
    rgb = read_clip(args.input)
    height, width = working_size((rgb.shape[1], rgb.shape[2]), options.size, network.size_multiple)
    print(
        f"{network.info.name}: {len(rgb)} frames of {rgb.shape[1]}x{rgb.shape[2]}, worked on at "
        f"{height}x{width} (trained at {network.info.height}x{network.info.width})",
        file=sys.stderr,
    )
    progress = _Progress()
    try:
        disparity = predict_disparity(network, rgb, options, progress)
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


def _positive(text: str) -> int:
    return _at_least(text, 1)


def _natural(text: str) -> int:
    return _at_least(text, 0)


def _at_least(text: str, least: int) -> int:
    value = int(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else None
    if value is None or value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least {least}")
    return value


def _size(text: str) -> tuple[int, int] | None:
    if text == "native":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or 0 in (size := (int(match[1]), int(match[2]))):
        raise argparse.ArgumentTypeError(f"{text!r} is neither native nor HxW, such as 480x832")
    return size
