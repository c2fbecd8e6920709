"""Changes of level reach the log once, flickering ones seldom."""

from __future__ import annotations

import pytest

pytest.importorskip("diagnostic_msgs", reason="needs the ROS message packages")

from diagnostic_msgs.msg import DiagnosticStatus

from dkt_ros.ros.status_log import PAUSE_S, StatusLog

pytestmark = pytest.mark.ros
OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


class Reader:
    """A status log and what it wrote; its clock is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[tuple[str, str]] = []
        self.log = StatusLog(
            lambda text: self.lines.append(("info", text)),
            lambda text: self.lines.append(("warning", text)),
            lambda text: self.lines.append(("error", text)),
            lambda: self.now,
        )

    def note(self, level: bytes, message: str, known: tuple[str, ...] = ()) -> None:
        status = DiagnosticStatus(name="/left/dkt_node: input", level=level, message=message)
        self.log.note([status], known)


def test_a_change_is_logged_once_with_its_severity() -> None:
    reader = Reader()
    steps = [
        (OK, "30 frames per second"),
        (WARN, "no message for 2.1 s"),
        (WARN, "no message for 3.1 s"),
        (ERROR, "bad encoding"),
        (OK, "30 frames per second"),
    ]
    for level, message in steps:
        reader.note(level, message)
        reader.now += PAUSE_S
    assert reader.lines == [
        ("warning", "input: no message for 2.1 s"),
        ("error", "input: bad encoding"),
        ("info", "input: 30 frames per second"),
    ]


def test_another_trouble_of_the_same_level_is_logged_other_numbers_are_not() -> None:
    reader = Reader()
    for message in (
        "held, 9 inliers",
        "held, 7 inliers",
        "held, 1e+06 inliers",
        "no message for 2.1 s",
    ):
        reader.note(WARN, message)
        reader.now += PAUSE_S
    assert [text for _, text in reader.lines] == [
        "input: held, 9 inliers",
        "input: no message for 2.1 s",
    ]


def test_flickering_is_logged_seldom_but_its_end_is_not_lost() -> None:
    reader = Reader()
    for _ in range(20):
        reader.note(WARN, "held")
        reader.now += 0.5
        reader.note(OK, "fine")
        reader.now += 0.5
    reader.now += PAUSE_S
    reader.note(OK, "fine")
    assert 3 <= len(reader.lines) <= 20 / PAUSE_S + 2
    assert reader.lines[-1] == ("info", "input: fine")


def test_what_is_in_the_log_already_is_not_repeated() -> None:
    reader = Reader()
    reader.note(ERROR, "frame dropped: x", known=("frame dropped: x",))
    reader.now += PAUSE_S
    reader.note(WARN, "frame dropped: x (and 1 more, see the values)", known=("frame dropped: x",))
    assert reader.lines == []
    reader.now += PAUSE_S
    reader.note(OK, "fine")
    assert reader.lines == [("info", "input: fine")]


def test_stale_says_nothing() -> None:
    reader = Reader()
    reader.note(STALE, "no new depth")
    assert reader.lines == []
