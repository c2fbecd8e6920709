"""What the tests of a node in this process share: one around engines without a network."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fixtures.workshop import Workshop

    from dkt_ros.ros.node import DktNode


@pytest.fixture(autouse=True, scope="module")
def freeze_again() -> Iterator[None]:
    """What test/conftest.py has frozen, where an engine's end thawed it."""
    yield
    gc.freeze()


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
