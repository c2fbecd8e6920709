"""Depth of another moment than its colour, of scenes in which boxes are seen by a moving camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import groupby

import cv2
import numpy as np
import pytest

from dkt_ros.fusion.lateness import Lag, Lateness

SIZE = 80, 144
PERIOD_NS = 33_000_000
FRAMES = 40

Place = Callable[[float], tuple[float, float]]
"""Of a frame, or between two, where the view has moved to: px right, px down."""


def sways(number: float) -> tuple[float, float]:
    """As in a hand."""
    return 8 * np.sin(number / 4), 4 * np.sin(number / 3)


def pans(number: float) -> tuple[float, float]:
    """At one speed."""
    return 1.5 * number - 30, 0.0


def stands(number: float) -> tuple[float, float]:
    """Still."""
    return 0.0, 0.0


@cache
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Grey levels and 1/depth of boxes before a wall with a pattern of its own, on all sides."""
    rng = np.random.default_rng(0)
    height, width = 2 * SIZE[0], 2 * SIZE[1]
    wall = cv2.resize(rng.uniform(0, 160, (20, 36)).astype(np.float32), (width, height))
    inverse = np.full((height, width), 1.0, np.float32)
    for _ in range(24):
        top, left = rng.integers(0, height - 30), rng.integers(0, width - 30)
        box = np.s_[top : top + rng.integers(10, 30), left : left + rng.integers(10, 30)]
        wall[box], inverse[box] = rng.uniform(0, 255), rng.uniform(1.2, 2)
    return wall, inverse


def seen(place: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The same as far as the camera sees it."""
    wall, inverse = scene()
    dx, dy = place
    to = np.array([[1.0, 0.0, dx - SIZE[1] / 2], [0.0, 1.0, dy - SIZE[0] / 2]])
    grey = cv2.warpAffine(wall, to, SIZE[::-1])
    noise = np.random.default_rng(round(100 * (dx + 7 * dy)) % 997).normal(0, 2, SIZE)
    near = cv2.warpAffine(inverse, to, SIZE[::-1], flags=cv2.INTER_NEAREST)
    return (grey + noise).astype(np.float32), near


def told(
    place: Place, late: float, change: Callable[[np.ndarray], np.ndarray] = np.copy, hz: float = 30
) -> Lag | None:
    """What is said in the end of depth that is so many frames late, and changed."""
    lateness, lag = Lateness(), None
    for number in range(FRAMES):
        grey, _ = seen(place(number))
        _, inverse = seen(place(number - late))
        lag = lateness.take(grey, change(inverse), round(number * 1e9 / hz))
    return lag


@pytest.mark.parametrize("frames", [2, 3, 6, -3])
def test_the_lag_is_told(frames: int) -> None:
    lag = told(sways, frames)
    assert lag is not None
    assert lag.frames == frames
    assert lag.seconds == pytest.approx(frames / 30, rel=0.01)
    assert lag.gain > 0.15


@pytest.mark.parametrize(("hz", "is_told"), [(15, False), (8, True)])
def test_less_than_a_frame_goes_by_its_time(hz: float, is_told: bool) -> None:
    """Two thirds of one, as of two cameras without a common clock: 44 ms are tolerated, 83 not."""
    for late in (2 / 3, -2 / 3):
        assert (told(sways, late, hz=hz) is not None) == is_told


def test_a_single_look_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, behind = Lag(2, 0.06, 0.5), Lag(-2, -0.06, 0.5)
    looks = [ahead, None, ahead, behind, behind, ahead, ahead, None]
    monkeypatch.setattr(Lateness, "_looked", lambda self, size: looks.pop(0))
    lateness, found = Lateness(), list[Lag | None]()
    for number in range(50):
        if looks:
            found.append(lateness.take(*seen(sways(number)), number * PERIOD_NS))
    assert not looks
    assert [lag for lag, _ in groupby(found)] == [None, behind, None, ahead, None]


def test_within_a_second_of_frames() -> None:
    lateness, lags = Lateness(), []
    for number in range(30):
        lags.append(
            lateness.take(seen(sways(number))[0], seen(sways(number - 3))[1], number * PERIOD_NS)
        )
    assert {lag.frames for lag in lags if lag is not None} == {3}
    assert lags[24] is not None


@pytest.mark.parametrize("place", [sways, pans, stands])
def test_depth_of_its_colour_has_none(place: Place) -> None:
    assert told(place, 0) is None


def moved(inverse: np.ndarray) -> np.ndarray:
    """Registered wrong by 2 px."""
    return np.roll(inverse, (1, 2), (0, 1))


def test_depth_beside_its_colour_is_not_late() -> None:
    assert told(sways, 0, moved) is None
    assert told(pans, 0, moved) is None
    late = told(sways, 3, moved)
    assert late is not None
    assert late.frames == 3


def test_what_one_motion_or_none_cannot_tell_is_not_said() -> None:
    pan = told(pans, 3)
    assert pan is None or pan.gain < 0.05
    assert told(stands, 3) is None


def test_a_frame_between_two_images_is_tolerated_and_more_is_not() -> None:
    assert told(sways, 1) is None
    slow = told(sways, 1, hz=10)
    assert slow is not None
    assert slow.frames == 1
    assert slow.seconds == pytest.approx(0.1)


def test_depth_without_steps_tells_nothing() -> None:
    assert told(sways, 3, np.ones_like) is None
    assert told(sways, 3, np.zeros_like) is None
