"""Which pictures belong together by the numbers in their names, and where one is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.formats.pictures import begun_late, cut_short, encoded, out_of_step, skipping


def files(pattern: str, numbers: Sequence[float | str]) -> list[Path]:
    return [Path("/set7/take_1") / pattern.format(number) for number in numbers]


@pytest.mark.parametrize(
    ("colour", "depth", "first"),
    [
        ([0, 1, 3, 4], [0, 1, 2, 3], 2),
        ([0, 1, 2, 3], [1, 2, 3, 4], None),  # counted from 1
        ([0, 1, 2, 3], [3, 4, 5, 6], 0),
        ([7, 8, 9], [8, 9, 10], 0),
        ([7, 8, 9], [57, 58, 59], None),  # another counter
        ([0, 5, 10, 15], [0, 5, 15, 20], 2),
        ([1e9, 1e9 + 33, 1e9 + 67], [1e9 + 4, 1e9 + 36, 1e9 + 80], None),
        ([0, 1, 2], [1000, 1033, 1066], None),  # indices and times
        (["1.10", "1.20", "1.30"], ["1.11", "1.29", "1.41"], 1),
        (["1.10", "1.20", "1.31", "1.40"], ["1.11", "1.29", "1.31", "1.41"], None),  # one late
        (["1.10", "1.20", "1.30", "1.40"], ["1.05", "1.21", "1.31", "1.42"], None),  # one early
        (["1.10", "1.20", "1.30", "1.40"], ["1.11", "1.21", "1.31", "1.49"], None),  # the last late
        (["7_700", "7_900", "8_100", "8_300"], ["7_800", "8_000", "8_200", "8_400"], None),
        (["1_7", "1_8", "1_9", "2_7", "2_8"], ["1_7", "1_8", "1_9", "2_7", "2_8"], None),
        (["1_7", "1_8", "2_7", "2_8", "2_9"], ["1_7", "1_8", "1_9", "2_7", "2_8"], 3),
    ],
)
def test_pictures_that_are_out_of_step(
    colour: Sequence[float], depth: Sequence[float], first: int | None
) -> None:
    mine, theirs = files("rgb/{}.png", colour), files("depth/{}.exr", depth)
    expected = None if first is None else (mine[first], theirs[first])
    assert out_of_step(mine, theirs) == expected


def test_names_without_numbers_and_single_pictures_are_in_step() -> None:
    for names in (["a"], ["a", "b"], [1]):
        assert out_of_step(files("{}.png", names), files("{}.npy", names)) is None
        assert skipping(files("{}.png", names)) is None


@pytest.mark.parametrize(
    ("numbers", "between"),
    [
        ([3, 4, 5, 6], None),
        ([3, 4, 6, 7], (4, 6)),
        ([0, 10, 20, 40], (20, 40)),
        ([0, 10, 20], (0, 10)),
        ([1000, 1033, 1067, 1100], None),  # times
    ],
)
def test_where_pictures_are_missing(
    numbers: Sequence[int], between: tuple[int, int] | None
) -> None:
    found = skipping(files("{:06d}_depth.png", numbers))
    expected = None if between is None else tuple(files("{:06d}_depth.png", between))
    assert found == expected


@pytest.mark.parametrize(
    ("numbers", "frames", "missing"),
    [
        (range(0, 80, 2), 41, False),  # every second number, and the last picture is missing
        (range(0, 80, 2), 80, True),  # pictures of every second frame
        ([0, 1, 2, 4], 5, True),
        ([0, 1, 2, 4], 9, True),
        (["1_0", "1_2", "2_0", "2_2"], 5, False),  # two scenes
    ],
)
def test_pictures_beside_a_video_that_are_named_by_twos_are_all_there(
    numbers: Sequence[int | str], frames: int, missing: bool
) -> None:
    assert (skipping(files("{}.png", numbers), frames) is not None) is missing


@pytest.mark.parametrize(
    ("numbers", "frames", "late"),
    [
        (range(1, 6), 6, True),  # the first of those from 0, or the last of those from 1
        (range(10, 60, 10), 6, True),
        (range(2, 7), 6, True),
        (range(1, 7), 6, False),
        (range(9, 14), 6, False),  # counted from anywhere
        (range(5), 6, False),
        ([0, 1, 2, 4], 5, False),  # one is missing between
        ([1000, 1033, 1067], 6, False),  # times
        (["1_1", "1_2", "2_1", "2_2"], 6, False),  # two scenes
        (["a"], 6, False),
    ],
)
def test_counted_pictures_of_which_the_first_may_be_missing(
    numbers: Sequence[int | str], frames: int, late: bool
) -> None:
    named = files("{}.png", numbers)
    assert begun_late(named, frames) == (named[0] if late else None)


def test_a_thumbnail_is_not_taken_for_the_picture() -> None:
    """A camera's JPEG has one in front, which is whole where the picture is cut short."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    whole, small = encoded(".jpg", picture), encoded(".jpg", picture[::8, ::8])
    head = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    content = whole[:2] + head + whole[2:]
    assert not cut_short(content)
    for size in range(len(whole[:2] + head), len(content) - 2, 97):
        assert cut_short(content[:size])
