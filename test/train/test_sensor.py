"""How depth cameras are made to err: by so much, and in all the ways that are meant."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dkt_ros.train.sensor import (
    behind,
    failing,
    failing_clip,
    smooth_noise,
    unfamiliar,
    without_behind,
)

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
    alone = np.where(CLASSES > 0, TRUTH, 0)
    np.testing.assert_array_equal(behind(alone, CLASSES), alone)


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


class Chances(np.random.Generator):
    """Its random() gives these numbers in turn, all else is drawn as ever."""

    def __init__(self, *chances: float) -> None:
        super().__init__(np.random.PCG64(3))
        self._chances = list(chances)

    def random(self, *shape: object) -> object:  # type: ignore[override]
        return super().random(*shape) if shape else self._chances.pop(0)


NO, YES = 0.999, 0.0
GLASS, HOLE, KNOWN = CLASSES > 0, ROWS >= 28, COLUMNS < 60
EDGE = cv2.dilate(CLASSES, np.ones((5, 5))) != cv2.erode(CLASSES, np.ones((5, 5)))
TOLD = np.where(KNOWN, TRUTH, 0).astype(np.float32)
GIVEN = np.where(HOLE, 0, TRUTH * 1.02).astype(np.float32)


def near(one: np.ndarray, other: np.ndarray, share: float = 0.015) -> np.ndarray:
    return np.abs(one - other) <= share * other


def is_better(one: np.ndarray) -> bool:
    told = near(one, TRUTH) & KNOWN & ~GLASS
    some = 0.1 < np.mean(told[HOLE & KNOWN & ~GLASS]) < 0.9
    return some and bool(told[~HOLE & KNOWN & ~GLASS].all()) and bool((told | (one == GIVEN)).all())


def sees_through(one: np.ndarray) -> bool:
    through = GLASS & near(one, behind(TOLD, CLASSES), 0.04)
    return 0.1 < np.mean(through[GLASS]) < 0.95 and bool((through | (one == GIVEN)).all())


def sees_patches(one: np.ndarray) -> bool:
    right, gone = GLASS & near(one, TRUTH), GLASS & (one == 0)
    some = [0 < np.mean(part[GLASS & ~HOLE]) < 0.95 for part in (right, gone)]
    return all(some) and bool((right | gone | (one == GIVEN)).all())


def has_holes(one: np.ndarray) -> bool:
    return bool(((one == 0) | (one == GIVEN)).all()) and 0.02 < np.mean(one[~HOLE] == 0) < 0.4


def is_moved(one: np.ndarray) -> bool:
    shifts = [(y, x) for y in (-1, 0, 1) for x in range(-2, 3) if y or x]
    moved = (np.roll(GIVEN, by, (0, 1)) for by in shifts)
    return any(np.array_equal(one[2:-2, 2:-2], other[2:-2, 2:-2]) for other in moved)


def has_flying_edges(one: np.ndarray) -> bool:
    changed = one != GIVEN
    between = (one > TABLE) & (one < 1.02 * TRUTH.max())
    return changed.sum() > 10 and not changed[~EDGE | HOLE].any() and bool(between[changed].all())


def is_noisy(one: np.ndarray) -> bool:
    off = (one / np.where(HOLE, 1, GIVEN) - 1)[~HOLE]
    return 0.001 < off.std() < 0.02 and not one[HOLE].any()


@pytest.mark.parametrize(
    ("chances", "fault"),
    [
        ((YES, YES, NO, NO, NO, NO, NO, NO), is_better),
        ((NO, 0.1, NO, NO, NO, NO, NO), sees_through),
        ((NO, 0.3, YES, NO, NO, NO, NO, NO), sees_patches),
        ((NO, 0.55, NO, NO, NO, NO, NO), lambda one: np.array_equal(one, GIVEN * ~GLASS)),
        ((NO, NO, YES, NO, NO, NO, NO), has_holes),
        ((NO, NO, NO, NO, YES, NO, NO), is_moved),
        ((NO, NO, NO, NO, NO, YES, NO), has_flying_edges),
        ((NO, NO, NO, NO, NO, NO, YES, YES), is_noisy),
        ((NO, NO, NO, NO, NO, NO, YES, NO), is_noisy),
    ],
)
def test_each_way_of_failing_by_itself(
    chances: tuple[float, ...], fault: Callable[[np.ndarray], bool]
) -> None:
    """Where truth is unknown, and in what it does not concern, readings stay as they are."""
    assert fault(failing(GIVEN, TOLD, CLASSES, Chances(*chances)))
    untouched = failing(GIVEN, TOLD, CLASSES, Chances(*[NO] * 7))
    np.testing.assert_array_equal(untouched, GIVEN)


def test_so_often_a_sensor_is_better_than_the_simulated_one() -> None:
    read = np.where(CLASSES > 0, 0.0, TRUTH * 1.05).astype(np.float32)
    rest = CLASSES == 0
    shares = []
    for better in (0.0, 0.75, 1.0):
        found = [failing(read, TRUTH, CLASSES, np.random.default_rng(s), better) for s in SEEDS]
        errors = [np.median(np.abs(one / TRUTH - 1)[rest & (one > 0)]) for one in found]
        shares.append(np.mean([error < 0.025 for error in errors]))
    assert shares[0] < 0.05
    assert 0.6 < shares[1] < 0.9
    assert shares[2] > 0.95


def test_the_farthest_readings_stay_readings() -> None:
    far = np.full_like(TABLE, 0.002)
    assert failing(far, TRUTH, CLASSES, Chances(*[NO] * 6, YES, NO)).min() > 0
    assert unfamiliar(far / 10, Chances(NO, NO, YES, NO, NO)).min() > 0
    assert np.isfinite(unfamiliar(far * 1e6, Chances(NO, YES, NO, NO))).all()


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
    ratio = unfamiliar(TABLE, Chances(YES, NO, NO, NO, NO)) / TABLE
    assert ratio.std() < 1e-6 < abs(ratio.mean() - 1) < 0.05
    assert 0.1 < np.mean(unfamiliar(TABLE, Chances(NO, NO, NO, NO, YES)) == 0) < 0.9


def test_a_clip_fails_alike_in_all_frames_or_in_each_differently() -> None:
    frames = [np.stack([array] * 3) for array in (READ, TRUTH, CLASSES)]
    alike = [bool((one == one[0]).all()) for one in drawn(failing_clip, *frames)]
    assert 0.3 < np.mean(alike) < 0.75
    frames[1][1] = 0  # of one frame the truth is unknown: its readings are as another make's
    odd = [not np.array_equal(one[1], READ) for one in drawn(failing_clip, *frames)]
    assert 0.3 < np.mean(odd) < 0.9


@pytest.mark.parametrize("cells", [5, 20])
def test_smooth_noise_is_smooth(cells: int) -> None:
    noise = smooth_noise((96, 128), np.random.default_rng(0), cells)
    assert noise.shape == (96, 128)
    assert (abs(noise.mean()), noise.std()) == pytest.approx((0, 1), abs=1e-3)
    assert np.abs(np.diff(noise, axis=0)).mean() < 0.02 * cells


def test_what_lies_behind_is_left_out_patch_by_patch() -> None:
    truth = np.ones((40, 60), np.float32)
    readings = truth * np.float32(0.98)  # nearly right: stays
    patches = [(slice(y, y + 4), slice(x, x + 4)) for y in (5, 20, 32) for x in range(5, 55, 10)]
    for patch in patches:
        readings[patch] = 0.9
    some = without_behind(readings, truth, np.random.default_rng(0), share=0.5)
    gone = [bool((some[patch] == 0).all()) for patch in patches]
    assert 3 <= sum(gone) <= len(patches) - 3
    for (rows, columns), out in zip(patches, gone, strict=True):
        assert (some[rows, columns] == (0 if out else np.float32(0.9))).all()
        rim = some[rows.start - 1, columns]
        assert (rim == 0).all() == out, "what lies beside it may be mixed with it"
    assert (some[15, :] == readings[15, :]).all()
    np.testing.assert_array_equal(without_behind(truth, truth, np.random.default_rng(0)), truth)
    everything = without_behind(readings, truth, np.random.default_rng(0), share=1.0)
    assert not (everything == np.float32(0.9)).any()
