"""What the tests of a node in this process share: one around engines without a network."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fixtures.workshop import Workshop

    from dkt_ros.ros.node import DktNode


def _sockets_of_dds() -> int:
    """How many this process holds in its DDS domain: some for each context that has a node."""
    first, held = 7400 + 250 * int(os.environ["ROS_DOMAIN_ID"]), set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed by now
            held.add(file.readlink().name)
    rows = [row.split() for row in Path("/proc/self/net/udp").read_text().splitlines()[1:]]
    ports = [int(row[1].split(":")[1], 16) for row in rows if f"socket:[{row[9]}]" in held]
    return sum(first <= port < first + 250 for port in ports)


@pytest.fixture(autouse=True, scope="module")
def alone_again() -> Iterator[None]:
    """No node of a file's tests meets those of the next, and what is imported is frozen again.

    An engine's end thaws it. rclpy leaves some nodes to the collection of garbage, which passes by
    what is frozen.
    """
    yield
    if _sockets_of_dds():
        gc.collect()
    gc.freeze()
    assert not _sockets_of_dds(), "a node is left over, though its test is done"


@pytest.fixture
def workshop() -> Workshop:
    from fixtures.workshop import Workshop

    return Workshop()


@pytest.fixture
def node(workshop: Workshop, request: pytest.FixtureRequest) -> Iterator[DktNode]:
    """Its parameters are the test's own `node`, by indirect parametrization."""
    import rclpy

    from dkt_ros.ros.node import DktNode

    words = [word for setting in getattr(request, "param", ()) for word in ("-p", setting)]
    rclpy.init(args=["--ros-args", *words])
    node = DktNode(workshop)
    yield node
    node.close()
    rclpy.shutdown()
