"""The past of a stream at working size, on scenes whose noise and motion are known."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import pytest

from dkt_ros.fusion.features import make_scene
from dkt_ros.fusion.history import History

SIZE = 96, 144
BLOCK = np.s_[32:64, 48:96]
WITHIN = np.s_[38:58, 54:90]


def picture(seed: int = 0, light: float = 1.0, sigma: float = 1.5) -> np.ndarray:
    """Patches of grey, and a camera's noise."""
    rng = np.random.default_rng(1)
    grey = np.kron(rng.uniform(60, 220, (12, 18)), np.ones((8, 8)))
    noise = np.random.default_rng(seed).normal(0, sigma, (*SIZE, 3))
    return np.clip(grey[..., None] * light + noise, 0, 255).astype(np.uint8)


def flat(value: float, sigma: float = 0.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, SIZE) if sigma else np.zeros(SIZE)
    return (value * (1 + noise)).astype(np.float32)


def steadied(
    frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    steadiness: float = 0.8,
    trusts: tuple[float, float] = (0.9, 0.9),
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Disparity and trust of frames: colour, readings and what was decided without them.

    trusts: of even and of odd frames.
    """
    history = History(steadiness)
    found = []
    for stamp, (rgb, readings, disparity) in enumerate(frames):
        scene = make_scene(rgb, readings, None, on_scale=True)
        assert scene is not None
        trust = np.full(SIZE, trusts[stamp % 2], np.float32)
        history.look(rgb, readings, stamp)
        found.append(history.steady(disparity, trust, scene.nearest, 0.5))
    return found


def without_block(readings: np.ndarray) -> np.ndarray:
    readings = readings.copy()
    readings[BLOCK] = 0.0
    return readings


def test_a_trusted_reading_that_drops_out_leaves_its_own_mean_behind() -> None:
    frames = [(picture(n), flat(1.05), flat(1.0)) for n in range(6)]
    frames.append((picture(6), without_block(flat(1.05)), flat(1.0)))
    disparity, _ = steadied(frames)[-1]
    assert 1.035 < disparity[WITHIN].mean() < 1.045
    # One that is not trusted is no part of it.
    disparity, _ = steadied(frames, trusts=(0.4, 0.4))[-1]
    np.testing.assert_allclose(disparity, 1.0, atol=1e-6)


def test_a_scene_in_a_third_of_the_light_is_the_same_scene() -> None:
    noise = 0.01
    frames = [
        (
            picture(n, 1.0 if n % 2 else 0.35),
            without_block(flat(1.0, 0.001, n)),
            flat(1.0, noise, 100 + n),
        )
        for n in range(8)
    ]
    disparity, _ = steadied(frames)[-1]
    assert disparity[WITHIN].std() < 0.6 * noise


def test_readings_that_come_late_are_no_motion() -> None:
    noise = 0.01
    readings = [flat(1.0, 0.001, n) for n in range(10)]
    frames = [
        (picture(n), without_block(now) if n < 5 else now, flat(1.0, noise, 100 + n))
        for n, now in enumerate(readings)
    ]
    disparity, _ = steadied(frames, trusts=(0.4, 0.4))[-1]
    assert disparity[WITHIN].std() < 0.6 * noise


def test_readings_of_which_no_pixel_had_one_before_are_no_motion() -> None:
    noise, odd = 0.01, np.indices(SIZE)[1] % 2
    frames = [
        (picture(n), flat(1.0, 0.001, n) * (odd == n % 2), flat(1.0, noise, 100 + n))
        for n in range(8)
    ]
    disparity, _ = steadied(frames, trusts=(0.4, 0.4))[-1]
    assert disparity[WITHIN].std() < 0.6 * noise


def test_a_camera_s_noise_is_no_motion() -> None:
    noise = 0.01
    readings = without_block(flat(1.0))
    frames = [(picture(n, sigma=12.0), readings, flat(1.0, noise, 100 + n)) for n in range(8)]
    disparity, _ = steadied(frames)[-1]
    assert disparity[WITHIN].std() < 0.6 * noise


def test_a_reading_that_comes_and_goes_has_to_prove_itself() -> None:
    frames = [
        (picture(n), flat(1.0) if n % 2 else without_block(flat(1.0)), flat(1.0)) for n in range(12)
    ]
    _, trust = steadied(frames)[-1]
    assert 0.0 < trust[WITHIN].max() < 0.5
    np.testing.assert_allclose(trust[:24], 0.9, atol=0.01)


def test_readings_that_all_come_and_go_need_not_prove_themselves() -> None:
    """As of a laser whose lines wander from frame to frame."""
    rng = np.random.default_rng(0)
    shown = [rng.random(SIZE) < 0.05 for _ in range(12)]
    frames = [
        (picture(n), np.where(there, flat(1.05), 0).astype(np.float32), flat(1.0))
        for n, there in enumerate(shown)
    ]
    trust = steadied(frames)[-1][1][shown[-1]]
    assert (trust > 0.8).mean() > 0.7


def test_trust_is_steadied_too() -> None:
    frames = [(picture(n), flat(1.0), flat(1.0)) for n in range(12)]
    _, trust = steadied(frames, trusts=(0.2, 0.8))[-1]
    assert 0.4 < trust.min() <= trust.max() < 0.6


def test_where_there_is_no_reading_trust_is_the_nearest_one_s() -> None:
    frames = [(picture(n), without_block(flat(1.0)), flat(1.0)) for n in range(6)]
    _, trust = steadied(frames)[-1]
    np.testing.assert_allclose(trust, 0.9, atol=0.01)


def soft(move: np.ndarray) -> np.ndarray:
    """A picture without edges, moved by an affine map (2, 3)."""
    rng = np.random.default_rng(3)
    grey = cv2.resize(rng.uniform(90, 160, (9, 13)), (288, 192), interpolation=cv2.INTER_CUBIC)
    moved = cv2.warpAffine(grey, move, (288, 192), borderMode=cv2.BORDER_REFLECT)[48:144, 72:216]
    return np.repeat(moved[..., None], 3, axis=2).astype(np.uint8)


def shifted(columns: float) -> np.ndarray:
    return np.array([[1.0, 0.0, columns], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize("motion", ["none", "turn", "zoom", "drift"])
def test_a_camera_that_moves_as_a_whole_shows_each_frame_by_itself(motion: str) -> None:
    """However little each pixel's colour changes, and however slowly it drifts."""
    noise, middle = 0.01, (143.5, 95.5)
    frames = []
    for n in range(10):
        move = {
            "none": shifted(0.0),
            "turn": np.asarray(cv2.getRotationMatrix2D(middle, 4.0 * n, 1.0)),
            "zoom": np.asarray(cv2.getRotationMatrix2D(middle, 0.0, 1.07**n)),
            "drift": shifted(0.8 * n),
        }[motion]
        readings = without_block(flat(1.0, 0.001, n))
        frames.append((soft(move), readings, flat(1.0, noise, 100 + n)))
    disparity, _ = steadied(frames)[-1]
    left = disparity[WITHIN].std() / noise
    least, most = {"none": (0.0, 0.45), "drift": (0.55, 0.75)}.get(motion, (0.9, 1.1))
    assert least < left < most


@pytest.mark.parametrize(("columns", "at_rest"), [(0.0, True), (0.4, False)])
def test_a_camera_that_drifts_is_not_at_rest(columns: float, at_rest: bool) -> None:
    """However little each pixel's colour changes."""
    history, map_ = History(0.8), flat(1.0)
    nearest = np.arange(map_.size, dtype=np.int32).reshape(SIZE)
    found = []
    for n in range(6):
        found.append(history.look(soft(shifted(columns * n)), map_, n))
        history.steady(map_, map_, nearest, 0.5)
    assert found == [False, *[at_rest] * 5]


def test_without_steadiness_each_frame_is_by_itself() -> None:
    frames = [(picture(n), flat(1.0, 0.01, n), flat(1.1, 0.01, 50 + n)) for n in range(4)]
    for (_, _, given), (disparity, trust) in zip(frames, steadied(frames, 0.0), strict=True):
        np.testing.assert_array_equal(disparity, given)
        np.testing.assert_array_equal(trust, np.float32(0.9))
