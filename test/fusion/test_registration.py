"""When what a look finds is told; test_consistency.py has real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dkt_ros.fusion.consistency import Consistency
from dkt_ros.fusion.registration import CHANGES, EDGE_SIZE, Change, Registration, Seen

OFF_PX = 8


def boxes(right: int = 0, down: int = 0) -> np.ndarray:
    """Some of them, so far to the right and down."""
    picture = np.full(EDGE_SIZE, 0.5, np.float32)
    for row, column in ((40, 60), (60, 160), (100, 110), (95, 210)):
        top, left = row + down, column + right
        picture[top : top + 30, left : left + 36] = 1.0
    return picture


def seen(log_odds: float, undone: float) -> Seen:
    """So much as it is, and with small shifts undone."""

    def ask(changes: Sequence[Change]) -> list[float]:
        return [undone if 0 < np.hypot(one.x, one.y) < 0.08 else log_odds for one in changes]

    return Seen(lambda: log_odds, ask)


def test_a_shift_that_both_witnesses_tell_is_told_until_looks_in_a_row_deny_it() -> None:
    registration = Registration()

    def look(undone: float) -> Change | None:
        registration.take(seen(2.0, undone), 4.0, 0)
        registration.look(seen(2.0, undone), boxes(), boxes(OFF_PX), EDGE_SIZE)
        return registration.shift_by_edges

    assert look(2.6) is None
    found = look(2.6)
    assert found is not None
    assert abs(found.x * EDGE_SIZE[1] - OFF_PX) <= 1
    assert look(2.0) == look(2.0) == look(2.0) == found  # the mean is above, then two are below
    assert look(2.0) is None
    look(2.6)
    assert look(2.6) == found
    registration.forget_changes()
    assert registration.shift_by_edges is None


@pytest.mark.parametrize("shape", [EDGE_SIZE, (480, 640), (640, 480, 3)])
def test_a_shift_by_edges_is_a_share_of_the_pictures_own_width(shape: tuple[int, ...]) -> None:
    registration = Registration()
    for _ in range(2):
        registration.look(seen(2.0, 2.6), boxes(), boxes(OFF_PX, -OFF_PX), shape)
    found = registration.shift_by_edges
    assert found is not None
    assert found.x * EDGE_SIZE[1] == pytest.approx(OFF_PX, abs=1)
    down_px = found.y * shape[1]
    assert down_px * EDGE_SIZE[0] / shape[0] == pytest.approx(-OFF_PX, abs=1)


def test_a_change_that_leaves_no_readings_hides_no_other() -> None:
    narrow = CHANGES[0]

    def ask(changes: Sequence[Change]) -> list[float]:
        return [{narrow: -np.inf, CHANGES[4]: 3.0}.get(one, 0.0) for one in changes]

    registration = Registration()
    for _ in range(2 * len(CHANGES)):
        registration.look(Seen(lambda: 0.0, ask), boxes(), boxes(), EDGE_SIZE)
        assert registration.best() == (CHANGES[4], 3.0, 3.0)


def test_looks_that_deny_or_tell_a_shift_are_counted_in_a_row() -> None:
    registration = Registration()

    def look(undone: float, right: int = OFF_PX) -> int:
        registration.look(seen(2.0, undone), boxes(), boxes(right), EDGE_SIZE)
        found = registration.shift_by_edges
        return 0 if found is None else int(np.sign(found.x))

    assert [look(undone) for undone in (2.6, 2.6, -2.0, 6.0, -2.0, -2.0)] == [0, 1, 1, 1, 1, 1]
    # Edges are of the other side from the second look on.
    assert [look(12.0, -OFF_PX) for _ in range(3)] == [1, 1, -1]


def test_what_only_one_witness_tells_is_not_told() -> None:
    unmoved, useless, flat, unlike = (Registration() for _ in range(4))
    anything_helps = Seen(lambda: 2.0, lambda changes: [2.0] + [2.6] * (len(changes) - 1))
    for _ in range(4):
        flat.look(anything_helps, boxes(), np.ones_like(boxes()), EDGE_SIZE)
        unlike.look(seen(-3.0, -2.0), boxes(), boxes(OFF_PX), EDGE_SIZE)
        unmoved.look(seen(2.0, 2.6), boxes(), boxes(), EDGE_SIZE)
        useless.look(seen(2.0, 2.0), boxes(), boxes(OFF_PX), EDGE_SIZE)
    assert unmoved.shift_by_edges is None
    assert useless.shift_by_edges is None
    assert flat.shift_by_edges is None
    assert unlike.shift_by_edges is None
    assert unmoved.edges() > 3
    assert useless.edges() == 0


def test_what_was_tried_in_vain_is_not_tried_anew_each_time_that_all_is_well() -> None:
    registration, asked = Registration(), 0

    def frame(log_odds: float, stamp_ns: int) -> None:
        nonlocal asked
        told = seen(log_odds, log_odds - 1)
        registration.take(told, 4.0, stamp_ns)
        if registration.log_odds >= 4.0:
            registration.forget_changes()
        elif registration.is_due:
            registration.look(told, boxes(), boxes(), EDGE_SIZE)
            asked += 1

    for index in range(40):
        frame(3.6 if index % 20 < 10 else 4.6, index * 200_000_000)
    tries, asked = asked, 0
    assert tries <= 12
    for index in range(40, 46):  # much worse than ever
        frame(-2.0, index * 200_000_000)
    assert asked >= 4


def test_what_was_found_is_dropped_once_all_is_well() -> None:
    registration = Registration()
    for _ in CHANGES:
        registration.look(seen(0.0, 3.0), boxes(), boxes(), EDGE_SIZE)
    assert registration.best()[1] == 3.0
    registration.forget_changes()
    registration.look(seen(2.0, 1.0), boxes(), boxes(), EDGE_SIZE)
    assert registration.best()[1] == 0.0


def tried_in_vain(registration: Registration, useless: Seen, right: int = 0) -> None:
    while not registration.rests:
        registration.take(useless, 4.0, 0)
        registration.look(useless, boxes(), boxes(right), EDGE_SIZE)


@pytest.mark.parametrize("log_odds", [4.4, -5.0])
def test_edges_of_a_stream_as_it_was_before_are_not_held_against_it(log_odds: float) -> None:
    registration, useless = Registration(), seen(3.6, 3.6)
    tried_in_vain(registration, useless, OFF_PX)
    for _ in range(36):
        registration.take(seen(log_odds, log_odds), 4.0, 0)
    if registration.log_odds >= 4.0:
        registration.forget_changes()
    registration.look(useless, boxes(), boxes(), EDGE_SIZE)
    assert registration.edges() > 3


def test_looks_at_rest_come_sooner_at_first_and_again_once_something_has_changed() -> None:
    registration = Registration()

    def between(useless: Seen, frames: int) -> list[int]:
        tried_in_vain(registration, useless)
        found = [0]
        for _ in range(frames):
            registration.take(useless, 4.0, 0)
            found[-1] += 1
            if registration.is_due:
                registration.look(useless, boxes(), boxes(), EDGE_SIZE)
                found.append(0)
        return found[:-1]

    assert between(seen(2.0, 2.0), 900) == [*range(6, 91, 6), 90, 90]
    registration.take(seen(-9.0, -9.0), 4.0, 10**9)
    assert not registration.rests
    assert between(seen(2.0, 2.0), 18)[:2] == [6, 12]


def test_once_all_was_tried_in_vain_not_each_frame_is_judged() -> None:
    registration, told = Registration(), 0

    def tell() -> float:
        nonlocal told
        told += 1
        return 2.0

    frame = Seen(tell, lambda changes: [2.0] * len(changes))
    tried_in_vain(registration, frame)
    told = 0
    for _ in range(14):
        registration.take(replace(frame), 4.0, 0)
    assert told == 2


@pytest.mark.parametrize(("every", "period_ms"), [(6, 33), (3, 33), (4, 100), (2, 200)])
def test_what_comes_by_turns_is_met_where_all_was_tried_in_vain(every: int, period_ms: int) -> None:
    """A change is in vain too where most frames need none."""
    registration = Registration()
    good, bad = (Seen(lambda: 4.2, lambda _: []), Seen(lambda: -3.0, lambda _: []))
    tried_in_vain(registration, Seen(lambda: 4.2, lambda changes: [4.2] * len(changes)))
    first = registration.frames
    for index in range(60):
        is_bad = (first + index) % every >= every - max(1, every // 3)
        registration.take(replace(bad if is_bad else good), 4.0, period_ms * 1_000_000 * index)
        if registration.log_odds < 3.0:
            return
    pytest.fail("no frame of those that are wrong was judged")


def test_before_a_scene_at_rest_frames_are_judged_less_often_and_one_that_moves_at_once() -> None:
    judged = list[int]()

    def seen(index: int, at_rest: bool) -> Seen:
        def tell() -> float:
            judged.append(index)
            return 6.0

        return Seen(tell, lambda changes: [6.0], at_rest)

    registration = Registration()
    for index in range(50):
        registration.take(seen(index, at_rest=index != 44), 4.0, 33_000_000 * index)
    assert judged == [0, 31, 44]
    stamps = Registration()
    for index in range(4):
        stamps.take(seen(index, at_rest=True), 4.0, 10**9 * index)
    assert judged[3:] == [0, 2], "two seconds are enough as well"


def told(consistency: Consistency, index: int, right: int, mirrored: float = 2.0) -> set[str]:
    """How a frame of boxes lies wrong, by a matcher to which undoing small shifts says more."""

    def ask(changes: Sequence[Change]) -> list[float]:
        return [
            mirrored if one == Change(mirrored=True) else 2.5 if 0 < abs(one.x) < 0.05 else 2.0
            for one in changes
        ]

    rgb = np.repeat((200 * boxes()).astype(np.uint8)[..., None], 3, axis=2)
    found = Seen(lambda: 2.0, ask)
    verdict = consistency.update(rgb, 1 / boxes(right), None, index * 10**8, None, found)
    certain = {one.cause for one in verdict.suspicions if one.certain}
    return certain - {"frozen colour"}


def test_a_shift_by_edges_is_told_though_the_edges_already_lie_well_again() -> None:
    consistency = Consistency()
    assert [told(consistency, index, OFF_PX) for index in range(3)] == [set(), set(), {"shifted"}]
    causes = [told(consistency, 3 + index, 0) for index in range(6)]
    # The mean of the edges takes a look to come back; then three deny it.
    assert causes == [{"shifted"}] * 3 + [set()] * 3


def test_what_the_matcher_is_certain_of_goes_before_the_edges_shift() -> None:
    consistency = Consistency()
    for index in range(6):
        causes = told(consistency, index, OFF_PX, mirrored=5.0)
    assert causes == {"mirrored"}


@pytest.mark.parametrize(
    ("rivals", "expected"),
    [
        ({}, {"shifted"}),
        ({Change(zoom=1.15): 1.2}, set()),
        ({Change(mirrored=True): 1.2}, set()),
        ({Change(zoom=1.15): 0.9}, {"shifted"}),
        ({Change(x=0.05 * np.cos(np.pi / 4), y=0.05 * np.sin(np.pi / 4)): 1.35}, {"shifted"}),
        ({Change(x=-0.05): 1.2}, set()),
    ],
)
def test_a_change_is_suspected_where_none_that_is_unlike_it_does_nearly_as_much(
    rivals: dict[Change, float], expected: set[str]
) -> None:
    """Of a white door in a white wall, a shift, a zoom and another shift each say a little more."""

    def suspected(best: float) -> set[str]:
        def gain(asked: Change) -> float:
            for change, value in {Change(x=0.05): best, **rivals}.items():
                near = np.hypot(asked.x - change.x, asked.y - change.y) < 1e-6
                if near and replace(asked, x=change.x, y=change.y) == change:
                    return value
            return 0.0

        def ask(changes: Sequence[Change]) -> list[float]:
            return [1.4 + gain(one) for one in changes]

        rgb = np.repeat((200 * boxes()).astype(np.uint8)[..., None], 3, axis=2)
        consistency = Consistency()
        for index in range(8):
            found = Seen(lambda: 1.4, ask)
            wall = np.full(EDGE_SIZE, 1.0, np.float32)  # no steps: the edges have no say
            verdict = consistency.update(rgb, wall, None, index * 10**8, None, found)
        return {one.cause for one in verdict.suspicions} & {"shifted", "zoomed", "mirrored"}

    assert suspected(1.4) == expected
    assert suspected(2.0) == {"shifted"}, "certain"


@pytest.mark.parametrize(
    ("log_odds", "told"),
    [
        ([4, -2, 4], False),
        ([4, -2, 4, -2], True),
        ([-2, 4, -2, 4], True),
        ([4, 4, -2, -2, 4, 4], False),
        ([4, 1, 4, 1, 4, 1], False),
        ([0.4, -1.8, 0.4, -1.8, 0.4], False),
        ([4, -2, 4, -2, *[4] * 8], False),
    ],
)
def test_frames_that_belong_together_by_turns(log_odds: list[float], told: bool) -> None:
    registration = Registration()
    for index, one in enumerate(log_odds):
        registration.take(seen(one, one), 4.1, index * 33_000_000)
    assert registration.comes_by_turns(0.5) == told


@pytest.mark.parametrize("period_ms", [33, 66, 100, 200])
def test_of_frames_that_come_by_turns_both_halves_are_judged(period_ms: int) -> None:
    registration, told_at = Registration(), []
    for index in range(24):
        registration.take(
            seen(5.0 if index % 2 == 0 else -2.0, 0.0), 4.0, index * period_ms * 10**6
        )
        if registration.comes_by_turns(0.5):
            told_at.append(index)
    assert told_at[0] < 12
    assert told_at[-1] == 23
