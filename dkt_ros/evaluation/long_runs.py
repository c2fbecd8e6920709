"""Error over time in long streams: whether a network goes on being as right as it is at first.

Each video is pushed frame by frame, as a camera would, for as long as is asked: standing, its first
picture repeated, and moving, its frames forth and back. Every answer is put on the truth by a scale
and shift of its own, so that the curve shows what the network says of the picture, not its scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from dkt_ros.arrays import to_host
from dkt_ros.evaluation.metrics import disparity_to_metric, fit_disparity
from dkt_ros.evaluation.models import camera_frames
from dkt_ros.evaluation.videos import Video
from dkt_ros.geometry import is_reading
from dkt_ros.predict.predictor import Predictor

ENDS = 50
"""Frames at either end of a run that are compared, of a short run half of it."""
_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class Curve:
    """Mean relative error of each answer, over its known pixels; NaN where no scale fits.

    length: of the run. frames: places of the answers in it.
    """

    length: int
    frames: tuple[int, ...]
    rel: tuple[float, ...]

    @property
    def first(self) -> float:
        """Mean error of the answers to the first `ends` frames."""
        return self._mean(0, self.ends)

    @property
    def last(self) -> float:
        """That of the last as many."""
        return self._mean(self.length - self.ends, self.length)

    @property
    def ends(self) -> int:
        """Frames at either end that are compared."""
        return min(ENDS, (self.length + 1) // 2)

    def _mean(self, start: int, stop: int) -> float:
        pairs = zip(self.frames, self.rel, strict=True)
        return _mean_known([error for place, error in pairs if start <= place < stop])


def long_runs(
    predictor: Predictor, video: Video, length: int, depth_range: tuple[float, float]
) -> dict[str, Curve]:
    """The curve of a standing run of so many frames and, of a video, that of a moving one."""
    frames = camera_frames(video)
    orders = {"standing": [0] * length}
    if len(frames) > 1:
        there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
        orders["moving"] = list(islice(cycle(there_and_back), length))
    low, high = depth_range
    found = {}
    for name, order in orders.items():
        predictor.reset()
        at, rel = [], []
        for place, index in enumerate(order):
            answer = predictor.push(replace(frames[index], stamp_ns=place * _PERIOD_NS))
            if answer is None:
                continue
            disparity = to_host(answer.as_disparity())
            truth = video.truth[index]
            counts = is_reading(truth) & (truth >= low) & (truth <= high)
            at.append(place)
            rel.append(_error(disparity[counts], truth[counts], depth_range))
        found[name] = Curve(length, tuple(at), tuple(rel))
    predictor.reset()
    return found


def mean_curves(runs: Iterable[Mapping[str, Curve]]) -> dict[str, Curve]:
    """The mean over videos, frame by frame, of those that have an error there; all of one length.

    Where a stream begins anew its answers come at other places than another video's.
    """
    gathered: dict[str, dict[int, list[float]]] = {}
    length = 0
    for run in runs:
        for name, curve in run.items():
            length, at = curve.length, gathered.setdefault(name, {})
            for place, error in zip(curve.frames, curve.rel, strict=True):
                at.setdefault(place, []).append(error)
    curves = {}
    for name, at in gathered.items():
        places = sorted(at)
        curves[name] = Curve(length, tuple(places), tuple(_mean_known(at[p]) for p in places))
    return curves


def _mean_known(errors: Sequence[float]) -> float:
    """NaN left out, and where there is nothing else."""
    known = [error for error in errors if np.isfinite(error)]
    return float(np.mean(known)) if known else float("nan")


def _error(disparity: np.ndarray, truth: np.ndarray, depth_range: tuple[float, float]) -> float:
    try:
        scale, shift = fit_disparity(disparity, truth)
    except ValueError:
        return float("nan")
    depth = disparity_to_metric(disparity, scale, shift, depth_range)
    return float(np.nanmean(np.abs(depth - truth) / truth))
