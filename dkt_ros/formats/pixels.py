"""Single files to arrays: pictures, depth, masks, normals.

Knows file formats, what a damaged file looks like and which values mean "unknown". Knows nothing of
how files lie together. Every function raises DktError that names the file.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from dkt_ros.errors import DktError
from dkt_ros.files import check_no_pipe
from dkt_ros.formats.exr import read_exr_depth, read_exr_vectors
from dkt_ros.formats.numpy_files import arrays_in, may_be_depth
from dkt_ros.formats.palettes import palette_numbers
from dkt_ros.formats.pictures import JPEG, as_stored, cut_short, unread_kind
from dkt_ros.formats.transphy3d import MaterialClass, material_classes
from dkt_ros.geometry import (
    METRES_PER_MILLIMETRE,
    check_unit,
    has_reading,
    known_depth,
    unit_vectors,
)
from dkt_ros.wording import counted

# Others (CMYK) are cv2's to convert.
_JPEG_COLOURS = {"Gray": "GRAY", "YCbCr": "BGR", "RGB": "BGR"}
INEXACT = "a JPEG, which keeps no exact numbers, as labels are; store them as PNG"
_ARRAYS = (".npy", ".npz")
_WEBP, _WEBP_LOSSLESS = (b"RIFF", b"WEBP"), b"VP8L"
_JPEG_2000 = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")
Decode = Callable[[bytes], "np.ndarray | None"]
_BLENDER_TO_CAMERA = np.array([1.0, -1.0, -1.0], np.float32)


def read_rgb(path: Path) -> np.ndarray:
    """(H,W,3) uint8 RGB of a picture or an .npy; alpha is dropped, rotation in metadata ignored.

    Grey becomes three equal channels, as of a message.
    """
    suffix = path.suffix.lower()
    if suffix == ".exr":
        raise DktError(f"{path}: an EXR holds no 8-bit colours; render or convert it to PNG")
    if suffix in _ARRAYS:
        stored = _one_array(path, "rgb")
        if stored.ndim == 3 and stored.shape[2] in (3, 4):
            stored = stored[..., 2::-1]  # as files have it
    else:
        stored = _read_picture(path)
    if stored.dtype == np.uint8 and stored.ndim == 2:
        return np.repeat(stored[..., None], 3, axis=-1)
    return _colours(path, stored)


def _colours(path: Path, stored: np.ndarray) -> np.ndarray:
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    if stored.dtype != np.uint8 or stored.ndim > 3 or channels not in (3, 4):
        raise DktError(f"{path}: {_described(stored)}, expected an 8-bit colour picture")
    return np.ascontiguousarray(stored[..., 2::-1])


def read_depth(path: Path, metres_per_unit: float = METRES_PER_MILLIMETRE) -> np.ndarray:
    """(H,W) float32 metres, NaN = unknown: of a picture, an EXR, an .npy or .npz.

    Integers: value times `metres_per_unit`; 0 and the type's largest are unknown. Floats: metres
    already; NaN, inf and what is not positive are unknown. Of several arrays in an .npz the one
    named depth; dimensions of length 1 before and after are dropped.
    """
    check_unit(metres_per_unit)
    suffix = path.suffix.lower()
    if suffix == ".exr":
        return known_depth(read_exr_depth(path))
    if suffix in _ARRAYS:
        return known_depth(_read_numpy(path, metres_per_unit))
    return known_depth(read_depth_png(path, 1.0 / metres_per_unit))


def read_depth_png(path: Path, units_per_metre: float) -> np.ndarray:
    """(H,W) float32: the stored integers over units_per_metre; 0 where it is no reading.

    They have 16 bits, also as grey kept in three equal channels, or 32 in a TIFF. A TIFF's floats
    are metres already, and left as they are.
    """
    stored = _read_picture(path)
    if stored.dtype == np.uint16:
        stored = _in_one_channel(stored)
    if stored.dtype.kind == "f" and stored.ndim == 2:
        return stored.astype(np.float32)
    if stored.dtype not in (np.uint16, np.int16, np.int32) or stored.ndim != 2:
        raise DktError(f"{path}: {_described(stored)}, expected depth in one channel of 16 bits")
    return np.where(has_reading(stored), stored / units_per_metre, 0).astype(np.float32)


def read_label(path: Path) -> np.ndarray:
    """(H,W) uint8 as stored; grey kept in three equal channels is accepted.

    Of a PNG with a palette its numbers, see palette_numbers.
    """
    stored = _read_picture(path, _label_decoded)
    if stored.ndim == 3 and stored.shape[2] == 4 and np.ptp(stored[..., 3]):
        raise DktError(
            f"{path}: is transparent in part, so that colour and alpha may both be the labels; "
            "store them in one channel"
        )
    stored = _in_one_channel(stored)
    if stored.dtype != np.uint8 or stored.ndim != 2:
        raise DktError(
            f"{path}: {_described(stored)}, expected labels in one channel of 8 bits, or in a PNG "
            "the numbers of a palette that begins with black"
        )
    return stored


def _in_one_channel(stored: np.ndarray) -> np.ndarray:
    """Grey that was kept in three equal channels, and alpha that says nothing, as one channel."""
    if stored.ndim == 3 and (stored[..., :1] == stored[..., :3]).all():
        opaque = stored.shape[2] == 3 or not np.ptp(stored[..., 3])
        return stored[..., 0] if opaque else stored
    return stored


def read_mask(path: Path) -> np.ndarray:
    """(H,W) uint8 of MaterialClass of a label, see material_classes.

    Of an .npy or .npz as depth's, integers or booleans; of several arrays the one named mask.
    """
    if path.suffix.lower() not in _ARRAYS:
        return material_classes(_exact_label(path))
    array = _one_array(path, "mask")
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise DktError(
            f"{path}: {array.dtype} of shape {array.shape}, expected a mask (H,W), integers or "
            "booleans"
        )
    return material_classes(array)


def read_object_mask(path: Path) -> np.ndarray:
    """(H,W) uint8 of MaterialClass of a label that is not 0 on transparent objects."""
    return np.where(_exact_label(path) > 0, MaterialClass.TRANSPARENT, 0).astype(np.uint8)


def _exact_label(path: Path) -> np.ndarray:
    check_no_pipe(path)
    begin = b""
    with suppress(OSError), path.open("rb") as file:  # as read_label tells
        begin = file.read(16)
    is_webp = (begin[:4], begin[8:12]) == _WEBP and begin[12:] != _WEBP_LOSSLESS
    if is_webp or begin.startswith((JPEG, *_JPEG_2000)):
        raise DktError(f"{path}: {INEXACT.replace('JPEG', 'WebP') if is_webp else INEXACT}")
    return read_label(path)


def read_normal_png(path: Path) -> np.ndarray:
    """(H,W,3) float32 unit vectors of an RGB picture that stores (n + 1) * 127.5; 0 = unknown."""
    return unit_vectors(_colours(path, _read_picture(path)).astype(np.float32) / 127.5 - 1.0)


def read_normal_exr_blender(path: Path) -> np.ndarray:
    """(H,W,3) float32 unit vectors in camera axes, 0 = unknown.

    The file holds x, y, z in R, G, B in Blender's camera axes (x right, y up, z backward).
    """
    return unit_vectors(read_exr_vectors(path) * _BLENDER_TO_CAMERA)


def facing_camera(normal: np.ndarray, camera_matrix: np.ndarray | None) -> np.ndarray:
    """The normals (H,W,3), those that point away from the camera turned around.

    A visible surface faces the viewer, n . ray < 0; this puts right data sets that store normals
    pointing into the surface, or at random. Without a camera matrix rays are taken along z.
    """
    along = normal[..., 2].copy()
    if camera_matrix is not None:
        k = camera_matrix
        height, width = normal.shape[:2]
        x = ((np.arange(width) - k[0, 2]) / k[0, 0]).astype(np.float32)
        y = ((np.arange(height) - k[1, 2]) / k[1, 1]).astype(np.float32)
        along += normal[..., 0] * x[None, :] + normal[..., 1] * y[:, None]
    return np.where(along[..., None] > 0, -normal, normal)


def _read_numpy(path: Path, metres_per_unit: float) -> np.ndarray:
    array = _one_array(path, "depth")
    if array.ndim != 2 or not may_be_depth(array.dtype):
        raise DktError(
            f"{path}: {array.dtype} of shape {array.shape}, expected depth (H,W), floats in "
            "metres or integers of 16 bits or more"
        )
    if array.dtype.kind == "f":
        return array
    return np.where(has_reading(array), array * metres_per_unit, 0.0)


def _one_array(path: Path, meant: str) -> np.ndarray:
    """The only array of a file, or the one of that name, without dimensions of 1 around it."""
    with arrays_in(path) as arrays:
        names = list(arrays)
        if meant not in names and len(names) != 1:
            raise DktError(
                f"{path}: holds {', '.join(names) or 'nothing'}; expected one array, or one named "
                f"{meant}"
            )
        array = arrays[meant if meant in names else names[0]]
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    return array


def _read_picture(path: Path, decode: Decode | None = None) -> np.ndarray:
    check_no_pipe(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not content:
        raise DktError(f"{path}: is empty; download it again")
    cut = cut_short(content)
    try:
        picture = None if cut else (decode or _decoded)(content)
    except ValueError as error:
        raise DktError(f"{path}: damaged ({error}); download it again") from error
    except cv2.error:  # a format that is switched off, a size beyond its limits
        picture = None
    if picture is None:
        kind = "truncated picture" if cut else "damaged, or no picture"
        raise DktError(f"{path}: {unread_kind(content) or f'{kind}; download it again'}")
    return picture


def _decoded(content: bytes) -> np.ndarray | None:
    """As cv2.imdecode does; ValueError where a JPEG's content does not add up.

    cv2 makes up for damage within a JPEG and only writes a line to stderr. A JPEG has no checksum:
    a byte that is wrong but stands for other, valid colours goes unnoticed here too.
    """
    if content.startswith(JPEG):
        colours = _JPEG_COLOURS.get(simplejpeg.decode_jpeg_header(content)[2])
        if colours is not None:
            picture = simplejpeg.decode_jpeg(content, colours, strict=True)
            return picture[..., 0] if colours == "GRAY" else picture
    return cv2.imdecode(np.frombuffer(as_stored(content), np.uint8), cv2.IMREAD_UNCHANGED)


def _label_decoded(content: bytes) -> np.ndarray | None:
    numbers = palette_numbers(content)
    return _decoded(content) if numbers is None else numbers


def _described(array: np.ndarray) -> str:
    channels = 1 if array.ndim == 2 else array.shape[2]
    return f"{array.dtype} with {counted(channels, 'channel')}"
