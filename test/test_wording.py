"""What messages are made of."""

from __future__ import annotations

import pytest

from dkt_ros.wording import counted, is_name, one_line


def test_one_is_singular() -> None:
    assert [counted(n, "damaged message") for n in (0, 1, 2)] == [
        "0 damaged messages",
        "1 damaged message",
        "2 damaged messages",
    ]


@pytest.mark.parametrize("name", ["dkt-nano", "Glas für alle", "硝子", "a b"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "  ", "a\nb", "a\r", "\x1b[31m", "a\x00", "a\u2028b", 3, None]
)
def test_no_names(name: object) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a b: é", "a b: é"),
        ("a\n  b\r\nc\n", "a b c"),
        ("a\rb\x1b[2J\x00\u2028", r"a\rb\x1b[2J\x00\u2028"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line
