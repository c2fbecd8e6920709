"""The package's programs: each is imported as it is called, or says in one line what it lacks.

Knows their names, where they are, and that libraries need a folder to be in; nothing of what they
do.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from functools import partial

from dkt_ros.extras import advice

MODULES = {
    "dkt": "dkt_ros.cli",
    "dkt_cameras": "dkt_ros.ros.cameras",
    "dkt_node": "dkt_ros.ros.camera",
    "dkt_planner": "dkt_ros.ros.planner",
    "dkt_replay": "dkt_ros.ros.replay.node",
}
"""Module with the `main` of each program."""


def run(name: str) -> int:
    """Runs a program on the words of the command line.

    Returns 2 where a module is missing, or the folder that the shell is in.
    """
    try:
        os.getcwd()
    except OSError:  # torch's libraries end the process then, by a message of their own
        print(f"{name}: the current folder was removed; go to one that is there", file=sys.stderr)
        return 2
    # Importing takes seconds, in libraries that hear of nothing; an interrupt ends it at once.
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeds:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        program = importlib.import_module(MODULES[name])
        if heeds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return int(program.main())
    except ModuleNotFoundError as error:
        if (remedy := advice(error)) is None:
            raise
        print(f"{name}: {remedy}", file=sys.stderr)
        return 2


dkt = partial(run, "dkt")
dkt_cameras = partial(run, "dkt_cameras")
dkt_node = partial(run, "dkt_node")
dkt_planner = partial(run, "dkt_planner")
dkt_replay = partial(run, "dkt_replay")
