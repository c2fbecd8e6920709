"""The choice of frames on simulated clocks: an even pace, no frame lost, no swinging to and fro."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkt_ros.ros.frame_choice import INFERENCES, FrameChoice, keeps_up, means, next_stride
from dkt_ros.ros.mailbox import Mailbox

PERIOD_NS = 33_333_333
PERIOD_S = PERIOD_NS * 1e-9

Durations = Iterator[float]


def camera(count: int, period_ns: int = PERIOD_NS, first: int = 0) -> Iterator[tuple[int, float]]:
    """Stamps and arrivals of `count` frames."""
    for number in range(first, first + count):
        yield number * period_ns, number * period_ns * 1e-9


@dataclass
class Simulation:
    """A camera, a mailbox and a worker, on a clock that only frames move on."""

    choice: FrameChoice
    durations: Durations
    mailbox: Mailbox[tuple[int, float]] = field(default_factory=Mailbox)
    taken: list[int] = field(default_factory=list)
    strides: list[int | None] = field(default_factory=list)
    filed: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    free_at_s: float = 0.0
    busy_s: float | None = None

    def run(self, frames: Iterable[tuple[int, float]]) -> Simulation:
        for stamp_ns, now_s in frames:
            self.work_until(now_s)
            if self.choice.wants(stamp_ns, now_s):
                self.filed.append(stamp_ns)
                if self.mailbox.put((stamp_ns, now_s)):
                    self.choice.let_go(1)
                self.work_until(now_s)
            self.strides.append(self.choice.status.stride)
        return self

    def work_until(self, now_s: float) -> None:
        while True:
            if self.busy_s is not None and self.free_at_s <= now_s:
                self.choice.took(self.busy_s, self.free_at_s)
                self.busy_s = None
            if self.busy_s is not None or (taken := self.mailbox.take(0.0)) is None:
                return
            stamp_ns, filed_s = taken
            self.taken.append(stamp_ns)
            self.busy_s = next(self.durations)
            begins_s = max(filed_s, self.free_at_s)
            self.waits_s.append(begins_s - filed_s)
            self.free_at_s = begins_s + self.busy_s

    @property
    def overwritten(self) -> list[int]:
        """Filed, and never taken, though later ones were."""
        return sorted(set(self.filed[: self.filed.index(self.taken[-1])]) - set(self.taken))

    def steps(self, last: int) -> list[int]:
        """Frames between the last so many that were taken."""
        return [round((b - a) / PERIOD_NS) for a, b in pairwise(self.taken[-last:])]


def always(seconds: float) -> Durations:
    while True:
        yield seconds


def drawn(draw: Callable[[], float]) -> Durations:
    while True:
        yield draw()


def bursts(every: int, seconds: float) -> Durations:
    """Mode live: frames that only join a window, and one in `every` that completes it."""
    while True:
        yield from [0.001] * (every - 1)
        yield seconds


def windows(together: int, mean_s: float) -> Durations:
    """Mode live as it is: every fourth frame is encoded, and the last of a window denoised."""
    while True:
        yield mean_s  # the stream's first frame
        for _ in range(100):
            joining = [0.002, 0.002, 0.002, 0.02] * (together // 4)
            yield from [*joining[:-1], together * mean_s - sum(joining[:-1])]


def even(durations: Durations, together: int = 1) -> Simulation:
    return Simulation(FrameChoice("even", together), durations, Mailbox(together))


def test_a_network_that_keeps_up_gets_every_frame() -> None:
    simulation = even(always(0.9 * PERIOD_S)).run(camera(200))
    assert simulation.taken == [stamp for stamp, _ in camera(200)]
    assert simulation.choice.status.stride == 1
    assert simulation.choice.status.share == 1.0


@pytest.mark.parametrize(
    ("periods", "stride"), [(1.2, 2), (1.9, 3), (2.4, 3), (3.0, 4), (7.5, 9), (60.0, 66)]
)
def test_a_slow_network_gets_every_kth(periods: float, stride: int) -> None:
    simulation = even(always(periods * PERIOD_S)).run(camera(60 * stride))
    assert simulation.choice.status.stride == stride
    assert set(simulation.steps(40)) == {stride}
    known_ns = (2 * periods + 5) * PERIOD_NS
    assert all(stamp < known_ns for stamp in simulation.overwritten), "the pace was known by then"
    assert simulation.choice.status.share == pytest.approx(1 / stride, abs=0.02)


def test_newest_is_what_even_is_not() -> None:
    """The reason to have both: 2.4 periods each leave now two, now three frames between."""
    simulation = Simulation(FrameChoice("newest"), always(2.4 * PERIOD_S)).run(camera(300))
    assert set(simulation.steps(100)) == {2, 3}
    assert simulation.choice.status.stride is None
    assert simulation.choice.status.share == pytest.approx(1 / 2.4, abs=0.02)
    assert simulation.filed == [stamp for stamp, _ in camera(300)]


def test_the_stride_follows_a_load_that_comes_and_goes() -> None:
    load = iter([0.08] * 30 + [0.19] * 30 + [0.08] * 200)
    simulation = even(load).run(camera(800))
    changes = [b for a, b in pairwise([None, *simulation.strides]) if a != b]
    assert changes == [1, 3, 5, 6, 5, 4]
    assert set(simulation.steps(40)) == {4}


def test_noise_does_not_swing_it() -> None:
    rng = random.Random(1)
    for low, high in ((2.0, 2.9), (2.9, 3.05), (0.7, 1.0)):
        noisy = drawn(lambda low=low, high=high: rng.uniform(low, high) * PERIOD_S)  # type: ignore[misc]
        simulation = even(noisy).run(camera(3000))
        settled = simulation.strides[600:]
        assert len(set(settled)) == 1, (low, high)


def test_a_single_hiccup_changes_nothing() -> None:
    hiccup = iter([0.05] * 60 + [3.0] + [0.05] * 300)
    simulation = even(hiccup).run(camera(600))
    assert set(simulation.strides[20:]) == {2}


def test_two_hiccups_are_forgotten_within_a_minute() -> None:
    hiccups = iter([0.05] * 60 + [3.0] * 2 + [0.05] * 300)
    simulation = even(hiccups).run(camera(150 + 65 * 30))
    assert max(stride or 0 for stride in simulation.strides) > 50
    assert simulation.strides[-1] == 2


def test_windows_that_complete_now_and_then_lose_no_frame() -> None:
    """Bursts: what completes a window takes long, what joins it does not."""
    simulation = even(bursts(8, 6.5 * PERIOD_S)).run(camera(3000))
    stride = simulation.choice.status.stride
    assert stride == 4, "the burst may keep one frame waiting, for a step at most"
    assert set(simulation.steps(200)) == {stride}
    late = [stamp for stamp in simulation.overwritten if stamp > 300 * PERIOD_NS]
    assert late == []


@pytest.mark.parametrize("together", [8, 12, 16])
@pytest.mark.parametrize(("mean_s", "stride"), [(0.02, 1), (0.03, 1), (0.045, 2), (0.1, 4)])
def test_frames_that_may_wait_for_their_window_are_taken_at_its_mean_pace(
    together: int, mean_s: float, stride: int
) -> None:
    simulation = even(windows(together, mean_s), together).run(camera(60 * together * stride))
    assert simulation.choice.status.stride == stride
    assert set(simulation.steps(30 * together)) == {stride}
    known_ns = 4 * together * stride * PERIOD_NS
    assert all(stamp < known_ns for stamp in simulation.overwritten), "the pace was known by then"
    assert max(simulation.waits_s) <= together * stride * PERIOD_S, "a window's lag, no backlog"
    assert simulation.choice.status.share == pytest.approx(1 / stride, abs=0.02)


def test_windows_that_take_minutes_are_known_too() -> None:
    """Longer than what is remembered otherwise."""
    simulation = even(windows(12, 10.0), 12).run(camera(2000, 10**9))
    assert simulation.choice.status.stride == 11


def test_without_waiting_most_frames_would_be_left_out() -> None:
    """The reason to let them wait."""
    simulation = even(windows(12, 0.045)).run(camera(2000))
    assert (simulation.choice.status.stride or 0) >= 8


def test_a_load_on_windows_comes_and_goes() -> None:
    quick, slow = windows(12, 0.045), windows(12, 0.1)
    load = (next(quick) if not 241 <= number < 601 else next(slow) for number in range(10**6))
    simulation = even(load, 12).run(camera(8000))
    changes = [b for a, b in pairwise([None, *simulation.strides]) if a != b]
    assert changes[:2] == [1, 2]
    assert max(change or 0 for change in changes) == 4
    assert simulation.strides[-1] == 2


def test_a_mean_is_of_one_window_wherever_it_begins() -> None:
    pushes = [3.0, 0.0, 0.0, 9.0, 0.0, 0.0, 9.0, 0.0]
    assert means(pushes, 3) == [3.0, 3.0]
    assert means(pushes[:2], 3) == []
    assert means(pushes, 1) == pushes


def test_frames_that_the_camera_loses_make_one_step_longer_and_none_shorter() -> None:
    rng = random.Random(2)
    frames = [frame for frame in camera(2000) if rng.random() > 0.1]
    simulation = even(always(2.4 * PERIOD_S)).run(frames)
    assert set(simulation.steps(300)) <= {3, 4, 5}
    assert simulation.steps(300).count(3) > 200


def test_stamps_that_jitter_make_no_step_longer() -> None:
    rng = random.Random(3)
    frames = [(stamp + rng.randrange(4_000_000), arrived_s) for stamp, arrived_s in camera(600)]
    simulation = even(always(2.4 * PERIOD_S)).run(frames)
    assert set(simulation.steps(100)) == {3}


def test_frames_that_come_in_bunches_are_told_by_their_stamps() -> None:
    """Two at a time, as from a busy network: the camera's period stays what it is."""
    frames = [
        (stamp, 2 * PERIOD_S * (number // 2)) for number, (stamp, _) in enumerate(camera(900))
    ]
    simulation = even(always(2.2 * PERIOD_S)).run(frames)
    assert simulation.choice.status.stride == 3
    assert set(simulation.steps(100)) == {3}


def test_a_bag_at_half_its_pace_leaves_twice_the_time() -> None:
    frames = [(stamp, 2 * arrived_s) for stamp, arrived_s in camera(600)]
    simulation = even(always(3.6 * PERIOD_S)).run(frames)
    assert simulation.choice.status.stride == 2
    assert set(simulation.steps(100)) == {2}


def test_another_rate_of_the_camera_is_another_stride() -> None:
    simulation = even(always(0.095)).run(camera(600))
    assert simulation.choice.status.stride == 4
    slower = camera(400, 2 * PERIOD_NS, first=300)
    simulation.run(slower)
    assert simulation.choice.status.stride == 2
    assert set(simulation.steps(50)) == {4}, "as far apart as before"


def test_time_that_runs_back_is_taken_up_at_once() -> None:
    simulation = even(always(5.5 * PERIOD_S)).run(camera(300))
    again = [(stamp, 300 * PERIOD_S + arrived_s) for stamp, arrived_s in camera(40)]
    simulation.run(again[:1])
    assert simulation.filed[-1] == 0
    simulation.run(again[1:])
    assert simulation.strides[-40:] == [7] * 40


@given(
    st.lists(st.floats(0.0, 10.0), min_size=2, max_size=INFERENCES),
    st.integers(1, 50),
    st.floats(0.005, 0.2),
    st.booleans(),
)
def test_every_stride_that_is_chosen_keeps_up(
    inferences_s: list[float], stride: int, period_s: float, is_settled: bool
) -> None:
    chosen = next_stride(stride, period_s, inferences_s, is_settled)
    usual_s = sorted(inferences_s)[-2]
    busy_s = [min(seconds, usual_s) for seconds in inferences_s]
    assert keeps_up(chosen * period_s, busy_s)
    if not is_settled:
        assert chosen >= stride
    assert next_stride(chosen, period_s, inferences_s, is_settled) == chosen, "it swings"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.floats(0.01, 1.0))
def test_more_room_never_makes_it_too_slow(busy_s: list[float], spacing_s: float) -> None:
    assert keeps_up(max(busy_s) + 1e-9, busy_s)
    if keeps_up(spacing_s, busy_s):
        assert keeps_up(1.5 * spacing_s, busy_s)


def test_two_long_inferences_are_not_kept_up_with_where_one_follows_the_other() -> None:
    """Also where it is the first that follows the last: they go on like that."""
    assert keeps_up(1.0, [1.9, 0.1, 1.9, 0.1])
    assert not keeps_up(1.0, [0.1, 1.9, 1.9, 0.1])
    assert not keeps_up(1.0, [1.9, 0.1, 0.1, 1.9])


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="newest, even"):
        FrameChoice("oldest")


@pytest.mark.parametrize("together", [0, INFERENCES // 2 + 1])
def test_more_together_than_is_remembered_is_refused(together: int) -> None:
    with pytest.raises(ValueError, match=f"together is {together}"):
        FrameChoice("even", together)


def test_frames_let_go_are_no_longer_counted_as_used() -> None:
    choice = FrameChoice("newest")
    for stamp_ns, arrived_s in camera(10):
        choice.wants(stamp_ns, arrived_s)
    choice.let_go(3)
    choice.let_go(1)
    assert choice.status.share == pytest.approx(0.6)
    choice.let_go(100)
    assert choice.status.share == 0.0


def test_before_the_first_frame_there_is_no_share() -> None:
    assert FrameChoice("even").status.share is None
