"""Depth that was rounded or stretched is told from its numbers; a sensor's never is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame

from dkt_ros.fusion.steps import Steps, step_of

RAW = rendered_frame().raw.astype(np.float32)
FAR = np.float32(2.5) * RAW


def told(raw: np.ndarray, frames: int = 3) -> tuple[str, bool] | None:
    """Cause and certainty after so many frames, each with noise below a millimetre's rounding."""
    steps = Steps()
    for _ in range(frames):
        found = steps.take(raw.astype(np.float32))
    return None if found is None else (found[0], found[2])


def stretched(raw: np.ndarray) -> np.ndarray:
    low, high = np.nanmin(raw), np.nanmax(raw)
    return (raw - low) / (high - low)


@pytest.mark.parametrize(
    ("cause", "certain", "sent"),
    [
        ("rounded", True, np.rint(FAR)),
        ("rounded", True, np.rint(RAW * 10) / 10),
        ("rounded", False, np.rint(RAW / 10 * 255) / 255 * 10),
        ("rounded", True, (RAW * 1000 // 256) * 0.256),
        ("stretched", True, np.rint(stretched(RAW) * 255) / 1000),
        ("stretched", True, np.rint(stretched(RAW) * 255) / 255),
        ("stretched", True, stretched(RAW)),
        ("stretched", True, np.where(np.isnan(RAW), np.inf, stretched(RAW))),
        ("stretched", True, stretched(np.rint(RAW * 1000))),
        ("stretched", True, np.fmod(np.rint(stretched(RAW) * 65535), 65535) / 1000),
        ("stretched", True, np.mod(np.rint(RAW * 1000), 256) / 1000),
    ],
)
def test_what_was_rounded_or_stretched_is_told(cause: str, certain: bool, sent: np.ndarray) -> None:
    assert told(sent) == (cause, certain)


@pytest.mark.parametrize(
    "raw",
    [
        RAW,
        np.rint(RAW * 1000) / 1000,
        np.rint(RAW * 100) / 100,
        np.where(np.rint(RAW * 1000) <= 1000, np.rint(RAW * 1000) / 1000, np.nan),
        np.minimum(RAW, 1.0),
        np.where(np.arange(RAW.shape[1]) < 9, 65.0, RAW),  # far noise
        26.0 / np.rint(26.0 / RAW * 16) * 16,
        np.full_like(RAW, 1.0),
        np.full_like(RAW, np.nan),
    ],
    ids=[
        "floats",
        "mm",
        "cm",
        "cut at 1 m",
        "clipped at 1 m",
        "far noise",
        "stereo",
        "a wall",
        "nothing",
    ],
)
def test_depth_is_depth(raw: np.ndarray) -> None:
    assert told(raw) is None


def test_what_begins_in_mid_stream_is_looked_at_more_often_once_it_is_suspected() -> None:
    steps = Steps()
    found = [steps.take(RAW) for _ in range(11)]
    assert set(found) == {None}
    found = [steps.take(stretched(RAW).astype(np.float32)) for _ in range(12)]
    assert [one is None for one in found].index(False) == 11


ROWS, COLUMNS = np.mgrid[0:240, 0:320]
SLOPE = (0.5 + 0.9 * ROWS / 240) * np.random.default_rng(0).normal(1, 0.004, ROWS.shape)


@pytest.mark.parametrize("unit", [1e-4, 1.25e-4, 2e-4, 2.5e-4, 1e-3])
def test_what_a_filter_cuts_off_at_a_metre_was_not_stretched(unit: float) -> None:
    numbers = np.rint((SLOPE - 0.35) / unit).astype(np.float32)  # from 15 cm on
    sent = np.where(numbers <= round(1 / unit), numbers * np.float32(unit), np.nan)
    assert np.nanmax(sent.astype(np.float32)) == 1
    assert told(sent) is None
    assert told(np.where(np.isnan(sent), np.inf, sent)) is None


def test_what_ends_where_a_picture_would_and_begins_as_depth_was_not_stretched() -> None:
    assert told(np.minimum(np.rint(SLOPE / 0.004) * 0.01, 2.55)) is None
    assert told(np.where(SLOPE < 0.95, SLOPE, np.where(ROWS + COLUMNS == 0, 1.0, np.nan))) is None


@pytest.mark.parametrize(
    "levels",
    [[1.5, 1.0], [1.5, 1.0, 0.75], [1.5, 1.0, 0.5], [1.75, 1.0, 0.75], [1.0, 0.95, 0.9, 0.85]],
)
def test_blocks_on_a_table_seen_from_straight_above_are_no_rounding(levels: list[float]) -> None:
    heights = np.random.default_rng(0).integers(0, len(levels), (6, 8)).repeat(30, 0).repeat(30, 1)
    assert told(np.array(levels)[heights]) is None


def test_a_table_and_a_floor_whole_metres_away_are_no_certain_rounding() -> None:
    assert told(np.where(ROWS < 90, 2.0, 1.0)) == ("rounded", False)


@pytest.mark.parametrize("distance", [0.7, 0.8, 1.0, 1.6])
@pytest.mark.parametrize("unit", [1e-7, 1e-3])
def test_a_table_in_whole_disparities_was_not_rounded(distance: float, unit: float) -> None:
    """33 px at a metre, as of a camera without parts of a pixel."""
    noise = np.random.default_rng(0).normal(0, 0.15, ROWS.shape)
    disparity = np.rint(33 / (distance * (1 + 0.03 * (COLUMNS / 320 - 0.5))) + noise)
    assert told(np.rint(33 / disparity / unit) * unit) is None


def test_one_frame_that_ends_at_255_is_no_stretching() -> None:
    near = np.rint(stretched(RAW) * 255) / 1000
    steps = Steps()
    causes = []
    for end in (255, 249, 255, 251):
        found = steps.take(np.minimum(near, end / 1000).astype(np.float32))
        causes.append(found and found[0])
    assert "stretched" not in causes


def test_what_is_told_is_told_until_it_ends() -> None:
    steps = Steps()
    assert all(steps.take(np.rint(FAR)) for _ in range(15))
    assert [bool(steps.take(RAW)) for _ in range(10)][-1] is False


def make_values(step: float, count: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda rng: (step * rng.integers(3, 3 + count, 5000)).astype(np.float32)


@pytest.mark.parametrize(("step", "count"), [(1.0, 4), (10 / 255, 200), (0.001, 900)])
def test_a_step_is_found_among_floats(step: float, count: int) -> None:
    found, values = step_of(make_values(step, count)(np.random.default_rng(0)))
    assert found == pytest.approx(step, rel=1e-4)
    assert abs(values - count) < 0.05 * count + 1
