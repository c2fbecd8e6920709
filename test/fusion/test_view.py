"""A sensor that sees less than the picture is told from a scene that ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.fused_scenes import GlassFrame, rendered_frame

from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.fused import Fused
from dkt_ros.fusion.fuser import Fuser
from dkt_ros.fusion.registration import Change
from dkt_ros.fusion.view import sensors_view

SIZE = 160, 288


def seen(rows: slice, columns: slice) -> np.ndarray:
    measured = np.zeros(SIZE, bool)
    measured[rows, columns] = True
    return measured


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(0, 160), slice(33, 255)),
        (slice(0, 160), slice(0, 200)),
        (slice(21, 139), slice(0, 288)),
        (slice(30, 130), slice(50, 240)),
        (slice(90, 160), slice(160, 288)),
    ],
)
def test_a_narrower_view_is_found(rows: slice, columns: slice) -> None:
    measured = seen(rows, columns)
    rng = np.random.default_rng(0)
    measured &= rng.random(SIZE) < 0.7  # holes
    view = sensors_view(measured)
    assert view is not None
    outside = measured.copy()
    outside[view] = False
    assert not outside.any()
    for part, wanted, side in zip(view, (rows, columns), SIZE, strict=True):
        length = part.stop - part.start
        assert length % 16 == 0
        assert length < wanted.stop - wanted.start + 16
        assert 0 <= part.start < part.stop <= side


def test_a_cut_hexagon_is_a_view() -> None:
    """As of a time-of-flight sensor registered to a wide colour picture."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / np.array(SIZE)[:, None, None]
    far = np.abs(x - 0.5)
    measured = (far < 0.38) & (far < 0.38 + 0.5 * (0.25 - np.abs(y - 0.5)))
    view = sensors_view(measured)
    assert view is not None
    assert view[0] == slice(0, SIZE[0])
    assert view[1].stop - view[1].start < 0.85 * SIZE[1]


def test_where_a_scene_ends_is_no_view() -> None:
    whole = np.ones(SIZE, bool)
    ragged = whole.copy()
    ends = 40 + np.random.default_rng(0).integers(0, 30, SIZE[1])
    ragged[np.arange(SIZE[0])[:, None] < ends] = False
    rough = whole.copy()  # a fifth of its border's lines
    rough[np.arange(SIZE[0])[:, None] < 40 + np.arange(SIZE[1]) * 7 % 10] = False
    askew = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1]) // 4) > 60
    thing = seen(slice(60, 100), slice(100, 150))
    narrow_rim = seen(slice(4, 156), slice(8, 280))
    for measured in (whole, ragged, rough, askew, thing, narrow_rim, ~whole):
        assert sensors_view(measured) is None


@pytest.fixture(scope="module")
def frame() -> GlassFrame:
    return rendered_frame()


def narrowed(frame: GlassFrame, share: float) -> GlassFrame:
    raw = frame.raw.copy()
    for axis, side in enumerate(raw.shape):
        rim = round(side * (1 - share) / 2)
        np.moveaxis(raw, axis, 0)[:rim] = np.nan
        np.moveaxis(raw, axis, 0)[side - rim :] = np.nan
    return frame.with_raw(raw)


def fuse(frame: GlassFrame, method: Any = "refiner", network: bool = True) -> Fused:
    disparity, alignment = (frame.disparity, frame.aligned()) if network else (None, None)
    fuser = Fuser(FusionConfig(method=method))
    return fuser.fuse(frame.rgb, frame.raw, disparity, alignment)


@pytest.mark.parametrize("method", ["refiner", "membrane"])
def test_beyond_the_view_the_network_stands(frame: GlassFrame, method: str) -> None:
    narrow = narrowed(frame, 0.6)
    fused = fuse(narrow, method)
    inside = np.isfinite(narrow.raw)
    beyond = ~inside & ~frame.glass & np.isfinite(frame.truth)
    beyond[np.ix_(*(slice_of(inside, axis) for axis in (0, 1)))] = False
    line = narrow.aligned()
    network = 1 / np.maximum(line.scale * frame.disparity + line.shift, 1e-3)
    assert np.isfinite(fused.depth).all()
    assert frame.rel(fused.depth, beyond) < 1.1 * frame.rel(network, beyond)
    assert fused.confidence[beyond].mean() < 0.5 * fused.confidence[inside].mean()


def test_beyond_the_view_nothing_is_sure(frame: GlassFrame) -> None:
    """However well the network fits within, and less so where there is none."""
    right = replace(frame, disparity=((1 / frame.truth - 0.2) / 4).astype(np.float32))
    narrow = narrowed(right.with_raw(frame.truth), 0.6)
    inside = np.isfinite(narrow.raw)
    for network, most in ((True, 0.5), (False, 0.2)):
        confidence = fuse(narrow, network=network).confidence
        assert confidence[:20].max() < most
        assert confidence[inside].mean() > confidence[:20].max() + 0.3


def test_depth_has_no_step_where_the_view_ends(frame: GlassFrame) -> None:
    """What was decided inside is joined by what stands beyond."""
    narrow = narrowed(frame, 0.7)
    rows, columns = (slice_of(np.isfinite(narrow.raw), axis) for axis in (0, 1))
    error = np.log(fuse(narrow).depth / frame.truth)[rows]
    steps = np.nanmean(np.abs(np.diff(error, axis=1)), axis=0)
    borders = np.r_[columns[0] - 30 : columns[0] + 2, columns[-1] - 2 : columns[-1] + 30]
    assert steps[borders].max() < 0.0105


def slice_of(inside: np.ndarray, axis: int) -> np.ndarray:
    found = np.flatnonzero(inside.any(axis=1 - axis))
    return np.arange(found[0], found[-1] + 1)


def test_readings_are_kept_in_a_narrow_view(frame: GlassFrame) -> None:
    with np.errstate(invalid="ignore"):
        right = (np.abs(frame.raw - frame.truth) < 0.005 * frame.truth) & ~frame.glass
    narrow = narrowed(frame, 0.6)
    for network in (True, False):
        kept = fuse(narrow, network=network).depth == frame.raw
        where = right & np.isfinite(narrow.raw)
        assert kept[where].mean() > 0.97


def test_a_change_that_leaves_too_little_of_a_narrow_view_explains_nothing(
    frame: GlassFrame,
) -> None:
    small = frame.resized(60, 100)
    raw = small.raw.copy()
    raw[:12], raw[-10:] = np.nan, np.nan
    seen = fuse(small.with_raw(raw)).seen
    assert seen is not None
    as_it_is, *moved = seen.ask([Change(), Change(y=0.25), Change(y=-0.25), Change(zoom=2.5)])
    assert np.isfinite(as_it_is)
    assert -np.inf in moved


def test_a_narrow_view_of_a_small_picture(frame: GlassFrame) -> None:
    for size in ((32, 32), (48, 40), (33, 90)):
        assert np.isfinite(fuse(narrowed(frame.resized(*size), 0.6)).depth).all()
