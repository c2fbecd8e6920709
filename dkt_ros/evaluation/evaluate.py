"""A checkpoint and the baselines over a folder of rendered sequences, region by region.

Knows which pixels are compared and how predictions get their metric scale. Knows nothing of how
disparity is predicted or how results are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimator, EstimatorConfig
from dkt_ros.evaluation.baselines import BASELINES
from dkt_ros.evaluation.metrics import (
    DepthErrors,
    disparity_to_metric,
    fit_disparity,
    mean_errors,
    valid,
    video_errors,
)
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.transphy3d import MaterialClass, read_sequence

ALIGNMENTS = ("video", "online")
REGIONS = ("all", "transparent", "reflective", "rest")
_FRAME_PERIOD_NS = 100_000_000
Predict = Callable[[np.ndarray], np.ndarray]
"""rgb uint8 (T,H,W,3) to relative disparity float32 (T,H,W) in [0, 1]."""


@dataclass(frozen=True)
class Video:
    """One sequence with its truth.

    rgb (T,H,W,3) uint8; truth (T,H,W) metres, NaN unknown; classes (T,H,W) MaterialClass; raw
    (T,H,W) metres, NaN no reading, or None where no sensor was simulated; camera_matrix (3,3).
    """

    name: str
    rgb: np.ndarray
    truth: np.ndarray
    classes: np.ndarray
    raw: np.ndarray | None
    camera_matrix: np.ndarray


@dataclass(frozen=True)
class Result:
    """One method on one video: the errors per region of REGIONS."""

    method: str
    video: str
    errors: dict[str, DepthErrors]


def load_videos(folder: Path) -> Iterator[Video]:
    """The folder's tars in order of name; DktError where there is none or one is damaged."""
    paths = sorted(folder.glob("*.tar"))
    if not paths:
        raise DktError(f"{folder} holds no sequence (*.tar); render some or name another folder")
    for path in paths:
        frames = read_sequence(path)
        sizes = {frame.rgb.shape for frame in frames}
        if len(sizes) > 1:
            raise DktError(f"{path}: frames of several sizes {sorted(sizes)}, expected one")
        if any(frame.mask is None for frame in frames):
            raise DktError(f"{path}: frames without mask.png; regions cannot be told apart")
        raws = [frame.raw_depth for frame in frames if frame.raw_depth is not None]
        yield Video(
            path.stem,
            np.stack([frame.rgb for frame in frames]),
            np.stack([frame.depth for frame in frames]),
            np.stack([frame.mask for frame in frames if frame.mask is not None]),
            np.stack(raws) if len(raws) == len(frames) else None,
            frames[0].camera_matrix,
        )


def evaluate_video(
    video: Video,
    predict: Predict | None,
    alignments: Sequence[str],
    depth_range: tuple[float, float],
) -> list[Result]:
    """Errors of the baselines (where there is raw depth) and of `predict` under each alignment.

    depth_range: metres; truth outside does not count, predictions are clipped into it.
    """
    truth = np.where(
        valid(video.truth) & (video.truth >= depth_range[0]) & (video.truth <= depth_range[1]),
        video.truth,
        np.nan,
    )
    regions = region_masks(video.classes)
    results = []
    if video.raw is not None:
        for name, complete in BASELINES.items():
            depth = np.stack([complete(raw) for raw in video.raw])
            depth = np.clip(depth, *depth_range)
            results.append(_result(name, video.name, depth, truth, regions))
    for alignment in alignments if predict is not None else ():
        assert predict is not None
        if alignment == "video":
            depth = aligned_to_truth(predict(video.rgb), truth, depth_range)
        else:
            depth = aligned_online(video, predict, depth_range)
        results.append(_result(f"dkt, {alignment}", video.name, depth, truth, regions))
    return results


def aligned_to_truth(
    disparity: np.ndarray, truth: np.ndarray, depth_range: tuple[float, float]
) -> np.ndarray:
    """(T,H,W) disparity -> metres by one scale and shift per video, least squares to the truth."""
    scale, shift = fit_disparity(disparity, truth)
    return disparity_to_metric(disparity, scale, shift, depth_range)


def aligned_online(video: Video, predict: Predict, depth_range: tuple[float, float]) -> np.ndarray:
    """What a robot gets: frames pushed one by one, scale and shift from the sensor's raw depth.

    Raises DktError where the video has no raw depth.
    """
    if video.raw is None:
        raise DktError(f"{video.name}: no raw_depth.png, so nothing to align to online")
    height, width = video.rgb.shape[1:3]
    intrinsics = Intrinsics.from_matrix(video.camera_matrix, width, height)
    estimator = DepthEstimator(
        predict, EstimatorConfig(min_depth=depth_range[0], max_depth=depth_range[1])
    )
    depth = [
        estimator.push(
            Frame(video.rgb[i], video.raw[i], intrinsics, i * _FRAME_PERIOD_NS, "camera")
        ).depth
        for i in range(len(video.rgb))
    ]
    return np.stack(depth)


def region_masks(classes: np.ndarray) -> dict[str, np.ndarray]:
    """Boolean masks of REGIONS, shaped like the material classes."""
    return {
        "all": np.ones(classes.shape, bool),
        "transparent": classes == MaterialClass.TRANSPARENT,
        "reflective": classes == MaterialClass.REFLECTIVE,
        "rest": classes == MaterialClass.OPAQUE,
    }


def summarise(results: Sequence[Result]) -> dict[str, dict[str, DepthErrors]]:
    """Mean over videos, per method (in order of appearance) and region."""
    methods = list(dict.fromkeys(result.method for result in results))
    return {
        method: {
            region: mean_errors(r.errors[region] for r in results if r.method == method)
            for region in REGIONS
        }
        for method in methods
    }


def _result(
    method: str,
    video: str,
    depth: np.ndarray,
    truth: np.ndarray,
    regions: dict[str, np.ndarray],
) -> Result:
    errors = {name: video_errors(depth, truth, mask) for name, mask in regions.items()}
    return Result(method, video, errors)
