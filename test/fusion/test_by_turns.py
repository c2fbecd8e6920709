"""Depth images that are of another kind by turns, against what changes colour too."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame

from dkt_ros.fusion.by_turns import ByTurns
from dkt_ros.fusion.consistency import Consistency

SCENE = rendered_frame()
SIZE = 144, 80
GREY = cv2.cvtColor(cv2.resize(SCENE.rgb, SIZE), cv2.COLOR_RGB2GRAY).astype(np.float32)
INVERSE = np.nan_to_num(1 / cv2.resize(SCENE.raw.astype(np.float32), SIZE, interpolation=0))


def unregistered(picture: np.ndarray) -> np.ndarray:
    """As a camera with a wider view beside it sees it."""
    height, width = picture.shape[:2]
    change = np.array([[0.75, 0, width * 0.15], [0, 0.75, height * 0.125]], np.float32)
    return np.asarray(cv2.warpAffine(picture, change, (width, height), flags=0))


def shares(
    frames: int, grey: Callable[[int], np.ndarray], inverse: Callable[[int], np.ndarray]
) -> list[float]:
    by_turns, rng = ByTurns(), np.random.default_rng(0)
    return [
        by_turns.take(
            (grey(t) + rng.normal(0, 0.5, GREY.shape)).astype(np.float32),
            (inverse(t) * (1 + rng.normal(0, 0.005, GREY.shape))).astype(np.float32),
        )
        for t in range(frames)
    ]


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_depth_image_that_is_the_odd_one_is_found(every: int) -> None:
    found = shares(
        12, lambda _: GREY, lambda t: unregistered(INVERSE) if t % every == 1 else INVERSE
    )
    assert [bool(share) for share in found][:every] == [t == 2 for t in range(every)]
    assert sum(share > 0 for share in found) >= 12 // every - 1


def arm(picture: np.ndarray, value: float, there: bool) -> np.ndarray:
    changed = picture.copy()
    if there:
        changed[20:, 40:90] = value
    return changed


def half(picture: np.ndarray, t: int) -> np.ndarray:
    lost = np.random.default_rng(t).random((10, 18)) < 0.6
    return np.where(cv2.resize(lost.astype(np.uint8), SIZE, interpolation=0) > 0, 0, picture)


@pytest.mark.parametrize(
    ("grey", "inverse"),
    [
        (lambda t: GREY, lambda t: INVERSE),
        (lambda t: GREY, lambda t: half(INVERSE, t)),
        (lambda t: GREY, lambda t: INVERSE if t < 5 else unregistered(INVERSE)),
        (lambda t: arm(GREY, 220, t % 2 == 1), lambda t: arm(INVERSE, 4, t % 2 == 1)),
        (lambda t: arm(GREY, 90 + 4 * (t % 2), True), lambda t: arm(INVERSE, 4, t % 2 == 1)),
        (lambda t: arm(0.12 * GREY, 15, t % 2 == 1), lambda t: arm(INVERSE, 4, t % 2 == 1)),
        (
            lambda t: arm(GREY, 60 + 20 * (t % 2), True) * (1 - 0.5 * (t % 4 > 1)),
            lambda t: arm(INVERSE, 4, t % 2 == 1),
        ),
        (lambda t: np.roll(GREY, 6 * t, 1), lambda t: np.roll(INVERSE, 6 * t, 1)),
        (lambda t: np.roll(GREY, 9 * (t % 2), 1), lambda t: np.roll(INVERSE, 9 * (t % 2), 1)),
        (lambda t: GREY * (1 - 0.3 * (t % 2)), lambda t: INVERSE),
    ],
    ids=[
        "still",
        "holes come and go",
        "once",
        "an arm",
        "one like what is behind it",
        "one at night",
        "one while lights go on and off",
        "moving",
        "shaking",
        "flicker",
    ],
)
def test_what_moves_changes_colour_too(
    grey: Callable[[int], np.ndarray], inverse: Callable[[int], np.ndarray]
) -> None:
    assert not any(shares(10, grey, inverse))


def test_one_is_suspected_and_more_are_certain() -> None:
    consistency, told = Consistency(), []
    for t in range(6):
        raw = unregistered(SCENE.raw) if t in (1, 3) else SCENE.raw
        verdict = consistency.update(SCENE.rgb, raw.astype(np.float32), None, t * 100_000_000)
        told.append([one.certain for one in verdict.suspicions if one.cause == "by turns"])
    assert told == [[], [], [False], [True], [True], [True]]
    later = consistency.update(SCENE.rgb, SCENE.raw, None, 20_000_000_000)
    assert "by turns" not in {one.cause for one in later.suspicions}


def states(frames: int, is_other: Callable[[int], bool], period_ms: int, moves: bool) -> str:
    """C where it is certain that depth comes by turns; the camera may move from frame 20 on."""
    consistency, told, rng = Consistency(), "", np.random.default_rng(0)
    for t in range(frames):
        raw = unregistered(SCENE.raw) if is_other(t) else SCENE.raw
        raw = (raw * (1 + rng.normal(0, 0.003, raw.shape))).astype(np.float32)
        rgb, way = SCENE.rgb, 9 * max(0, t - 20) if moves else 0
        if way:
            rgb, raw = (np.ascontiguousarray(np.roll(one, way, 1)) for one in (rgb, raw))
        verdict = consistency.update(rgb, raw, None, t * period_ms * 1_000_000)
        is_certain = any(one.certain for one in verdict.suspicions if one.cause == "by turns")
        told += "C" if is_certain else "."
    return told


@pytest.mark.parametrize("period_ms", [33, 166])
def test_what_has_ended_is_certain_for_a_second_more(period_ms: int) -> None:
    told = states(60, lambda t: t < 20 and t % 2 == 1, period_ms, moves=False)
    assert told.startswith("..." + "C" * 17)
    ended = told.index(".", 4)
    assert 1000 < (ended - 20) * period_ms < 1300
    assert "C" not in told[ended:]


def test_it_is_certain_without_a_break_where_odd_images_come_now_and_then() -> None:
    odd = set(np.flatnonzero(np.random.default_rng(3).random(150) < 0.1).tolist())
    told = states(150, odd.__contains__, 100, moves=False)
    assert told.count(".C") == 1


def test_it_stays_certain_while_the_camera_moves_and_nothing_shows_its_end() -> None:
    told = states(60, lambda t: t % 2 == 1, 100, moves=True)
    assert told.strip(".") == "C" * 57


def test_a_pane_that_is_read_by_turns_is_never_certain() -> None:
    """As itself and as what is behind it: what this package is for."""
    consistency, told = Consistency(), set[bool]()
    pane = np.zeros(SCENE.raw.shape, bool)
    height, width = pane.shape
    pane[height // 4 : 3 * height // 4, width // 4 : 6 * width // 10] = True
    for t in range(10):
        raw = np.where(pane & (t % 2 == 1), np.float32(0.6), SCENE.raw).astype(np.float32)
        verdict = consistency.update(SCENE.rgb, raw, None, t * 100_000_000)
        told |= {one.certain for one in verdict.suspicions if one.cause == "by turns"}
    assert told == {False}
