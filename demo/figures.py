"""Numbers of a demonstration: depth errors against truth, coverage, latency.

Knows received and recorded frames. Knows nothing of processes, files or pictures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from demo.received import Received, Reception
from demo.recorded import RecordedFrame
from dkt_ros.evaluation.baselines import raw
from dkt_ros.evaluation.metrics import DepthErrors, frame_errors, mean_of
from dkt_ros.geometry import is_reading, nearest_fill
from dkt_ros.messages.images import DepthImage

RAW, DKT, NEAREST = "raw sensor depth", "/dkt/depth (fused)", "raw, holes filled (nearest)"
TRUSTED = "/dkt/depth, the half trusted most"
_ORDER = (RAW, DKT, TRUSTED, NEAREST)
ALL, OBJECTS, REST = "all", "transparent and reflective", "the rest"


@dataclass
class Comparison:
    """Errors of DKT and of what one has without it, gathered frame by frame.

    errors: pixels -> method -> one entry per frame, over the pixels whose truth is known.
    coverage: method -> share of all pixels with a depth, one entry per frame.
    """

    errors: dict[str, dict[str, list[DepthErrors]]] = field(default_factory=dict)
    coverage: dict[str, list[float]] = field(default_factory=dict)

    def add(
        self, recorded: RecordedFrame, dkt_depth: DepthImage, confidence: DepthImage | None
    ) -> dict[str, str]:
        """Takes one frame: what the bag holds of it, the node's depth and confidence, all (H, W).

        Returns method -> a note for people on how this frame fared.
        """
        methods = {DKT: dkt_depth}
        if recorded.raw_depth is not None:
            methods[RAW] = raw(recorded.raw_depth)
            methods[NEAREST] = nearest_fill(recorded.raw_depth)
        for method, depth in methods.items():
            self.coverage.setdefault(method, []).append(float(is_reading(depth).mean()))
        notes = {method: f"{shares[-1]:.0%} of pixels" for method, shares in self.coverage.items()}
        if confidence is not None and np.isfinite(confidence).any():
            notes[TRUSTED] = f"mean {np.nanmean(confidence):.2f}"
        if recorded.truth is None:
            return notes
        for pixels, chosen in _regions(recorded).items():
            if pixels == OBJECTS and confidence is not None:
                counted = chosen & is_reading(recorded.truth)
                methods[TRUSTED] = _trusted_half(dkt_depth, confidence, counted)
            table = self.errors.setdefault(pixels, {})
            for method in (method for method in _ORDER if method in methods):
                errors = frame_errors(methods[method], recorded.truth, chosen)
                table.setdefault(method, []).append(errors)
                if pixels == OBJECTS and errors.coverage >= 0.0:
                    notes[method] = _note(method, errors)
            methods.pop(TRUSTED, None)
        return notes

    def means(self) -> dict[str, dict[str, DepthErrors]]:
        """Errors by pixels and method, averaged over the frames."""
        return {
            pixels: {method: mean_of(DepthErrors, errors) for method, errors in table.items()}
            for pixels, table in self.errors.items()
        }

    def mean_coverage(self) -> dict[str, float]:
        """Share of all pixels with a depth by method, averaged over the frames."""
        return {method: float(np.mean(shares)) for method, shares in self.coverage.items()}


def latencies(frames: Iterable[Received]) -> dict[str, dict[str, float]]:
    """What -> median, 95th percentile and maximum in seconds, of those that came."""
    series: dict[str, list[float]] = {}
    for frame in frames:
        measured = {
            "depth, camera to planner": frame.depth_s,
            "points, camera to planner": frame.points_s,
            **{f"in the node: {name}": s for name, s in (frame.stages_s or {}).items()},
        }
        for name, seconds in measured.items():
            if seconds is not None:
                series.setdefault(name, []).append(seconds)
    return {name: _spread(values) for name, values in series.items()}


def summary(reception: Reception, frames_in_bag: int, comparison: Comparison) -> dict[str, Any]:
    """Everything as plain JSON values; NaN as None."""
    answered = reception.answered
    means = comparison.means()
    return {
        "frames": {
            "in_bag": frames_in_bag,
            "answered": len(answered),
            "with_depth": len(reception.with_depth),
            "dropped": max(0, frames_in_bag - len(answered)),
            "incomplete": len(reception.incomplete),
            "clouds": sum(frame.points is not None for frame in reception.frames),
            "compared_with_truth": len(next(iter(comparison.errors.get(ALL, {"": []}).values()))),
        },
        "alignment": dict(Counter(_state(frame) for frame in answered).most_common()),
        "reasons": reasons_of(answered),
        "shares": {
            "sensor": _mean(frame.share_sensor for frame in answered),
            "network": _mean(frame.share_network for frame in answered),
        },
        "errors": {
            pixels: {method: _plain(asdict(errors)) for method, errors in table.items()}
            for pixels, table in means.items()
        },
        "coverage": comparison.mean_coverage(),
        "latency_s": latencies(reception.frames),
        "per_frame": [asdict(frame) for frame in reception.frames],
    }


def reasons_of(frames: Iterable[Received]) -> list[dict[str, Any]]:
    """Why frames were not OK: state, reason and number of frames, the most frequent first.

    Reasons that differ in their figures alone are one; the first of them speaks for all.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for frame in frames:
        if frame.reason:
            key = (frame.state, re.sub(r"\d+([.,]\d+)*", "#", frame.reason))
            entry = {"state": _state(frame), "reason": frame.reason, "frames": 0}
            found.setdefault(key, entry)["frames"] += 1
    return sorted(found.values(), key=lambda entry: -entry["frames"])


def _state(frame: Received) -> str:
    return frame.state or "unknown"


def _mean(shares: Iterable[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None


def _trusted_half(
    depth: DepthImage, confidence: DepthImage, chosen: npt.NDArray[np.bool_]
) -> DepthImage:
    """depth in the half of the chosen pixels (those that have depth) trusted most, else NaN."""
    candidates = np.flatnonzero(chosen & is_reading(depth) & np.isfinite(confidence))
    order = np.argsort(-confidence.ravel()[candidates], kind="stable")
    kept = candidates[order[: len(order) // 2]]
    half = np.full_like(depth, np.nan)
    half.flat[kept] = depth.flat[kept]
    return half


def _regions(recorded: RecordedFrame) -> dict[str, npt.NDArray[np.bool_]]:
    assert recorded.truth is not None
    everything = np.ones(recorded.truth.shape, np.bool_)
    if recorded.mask is None:
        return {ALL: everything}
    objects = recorded.mask > 0
    return {ALL: everything, OBJECTS: objects, REST: ~objects}


def _note(method: str, errors: DepthErrors) -> str:
    if not np.isfinite(errors.rel):
        return "objects: no depth at all"
    if method == TRUSTED:
        return f"objects: the half trusted most is off by {errors.rel:.1%}"
    return f"objects: depth on {errors.coverage:.0%}, off by {errors.rel:.1%}"


def _spread(values: Sequence[float]) -> dict[str, float]:
    median, high = np.percentile(values, [50, 95])
    return {"median": float(median), "p95": float(high), "max": float(max(values))}


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}
