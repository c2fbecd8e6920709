"""Publishes a bag's messages at the pace at which they were recorded.

Knows publishers, pacing and /clock. Knows nothing of the command line or parameters.

Topics are offered reliable and keep-last: a reliable publisher matches reliable and best-effort
subscribers alike. What was recorded latched is offered transient local, which matches both kinds
of durability too; parameters (qos_overrides) win. Messages go out as they were serialized, stamps
and all; nothing is decoded.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock

from dkt_ros.bags.reader import BagReader, BagTopic, RecordedMessage, usable
from dkt_ros.bags.recording import LAST_S
from dkt_ros.bags.topics import recorded_topic
from dkt_ros.errors import DktError
from dkt_ros.frames import NANOSECONDS_PER_SECOND
from dkt_ros.ros.qos import naming_overrides, overrides
from dkt_ros.ros.replay.channel import Channel
from dkt_ros.ros.sending import SteadySpin, attempt, send
from dkt_ros.wording import counted

_PROGRESS_EVERY_S = 5.0
_ACKNOWLEDGE_TIMEOUT_S = 5.0
_POLL_S = 0.05
_LONGEST_TURN_S = 3600.0  # rclpy takes no more than an int64 of nanoseconds
_LONGEST_PAUSE_S = 3600.0
_OF_EVERY_NODE = {"/clock", "/parameter_events", "/rosout"}  # their subscribers mean nothing
_DEEPEST = 2**31 - 1  # what middlewares count in
_DISCOVERY_S = 1.0  # a node's subscriptions become known one after the other


@dataclass(frozen=True)
class Pace:
    """How a bag is played.

    rate: bag seconds per second. clock_hz: how often /clock is published between messages, 0 for
    no /clock. topics: those to play, () for all. queue_depth: messages kept for slow subscribers,
    of a topic with fewer all of a pass; of a latched topic at least as many as were kept when it
    was recorded.
    """

    rate: float = 1.0
    clock_hz: float = 0.0
    topics: tuple[str, ...] = ()
    queue_depth: int = 20

    def __post_init__(self) -> None:
        if not 0.0 < self.rate < float("inf"):
            raise DktError(f"rate is {self.rate:g}, expected a positive number (1 = as recorded)")
        if not 0.0 <= self.clock_hz < float("inf"):
            raise DktError(f"clock_hz is {self.clock_hz:g}, expected 0 (no /clock) or more")
        if not 1 <= self.queue_depth <= _DEEPEST:
            raise DktError(f"queue_depth is {self.queue_depth}, expected 1 to {_DEEPEST}")


class BagPlayer:
    """Plays `bag` onto topics of `node`. `published` counts messages over all passes.

    Topics whose messages cannot be read or whose type is not installed are named in a warning and
    left out. Where only the compressed form of a topic was recorded, asking for the topic plays
    it. Raises DktError where a topic that was asked for cannot be played, or none is left.
    """

    def __init__(self, node: Node, spin: SteadySpin, bag: BagReader, pace: Pace) -> None:
        self._node = node
        self._turns = spin
        self._bag = bag
        self._pace = pace
        self._asked = [recorded_topic(usable(bag.topics), name) for name in pace.topics]
        self._told: set[str] = set()
        self._types: dict[str, Any] = {}
        self._unfit: dict[str, str] = {}
        self._channels = self._open_channels()
        self._clock = self._open_clock() if pace.clock_hz else None
        self._clock_due = 0.0
        self._served = float("-inf")  # when the node was, monotonic seconds
        self._unsent: Counter[str] = Counter()  # by topic and reason
        self.published = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are played, by their recorded names."""
        return tuple(self._channels)

    def wait_for_subscribers(self, count: int, timeout_s: float) -> None:
        """Returns once every topic that was asked for has `count` subscribers.

        Of a whole bag any topic will do, with time for others to be discovered: some topics
        interest nobody. Raises DktError naming those that lack.
        """
        deadline = time.monotonic() + timeout_s
        while lacking := self._topics_below(count):
            if not self._asked and set(self.topics) - _OF_EVERY_NODE - set(lacking):
                self.pause(_DISCOVERY_S)
                return
            if time.monotonic() > deadline:
                raise DktError(
                    f"fewer than {counted(count, 'subscriber')} after {timeout_s:g} s on "
                    f"{', '.join(lacking)}. Start them, choose other topics (--topics), or do "
                    "not wait (--wait-for-subscribers 0)"
                )
            self._spin(_POLL_S)

    def pause(self, seconds: float) -> None:
        """Lets time pass while the node stays answerable."""
        self._spin_until(time.monotonic() + seconds, None)

    def play(self) -> float:
        """Plays the bag once; returns by how many seconds the latest message was late.

        Raises DktError where nothing could be published.
        """
        bag, rate = self._bag, self._pace.rate
        start_ns, start = bag.start_ns, time.monotonic()
        self._clock_due = start
        next_report = start + _PROGRESS_EVERY_S
        worst = 0.0
        previous_ns = start_ns
        for message in bag.messages(self.topics):
            pause_s = (message.time_ns - previous_ns) / NANOSECONDS_PER_SECOND
            if pause_s > _LONGEST_PAUSE_S:  # a wrong clock, not a recording
                self._warn(f"skipping {pause_s:.0f} s without messages")
                start_ns += message.time_ns - previous_ns
            elif pause_s / rate > _PROGRESS_EVERY_S:
                self._node.get_logger().info(
                    f"no messages for {pause_s:.0f} s of the bag: waiting {pause_s / rate:.3g} s; "
                    "a larger --rate shortens it"
                )
            previous_ns = message.time_ns
            due = start + (message.time_ns - start_ns) / rate / NANOSECONDS_PER_SECOND
            self._spin_until(due, partial(self._bag_ns, start_ns, start))
            self._channels[message.topic].make_room()
            now = time.monotonic()
            worst = max(worst, now - due)
            self._publish_clock(message.time_ns)
            self._publish(message)
            if now > next_report:
                next_report = now + _PROGRESS_EVERY_S
                self._report(message.time_ns)
        self._warn_of_losses()
        self._warn_of_another_clock()
        for what, count in self._unsent.items():
            self._warn(f"lost {counted(count, 'message')} of {what}; or lower --rate")
        self._unsent.clear()
        for topic in [topic for topic, problem in self._unfit.items() if problem]:
            self._leave_out(topic, self._unfit.pop(topic))
            self._node.destroy_publisher(self._channels.pop(topic).publisher)
        if not self.published:
            raise DktError(f"{bag.path}: none of its messages could be played")
        return worst

    def loop_gap_s(self) -> float:
        """Seconds between the last message of a pass and the first of the next: one frame's."""
        busiest = max(self._bag.topics[name].count for name in self.topics)
        duration_s = (self._bag.end_ns - self._bag.start_ns) / NANOSECONDS_PER_SECOND
        return (duration_s / (busiest - 1) if busiest > 1 and duration_s else 1.0) / self._pace.rate

    def finish(self) -> None:
        """Waits until reliable subscribers have all that was sent, a few seconds at most."""
        deadline = time.monotonic() + _ACKNOWLEDGE_TIMEOUT_S
        for topic, channel in self._channels.items():
            if not channel.wait_for_all_acked(deadline):
                self._warn(f"{topic}: not every subscriber has acknowledged all messages")

    def _open_channels(self) -> dict[str, Channel]:
        self._bag.require(self._asked)
        self._warn_of_losses()
        channels = {}
        for name in self._asked or self._bag.topics:
            topic = self._bag.topics[name]
            problem = topic.problem
            if not problem:
                try:
                    self._types[name] = message_class(topic.msgtype)
                    publisher = self._open_publisher(topic)
                    channels[name] = Channel(publisher, partial(self._spin, 0.0), self._warn)
                # Whatever the middleware raises for a name or type that it does not take.
                except Exception as error:  # noqa: BLE001
                    problem = " ".join(str(error).split())
            if problem:
                self._leave_out(name, problem)
        if not channels:
            raise DktError(f"{self._bag.path}: none of its topics can be played")
        self._warn_of_mixing(channels)
        self._unfit = dict.fromkeys(channels, "")
        return channels

    def _warn_of_mixing(self, channels: dict[str, Channel]) -> None:
        names: dict[str, list[str]] = {}
        for name, channel in channels.items():
            names.setdefault(channel.publisher.topic_name, []).append(name)
        for topic, mixed in names.items():
            if len(mixed) > 1:
                self._warn(
                    f"{', '.join(mixed)} are all played as {topic}, mixed: expected one topic for "
                    "each; choose one by --topics, or rename one by --remap"
                )

    def _leave_out(self, name: str, problem: str) -> None:
        """A warning; DktError where the topic was asked for."""
        if self._asked:
            raise DktError(f"{name} cannot be played: {problem}")
        self._warn(f"leaving out {name}: {problem}")

    def _open_publisher(self, topic: BagTopic) -> Publisher:
        durability = (
            DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
        )
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            # No deeper than it can fill: Fast DDS asks its readers what they have with what fills a
            # queue, otherwise after 3 s, which the end of a short bag would be waited for.
            depth=max(min(self._pace.queue_depth, topic.count), topic.kept, 1),
            reliability=ReliabilityPolicy.RELIABLE,
            durability=durability,
        )
        resolved = self._node.resolve_topic_name(topic.name)
        with naming_overrides(self._node, resolved, "publisher"):
            return self._node.create_publisher(
                self._types[topic.name], topic.name, qos, qos_overriding_options=overrides()
            )

    def _open_clock(self) -> Publisher:
        clock = self._node.resolve_topic_name("/clock")
        for name, channel in self._channels.items():
            if channel.publisher.topic_name == clock:
                raise DktError(
                    f"the bag's {name} is played as {clock}: play it without --clock, or choose "
                    "other topics"
                )
        return self._node.create_publisher(Clock, "/clock", QoSProfile(depth=10))

    def _topics_below(self, count: int) -> list[str]:
        return [
            name
            for name, channel in self._channels.items()
            if channel.publisher.get_subscription_count() < count
        ]

    def _publish(self, message: RecordedMessage) -> None:
        if message.topic in self._unfit and not self._fits(message):
            return
        publish = partial(self._channels[message.topic].publish, message.cdr)
        self.published += attempt(
            lambda: send(publish), lambda _, text: self._unsent.update([f"{message.topic}: {text}"])
        )

    def _fits(self, message: RecordedMessage) -> bool:
        """Whether the installed type can read the recorded bytes; asked until one message fits.

        Subscribers would otherwise get garbage, or fail, where the definition has changed since.
        """
        try:
            deserialize_message(message.cdr, self._types[message.topic])
        except RuntimeError as error:  # what rclpy raises for any failure of the middleware's
            problem = f"its messages do not fit the installed {message.msgtype} ({error})"
            if not self._unfit[message.topic]:
                self._warn(f"{message.topic}: {problem}")
            self._unfit[message.topic] = problem
            return False
        del self._unfit[message.topic]
        return True

    def _publish_clock(self, time_ns: int) -> None:
        if self._clock is None:
            return
        seconds, nanoseconds = divmod(time_ns, NANOSECONDS_PER_SECOND)
        if not 0 <= seconds < LAST_S:
            self._warn_once(
                "times before 1970 or after 2038 cannot be told on /clock and are left out there: "
                "was the recorder's clock set wrongly? Play without --clock"
            )
            return
        stamp = Clock()
        stamp.clock.sec, stamp.clock.nanosec = seconds, nanoseconds
        # The next one tells the time as well.
        attempt(partial(self._clock.publish, stamp), lambda *_: None)

    def _bag_ns(self, start_ns: int, start: float, now: float) -> int:
        """The bag's time `now`, where `start_ns` was played at `start`, both monotonic seconds."""
        return start_ns + int((now - start) * self._pace.rate * NANOSECONDS_PER_SECOND)

    def _spin_until(self, due: float, bag_time: Callable[[float], int] | None) -> None:
        """Serves the node until `due` (monotonic seconds), ticking /clock where time is known.

        Where that is past the node is served now and then all the same.
        """
        if time.monotonic() - self._served > _POLL_S:
            self._spin(0.0)
        while (now := time.monotonic()) < due:
            wake = due
            if self._clock is not None and bag_time is not None:
                if now >= self._clock_due:
                    self._publish_clock(bag_time(now))
                    self._clock_due = now + 1.0 / self._pace.clock_hz
                wake = min(due, self._clock_due)
            self._spin(min(max(0.0, wake - time.monotonic()), _LONGEST_TURN_S))

    def _spin(self, seconds: float) -> None:
        self._turns.once(seconds)
        self._served = time.monotonic()

    def _report(self, time_ns: int) -> None:
        self._warn_of_another_clock()
        bag = self._bag
        done = (time_ns - bag.start_ns) / NANOSECONDS_PER_SECOND
        total = max(bag.end_ns - bag.start_ns, 1) / NANOSECONDS_PER_SECOND
        self._node.get_logger().info(
            f"{done / total:.0%}: {done:.1f} of {total:.1f} s, {counted(self.published, 'message')}"
        )

    def _warn_of_losses(self) -> None:
        """Each of the bag's remarks once; reading adds some."""
        for remark in self._bag.remarks:
            self._warn_once(f"{self._bag.path}: {remark}")

    def _warn_of_another_clock(self) -> None:
        if self._clock is None or self._node.count_publishers(self._clock.topic_name) < 2:
            return
        self._warn_once(
            f"another node publishes {self._clock.topic_name} too: time jumps between the two; "
            "expected one alone, play the others without --clock"
        )

    def _warn_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._warn(text)

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text)


def message_class(msgtype: str) -> Any:
    """The Python class of a ROS 2 type name, `package/msg/Type`.

    Raises DktError where no installed package has it.
    """
    package, _, name = msgtype.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise DktError(
            f"no installed package has its type {msgtype} ({error}); install it, or source the "
            "workspace that holds it"
        ) from error
