"""Small pictures of some frames, for reports: evenly chosen ones and the worst, few in any case."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.colors import colored
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate
from dkt_ros.files import shown
from dkt_ros.formats.numpy_files import arrays_in
from dkt_ros.formats.pictures import encoded
from dkt_ros.geometry import backproject, is_reading, known_points

EVEN, WORST = 60, 12
_WIDTH = 320
_POINTS = 4000
ERROR_SCALE = 0.1
"""Relative error that the error map shows in its last colour."""
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 82)
UNKNOWN = 40
"""Grey of pixels without a value."""


class Previews:
    """Files INDEX.npz in a folder: an even choice of at most 2 * EVEN frames and the WORST."""

    def __init__(self, folder: Path, state: dict[str, Any] | None = None) -> None:
        """state: as an earlier run left it."""
        self._folder = folder
        self.state = state or {"stride": 1, "even": [], "worst": [], "range": None}
        for index, file in preview_files(folder).items():
            if index not in self._kept():
                file.unlink()

    def add(
        self, index: int, score: float, labelled: LabelledFrame, estimate: DepthEstimate
    ) -> list[Path]:
        """Offers a frame and returns what was written; score: larger is worse."""
        state = self.state
        even = index % state["stride"] == 0
        lowest = min(state["worst"], default=(0.0, -1))
        worst = len(state["worst"]) < WORST or score > lowest[0]
        if not (even or worst):
            return []
        if state["range"] is None:
            state["range"] = _depth_range(labelled, estimate)
        file = self._folder / f"{index:07d}.npz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(_content(labelled, estimate, state["range"]))
        before = self._kept()
        if even:
            state["even"].append(index)
            if len(state["even"]) > 2 * EVEN:
                state["stride"] *= 2
                state["even"] = [one for one in state["even"] if one % state["stride"] == 0]
        if worst:
            state["worst"] = sorted([*map(tuple, state["worst"]), (score, index)])[-WORST:]
        for gone in before - self._kept():
            (self._folder / f"{gone:07d}.npz").unlink(missing_ok=True)
        return [file]

    def _kept(self) -> set[int]:
        return {*self.state["even"], *(index for _, index in self.state["worst"])}


def preview_files(folder: Path) -> dict[int, Path]:
    """Of a folder of previews, by the frame's index; others' files are passed over."""
    return {int(file.stem): file for file in shown(folder, "*.npz") if file.stem.isdecimal()}


def read_preview(file: Path) -> dict[str, Any]:
    """Encoded JPEGs (bytes) of color, raw, depth, confidence, error where known; points, colors.

    Raises DktError where it cannot be read, or lacks what each has.
    """
    with arrays_in(file) as content:
        found: dict[str, Any] = {name: content[name] for name in content}
    arrays = {"points", "colors"}
    if missing := {"color", "depth", *arrays} - found.keys():
        raise DktError(
            f"{file}: has no {', '.join(sorted(missing))}: damaged, or another version's; process "
            "the recording again with --overwrite"
        )
    return {name: one if name in arrays else one.tobytes() for name, one in found.items()}


def _content(labelled: LabelledFrame, estimate: DepthEstimate, depth_range: list[float]) -> bytes:
    frame = labelled.frame
    height, width = frame.rgb.shape[:2]
    low, high = depth_range
    scale = min(1.0, _WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def small(values: NDArray[Any]) -> NDArray[Any]:
        return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST)

    depth = small(estimate.depth)
    raw = None if frame.raw_depth is None else small(frame.raw_depth)
    pictures: dict[str, NDArray[Any]] = {
        "color": cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA),
        "depth": colored(depth, low, high, UNKNOWN),
    }
    if raw is not None:
        pictures["raw"] = colored(raw, low, high, UNKNOWN)
    if estimate.confidence is not None:
        confidence = small(estimate.confidence)
        pictures["confidence"] = colored(confidence, 0.0, 1.0, UNKNOWN, cv2.COLORMAP_VIRIDIS)
    reference = small(labelled.truth) if labelled.truth is not None else raw
    if reference is not None:
        known = is_reading(depth) & is_reading(reference)
        error = np.full(depth.shape, np.nan, np.float32)
        error[known] = np.abs(depth[known] - reference[known]) / reference[known]
        pictures["error"] = colored(error, 0.0, ERROR_SCALE, UNKNOWN, cv2.COLORMAP_INFERNO)
    if labelled.truth is not None:
        pictures["truth"] = colored(small(labelled.truth), low, high, UNKNOWN)
    points, colors = known_points(backproject(estimate.depth, frame.intrinsics), frame.rgb)
    assert colors is not None  # they were given
    every = max(1, len(points) // _POINTS)
    stream = BytesIO()
    np.savez(
        stream,
        points=np.clip(np.rint(points[::every] * 1e3), -32768, 32767).astype(np.int16),
        colors=np.asarray(colors[::every], np.uint8),
        **{
            name: np.frombuffer(encoded(".jpg", picture, *_JPEG), np.uint8)
            for name, picture in pictures.items()
        },
    )
    return stream.getvalue()


def _depth_range(labelled: LabelledFrame, estimate: DepthEstimate) -> list[float]:
    """What most of the first frame's depth lies in, metres; it holds for the recording."""
    maps = [estimate.depth, labelled.frame.raw_depth, labelled.truth]
    known = [one[is_reading(one)] for one in maps if one is not None]
    values = np.concatenate(known) if known else np.empty(0, np.float32)
    if not len(values):
        return [0.2, 2.0]
    low, high = np.percentile(values, (1, 99)).tolist()
    return [0.95 * low, 1.05 * high]
