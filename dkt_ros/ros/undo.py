"""Taking apart what was made: no step that fails keeps the others from being done.

Knows steps; nothing of what they take apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dkt_ros.errors import DktError, place_of
from dkt_ros.ros.sending import first_line


def all_of(*steps: Callable[[], object]) -> None:
    """Does each, in this order; what failed is raised when all are done, several as a DktError."""
    errors: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 raised below
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DktError("; ".join(map(told, errors))) from errors[0]


@contextmanager
def undone_by(*steps: Callable[[], object]) -> Iterator[None]:
    """Within it something is made; where that fails it is taken apart, and its error is raised.

    What fails in taking it apart comes with it, as a DktError of both.
    """
    try:
        yield
    except BaseException as error:
        try:
            all_of(*steps)
        except Exception as more:
            if not isinstance(error, Exception):  # an interrupt
                raise error from more
            raise DktError(f"{told(error)}; and taking back failed: {told(more)}") from error
        raise


def told(error: Exception) -> str:
    """One line: a DktError's own text, others with their kind and place, without rcl's places."""
    if isinstance(error, DktError):
        return str(error)
    text = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
    return text + place_of(error)
