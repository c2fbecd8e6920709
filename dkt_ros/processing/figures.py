"""What is told of one frame in numbers. Knows estimates and truth; nothing of files."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import align_depth
from dkt_ros.arrays import to_host
from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.estimator import DepthEstimate
from dkt_ros.evaluation.metrics import frame_errors
from dkt_ros.evaluation.regions import OBJECTS
from dkt_ros.fusion.fused import Source
from dkt_ros.geometry import is_reading

_STRIDE = 4
"""One pixel in so many, a side, is enough to tell how far network and sensor agree."""


def frame_figures(index: int, labelled: LabelledFrame, estimate: DepthEstimate) -> dict[str, Any]:
    """Plain JSON values, None where there is none; shares and relative errors in 0..1.

    picture: the colour picture's name, or its number in a video. network_rel: median |network -
    raw| / raw where the raw depth is trusted. errors, raw_errors: against the truth, by region.
    timings_s: by stage.
    """
    alignment, shares = estimate.alignment, estimate.shares
    raw = labelled.frame.raw_depth
    confidence = estimate.confidence
    found = {
        "index": index,
        "stamp_ns": labelled.frame.stamp_ns,
        "picture": labelled.picture or None,
        "state": alignment.state.name,
        "reason": alignment.reason,
        "flush": None if estimate.flush is None else estimate.flush.value,
        "suspicions": [one.text for one in estimate.suspicions],
        "coverage": float(is_reading(estimate.depth).mean()),
        "raw_coverage": None if raw is None else float(is_reading(raw).mean()),
        "share_sensor": shares.sensor,
        "share_network": shares.network,
        "scale": alignment.scale,
        "shift": alignment.shift,
        "inlier_ratio": alignment.inlier_ratio,
        "residual_m": alignment.residual_m,
        "uncertainty": alignment.uncertainty,
        "confidence": None if confidence is None else float(np.nanmean(confidence)),
        "network_rel": network_error(labelled, estimate),
        "window": estimate.window,
        "timings_s": estimate.timings_s,
        "errors": _errors(estimate.depth, labelled),
        "raw_errors": {} if raw is None else _errors(raw, labelled),
    }
    return plain(found)


def network_error(labelled: LabelledFrame, estimate: DepthEstimate) -> float | None:
    """Median relative difference of the network's own depth and the trusted raw depth."""
    raw, line = labelled.frame.raw_depth, estimate.line or estimate.alignment
    if raw is None or not np.isfinite(line.scale):
        return None
    every = slice(None, None, _STRIDE)
    raw = raw[every, every]
    own = to_host(align_depth(estimate.disparity[every, every], line, 0.01, 1000.0))
    used = is_reading(raw) & is_reading(own)
    if estimate.fused is not None:
        used &= estimate.source[every, every] == Source.SENSOR
    return float(np.median(np.abs(own[used] - raw[used]) / raw[used])) if used.any() else None


def score(figures: dict[str, Any]) -> float:
    """How bad a frame is, larger is worse: error on the objects, or all, or what is expected."""
    for region in (OBJECTS, "all"):
        rel = figures["errors"].get(region, {}).get("rel")
        if rel is not None:
            return float(rel)
    expected = figures["uncertainty"]
    return 1.0 if expected is None else min(float(expected), 1.0)


def plain(value: Any) -> Any:
    """The same as JSON can hold it: None for NaN and infinities."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _errors(depth: NDArray[np.float32], labelled: LabelledFrame) -> dict[str, dict[str, float]]:
    if labelled.truth is None:
        return {}
    regions = {"all": np.ones(depth.shape, bool)}
    if labelled.mask is not None and labelled.mask.any():
        regions |= {OBJECTS: labelled.mask > 0, "rest": labelled.mask == 0}
    return {name: asdict(frame_errors(depth, labelled.truth, m)) for name, m in regions.items()}
