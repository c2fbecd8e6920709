"""Frames in, metric depth out: the one object that node, evaluator and Python programs share.

The order of the work (stream, network, alignment, conversion), timed; nothing of ROS. Disparity on
a device stays there, and depth is computed there: only the fit's samples and the depth come to the
host.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros import forks, snapshot
from dkt_ros.alignment.aligner import (
    Aligner,
    Alignment,
    AlignmentConfig,
    AlignmentState,
    align_depth,
    metric_alignment,
)
from dkt_ros.arrays import (
    Array,
    count_of,
    described,
    is_tensor,
    namespace,
    to_host,
)
from dkt_ros.checks import check_fields, check_ranges, check_type
from dkt_ros.errors import DktError
from dkt_ros.frames import Continuity, FlushReason, Frame
from dkt_ros.fusion.colours import brightened
from dkt_ros.fusion.config import DEPTHS, FusionConfig
from dkt_ros.fusion.consistency import Consistency, ConsistencyConfig
from dkt_ros.fusion.fused import Fused, Shares, Source
from dkt_ros.fusion.fuser import Fuser
from dkt_ros.fusion.readings import readings_alone
from dkt_ros.fusion.registration import Seen
from dkt_ros.fusion.suspicion import Suspicion
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Prediction, Predictor, checked_answer


def check_depth_range(low: float, high: float) -> None:
    """Raises DktError for metres between which there is no depth."""
    if not 0 < low < high:
        raise DktError(f"min_depth {low} m, max_depth {high} m: expected 0 < min < max")


@dataclass(frozen=True)
class EstimatorConfig:
    """How frames become metric depth.

    depth           "fused": the sensor's depth where it can be trusted, the network's elsewhere,
                    joined; "network": the network's alone, on one scale and shift
    max_gap_s       a longer gap between stamps starts a new stream
    min_depth, max_depth  metres; depth outside becomes NaN
    """

    depth: str = DEPTHS[0]
    max_gap_s: float = 3.0
    min_depth: float = 0.1
    max_depth: float = 10.0
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.depth not in DEPTHS:
            raise DktError(f"depth is {self.depth!r}, expected one of {', '.join(DEPTHS)}")
        check_ranges(self, max_gap_s=(0, np.inf))
        check_depth_range(self.min_depth, self.max_depth)


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
    disparity  (H, W) float32 relative disparity as the network gave it, a metric network's
               1/depth; where it gave it
    alignment  how far to trust the depth: in state, residual, inliers and uncertainty of all that
               was published; scale and shift are the line's
    line       the network's disparity on one scale and shift, and how far to trust that
    flush      why the frames before this one were forgotten, if they were
    timings_s  seconds spent in "predict", "align", "fuse" or "convert", and in "total"
    window     frames the network saw
    fused      depth, source and confidence by pixel, where they were fused
    suspicions what speaks against colour, raw depth and network belonging together
    own_confidence  the network's opinion of its depth, see Prediction; None: it has none
    normals    (H, W, 3) float32 by a network for them, see Prediction; None: there are none
    on_device  the same depth and the frame's colours on the network's device; None: on the host
    """

    frame: Frame
    depth: NDArray[np.float32]
    disparity: Array
    alignment: Alignment
    flush: FlushReason | None
    timings_s: dict[str, float]
    window: int
    line: Alignment | None = None
    fused: Fused | None = None
    suspicions: tuple[Suspicion, ...] = ()
    own_confidence: Array | None = None
    on_device: Pixels | None = None
    normals: NDArray[np.float32] | None = None

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """(H, W) float32 in [0, 1]: probability that the depth is right to fusion.tolerance.

        0 where there is no depth. Not fused, it is the network's own opinion; None where it has
        none.
        """
        if self.fused is not None:
            return self.fused.confidence
        if self.own_confidence is None:
            return None
        own = np.asarray(to_host(self.own_confidence), np.float32)
        return np.where(np.isnan(self.depth), np.float32(0), own)

    @property
    def source(self) -> NDArray[np.uint8]:
        """(H, W) uint8 of Source: where each pixel's depth comes from."""
        if self.fused is not None:
            return self.fused.source
        return np.where(np.isnan(self.depth), Source.NOTHING, Source.NETWORK).astype(np.uint8)

    @cached_property
    def shares(self) -> Shares:
        """Of the pixels, by source."""
        return Shares.of(self.source) if self.fused is None else self.fused.shares

    @property
    def pixels(self) -> Pixels:
        """Depth and colours to compute with: on the device if they are there, else on the host."""
        return self.on_device or Pixels(self.depth, self.frame.rgb)


@dataclass(frozen=True, eq=False)
class _Answer:
    """The network's, disparity (H, W) checked, and its line on this frame's raw depth."""

    prediction: Prediction
    disparity: Array
    line: Alignment


class DepthEstimator:
    """Turns one camera's frames into metric depth, frame by frame."""

    LASTING = ("_turn",)  # see snapshot.py

    def __init__(self, predictor: Predictor, config: EstimatorConfig | None = None) -> None:
        if not isinstance(predictor, Predictor):
            raise DktError(
                f"predictor of {described(predictor)}: expected a Predictor, such as "
                "load_predictor gives; load_estimator makes both"
            )
        check_type("config", config, EstimatorConfig | None)
        forks.note_process()
        self.predictor = predictor
        self.config = config or EstimatorConfig()
        self.depth_range = (self.config.min_depth, self.config.max_depth)
        self.min_confidence = self.config.fusion.min_confidence
        self._fuser: Fuser | None = None
        if self.config.depth == "fused":
            device = predictor.info.device
            self._fuser = Fuser(self.config.fusion, device if "cuda" in device else "cpu")
        self._consistency = Consistency(self.config.consistency)
        self._continuity = Continuity(self.config.max_gap_s)
        self._aligner = Aligner(self.config.alignment)
        self._seen: Seen | None = None
        self._doubted: NDArray[np.uint8] | None = None
        self._pending_flush: FlushReason | None = None
        self._latest: DepthEstimate | None = None
        self._turn = threading.Lock()

    def __reduce__(self) -> Any:
        raise DktError(
            "a DepthEstimator cannot be copied nor sent to another process: expected one for each, "
            "by load_estimator; save() and restore() carry a stream from one to another"
        )

    @property
    def depth_range(self) -> tuple[float, float]:
        """Metres; depth outside becomes NaN. Any thread may set it: the next frame has it."""
        return self._depth_range

    @depth_range.setter
    def depth_range(self, limits: tuple[float, float]) -> None:
        check_type("depth_range", limits, tuple[float, float])
        low, high = limits
        check_depth_range(low, high)
        self._depth_range = (low, high)

    def push(self, frame: Frame) -> DepthEstimate | None:
        """Depth of this frame, from it and the frames before it; None where the network has none.

        Pushing the newest frame again returns its estimate again; another picture with its stamp is
        a DktError, lest it gets that picture's depth. When the network fails its exception passes
        through (DktError when its output is unusable): there is no estimate for this frame, the
        stream is forgotten, and the next push works. Two threads at once are a DktError.
        """
        if not isinstance(frame, Frame):
            raise DktError(
                f"frame of {described(frame)}: expected a Frame; frames_of makes them of arrays"
            )
        forks.check_process()
        if not self._turn.acquire(blocking=False):
            raise DktError(
                "another thread is within push(): expected one frame after the other, of one "
                "stream; take an estimator for each stream, or a lock"
            )
        try:
            return self._pushed(frame)
        finally:
            self._turn.release()

    def _pushed(self, frame: Frame) -> DepthEstimate | None:
        started = time.perf_counter()
        if self._continuity.is_duplicate(frame):
            if self._latest is not None and not _same_picture(frame, self._latest.frame):
                raise DktError(
                    f"frame of stamp {frame.stamp_ns} ns: another picture with this stamp came "
                    "just before; give each picture its own time (one call of frames_of for all "
                    "of a stream does), or reset() for another stream"
                )
            return self._latest
        self._latest = None
        flush = self._continuity.follow(frame)
        if flush is not None:
            self.predictor.reset()
            self._begin_anew(flush)
        spent = {"predict": 0.0, "align": 0.0}
        given = frame
        frame, suspicions = self._mended(given)
        answer = self._answer(frame, spent)
        if answer is None:
            return None
        fused, on_device = None, None
        if self._fuser is not None:
            verdict = self._consistency.update(
                given.rgb,
                frame.raw_depth,
                _thinned(answer.disparity),
                frame.stamp_ns,
                (answer.line.scale, answer.line.shift),
                self._seen,
                frame.intrinsics,
                given.raw_depth,
            )
            suspicions = verdict.suspicions + suspicions + self._cut_off(frame)
            answer, fused = self._fused(frame, answer, verdict.certain, spent)
            limited = fused.limited(*self.depth_range, self.min_confidence)
            if limited.shares.nothing == 1.0 > fused.shares.nothing:
                suspicions += (Suspicion("nothing left", self._nothing_left(), False),)
            fused = limited
            depth, alignment = fused.depth, self._judged(answer, fused, suspicions)
        else:
            alignment = self._judged_alone(answer)
            depth = align_depth(answer.disparity, answer.line, *self.depth_range)
            as_given = is_tensor(depth) and frame.rgb is given.rgb
            on_device = Pixels(depth, answer.prediction.rgb) if as_given else None
            depth = to_host(depth)
        total = time.perf_counter() - started
        spent["convert" if fused is None else "fuse"] = total - sum(spent.values())

        flush, self._pending_flush = self._pending_flush, None
        self._latest = DepthEstimate(
            frame=given,
            depth=depth,
            disparity=answer.disparity,
            alignment=alignment,
            flush=flush,
            timings_s=spent | {"total": total},
            window=answer.prediction.frames,
            line=answer.line,
            fused=fused,
            suspicions=suspicions,
            own_confidence=answer.prediction.confidence,
            on_device=on_device,
            normals=answer.prediction.normals,
        )
        return self._latest

    def reset(self) -> None:
        """Forgets every frame and the scale, as at the start of a stream."""
        self._forget()
        self._pending_flush = None

    def save(self) -> bytes | None:
        """What is remembered of the stream, for `restore`; None where it cannot be saved."""
        return snapshot.save(self._owners)

    def restore(self, saved: bytes) -> None:
        """Goes on, to the same bit, where an estimator that was loaded the same way was saved.

        The bytes are a pickle: take them from nobody but yourself. Raises DktError where they
        cannot be read or are of other code; nothing has changed then.
        """
        snapshot.load(self._owners, saved)

    def _mended(self, frame: Frame) -> tuple[Frame, tuple[Suspicion, ...]]:
        """The frame without what is no reading, its colours as by day; what tells of the former."""
        suspicions: tuple[Suspicion, ...] = ()
        if frame.raw_depth is not None:
            raw, suspicions = readings_alone(frame.raw_depth, self.config.fusion.max_raw_depth)
            frame = frame if raw is frame.raw_depth else replace(frame, raw_depth=raw)
        if (light := brightened(frame.rgb)) is not frame.rgb:
            frame = replace(frame, rgb=light)
        return frame, suspicions

    def _answer(self, frame: Frame, spent: dict[str, float]) -> _Answer | None:
        """What the network says of the next frame, aligned; an error forgets the stream.

        spent: seconds by part, to which its own are added.
        """
        started = time.perf_counter()
        try:
            prediction = checked_answer(self.predictor.push(self._shown(frame)), frame)
            if prediction is None:
                return None
            if prediction.restarted is not None:
                self._begin_anew(prediction.restarted)
            disparity = _as_disparity(prediction)
        except BaseException:
            # Neither what the stream holds by now nor its scale is good for the next frame.
            self._forget()
            raise
        predicted = time.perf_counter()
        if prediction.depth is None:
            line = self._aligner.update(
                disparity, frame.raw_depth, frame.stamp_ns, prediction.on_scale
            )
        else:
            line = metric_alignment(disparity, frame.raw_depth, self.config.alignment)
        spent["predict"] += predicted - started
        spent["align"] += time.perf_counter() - predicted
        return _Answer(prediction, disparity, line)

    def _shown(self, frame: Frame) -> Frame:
        """The frame without the readings that the frame before says not to show to a network."""
        doubted, raw = self._doubted, frame.raw_depth
        if doubted is None or raw is None:
            return frame
        kept = cv2.resize(1 - doubted, raw.shape[::-1], interpolation=cv2.INTER_NEAREST)
        shown = np.full(raw.shape, np.nan, np.float32)
        cv2.copyTo(raw, kept, shown)
        return replace(frame, raw_depth=shown)

    def _fused(
        self, frame: Frame, answer: _Answer, without_network: bool, spent: dict[str, float]
    ) -> tuple[_Answer, Fused]:
        """The depth, and the answer that it is made of: another one if the network looks again."""
        fused = self._fuse(frame, answer, without_network)
        begins = self._doubted is None and answer.prediction.frames == 1
        self._doubted = fused.doubted if answer.prediction.on_scale else None
        if begins and self._doubted is not None and self._doubted.any():
            # Nothing before had told what the network is not to be shown: it looks again.
            self.predictor.reset()
            if (again := self._answer(frame, spent)) is not None:
                answer = again
                fused = self._fuse(frame, answer, without_network)
                self._doubted = fused.doubted
        self._seen = fused.seen
        return answer, fused

    def _fuse(self, frame: Frame, answer: _Answer, without_network: bool) -> Fused:
        assert self._fuser is not None
        disparity = None if without_network else answer.disparity
        return self._fuser.fuse(
            frame.rgb,
            frame.raw_depth,
            disparity,
            answer.line,
            frame.stamp_ns,
            answer.prediction.on_scale,
        )

    @property
    def _owners(self) -> dict[str, Any]:
        owners = {"estimator": self, "predictor": self.predictor, "fuser": self._fuser}
        return {name: owner for name, owner in owners.items() if owner is not None}

    def _forget(self) -> None:
        self._continuity.reset()
        self._aligner.reset()
        self.predictor.reset()
        if self._fuser is not None:
            self._fuser.reset()
        self._consistency.reset()
        self._seen = self._doubted = None
        self._latest = None

    def _cut_off(self, frame: Frame) -> tuple[Suspicion, ...]:
        """Readings that are wanted, and that fusion's range leaves out."""
        (low, high), of = self.depth_range, self.config.fusion
        if frame.raw_depth is None or (low >= of.min_raw_depth and high <= of.max_raw_depth):
            return ()
        some = frame.raw_depth[::_CUT_STRIDE, ::_CUT_STRIDE]
        near = (some >= low) & (some < of.min_raw_depth)
        far = (some <= high) & (some > of.max_raw_depth)
        share = count_of(near | far) / some.size
        if share <= _MANY_CUT:
            return ()
        text = (
            f"{share:.0%} of the raw depth is in the wanted range of {low:g} .. {high:g} m but "
            f"outside {of.min_raw_depth:g} .. {of.max_raw_depth:g} m, beyond which readings are "
            "treated as unknown"
        )
        return (Suspicion("cut off", text, False),)

    def _nothing_left(self) -> str:
        low, high = self.depth_range
        return (
            f"of the depth that was found none is {low:g} .. {high:g} m far and sure by "
            f"{self.min_confidence:g}, as min_depth_m, max_depth_m and min_confidence ask for: "
            "nothing is published but NaN"
        )

    def _judged_alone(self, answer: _Answer) -> Alignment:
        """What is told of the network's depth by itself: of a metric one's, whether it is any."""
        line, needed = answer.line, self.config.alignment.min_inlier_ratio
        if answer.prediction.depth is None:
            return line
        if not bool(((answer.disparity > 0) & (answer.disparity < np.inf)).any()):
            nan, why = float("nan"), "it gives depth at no pixel: expected metres above 0"
            line = replace(line, scale=nan, shift=nan, uncertainty=np.inf)
            reason = "; ".join(filter(None, [line.reason, why]))
            return replace(line, state=AlignmentState.UNALIGNED, reason=reason)
        if np.isfinite(line.uncertainty) and line.inlier_ratio < needed:
            why = (
                f"{line.inlier_ratio:.0%} of the raw depth agrees with the network's own metric "
                f"depth: expected {needed:.0%}; is that in metres?"
            )
            return replace(line, state=AlignmentState.HELD, reason=why)
        return line

    def _judged(
        self, answer: _Answer, fused: Fused, suspicions: tuple[Suspicion, ...]
    ) -> Alignment:
        """What is told of fused depth: over all of it, not of the two-parameter line."""
        line, config = answer.line, self.config.alignment
        if fused.readings == 0 and fused.network_used:
            return self._judged_alone(answer)
        certain = "; ".join(one.text for one in suspicions if one.certain)
        if fused.readings == 0:
            nan, why = float("nan"), certain or line.reason or fused.reason
            unknown = replace(line, inliers=0, inlier_ratio=0.0, residual_m=nan, uncertainty=np.inf)
            return replace(unknown, state=AlignmentState.UNALIGNED, reason=why)
        share = fused.trusted / fused.readings
        state, reason = AlignmentState.OK, ""
        if not fused.network_used:
            state, reason = AlignmentState.SENSOR, certain or fused.reason
            if not certain and answer.prediction.depth is not None:
                reason = "; ".join(filter(None, [reason, self._judged_alone(answer).reason]))
        elif share < config.min_inlier_ratio:
            state = AlignmentState.HELD
            reason = (
                f"{share:.0%} of the raw depth is trusted: expected {config.min_inlier_ratio:.0%}"
            )
        elif min(fused.depth.shape) <= _SMALL and fused.expected_error > config.max_uncertainty:
            state = AlignmentState.HELD
            height, width = fused.depth.shape
            reason = (
                f"the images are {width}x{height}, too few pixels: depth is expected to be off by "
                f"{fused.expected_error:.0%}, expected {config.max_uncertainty:.0%}; have the "
                "driver send larger ones"
            )
        scale, shift = line.start or (line.scale, line.shift)
        return replace(
            line,
            scale=scale,
            shift=shift,
            inliers=fused.trusted,
            inlier_ratio=share,
            residual_m=fused.residual_m,
            uncertainty=fused.expected_error,
            state=state,
            reason=reason,
        )

    def _begin_anew(self, reason: FlushReason) -> None:
        if reason is FlushReason.RANGE:
            self._aligner.rescale()
        else:
            self._aligner.reset()
        if self._fuser is not None:
            self._fuser.reset()
        self._consistency.reset()
        self._seen = self._doubted = None
        self._pending_flush = reason


def load_estimator(
    options: PredictorOptions | None = None, config: EstimatorConfig | None = None, **changes: Any
) -> DepthEstimator:
    """A network and the estimator around it, by the node's own defaults.

    changes: fields of PredictorOptions, e.g. checkpoint="dkt-1.3b", mode="live". Raises DktError
    for what they name wrongly.
    """
    from dkt_ros.predict.load import load_predictor

    check_type("options", options, PredictorOptions | None)
    check_type("config", config, EstimatorConfig | None)
    known = [entry.name for entry in fields(PredictorOptions)]
    if unknown := changes.keys() - set(known):
        raise DktError(
            f"{', '.join(sorted(unknown))}: no field of PredictorOptions, expected "
            f"{', '.join(known)}; what happens after the network is said by EstimatorConfig"
        )
    options = replace(options or PredictorOptions(), **changes)
    forks.check_process(options.cpu_threads)
    return DepthEstimator(load_predictor(options), config)


_THINNED = 160, 288
_SMALL = 64  # px of a side, up to which a picture may be too small for the networks
_CUT_STRIDE, _MANY_CUT = 4, 0.02
"""Pixels between those that are looked at, and their share above which it is told."""


def _same_picture(one: Frame, other: Frame) -> bool:
    """Whether colour and raw depth are the same."""
    if one is other:
        return True
    if one.raw_depth is None or other.raw_depth is None:
        depths_agree = one.raw_depth is other.raw_depth
    else:
        depths_agree = np.array_equal(one.raw_depth, other.raw_depth, equal_nan=True)
    return depths_agree and np.array_equal(one.rgb, other.rgb)


def _thinned(disparity: Array) -> NDArray[np.float32]:
    """Every so many pixels of it, on the host."""
    step = max(1, min(n // wanted for n, wanted in zip(disparity.shape, _THINNED, strict=True)))
    return to_host(disparity[::step, ::step])


def _as_disparity(prediction: Prediction) -> Array:
    """Its disparity; raises DktError where a relative one is not finite."""
    disparity = prediction.as_disparity()
    if prediction.depth is not None:
        return disparity
    # A sum is not finite where one of its terms is not, and costs a quarter of asking each.
    xp = namespace(disparity)
    if not (bool(xp.isfinite(disparity.sum())) or bool(xp.isfinite(disparity).all())):
        raise DktError(
            "the network returned disparity that is not finite: expected numbers in [0, 1]; "
            "try another dtype (float32) or check the checkpoint"
        )
    return disparity
