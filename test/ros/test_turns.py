"""Turns at one network: their order, and that nobody waits in vain."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from fixtures.waiting import PATIENCE_S, eventually

from dkt_ros.ros.turns import Turns


def test_turns_come_in_the_order_in_which_they_are_asked_for() -> None:
    turns, order = Turns(), []

    def ask(name: str) -> None:
        with turns.turn() as is_ours:
            assert is_ours
            order.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abc"]
    with turns.turn():
        for count, thread in enumerate(threads, 2):
            thread.start()
            eventually(lambda count=count: len(turns._asked) == count)  # type: ignore[misc]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["a", "b", "c"]


def test_who_asks_again_at_once_stands_behind_all_others() -> None:
    """Two that never rest, one of them with little to do: each gets every other turn."""
    turns, order, over = Turns(), [], threading.Event()

    def work(name: str) -> None:
        while not over.is_set():
            with turns.turn():
                order.append(name)
                while len(turns._asked) < 2 and not over.is_set():
                    time.sleep(0.0005)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(order) >= 40)
    finally:
        over.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    first = order.index("b" if order[0] == "a" else "a")  # until both run
    rest = order[first : first + 36]
    assert all(one != other for one, other in pairwise(rest))


def test_a_wait_that_is_no_longer_wanted_ends_and_takes_no_turn() -> None:
    turns = Turns()
    with turns.turn(), turns.turn(lambda: False) as is_ours:
        assert not is_ours
    with turns.turn(lambda: False) as is_ours:
        assert is_ours, "nobody was before it"


def test_who_waits_no_longer_has_nobody_else_begin() -> None:
    turns, begun = Turns(), threading.Event()

    def ask() -> None:
        with turns.turn():
            begun.set()

    thread = threading.Thread(target=ask)
    with turns.turn():
        thread.start()
        eventually(lambda: len(turns._asked) == 2)
        with turns.turn(lambda: False) as is_ours:
            assert not is_ours
        assert not begun.wait(0.1), "the first goes on"
    thread.join(PATIENCE_S)
    assert begun.is_set()
