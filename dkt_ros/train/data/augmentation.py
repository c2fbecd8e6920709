"""How one sample differs from its pictures: a cut-out, a mirror image, other colours.

Knows numbers and where they are drawn from. Knows nothing of data sets or networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dkt_ros.train.data.config import AugmentationConfig

AS_IT_IS = -1
"""In the place of a sensor's seed: no faults but its own."""
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """The changes of all frames of one clip; the default changes nothing.

    share: side of the cut-out, of the largest box of the training size's aspect ratio. top, left:
    its place between the pictures' edges, 0 to 1. flip: mirrored left to right.
    brightness, contrast, saturation: factors. hue: rotation in turns.
    sensor: seed of the faults of the raw depth, or AS_IT_IS; None: it is not shown.
    """

    share: float = 1.0
    top: float = 0.5
    left: float = 0.5
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    sensor: int | None = None

    def box(self, native: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the cut-out from native (height, width), of size's aspect ratio."""
        largest = min(native[0] / size[0], native[1] / size[1])
        height, width = (max(1, round(side * largest * self.share)) for side in size)
        top = round(self.top * (native[0] - height))
        left = round(self.left * (native[1] - width))
        return slice(top, top + height), slice(left, left + width)

    def colour(self, rgb: Tensor) -> Tensor:
        """(F, 3, H, W) in [0, 255] -> the same with other colours."""
        if (self.brightness, self.contrast, self.saturation, self.hue) == (1.0, 1.0, 1.0, 0.0):
            return rgb
        # Contrast is about the mean grey of the clip, lest frames flicker. Grey passes the matrix
        # unchanged, so that all is one linear map.
        mean = self.brightness * float(torch.tensor(_GREY) @ rgb.mean(dim=(0, 2, 3)))
        matrix = self.contrast * self.brightness * self._chroma()
        changed = torch.matmul(matrix.to(rgb), rgb.flatten(2)).view_as(rgb)
        return changed.add_((1.0 - self.contrast) * mean).clamp_(0.0, 255.0)

    def _chroma(self) -> Tensor:
        """(3, 3) that scales and turns colours about the grey axis and leaves grey alone."""
        turn = 2.0 * np.pi * self.hue
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        axis = torch.full((3, 3), 1.0 / 3.0, dtype=torch.float64)
        cross = torch.tensor(
            [[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], dtype=torch.float64
        )
        eye = torch.eye(3, dtype=torch.float64)
        rotation = cos * eye + sin / np.sqrt(3.0) * cross + (1.0 - cos) * axis  # Rodrigues
        grey = torch.tensor(_GREY, dtype=torch.float64).expand(3, 3)
        return (grey + self.saturation * (eye - grey)) @ rotation


def draw(
    config: AugmentationConfig, random: np.random.Generator, conditioned: float = 0.0
) -> Augmentation:
    """One set of changes; always as many draws, so that no setting shifts the others.

    conditioned: share of them in which raw depth is shown.
    """
    u, sensor = random.random(8), None
    if conditioned > 0:
        shown, seed = random.random() < conditioned, int(random.integers(2**32))
        sensor = seed if shown else None

    def factor(value: float, most: float) -> float:
        return 1.0 + (2.0 * value - 1.0) * most

    return Augmentation(
        share=float(config.crop + (1.0 - config.crop) * u[0]),
        top=float(u[1]),
        left=float(u[2]),
        flip=bool(config.flip and u[3] < 0.5),
        brightness=factor(float(u[4]), config.brightness),
        contrast=factor(float(u[5]), config.contrast),
        saturation=factor(float(u[6]), config.saturation),
        hue=(2.0 * float(u[7]) - 1.0) * config.hue,
        sensor=sensor,
    )
