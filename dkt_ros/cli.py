"""The `dkt` command: collects the subcommands and turns their errors into one line each."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from dkt_ros.arguments import at_home
from dkt_ros.errors import DktError
from dkt_ros.extras import advice
from dkt_ros.versions import version_of
from dkt_ros.wording import one_line

_COMMANDS = (
    "dkt_ros.model.commands",
    "dkt_ros.predict.command",
    "dkt_ros.processing.command",
    "dkt_ros.processing.report_command",
    "dkt_ros.processing.compare_command",
    "dkt_ros.processing.pack_command",
    "dkt_ros.view.command",
    "dkt_ros.model.compiled.commands",
    "dkt_ros.bags.commands",
    "dkt_ros.datasets.commands",
    "dkt_ros.synth.commands",
    "dkt_ros.train.commands",
    "dkt_ros.train.nano.commands",
    "dkt_ros.train.fusion.commands",
    "dkt_ros.evaluation.commands",
    "dkt_ros.bench.commands",
    "dkt_ros.doctor",
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command-line grammar; importing it loads no network, ROS or renderer."""
    parser = argparse.ArgumentParser(
        prog="dkt", description="Metric depth of glass, clear plastic and polished metal."
    )
    version = version_of("dkt_ros") or "(run from its sources, not installed)"
    parser.add_argument("--version", action="version", version=f"dkt_ros {version}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        importlib.import_module(module).add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns its exit status (2 for an error the user can mend)."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr, for names of any bytes
    with _noted_interrupts() as noted:
        try:
            words = sys.argv[1:] if argv is None else argv
            status = _run(build_parser().parse_args([at_home(word) for word in words]))
            _let_go_of_output()
            return status
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except Exception:
            if noted:  # What runs C code may turn a KeyboardInterrupt into an error of its own.
                return 128 + signal.SIGINT
            raise


def _open_standard_streams() -> None:
    """Sends what is closed (`>&-`, some schedulers) to nowhere.

    Else the next file that is opened takes its number, and gets what C code prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w"))  # noqa: SIM115


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    # In other threads none may be set; what heeds or ignores them otherwise is left as it is.
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    unraisable, timers = sys.unraisablehook, list[threading.Timer]()

    def again(lost: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in a __del__, an interrupt as well: once more, after it."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            unraisable(lost)
            return
        main = threading.main_thread().ident
        assert main is not None  # it has begun
        timers.append(threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)))
        timers[-1].start()

    if ours:
        signal.signal(signal.SIGINT, note)
        sys.unraisablehook = again
    try:
        yield noted
    finally:
        if ours:
            sys.unraisablehook = unraisable
            for timer in timers:
                timer.cancel()
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _let_go_of_output() -> None:
    """Of what cannot be written Python would complain once more at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(args: argparse.Namespace) -> int:
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader (`| head`) has seen enough
    except DktError as error:
        print(f"dkt {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        remedy = advice(error, args.command)
        if remedy is None:
            raise
        print(f"dkt {args.command}: {remedy}", file=sys.stderr)
        return 2
    except MemoryError:
        text = "out of memory; use smaller sizes, or a machine with more"
        print(f"dkt {args.command}: {text}", file=sys.stderr)
        return 2
    except OSError as error:
        # Files and folders that nobody above knew how to name better.
        named = "" if error.filename is None else f"{error.filename}: "
        text = one_line(f"{named}{error.strerror or error}")
        print(f"dkt {args.command}: {text}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
