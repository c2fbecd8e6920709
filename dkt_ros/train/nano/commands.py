"""`dkt pretrain`: the command line of dkt-nano's pretraining. Knows arguments alone."""

from __future__ import annotations

import argparse

from dkt_ros.arguments import natural, path


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `dkt pretrain`."""
    parser = subparsers.add_parser(
        "pretrain",
        help="train a small network (dkt-nano) from scratch on rendered or packed sequences",
        description="Trains VAE and transformer as a recipe says, and writes a checkpoint; the "
        "network of dkt-nano-depth is shown raw depth. Ctrl-C finishes the step and saves; "
        "--resume goes on from there.",
    )
    parser.add_argument(
        "--data",
        type=path,
        required=True,
        help="folder of TransPhy3D tars, rendered (`dkt synth`) or recorded (`dkt pack`)",
    )
    parser.add_argument(
        "--config",
        default="dkt-nano",
        metavar="NAME|FILE",
        help="the recipe: dkt-nano, dkt-nano-depth, or a file of your own (dkt-nano)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="put over the file's value, as in --set network.layers=3 or --set stages.0.batch=4",
    )
    parser.add_argument("--output", type=path, required=True, help="state and checkpoint go here")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument("--threads", type=natural, default=0, help="CPU threads; 0: all cores")
    parser.set_defaults(run=_pretrain)


def _pretrain(args: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from dkt_ros.train.nano.config import load_config
    from dkt_ros.train.nano.loop import train

    if args.threads > 0:
        torch.set_num_threads(args.threads)
    stopped = train(
        load_config(args.config, args.set),
        args.data,
        args.output,
        resume=args.resume,
        report=tqdm.write,
    )
    return 0 if stopped is None else 128 + stopped
