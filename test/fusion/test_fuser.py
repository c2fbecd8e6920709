"""What the fused depth is of, frame by frame and over a stream."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fixtures.fused_scenes import GlassFrame, rendered_frame

from dkt_ros.alignment.aligner import Alignment, AlignmentState
from dkt_ros.errors import DktError
from dkt_ros.fusion import fuser as fuser_module
from dkt_ros.fusion import standing
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.fused import Fused, Source
from dkt_ros.fusion.fuser import Fuser
from dkt_ros.fusion.weights import default_weights
from dkt_ros.geometry import nearest_fill

UNALIGNED = Alignment(
    np.nan, np.nan, 0, 0.0, np.nan, np.inf, AlignmentState.UNALIGNED, "no positive scale fits"
)


@pytest.fixture(scope="module")
def frame() -> GlassFrame:
    return rendered_frame()


@pytest.fixture(scope="module", params=["refiner", "membrane"])
def fuser(request: pytest.FixtureRequest) -> Fuser:
    return Fuser(FusionConfig(method=request.param))


def fuse(fuser: Fuser, frame: GlassFrame, **other: Any) -> Fused:
    """The frame by itself."""
    fuser.reset()
    values: dict[str, Any] = {
        "rgb": frame.rgb,
        "raw_depth": frame.raw,
        "disparity": frame.disparity,
        "alignment": frame.aligned(),
        "stamp_ns": 1,
    }
    return fuser.fuse(**(values | other))


def good(frame: GlassFrame) -> np.ndarray:
    """Where the sensor is right, away from glass."""
    with np.errstate(invalid="ignore"):
        right = np.abs(frame.raw - frame.truth) < 0.005 * frame.truth
    return np.asarray(right & ~frame.glass)


def test_sensor_where_it_is_right_network_where_it_is_not(fuser: Fuser, frame: GlassFrame) -> None:
    fused = fuse(fuser, frame)
    assert fused.depth.dtype == np.float32
    assert np.isfinite(fused.depth).all()
    kept = fused.depth[good(frame)] == frame.raw[good(frame)]
    assert kept.mean() > 0.9
    assert frame.rel(fused.depth, good(frame)) < 0.004
    holes = frame.glass & ~np.isfinite(frame.raw)
    assert (fused.source[holes] == Source.NETWORK).all()
    assert frame.rel(fused.depth, holes) < 0.75 * frame.rel(nearest_fill(frame.raw), holes)
    assert fused.network_used
    assert fused.reason == ""
    assert fused.residual_m < 0.01
    partly = (fused.source == Source.SENSOR) & (fused.depth != frame.raw)
    assert partly.any()
    assert np.abs(fused.depth / frame.raw - 1)[partly].mean() < 0.01, "what is called the sensor's"


def test_the_network_s_depth_meets_the_sensor_s_without_a_step(
    fuser: Fuser, frame: GlassFrame
) -> None:
    fused = fuse(fuser, frame)
    steps = []
    for axis in (0, 1):
        beside = np.diff(fused.source.astype(int), axis=axis) != 0
        one_surface = np.abs(np.diff(np.log(frame.truth), axis=axis)) < 0.01
        steps.append(np.abs(np.diff(np.log(fused.depth), axis=axis))[beside & one_surface])
    limit = 0.014 if fuser.config.method == "refiner" else 0.0075
    assert np.median(np.concatenate(steps)) < limit


def test_shares_are_those_of_the_source(fuser: Fuser, frame: GlassFrame) -> None:
    fused = fuse(fuser, frame)
    assert fused.shares.sensor == pytest.approx((fused.source == Source.SENSOR).mean())
    assert fused.shares.network == pytest.approx((fused.source == Source.NETWORK).mean())
    assert fused.shares.nothing == pytest.approx(0, abs=1e-9)
    assert np.isfinite(frame.raw[fused.source == Source.SENSOR]).all()


def test_without_a_network_holes_are_filled(fuser: Fuser, frame: GlassFrame) -> None:
    for values in ({"disparity": None}, {"alignment": None}, {"alignment": UNALIGNED}):
        fused = fuse(fuser, frame, **values)
        assert np.isfinite(fused.depth).all()
        assert frame.rel(fused.depth, good(frame)) < 0.004
        assert not fused.network_used
        assert "network" in fused.reason
    assert UNALIGNED.reason in fused.reason
    # By weights that know how to do without, whichever kind of network it was.
    told = fuse(fuser, frame, alignment=UNALIGNED, on_scale=True)
    np.testing.assert_array_equal(fused.depth, told.depth)


def test_sensor_passes_a_network_that_contradicts_it(fuser: Fuser, frame: GlassFrame) -> None:
    wrong = replace(frame.aligned(), scale=0.0, shift=1 / 9.0)
    fused = fuse(fuser, frame, alignment=wrong)
    alone = fuse(fuser, frame, disparity=None)
    np.testing.assert_array_equal(fused.depth, alone.depth)
    assert not fused.network_used
    assert "was not used: it agrees with 0%" in fused.reason


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_a_network_that_leaves_pixels_out_is_used_for_the_others(
    fuser: Fuser, frame: GlassFrame, unknown: float
) -> None:
    """As stereo networks do along one side."""
    disparity = frame.disparity.copy()
    disparity[:, :20] = unknown
    fused, whole = fuse(fuser, frame, disparity=disparity), fuse(fuser, frame)
    assert fused.network_used
    assert np.isfinite(fused.depth).all()
    far = frame.glass & (np.arange(frame.glass.shape[1]) > 60)
    assert np.abs(fused.depth / whole.depth - 1)[far].max() < 0.02


def test_a_network_that_leaves_most_out_is_not_used(fuser: Fuser, frame: GlassFrame) -> None:
    disparity = frame.disparity.copy()
    disparity[:, :240] = np.nan
    fused = fuse(fuser, frame, disparity=disparity)
    assert not fused.network_used
    assert "gives no depth on 75% of it" in fused.reason


@pytest.mark.parametrize("nothing", [None, np.nan, 0.0, np.inf, -1.0, 1000.0])
def test_without_readings_the_scale_is_the_stream_s(
    fuser: Fuser, frame: GlassFrame, nothing: float | None
) -> None:
    raw = None if nothing is None else np.full_like(frame.raw, nothing)
    held = replace(frame.aligned(), state=AlignmentState.HELD, reason="no raw depth")
    fused = fuse(fuser, frame, raw_depth=raw, alignment=held)
    assert frame.rel(fused.depth, ~frame.glass) < 0.06
    assert set(np.unique(fused.source)) <= {Source.NETWORK, Source.NOTHING}
    assert "no raw depth" in fused.reason
    assert "scale of an earlier frame" in fused.reason
    confidence = fused.confidence[np.isfinite(fused.depth)]
    assert 0 < confidence.max() < 0.5
    expected = 1 - np.exp(-fuser.config.tolerance / fused.expected_error)
    np.testing.assert_allclose(confidence, expected, rtol=1e-3)
    doubtful = replace(held, uncertainty=0.3)
    less = fuse(fuser, frame, raw_depth=raw, alignment=doubtful).confidence
    assert less.max() < 0.6 * confidence.max()


def test_nothing_at_all(fuser: Fuser, frame: GlassFrame) -> None:
    fused = fuse(fuser, frame, raw_depth=None, disparity=None, alignment=None)
    assert np.isnan(fused.depth).all()
    assert (fused.source == Source.NOTHING).all()
    assert fused.shares.nothing == 1
    assert (fused.confidence == 0).all()


@pytest.mark.parametrize("unknown", [0.0, np.inf, -np.inf, -1.0, 1e6, 1e-6])
def test_every_kind_of_unknown_is_a_hole(fuser: Fuser, frame: GlassFrame, unknown: float) -> None:
    other = np.where(np.isfinite(frame.raw), frame.raw, unknown).astype(np.float32)
    expected = fuse(fuser, frame)
    fused = fuse(fuser, frame, raw_depth=other, alignment=frame.aligned())
    np.testing.assert_array_equal(fused.depth, expected.depth)


@pytest.mark.parametrize("size", [(97, 131), (33, 47), (480, 640), (16, 16), (5, 7), (1, 1)])
def test_any_size(fuser: Fuser, frame: GlassFrame, size: tuple[int, int]) -> None:
    small = frame.resized(*size)
    fused = fuse(fuser, small)
    assert fused.depth.shape == fused.source.shape == fused.confidence.shape == size
    assert np.isfinite(fused.depth[np.isfinite(small.raw)]).all()


def test_portrait(fuser: Fuser, frame: GlassFrame) -> None:
    turned = frame.turned()
    fused = fuse(fuser, turned)
    assert turned.rel(fused.depth, good(turned)) < 0.004
    holes = turned.glass & ~np.isfinite(turned.raw)
    assert turned.rel(fused.depth, holes) < turned.rel(nearest_fill(turned.raw), holes)


def test_full_size_keeps_the_sensor_s_own_pixels(fuser: Fuser, frame: GlassFrame) -> None:
    """What only the full size shows, one pixel in thirty, is neither lost nor smeared."""
    large = frame.resized(640, 1152)
    raw = large.raw + np.float32(0.001) * (np.indices(large.raw.shape).sum(axis=0) % 6 == 0)
    large = large.with_raw(raw)
    fused = fuse(fuser, large)
    sensor = good(large) & (fused.source == Source.SENSOR)
    assert (fused.depth[sensor] == large.raw[sensor]).mean() > 0.9


def test_does_not_change_what_it_is_given(fuser: Fuser, frame: GlassFrame) -> None:
    before = [part.copy() for part in (frame.rgb, frame.raw, frame.disparity)]
    first = fuse(fuser, frame)
    kept = first.depth.copy()
    fuser.fuse(frame.rgb, np.full_like(frame.raw, 1.0), None, None, 2)
    for part, old in zip((frame.rgb, frame.raw, frame.disparity), before, strict=True):
        np.testing.assert_array_equal(part, old)
    np.testing.assert_array_equal(first.depth, kept)


def test_the_same_twice(frame: GlassFrame) -> None:
    first, second = (fuse(Fuser(), frame) for _ in range(2))
    np.testing.assert_array_equal(first.depth, second.depth)
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_a_tensor_for_disparity(fuser: Fuser, frame: GlassFrame) -> None:
    expected = fuse(fuser, frame)
    fused = fuse(fuser, frame, disparity=torch.from_numpy(frame.disparity))
    np.testing.assert_array_equal(fused.depth, expected.depth)


@lru_cache(maxsize=16)
def noisy(frame: GlassFrame, seed: int) -> GlassFrame:
    """The same scene a moment later: other noise of sensor and camera, other holes."""
    rng = np.random.default_rng(seed)
    raw = 1 / (1 / frame.raw + 0.004 * rng.normal(size=frame.raw.shape))
    raw[rng.random(raw.shape) < 0.02] = np.nan
    rgb = np.clip(frame.rgb + rng.normal(0, 2, frame.rgb.shape), 0, 255).astype(np.uint8)
    disparity = frame.disparity + rng.normal(0, 0.003, raw.shape)
    return replace(
        frame, rgb=rgb, raw=raw.astype(np.float32), disparity=disparity.astype(np.float32)
    )


def flicker(depths: list[np.ndarray], where: np.ndarray) -> float:
    """Mean relative change from frame to frame where both are known."""
    changes = [np.abs(b - a) / a for a, b in itertools.pairwise(depths)]
    return float(np.mean([np.nanmean(change[where]) for change in changes]))


def test_a_static_scene_is_steadier_than_its_parts(fuser: Fuser, frame: GlassFrame) -> None:
    stream = [noisy(frame, seed) for seed in range(6)]
    fuser.reset()
    steady = [
        fuser.fuse(f.rgb, f.raw, f.disparity, f.aligned(), stamp).depth
        for stamp, f in enumerate(stream)
    ][2:]
    single = [fuse(fuser, f).depth for f in stream][2:]
    known = np.all([np.isfinite(f.raw) for f in stream], axis=0)
    raw = [f.raw for f in stream][2:]
    assert flicker(steady, known & ~frame.glass) <= 1.02 * flicker(raw, known & ~frame.glass)
    holes = frame.glass & ~np.isfinite(frame.raw)
    assert flicker(steady, holes) < 0.4 * flicker(single, holes)


def test_a_moved_glass_leaves_nothing_behind(fuser: Fuser, frame: GlassFrame) -> None:
    fuser.reset()
    for stamp in range(4):
        fuser.fuse(frame.rgb, frame.raw, frame.disparity, frame.aligned(), stamp)
    moved = GlassFrame(*(np.roll(part, 40, axis=1).copy() for part in vars(frame).values()))
    after = fuser.fuse(moved.rgb, moved.raw, moved.disparity, moved.aligned(), 5).depth
    fresh = fuse(fuser, moved).depth
    changed = (frame.glass | moved.glass) & (
        np.abs(moved.rgb.astype(int) - frame.rgb).max(axis=-1) > 20
    )
    assert np.abs(after / fresh - 1)[changed].mean() < 0.01


@pytest.mark.parametrize("step", [2, 6])
def test_a_moving_camera_smears_nothing(fuser: Fuser, frame: GlassFrame, step: int) -> None:
    fuser.reset()
    for index in range(6):
        moved = noisy(frame, index)
        moved = GlassFrame(*(np.roll(p, step * index, axis=1) for p in vars(moved).values()))
        depth = fuser.fuse(
            moved.rgb, moved.raw, moved.disparity, moved.aligned(), stamp_ns=index
        ).depth
    fresh = fuse(fuser, moved).depth
    glass = moved.glass
    assert moved.rel(depth, glass) < 1.03 * moved.rel(fresh, glass)
    assert moved.rel(depth, ~glass) < 1.05 * moved.rel(fresh, ~glass)


def turned_over(part: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(part[::-1, ::-1])


def leaped(part: np.ndarray) -> np.ndarray:
    return np.roll(part, part.shape[1] // 8, axis=1)


def nearer(part: np.ndarray) -> np.ndarray:
    height, width = part.shape[:2]
    middle = part[height // 6 : -height // 6, width // 6 : -width // 6].astype(np.float32)
    near = cv2.resize(middle, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(near, part.dtype)


@pytest.mark.parametrize("change", [turned_over, leaped, nearer])
def test_another_view_shows_nothing_of_the_last_one(
    fuser: Fuser, frame: GlassFrame, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    """A cut in a recording, a camera that leaps or is moved between pictures that are far apart."""
    fuser.reset()
    for stamp in range(6):
        before = noisy(frame, stamp)
        fuser.fuse(before.rgb, before.raw, before.disparity, before.aligned(), stamp)
    now = GlassFrame(*(change(part) for part in vars(noisy(frame, 7)).values()))
    after = fuser.fuse(now.rgb, now.raw, now.disparity, now.aligned(), 7)
    fresh = fuse(fuser, now)
    off = np.abs(after.depth / fresh.depth - 1)
    assert off.mean() < 0.004
    assert off[now.glass].mean() < 0.004
    assert abs(after.shares.sensor - fresh.shares.sensor) < 0.01


def test_without_a_picture_to_tell_by_the_readings_tell_that_all_moved(fuser: Fuser) -> None:
    rows, columns = np.mgrid[:240, :432]
    floor, slope = 1.0 + 0.5 * (1 - rows / 240), 0.8 + 0.6 * columns / 432
    floor[60:140, 200:320] -= 0.15
    slope[80:160, 150:260] -= 0.12
    rng = np.random.default_rng(0)

    def seen(truth: np.ndarray) -> GlassFrame:
        rgb = np.clip(120 + rng.normal(0, 3, (*truth.shape, 3)), 0, 255).astype(np.uint8)
        raw = truth * (1 + rng.normal(0, 0.004, truth.shape))
        raw[(rng.random(truth.shape) < 0.1) | ((columns // 40 == 5) & (rows > 100))] = np.nan
        disparity = 1 / truth * np.exp(0.02 * np.sin(columns / 60))
        maps = [part.astype(np.float32) for part in (raw, truth, disparity)]
        return GlassFrame(rgb, maps[0], maps[1], np.zeros(truth.shape, bool), maps[2])

    fuser.reset()
    for stamp in range(6):
        now = seen(floor)
        fuser.fuse(now.rgb, now.raw, now.disparity, now.aligned(), stamp)
    now = seen(slope)
    after = fuser.fuse(now.rgb, now.raw, now.disparity, now.aligned(), 7).depth
    fresh = fuse(fuser, now).depth
    everywhere = np.ones(now.truth.shape, bool)
    assert now.rel(after, everywhere) < now.rel(fresh, everywhere) + 0.015


def steadied(fuser: Fuser, stream: list[GlassFrame]) -> float:
    """What the past leaves of the flicker in the holes of glass."""
    single = [fuse(fuser, f).depth for f in stream][3:]
    fuser.reset()
    steady = [
        fuser.fuse(f.rgb, f.raw, f.disparity, f.aligned(), stamp).depth
        for stamp, f in enumerate(stream)
    ][3:]
    holes = stream[0].glass & np.all([~np.isfinite(f.raw) for f in stream], axis=0)
    return flicker(steady, holes) / flicker(single, holes)


def test_what_is_black_says_nothing_of_the_light(fuser: Fuser, frame: GlassFrame) -> None:
    """A black table that covers most of the picture: noise makes it twice as bright, or half."""
    stream = []
    for seed in range(8):
        now = noisy(frame, seed)
        dark = now.rgb.copy()
        dark[~frame.glass] = np.random.default_rng(seed).integers(0, 5 + 3 * (seed % 2))
        stream.append(replace(now, rgb=dark))
    assert steadied(fuser, stream) < 0.4


@pytest.mark.parametrize("light", [0.15, 0.4])
def test_flickering_lights_disturb_no_scene_that_stands_still(
    fuser: Fuser, frame: GlassFrame, light: float
) -> None:
    stream = []
    for seed in range(8):
        now = noisy(frame, seed)
        lit = now.rgb * (1 - light * (seed % 2))
        stream.append(replace(now, rgb=lit.astype(np.uint8)))
    assert steadied(fuser, stream) < 0.3


def test_readings_are_the_sensor_s_to_the_last_bit_in_a_stream(
    fuser: Fuser, frame: GlassFrame
) -> None:
    fuser.reset()
    for seed in range(4):
        now = noisy(frame, seed)
        fused = fuser.fuse(now.rgb, now.raw, now.disparity, now.aligned(), seed)
    where = good(frame) & np.isfinite(now.raw)
    assert (fused.depth[where] == now.raw[where]).mean() > 0.85
    assert (fused.source[where] == Source.SENSOR).mean() > 0.95
    # What would be there without them has nothing of the readings before.
    assert fused.residual_m > 0.8 * fuse(fuser, now).residual_m


def test_readings_that_come_and_go_are_not_followed(fuser: Fuser, frame: GlassFrame) -> None:
    place = np.zeros_like(frame.glass)
    rows, columns = np.nonzero(frame.glass)
    place[int(np.median(rows)) :, int(np.median(columns)) :] = True
    place &= frame.glass
    raws = [frame.raw.copy() for _ in range(2)]
    for raw, factor in zip(raws, (np.nan, 1.0), strict=True):
        raw[place] = factor * frame.truth[place]
    fuser.reset()
    depths = [
        fuser.fuse(frame.rgb, raws[k % 2], frame.disparity, frame.aligned(), k).depth
        for k in range(8)
    ]
    single = [fuse(fuser, frame.with_raw(raw)).depth for raw in raws]
    assert flicker(depths[4:], place) < 0.5 * flicker(single, place)


def test_at_rest_the_refiner_is_asked_of_some_frames_alone(
    frame: GlassFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuser, asked = Fuser(), 0
    refined = fuser_module._refined

    def counted(*given: Any) -> Any:
        nonlocal asked
        asked += 1
        return refined(*given)

    monkeypatch.setattr(fuser_module, "_refined", counted)
    stream = [noisy(frame, seed) for seed in range(16)]

    def depths() -> list[np.ndarray]:
        fuser.reset()
        fused = [
            fuser.fuse(f.rgb, f.raw, f.disparity, f.aligned(), stamp)
            for stamp, f in enumerate(stream)
        ]
        for one, f in zip(fused, stream, strict=True):
            where = good(frame) & np.isfinite(f.raw)
            assert (one.depth[where] == f.raw[where]).mean() > 0.85
        return [one.depth for one in fused]

    found = depths()
    assert 5 <= asked <= 8
    monkeypatch.setattr(standing, "_FOR", 0)
    expected = depths()
    for where in (frame.glass, ~frame.glass):
        ours, theirs = (
            float(np.mean([frame.rel(depth, where) for depth in some[4:]]))
            for some in (found, expected)
        )
        assert ours < 1.02 * theirs
        assert flicker(found[4:], where) < 1.02 * flicker(expected[4:], where)


def test_what_is_put_down_before_a_camera_at_rest_is_seen_at_once(
    fuser: Fuser, frame: GlassFrame
) -> None:
    rows, columns = np.s_[20:60], np.s_[20:70]
    rgb, raw, disparity = (m.copy() for m in (frame.rgb, frame.raw, frame.disparity))
    rgb[rows, columns] = (40, 90, 160)
    raw[rows, columns] = 0.7 * np.nanmin(frame.raw[rows, columns])
    scale, shift = frame.aligned().scale, frame.aligned().shift
    disparity[rows, columns] = (1 / raw[rows, columns] - shift) / scale
    fuser.reset()
    for stamp in range(9):
        f = noisy(frame, stamp)
        fuser.fuse(f.rgb, f.raw, f.disparity, f.aligned(), stamp)
        if stamp < 4:  # then the decision is new, or stands for the first frame to the fourth
            continue
        fused = copy.deepcopy(fuser).fuse(rgb, raw, disparity, frame.aligned(), 100)
        inner = np.s_[28:52, 28:62]
        assert np.abs(fused.depth[inner] / raw[inner] - 1).mean() < 0.01


@pytest.mark.parametrize("forget", ["reset", "stamp", "size"])
def test_forgets_the_stream(fuser: Fuser, frame: GlassFrame, forget: str) -> None:
    second = noisy(frame, 7)
    expected = fuse(fuser, second).depth
    fuser.reset()
    fuser.fuse(frame.rgb, frame.raw, frame.disparity, frame.aligned(), 10)
    if forget == "reset":
        fuser.reset()
    if forget == "size":
        small = frame.resized(96, 160)
        fuser.fuse(small.rgb, small.raw, small.disparity, small.aligned(), 11)
    stamp = 10 if forget == "stamp" else 20
    found = fuser.fuse(second.rgb, second.raw, second.disparity, second.aligned(), stamp).depth
    np.testing.assert_array_equal(found, expected)


def test_remembers_the_stream(fuser: Fuser, frame: GlassFrame) -> None:
    second = noisy(frame, 7)
    expected = fuse(fuser, second).depth
    fuser.reset()
    fuser.fuse(frame.rgb, frame.raw, frame.disparity, frame.aligned(), 10)
    found = fuser.fuse(second.rgb, second.raw, second.disparity, second.aligned(), 20).depth
    assert (found != expected).any()


def in_rows_and_columns(function: Callable[..., Any]) -> Callable[..., Any]:
    """OpenCV's function, which refuses an array of one dimension beside others.

    OpenCV 4 takes it for a column, 5 for a row.
    """

    def checked(*values: Any, **others: Any) -> Any:
        arrays = [x for x in (*values, *others.values()) if isinstance(x, np.ndarray)]
        assert len({array.ndim > 1 for array in arrays}) < 2, function.__name__
        return function(*values, **others)

    return checked


def test_numpy_2_and_opencv_5_compute_a_stream_alike(
    fuser: Fuser, frame: GlassFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a scalar of float64 NumPy 2 makes an array of float32 one of float64; OpenCV refuses."""

    def stream() -> Fused:
        fuser.reset()
        turned = replace(frame, rgb=np.ascontiguousarray(frame.rgb[:, ::-1]))  # all of it moves
        frames = [frame, noisy(frame, 7), noisy(frame, 8), turned, noisy(frame, 9)]
        fused = [
            fuser.fuse(one.rgb, one.raw, one.disparity, one.aligned(), 10 * i)
            for i, one in enumerate(frames)
        ]
        return fused[-1]

    expected = stream()
    for name, function in vars(cv2).items():
        if isinstance(function, BuiltinFunctionType):
            monkeypatch.setattr(cv2, name, in_rows_and_columns(function))
    count = np.count_nonzero  # of NumPy 2.5, say, which counts in a type of its own
    monkeypatch.setattr(np, "count_nonzero", lambda *given, **more: np.int64(count(*given, **more)))
    # NumPy 1.24 to 1.26 promote by the rules of 2 where asked; 2 has none of these functions.
    set_state = getattr(np, "_set_promotion_state", lambda state: None)
    before = getattr(np, "_get_promotion_state", lambda: "")()
    set_state("weak")
    try:
        found = stream()
    finally:
        set_state(before)
    for name in ("depth", "confidence"):
        assert getattr(found, name).dtype == np.float32
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4)


def test_confidence_is_a_probability_lower_on_glass(fuser: Fuser, frame: GlassFrame) -> None:
    confidence = fuse(fuser, frame).confidence
    assert confidence.dtype == np.float32
    assert confidence.min() >= 0
    assert confidence.max() <= 1
    assert confidence[frame.glass].mean() < confidence[good(frame)].mean() - 0.2


def test_confidence_grows_with_the_tolerance(frame: GlassFrame) -> None:
    narrow, wide = (fuse(Fuser(FusionConfig(tolerance=t)), frame).confidence for t in (0.01, 0.05))
    assert (narrow < wide).mean() > 0.99


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rgb": np.zeros((4, 6), np.uint8)}, "rgb of"),
        ({"rgb": np.zeros((4, 6, 3), np.float32)}, "rgb of"),
        ({"rgb": np.zeros((0, 6, 3), np.uint8)}, "rgb of"),
        ({"rgb": np.zeros((160, 288, 4), np.uint8)}, "rgb of"),
        ({"raw_depth": np.zeros((4, 6), np.float32)}, "raw depth of"),
        ({"raw_depth": np.zeros((160, 288), np.uint16)}, "raw depth of"),
        ({"disparity": np.zeros((4, 6), np.float32)}, "disparity of"),
        ({"disparity": np.zeros((160, 288), np.uint8)}, "disparity of"),
        ({"rgb": None}, "rgb of None: expected an array"),
        ({"rgb": [[[0, 0, 0]]]}, "rgb of type list"),
        ({"raw_depth": [[1.0]]}, "raw depth of type list"),
        ({"disparity": [[1.0]]}, "disparity of type list"),
        ({"alignment": (1.0, 0.0)}, r"alignment is \(1.0, 0.0\), expected Alignment"),
    ],
)
def test_refuses_what_does_not_fit(
    fuser: Fuser, frame: GlassFrame, values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(DktError, match=expected):
        fuse(fuser, frame, **values)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "magic"},
        {"sensor": "sonar"},
        {"tolerance": 0.0},
        {"tolerance": np.nan},
        {"steadiness": 1.0},
        {"min_agreement": -0.1},
        {"min_confidence": 1.5},
        {"min_raw_depth": 2.0, "max_raw_depth": 1.0},
    ],
)
def test_refuses_a_configuration_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(DktError, match="fusion"):
        FusionConfig(**values)


@pytest.mark.parametrize("on_scale", [False, True])
def test_each_kind_of_sensor_has_its_weights(frame: GlassFrame, on_scale: bool) -> None:
    depths = [
        fuse(Fuser(FusionConfig(**values)), frame, on_scale=on_scale).depth
        for values in (
            {"sensor": "stereo"},
            {"sensor": "structured-light"},
            {"sensor": "tof"},
            {"sensor": "stereo", "weights": default_weights(on_scale, "tof")},
        )
    ]
    assert not np.array_equal(depths[0], depths[2])
    np.testing.assert_array_equal(depths[1], depths[2])
    np.testing.assert_array_equal(depths[3], depths[2])


def test_names_weights_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"refiner\.json cannot be used"):
        Fuser(FusionConfig(weights=tmp_path))
