"""Figures of frames, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.datasets.sample import Sample
from dkt_ros.datasets.statistics import Statistics


def frame(depth: list[list[float]], mask: list[list[int]] | None, raw: bool = False) -> Sample:
    array = np.array(depth, np.float32)
    return Sample(
        rgb=np.zeros((*array.shape, 3), np.uint8),
        depth=array,
        source="",
        mask=None if mask is None else np.array(mask, np.uint8),
        raw_depth=array if raw else None,
    )


def test_two_frames_add_up() -> None:
    total = Statistics()
    total.add(Statistics.of(frame([[1.0, 2.0], [4.0, np.nan]], [[0, 1], [2, 0]], raw=True)))
    total.add(Statistics.of(frame([[8.0, 0.5]], None)))
    summary = total.summary()
    assert total.frames == 2
    assert summary["depth_m"]["min"] == 0.5
    assert summary["depth_m"]["max"] == 8.0
    assert summary["depth_m"]["median"] == pytest.approx(2.0, rel=0.005)
    assert summary["unknown_share"] == pytest.approx(1 / 6)
    assert summary["transparent_share"] == 0.5  # of the frame that has a mask
    assert summary["raw_unknown_share"] == 0.25
    assert summary["sizes"] == {"2x2": 1, "2x1": 1}


def test_the_median_is_right_to_half_a_per_cent() -> None:
    random = np.random.default_rng(0)
    total, all_depths = Statistics(), []
    for _ in range(20):
        depth = np.exp(random.normal(0.0, 0.7, (30, 40))).astype(np.float32)
        all_depths.append(depth)
        total.add(Statistics.of(frame(depth.tolist(), None)))
    assert total.depth_median == pytest.approx(np.median(all_depths), rel=0.005)


def test_depths_beyond_the_bins_are_counted() -> None:
    statistics = Statistics.of(frame([[1e-5, 5e3]], None))
    assert statistics.summary()["depth_m"]["min"] == pytest.approx(1e-5)
    assert statistics.summary()["depth_m"]["max"] == 5e3


def test_nothing_gives_nothing() -> None:
    assert Statistics().summary() == {
        "depth_m": None,
        "unknown_share": None,
        "transparent_share": None,
        "raw_unknown_share": None,
        "sizes": {},
    }
