"""ToF and structured light on walls whose optics are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy", reason="trace needs Blender as a module (pip install bpy)")

from dkt_ros.synth.active import StructuredLight, TimeOfFlight
from dkt_ros.synth.camera import camera_matrix
from dkt_ros.synth.trace import Paths

_SHAPE = (60, 96)
_MATRIX = camera_matrix(np.radians(60), _SHAPE[1], _SHAPE[0]) * [[1.0], [1.1], [1.0]]
"""Whose pixels are no squares."""
_LAMP = StructuredLight().baseline


def rays() -> np.ndarray:
    v, u = np.mgrid[: _SHAPE[0], : _SHAPE[1]]
    x, y = (u - _MATRIX[0, 2]) / _MATRIX[0, 0], (v - _MATRIX[1, 2]) / _MATRIX[1, 1]
    return np.stack([x, y, np.ones(_SHAPE)], axis=-1)


def wall(depth: float | np.ndarray, **changes: Any) -> Paths:
    """A dull wall across the view."""
    point = rays() * np.broadcast_to(depth, _SHAPE)[..., None]
    ones, zeros = np.ones(_SHAPE), np.zeros(_SHAPE)
    first = np.linalg.norm(point, axis=-1)
    values = {"first": first, "facing": ones, "scatter": 0.6 * ones, "mirror": zeros}
    values |= {"rough": ones, "beyond": zeros, "passed": ones, "gain": 0.6 * ones}
    values |= {"point": point, "lit": ones > 0}
    return Paths(**(values | changes))


def pane(depth: float, behind: float, bend: np.ndarray | float = 0.0) -> Paths:
    """The left half of the view through clear glass at `depth` onto a wall at `behind`."""
    glass = np.broadcast_to(np.arange(_SHAPE[1]) < _SHAPE[1] // 2, _SHAPE)
    back = wall(behind)
    front = np.linalg.norm(rays() * depth, axis=-1)
    point = back.point.copy()
    point[..., 0] += np.where(glass, bend, 0.0)
    return wall(
        behind,
        first=np.where(glass, front, back.first),
        scatter=np.where(glass, 0.01, back.scatter),
        mirror=np.where(glass, 0.04, 0.0),
        facing=np.where(glass, 0.8, 1.0),
        rough=np.where(glass, 0.0, 1.0),
        beyond=np.where(glass, back.first + 0.004, 0.0),
        passed=np.where(glass, 0.85, 1.0),
        gain=np.where(glass, 0.5, 0.6),
        point=point,
    )


def tof(paths: Paths, **changes: Any) -> np.ndarray:
    return TimeOfFlight(**changes).measure(paths, _MATRIX, np.random.default_rng(0))


def structured(paths: Paths) -> np.ndarray:
    return StructuredLight().measure(paths, _MATRIX, np.random.default_rng(0))


@pytest.mark.parametrize("depth", [0.5, 1.0, 2.5])
def test_both_measure_a_dull_wall_in_whole_millimetres(depth: float) -> None:
    for raw, allowed in ((tof(wall(depth)), 0.02), (structured(wall(depth)), 0.012 * depth**2)):
        inner = raw[8:-8, 8:-8]
        assert raw.dtype == np.float32
        assert np.isfinite(inner).mean() > 0.95
        assert abs(np.nanmedian(inner) - depth) < allowed
        np.testing.assert_allclose(inner * 1000, np.rint(inner * 1000), atol=2e-3)


def test_tof_sees_through_clear_glass_and_somewhat_too_far() -> None:
    raw = tof(pane(0.6, 0.9), noise=0.0)
    glass, beside = raw[10:-10, 10:38], raw[10:-10, 58:-10]
    assert np.isfinite(glass).mean() > 0.9
    assert np.nanmedian(glass) > 0.85
    # The glass slows the light: what lies behind seems farther than beside it.
    assert abs(np.nanmedian(glass) - np.nanmedian(beside)) < 0.03
    half = pane(0.6, 0.9)
    clean = replace(half, scatter=np.where(half.beyond > 0, 0.0, 0.6), mirror=half.mirror * 0)
    slow = tof(clean, noise=0.0, stray=0.0, bounced=0.0)
    assert np.nanmedian(slow[10:-10, 10:38]) > np.nanmedian(slow[10:-10, 58:-10]) + 0.001


def test_tof_mixes_a_frosted_pane_with_what_lies_behind() -> None:
    half = pane(0.8, 1.0)
    frosted = replace(half, scatter=np.where(half.beyond > 0, 0.25, 0.6))
    glass = tof(frosted)[10:-10, 10:38]
    assert 0.82 < np.nanmedian(glass) < 0.98


def test_light_goes_through_tinted_glass_twice() -> None:
    half = pane(0.6, 1.0)
    glass = half.beyond > 0
    for passed, seen in ((0.1, False), (0.4, True)):
        tinted = replace(
            half,
            scatter=np.where(glass, 0.0, half.scatter),
            mirror=half.mirror * 0,
            passed=np.where(glass, passed, 1.0),
            gain=np.where(glass, 0.6 * passed, 0.6),
        )
        for raw in (tof(tinted, stray=0.0, bounced=0.0), structured(tinted)):
            assert (np.isfinite(raw[10:-10, 10:36]).mean() > 0.9) == seen


def test_tof_noise_grows_as_light_fades_until_nothing_is_left() -> None:
    spread = [np.nanstd(tof(wall(1.0, scatter=np.full(_SHAPE, s)))) for s in (0.8, 0.2, 0.05)]
    assert spread[0] < 0.5 * spread[1] < 0.4 * spread[2]
    assert np.isnan(tof(wall(1.0, scatter=np.full(_SHAPE, 0.002)))).mean() > 0.9


def test_tof_has_flying_pixels_at_an_edge() -> None:
    depth = np.where(np.arange(_SHAPE[1]) < 48, 0.6, 0.9)
    raw = tof(wall(depth), stray=0.0, bounced=0.0)
    between = (raw > 0.65) & (raw < 0.85)
    assert between[10:-10, 46:50].mean() > 0.1
    assert between[10:-10, :44].mean() == between[10:-10, 52:].mean() == 0


def test_tof_measures_within_its_ranges_of_depth_and_light() -> None:
    dim, bright = np.full(_SHAPE, 0.02), np.full(_SHAPE, 20.0)
    for nothing in (wall(0.2, scatter=dim), wall(5.6, scatter=bright), wall(1.0, scatter=bright)):
        assert np.isnan(tof(nothing)).all()
    for some in (wall(0.3, scatter=dim), wall(5.2, scatter=bright)):
        assert np.isfinite(tof(some)[8:-8, 8:-8]).mean() > 0.95


def test_tof_sees_a_dark_mirror_that_faces_it() -> None:
    black, smooth = np.full(_SHAPE, 0.001), np.zeros(_SHAPE)
    shiny = wall(1.0, scatter=black, mirror=np.full(_SHAPE, 0.5), rough=smooth)
    assert np.nanmedian(tof(shiny)[8:-8, 8:-8]) == pytest.approx(1.0, abs=0.04)
    assert np.isnan(tof(wall(1.0, scatter=black, rough=smooth))).mean() > 0.95
    aside = replace(shiny, facing=np.full(_SHAPE, 0.95))
    assert np.isnan(tof(aside)).mean() > 0.95
    brushed = tof(replace(aside, rough=np.full(_SHAPE, 0.5)))
    assert np.nanmedian(brushed[8:-8, 8:-8]) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("other", [1.9, 4.0])
def test_tof_drops_what_mixes_ranges_that_cancel(other: float) -> None:
    """At either frequency: 4 m and 1 m are in phase at the second one."""
    stripes = np.broadcast_to(np.where(np.arange(_SHAPE[1]) % 2, 1.0, other), _SHAPE)
    mixed, clean = wall(stripes, scatter=0.6 * stripes**2), {"stray": 0.0, "bounced": 0.0}
    assert np.isnan(tof(mixed, **clean)[:, 20:-20]).mean() > 0.9
    assert np.isfinite(tof(mixed, coherence=0.0, **clean)[:, 20:-20]).mean() > 0.9


def test_tof_is_led_astray_by_light_that_comes_another_way() -> None:
    """Farther by what comes by way of neighbours; a dark thing towards the bright wall behind."""
    clean = {"noise": 0.0, "stray": 0.0, "bounced": 0.0}
    assert np.nanmedian(tof(wall(1.0), **{**clean, "bounced": 0.1})) > 1.002
    dark = np.arange(_SHAPE[1]) < 40
    scene = wall(np.where(dark, 0.8, 1.6), scatter=np.where(dark, 0.03, 2.0) * np.ones(_SHAPE))
    astray, right = (np.nanmedian(tof(scene, **{**clean, "stray": s})[:, 8:32]) for s in (0.1, 0))
    assert right == pytest.approx(0.8, abs=0.002)
    assert astray > right + 0.002


def test_tof_unwraps_whichever_frequency_comes_first() -> None:
    swapped = tof(wall(2.5), frequencies=(100e6, 80e6))[8:-8, 8:-8]
    assert np.nanmedian(swapped) == pytest.approx(2.5, abs=0.04)


def test_tof_wraps_beyond_its_range() -> None:
    far = wall(9.0, scatter=np.full(_SHAPE, 200.0))
    middle = tof(far)[25:35, 40:56]
    assert np.nanmedian(middle) == pytest.approx(9.0 - 7.495, abs=0.1)


def test_structured_light_steps_and_has_no_depth_in_the_projectors_shadow() -> None:
    lit = np.ones(_SHAPE, bool)
    lit[:, 30:60] = False
    raw = structured(wall(1.5, lit=lit))
    assert np.isnan(raw[:, 32:58]).all()
    assert np.isfinite(raw[10:-10, 66:-8]).mean() > 0.95
    disparity = 580 * _LAMP / raw[np.isfinite(raw)] / 0.125
    # Millimetres blur the steps by a little.
    assert np.abs(disparity - np.rint(disparity)).max() < 0.2
    assert 2 <= len(np.unique(raw[np.isfinite(raw)])) < 12
    lit[:] = np.arange(_SHAPE[1]) % 4 == 0
    assert np.isnan(structured(wall(1.5, lit=lit))).all(), "too little of its window is lit"


def test_structured_light_measures_within_its_range_and_not_along_a_surface() -> None:
    grazing, steep = np.full(_SHAPE, 0.1), np.full(_SHAPE, 0.2)
    for nothing in (wall(0.3), wall(3.2), wall(0.8, facing=grazing)):
        assert np.isnan(structured(nothing)).all()
    for some in (wall(0.4), wall(2.8), wall(0.8, facing=steep)):
        assert np.isfinite(structured(some)[10:-10, 8:-8]).mean() > 0.95


def test_structured_light_sees_a_frosted_pane_before_what_is_in_shadow() -> None:
    half = pane(0.6, 0.9)
    frosted = replace(half, scatter=np.full(_SHAPE, 0.6), lit=half.beyond == 0)
    assert np.nanmedian(structured(frosted)[10:-10, 8:36]) == pytest.approx(0.6, abs=0.02)


def test_structured_light_reads_a_wrong_depth_through_a_pane_that_bends() -> None:
    straight = structured(pane(0.6, 0.9))
    assert np.nanmedian(straight[10:-10, 8:36]) == pytest.approx(0.9, abs=0.02)
    bent = structured(pane(0.6, 0.9, bend=0.01))
    # z = b / (b / Z - dx / Z) with the point dx aside.
    expected = _LAMP / ((_LAMP - 0.01) / 0.9)
    assert np.nanmedian(bent[10:-10, 8:36]) == pytest.approx(expected, abs=0.03)


def test_structured_light_fails_where_the_pattern_is_torn() -> None:
    torn = np.random.default_rng(1).normal(0, 0.02, _SHAPE)
    raw = structured(pane(0.6, 0.9, bend=torn))
    assert np.isnan(raw[10:-10, 8:36]).mean() > 0.8
    mixed = pane(0.6, 0.9)
    mixed = replace(mixed, scatter=np.where(mixed.beyond > 0, 0.2, 0.6))
    assert np.isnan(structured(mixed)[10:-10, 8:36]).mean() > 0.95, "two answers of like strength"
    mirror = wall(0.8, mirror=np.full(_SHAPE, 0.85), rough=np.full(_SHAPE, 0.02))
    assert np.isnan(structured(mirror)).all(), "a mirror that faces the projector dazzles"
