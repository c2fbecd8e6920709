"""Samples: spread over what is known, faithful to the pixels they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dkt_ros.alignment.pixels import every, sample


def pixels(seed: int, shape: tuple[int, int], missing: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth, and a disparity that names the depth it belongs to: 1/depth - 0.1."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.3, 3, shape).astype(np.float32)
    disparity = 1 / depth - np.float32(0.1)
    depth[rng.random(shape) < missing] = rng.choice([np.nan, 0, np.inf, -1, 50, 0.01])
    return disparity, depth


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    missing=st.floats(0, 1),
    wanted=st.integers(10, 500),
)
def test_known_pixels_alone_and_no_more_than_wanted(
    seed: int, height: int, width: int, missing: float, wanted: int
) -> None:
    disparity, depth = pixels(seed, (height, width), missing)
    samples = sample(disparity, depth, wanted, 0.1, 10)
    known = np.isfinite(depth) & (depth >= 0.1) & (depth <= 10)
    assert len(samples.d) == len(samples.y) == len(samples.blocks) <= wanted
    np.testing.assert_allclose(samples.y - 0.1, samples.d, atol=1e-5)
    assert len(samples.d) >= min(wanted, known.sum()) / 6
    assert ((samples.blocks >= 0) & (samples.blocks < 48)).all()


def test_all_of_a_small_image() -> None:
    disparity, depth = pixels(0, (20, 30), 0.0)
    samples = sample(disparity, depth, 1000, 0.1, 10)
    np.testing.assert_allclose(np.sort(1 / samples.y), np.sort(depth.ravel()), rtol=1e-6)


def test_spread_evenly_over_the_image() -> None:
    disparity, depth = pixels(0, (720, 1280), 0.5)
    samples = sample(disparity, depth, 4000, 0.1, 10)
    assert 3500 < len(samples.d) <= 4000
    counts = np.bincount(samples.blocks, minlength=48)
    assert counts.min() > 0.7 * counts.mean()


@pytest.mark.parametrize("period", [2, 3, 4, 8, 10])
def test_no_pattern_hides_from_it(period: int) -> None:
    """Every so many rows or columns are known: the samples see all kinds alike.

    Also where they are looked for in cells of 8 x 8 pixels, of so many in all.
    """
    for axis in (0, 1):
        index = np.indices((720, 1280))[axis] % period
        samples = sample(index.astype(np.float32), np.ones((720, 1280), np.float32), 7200, 0.1, 10)
        share = np.bincount(samples.d.astype(int), minlength=period) / len(samples.d)
        np.testing.assert_allclose(share, 1 / period, rtol=0.25)


def test_a_few_known_pixels_are_found() -> None:
    depth = np.zeros((720, 1280), np.float32)
    depth[100:110, 200:220] = 1.0
    samples = sample(np.full(depth.shape, 0.5, np.float32), depth, 4000, 0.1, 10)
    assert len(samples.d) == 200
    assert (samples.blocks == 0 * 8 + 1).all()


def test_disparity_that_is_not_finite_is_left_out() -> None:
    disparity, depth = pixels(0, (40, 50), 0.0)
    disparity[:10] = np.nan
    disparity[10:20] = np.inf
    samples = sample(disparity, depth, 5000, 0.1, 10)
    assert len(samples.d) == 20 * 50
    assert np.isfinite(samples.ends).all()


def test_ends() -> None:
    disparity = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    none = sample(disparity, None, 20_000, 0.1, 10)
    np.testing.assert_allclose(none.ends, [0.02, 0.98], atol=1e-3)
    assert len(none.d) == 0
    step = (disparity > 0.999).astype(np.float32)
    np.testing.assert_array_equal(sample(step, None, 20_000, 0.1, 10).ends, [0, 1])
    assert np.isnan(sample(np.full((4, 4), np.nan), None, 100, 0.1, 10).ends).all()


@given(count=st.integers(0, 300), wanted=st.integers(1, 100))
def test_every(count: int, wanted: int) -> None:
    chosen = every(count, wanted)
    assert len(chosen) == min(count, wanted)
    assert (np.diff(chosen) >= 1).all()
    if count > 1 and wanted > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
