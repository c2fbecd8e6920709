"""`dkt train`: flags and what they print. Imports no network until run."""

from __future__ import annotations

import argparse
import sys

from dkt_ros.arguments import path
from dkt_ros.train.fields import RECIPES


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `dkt train`."""
    parser = subparsers.add_parser(
        "train",
        help="fine-tune a checkpoint on depth data: LoRA, full, or for one step",
        description="Fine-tunes a checkpoint as a recipe says. The shipped recipes explain every "
        f"field; they are in {RECIPES}. Several processes, on GPUs or on CPUs: torchrun "
        "--nproc-per-node N -m dkt_ros.cli train ...; Ctrl-C saves and exits.",
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME|FILE",
        help="the recipe: lora, full, one_step, or a file of your own",
    )
    parser.add_argument(
        "--output", type=path, required=True, metavar="DIR", help="folder of the run"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a value of the recipe, as in --set lora.rank=16, --set data.0.path=DIR or, "
        "for several data sets, --set 'data=[{path: DIR}, {path: DIR}]'",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--resume", action="store_true", help="continue the run in --output")
    choice.add_argument(
        "--export",
        action="store_true",
        help="only write the checkpoint (and adapter) of the run's newest state; "
        "OUTPUT/recipe.yaml is its recipe",
    )
    choice.add_argument(
        "--dry-run", action="store_true", help="only print what would be done, and write nothing"
    )
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from dkt_ros.train.recipe import load_recipe

    recipe = load_recipe(args.config, args.set)
    if args.export:
        from dkt_ros.train.export import export_run

        print(f"{export_run(recipe, args.output).name} written to {args.output}")
        return 0
    from dkt_ros.train.materials import Materials
    from dkt_ros.train.run import train

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.dry_run:
        from dkt_ros.train.environment import make_accelerator

        accelerator = make_accelerator(recipe, report)
        if accelerator.is_main_process:
            Materials(recipe, args.output, report).describe(accelerator)
        return 0
    with Materials(recipe, args.output, report) as materials:
        outcome = train(
            recipe,
            args.output,
            materials.source,
            materials.previews,
            describe=materials.describe,
            resume=args.resume,
            report=report,
        )
    return 0 if outcome.signal is None else 128 + outcome.signal
