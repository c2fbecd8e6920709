"""Numbers and names as parts of a one-line message. Knows nothing of where it is shown."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """1 frame, 2 frames; for nouns whose plural has an s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def is_name(value: object) -> bool:
    """Whether a value from a file can be shown as a name: some text of one line, printable."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip())
