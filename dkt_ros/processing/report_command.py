"""`dkt report`: outputs of `dkt process` as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dkt_ros.arguments import path, positive
from dkt_ros.wording import counted


def add_commands(subparsers: Any) -> None:
    """Adds `dkt report`."""
    parser = subparsers.add_parser(
        "report",
        help="outputs of dkt process -> one HTML file that opens offline",
        description="Writes one HTML file that opens offline: a summary in words, figures over "
        "time, frames to browse, worst first, error maps and a rotatable cloud.",
    )
    parser.add_argument(
        "outputs", nargs="+", type=path, metavar="OUT", help="output of dkt process"
    )
    parser.add_argument(
        "--output", type=path, default=Path("report.html"), help="file to write (%(default)s)"
    )
    parser.add_argument("--title", default="dkt_ros report", help="title of the page (%(default)s)")
    parser.add_argument(
        "--frames", type=positive, default=40, metavar="N", help="frames shown per recording (40)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from dkt_ros.files import check_writable, write_whole
    from dkt_ros.processing.outputs import read_outputs
    from dkt_ros.processing.report import report_html

    check_writable(args.output, ".html")
    found = read_outputs(args.outputs)
    write_whole(args.output, report_html(found, args.title, args.frames))
    size = args.output.stat().st_size / 1e6
    print(
        f"{args.output}: {counted(len(found.outputs), 'recording')}, {len(found.failed)} failed, "
        f"{size:.1f} MB"
    )
    return 0
