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

    What lies beyond the range has the colour of its end.
    """
    known = np.isfinite(values)
    share = np.clip((np.where(known, values, low) - low) / max(high - low, 1e-9), 0.0, 1.0)
    bgr = cv2.applyColorMap(np.rint(share * 255.0).astype(np.uint8), colormap)
    rgb = np.ascontiguousarray(bgr[..., ::-1], np.uint8)
    rgb[~known] = unknown
    return rgb
