"""The estimate of the time left, on a clock of our own."""

from __future__ import annotations

import pytest

from dkt_ros.synth.progress import Progress, duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_estimate_is_the_mean_of_recent_sequences_and_forgets_failures() -> None:
    clock = Clock()
    progress = Progress(total=30, frames=2, clock=clock)
    assert progress.seconds_left is None
    clock.now = 100.0  # a slow first one
    progress.sequence(made=True)
    assert progress.seconds_left == pytest.approx(29 * 100)
    for _ in range(8):
        clock.now += 10
        progress.sequence(made=True)
    assert progress.seconds_left == pytest.approx(21 * 10)
    clock.now += 1  # fails at once
    progress.sequence(made=False)
    assert progress.seconds_left == pytest.approx(20 * 10)
    clock.now += 4
    assert progress.seconds_left == pytest.approx(20 * 10 - 4)
    assert "10/30  5.00 s/frame  3 min left" in str(progress)


def test_within_the_first_sequence_its_frames_tell() -> None:
    clock, bars = Clock(), list[str]()
    progress = Progress(total=3, frames=4, draw=bars.append, clock=clock)
    clock.now = 6.0
    progress.frame()
    assert progress.seconds_left == pytest.approx(3 * 24 - 6)
    assert bars[-1].startswith("[##......................] 0/3")
    for _ in range(3):
        progress.sequence(made=True)
    assert progress.seconds_left == 0
    assert "." not in bars[-1][:25]


def test_durations_read_well() -> None:
    assert [duration(s) for s in (5, 89, 120, 7200, 200000)] == [
        "5 s",
        "89 s",
        "2 min",
        "2.0 h",
        "2.3 d",
    ]
