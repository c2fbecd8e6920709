"""Masks and depth of one stamp meet, whichever comes first; what never meets is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.ros.masks import KEPT, Masks

MASK = np.ones((2, 2), bool)


@pytest.mark.parametrize("mask_first", [True, False])
def test_both_halves_meet_once(mask_first: bool) -> None:
    met: list[tuple[str, bool]] = []
    masks: Masks[str] = Masks(lambda item, mask: met.append((item, mask is MASK)))
    steps = [lambda: masks.add_mask(5, MASK), lambda: masks.add(5, "depth")]
    for step in steps if mask_first else steps[::-1]:
        assert met == []
        step()
    assert met == [("depth", True)]
    masks.add(5, "again")
    assert len(met) == 1


def test_only_the_newest_few_wait() -> None:
    met: list[int] = []
    masks: Masks[int] = Masks(lambda item, mask: met.append(item))
    for stamp in range(KEPT + 3):
        masks.add(stamp, stamp)
    for stamp in range(KEPT + 3):
        masks.add_mask(stamp, MASK)
    assert met == list(range(3, KEPT + 3))
    masks.add(100, 100)
    masks.clear()
    masks.add_mask(100, MASK)
    assert 100 not in met


def test_masks_that_meet_nothing_are_told_after_a_while() -> None:
    told: list[bool] = []
    masks: Masks[int] = Masks(lambda item, mask: None, told.append)
    for stamp in range(2 * KEPT - 1):
        masks.add_mask(stamp, MASK)
    assert told == []
    masks.add_mask(100, MASK)
    assert told == [False]
    masks.add(100, 0)
    for stamp in range(200, 200 + KEPT):
        masks.add_mask(stamp, MASK)
    assert told == [False], "one has met in between"


def test_masks_that_come_too_late_are_told_so_and_those_of_a_loop_still_meet() -> None:
    told: list[bool] = []
    met: list[int] = []
    masks: Masks[int] = Masks(lambda item, mask: met.append(item), told.append)
    for stamp in range(4 * KEPT):
        masks.add(stamp, stamp)
        if stamp >= KEPT:
            masks.add_mask(stamp - KEPT, MASK)
    assert met == []
    assert told
    assert all(told)
    masks.add_mask(3, MASK)
    masks.add(3, 3)
    assert met == [3]
