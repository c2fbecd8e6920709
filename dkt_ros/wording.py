"""Numbers and names as parts of a one-line message. Knows nothing of where it is shown."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?")
NAME = "a name: some text in one line, without control characters"
"""What is_name expects, in words."""


def counted(number: int, noun: str) -> str:
    """1 frame, 2 frames; for nouns whose plural has an s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def kind_of(text: str) -> str:
    """The same for texts that differ in their numbers alone."""
    return _NUMBER.sub("#", text)


def is_name(value: object) -> bool:
    """Whether a value from a file can be shown as a name: some text of one line, printable."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def one_line(text: str) -> str:
    """Text with lines joined by spaces, other control characters as escapes."""
    joined = " ".join(line.strip() for line in text.splitlines()) if "\n" in text else text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)
