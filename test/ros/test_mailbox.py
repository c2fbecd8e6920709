"""The mailbox keeps the latest items only, loses none silently and wakes whoever waits."""

from __future__ import annotations

import threading

import pytest
from fixtures.waiting import PATIENCE_S
from hypothesis import given
from hypothesis import strategies as st

from dkt_ros.ros.mailbox import Mailbox


@given(st.lists(st.one_of(st.integers(), st.none())), st.integers(1, 4))
def test_takes_the_latest_in_order_and_tells_what_gave_way(
    actions: list[int | None], capacity: int
) -> None:
    """An integer is put, None takes."""
    mailbox: Mailbox[int] = Mailbox(capacity)
    waiting: list[int] = []
    for action in actions:
        if action is None:
            item = mailbox.take(timeout_s=0.0)
            assert item == (waiting.pop(0) if waiting else None)
        else:
            assert mailbox.put(action) == (len(waiting) == capacity)
            waiting = [*waiting, action][-capacity:]


@pytest.mark.parametrize(("keep", "dropped"), [(0, 3), (1, 2), (3, 0), (9, 0)])
def test_dropping_keeps_the_newest(keep: int, dropped: int) -> None:
    mailbox: Mailbox[int] = Mailbox(5)
    for item in (1, 2, 3):
        mailbox.put(item)
    assert mailbox.drop(keep) == dropped
    left = [mailbox.take(timeout_s=0.0) for _ in range(4)]
    assert left == [*[1, 2, 3][dropped:], *[None] * (dropped + 1)]


def test_a_mailbox_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        Mailbox(0)


def test_take_waits_for_an_item() -> None:
    mailbox: Mailbox[str] = Mailbox()
    threading.Timer(0.05, mailbox.put, args=("late",)).start()
    assert mailbox.take(timeout_s=PATIENCE_S) == "late"


def test_take_gives_up_after_its_timeout() -> None:
    mailbox: Mailbox[str] = Mailbox()
    assert mailbox.take(timeout_s=0.01) is None


def test_close_wakes_the_taker_and_refuses_more() -> None:
    mailbox: Mailbox[str] = Mailbox()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(mailbox.take()))
    taker.start()
    mailbox.close()
    taker.join(PATIENCE_S)
    assert not taker.is_alive()
    assert taken == [None]
    assert mailbox.put("too late") is False
    assert mailbox.take(timeout_s=0.0) is None
    assert mailbox.wait_closed(0.0)


def test_close_drops_what_nobody_took() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.put("never taken")
    mailbox.close()
    assert mailbox.take() is None


def test_wait_closed_times_out() -> None:
    mailbox: Mailbox[str] = Mailbox()
    assert not mailbox.wait_closed(0.01)
