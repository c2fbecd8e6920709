"""What a replay's publisher waits for, with readers that are made up."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs rclpy")

import rclpy
from rclpy.qos import HistoryPolicy, QoSProfile

from dkt_ros.ros.replay import channel
from dkt_ros.ros.replay.channel import Channel
from dkt_ros.ros.sending import RCLError

pytestmark = pytest.mark.ros
DEPTH = 6


class Reader:
    """A publisher's one reliable reader: acknowledges once it was asked `slow` times."""

    topic_name = "/color"
    qos_profile = QoSProfile(depth=DEPTH)

    def __init__(self, slow: int) -> None:
        self.slow = slow
        self.hangs = False
        self.kept: deque[bytes] = deque(maxlen=DEPTH)
        self.heard: list[bytes] = []
        self._asked = 0

    def publish(self, message: bytes) -> None:
        self.kept.append(message)

    def wait_for_all_acked(self, _timeout: Any) -> bool:
        self._asked += 1
        if self.hangs or self._asked % self.slow:
            return False
        self.heard += self.kept
        self.kept.clear()
        return True


def played(reader: Reader, numbers: range, told: list[str]) -> Channel:
    made: Any = Channel(reader, lambda: None, told.append)
    send(made, numbers)
    return made


def send(to: Channel, numbers: range) -> None:
    for number in numbers:
        to.make_room()
        to.publish(b"%d" % number)


@pytest.mark.parametrize("slow", [1, 3, 20])
def test_a_reader_that_is_slow_has_every_message_in_order(slow: int) -> None:
    reader, told = Reader(slow), list[str]()
    played(reader, range(40), told).wait_for_all_acked(float("inf"))
    assert reader.heard == [b"%d" % number for number in range(40)]
    assert told == []


def test_a_reader_that_hangs_is_waited_for_once_and_told_of_until_it_reads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "_HANGS_AFTER_S", 0.0)
    monkeypatch.setattr(channel, "_KEPT_S", 0.0)
    reader, told = Reader(1), list[str]()
    reader.hangs = True
    made = played(reader, range(40), told)
    assert len(told) == 1, "every message was sent, and it was told once"
    assert "/color: a reliable subscriber acknowledges nothing" in told[0]
    assert not made.wait_for_all_acked(0.0)
    reader.hangs = False
    send(made, range(40, 80))
    made.wait_for_all_acked(float("inf"))
    assert reader.heard == [b"%d" % number for number in range(40 - DEPTH, 80)]
    reader.hangs = True
    send(made, range(80, 100))
    assert len(told) == 2


def test_while_one_hangs_messages_are_kept_for_the_others_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    now = [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(channel, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))
    monkeypatch.setattr(channel, "_HANGS_AFTER_S", -1.0)
    reader = Reader(1)
    reader.hangs = True
    played(reader, range(5 * DEPTH), [])
    assert now[0] == pytest.approx(100.0 + 4 * channel._KEPT_S)


def test_a_publisher_that_keeps_all_waits_for_nobody_soon() -> None:
    reader = Reader(1)
    reader.qos_profile = QoSProfile(history=HistoryPolicy.KEEP_ALL)
    played(reader, range(40), [])
    assert reader.heard == []


def test_a_middleware_that_cannot_tell_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_tell(_timeout: Any) -> bool:
        raise RCLError("unsupported")

    reader, told = Reader(1), list[str]()
    reader.wait_for_all_acked = cannot_tell  # type: ignore[method-assign]
    monkeypatch.setattr(rclpy, "ok", lambda: True)
    made = played(reader, range(40), told)
    assert reader.kept[-1] == b"39"
    assert told == []
    monkeypatch.setattr(rclpy, "ok", lambda: False)
    with pytest.raises(RCLError):
        made.wait_for_all_acked(float("inf"))
