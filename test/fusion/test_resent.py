"""Which streams send images again under new stamps."""

from __future__ import annotations

import pytest

from dkt_ros.fusion.resent import Resent


def found(again: str, other: str = "", moved: float = 3.0) -> tuple[int, int, int] | None:
    """Of frames by letter, the same letter being the same picture; other: the other stream's."""
    stream = Resent()
    other = other or "".join(chr(ord("A") + at) for at in range(len(again)))
    for at in range(1, len(again)):
        stream.take(again[at] == again[at - 1], other[at] == other[at - 1], moved)
    return stream.found()


@pytest.mark.parametrize(("times", "counts"), [(2, (8, 16, 1)), (3, (10, 16, 2))])
def test_images_that_come_several_times_are_counted(
    times: int, counts: tuple[int, int, int]
) -> None:
    frames = "".join(letter * times for letter in "abcdefghijklmnopqrstuvwxyz")
    assert found(frames[:25]) == counts


def test_images_that_come_very_often_are_another_matter() -> None:
    assert found("aaaaaaaabbbbbbbbccccccccdddddddd") is None


def test_a_few_are_told() -> None:
    assert found("abbcddeffghhijjkllmn") == (5, 16, 1)


@pytest.mark.parametrize(
    "frames", ["abcdefghijklmnopqrst", "aaaaaaaaaaaaaaaaaaaa", "abcdefffffffghijklmn", "aabbccdd"]
)
def test_what_moves_and_what_stands_still_is_well(frames: str) -> None:
    """A simulator's camera without noise, now at rest; and so few frames that nothing is known."""
    assert found(frames) is None


def test_pairs_that_are_sent_again_and_scenes_at_rest_are_well() -> None:
    frames = "aabbccddeeffgghhiijj"
    assert found(frames, frames) is None
    assert found(frames, moved=0.2) is None
    assert found(frames) is not None
