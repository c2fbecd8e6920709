"""How depth cameras are made to err: by so much, and in all the ways that are meant."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.train.sensor import behind, failing, failing_clip, smooth_noise, unfamiliar

ROWS, COLUMNS = np.indices((48, 64)).astype(np.float32)
TABLE = (1.0 + ROWS / 96).astype(np.float32)
CLASSES = ((abs(ROWS - 24) < 8) & (abs(COLUMNS - 30) < 10)).astype(np.uint8)
TRUTH = np.where(CLASSES > 0, TABLE + 0.6, TABLE).astype(np.float32)
READ = np.where(CLASSES > 0, 0.0, TRUTH * 1.002).astype(np.float32)
SEEDS = range(120)


def drawn(function: object, *arrays: np.ndarray) -> list[np.ndarray]:
    """What it makes of the arrays by each seed; it leaves them as they are."""
    before = [array.copy() for array in arrays]
    found = [function(*arrays, np.random.default_rng(seed)) for seed in SEEDS]  # type: ignore[operator]
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)
    again = function(*arrays, np.random.default_rng(SEEDS[-1]))  # type: ignore[operator]
    np.testing.assert_array_equal(found[-1], again)
    assert all(one.dtype == np.float32 and np.isfinite(one).all() for one in found)
    return found


def test_behind_an_object_is_what_is_around_it() -> None:
    np.testing.assert_allclose(behind(TRUTH, CLASSES), TABLE, atol=0.12)
    unknown = TRUTH.copy()
    unknown[:, 50:] = 0.0
    assert behind(unknown, CLASSES).min() > 0.9
    np.testing.assert_array_equal(behind(TRUTH, np.ones_like(CLASSES)), TRUTH)


def test_a_sensor_fails_in_every_way() -> None:
    found = drawn(failing, READ, TRUTH, CLASSES)
    glass = CLASSES > 0
    assert min(one.min() for one in found) == 0.0, "never below none"
    through = [np.mean(np.abs(one - TABLE)[glass] < 0.1) for one in found]
    surface = [np.mean(np.abs(one - TRUTH)[glass] < 0.05) for one in found]
    assert sum(share > 0.3 for share in through) > 5
    assert sum(share > 0.05 for share in surface) > 3
    assert sum(not one[glass].any() for one in found) > 5
    # A side that the other eye does not see; most readings are as good as ever.
    assert sum(not one[:, :2].any() for one in found) > 5
    beside = [np.abs(one / TRUTH - 1)[~glass & (one > 0)] for one in found]
    assert max(float(np.median(off)) for off in beside) < 0.05


def test_sensors_of_other_makes_are_off_by_little_stepped_or_sparse() -> None:
    found = drawn(unfamiliar, TABLE)
    assert all(np.abs(one / TABLE - 1)[one > 0].max() < 0.15 for one in found)
    shares = [np.mean(one > 0) for one in found]
    sparse = [one for one in found if 0 < np.mean(one > 0) <= 0.25]
    grids = [len(set(np.diff(np.flatnonzero(one.any(axis=1))))) == 1 for one in sparse]
    assert sum(grids) > 5
    assert sum(0.25 < share < 0.95 for share in shares) > 5
    assert sum(share == 1.0 for share in shares) > 60
    stepped = [len(np.unique(one)) < len(np.unique(TABLE)) for one in found if one.all()]
    assert 10 < sum(stepped) < len(stepped)


def test_a_clip_fails_alike_in_all_frames_or_in_each_differently() -> None:
    frames = [np.stack([array] * 3) for array in (READ, TRUTH, CLASSES)]
    alike = [bool((one == one[0]).all()) for one in drawn(failing_clip, *frames)]
    assert 0.3 < np.mean(alike) < 0.75


@pytest.mark.parametrize("cells", [5, 20])
def test_smooth_noise_is_smooth(cells: int) -> None:
    noise = smooth_noise((96, 128), np.random.default_rng(0), cells)
    assert noise.shape == (96, 128)
    assert (abs(noise.mean()), noise.std()) == pytest.approx((0, 1), abs=1e-3)
    assert np.abs(np.diff(noise, axis=0)).mean() < 0.02 * cells
