"""Depth that was mixed with its holes loses what is mixed; what sensors see is left as it is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fixtures.fused_scenes import rendered_frame
from numpy.typing import NDArray

from dkt_ros.fusion.ramps import without_ramps

RAW = np.nan_to_num(rendered_frame().raw).astype(np.float32)
HEIGHT, WIDTH = RAW.shape
RNG = np.random.default_rng(0)
HOLES = RAW == 0.0


def larger(factor: int, how: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    """The same, from an image so many times as small."""
    small = RAW[factor // 2 :: factor, factor // 2 :: factor]
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=how), np.float32)


def shifted() -> NDArray[np.float32]:
    """As rectifying does, by parts of a pixel."""
    way = np.array([[1.0, 0.0, 0.4], [0.0, 1.0, 0.3]])
    return np.asarray(cv2.warpAffine(RAW, way, (WIDTH, HEIGHT)), np.float32)


@pytest.mark.parametrize(
    ("mixed", "widths"),
    [
        (larger(2), (1, 3)),
        (larger(4), (3, 5)),
        (larger(2, cv2.INTER_CUBIC), (1, 4)),
        (shifted(), (1, 2)),
        (np.asarray(cv2.blur(RAW, (3, 3)), np.float32), (2, 3)),
    ],
)
@pytest.mark.parametrize("unit_m", [0.0, 0.001])
def test_what_was_mixed_with_holes_is_unknown(
    mixed: NDArray[np.float32], widths: tuple[int, int], unit_m: float
) -> None:
    given = np.round(mixed / 0.001).astype(np.float32) * np.float32(0.001) if unit_m else mixed
    mended, width = without_ramps(given)
    assert widths[0] <= width <= widths[1]
    nearest = RAW[~HOLES].min()
    before, after = (np.mean((d > 0) & (d < 0.9 * nearest)) for d in (given, mended))
    assert before > 0.005
    assert after < 0.02 * before
    kept = np.isfinite(mended) & (mended > 0)
    assert kept.mean() > 0.75 * (given > 0).mean()
    np.testing.assert_array_equal(mended[kept], given[kept])


def test_a_sensors_own_depth_is_left_alone() -> None:
    near_post = RAW.copy()
    near_post[:, 100:120], near_post[:, 120:132] = 0.2, 0.0  # its shadow in a stereo camera
    noise = RNG.uniform(0.1, 5.0, RAW.shape)
    thin = np.where(RNG.random(RAW.shape) < 0.1, RAW, 0)
    for raw in (
        *(RAW, near_post, thin, larger(2, cv2.INTER_NEAREST)),
        *(RAW * (1 + 0.05 * RNG.standard_normal(RAW.shape)), np.where(HOLES, 0, noise)),
        *(np.where(HOLES, np.nan, RAW), np.zeros_like(RAW), np.ones_like(RAW), RAW[:3, :3]),
    ):
        given = np.ascontiguousarray(raw, np.float32)
        mended, width = without_ramps(given)
        assert width == 0
        assert mended is given
