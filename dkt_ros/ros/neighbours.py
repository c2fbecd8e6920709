"""What others do to a node: whether /clock is sent, by one alone, and whether its name is its own.

Knows a node's graph and clock; nothing of what the node does. What lasts is said once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from dkt_ros.ros.qos import node_names
from dkt_ros.ros.requests import living_on
from dkt_ros.ros.sending import Report

STILL_CLOCK = (
    "use_sim_time is set and /clock stands still: is the bag or simulation that sends it paused, "
    "or at its end?"
)
CLOCK_EVERY_S = 0.02
"""How often a message of /clock is read: a simulation with steps of 1 ms sends a thousand a second,
which takes a third of a core."""
CLOCK_RESTS_S = 0.75 * CLOCK_EVERY_S
"""After each. Were it as long as that, every second look would come a moment too early."""
LASTING_S = 3.0
"""How long something may be wrong with /clock or names before an active node says so."""
NO_CLOCK = (
    "use_sim_time is set and nothing comes on /clock: expected a player that sends the bag's time "
    "(dkt_replay --clock, ros2 bag play --clock); without one set use_sim_time to false"
)
NO_TIME_YET = (
    "use_sim_time is set and nothing has come on /clock yet: {} is to send it and waits for its "
    "subscribers, or is paused"
)


class Neighbours:
    """Looks around for one node."""

    def __init__(self, node: Node, idle: Callable[[], str], report: Report) -> None:
        """idle: "" while the node does what others can disturb, else anything.

        report: should looking fail.
        """
        self._node, self._idle = node, idle
        self._clock_ns, self._clock_moved = 0, 0.0  # when, by the monotonic clock
        self._troubled_since: dict[str, float] = {}
        # On a clock of its own, as it is to notice that the other one stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(LASTING_S / 3, living_on(self.look, report), clock=steady)
        self._looks_at_clock = node.create_timer(CLOCK_EVERY_S, lambda: None, clock=steady)

    def look(self) -> None:
        """Says once what is wrong with /clock or names, and once more if it was well in between."""
        if not self._node.get_clock().ros_time_is_active:
            self._looks_at_clock.cancel()
        elif self._looks_at_clock.is_canceled():
            self._looks_at_clock.reset()
        now = time.monotonic()
        for what, trouble in (("clock", self.clock_trouble()), ("twins", self.twins_trouble())):
            if not trouble or self._idle():
                self._troubled_since.pop(what, None)
            elif now - self._troubled_since.setdefault(what, now) >= LASTING_S:
                self._troubled_since[what] = math.inf  # said
                self._node.get_logger().warning(trouble)

    def clock_trouble(self) -> str:
        """What is told where use_sim_time is set and /clock is silent, still or sent by two."""
        clock = self._node.get_clock()
        if not clock.ros_time_is_active:
            return ""
        now_ns = clock.now().nanoseconds
        names = node_names(self._node.get_publishers_info_by_topic("/clock"))
        if now_ns == 0:
            return NO_TIME_YET.format(", ".join(names)) if names else NO_CLOCK
        if now_ns != self._clock_ns:
            self._clock_ns, self._clock_moved = now_ns, time.monotonic()
        if len(names) > 1:
            return (
                f"use_sim_time is set and /clock has {len(names)} publishers ({', '.join(names)}): "
                "time jumps between theirs; end all but one, or leave a recorded /clock out of "
                "what is played"
            )
        return STILL_CLOCK if time.monotonic() - self._clock_moved >= LASTING_S else ""

    def twins_trouble(self) -> str:
        """What is told where other nodes go by this one's name; else ""."""
        own = (self._node.get_name(), self._node.get_namespace())
        count = self._node.get_node_names_and_namespaces().count(own) - 1
        if count < 1:
            return ""
        return (
            f"active, and so may be {count} more called {self._node.get_fully_qualified_name()}: "
            "every frame and request is answered by each; end the others or give them namespaces "
            "(of one that was killed DDS tells for 20 s more)"
        )
