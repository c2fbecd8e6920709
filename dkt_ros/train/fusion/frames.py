"""Rendered frames with raw depth and a checkpoint's disparity, held in memory.

Knows TransPhy3D tars and where predicted disparity is kept, so that it is made once. A network that
is shown raw depth follows its faults: it is shown several failings of each frame's. Knows nothing
of other augmentation.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dkt_ros.alignment.aligner import Aligner
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.files import whole_file
from dkt_ros.formats.numpy_files import ONLY, arrays_in
from dkt_ros.geometry import disparity_of
from dkt_ros.progress import Report
from dkt_ros.train.sensor import BETTER, failing, without_behind
from dkt_ros.train.small import TarFolder, samples_of

_SMALLEST = 16
"""Pixels of a side, of which crops are taken and pieces fail."""
Float32 = NDArray[np.float32]
Predict = Callable[[NDArray[np.uint8], Float32], Float32]
"""Relative disparity (H, W) of rgb (H, W, 3) and raw depth (H, W), metres, 0 or NaN = unknown."""


@dataclass(frozen=True, eq=False)
class TrainingFrame:
    """One frame, all (H, W).

    name       of its tar
    rgb        (H, W, 3) uint8
    disparity  1/raw depth, 1/m, 0 = no reading
    truth      1/true depth, 1/m, 0 = unknown
    classes    MaterialClass
    relative   the checkpoint's disparity
    scale, shift  of that disparity, as the aligner finds them; NaN where it does not
    beside     readings, 1/m, 0 = none, of a network that is shown some; None where it sees none
    """

    name: str
    rgb: NDArray[np.uint8]
    disparity: Float32
    truth: Float32
    classes: NDArray[np.uint8]
    relative: Float32
    scale: float
    shift: float
    beside: Float32 | None = None


@dataclass(frozen=True, eq=False)
class _Look:
    """What a network is asked of a frame: the readings, and those of them that it is shown, 1/m."""

    sample: Sample
    readings: Float32
    shown: Float32


class FrameFolder(TarFolder[TrainingFrame]):
    """The frames of a folder's tars."""

    MADE_BY = "dkt synth render --raw-depth"

    def __init__(
        self,
        folder: Path,
        predict: Predict,
        kept: Path,
        report: Report = print,
        failings: int = 0,
        better: float = BETTER,
    ) -> None:
        """kept: folder that predicted disparity is kept in.

        failings: in so many ways each frame's readings fail before the network is shown them, as
        they are being one; from 2 on it is asked again each time. 0 for a network that is shown
        none. better: see sensor.failing.

        Raises DktError where the folder is missing or holds no frame with raw depth.
        """
        self._predict, self._kept = predict, kept
        self._failings, self._better = failings, better
        super().__init__(folder, report)

    @property
    def frames(self) -> list[TrainingFrame]:
        """All of them."""
        return self.items

    def read(self, path: Path) -> list[TrainingFrame]:
        """See TarFolder."""
        samples = samples_of(path)
        if any(sample.raw_depth is None for sample in samples):
            raise DktError(f"{path}: has no raw depth; render with --raw-depth")
        height, width = samples[0].depth.shape
        if min(height, width) < _SMALLEST:
            raise DktError(f"{path}: pictures of {height}x{width}, expected {_SMALLEST} or more")
        self.look_at(samples[0])
        looks = list(self._looks(path.stem, samples))
        follows = self._failings > 0
        return [
            _frame(path.stem, look.sample, relative, look.readings, follows)
            for look, relative in zip(looks, self._disparity(path, looks), strict=True)
        ]

    def _looks(self, name: str, samples: list[Sample]) -> Iterator[_Look]:
        """What the network is asked: once for each frame, or once for each way it fails and again.

        Again without most of what lies behind the truth, as in a stream, where the network is not
        shown what was not trusted. Its answer is seen beside all readings both times.
        """
        for index, sample in enumerate(samples):
            assert sample.raw_depth is not None
            truth = disparity_of(sample.depth)
            for number in range(max(1, self._failings)):
                rng = np.random.default_rng([zlib.crc32(os.fsencode(name)), index, number])
                readings = disparity_of(sample.raw_depth)
                if number > 0:
                    readings = failing(readings, truth, _classes(sample), rng, self._better)
                yield _Look(sample, readings, readings)
                if self._failings > 1:
                    yield _Look(sample, readings, without_behind(readings, truth, rng))

    def _disparity(self, path: Path, looks: list[_Look]) -> NDArray[np.float16]:
        kept = self._kept / f"{path.stem}.npy"
        shape = (len(looks), *looks[0].readings.shape)
        # Disparity that cannot be read is made again.
        with suppress(DktError), arrays_in(kept) as content:
            if content[ONLY].shape == shape:
                return content[ONLY].astype(np.float16, copy=False)
        pictures = [self._predict(look.sample.rgb, disparity_of(look.shown)) for look in looks]
        predicted = np.stack(pictures).astype(np.float16)
        with whole_file(kept) as file:
            np.save(file, predicted)
        return predicted


def _classes(sample: Sample) -> NDArray[np.uint8]:
    return np.zeros(sample.depth.shape, np.uint8) if sample.mask is None else sample.mask


def checkpoint_predictor(
    checkpoint: str | Path = "", show_depth: bool = True
) -> tuple[Predict, bool]:
    """A checkpoint's disparity (default: the embedded one's), picture by picture, at its own size.

    Also whether it is shown the raw depth: if it can be, and show_depth. Raises DktError as
    load_predictor does.
    """
    from dkt_ros.frames import frames_of
    from dkt_ros.predict.dkt import DktPredictor
    from dkt_ros.predict.load import load_predictor
    from dkt_ros.predict.options import PredictorOptions

    predictor = load_predictor(PredictorOptions(device="cpu", checkpoint=checkpoint))

    def predict(rgb: NDArray[np.uint8], raw_depth: Float32) -> Float32:
        shown = raw_depth if show_depth else np.zeros_like(raw_depth)
        return np.asarray(predictor.video(list(frames_of([(rgb, shown)])))[0], np.float32)

    return predict, show_depth and isinstance(predictor, DktPredictor) and predictor.sees_depth


def _frame(
    name: str, sample: Sample, relative: NDArray[np.float16], readings: Float32, follows: bool
) -> TrainingFrame:
    assert sample.raw_depth is not None
    wide = relative.astype(np.float32)
    alignment = Aligner().update(wide, disparity_of(readings), on_scale=follows)
    return TrainingFrame(
        name=name,
        rgb=sample.rgb,
        disparity=disparity_of(sample.raw_depth),
        truth=disparity_of(sample.depth),
        classes=_classes(sample),
        relative=wide,
        scale=alignment.scale,
        shift=alignment.shift,
        beside=readings if follows else None,
    )
