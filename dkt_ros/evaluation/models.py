"""From a network to metric depth of a video: exact or live, aligned to the truth or to raw depth.

Knows how disparity gets its metric scale. Knows nothing of how it is predicted or measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from dkt_ros.arrays import to_host
from dkt_ros.errors import DktError
from dkt_ros.estimator import (
    DepthEstimate,
    DepthEstimator,
    DisparityPredictor,
    EstimatorConfig,
    StreamingPredictor,
)
from dkt_ros.evaluation.metrics import disparity_to_metric, fit_disparity
from dkt_ros.evaluation.videos import Video
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics

ALIGNMENTS = ("video", "online")
"""video: one scale and shift per video, least squares to the truth, as papers do. online: frame by
frame to the raw depth, by the node's own estimator, as a robot has it."""
_FRAME_PERIOD_NS = 100_000_000
_CONFIG = EstimatorConfig(min_depth=1e-3, max_depth=1e3)
"""Nearly any depth: the judge clips every method's into the evaluation's range."""

Stream = Callable[[tuple[int, int]], StreamingPredictor]
"""(height, width) of the pictures -> a predictor that remembers nothing yet."""


class DepthModel(Protocol):
    """Something that gives a video metric depth."""

    name: str

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
        depth_range: tuple[float, float],
    ) -> dict[str, np.ndarray]:
        """Depth (T, H, W) in metres for each alignment, NaN where there is none.

        truth: (T, H, W) metres, NaN where it does not count. Without raw depth "online" is left
        out.
        """


class ExactModel:
    """The exact sampler: the whole video at once; online, for every frame, the newest ones."""

    name = "dkt exact"

    def __init__(self, predict: DisparityPredictor, buffer_frames: int = 5) -> None:
        """buffer_frames: how many those are, 4N+1; the node's default is the checkpoint's."""
        self._predict = predict
        self._config = replace(_CONFIG, max_frames=buffer_frames)

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
        depth_range: tuple[float, float],
    ) -> dict[str, np.ndarray]:
        """See DepthModel."""
        found = {}
        predict = self._predict
        if "video" in alignments:
            disparity = self._predict(video.rgb)
            found["video"] = aligned_to_truth(disparity, truth, depth_range)
            if len(video) == 1:

                def predict(rgb: np.ndarray, /) -> np.ndarray:
                    return disparity  # of the only clip there is

        if "online" in alignments and video.raw is not None:
            estimator = DepthEstimator(predict, self._config)
            found["online"] = np.stack([estimator.push(frame).depth for frame in frames_of(video)])
        return found


class LiveModel:
    """The live sampler: frame by frame, the newest frame's depth each time there is one."""

    name = "dkt live"

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
        depth_range: tuple[float, float],
    ) -> dict[str, np.ndarray]:
        """See DepthModel. One pass of the network serves both alignments."""
        estimator = DepthEstimator(self._stream(video.size), _CONFIG)
        estimates = [estimator.push(frame) for frame in frames_of(video)]
        disparity, online = newest_frames(video, estimates)
        found = {}
        if "video" in alignments:
            found["video"] = aligned_to_truth(disparity, truth, depth_range)
        if "online" in alignments and video.raw is not None:
            found["online"] = online
        return found


def newest_frames(
    video: Video, estimates: Sequence[DepthEstimate | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Disparity and depth (T, H, W) of a stream, NaN in the frames that it gave none for."""
    disparity = np.full(video.truth.shape, np.nan, np.float32)
    depth = np.full(video.truth.shape, np.nan, np.float32)
    for index, estimate in enumerate(estimates):
        if estimate is not None:
            disparity[index], depth[index] = to_host(estimate.disparity), estimate.depth
    return disparity, depth


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


def frames_of(video: Video) -> list[Frame]:
    """The video as a camera would send it, 0.1 s apart, with its raw depth where there is any."""
    height, width = video.size
    # The estimator looks at no rays, and takes another camera for another stream: any one will do.
    camera = Intrinsics(width, width, (width - 1) / 2, (height - 1) / 2, width, height)
    return [
        Frame(
            video.rgb[i],
            None if video.raw is None else video.raw[i],
            camera,
            i * _FRAME_PERIOD_NS,
            "camera",
        )
        for i in range(len(video))
    ]
