"""The bond by which nav2's lifecycle manager sees that a node lives, where bondpy is installed.

Knows bondpy, and what of it fails or is left behind; nothing of when a node lives.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode

from dkt_ros.ros.sending import Report, attempt
from dkt_ros.ros.undo import all_of

ACKED_S = 0.5
"""How long a lifecycle manager is waited for to hear that the bond is broken."""


def make_bond(node: LifecycleNode, report: Report) -> Any:
    """One to be started; None without bondpy.

    `report` gets a sign of life that could not be sent.
    """
    try:
        from bondpy.bondpy import Bond
    except ImportError:
        return None
    bond = Bond(node, "bond", node.get_name())
    publish = bond.pub.publish
    # In a thread of the bond's own, which would end with what it raises, and the bond with it.
    bond.pub.publish = lambda beat: attempt(lambda: publish(beat), report)
    # Those of nav2's own nodes.
    bond.heartbeat_period, bond.heartbeat_timeout = 0.1, 4.0
    return bond


def end_bond(node: LifecycleNode, bond: Any) -> None:
    """Breaks it, told to who hears it, and leaves nothing of it."""
    # An interrupt takes the context from what it publishes with; not every middleware tells what
    # was acknowledged.
    with suppress(Exception):
        if not bond.is_broken():
            bond.break_bond()
            # What is taken down with its publisher would reach nobody.
            bond.pub.wait_for_all_acked(Duration(seconds=ACKED_S))
    with suppress(Exception):
        bond.shutdown()
    # It destroys both, and leaves them in the node's lists. What failed to start lacks one.
    all_of(
        lambda: node.destroy_publisher(getattr(bond, "pub", None)),
        lambda: node.destroy_subscription(getattr(bond, "sub", None)),
    )
