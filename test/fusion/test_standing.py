"""For how long a decision stands, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dkt_ros.fusion.standing import Decided, Standing

SIZE = 96, 144


def decided(readings: np.ndarray, predicted: np.ndarray | None, on_scale: bool = True) -> Decided:
    map_ = np.ones(SIZE, np.float32)
    nearest = np.arange(map_.size, dtype=np.int32).reshape(SIZE)
    return Decided(map_, map_, map_, readings, nearest, predicted, on_scale)


@pytest.fixture
def first() -> Decided:
    rng = np.random.default_rng(0)
    return decided(
        rng.uniform(0.5, 2.0, SIZE).astype(np.float32),
        rng.uniform(0.5, 2.0, SIZE).astype(np.float32),
    )


def stands(standing: Standing, of: Decided, at_rest: bool = True) -> bool:
    return standing.of(of.readings, of.predicted, of.on_scale, at_rest) is not None


def at_rest(first: Decided, frames: int = 4) -> Standing:
    """Of a stream in which nothing moved for so many frames, the last of them decided anew."""
    standing = Standing()
    for _ in range(frames):
        standing.of(first.readings, first.predicted, first.on_scale, True)
        standing.take(first)
    return standing


def test_stands_for_some_frames_once_nothing_has_moved_for_some(first: Decided) -> None:
    standing, found = Standing(), []
    for _ in range(19):
        found.append(stands(standing, first))
        if not found[-1]:
            standing.take(first)
    assert found == [False] * 3 + [*[True] * 7, False] * 2


def test_motion_ends_it_at_once_and_for_some_frames(first: Decided) -> None:
    standing = at_rest(first)
    assert stands(standing, first)
    assert not stands(standing, first, at_rest=False)
    assert not stands(standing, first)


def test_a_network_that_says_something_else_is_heard(first: Decided) -> None:
    assert first.predicted is not None
    noise = np.random.default_rng(1).normal(1, 0.01, SIZE).astype(np.float32)
    assert stands(at_rest(first), replace(first, predicted=first.predicted * noise))
    object_ = first.predicted.copy()
    object_[:40, :40] *= 1.2
    for predicted in (None, first.predicted * np.float32(1.03), object_):
        assert not stands(at_rest(first), replace(first, predicted=predicted))
    assert not stands(at_rest(first), replace(first, on_scale=False))
    alone = replace(first, predicted=None)
    assert stands(at_rest(alone), alone)
    assert not stands(at_rest(alone), first)


def test_readings_that_come_or_go_as_one_are_seen_and_those_that_flicker_are_not(
    first: Decided,
) -> None:
    flicker = np.random.default_rng(2).random(SIZE) < 0.2
    assert stands(at_rest(first), replace(first, readings=first.readings * ~flicker))
    gone = first.readings.copy()
    gone[:48, :48] = 0
    assert not stands(at_rest(first), replace(first, readings=gone))
    assert not stands(at_rest(replace(first, readings=gone)), first)
    assert not stands(at_rest(first), replace(first, readings=first.readings[:48]))
