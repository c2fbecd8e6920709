"""What the training of small networks is told and reads: fields of recipes, folders of tars.

Knows nothing of networks, steps or weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import cv2
import numpy as np

from dkt_ros.checks import check
from dkt_ros.datasets.dataset import UNSPLIT
from dkt_ros.datasets.plausibility import Suspects
from dkt_ros.datasets.sample import Sample
from dkt_ros.datasets.transphy3d import TransPhy3dClip
from dkt_ros.errors import DktError
from dkt_ros.files import StorageError, shown
from dkt_ros.progress import Report
from dkt_ros.train.fields import above_zero, at_least

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    """Of a run from the first step to the last.

    warmup_steps: first steps, over which the learning rate rises. decay_steps: last steps, over
    which it falls to 2%. ema: decay of the averaged weights, which are what is saved. bfloat16:
    layers compute in it, which is faster where the processor knows it; weights stay float32.
    save_every, rescan_every: in steps.
    """

    seed: int = 1
    warmup_steps: int = 100
    decay_steps: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema: float = 0.998
    bfloat16: bool = False
    save_every: int = 100
    rescan_every: int = 100

    def __post_init__(self) -> None:
        at_least(1, self, "save_every", "rescan_every")
        at_least(0, self, "seed", "warmup_steps", "decay_steps", "weight_decay")
        above_zero(self, "learning_rate", "gradient_clip")
        check("ema", self.ema, "in [0, 1)", 0 <= self.ema < 1)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        raise NotImplementedError


class TarFolder(ABC, Generic[Item]):
    """The tars of a folder, read once; `rescan` takes in those that have arrived since.

    MADE_BY: the command that renders such; `dkt pack` makes them of recordings.
    """

    MADE_BY: ClassVar[str] = "dkt synth render"

    def __init__(self, folder: Path, report: Report = print) -> None:
        """report: called with a line for every tar that is left out, and for what looks wrong.

        Raises DktError where the folder is missing or holds no usable sequence.
        """
        if not folder.is_dir():
            raise DktError(f"{folder} is not a folder; expected sequences (*.tar) in it")
        self.folder = folder
        self.items: list[Item] = []
        self._seen: set[str] = set()
        self._report, self._suspects = report, Suspects()
        self.rescan()
        if not self.items:
            raise DktError(
                f"{folder} holds no usable sequence (*.tar); render some with `{self.MADE_BY}` "
                "first, or make them of recordings with the truth by `dkt pack`"
            )

    @abstractmethod
    def read(self, path: Path) -> Sequence[Item]:
        """What a tar holds. Raises DktError where it is left out."""

    def look_at(self, sample: Sample) -> None:
        """Reports what a tar's first frame gives away as wrong, each kind once."""
        for line in self._suspects.of_learned(sample):
            self._report(f"note: {line}")

    def rescan(self) -> int:
        """Reads tars not seen before; returns how many items were added."""
        before = len(self.items)
        for path in sorted(shown(self.folder, "*.tar")):
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            try:
                self.items.extend(self.read(path))
            except StorageError:  # which the next one would meet as well
                raise
            except DktError as error:
                self._report(f"left out: {error}")
        return len(self.items) - before


def samples_of(path: Path) -> list[Sample]:
    """All frames of a tar, of one size. DktError where one cannot be read or is of another size."""
    clip = TransPhy3dClip(path, path.stem, UNSPLIT, is_video=True)
    samples = [clip.read(index, with_normal=False) for index in range(len(clip))]
    sizes = {sample.depth.shape for sample in samples}
    if len(sizes) > 1:
        found = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise DktError(f"{path}: frames of several sizes {found}, expected one")
    return samples


def resized(
    image: np.ndarray, size: tuple[int, int], flip: bool, nearest: bool = True
) -> np.ndarray:
    """An image (H, W, ...) at (height, width), mirrored or not; nearest: values are not mixed."""
    image = np.ascontiguousarray(image[:, ::-1] if flip else image)
    if image.shape[:2] == size:
        return image
    smooth = cv2.INTER_AREA if image.shape[0] > size[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST if nearest else smooth)
