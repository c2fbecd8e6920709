"""Depth and masks as recorded files hold them, to arrays in our units.

Knows which values mean "unknown" and "transparent". Knows nothing of how files are paired nor of
bags; the file formats are datasets/files.py's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dkt_ros.datasets.files import read_depth_png, read_label
from dkt_ros.errors import DktError
from dkt_ros.formats.exr import read_exr_depth
from dkt_ros.formats.numpy_files import ONLY, arrays_in, may_be_depth
from dkt_ros.formats.transphy3d import material_classes
from dkt_ros.geometry import METRES_PER_MILLIMETRE, has_reading, known_depth


def read_depth(path: Path, metres_per_unit: float = METRES_PER_MILLIMETRE) -> np.ndarray:
    """(H,W) float32 metres, NaN = unknown.

    16-bit PNG or TIFF, .npy of integers: value times `metres_per_unit`; 0 and the type's largest
    are unknown. EXR, TIFF and .npy of floats: metres already; NaN, inf and what is not positive are
    unknown.
    Raises DktError for other files.
    """
    if path.suffix.lower() == ".exr":
        depth = read_exr_depth(path)
    elif path.suffix.lower() == ".npy":
        depth = _read_npy(path, metres_per_unit)
    else:
        depth = read_depth_png(path, 1.0 / metres_per_unit)
    return known_depth(depth)


def read_mask(path: Path) -> np.ndarray:
    """(H,W) uint8 of MaterialClass, see material_classes.

    Of a PNG with a palette of colours its numbers count, see palette_numbers. Raises DktError where
    the file is no picture of one channel.
    """
    return material_classes(read_label(path))


def _read_npy(path: Path, metres_per_unit: float) -> np.ndarray:
    with arrays_in(path) as arrays:
        picture = arrays.get(ONLY, np.empty(0))
    if picture.ndim == 3 and 1 in (picture.shape[0], picture.shape[2]):
        picture = picture[..., 0] if picture.shape[2] == 1 else picture[0]
    if picture.ndim != 2 or not may_be_depth(picture.dtype):
        raise DktError(
            f"{path}: {picture.dtype} of shape {picture.shape}, expected depth (H,W), floats in "
            "metres or integers of 16 bits or more"
        )
    if picture.dtype.kind == "f":
        return picture
    return np.where(has_reading(picture), picture * metres_per_unit, 0.0)
