"""Lines that vary over the image, against networks that err as one line cannot mend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dkt_ros.alignment.aligner import Aligner, Alignment, align_depth
from dkt_ros.evaluation.local_lines import LOCAL_LINES, local_depth

ROWS, COLUMNS = np.mgrid[0:192, 0:256] / 4.0
EVERYWHERE = np.ones(ROWS.shape, bool)


def scene(bend: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Alignment]:
    """Truth, raw, glass and a disparity bent by a smooth error over the columns; its alignment."""
    glass = (ROWS >= 10) & (ROWS < 26) & (COLUMNS >= 20) & (COLUMNS < 44)
    truth = (1.0 / (0.6 + ROWS / 48 + 0.5 * glass)).astype(np.float32)
    raw = np.where(glass, np.nan, truth).astype(np.float32)
    disparity = ((1.0 / truth - 0.5) / 2.0 + bend * np.sin(COLUMNS / 20)).astype(np.float32)
    return truth, raw, glass, disparity, Aligner().update(disparity, raw)


def rel(depth: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.mean(np.abs(depth - truth)[where] / truth[where]))


@pytest.mark.parametrize("name", LOCAL_LINES)
def test_where_one_line_is_right_so_are_local_ones(name: str) -> None:
    truth, raw, _, disparity, line = scene()
    depth = local_depth(LOCAL_LINES[name], disparity, line, raw)
    inside = (abs(ROWS - 18) < 6) & (abs(COLUMNS - 32) < 10)
    assert rel(depth, truth, inside) < 0.02
    assert depth.dtype == np.float32
    assert np.mean((depth == raw)[~np.isnan(raw)]) > 0.97, "all but the rim of the glass"


@pytest.mark.parametrize("name", LOCAL_LINES)
def test_smooth_errors_are_mended_in_holes(name: str) -> None:
    """Holes of the table, whose readings around tell the error there."""
    truth, raw, _, disparity, line = scene(bend=0.05)
    hole = (ROWS >= 34) & (ROWS < 40) & (COLUMNS >= 6) & (COLUMNS < 58)
    depth = local_depth(LOCAL_LINES[name], disparity, line, np.where(hole, np.nan, raw))
    globally = align_depth(disparity, line, 0.1, 10.0)
    assert rel(depth, truth, hole) < 0.5 * rel(globally, truth, hole)


@pytest.mark.parametrize("name", LOCAL_LINES)
def test_readings_far_off_the_network_are_not_kept(name: str) -> None:
    truth, raw, glass, disparity, line = scene()
    see_through = np.where(glass, 1.5 * truth, raw).astype(np.float32)
    depth = local_depth(LOCAL_LINES[name], disparity, line, see_through)
    assert rel(depth, truth, glass) < 0.2 < rel(see_through, truth, glass)


@pytest.mark.parametrize("name", LOCAL_LINES)
def test_readings_near_the_network_are_kept_though_most_are_nearer(name: str) -> None:
    _, raw, glass, disparity, line = scene()
    off = np.where(COLUMNS > 50, np.float32(1.01), np.float32(1.0)) * raw
    depth = local_depth(LOCAL_LINES[name], disparity, line, off)
    assert np.mean((depth == off)[~glass]) > 0.95


@pytest.mark.parametrize("name", LOCAL_LINES)
def test_what_is_left_without_readings_or_line(name: str) -> None:
    truth, raw, _, disparity, line = scene()
    nothing = np.full_like(raw, np.nan)
    alone = local_depth(LOCAL_LINES[name], disparity, line, nothing)
    assert rel(alone, truth, EVERYWHERE) < 0.03, "the line's depth"
    few = np.where((ROWS >= 40) & (ROWS < 41) & (COLUMNS < 2), raw, np.nan).astype(np.float32)
    depth = local_depth(LOCAL_LINES[name], disparity, line, few)
    assert rel(depth, truth, EVERYWHERE) < 0.05
    np.testing.assert_array_equal(depth[161:163, 2:6], raw[161:163, 2:6])
    for none in (None, replace(line, scale=np.nan)):
        filled = local_depth(LOCAL_LINES[name], disparity, none, raw)
        np.testing.assert_array_equal(filled[~np.isnan(raw)], raw[~np.isnan(raw)])
    assert np.isnan(local_depth(LOCAL_LINES[name], disparity, None, nothing)).all()
