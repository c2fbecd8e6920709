"""Frames in, metric depth out: the one object that the node, the bag tool and the evaluator share.

Knows the order of the work (buffer, network, alignment, conversion) and times it. Knows nothing of
how the network makes disparity, and nothing of ROS. Disparity on a device stays there, and depth
is computed there: only the fit's samples and the depth come to the host.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import Aligner, Alignment, AlignmentConfig, align_depth
from dkt_ros.arrays import Array, float32, is_tensor, namespace, to_host
from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame, FrameBuffer


class DisparityPredictor(Protocol):
    """The network as the estimator sees it."""

    def __call__(self, rgb: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Relative disparity (T, H, W) float32 in [0, 1] of rgb (T, H, W, 3) uint8, T = 4k+1.

        Larger is nearer; one unknown scale and shift for the whole clip.
        """


class StreamedDisparity(Protocol):
    """What a streaming predictor says of the newest frame."""

    @property
    def disparity(self) -> Array:
        """(H, W) float32 relative disparity in [0, 1], numpy's or a tensor on any device."""

    @property
    def rgb(self) -> Array:
        """(H, W, 3) uint8, the frame, where its disparity is."""

    @property
    def frames(self) -> int:
        """How many frames it was made from."""

    @property
    def restarted(self) -> bool:
        """Whether another scene began, so that scale and shift may be others."""


@runtime_checkable
class StreamingPredictor(Protocol):
    """A network that remembers the stream and is given each frame once."""

    def push(self, rgb: NDArray[np.uint8], /) -> StreamedDisparity | None:
        """Takes the next frame (H, W, 3); None where it has no depth for this one."""

    def reset(self) -> None:
        """Forgets the stream."""


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
class Pixels:
    """depth (H, W) float32 metres, NaN = unknown; rgb (H, W, 3) uint8; in the same memory."""

    depth: Array
    rgb: Array


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Metric depth of one frame.

    frame      the frame that the depth belongs to (its stamp, frame_id and intrinsics hold)
    depth      (H, W) float32 metres along the optical axis, NaN = unknown
    disparity  (H, W) float32 relative disparity, as the network gave it and where it gave it
    alignment  the scale and shift used, and how far to trust them
    flush      why the frames before this one were forgotten, if they were
    timings_s  seconds spent in "predict", "align", "convert", and in "total"
    window     frames the network saw
    on_device  the same depth and the frame's colours on the network's device; None: on the host
    """

    frame: Frame
    depth: NDArray[np.float32]
    disparity: Array
    alignment: Alignment
    flush: FlushReason | None
    timings_s: dict[str, float]
    window: int
    on_device: Pixels | None = None

    @property
    def pixels(self) -> Pixels:
        """Depth and colours to compute with: on the device if they are there, else on the host."""
        return self.on_device or Pixels(self.depth, self.frame.rgb)


Estimate = TypeVar("Estimate", bound="DepthEstimate | None", covariant=True)


class DepthEstimator(Generic[Estimate]):
    """Turns one camera's frames into metric depth, frame by frame.

    With a DisparityPredictor every frame has an estimate, from a clip of the newest frames; with a
    StreamingPredictor, frames that it has no depth for have none.
    """

    @overload
    def __init__(
        self: DepthEstimator[DepthEstimate],
        predict: DisparityPredictor,
        config: EstimatorConfig | None = None,
    ) -> None: ...

    @overload
    def __init__(
        self: DepthEstimator[DepthEstimate | None],
        predict: StreamingPredictor,
        config: EstimatorConfig | None = None,
    ) -> None: ...

    def __init__(
        self,
        predict: DisparityPredictor | StreamingPredictor,
        config: EstimatorConfig | None = None,
    ) -> None:
        self.config = config or EstimatorConfig()
        self._predict = predict
        self._buffer = FrameBuffer(self.config.max_frames, self.config.max_gap_s)
        self._aligner = Aligner(self.config.alignment)
        self._pending_flush: FlushReason | None = None
        self._latest: DepthEstimate | None = None

    def push(self, frame: Frame) -> Estimate:
        """Depth of this frame, from it and the frames before it; None where a stream has none.

        Pushing the newest frame's stamp again returns its estimate again. When the network fails
        its exception passes through (DktError when its output is unusable): there is no estimate
        for this frame, and the next push works. A clip keeps the frame, a stream begins anew.
        """
        return cast("Estimate", self._push(frame))

    def _push(self, frame: Frame) -> DepthEstimate | None:
        started = time.perf_counter()
        if self._buffer.is_duplicate(frame) and (
            self._latest is not None or isinstance(self._predict, StreamingPredictor)
        ):
            return self._latest
        self._latest = None
        flush = self._buffer.push(frame)
        if flush is not None:
            self._begin_anew(flush)
        try:
            prediction = self._predict_newest()
        except BaseException:
            if isinstance(self._predict, StreamingPredictor):
                # Neither what the stream holds by now nor its scale is good for the next frame.
                self._aligner.reset()
                self._predict.reset()
            raise
        if prediction is None:
            return None
        newest, disparity, rgb, window = prediction
        predicted = time.perf_counter()
        alignment = self._aligner.update(disparity, newest.raw_depth, newest.stamp_ns)
        aligned = time.perf_counter()
        config = self.config  # read once: another thread may put another one in its place
        depth = align_depth(disparity, alignment, config.min_depth, config.max_depth)
        on_device = Pixels(depth, rgb) if is_tensor(depth) else None
        depth = to_host(depth)
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
            window=window,
            on_device=on_device,
        )
        return self._latest

    def reset(self) -> None:
        """Forgets every frame and the scale, as at the start of a stream."""
        self._buffer.clear()
        self._aligner.reset()
        if isinstance(self._predict, StreamingPredictor):
            self._predict.reset()
        self._pending_flush = None
        self._latest = None

    def _begin_anew(self, reason: FlushReason) -> None:
        self._aligner.reset()
        self._pending_flush = reason
        if isinstance(self._predict, StreamingPredictor) and reason is not FlushReason.SCENE_CUT:
            self._predict.reset()

    def _predict_newest(self) -> tuple[Frame, Array, Array, int] | None:
        """The frame that has a disparity now, that (H, W) and its colours, the frames it took."""
        if isinstance(self._predict, StreamingPredictor):
            newest = self._buffer.newest()
            streamed = self._predict.push(newest.rgb)
            if streamed is None:
                return None
            if streamed.restarted:
                self._begin_anew(FlushReason.SCENE_CUT)
            disparity = self._newest(streamed.disparity[None], (1, *newest.rgb.shape[:2]))
            return newest, disparity, streamed.rgb, streamed.frames
        clip = self._buffer.clip()
        rgb = np.stack([member.rgb for member in clip])
        return clip[-1], self._newest(self._predict(rgb), rgb.shape[:3]), rgb[-1], len(clip)

    @staticmethod
    def _newest(disparity: Array, expected: tuple[int, ...]) -> Array:
        if disparity.shape != expected:
            raise DktError(
                f"the network returned disparity of shape {tuple(disparity.shape)}: expected "
                f"{expected}, one value for each pixel of each frame"
            )
        # A copy, lest the estimate hold the whole clip or change with the network's own memory.
        newest = float32(disparity[-1], copy=True)
        if not bool(namespace(newest).isfinite(newest).all()):
            raise DktError(
                "the network returned disparity that is not finite: expected numbers in [0, 1]; "
                "try another dtype (float32) or check the checkpoint"
            )
        return newest
