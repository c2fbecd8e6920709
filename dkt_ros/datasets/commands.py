"""`dkt data …`: the command line of this room. Knows arguments and how a report looks."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING

from dkt_ros.arguments import path, positive
from dkt_ros.datasets.registry import KINDS
from dkt_ros.files import check_writable, write_whole
from dkt_ros.progress import progress_bar
from dkt_ros.wording import counted, one_line

if TYPE_CHECKING:
    from dkt_ros.datasets.check import CheckReport, Progress, SplitReport

_HEADER: tuple[str, ...] = (
    "split",
    "clips",
    "frames",
    "read",
    "bad",
    "depth min/median/max m",
    "unknown",
    "transparent",
    "raw unknown",
    "size",
)


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `data` with `check`."""
    data = subparsers.add_parser("data", help="look at data sets of transparent objects")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="a data set's contents, and every file in it that does not fit",
        description="Reads every frame and names every file that does not fit. Exit status: 0 "
        "everything fits, 1 something does not, 2 no data set there.",
    )
    check.add_argument("folder", type=path, help="the data set, one split of it or one scene")
    check.add_argument("--kind", choices=KINDS, help="its layout; default: detected")
    check.add_argument("--json", type=path, metavar="FILE", help="also write the report there")
    check.add_argument(
        "--sample", type=positive, metavar="N", help="read N random frames, the same in every run"
    )
    check.add_argument(
        "--workers", type=positive, default=2, help="threads that read, default %(default)s"
    )
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from dkt_ros.datasets.check import check_dataset
    from dkt_ros.datasets.registry import open_dataset

    dataset = open_dataset(args.folder, args.kind)
    if args.json is not None:
        check_writable(args.json, ".json")
    print(f"{args.folder}: {dataset.kind}, {counted(len(dataset), 'clip')}", flush=True)
    out = sys.stdout
    bar = progress_bar(None, "frame")

    def show(progress: Progress) -> None:
        bar.total = progress.all_frames
        bar.set_postfix_str(f"clip {progress.clips}/{progress.all_clips}", refresh=False)
        bar.update(progress.frames - bar.n)

    # The EXR library prints remarks of its own, without the file's name, on damaged files.
    with contextlib.redirect_stdout(sys.stderr), bar:
        report = check_dataset(
            dataset,
            sample=args.sample,
            workers=args.workers,
            on_problem=lambda problem: bar.write(one_line(problem), file=out),
            on_progress=show,
        )
    print(_table(report))
    if args.json is not None:
        write_whole(args.json, json.dumps(report.as_json(), indent=1) + "\n")
    count = len(report.problems)
    print(counted(count, "problem") if count else "everything fits")
    return 1 if count else 0


def _table(report: CheckReport) -> str:
    rows = [_HEADER, *(_row(name, split) for name, split in sorted(report.splits.items()))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(name: str, split: SplitReport) -> tuple[str, ...]:
    summary = split.statistics.summary()
    depth = summary["depth_m"]
    sizes = split.statistics.sizes.most_common(3)
    return (
        name,
        f"{split.clips}" + (f" ({split.bad_clips} bad)" if split.bad_clips else ""),
        f"{split.frames}",
        f"{split.checked}",
        f"{split.bad_frames}",
        "-" if depth is None else "/".join(f"{depth[key]:.3f}" for key in ("min", "median", "max")),
        _percent(summary["unknown_share"]),
        _percent(summary["transparent_share"]),
        _percent(summary["raw_unknown_share"]),
        " ".join(size for size, _ in sizes) or "-",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
