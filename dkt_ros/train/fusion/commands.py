"""`dkt pretrain-fusion`, `dkt pretrain-matcher`: the command lines of both trainings.

Knows arguments alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dkt_ros.arguments import given, natural, path

if TYPE_CHECKING:
    from dkt_ros.progress import Report
    from dkt_ros.train.fusion.config import SamplesConfig
    from dkt_ros.train.fusion.frames import FrameFolder

    _Config = TypeVar("_Config", bound=SamplesConfig)
    _Train = Callable[
        [_Config, Callable[[], FrameFolder], Path, bool, Path | None, Report], int | None
    ]

FAILINGS = 3
"""Ways in which a frame's readings fail before a network that is shown them sees the frame."""


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds them."""
    refiner = subparsers.add_parser(
        "pretrain-fusion",
        help="train the refiner that fuses sensor depth with disparity, on rendered or packed "
        "sequences",
        description="Writes what the node's parameter `refiner` names. The network's disparity is "
        "computed once and kept. Ctrl-C finishes the step and saves; --resume goes on from there.",
    )
    _add_arguments(
        refiner,
        "fusion",
        "the recipe: fusion, of networks that are shown raw depth, or fusion-colour; "
        "fusion-light and fusion-light-colour for structured light and time of flight; "
        "fusion-packaging and fusion-packaging-colour go on from either of the first two",
    )
    refiner.set_defaults(run=_pretrain_refiner)
    matcher = subparsers.add_parser(
        "pretrain-matcher",
        help="train what tells whether colour and raw depth belong together",
        description="Writes matcher/matcher.safetensors, which is used where it lies in the folder "
        "that the node's parameter `refiner` names. The network's disparity is computed once and "
        "kept. Ctrl-C finishes the step and saves; --resume goes on from there.",
    )
    _add_arguments(matcher, "matcher", "the recipe: matcher, or a file of your own")
    matcher.set_defaults(run=_pretrain_matcher)


def _add_arguments(parser: argparse.ArgumentParser, recipe: str, recipes: str) -> None:
    parser.add_argument(
        "--data",
        type=path,
        required=True,
        help="folder of TransPhy3D tars with raw depth, rendered (`dkt synth`) or recorded (`dkt "
        "pack`)",
    )
    parser.add_argument("--config", default=recipe, metavar="NAME|FILE", help=recipes)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="put over the recipe's value, as in --set steps=2000 or --set prediction.made_up=0.5",
    )
    parser.add_argument("--output", type=path, required=True, help="state and weights go here")
    parser.add_argument(
        "--checkpoint",
        type=given,
        metavar="DIR",
        help="network whose disparity is seen beside the readings (the embedded one)",
    )
    parser.add_argument(
        "--disparity",
        type=path,
        metavar="DIR",
        help="its disparity is kept here, apart from that of others; default OUTPUT/disparity",
    )
    parser.add_argument(
        "--start", type=path, metavar="DIR", help="weights to begin with, such as those of a run"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --output")
    parser.add_argument("--threads", type=natural, default=0, help="CPU threads; 0: all cores")


def _pretrain_refiner(args: argparse.Namespace) -> int:
    from dkt_ros.train.fusion.config import load_config
    from dkt_ros.train.fusion.loop import train

    return _pretrain(args, load_config(args.config, args.set), train, FAILINGS)


def _pretrain_matcher(args: argparse.Namespace) -> int:
    from dkt_ros.train.fusion.config import load_matcher_config
    from dkt_ros.train.fusion.matching import train_matcher

    config = load_matcher_config(args.config, args.set)
    return _pretrain(args, config, train_matcher, 1)


def _pretrain(
    args: argparse.Namespace, config: _Config, train: _Train[_Config], failings: int
) -> int:
    import torch
    from tqdm import tqdm

    from dkt_ros.errors import DktError
    from dkt_ros.model.compiled.request import checkpoint_fingerprint
    from dkt_ros.train.fusion.frames import FrameFolder, checkpoint_predictor
    from dkt_ros.train.sensor import BETTER

    if args.threads > 0:
        torch.set_num_threads(args.threads)

    def report(line: str) -> None:
        with tqdm.external_write_mode():  # the progress bar steps aside
            print(line, flush=True)

    checkpoint = args.checkpoint or ""

    def make_data() -> FrameFolder:
        predict, sees_depth = checkpoint_predictor(checkpoint, config.on_scale)
        if config.on_scale and config.prediction.embedded > 0 and not sees_depth:
            raise DktError(
                f"{checkpoint or 'the embedded network'} sees colour alone, the recipe "
                f"{args.config} is of networks that are shown raw depth (on_scale); take "
                "--config fusion-colour"
            )
        digest = checkpoint_fingerprint(checkpoint)[:12]
        name = digest if config.on_scale else f"{digest}-colour"
        if config.better_sensor != BETTER:  # other readings, so other answers
            name += f"-{config.better_sensor}"
        if failings != FAILINGS:
            name += f"-{failings}"
        kept = (args.disparity or args.output / "disparity") / name
        ways = failings if sees_depth else 0
        return FrameFolder(args.data, predict, kept, report, ways, config.better_sensor)

    stopped = train(config, make_data, args.output, args.resume, args.start, report)
    return 0 if stopped is None else 128 + stopped
