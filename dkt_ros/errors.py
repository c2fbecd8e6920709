"""The package's user-facing error, and where others were raised. Knows nothing of how they show."""

from __future__ import annotations

from pathlib import Path
from traceback import walk_tb

from dkt_ros.wording import one_line

_PACKAGE = Path(__file__).parent


class DktError(Exception):
    """A problem that the user can mend.

    The message says what was found, what was expected and what to do, as one line whatever the
    names in it hold; the command line prints it and exits with status 2, nodes log it and name it
    in diagnostics.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def place_of(error: BaseException) -> str:
    """Where in this package it was raised, as " (fusion/fuser.py:214)"; "" where elsewhere.

    For messages of what nobody foresaw, which come without a traceback.
    """
    steps = list(walk_tb(error.__traceback__))
    if isinstance(error, DktError) or not steps:
        return ""
    frame, line = steps[-1]
    file = Path(frame.f_code.co_filename)
    if not file.is_relative_to(_PACKAGE):
        return ""
    return f" ({file.relative_to(_PACKAGE).as_posix()}:{line})"
