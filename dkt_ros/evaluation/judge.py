"""Depth, or normals, of one video against its truth: every figure of every region.

Knows which pixels count for what. Knows nothing of where a prediction comes from or what is done
with the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dkt_ros.evaluation.confidence import (
    ConfidenceErrors,
    calibration_error,
    frame_confidence_errors,
)
from dkt_ros.evaluation.metrics import DepthErrors, mean_of, video_errors
from dkt_ros.evaluation.normals import (
    NormalErrors,
    away_from_edges,
    frame_normal_errors,
    normals_of_depth,
)
from dkt_ros.evaluation.regions import region_masks
from dkt_ros.evaluation.temporal import temporal_errors
from dkt_ros.evaluation.videos import Video
from dkt_ros.geometry import is_reading

_NAN = float("nan")


@dataclass(frozen=True)
class Figures(ConfidenceErrors, NormalErrors, DepthErrors):
    """All that is measured in one region, NaN where it cannot be.

    Confidence is that of rows that tell one.
    tae: temporal alignment error as a share, over pixels whose true depth is known.
    """

    tae: float = _NAN

    @property
    def ece(self) -> float:
        """Expected calibration error of the confidence, from its bins."""
        return calibration_error(self.bin_confidence, self.bin_within)


class Judge:
    """Measures predictions for one video.

    truth: the video's, NaN also where it lies outside depth_range (metres). regions: name to
    boolean mask (T, H, W).
    """

    def __init__(
        self, video: Video, depth_range: tuple[float, float], with_normals: bool = True
    ) -> None:
        low, high = depth_range
        inside = is_reading(video.truth) & (video.truth >= low) & (video.truth <= high)
        self.truth = np.where(inside, video.truth, np.float32(np.nan))
        self.regions = region_masks(video.classes, video.truth.shape, video.reflective)
        self._video = video
        self._range = depth_range
        self._normals = video.normals if with_normals else None
        self._counting = {name: mask & inside for name, mask in self.regions.items()}

    def depth(
        self, depth: np.ndarray, confidence: np.ndarray | None = None, tolerance: float = _NAN
    ) -> dict[str, Figures]:
        """Figures of metric depth (T, H, W), clipped into the range; NaN where there is none.

        confidence: (T, H, W) in 0..1, the probability that the relative error is below tolerance.
        """
        depth = np.clip(depth, *self._range)
        tae = self._tae(depth)
        normals = self._normals_of(depth)
        return {
            name: Figures(
                **vars(video_errors(depth, self.truth, mask)),
                **vars(normals[name]),
                **vars(self._confidence(depth, confidence, mask, tolerance)),
                tae=tae[name],
            )
            for name, mask in self.regions.items()
        }

    def normals(self, normals: np.ndarray) -> dict[str, Figures]:
        """Figures of unit vectors (T, H, W, 3), at depth edges too; NaN without true normals."""
        if self._normals is None:
            return {name: Figures() for name in self.regions}
        errors = self._normal_errors(normals, self._counting)
        return {name: Figures(**vars(errors[name])) for name in self.regions}

    def floor(self) -> dict[str, Figures] | None:
        """TAE and normals of the true depth itself; None where neither can be computed."""
        tae, normals = self._tae(self.truth), self._normals_of(self.truth)
        if np.isnan(tae["all"]) and np.isnan(normals["all"].mean_deg):
            return None
        return {name: Figures(**vars(normals[name]), tae=tae[name]) for name in self.regions}

    def _confidence(
        self, depth: np.ndarray, confidence: np.ndarray | None, mask: np.ndarray, tolerance: float
    ) -> ConfidenceErrors:
        if confidence is None:
            return ConfidenceErrors()
        frames = zip(depth, self.truth, confidence, mask, strict=True)
        return mean_of(
            ConfidenceErrors, (frame_confidence_errors(*frame, tolerance) for frame in frames)
        )

    def _tae(self, depth: np.ndarray) -> dict[str, float]:
        cameras, poses = self._video.camera_matrices, self._video.world_to_camera
        # Frames that a method passed over are no neighbours: those on both sides of them are.
        given = np.isfinite(depth).any(axis=(1, 2))
        if cameras is None or poses is None or given.sum() < 2:
            return dict.fromkeys(self.regions, _NAN)
        masks = {name: mask[given] for name, mask in self._counting.items()}
        return temporal_errors(depth[given], cameras[given], poses[given], masks)

    def _normals_of(self, depth: np.ndarray) -> dict[str, NormalErrors]:
        cameras = self._video.camera_matrices
        if self._normals is None or cameras is None:
            return {name: NormalErrors() for name in self.regions}
        masks = {name: mask & self._smooth for name, mask in self._counting.items()}
        pairs = zip(depth, cameras, strict=True)
        return self._normal_errors(np.stack([normals_of_depth(*pair) for pair in pairs]), masks)

    @cached_property
    def _smooth(self) -> np.ndarray:
        """(T, H, W) bool: where the true depth itself has a normal and lies on one surface."""
        cameras = self._video.camera_matrices
        assert cameras is not None
        return np.stack(
            [
                away_from_edges(depth) & normals_of_depth(depth, camera).any(axis=-1)
                for depth, camera in zip(self.truth, cameras, strict=True)
            ]
        )

    def _normal_errors(
        self, normals: np.ndarray, masks: dict[str, np.ndarray]
    ) -> dict[str, NormalErrors]:
        truth = self._normals
        assert truth is not None
        return {
            name: mean_of(
                NormalErrors,
                (frame_normal_errors(*frame) for frame in zip(normals, truth, mask, strict=True)),
            )
            for name, mask in masks.items()
        }
