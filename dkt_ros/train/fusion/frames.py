"""Rendered frames with raw depth and the embedded checkpoint's disparity, held in memory.

Knows TransPhy3D tars and where predicted disparity is kept, so that it is made once. Knows nothing
of augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import Aligner
from dkt_ros.datasets.dataset import UNSPLIT
from dkt_ros.datasets.sample import Sample
from dkt_ros.datasets.transphy3d import TransPhy3dClip
from dkt_ros.errors import DktError

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Relative disparity (T, H, W) of rgb (T, H, W, 3)."""


@dataclass(frozen=True, eq=False)
class TrainingFrame:
    """One frame, all (H, W).

    name       of its tar
    rgb        (H, W, 3) uint8
    disparity  1/raw depth, 1/m, 0 = no reading
    truth      1/true depth, 1/m, 0 = unknown
    classes    MaterialClass
    relative   the embedded checkpoint's disparity in [0, 1]
    scale, shift  of that disparity, as the aligner finds them; NaN where it does not
    """

    name: str
    rgb: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    truth: NDArray[np.float32]
    classes: NDArray[np.uint8]
    relative: NDArray[np.float32]
    scale: float
    shift: float


class FrameFolder:
    """The frames of a folder's tars, read once; `rescan` takes in those that have arrived since."""

    def __init__(
        self,
        folder: Path,
        predict: Predict,
        kept: Path,
        report: Callable[[str], None] = print,
        most: int | None = None,
    ) -> None:
        """kept: folder that predicted disparity is kept in. most: tars taken in at a time.

        Raises DktError where the folder is missing or holds no frame with raw depth.
        """
        if not folder.is_dir():
            raise DktError(f"{folder} is not a folder; expected rendered sequences (*.tar) in it")
        self.folder = folder
        self.frames: list[TrainingFrame] = []
        self._predict, self._kept, self._report, self._most = predict, kept, report, most
        self._seen: set[str] = set()
        self.rescan()
        if not self.frames:
            raise DktError(
                f"{folder} holds no usable sequence (*.tar); render some with `dkt synth render "
                "--raw-depth` first"
            )

    def rescan(self) -> int:
        """Reads tars not seen before; returns how many frames were added."""
        before = len(self.frames)
        fresh = [path for path in sorted(self.folder.glob("*.tar")) if path.name not in self._seen]
        for path in fresh[: self._most]:
            self._seen.add(path.name)
            try:
                self.frames.extend(self._read(path))
            except DktError as error:
                self._report(f"left out: {error}")
        return len(self.frames) - before

    def _read(self, path: Path) -> list[TrainingFrame]:
        clip = TransPhy3dClip(path, path.stem, UNSPLIT, is_video=True)
        samples = [clip.read(index, with_normal=False) for index in range(len(clip))]
        if any(sample.raw_depth is None for sample in samples):
            raise DktError(f"{path}: has no raw depth; render with --raw-depth")
        relative = self._disparity(path, samples)
        return [_frame(path.stem, *pair) for pair in zip(samples, relative, strict=True)]

    def _disparity(self, path: Path, samples: list[Sample]) -> NDArray[np.float16]:
        kept = self._kept / f"{path.stem}.npy"
        shape = (len(samples), *samples[0].depth.shape)
        if kept.is_file():
            stored = np.load(kept)
            if stored.shape == shape:
                return np.asarray(stored)
        pictures = [self._predict(sample.rgb[None])[0] for sample in samples]
        predicted = np.stack(pictures).astype(np.float16)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, predicted)
        partial.replace(kept)
        return predicted


def inverse(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """1/depth, 0 where it is unknown."""
    known = np.isfinite(depth) & (depth > 0)
    return np.divide(1.0, depth, out=np.zeros_like(depth), where=known)


def embedded_predictor() -> Predict:
    """The embedded checkpoint's disparity, picture by picture, at the size that the node takes."""
    from dkt_ros.frames import frames_of
    from dkt_ros.predict.load import load_predictor
    from dkt_ros.predict.options import PredictorOptions

    predictor = load_predictor(PredictorOptions(device="cpu"))

    def predict(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        pictures = (predictor.video([frame]) for frame in frames_of((one, None) for one in rgb))
        return np.concatenate(list(pictures))

    return predict


def _frame(name: str, sample: Sample, relative: NDArray[np.float16]) -> TrainingFrame:
    assert sample.raw_depth is not None
    wide = relative.astype(np.float32)
    alignment = Aligner().update(wide, sample.raw_depth)
    classes = np.zeros(wide.shape, np.uint8) if sample.mask is None else sample.mask
    return TrainingFrame(
        name=name,
        rgb=sample.rgb,
        disparity=inverse(sample.raw_depth),
        truth=inverse(sample.depth),
        classes=classes,
        relative=wide,
        scale=alignment.scale,
        shift=alignment.shift,
    )
