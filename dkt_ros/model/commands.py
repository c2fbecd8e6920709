"""`dkt convert`: flags and what it prints. Imports no network until run."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dkt_ros.arguments import DTYPES, finite, path, positive
from dkt_ros.errors import DktError
from dkt_ros.model.info import TASKS


def add_commands(subparsers: Any) -> None:
    """Adds `dkt convert`."""
    parser = subparsers.add_parser(
        "convert",
        help="turn original model files, or a checkpoint and a LoRA, into a checkpoint folder",
        description="Turns the original files of Wan2.1-Fun-Control and a DKT LoRA into a "
        "checkpoint folder, or merges a LoRA into a checkpoint folder (--checkpoint with --lora "
        "alone). Sizes come from the tensors' shapes; the LoRA is merged.",
    )
    file = {"type": path, "metavar": "FILE"}
    base = parser.add_mutually_exclusive_group(required=True)
    base.add_argument(
        "--transformer",
        help="base transformer: .safetensors, its .index.json, or a folder of shards",
        **file,
    )
    base.add_argument(
        "--checkpoint", type=path, metavar="DIR", help="checkpoint folder to add a LoRA to"
    )
    parser.add_argument("--vae", help="Wan2.1_VAE.pth (with --transformer)", **file)
    parser.add_argument(
        "--lora", help="LoRA of any usual trainer: .safetensors, .pt or peft's folder", **file
    )
    parser.add_argument(
        "--lora-scale",
        type=number,
        metavar="S",
        help="multiplies the scale that the LoRA's file or its adapter_config.json gives",
    )
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-embeds", help="the prompt's embedding, .safetensors", **file)
    prompt.add_argument(
        "--text-encoder", help="models_t5_umt5-xxl-enc-bf16.pth (with --tokenizer)", **file
    )
    parser.add_argument(
        "--tokenizer", type=path, metavar="DIR", help="folder of google/umt5-xxl's tokenizer"
    )
    parser.add_argument(
        "--prompt", choices=TASKS, default="depth", help="the task and its prompt (default depth)"
    )
    parser.add_argument(
        "--num-heads",
        type=positive,
        metavar="N",
        help="attention heads (default: config.json beside the transformer, else width / 128)",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, help="stored type of the transformer (default: as it is)"
    )
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="the checkpoint")
    parser.set_defaults(run=run_convert)


def run_convert(args: argparse.Namespace) -> int:
    """Runs `dkt convert`; returns 0."""
    if args.lora_scale is not None and args.lora is None:
        raise DktError("--lora-scale goes with --lora")
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
        lora_scale=args.lora_scale,
    )
    dtype = parse_dtype(args.dtype) if args.dtype else None
    info = convert(files, args.output, dtype, _say)
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

    info = merge_into_checkpoint(args.checkpoint, args.lora, args.output, args.lora_scale, _say)
    print(f"{info.name} ({info.task}) written to {args.output}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def number(text: str) -> float:
    """A finite number other than 0."""
    value = finite(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number other than 0")
    return value
