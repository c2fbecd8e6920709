"""From a network to metric depth of a video, aligned to the truth or to raw depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from dkt_ros.alignment.aligner import align_depth
from dkt_ros.arrays import to_host
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig
from dkt_ros.evaluation.metrics import disparity_to_metric, fit_disparity
from dkt_ros.evaluation.videos import Video
from dkt_ros.frames import Frame, frames_of
from dkt_ros.predict.predictor import Predictor

ALIGNMENTS = ("video", "online", "fused")
"""video: one scale and shift per video, least squares to the truth, as papers do. online: frame by
frame to the raw depth, by the node's own estimator. fused: that, joined with the raw depth, which
is what a robot has."""
_CONFIG = EstimatorConfig(min_depth=1e-3, max_depth=1e3)
_RANGE = _CONFIG.min_depth, _CONFIG.max_depth
"""Nearly any depth: the judge clips every method's into the evaluation's range."""


class DepthModel(Protocol):
    """Something that gives a video metric depth.

    answers_every: frames that one answer is for; the others have none (see Predictor).
    """

    name: str
    answers_every: int

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
        depth_range: tuple[float, float],
    ) -> dict[str, np.ndarray]:
        """Depth (T, H, W) in metres for each alignment, NaN where there is none.

        truth: (T, H, W) metres, NaN where it does not count. Without raw depth "online" and
        "fused" are left out.
        """


class PredictorModel:
    """A network through the node's own estimator."""

    def __init__(self, name: str, predictor: Predictor) -> None:
        self.name = name
        self.answers_every = predictor.answers_every
        self._predictor = predictor

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
        depth_range: tuple[float, float],
    ) -> dict[str, np.ndarray]:
        """See DepthModel. One pass of the network serves both alignments where it sees the same."""
        frames = camera_frames(video)
        online = [name for name in ("online", "fused") if name in alignments]
        if video.raw is None:
            online.clear()
        in_one_go = self._predictor.sees_video and len(video) > 1
        found = {}
        if online or not in_one_go:
            depth = "fused" if "fused" in online else "network"
            estimator = DepthEstimator(self._predictor, replace(_CONFIG, depth=depth))
            estimator.reset()
            stream = newest_frames(video, [estimator.push(frame) for frame in frames])
            disparity = stream["video"]
            estimator.reset()
        if "video" in alignments:
            if in_one_go:
                disparity = self._predictor.video(frames)
            found["video"] = aligned_to_truth(disparity, truth, depth_range)
        return found | {name: stream[name] for name in online}


def newest_frames(video: Video, estimates: Sequence[DepthEstimate | None]) -> dict[str, np.ndarray]:
    """Disparity ("video") and depth of a stream, (T, H, W), NaN in frames that it gave none for."""
    found = {name: np.full(video.truth.shape, np.nan, np.float32) for name in ALIGNMENTS}
    for index, estimate in enumerate(estimates):
        if estimate is None:
            continue
        disparity = to_host(estimate.disparity)
        assert estimate.line is not None
        found["video"][index] = disparity
        found["online"][index] = align_depth(disparity, estimate.line, *_RANGE)
        found["fused"][index] = estimate.depth
    return found


def aligned_to_truth(
    disparity: np.ndarray, truth: np.ndarray, depth_range: tuple[float, float]
) -> np.ndarray:
    """(T,H,W) disparity -> metres by one scale and shift per video, least squares to the truth.

    NaN stays NaN. Raises DktError where no line can be fitted.
    """
    try:
        scale, shift = fit_disparity(disparity, truth)
    except ValueError as error:
        raise DktError(f"no scale and shift: {error}") from error
    return disparity_to_metric(disparity, scale, shift, depth_range)


def camera_frames(video: Video) -> list[Frame]:
    """The video as a camera would send it, 0.1 s apart, with its raw depth where there is any."""
    raw = [None] * len(video) if video.raw is None else list(video.raw)
    return list(frames_of(zip(video.rgb, raw, strict=True)))
