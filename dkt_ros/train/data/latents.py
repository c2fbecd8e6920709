"""What the trainer learns from: batches of encoded clips, and who hands them out.

Knows shapes and who may ask for what. Knows nothing of data sets, networks or caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class LatentBatch:
    """B clips of n latent frames (4n - 3 images) as the frozen VAE sees them.

    rgb, disparity: (B, Z, n, h, w) float32, normalised latents; h = H/8, w = W/8. rgb has 2 Z
    channels where the network is shown raw depth, whose latents come behind, zero where dropped.
    weight: (B, 1, n, h, w) float32 in [0, 1], share of the pixels behind a latent whose true depth
    is known; the loss is masked with it.
    """

    rgb: Tensor
    disparity: Tensor
    weight: Tensor


class LatentSource(Protocol):
    """Hands out training samples; needs no state to resume or to be shared among processes."""

    def batch(self, step: int, indices: Sequence[int], latent_frames: int) -> LatentBatch:
        """Samples `indices` (positions 0 to global batch - 1) of optimiser step `step`.

        A pure function of (recipe seed, step, index, latent_frames) and of the data on disk: rank
        r of R simply asks for its share of the indices, in as many calls as it likes.

        Raises DktError where the sources have nothing usable left for such a clip.
        """
