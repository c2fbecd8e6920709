"""Masks and depth of one stamp meet, whichever comes first; what never meets is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.ros.masks import KEPT, KEPT_MASKS, Mask, Masks

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
    for stamp in range(KEPT + 3):
        masks.add(stamp, stamp)
    for stamp in range(KEPT + 3):
        masks.add_mask(stamp, MASK)
    assert met == list(range(3, KEPT + 3))
    masks.add(100, 100)
    masks.clear()
    masks.add_mask(100, MASK)
    assert 100 not in met


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
