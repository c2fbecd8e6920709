"""Depth errors as the literature counts them. Knows numpy; knows nothing of networks or files.

Depth is in metres with NaN (or anything not positive) for unknown; masks are boolean and True where
a pixel counts. Errors are averaged over the pixels of a frame, then over the frames of a video,
then over videos, so that a large frame or a long video does not outweigh the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from dkt_ros.arrays import described, is_floating
from dkt_ros.errors import DktError
from dkt_ros.geometry import is_reading, is_true_depth
from dkt_ros.wording import counted

DELTA_THRESHOLDS = (1.05, 1.10, 1.25)
MIN_DISPARITY = 1e-3
"""1/m. Aligned disparity is clipped here before it is inverted, as published."""


_NAN = float("nan")
Errors = TypeVar("Errors")
"""A dataclass of numbers, or of tuples of them, NaN = no value."""


@dataclass(frozen=True)
class DepthErrors:
    """rel: mean |p - g| / g. rmse_m: metres. delta_*: share of pixels with max(p/g, g/p) below.

    coverage: share of the true pixels for which there was a prediction; the others count in none
    of the errors. All NaN (coverage too) where no true pixel was there to compare.
    """

    rel: float = _NAN
    rmse_m: float = _NAN
    delta_105: float = _NAN
    delta_110: float = _NAN
    delta_125: float = _NAN
    coverage: float = _NAN


def frame_errors(
    predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
) -> DepthErrors:
    """Errors of one depth map (H, W) in metres against the truth, over the mask.

    Raises DktError where they are no arrays of floats, shapes differ or the mask is not boolean.
    """
    mask = _checked(predicted, truth, mask)
    known = mask & is_true_depth(truth)
    used = known & is_reading(predicted)
    if not used.any():
        return DepthErrors(coverage=0.0 if known.any() else _NAN)
    p = predicted[used].astype(np.float64)
    g = truth[used].astype(np.float64)
    ratio = np.maximum(p / g, g / p)
    deltas = [float(np.mean(ratio < threshold)) for threshold in DELTA_THRESHOLDS]
    return DepthErrors(
        float(np.mean(np.abs(p - g) / g)),
        float(np.sqrt(np.mean((p - g) ** 2))),
        deltas[0],
        deltas[1],
        deltas[2],
        float(used.sum() / known.sum()),
    )


def mean_of(kind: type[Errors], errors: Iterable[Errors]) -> Errors:
    """The mean of each field, frames or videos that have no value left out; NaN where none has.

    kind: the dataclass of numbers that the errors are of.
    """
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    errors = list(errors)
    return kind(*(_mean([getattr(e, name) for e in errors]) for name in names))


def _mean(values: Sequence[float] | Sequence[tuple[float, ...]]) -> float | tuple[float, ...]:
    rows = np.array(values, np.float64)
    present = np.isfinite(rows)
    sums, counts = np.where(present, rows, 0.0).sum(axis=0), present.sum(axis=0)
    means = np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)
    return tuple(map(float, means)) if means.ndim else float(means)


def video_errors(
    predicted: Sequence[np.ndarray] | np.ndarray,
    truth: Sequence[np.ndarray] | np.ndarray,
    masks: Sequence[np.ndarray] | np.ndarray | None = None,
) -> DepthErrors:
    """Mean over the frames of a video of frame_errors; arrays (T, H, W) or sequences of (H, W)."""
    if len(predicted) != len(truth) or (masks is not None and len(masks) != len(truth)):
        raise DktError(
            f"{counted(len(predicted), 'prediction')} for {counted(len(truth), 'frame')} of truth"
        )
    rows = [
        frame_errors(predicted[i], truth[i], None if masks is None else masks[i])
        for i in range(len(truth))
    ]
    return mean_of(DepthErrors, rows)


def fit_disparity(disparity: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Scale and shift (1/m) minimising sum (scale * d + shift - 1/truth)^2 over a whole video.

    disparity, truth (metres): arrays of one shape, usually (T, H, W). As published, pixels count
    where the truth is known and the predicted disparity is above zero.
    Raises ValueError where fewer than two such pixels exist or the disparity is constant there.
    """
    used = _checked(disparity, truth) & is_true_depth(truth) & is_reading(disparity)
    d = disparity[used].astype(np.float64)
    g = 1.0 / truth[used].astype(np.float64)
    spread = float(np.var(d)) if d.size else 0.0
    if spread < 1e-12:
        raise ValueError(f"{d.size} usable pixels, disparity variance {spread:g}: cannot align")
    scale = float(np.mean((d - d.mean()) * (g - g.mean())) / spread)
    return scale, float(g.mean() - scale * d.mean())


def disparity_to_metric(
    disparity: np.ndarray,
    scale: float,
    shift: float,
    depth_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """1 / max(scale * d + shift, MIN_DISPARITY) in metres, float32, clipped to a given range.

    Without a range a vanishing disparity becomes 1000 m and rules the RMSE: give the data's range.
    """
    depth = 1.0 / np.maximum(scale * disparity.astype(np.float64) + shift, MIN_DISPARITY)
    if depth_range is not None:
        depth = np.clip(depth, *depth_range)
    return depth.astype(np.float32)


def _checked(first: np.ndarray, second: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    for name, array in (("prediction", first), ("truth", second)):
        if not isinstance(array, np.ndarray) or not is_floating(array):
            raise DktError(f"{name} of {described(array)}: expected a numpy array of floats")
    if mask is None:
        mask = np.ones(second.shape, bool)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise DktError(f"mask of {described(mask)}: expected bool (True where a pixel counts)")
    if first.shape != second.shape or mask.shape != second.shape:
        raise DktError(
            f"shapes differ: prediction {first.shape}, truth {second.shape}, mask {mask.shape}"
        )
    return mask
