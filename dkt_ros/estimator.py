"""Frames in, metric depth out: the one object that the node, the bag tool and the evaluator share.

Knows the order of the work (buffer, network, alignment, conversion) and times it. Knows nothing of
how the network makes disparity, and nothing of ROS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment import Aligner, Alignment, AlignmentConfig, align_depth
from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame, FrameBuffer


class DisparityPredictor(Protocol):
    """The network as the estimator sees it."""

    def __call__(self, rgb: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Relative disparity (T, H, W) float32 in [0, 1] of rgb (T, H, W, 3) uint8, T = 4k+1.

        Larger is nearer; one unknown scale and shift for the whole clip.
        """


@dataclass(frozen=True)
class EstimatorConfig:
    """max_frames: frames the network sees, 4N+1. max_gap_s: a longer gap starts a new stream.

    min_depth, max_depth: metres; depth outside becomes NaN.
    """

    max_frames: int = 5
    max_gap_s: float = 1.0
    min_depth: float = 0.1
    max_depth: float = 10.0
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.max_depth:
            raise DktError(
                f"min_depth {self.min_depth} m, max_depth {self.max_depth} m: "
                "expected 0 < min < max"
            )


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Metric depth of one frame.

    frame      the frame that the depth belongs to (its stamp, frame_id and intrinsics hold)
    depth      (H, W) float32 metres along the optical axis, NaN = unknown
    disparity  (H, W) float32 relative disparity, as the network gave it
    alignment  the scale and shift used, and how far to trust them
    flush      why the frames before this one were forgotten, if they were
    timings_s  seconds spent in "predict", "align", "convert", and in "total"
    window     frames the network saw
    """

    frame: Frame
    depth: NDArray[np.float32]
    disparity: NDArray[np.float32]
    alignment: Alignment
    flush: FlushReason | None
    timings_s: dict[str, float]
    window: int


class DepthEstimator:
    """Turns one camera's frames into metric depth, frame by frame."""

    def __init__(self, predict: DisparityPredictor, config: EstimatorConfig | None = None) -> None:
        self.config = config or EstimatorConfig()
        self._predict = predict
        self._buffer = FrameBuffer(self.config.max_frames, self.config.max_gap_s)
        self._aligner = Aligner(self.config.alignment)
        self._pending_flush: FlushReason | None = None
        self._latest: DepthEstimate | None = None

    def push(self, frame: Frame) -> DepthEstimate:
        """Depth of this frame, from it and the frames before it.

        Pushing the newest frame's stamp again returns its estimate again. When the network fails
        its exception passes through (DktError when its output is unusable): there is no estimate
        for this frame, it stays in the buffer, and the next push works.
        """
        started = time.perf_counter()
        if self._latest is not None and self._buffer.is_duplicate(frame):
            return self._latest
        self._latest = None
        flush = self._buffer.push(frame)
        if flush is not None:
            self._aligner.reset()
            self._pending_flush = flush
        clip = self._buffer.clip()
        newest = clip[-1]

        rgb = np.stack([member.rgb for member in clip])
        disparity = self._newest(self._predict(rgb), rgb.shape[:3])
        predicted = time.perf_counter()
        alignment = self._aligner.update(disparity, newest.raw_depth, newest.stamp_ns)
        aligned = time.perf_counter()
        depth = align_depth(disparity, alignment, self.config.min_depth, self.config.max_depth)
        converted = time.perf_counter()

        flush, self._pending_flush = self._pending_flush, None
        self._latest = DepthEstimate(
            frame=newest,
            depth=depth,
            disparity=disparity,
            alignment=alignment,
            flush=flush,
            timings_s={
                "predict": predicted - started,
                "align": aligned - predicted,
                "convert": converted - aligned,
                "total": converted - started,
            },
            window=len(clip),
        )
        return self._latest

    def reset(self) -> None:
        """Forgets every frame and the scale, as at the start of a stream."""
        self._buffer.clear()
        self._aligner.reset()
        self._pending_flush = None
        self._latest = None

    @staticmethod
    def _newest(disparity: NDArray[np.float32], expected: tuple[int, ...]) -> NDArray[np.float32]:
        disparity = np.asarray(disparity)
        if disparity.shape != expected:
            raise DktError(
                f"the network returned disparity of shape {disparity.shape}: expected {expected}, "
                "one value for each pixel of each frame"
            )
        # A copy, lest the estimate hold the whole clip or change with the network's own memory.
        newest = np.array(disparity[-1], np.float32)
        if not np.isfinite(newest).all():
            raise DktError(
                "the network returned disparity that is not finite: expected numbers in [0, 1]; "
                "try another dtype (float32) or check the checkpoint"
            )
        return newest
