"""`dkt_node`: the node of one camera as a program. Knows its words and nothing of what it does.

What it needs is imported once the words are known to be right, as it takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dkt_ros.ros.params.command_line import node_parser, split_ros_args
from dkt_ros.ros.process import run_main
from dkt_ros.ros.topics import topics_text

if TYPE_CHECKING:
    from dkt_ros.ros.node import DktNode


def make_nodes() -> list[DktNode]:
    """The one node. Raises DktError."""
    from dkt_ros.ros.node import DktNode

    return [DktNode()]


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns 2 when its parameters are wrong.

    SystemExit for `--help` (0) and for words that are no ROS arguments (2).
    """
    words, _ = split_ros_args(sys.argv[1:] if args is None else args)
    node_parser(topics_text()).parse_args(words)
    return run_main("dkt_node", make_nodes, args, args is None)


if __name__ == "__main__":
    sys.exit(main())
