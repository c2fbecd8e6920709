"""`dkt compare`: two outputs, or two ways to process one recording, with an exit code."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import finite, path
from dkt_ros.processing.command import add_source_arguments

if TYPE_CHECKING:
    from dkt_ros.processing.options import ProcessOptions

BEYOND = 1
"""Exit status where B is not within the limits."""
_EXPECTED = {int: "a whole number", float: "a number"}
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def add_commands(subparsers: Any) -> None:
    """Adds `dkt compare`."""
    parser = subparsers.add_parser(
        "compare",
        help="two outputs, or two checkpoints, presets or backends on the same recordings",
        description="Compares by tables, difference maps and speed. Exit status 0 if B is within "
        "the limits of A, 1 if not, 2 if they cannot be compared. A and B are outputs of "
        "`dkt process`, or, with --recording, settings such as "
        "'checkpoint=dkt-1.3b,mode=live,live_preset=fast' ('' for the defaults).",
    )
    parser.add_argument("a", metavar="A", help="reference output, or settings")
    parser.add_argument("b", metavar="B", help="output, or settings, to judge")
    parser.add_argument(
        "--recording",
        nargs="+",
        metavar="IN",
        help="recordings to process with the settings A and B",
    )
    for name, default, text in (
        ("tolerance", 0.01, "relative difference of depth that counts as the same"),
        ("max-share", 0.01, "share of pixels that may differ by more"),
        ("max-lost", 0.01, "share of pixels, or frames, that may be missing in B"),
        ("max-worse", 0.005, "by how much the mean error against truth may rise"),
    ):
        flag = f"--{name}"
        parser.add_argument(
            flag, type=finite, default=default, metavar="X", help=f"{text} ({default:g})"
        )
    parser.add_argument(
        "--output",
        type=path,
        metavar="DIR",
        help="folder for compare.md, compare.json and maps/, with --recording also the outputs A/ "
        "and B/, which are used again",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="with --recording: process A and B again"
    )
    add_source_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from dkt_ros.errors import DktError
    from dkt_ros.files import check_writable, write_whole
    from dkt_ros.processing.command import source_options
    from dkt_ros.processing.compare import Limits, as_json, compare, table
    from dkt_ros.processing.source import SourceOptions

    limits = Limits(args.tolerance, args.max_share, args.max_lost, args.max_worse)
    maps = args.output / "maps" if args.output else None
    if args.output:
        check_writable(args.output / "compare.md")
    with ExitStack() as stack:
        a, b = Path(args.a), Path(args.b)
        if not args.recording and not (args.a and args.b):
            raise DktError(
                f"found {args.a!r} and {args.b!r}, expected two outputs of `dkt process`, or "
                "--recording IN, of which '' is processed by default settings"
            )
        if not args.recording and (args.overwrite or source_options(args) != SourceOptions()):
            raise DktError("--overwrite and how a recording is read: only with --recording")
        if args.recording:
            work = args.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            a, b = (
                _processed(args, side, work / name) for side, name in ((args.a, "A"), (args.b, "B"))
            )
        found = compare(a, b, limits, maps)
    text, line = table(found), as_json(found, limits)
    if args.output:
        write_whole(args.output / "compare.md", text + "\n")
        write_whole(args.output / "compare.json", line + "\n")
    print(text)
    print(line)
    return 0 if json.loads(line)["within"] else BEYOND


def _processed(args: argparse.Namespace, settings: str, output: Path) -> Path:
    """The recordings processed with these settings."""
    from dkt_ros.errors import DktError
    from dkt_ros.processing.command import Bar, source_options
    from dkt_ros.processing.find_sources import check_concerned, find_recordings
    from dkt_ros.processing.many import process_many
    from dkt_ros.processing.outcome import Outcome

    options = parsed_settings(settings)
    options = replace(options, source=source_options(args))
    recordings = find_recordings(args.recording, options.source, output)
    check_concerned(recordings, options.source)
    print(f"{output.name}: {settings or 'default settings'}", file=sys.stderr)
    bar = Bar(len(recordings), output.name)
    try:
        results = process_many(
            recordings,
            options,
            output,
            progress=bar.advance,
            tell=bar.tell,
            overwrite=args.overwrite,
        )
    finally:
        bar.close()
    to_mend = (Outcome.OUTPUT_EXISTS, Outcome.NOT_WRITTEN)
    failed = [result for result in results if not result.outcome.succeeded]
    for result in failed:
        if result.outcome in to_mend or len(failed) == len(results):
            raise DktError(result.error)
    return output


def parsed_settings(text: str) -> ProcessOptions:
    """Options of 'name=value,…': fields of PredictorOptions, and depth. Raises DktError."""
    import math

    from dkt_ros.errors import DktError
    from dkt_ros.estimator import EstimatorConfig
    from dkt_ros.predict.options import PredictorOptions
    from dkt_ros.processing.options import ProcessOptions

    kinds = {
        entry.name: type(getattr(PredictorOptions(), entry.name))
        for entry in fields(PredictorOptions)
    }
    kinds |= {"depth": str, "window": int, "overlap": int}
    values: dict[str, Any] = {}
    for setting in filter(None, (one.strip() for one in text.split(","))):
        name, equals, value = setting.partition("=")
        if not equals or name not in kinds:
            raise DktError(
                f"{setting!r}: no setting; with --recording A and B are name=value, such as "
                f"checkpoint=dkt-1.3b, with names of {', '.join(sorted(kinds))}"
            )
        try:
            values[name] = _TRUTHS[value] if kinds[name] is bool else kinds[name](value)
        except KeyError as error:
            raise DktError(f"{setting!r}: expected {name}=true or {name}=false") from error
        except ValueError as error:
            raise DktError(f"{setting!r}: expected {_EXPECTED[kinds[name]]}") from error
    config = EstimatorConfig(max_gap_s=math.inf, depth=values.pop("depth", "fused"))
    return ProcessOptions(predictor=PredictorOptions(**values), estimator=config)
