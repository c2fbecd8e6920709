"""Pictures, depth maps, masks and intrinsics as files hold them, to arrays in our units.

Knows the file formats. Knows nothing of how files are paired nor of bags.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import yaml

from dkt_ros.errors import DktError
from dkt_ros.geometry import METRES_PER_MILLIMETRE, Intrinsics
from dkt_ros.transphy3d import MaterialClass

# Channels that depth maps are kept in, the likeliest first.
_DEPTH_CHANNELS = ("Z", "Y", "D", "depth", "R", "V")


def read_color(path: Path) -> np.ndarray:
    """(H,W,3) uint8 RGB of any 8-bit picture that OpenCV reads; DktError otherwise."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DktError(f"{path}: not a readable picture; expected PNG or JPEG")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def read_depth(path: Path, metres_per_unit: float = METRES_PER_MILLIMETRE) -> np.ndarray:
    """(H,W) float32 metres, NaN = unknown.

    16-bit PNG or TIFF: value times `metres_per_unit`, 0 = unknown. EXR and float TIFF: metres
    already; NaN, inf and what is not positive are unknown. Raises DktError for other files.
    """
    if path.suffix.lower() == ".exr":
        depth = _read_exr(path)
    else:
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise DktError(f"{path}: not a readable depth map; expected 16-bit PNG, TIFF or EXR")
        if stored.ndim != 2 or stored.dtype not in (np.uint16, np.float32):
            channels = 1 if stored.ndim == 2 else stored.shape[2]
            raise DktError(
                f"{path}: {stored.dtype} with {channels} channels, expected one channel of 16 bits "
                "(PNG, TIFF) or of float metres (TIFF, EXR), not a picture in colours"
            )
        scale = metres_per_unit if stored.dtype == np.uint16 else 1.0
        depth = stored.astype(np.float32) * np.float32(scale)
    known = np.isfinite(depth) & (depth > 0)
    return np.where(known, depth, np.nan).astype(np.float32)


def read_mask(path: Path) -> np.ndarray:
    """(H,W) uint8 of transphy3d.MaterialClass.

    Values that are no class (the 255 of a black-and-white mask) mean TRANSPARENT.
    """
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise DktError(f"{path}: not a readable mask; expected an 8-bit PNG")
    plane = stored if stored.ndim == 2 else stored[..., 0]
    unknown = ~np.isin(plane, [int(c) for c in MaterialClass])
    return np.where(unknown, int(MaterialClass.TRANSPARENT), plane).astype(np.uint8)


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


def _read_exr(path: Path) -> np.ndarray:
    import OpenEXR

    try:
        channels = OpenEXR.File(str(path), separate_channels=True).channels()
    except (RuntimeError, OSError, ValueError) as error:
        raise DktError(f"{path}: not a readable EXR ({error})") from error
    name = next((n for n in _DEPTH_CHANNELS if n in channels), None)
    if name is None:
        raise DktError(
            f"{path}: channels {', '.join(channels)}; expected one of {', '.join(_DEPTH_CHANNELS)}"
        )
    return np.asarray(channels[name].pixels, np.float32)
