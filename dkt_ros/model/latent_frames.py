"""How a clip's images fall into latent frames: the first is one of its own, then come four each.

Imports no deep learning library.
"""

from __future__ import annotations

import numpy as np

FRAMES_PER_LATENT = 4


def images_of(latent_frames: int) -> int:
    """Images of a clip of so many latent frames."""
    return 1 + (latent_frames - 1) * FRAMES_PER_LATENT


def latents_of(images: int) -> int:
    """Latent frames of a clip of so many images, of which the last may be filled up."""
    return 1 + -(-(images - 1) // FRAMES_PER_LATENT)


def chunk_spans(frames: int) -> list[tuple[int, int]]:
    """Half-open spans of the frames of each latent: the first frame, then four at a time."""
    starts = range(1, frames, FRAMES_PER_LATENT)
    return [(0, 1), *((start, min(start + FRAMES_PER_LATENT, frames)) for start in starts)]


def pad_chunk(images: np.ndarray, start: int) -> np.ndarray:
    """Repeats the last of a chunk's images (T, H, W, ...) until the chunk is whole.

    start: the chunk's first frame in the clip; the chunk that starts at 0 is one frame.
    """
    missing = (1 if start == 0 else FRAMES_PER_LATENT) - len(images)
    return np.concatenate([images, *([images[-1:]] * missing)]) if missing else images
