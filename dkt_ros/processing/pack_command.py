"""`dkt pack`: recordings with the truth to what networks learn from. Knows flags and words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from dkt_ros.arguments import positive
from dkt_ros.processing.command import (
    add_recordings,
    add_source_arguments,
    check_output,
    source_options,
)
from dkt_ros.wording import counted, one_line

if TYPE_CHECKING:
    from dkt_ros.processing.pack import Packed

_DESCRIPTION = """Bags with a topic of true depth, folders and videos of colour, raw depth and true
depth, .npz with arrays of these, and data sets with raw depth become clips as `dkt synth render
--raw-depth` writes them: OUT/NAME-0000.tar and on. Frames without truth or raw depth are skipped
and reported. Existing output is kept: the same command does what is missing and resumes a killed
run."""

_CODES = """exit status: 0 all done; 1 of several recordings some failed; 2 wrong arguments, or
nothing can be written; 3 done, but part of a recording could not be used; of a single recording
what `dkt process --help` says; 130 interrupted."""


def add_commands(subparsers: Any) -> None:
    """Adds `dkt pack`."""
    parser = subparsers.add_parser(
        "pack",
        help="recordings with ground truth -> tars for training and evaluation",
        description=_DESCRIPTION,
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recordings(parser)
    parser.add_argument(
        "--frames",
        type=positive,
        default=21,
        metavar="N",
        help="largest length of a clip; 1 for pictures that are no video (%(default)s, as the "
        "LoRA's recipe draws)",
    )
    parser.add_argument(
        "--height",
        type=positive,
        metavar="PX",
        help="scale larger pictures down to this height, keeping their aspect ratio: 160 for the "
        "small networks, whose training holds all of them in memory (no scaling)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace existing tars of these recordings"
    )
    add_source_arguments(parser)
    parser.set_defaults(run=_pack)


def _pack(args: argparse.Namespace) -> int:
    from dkt_ros.errors import DktError
    from dkt_ros.files import BusyError, StorageError
    from dkt_ros.processing.find_sources import check_concerned, find_recordings
    from dkt_ros.processing.outcome import Outcome, ProcessingError, exit_status
    from dkt_ros.processing.pack import PackOptions, pack, sequence_names
    from dkt_ros.progress import progress_bar

    options = PackOptions(source_options(args), args.frames, args.height)
    check_output(args.output)
    recordings = find_recordings(args.inputs, options.source, args.output)
    check_concerned(recordings, options.source)
    outcomes = []
    for recording, name in zip(recordings, sequence_names(recordings), strict=True):
        with progress_bar(None, "frame", desc=f"{name}: ") as bar:

            def advance(done: int, total: int, bar: Any = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                packed = pack(recording, name, options, args.output, args.overwrite, advance)
            except StorageError:
                raise
            except DktError as error:
                if isinstance(error, ProcessingError):
                    outcomes.append(error.outcome)
                else:
                    busy = isinstance(error, BusyError)
                    outcomes.append(Outcome.NOT_WRITTEN if busy else Outcome.NOTHING_USABLE)
                bar.write(one_line(f"{name}: FAILED: {error}"))
                continue
            outcomes.append(Outcome.INCOMPLETE if packed.lost else Outcome.DONE)
            bar.write(_told(name, packed))
    return exit_status(outcomes)


def _told(name: str, packed: Packed) -> str:
    line = f"{name}: {counted(packed.clips, 'clip')}, {counted(packed.frames, 'frame')}"
    return "\n".join(
        [
            line + (", there already" if packed.already else ""),
            *(f"  not used: {one_line(lost)}" for lost in packed.lost),
            *(f"  note: {one_line(note)}" for note in packed.notes),
        ]
    )
