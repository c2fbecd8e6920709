"""Words in pictures of floats, which OpenCV 5 writes into no more. Knows OpenCV's letters alone."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def write_words(
    picture: NDArray[np.float32],
    words: str,
    at: tuple[int, int],
    size: float,
    colour: Sequence[float] | NDArray[np.float64],
    thick: int,
    font: int = cv2.FONT_HERSHEY_SIMPLEX,
) -> None:
    """Into (H, W, 3), with hard rims as OpenCV 4 does; at: x and y of their lower left corner."""
    ink = np.zeros(picture.shape[:2], np.uint8)
    cv2.putText(ink, words, at, font, size, [255], thick)
    picture[ink > 127] = colour
