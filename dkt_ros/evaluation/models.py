"""From a network to metric depth of a video, aligned to the truth or to raw depth."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from dkt_ros.alignment.aligner import AlignmentState, align_depth
from dkt_ros.arrays import to_host
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig
from dkt_ros.evaluation.local_lines import LOCAL_LINES, local_depth
from dkt_ros.evaluation.metrics import disparity_to_metric, fit_disparity
from dkt_ros.evaluation.videos import Video
from dkt_ros.frames import Frame, frames_of
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.predict.predictor import Predictor
from dkt_ros.wording import counted

_log = logging.getLogger(__name__)

MAIN_ALIGNMENTS = ("video", "online", "fused")
ALIGNMENTS = (*MAIN_ALIGNMENTS, *LOCAL_LINES)
"""video: one scale and shift per video, least squares to the truth, as papers do. online: frame by
frame to the raw depth, by the node's own estimator. fused: that, joined with the raw depth, which
is what a robot has. kNN, patches: the online line made local, as others do; see local_lines."""
FROM_FILES = ""
"""In the place of an alignment: depth that needs none."""
_CONFIG = EstimatorConfig(min_depth=1e-3, max_depth=1e3)
_RANGE = _CONFIG.min_depth, _CONFIG.max_depth
"""Nearly any depth: the judge clips every method's into the evaluation's range."""


@dataclass(frozen=True, eq=False)
class Depths:
    """Metric depth of a video.

    depth: (T, H, W) metres, NaN where there is none. confidence: (T, H, W), the probability that
    the relative error is below tolerance; None where none is told. problems: place in the clip to
    why a frame has no depth, where that is a fault.
    """

    depth: np.ndarray
    confidence: np.ndarray | None = None
    tolerance: float = float("nan")
    problems: Mapping[int, str] = field(default_factory=dict)


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
    ) -> dict[str, Depths]:
        """Depth for each alignment.

        truth: (T, H, W) metres, NaN where it does not count. Without raw depth all but "video" is
        left out. A model whose depth is metric as it is has that under FROM_FILES alone.
        """


class PredictorModel:
    """A network through the node's own estimator.

    fusion: how depth is fused; None as the node does.
    """

    def __init__(self, name: str, predictor: Predictor, fusion: FusionConfig | None = None) -> None:
        self.name = name
        self.answers_every = predictor.answers_every
        self.predictor = predictor
        self._config = replace(_CONFIG, fusion=fusion or FusionConfig())
        self._told = False

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
    ) -> dict[str, Depths]:
        """See DepthModel. One pass of the network serves all alignments where it sees the same."""
        frames = camera_frames(video)
        streamed = [name for name in ALIGNMENTS[1:] if name in alignments]
        if video.raw is None:
            streamed.clear()
        in_one_go = self.predictor.sees_video and len(video) > 1
        disparity: np.ndarray = np.empty(0)
        found: dict[str, Depths] = {}
        if streamed or not in_one_go:
            depth = "fused" if "fused" in streamed else "network"
            estimator = DepthEstimator(self.predictor, replace(self._config, depth=depth))
            estimator.reset()
            estimates: Iterator[DepthEstimate | None] = map(estimator.push, frames)
            if streamed:
                estimates = self._watched(video.name, estimates)
            disparity, found = newest_frames(video, estimates, streamed)
            estimator.reset()
        if "video" in alignments:
            if in_one_go:
                disparity = self.predictor.video(frames)
            found = {"video": Depths(aligned_to_truth(disparity, truth)), **found}
        return found

    def _watched(
        self, video: str, estimates: Iterator[DepthEstimate | None]
    ) -> Iterator[DepthEstimate | None]:
        """The same; tells, once, where most of them are made without the network or a scale."""
        answers, without = 0, []
        for estimate in estimates:
            if estimate is not None:
                answers += 1
                fused, state = estimate.fused, estimate.alignment.state
                if state is not AlignmentState.OK and (fused is None or not fused.network_used):
                    without.append(f"{state.name}: {estimate.alignment.reason}")
            yield estimate
        if 2 * len(without) > answers and not self._told:
            self._told = True
            share = f"{len(without)} of {counted(answers, 'answer')}"
            _log.warning("%s, %s: %s are %s", self.name, video, share, without[-1])


def newest_frames(
    video: Video, estimates: Iterable[DepthEstimate | None], alignments: Sequence[str]
) -> tuple[np.ndarray, dict[str, Depths]]:
    """A stream's disparity (T, H, W) and its depths, NaN in frames that it gave none for."""

    def unknown() -> np.ndarray:
        return np.full(video.truth.shape, np.nan, np.float32)

    disparities, confidence = unknown(), unknown()
    depths = {name: unknown() for name in alignments}
    for index, estimate in enumerate(estimates):
        if estimate is None:
            continue
        disparities[index] = disparity = to_host(estimate.disparity)
        assert estimate.line is not None
        for name, depth in depths.items():
            if name == "fused":
                assert estimate.confidence is not None
                depth[index], confidence[index] = estimate.depth, estimate.confidence
            elif name == "online":
                depth[index] = align_depth(disparity, estimate.line, *_RANGE)
            else:
                assert video.raw is not None
                raw, correct = video.raw[index], LOCAL_LINES[name]
                depth[index] = local_depth(correct, disparity, estimate.line, raw)
    found = {name: Depths(depth) for name, depth in depths.items()}
    if "fused" in found:
        found["fused"] = Depths(depths["fused"], confidence, _CONFIG.fusion.tolerance)
    return disparities, found


def aligned_to_truth(disparity: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T,H,W) disparity -> metres by one scale and shift per video, least squares to the truth.

    NaN stays NaN. Raises DktError where no line can be fitted.
    """
    try:
        scale, shift = fit_disparity(disparity, truth)
    except ValueError as error:
        raise DktError(f"no scale and shift: {error}") from error
    return disparity_to_metric(disparity, scale, shift)


def camera_frames(video: Video) -> list[Frame]:
    """The video as a camera would send it, 0.1 s apart, with its raw depth where there is any."""
    raw = [None] * len(video) if video.raw is None else list(video.raw)
    return list(frames_of(zip(video.rgb, raw, strict=True)))
