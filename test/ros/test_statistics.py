"""Counts and rates against a clock that the test turns."""

from __future__ import annotations

import pytest

from dkt_ros.ros.statistics import RATE_WINDOW_S, Complaints, RateMeter, Statistics


class TurnedClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


def test_a_steady_stream_has_its_rate(clock: TurnedClock) -> None:
    meter = RateMeter(clock)
    for _ in range(300):
        clock.now += 1 / 30
        meter.tick()
    assert meter.rate_hz == pytest.approx(30.0, rel=0.02)
    assert meter.count == 300
    assert meter.age_s == 0.0


def test_the_rate_of_a_stream_that_stops_falls_to_nothing(clock: TurnedClock) -> None:
    meter = RateMeter(clock)
    for _ in range(100):
        clock.now += 0.1
        meter.tick()
    rates = []
    for _ in range(12):
        clock.now += RATE_WINDOW_S / 10
        rates.append(meter.rate_hz)
    assert rates == sorted(rates, reverse=True)
    assert rates[4] == pytest.approx(5.0, rel=0.1), "nothing has come for half of the window"
    assert rates[-1] == 0.0
    assert meter.age_s == pytest.approx(1.2 * RATE_WINDOW_S)


@pytest.mark.parametrize("hz", [30.0, 2.0])
def test_the_rate_after_a_pause_is_that_of_what_came_since(clock: TurnedClock, hz: float) -> None:
    meter = RateMeter(clock)
    for _ in range(40):
        clock.now += 1 / hz
        meter.tick()
    clock.now += 4.0
    meter.tick()
    assert meter.rate_hz == 0.0, "one event since"
    for _ in range(3):
        clock.now += 1 / hz
        meter.tick()
    assert meter.rate_hz == pytest.approx(hz, rel=0.01)


@pytest.mark.parametrize("kept", [(0, 1, 7), (0, 1, 2, 3, 4)])
def test_losses_are_no_pause(clock: TurnedClock, kept: tuple[int, ...]) -> None:
    meter = RateMeter(clock)
    for number in range(195):
        clock.now += 0.1
        if number % 10 in kept:
            meter.tick()
    assert meter.rate_hz == pytest.approx(len(kept), rel=0.15)


def test_one_event_is_no_rate(clock: TurnedClock) -> None:
    meter = RateMeter(clock)
    assert (meter.rate_hz, meter.age_s) == (0.0, None)
    meter.tick()
    assert meter.rate_hz == 0.0


def test_a_snapshot_holds_everything_counted(clock: TurnedClock) -> None:
    statistics = Statistics(clock)
    statistics.seen("color")
    statistics.dropped("truncated image")
    statistics.dropped("truncated image", 2)
    statistics.skipped()
    statistics.flushed("gap between frames")
    statistics.timed({"predict": 0.1})
    statistics.timed({"predict": 0.3, "cloud": 0.02})
    snapshot = statistics.snapshot()
    statistics.dropped("later")
    assert snapshot.streams["color"].count == 1
    assert snapshot.drops == {"truncated image": 3}
    assert snapshot.skipped == 1
    assert snapshot.flushes == {"gap between frames": 1}
    assert snapshot.timings_s["predict"] == pytest.approx((0.2, 0.3))
    assert snapshot.timings_s["cloud"] == (0.02, 0.02)
    assert snapshot.streams["color"].recent == 1
    assert snapshot.recent_drops == snapshot.drops
    assert snapshot.recent_flushes == snapshot.flushes
    clock.now += 1.1 * RATE_WINDOW_S
    later = statistics.snapshot()
    assert later.drops == {"truncated image": 3, "later": 1}
    assert (later.streams["color"].recent, later.recent_drops, later.recent_flushes) == (0, {}, {})


def test_timings_forget_the_distant_past(clock: TurnedClock) -> None:
    statistics = Statistics(clock)
    statistics.timed({"predict": 60.0})
    for _ in range(100):
        statistics.timed({"predict": 0.1})
    assert statistics.snapshot().timings_s["predict"] == pytest.approx((0.1, 0.1))


def test_a_complaint_is_logged_once_per_period_and_cause(clock: TurnedClock) -> None:
    complaints = Complaints(10.0, clock)
    assert complaints.add("encoding", "first")
    assert complaints.add("size", "another")
    clock.now += 9.0
    assert not complaints.add("encoding", "second")
    assert complaints.latest() == {"encoding": ("second", 0.0), "size": ("another", 9.0)}
    clock.now += 1.0
    assert complaints.add("encoding", "third")
