"""`dkt_cameras`: several cameras in one process, by one network that is held in memory once.

Each camera has a `dkt_node` in a namespace of its own, with all its topics, parameters, services,
diagnostics and lifecycle; what a stream remembers is each one's own. They take turns at the
network, frame by frame. Knows which nodes there are; nothing of what they do.

What they need is imported once the words are known to be right, as it takes seconds.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dkt_ros.errors import DktError
from dkt_ros.ros.params.cameras import check_namespace
from dkt_ros.ros.params.command_line import cameras_parser, split_ros_args
from dkt_ros.ros.process import run_main
from dkt_ros.ros.undo import all_of, undone_by

if TYPE_CHECKING:
    from dkt_ros.ros.node import DktNode


def make_nodes(namespaces: Sequence[str]) -> list[DktNode]:
    """One node for each namespace, around one network. Raises DktError."""
    for name in namespaces:
        try:
            check_namespace(name)
        except DktError as error:
            raise DktError(f"camera {error}") from None
    from dkt_ros.ros.engine import SharedNetwork
    from dkt_ros.ros.node import DktNode

    network = SharedNetwork()
    nodes: list[DktNode] = []
    with undone_by(lambda: all_of(*(node.close for node in nodes))):
        nodes.extend(DktNode(namespace=name, network=network) for name in namespaces)
        places = [node.get_namespace() for node in nodes]
        if twice := [place for place, count in Counter(places).items() if count > 1]:
            raise DktError(
                f"more than one camera is in namespace {', '.join(twice)}: expected each name "
                "once, and no __ns among the ROS arguments, which would hold for all"
            )
        if places != [f"/{name.strip('/')}" for name in namespaces]:
            raise DktError(
                f"camera {namespaces[0]} is in namespace {places[0]}: expected no __ns among the "
                "ROS arguments, which would hold for all"
            )
    return nodes


def main(args: Sequence[str] | None = None) -> int:
    """Runs the nodes until it is interrupted; returns 2 when words or parameters are wrong."""
    words, ros = split_ros_args(sys.argv[1:] if args is None else args)
    namespaces = cameras_parser().parse_args(words).namespaces
    ros = ["--ros-args", *ros]
    return run_main("dkt_cameras", lambda: make_nodes(namespaces), ros, args is None)


if __name__ == "__main__":
    sys.exit(main())
