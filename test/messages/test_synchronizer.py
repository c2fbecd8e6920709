"""The synchroniser pairs by stamp, loses nothing uncounted and survives time that runs back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkt_ros.messages.synchronizer import (
    LONGEST_WAIT_S,
    MOST_WAITING,
    QUEUE_SIZE,
    DropCause,
    Pair,
    Synchronizer,
    lost_share,
    shared_pauses,
    told_apart,
)

MS = 1_000_000

events = st.lists(
    st.tuples(st.sampled_from(["color", "depth"]), st.integers(0, 400).map(lambda ms: ms * MS)),
    max_size=120,
)


def feed(
    synchronizer: Synchronizer[Any, Any], stream: str, stamp_ns: int, payload: Any = None
) -> list[Pair[Any, Any]]:
    push = synchronizer.push_color if stream == "color" else synchronizer.push_depth
    return push(stamp_ns, payload)


@given(events, st.sampled_from([0.0, 0.005, 0.02, 0.1]))
def test_any_input_is_paired_or_counted(events: list[tuple[str, int]], slop_s: float) -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(slop_s)
    pairs: list[Pair[Any, Any]] = []
    for number, (stream, stamp_ns) in enumerate(events):
        for pair in feed(synchronizer, stream, stamp_ns, number):
            assert abs(pair.color_stamp_ns - pair.depth_stamp_ns) <= slop_s * 1e9
            assert events[pair.color] == ("color", pair.color_stamp_ns)
            assert events[pair.depth] == ("depth", pair.depth_stamp_ns)
            pairs.append(pair)
        assert len(synchronizer) <= 2 * MOST_WAITING
    used = [pair.color for pair in pairs] + [pair.depth for pair in pairs]
    assert len(used) == len(set(used)), "a message was used twice"
    assert len(events) == len(used) + synchronizer.dropped.total() + len(synchronizer)


@given(events)
def test_colour_stamps_rise_between_time_jumps(events: list[tuple[str, int]]) -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    last: int | None = None
    for stream, stamp_ns in events:
        jumps = synchronizer.time_jumps
        for pair in feed(synchronizer, stream, stamp_ns):
            if last is not None and synchronizer.time_jumps == jumps:
                assert pair.color_stamp_ns > last
            last = pair.color_stamp_ns
        if synchronizer.time_jumps != jumps:
            last = None


@given(
    st.lists(st.integers(20, 60), min_size=1, max_size=60),
    st.integers(0, QUEUE_SIZE - 1),
    st.booleans(),
    st.sampled_from([0.0, 0.02]),
)
def test_equal_stamps_all_meet_however_late_one_stream_is(
    gaps_ms: list[int], lag: int, color_first: bool, slop_s: float
) -> None:
    """Two streams of the same stamps, one `lag` messages behind the other."""
    stamps = [sum(gaps_ms[: i + 1]) * MS for i in range(len(gaps_ms))]
    ahead, behind = ("color", "depth") if color_first else ("depth", "color")
    synchronizer: Synchronizer[Any, Any] = Synchronizer(slop_s)
    pairs: list[Pair[Any, Any]] = []
    for i in range(len(stamps) + lag):
        if i < len(stamps):
            pairs += feed(synchronizer, ahead, stamps[i])
        if i >= lag:
            pairs += feed(synchronizer, behind, stamps[i - lag])
    assert [(pair.color_stamp_ns, pair.depth_stamp_ns) for pair in pairs] == [
        (stamp, stamp) for stamp in stamps
    ]
    assert synchronizer.dropped.total() == 0


@pytest.mark.parametrize("depth_offset_ms", [-7, -3, 0, 3, 7])
def test_every_colour_finds_the_nearest_depth(depth_offset_ms: int) -> None:
    """At 60 Hz and 20 ms slop two depth images are in reach; the nearer one is taken.

    Also where depth runs before colour begins, so that an older one is always at hand.
    """
    period = 17
    arrivals = sorted(
        [(i * period, "color") for i in range(30)]
        + [(i * period + depth_offset_ms, "depth") for i in range(-2, 30)]
    )
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    pairs: list[Pair[Any, Any]] = []
    for stamp_ms, stream in arrivals:
        pairs += feed(synchronizer, stream, (stamp_ms + 100) * MS)
    assert len(pairs) >= 28
    for pair in pairs[2:]:
        assert pair.depth_stamp_ns - pair.color_stamp_ns == depth_offset_ms * MS


def arrivals(
    hz: tuple[int, int], lag_ms: tuple[int, int], faster: float = 0.0, seconds: int = 20
) -> list[tuple[str, int]]:
    """Streams and stamps as they come, of colour and depth at such rates, so late.

    faster: share by which depth's period is the longer one.
    """
    periods = [1000 * MS / hz[0], 1000 * MS / hz[1] * (1 + faster)]
    found = [
        (round(index * period) + lag * MS, name, round(index * period))
        for name, period, lag in zip(("color", "depth"), periods, lag_ms, strict=True)
        for index in range(1, round(seconds * 1000 * MS / period))
    ]
    return [(name, stamp_ns) for _, name, stamp_ns in sorted(found)]


@pytest.mark.parametrize("lag_ms", [(0, 15), (15, 0), (1, 0)])
@pytest.mark.parametrize(
    ("hz", "slop_s"),
    [
        ((60, 30), 0.02),
        ((90, 30), 0.02),
        ((30, 15), 0.04),
        ((30, 60), 0.02),
        ((90, 30), 0.04),
        ((60, 15), 0.1),
        ((30, 10), 0.1),
    ],
)
def test_at_unequal_rates_depth_goes_to_the_colour_of_its_moment(
    hz: tuple[int, int], slop_s: float, lag_ms: tuple[int, int]
) -> None:
    """Not to those before, which have it within the slop too, once their paces are known."""
    synchronizer: Synchronizer[Any, Any] = Synchronizer(slop_s)
    pairs = [pair for one in arrivals(hz, lag_ms) for pair in feed(synchronizer, *one)]
    assert len(pairs) >= 20 * min(hz) - 2
    assert max(abs(pair.depth_stamp_ns - pair.color_stamp_ns) for pair in pairs[2:]) < MS
    assert told_apart(synchronizer.apart_s) == ""


@pytest.mark.parametrize("faster", [0.001, -0.001])
def test_of_two_that_run_freely_none_gets_later_and_later(faster: float) -> None:
    """By their own clocks one overtakes the other again and again."""
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.05)
    come = arrivals((60, 60), (0, 5), faster, seconds=60)
    pairs = [pair for one in come for pair in feed(synchronizer, *one)]
    assert len(pairs) > 0.99 * 60 * 60
    apart_ms = [abs(pair.depth_stamp_ns - pair.color_stamp_ns) / MS for pair in pairs]
    assert max(apart_ms) < 2 / 3 * 1000 / 60 + 0.1


def test_a_loop_starts_anew_at_once() -> None:
    """message_filters pairs 9 of 150 after a loop; here every pair of every round arrives."""
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    for _ in range(3):
        paired = 0
        for i in range(150):
            paired += len(feed(synchronizer, "color", i * 33 * MS))
            paired += len(feed(synchronizer, "depth", i * 33 * MS))
        assert paired == 150
    assert synchronizer.time_jumps == 2


def test_pending_messages_do_not_outlive_a_time_jump() -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    feed(synchronizer, "depth", 4_000 * MS)
    feed(synchronizer, "color", 5_000 * MS)
    assert feed(synchronizer, "color", 0) == []
    assert len(feed(synchronizer, "depth", 0)) == 1
    assert synchronizer.dropped[DropCause.TIME_JUMP] == 2


@pytest.mark.parametrize(("step_ms", "kept"), [(100, QUEUE_SIZE), (33, 16), (1, MOST_WAITING)])
def test_without_depth_colour_is_counted_and_memory_stays_bounded(step_ms: int, kept: int) -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    for i in range(100):
        assert feed(synchronizer, "color", i * step_ms * MS) == []
    assert len(synchronizer) == kept
    assert synchronizer.dropped[DropCause.QUEUE_FULL] == 100 - kept


@pytest.mark.parametrize("hz", [6, 15, 30, 60, 90])
@pytest.mark.parametrize("behind", ["color", "depth"])
@pytest.mark.parametrize("lag_s", [0.25, 1.0])
def test_what_lags_behind_is_paired_or_told(hz: int, behind: str, lag_s: float) -> None:
    """Registered depth comes late, compressed colour too: by a time, at whatever rate."""
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.005)
    first = "color" if behind == "depth" else "depth"
    arrivals = sorted(
        (i / hz + lag, stream, i * 10**9 // hz)
        for stream, lag in ((first, 0.0), (behind, lag_s))
        for i in range(5 * hz)
        if i / hz + lag < 5.0
    )
    found = sum(len(feed(synchronizer, stream, ns)) for _, stream, ns in arrivals)
    if lag_s < LONGEST_WAIT_S or lag_s * hz < QUEUE_SIZE:
        assert found == sum(stream == behind for _, stream, _ in arrivals)
        assert synchronizer.late_s == {}
    else:
        assert found == 0
        assert synchronizer.late_s == {behind: pytest.approx(lag_s, abs=1.1 / hz)}
        feed(synchronizer, "color", 6 * 10**9)
        assert len(feed(synchronizer, "depth", 6 * 10**9)) == 1
        assert synchronizer.late_s == {}, "they meet again"


def test_different_clocks_are_visible_in_the_offset() -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    assert synchronizer.offset_s is None
    feed(synchronizer, "color", 5_000 * MS)
    feed(synchronizer, "depth", 20 * MS)
    assert synchronizer.offset_s == pytest.approx(4.98, abs=1e-9)


def test_duplicates_are_dropped_and_named() -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    feed(synchronizer, "color", 0)
    feed(synchronizer, "color", 0)
    assert synchronizer.dropped[DropCause.DUPLICATE] == 1
    assert len(feed(synchronizer, "depth", 0)) == 1


def test_a_stamp_that_was_left_out_costs_its_message_alone() -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.02)
    pairs: list[Pair[Any, Any]] = []
    for number in range(4):
        stamp_ns = (1_700_000_000_000 + 100 * number) * MS
        pairs += feed(synchronizer, "color", stamp_ns)
        pairs += feed(synchronizer, "depth", 0 if number == 1 else stamp_ns, number)
    assert [pair.depth for pair in pairs] == [0, 2, 3]
    assert synchronizer.dropped[DropCause.NO_STAMP] == 1
    assert not synchronizer.time_jumps


def test_a_missing_depth_costs_one_pair_only() -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.01)
    pairs: list[Pair[Any, Any]] = []
    for i in range(10):
        pairs += feed(synchronizer, "color", i * 33 * MS)
        if i != 4:
            pairs += feed(synchronizer, "depth", i * 33 * MS)
    assert len(pairs) == 9
    assert synchronizer.dropped == {DropCause.NO_DEPTH: 1}


def test_slop_changes_while_running() -> None:
    synchronizer: Synchronizer[Any, Any] = Synchronizer(0.0)
    feed(synchronizer, "color", 0)
    assert feed(synchronizer, "depth", 5 * MS) == []
    synchronizer.slop_s = 0.01
    feed(synchronizer, "color", 33 * MS)
    assert len(feed(synchronizer, "depth", 38 * MS)) == 1


@pytest.mark.parametrize("arguments", [{"slop_s": -0.1}, {"slop_s": 0.1, "queue_size": 0}])
def test_nonsense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Synchronizer(**arguments)


def stamps_of(hz: float, number: int, kept: float = 1.0, jitter_s: float = 0.0) -> list[int]:
    """A camera's stamps, of which a share arrives."""
    random = np.random.default_rng(3)
    sent = np.arange(number) / hz + random.normal(0.0, jitter_s, number)
    return [round(stamp * 1e9) for stamp in sent[random.random(number) < kept]]


@pytest.mark.parametrize("hz", [5.0, 30.0])
@pytest.mark.parametrize("kept", [1.0, 0.8, 0.4, 0.2])
def test_what_did_not_arrive_is_told_from_the_stamps(hz: float, kept: float) -> None:
    share = lost_share(stamps_of(hz, 400, kept))
    assert share == pytest.approx(1.0 - kept, abs=0.07)


def test_jitter_is_no_loss() -> None:
    share = lost_share(stamps_of(8.0, 90, jitter_s=0.015))
    assert share is not None
    assert share < 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("late", [0.05, 0.2, 0.4])
def test_stamps_by_arrival_are_no_loss(late: float, seed: int) -> None:
    """As of drivers that stamp what they have read, on a busy machine: two come at once, then."""
    random = np.random.default_rng(seed)
    sent = np.arange(90) / 30.0
    sent += (random.random(90) < late) * random.uniform(0.01, 0.031, 90)
    bunched = [round(stamp * 1e9) for stamp in sent]
    assert lost_share(bunched) == pytest.approx(0.0, abs=0.05)
    jittered = np.sort(np.arange(90) / 30.0 + random.normal(0.0, 0.008, 90))
    jittered[50:] += 0.5  # the camera stopped for a moment
    assert lost_share([round(stamp * 1e9) for stamp in jittered]) == pytest.approx(0.0)


@pytest.mark.parametrize("steps_ms", [(60.0, 6.6), (90.0, 5.0, 5.0), (33.3, 66.6)])
def test_bunches_and_what_a_throttle_passes_on_are_no_loss(steps_ms: tuple[float, ...]) -> None:
    stamps = np.tile(steps_ms, 40).cumsum()[:90] * MS
    assert lost_share([round(stamp) for stamp in stamps]) == pytest.approx(0.0)


def test_a_slower_pace_is_no_loss() -> None:
    # A camera that exposes for longer in the dark, for a while and again.
    steps = ([33] * 20 + [67] * 20) * 2 + [133] * 10
    stamps = [sum(steps[:end]) * MS for end in range(len(steps) + 1)]
    assert lost_share(stamps) == pytest.approx(0.0)


@pytest.mark.parametrize(("before_hz", "after_hz"), [(30.0, 15.0), (30.0, 5.0), (30.0, 1.0)])
def test_a_slower_pace_that_is_not_even_is_no_loss(before_hz: float, after_hz: float) -> None:
    """As where the frame rate is set anew, or a simulator's machine is busy."""
    random = np.random.default_rng(0)
    steps = [random.normal(1 / hz, 0.04 / hz, n) for hz, n in ((before_hz, 60), (after_hz, 12))]
    stamps = [round(stamp * 1e9) for stamp in np.concatenate(steps).cumsum()]
    assert lost_share(stamps) == pytest.approx(0.0)


@pytest.mark.parametrize("jitter_s", [0.001, 0.0])
@pytest.mark.parametrize(
    ("hz", "pause_s"), [(30.0, 0.5), (30.0, 1.0), (30.0, 1.9), (10.0, 0.5), (5.0, 1.0)]
)
def test_a_camera_that_stopped_for_a_moment_has_lost_nothing(
    hz: float, pause_s: float, jitter_s: float
) -> None:
    """As one does whose exposure or profile changes."""
    stamps = stamps_of(hz, 60, jitter_s=jitter_s)
    paused = [
        stamp if number < 40 else stamp + round(pause_s * 1e9)
        for number, stamp in enumerate(stamps)
    ]
    assert lost_share(paused) == pytest.approx(0.0)


@pytest.mark.parametrize("slower", [2, 3, 6])
@pytest.mark.parametrize("slow_frames", [6, 14, 40])
def test_a_change_of_pace_is_no_loss_at_any_moment(slower: int, slow_frames: int) -> None:
    """Also where the slower one has just begun, or is about to be forgotten."""
    steps = [167] * 90 + [167 * slower] * slow_frames + [167] * 100
    stamps = [sum(steps[:end]) * MS for end in range(len(steps) + 1)]
    for end in range(90, len(stamps) + 1):
        newest = stamps[end - 90 : end]
        share = lost_share(newest)
        assert share is not None
        assert share < 0.1, end
        assert shared_pauses(newest, newest) == ([], [])


@pytest.mark.parametrize("both", [True, False])
def test_what_both_streams_do_not_send_is_a_pause_and_not_lost(both: bool) -> None:
    """As of a camera with a loose cable; of one stream alone it may be lost on the way."""
    box: Synchronizer[int, int] = Synchronizer(0.02)
    for number in range(90):
        is_paused = number % 18 >= 11
        if not is_paused:
            box.push_depth(number * 167 * MS, number)
        if not (is_paused and both):
            box.push_color(number * 167 * MS + MS, number)
    assert box.lost_share()["color"] == pytest.approx(0.0)
    assert (box.lost_share()["depth"] > 0.1) != both
    assert box.pauses_s == ([pytest.approx(8 * 0.167)] * 4 if both else [])


def test_a_stream_that_is_stopped_again_and_again_has_lost_nothing() -> None:
    """As where somebody switches depth off for seconds, and colour goes on."""
    box: Synchronizer[int, int] = Synchronizer(0.02)
    for number in range(120):
        box.push_color(number * 125 * MS, number)
        if number % 50 < 25:
            box.push_depth(number * 125 * MS, number)
    assert box.lost_share() == {"color": pytest.approx(0.0), "depth": pytest.approx(0.0)}


def test_few_stamps_tell_nothing() -> None:
    assert lost_share(stamps_of(30.0, 10)) is None


def test_a_pause_is_no_loss_and_misses_are_measured() -> None:
    box: Synchronizer[int, int] = Synchronizer(0.02)
    for number in range(60):
        stamp = number * 125 * 10**6 + (10 * 10**9 if number >= 30 else 0)
        box.push_color(stamp, number)
        box.push_depth(stamp + 33 * 10**6, number)
    assert box.missed_s == pytest.approx(0.033)
    assert box.lost_share()["color"] == pytest.approx(0.0)
    late = stamp + 10 * 10**9
    box.push_color(late, 0)
    box.push_depth(late + 60 * 10**6, 0)
    assert box.missed_s == pytest.approx(0.06), "not of before the pause"
    box.slop_s = 0.04
    for number in range(80, 84):
        box.push_color(stamp + number * 10**9, number)
        box.push_depth(stamp + number * 10**9, number)
    assert box.missed_s is None


@pytest.mark.parametrize(
    ("offsets_ms", "apart_ms"),
    [
        ([18], 18),
        ([-13], -13),
        ([18, 18, 19, 18, 18, 18, 18, 18, 18, 2], 18),
        ([15, -15], None),
        (range(-10, 10), None),
    ],
)
def test_depth_that_is_stamped_beside_its_colour_for_good_is_known(
    offsets_ms: Sequence[int], apart_ms: float | None
) -> None:
    box: Synchronizer[None, None] = Synchronizer(0.02)
    for index in range(30):
        stamp_ns = (1000 + 100 * index) * MS
        box.push_color(stamp_ns, None)
        box.push_depth(stamp_ns + offsets_ms[index % len(offsets_ms)] * MS, None)
        assert index >= 9 or box.apart_s is None, "of too few"
    expected = None if apart_ms is None else pytest.approx(apart_ms * 1e-3)
    assert box.apart_s == expected
    said = told_apart(box.apart_s)
    assert bool(said) == (apart_ms is not None)
    if apart_ms == 18:
        assert "stamped 18 ms after the colour" in said
        assert "at 0.5 m/s by 9 mm" in said
    box.push_color(0, None)
    assert box.apart_s is None, "of a stream that begins anew"


def test_a_little_apart_is_nothing_to_tell() -> None:
    assert told_apart(0.006) == told_apart(None) == ""
