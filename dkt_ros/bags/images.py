"""Depth, masks and intrinsics as recorded files hold them, to arrays in our units.

Knows which values mean "unknown" and "transparent", and the forms that intrinsics come in. Knows
nothing of how files are paired nor of bags; the file formats are datasets/files.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from dkt_ros.datasets.files import read_depth_exr, read_depth_png, read_label
from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.geometry import METRES_PER_MILLIMETRE, Intrinsics


def read_depth(path: Path, metres_per_unit: float = METRES_PER_MILLIMETRE) -> np.ndarray:
    """(H,W) float32 metres, NaN = unknown.

    16-bit PNG or TIFF: value times `metres_per_unit`, 0 = unknown. EXR: metres already; NaN, inf
    and what is not positive are unknown. Raises DktError for other files.
    """
    if path.suffix.lower() == ".exr":
        depth = read_depth_exr(path)
    else:
        depth = read_depth_png(path, 1.0 / metres_per_unit)
    known = np.isfinite(depth) & (depth > 0)
    return np.where(known, depth, np.nan).astype(np.float32)


def read_mask(path: Path) -> np.ndarray:
    """(H,W) uint8 of transphy3d.MaterialClass.

    Values that are no class (the 255 of a black-and-white mask) mean TRANSPARENT. Raises DktError
    where the file is no picture of one channel.
    """
    label = read_label(path)
    no_class = ~np.isin(label, [int(c) for c in MaterialClass])
    return np.where(no_class, int(MaterialClass.TRANSPARENT), label).astype(np.uint8)


def read_intrinsics(path: Path, width: int, height: int) -> Intrinsics:
    """Intrinsics of a YAML file for pictures of width x height pixels.

    Either `fx fy cx cy` (optionally `xres yres` or `width height`), or ROS' calibration file
    (`camera_matrix: {data: [9]}`, `image_width`, `image_height`), or `K: [9]`.
    Raises DktError where the file has none of these or is for pictures of another size.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DktError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(values, dict):
        raise DktError(f"{path}: expected `fx: … fy: … cx: … cy: …` or a ROS calibration file")
    try:
        fx, fy, cx, cy = _pinhole(values)
        size = _size(values)
    except (KeyError, TypeError, ValueError) as error:
        raise DktError(
            f"{path}: no usable intrinsics ({error!r}); expected fx, fy, cx, cy in pixels, or a "
            "ROS calibration file with camera_matrix"
        ) from error
    if size is not None and size != (width, height):
        raise DktError(
            f"{path}: for pictures of {size[0]}x{size[1]}, the pictures are {width}x{height}; "
            "give the intrinsics of these pictures"
        )
    return Intrinsics(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)


def _pinhole(values: Mapping[str, object]) -> tuple[float, float, float, float]:
    matrix = values.get("camera_matrix", values.get("K", values.get("k")))
    if isinstance(matrix, Mapping):
        matrix = matrix["data"]
    if isinstance(matrix, list):
        flat = np.array(matrix, np.float64).ravel()
        if flat.size != 9:
            raise ValueError(f"camera matrix of {flat.size} numbers")
        return float(flat[0]), float(flat[4]), float(flat[2]), float(flat[5])
    fx, fy, cx, cy = (float(str(values[name])) for name in ("fx", "fy", "cx", "cy"))
    return fx, fy, cx, cy


def _size(values: Mapping[str, object]) -> tuple[int, int] | None:
    for names in (("xres", "yres"), ("image_width", "image_height"), ("width", "height")):
        if all(name in values for name in names):
            width, height = (int(str(values[name])) for name in names)
            return width, height
    return None
