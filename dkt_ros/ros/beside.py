"""Work in a thread of its own, awaited in an executor that goes on with everything else meanwhile.

Knows threads and turns of an executor; nothing of what is worked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

POLL_S = 0.02
AWAKE_S = 0.05


class NextTurn:
    """Awaited, it gives the executor one turn."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def beside(node: Node, work: Callable[[], Any]) -> Any:
    """The result of `work`, done in a thread of its own while the node's executor goes on."""
    done = threading.Event()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except Exception as error:  # noqa: BLE001 raised again by whoever awaits it
            outcome["error"] = error
        except BaseException as error:  # noqa: BLE001 a library's exit is not the node's
            outcome["error"] = RuntimeError(f"{type(error).__name__}: {error}")
        done.set()
        if node.executor is not None:
            node.executor.wake()

    threading.Thread(target=run, name=f"{node.get_name()}_beside", daemon=True).start()
    # Awaiting leaves the executor to others; without the wait it would come back at once.
    while not done.wait(POLL_S):
        await NextTurn()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


@contextmanager
def awake(node: Node) -> Iterator[None]:
    """Within it, who awaits NextTurn gets turns, though nothing comes that wakes the executor."""
    clock = Clock(clock_type=ClockType.STEADY_TIME)
    timer = node.create_timer(AWAKE_S, lambda: None, clock=clock)
    try:
        yield
    finally:
        node.destroy_timer(timer)
