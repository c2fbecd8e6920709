"""Quality of service: the profiles, how they are overridden, and what happens when they clash.

Overrides are parameters of rclpy's own, read at start, named after the resolved topic:
`qos_overrides./camera/color/image_raw.subscription.reliability: reliable`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rclpy import get_rmw_implementation_identifier
from rclpy.callback_groups import CallbackGroup
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from dkt_ros.errors import DktError
from dkt_ros.ros.params.declarations import qos_overrides_of
from dkt_ros.ros.probe import (
    PROFILE_VARIABLES,
    discovery_settings,
    is_cut_off,
    other_users,
    profile_variable,
)
from dkt_ros.ros.sending import Report

try:
    from rclpy import event_handler
except ImportError:  # Humble
    from rclpy import qos_event as event_handler

INPUT_DEPTH = 10
"""Messages kept per input: what arrives at once, as after a link or a busy machine has stood still
for a third of a second. What is lost here cannot be told from what is lost on the way; a longer
queue would make what a machine too slow for its camera uses older."""
SENT_DEPTH = 5
"""Messages of an output kept until its readers have acknowledged them, to be sent again. A reader
that comes late gets none of them, and one that keeps a single message gets the newest."""
REQUEST_DEPTH = 200
"""Requests kept that came at once."""

LEASE_S = 2.0
"""Outputs promise a sign of life so often, which the middleware sends by itself. Whoever asks for
one at least that often is told of a process that was killed or stands still; others match too."""
SILENT_AFTER_S = 3.0
"""After so long without one, watch_liveliness tells."""
_LIVELINESS = f"automatic liveliness with a lease of {LEASE_S:g} s or more"
_PROMISED = {
    "deadline": f"Have it ask for no deadline; a watchdog may ask for {_LIVELINESS}",
    "liveliness": f"Have it ask for {_LIVELINESS}",
}
"""What subscribers may ask for of the policies that no parameter overrides."""

ASKED_EVERY_S, TURN_S = 1.0, 0.1
"""How often events of topics are asked for, and for how long."""

_UNNAMED = "_NODE_NAME_UNKNOWN_"
"""rmw's word until discovery has brought the name."""


def input_profile() -> QoSProfile:
    """Best effort, keep last: matches every publisher."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=INPUT_DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def output_profile(depth: int) -> QoSProfile:
    """Reliable, keep last: matches every volatile subscriber, RViz's included."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Duration(seconds=LEASE_S),
    )


def request_profile() -> QoSProfile:
    """Reliable, for services: what comes while the node does something else waits, and is not lost.

    ROS keeps ten by itself, and whoever sent the eleventh is never answered.
    """
    return QoSProfile(depth=REQUEST_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def overrides() -> QoSOverridingOptions:
    """Lets history, depth, reliability and durability be set by parameter."""
    return QoSOverridingOptions(
        (
            QoSPolicyKind.HISTORY,
            QoSPolicyKind.DEPTH,
            QoSPolicyKind.RELIABILITY,
            QoSPolicyKind.DURABILITY,
        )
    )


def create_subscription(
    node: Node, message_type: type, topic: str, callback: Callable[[Any], None], report: Report
) -> Subscription:
    """A best-effort subscription that can be overridden and reports clashes."""

    def create(events: event_handler.SubscriptionEventCallbacks | None) -> Subscription:
        return node.create_subscription(
            message_type,
            topic,
            callback,
            input_profile(),
            event_callbacks=events,
            qos_overriding_options=overrides(),
        )

    resolved = node.resolve_topic_name(topic)
    try:
        with naming_overrides(node, resolved, "subscription"):
            return _seldom_asked(create(subscription_events(resolved, report)))
    except event_handler.UnsupportedEventTypeError:  # a middleware whose QoS cannot clash
        return create(None)


def create_publisher(
    node: LifecycleNode, message_type: type, topic: str, report: Report, depth: int = 1
) -> LifecyclePublisher:
    """A reliable publisher that can be overridden and reports clashes."""

    def create(events: event_handler.PublisherEventCallbacks | None) -> LifecyclePublisher:
        return node.create_lifecycle_publisher(
            message_type,
            topic,
            output_profile(depth),
            event_callbacks=events,
            qos_overriding_options=overrides(),
        )

    resolved = node.resolve_topic_name(topic)
    try:
        with naming_overrides(node, resolved, "publisher"):
            return _seldom_asked(create(publisher_events(resolved, report)))
    except event_handler.UnsupportedEventTypeError:
        return create(None)


class Seldom(CallbackGroup):
    """Of what may wait a second: all that the executor waits for costs time with every message.

    What happens meanwhile is kept by the middleware until it is asked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._due = self._until = clock()

    def can_execute(self, entity: Any) -> bool:
        """Once a second, and for as long after that as a turn of the executor takes."""
        now = self._clock()
        if now >= self._due:
            self._due, self._until = now + ASKED_EVERY_S, now + TURN_S
        return now <= self._until

    def beginning_execution(self, entity: Any) -> bool:
        """Whoever was asked may tell."""
        return True

    def ending_execution(self, entity: Any) -> None:
        """Nobody waits for it."""


class Paced(CallbackGroup):
    """Of what comes far more often than it is needed, and of which the newest alone counts.

    The executor does not wait for it for a while after each: who uses it sees to being woken.
    """

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s, self._clock, self._due = every_s, clock, clock()

    def can_execute(self, entity: Any) -> bool:
        """Unless there was one a moment ago."""
        return self._clock() >= self._due

    def beginning_execution(self, entity: Any) -> bool:
        """Nothing else hinders it."""
        self._due = self._clock() + self._every_s
        return True

    def ending_execution(self, entity: Any) -> None:
        """Nobody waits for it."""


def _seldom_asked(entity: Any) -> Any:
    """The publisher or subscription, its events in a group of their own."""
    group = Seldom()
    for handler in entity.event_handlers:
        handler.callback_group = group
        group.add_entity(handler)
    return entity


@contextmanager
def naming_overrides(node: Node, topic: str, entity: str) -> Iterator[None]:
    """Within it, what fails by QoS that was given is a DktError that names it."""
    try:
        yield
    except event_handler.UnsupportedEventTypeError:
        raise
    except Exception as error:
        if not (given := qos_overrides_of(node, topic, entity)):
            raise
        found = ", ".join(f"{name} is {value!r}" for name, value in given.items())
        raise DktError(
            f"{found}: expected reliability of reliable or best_effort, durability of volatile or "
            "transient_local, history of keep_last or keep_all, a whole number from 1 on as depth"
        ) from error


def watch_liveliness(
    node: Node, message_type: type, topic: str, changed: Callable[[bool], None]
) -> None:
    """Has `changed` told whether all publishers of an output of ours have fallen silent.

    DDS itself, and with it the graph, forgets a process that was killed after 20 s only.
    """

    def tell(event: Any) -> None:
        changed(event.alive_count == 0 and event.not_alive_count > 0)

    profile = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Duration(seconds=SILENT_AFTER_S),
    )
    events = event_handler.SubscriptionEventCallbacks(liveliness=tell, use_default_callbacks=False)
    with suppress(event_handler.UnsupportedEventTypeError):
        node.create_subscription(
            message_type, topic, lambda message: None, profile, event_callbacks=events, raw=True
        )


def subscription_events(topic: str, report: Report) -> event_handler.SubscriptionEventCallbacks:
    """Has publishers that cannot match our subscription reported."""

    def incompatible(event: Any) -> None:
        report(
            "incompatible QoS",
            f"a publisher of {topic} offers a {_policy(event)} that this node's subscription does "
            f"not accept: no message will come from it. Set qos_overrides.{topic}.subscription."
            f"{_policy(event)} to what it offers (ros2 topic info -v {topic}).",
        )

    return event_handler.SubscriptionEventCallbacks(incompatible_qos=incompatible)


def publisher_events(topic: str, report: Report) -> event_handler.PublisherEventCallbacks:
    """Has subscribers that cannot match our publisher reported."""

    def incompatible(event: Any) -> None:
        policy = _policy(event)
        remedy = _PROMISED.get(
            policy, f"Change the subscriber, or set qos_overrides.{topic}.publisher.{policy}"
        )
        report(
            "incompatible QoS",
            f"a subscriber of {topic} asks for a {policy} that this node does not offer: it will "
            f"get no message. {remedy} (ros2 topic info -v {topic}).",
        )

    return event_handler.PublisherEventCallbacks(incompatible_qos=incompatible)


def large_message_advice() -> str:
    """What to do about images that get lost on the way, by the middleware's settings."""
    chosen = next((name for name in PROFILE_VARIABLES if os.environ.get(name)), None)
    if not _is_fast_dds() or chosen:
        setting = ""
        if chosen and not os.path.isfile(os.environ[chosen]):
            setting = f"{chosen} is set to {os.environ[chosen]}, which is no file: mend it. "
        elif chosen:
            setting = f"{chosen} is set here; is it for the camera's driver too? "
        return (
            f"{setting}Between machines allow large receive buffers: sysctl -w "
            "net.core.rmem_max=8388608"
        )
    return (
        "by default Fast DDS shares less memory than one image needs: set "
        f"{profile_variable()} to dkt_ros's config/fastdds.xml for the camera's driver, this "
        "node and the planner"
    )


def surroundings(node: Node) -> str:
    """What decides which other nodes this one finds."""
    settings = [
        f"ROS_DOMAIN_ID={node.context.get_domain_id()}",
        f"RMW_IMPLEMENTATION={get_rmw_implementation_identifier()}",
        discovery_settings(),
    ]
    return ", ".join(filter(None, settings))


def other_users_advice() -> str:
    """What to do where nodes of other users run here, to whom shared memory is closed; else ""."""
    if not _is_fast_dds() or not (others := other_users()):
        return ""
    return (
        f"Nodes of another user ({', '.join(others)}) run here, and this one is user "
        f"{os.geteuid()}'s: Fast DDS passes nothing between users by shared memory. Run camera, "
        "node and readers as one user, or, from Jazzy on, this node with "
        "FASTDDS_BUILTIN_TRANSPORTS=UDPv4 and without a profile"
    )


def cut_off_advice() -> str:
    """What to do where others that start from now on cannot reach this process; else ""."""
    if not _is_fast_dds() or not is_cut_off():
        return ""
    return (
        "the shared memory of this process was removed from /dev/shm, as systemd does when the "
        "last session of a user ends: cameras and planners that start from now on are seen and "
        "not heard, and hear nothing; restart this process, and set RemoveIPC=no in "
        "/etc/systemd/logind.conf"
    )


def node_names(endpoints: Sequence[Any]) -> tuple[str, ...]:
    """The full names of the nodes that publish or subscribe, one for each endpoint.

    Without those that ROS knows the endpoint of, and not yet the name.
    """
    return tuple(
        sorted(
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in endpoints
            if info.node_name != _UNNAMED
        )
    )


def _is_fast_dds() -> bool:
    return "fastrtps" in get_rmw_implementation_identifier()


def _policy(event: Any) -> str:
    """The policy's name as in a parameter, e.g. "reliability"."""
    kind = event.last_policy_kind
    try:
        return QoSPolicyKind(int(kind)).name.lower()
    except ValueError:
        return f"policy {kind}"
