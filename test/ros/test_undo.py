"""Taking apart: every step is done, and what failed is told."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from dkt_ros.errors import DktError
from dkt_ros.ros.undo import all_of, told, undone_by


def failing(done: list[int], number: int, error: BaseException | None = None) -> None:
    done.append(number)
    if error is not None:
        raise error


def test_all_steps_are_done_in_order_and_one_failure_is_raised_as_it_is() -> None:
    done: list[int] = []
    error = RuntimeError("one")
    with pytest.raises(RuntimeError) as raised:
        all_of(*(lambda n=n: failing(done, n, error if n == 1 else None) for n in range(3)))
    assert raised.value is error
    assert done == [0, 1, 2]


def test_several_failures_are_told_together() -> None:
    done: list[int] = []
    errors = (DktError("found a, expected b"), RuntimeError("no, at /src/x.cpp:3\nadvice"))
    with pytest.raises(DktError, match=r"^found a, expected b; RuntimeError: no$"):
        all_of(*(lambda e=e: failing(done, 0, e) for e in errors))


def test_what_is_made_without_a_failure_stays() -> None:
    done: list[int] = []
    with undone_by(lambda: done.append(1)):
        pass
    assert done == []


def test_what_fails_is_undone_and_both_failures_are_told() -> None:
    done: list[int] = []
    with pytest.raises(KeyError), undone_by(lambda: done.append(1)):
        raise KeyError("made")
    assert done == [1]
    with (
        pytest.raises(DktError, match=r"^made; and taking back failed: ValueError: undone$"),
        undone_by(lambda: failing(done, 2, ValueError("undone"))),
    ):
        raise DktError("made")
    with (
        pytest.raises(KeyboardInterrupt),
        undone_by(lambda: failing(done, 3, ValueError("undone"))),
    ):
        raise KeyboardInterrupt


def test_an_error_without_words_is_told_by_its_kind() -> None:
    assert told(MemoryError()) == "MemoryError"
