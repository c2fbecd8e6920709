"""`dkt train`: the command line of the training room. Knows arguments alone."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `dkt train nano`."""
    train = subparsers.add_parser("train", help="train a network on rendered sequences")
    kinds = train.add_subparsers(dest="kind", required=True, metavar="KIND")
    nano = kinds.add_parser("nano", help="dkt-nano, the small network, from scratch")
    nano.add_argument("--data", type=Path, required=True, help="folder of TransPhy3D tars")
    nano.add_argument("--config", type=Path, default=Path("config/train/nano.yaml"))
    nano.add_argument("--output", type=Path, required=True, help="state and checkpoint go here")
    nano.add_argument("--resume", action="store_true", help="continue the run in --output")
    nano.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all cores")
    nano.set_defaults(run=_train_nano)


def _train_nano(args: argparse.Namespace) -> int:
    import torch

    from dkt_ros.train.config import load_config
    from dkt_ros.train.loop import train

    if args.threads > 0:
        torch.set_num_threads(args.threads)
    train(
        load_config(args.config),
        args.data,
        args.output,
        resume=args.resume,
        report=lambda line: print(line, flush=True),
    )
    return 0
