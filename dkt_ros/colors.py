"""Numbers as colours, for pictures that people look at. Knows OpenCV's colour maps alone."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def colored(
    values: NDArray[np.floating],
    low: float,
    high: float,
    unknown: int = 0,
    colormap: int = cv2.COLORMAP_TURBO,
) -> NDArray[np.uint8]:
    """(H, W) -> (H, W, 3) RGB, low blue and high red; the grey `unknown` where not finite.

    So near is blue in all pictures of depth, as in rerun and Foxglove, and red in disparity's.
    What lies beyond the range has the colour of its end.
    """
    steps = (values - np.float32(low)) * np.float32(254.0 / max(high - low, 1e-9)) + np.float32(1.0)
    np.clip(steps, 1.0, 255.0, out=steps)
    steps[~np.isfinite(values)] = 0.0
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], colormap)[..., ::-1].copy()
    table[0] = unknown
    return np.asarray(cv2.applyColorMap(steps.astype(np.uint8), table), np.uint8)
