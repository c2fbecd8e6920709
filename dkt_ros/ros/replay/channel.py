"""A publisher that loses nothing to reliable readers that keep up, however fast it is played.

Knows what readers acknowledge. Knows nothing of bags or pacing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import rclpy
from rclpy.duration import Duration
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy

from dkt_ros.ros.sending import RCLError

_HANGS_AFTER_S = 1.0
"""A reliable reader that lets all that is kept wait for so long is waited for no more."""
_ENOUGH = 1000
"""Of a publisher that keeps all, which a middleware's own limits end."""
_ASKING_S = 0.02
_TURN_S = 0.1
_KEPT_S = 0.2
"""While one hangs, nobody tells what the others have: a message is kept for them for so long."""


class Channel:
    """A publisher and what it sent that may not have been acknowledged.

    A publisher keeps its newest messages alone, for its readers to ask for again; of one that is
    faster than they are, the others are lost. A reader whose process stands still acknowledges
    nothing, and must not keep the messages from the others.

    Now and then, at hundreds of messages a second, one that is stopped holds up Fast DDS itself,
    and with it the others, which nothing here can help.
    """

    def __init__(
        self, publisher: Publisher, turn: Callable[[], None], warn: Callable[[str], None]
    ) -> None:
        """`turn` serves the node while it waits; `warn` is told when it waits no more."""
        self._publisher = publisher
        self._turn = turn
        self._warn = warn
        profile = publisher.qos_profile
        keeps_all = profile.history == HistoryPolicy.KEEP_ALL
        self._depth = _ENOUGH if keeps_all else profile.depth
        self._unsure: deque[float] = deque(maxlen=self._depth)  # when they were sent
        self._missing_since: float | None = None
        self._hangs = False

    @property
    def publisher(self) -> Publisher:
        """Of the middleware."""
        return self._publisher

    def make_room(self) -> None:
        """Returns once another message takes none from a reader that keeps up."""
        if 2 * len(self._unsure) < self._depth:
            return
        if self._all_have_all(0.0 if self._hangs else _ASKING_S):
            return
        if self._missing_since is None:
            self._missing_since = time.monotonic()
        # The next message asks the readers again what they have.
        if len(self._unsure) < self._depth:
            return
        while not self._hangs:
            if self._all_have_all(_TURN_S):
                return
            self._turn()
            if time.monotonic() - self._missing_since > _HANGS_AFTER_S:
                self._hangs = True
                self._warn(
                    f"{self._publisher.topic_name}: a reliable subscriber acknowledges nothing; "
                    "going on without it. Its process hangs, or its machine is gone or too slow"
                )
        time.sleep(max(0.0, self._unsure[0] + _KEPT_S - time.monotonic()))

    def publish(self, message: bytes) -> None:
        """Sends a serialized message; raises what rclpy does."""
        self._publisher.publish(message)
        self._unsure.append(time.monotonic())

    def wait_for_all_acked(self, until: float) -> bool:
        """Whether reliable readers had all by then (monotonic seconds)."""
        while not self._all_have_all(_TURN_S):
            if time.monotonic() > until:
                return False
            self._turn()
        return True

    def _all_have_all(self, within_s: float) -> bool:
        try:
            if not self._publisher.wait_for_all_acked(Duration(seconds=within_s)):
                return False
        except RCLError:  # of a middleware that cannot tell
            if not rclpy.ok():
                raise
        self._unsure.clear()
        self._missing_since, self._hangs = None, False
        return True
