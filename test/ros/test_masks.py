"""Masks and depth of one stamp meet, whichever comes first; what never meets is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.messages.synchronizer import MOST_WAITING
from dkt_ros.ros.masks import KEPT, KEPT_MASKS, Mask, Masks

PERIOD_NS = 10**8
MASK = np.random.default_rng(0).random((3, 5)) < 0.5


def same(mask: Mask) -> bool:
    return mask.dtype == bool and np.array_equal(mask, MASK)


@pytest.mark.parametrize("mask_first", [True, False])
def test_both_halves_meet_once(mask_first: bool) -> None:
    met: list[tuple[str, bool]] = []
    masks: Masks[str] = Masks(lambda item, mask: met.append((item, same(mask))))
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
    for number in range(KEPT + 3):
        masks.add(number * PERIOD_NS, number)
    for number in range(KEPT + 3):
        masks.add_mask(number * PERIOD_NS, MASK)
    assert met == list(range(3, KEPT + 3))
    masks.add(100, 100)
    masks.clear()
    masks.add_mask(100, MASK)
    assert 100 not in met


@pytest.mark.parametrize("rate_hz", [5, 30, 60, 120])
def test_depth_waits_by_time(rate_hz: int) -> None:
    """A segmenter takes as long, however fast the camera is."""
    met: list[int] = []
    masks: Masks[int] = Masks(lambda item, mask: met.append(item))
    late = round(0.45 * rate_hz)
    for number in range(3 * rate_hz):
        masks.add(number * 10**9 // rate_hz, number)
        if number >= late:
            masks.add_mask((number - late) * 10**9 // rate_hz, MASK)
    assert met == list(range(3 * rate_hz - late))


def test_of_depth_that_nothing_comes_for_little_is_kept() -> None:
    """Nor of a loop, nor of stamps that are none."""
    for step_ns, most in ((10**9 // 120, MOST_WAITING), (1, MOST_WAITING), (10**8, KEPT)):
        masks: Masks[int] = Masks(lambda item, mask: None)
        for number in (*range(200), *range(200)):
            masks.add(number * step_ns, number)
            assert len(masks._items) <= most
        assert len(masks._items) == most


def test_masks_that_meet_nothing_are_told_after_a_while() -> None:
    told: list[bool] = []
    masks: Masks[int] = Masks(lambda item, mask: None, told.append)
    for stamp in (50, 60, 1000):
        masks.add(stamp, 0)
    for stamp in range(KEPT - 1):
        masks.add_mask(stamp, MASK)
    assert told == []
    masks.add_mask(100, MASK)
    assert told == [False]
    masks.add_mask(2000, MASK)
    masks.add(2000, 0)
    told.clear()
    masks.add(3000, 0)
    for stamp in range(1500, 1500 + 2 * KEPT):
        masks.add_mask(stamp, MASK)
    assert told == [], "of depth that is rare each has met"


def test_a_mask_that_meets_waiting_depth_ends_the_wait_of_those_before_it() -> None:
    told: list[bool] = []
    masks: Masks[int] = Masks(lambda item, mask: None, told.append)
    for stamp in (3, 4, 20, 30):
        masks.add(stamp, 0)
    for stamp in (1, 2, 5, 6, 7, 8, 9):  # one less than are told
        masks.add_mask(stamp, MASK)
    masks.add_mask(20, MASK)
    masks.add_mask(10, MASK)
    assert told == []
    masks.clear()
    for stamp in (5, 100):
        masks.add(stamp, 0)
    for stamp in (1, 2, 3, 4, 6, 7, 8, 9):
        masks.add_mask(stamp, MASK)
    assert told == [], "one that met none may have no mask"


def test_masks_that_come_at_once_after_a_pause_are_not_said_to_be_wrong() -> None:
    """The segmenter stood still, and depth of every 15th picture went on."""
    told: list[bool] = []
    met: list[int] = []
    masks: Masks[int] = Masks(lambda item, mask: met.append(item), told.append)
    masks.add(0, 0)
    masks.add_mask(0, MASK)
    for stamp in range(15, 75, 15):
        masks.add(stamp, stamp)
    for stamp in range(1, 75):
        masks.add_mask(stamp, MASK)
    assert met == [0, 15, 30, 45, 60]
    assert told == []


@pytest.mark.parametrize("ahead", [-1000, 1000])
def test_masks_of_another_clock_are_told(ahead: int) -> None:
    """Or of pictures so far ahead of their depth that it comes when they are gone."""
    told: list[bool] = []
    masks: Masks[int] = Masks(lambda item, mask: None, told.append)
    for stamp in range(1000, 1000 + KEPT_MASKS + KEPT):
        masks.add(stamp, 0)
        masks.add_mask(stamp + ahead, MASK)
    assert told
    assert not any(told)


def test_masks_are_not_told_where_no_depth_is_made() -> None:
    told: list[bool] = []
    masks: Masks[int] = Masks(lambda item, mask: None, told.append)
    masks.add(0, 0)
    for stamp in range(1, 2 * KEPT_MASKS):
        masks.add_mask(stamp, MASK)
    assert told == []


def test_masks_that_come_too_late_are_told_so_and_those_of_a_loop_still_meet() -> None:
    told: list[bool] = []
    met: list[int] = []
    masks: Masks[int] = Masks(lambda item, mask: met.append(item), told.append)
    for stamp in range(0, 4 * KEPT * PERIOD_NS, PERIOD_NS):
        masks.add(stamp, stamp)
        if stamp >= KEPT * PERIOD_NS:
            masks.add_mask(stamp - KEPT * PERIOD_NS, MASK)
    assert met == []
    assert told
    assert all(told)
    masks.add_mask(3 * PERIOD_NS, MASK)
    masks.add(3 * PERIOD_NS, 3)
    assert met == [3]
    told.clear()
    masks.clear()
    masks.add(10**12, 0)
    for number in range(2 * KEPT):
        masks.add_mask(number * PERIOD_NS, MASK)
    assert told == [], "nothing is known of before"


def test_masks_wait_for_depth_that_is_seconds_behind() -> None:
    """As of a camera at 30 Hz, whose every picture is segmented at once."""
    met: list[tuple[int, bool]] = []
    masks: Masks[int] = Masks(lambda item, mask: met.append((item, same(mask))))
    for stamp in range(150):
        masks.add_mask(stamp, MASK)
        if stamp >= 90:
            masks.add(stamp - 90, stamp - 90)
    assert met == [(stamp, True) for stamp in range(60)]
    masks.clear()
    met.clear()
    for stamp in range(KEPT_MASKS + 1):
        masks.add_mask(stamp, MASK)
    for stamp in range(KEPT_MASKS + 1):
        masks.add(stamp, stamp)
    assert [stamp for stamp, _ in met] == list(range(1, KEPT_MASKS + 1))
