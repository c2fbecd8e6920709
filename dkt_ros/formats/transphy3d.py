"""One sequence as a tar in TransPhy3D's layout: encoding, atomic writing, reading.

Knows the members and their units. Knows nothing of who makes the sequences or learns from them.

A tar holds one sequence; every frame has the members ``<sequence>_<frame:08d>.<name>``:

- ``image.png``      RGB, uint8
- ``depth.png``      planar depth, uint16: metres = value / 65535 * max_depth; 0 = unknown
- ``depth.json``     ``{"max_depth": metres}``
- ``normal.png``     (n + 1) * 127.5 in Blender's camera axes (x right, y up, z backward)
- ``metadata.json``  ``camera_matrices.extrinsics`` (4x4 world to camera, OpenCV axes; left out if
  unknown) and ``camera_matrices.intrinsics`` (3x3, both focal lengths and cx over the width,
  cy over the height)

Three members are this package's own and may be absent in data from elsewhere:

- ``mask.png``       uint8 material class, see MaterialClass
- ``instance.png``   uint8 number of the object, 0 = the room; metadata.json's ``objects`` says more
- ``raw_depth.png``  uint16, a depth sensor's output registered to colour; 0 = none, as is 65535;
                     millimetres, or steps of ``raw_depth.json``'s ``{"metres_per_step": metres}``
"""

from __future__ import annotations

import enum
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.files import whole_file
from dkt_ros.formats.pictures import PNG, cut_short, encoded
from dkt_ros.formats.tar_index import read_members, tar_index
from dkt_ros.geometry import has_reading, is_reading, unit_vectors

_DEPTH_STEPS = 65535
_MILLIMETRES_PER_METRE = 1000.0
_RAW_STEP = "metres_per_step"
_WHOLE_MM = 0.01
"""So far from a whole number of millimetres a float32 of metres may be that was one."""
_OWN_METADATA = ("camera_matrices", "frame_id", "sequence_id")
_ADVICE = "make room and run the same command again: it goes on where it stopped"
_REQUIRED = ("image.png", "depth.png", "depth.json", "metadata.json")


class MaterialClass(enum.IntEnum):
    """What a pixel of ``mask.png`` shows first."""

    OPAQUE = 0
    TRANSPARENT = 1
    REFLECTIVE = 2


def material_classes(label: np.ndarray) -> np.ndarray:
    """uint8 of MaterialClass: what is none, as a black-and-white mask's 255, is TRANSPARENT."""
    known = np.isin(label, list(MaterialClass))
    return np.where(known, label, MaterialClass.TRANSPARENT).astype(np.uint8)


@dataclass(frozen=True)
class SequenceFrame:
    """One frame of a sequence.

    rgb: (H,W,3) uint8.
    depth: (H,W) float32, planar metres to the first surface (glass included), NaN = unknown.
    camera_matrix: (3,3) float64 in pixels; the centre of the top left pixel is (0, 0).
    world_to_camera: (4,4) float64; camera axes are x right, y down, z forward; None = unknown.
    mask: (H,W) uint8 of MaterialClass, or None.
    normal: (H,W,3) float32 unit vectors in camera axes as above, 0 = unknown, or None.
    raw_depth: (H,W) float32 metres, NaN = no reading, or None. raw_step_m: what one step of it is
    in the file, None = a millimetre, see fine_step.
    instance: (H,W) uint8, 0 = the room, else the object's number, or None.
    index: the frame's number in its sequence.
    extra: further entries of metadata.json.
    """

    rgb: np.ndarray
    depth: np.ndarray
    camera_matrix: np.ndarray
    world_to_camera: np.ndarray | None
    mask: np.ndarray | None = None
    normal: np.ndarray | None = None
    raw_depth: np.ndarray | None = None
    instance: np.ndarray | None = None
    index: int = 0
    raw_step_m: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def encode_frame(frame: SequenceFrame, sequence: str) -> dict[str, bytes]:
    """The frame's members, name without the ``<sequence>_<frame>.`` prefix to content.

    Raises DktError where a picture has another size than rgb or no depth is known.
    """
    height, width = frame.rgb.shape[:2]
    for name in ("depth", "mask", "normal", "raw_depth", "instance"):
        array = getattr(frame, name)
        if array is not None and array.shape[:2] != (height, width):
            found = "x".join(map(str, array.shape[:2]))
            raise DktError(f"{name} is {found}, expected {height}x{width} as rgb")
    known = np.isfinite(frame.depth) & (frame.depth > 0)
    if not known.any():
        raise DktError(f"frame {frame.index} of {sequence} has no known depth")
    max_depth = float(frame.depth[known].max())
    steps = np.where(known, frame.depth, 0.0).astype(np.float64) / max_depth * _DEPTH_STEPS
    # A reading that rounds to 0 would turn into "unknown".
    depth = np.where(known, np.clip(np.rint(steps), 1, _DEPTH_STEPS), 0).astype(np.uint16)
    matrices = {"intrinsics": _normalised(frame.camera_matrix, width, height).tolist()}
    if frame.world_to_camera is not None:
        matrices = {"extrinsics": frame.world_to_camera.tolist(), **matrices}
    metadata = {
        "camera_matrices": matrices,
        "frame_id": frame.index,
        "sequence_id": sequence,
        **{key: value for key, value in frame.extra.items() if key not in _OWN_METADATA},
    }
    members = {
        "image.png": encoded(".png", frame.rgb),
        "depth.png": encoded(".png", depth),
        "depth.json": json.dumps({"max_depth": max_depth}).encode(),
        "metadata.json": json.dumps(metadata).encode(),
    }
    if frame.normal is not None:
        blender = frame.normal * np.array([1.0, -1.0, -1.0])
        members["normal.png"] = encoded(".png", np.rint((blender + 1.0) * 127.5).astype(np.uint8))
    if frame.mask is not None:
        members["mask.png"] = encoded(".png", frame.mask)
    if frame.instance is not None:
        members["instance.png"] = encoded(".png", frame.instance)
    if frame.raw_depth is not None:
        steps_per_metre = _MILLIMETRES_PER_METRE
        if frame.raw_step_m is not None:
            steps_per_metre = 1.0 / frame.raw_step_m
            members["raw_depth.json"] = json.dumps({_RAW_STEP: frame.raw_step_m}).encode()
        steps = np.nan_to_num(frame.raw_depth, nan=0.0) * steps_per_metre
        members["raw_depth.png"] = encoded(
            ".png", np.clip(np.rint(steps), 0, _DEPTH_STEPS).astype(np.uint16)
        )
    return members


def fine_step(raw_depth: np.ndarray) -> float | None:
    """A raw_step_m that keeps (H, W) metres better than millimetres; None: nothing is lost in them.

    Of a sensor that tells tenths of millimetres, or of floats.
    """
    known = raw_depth[is_reading(raw_depth)]
    if not known.size:
        return None
    millimetres = known.astype(np.float64) * _MILLIMETRES_PER_METRE
    step = float(known.max()) / (_DEPTH_STEPS - 1)  # the last one is no reading
    whole = np.abs(millimetres - np.rint(millimetres)).max() < _WHOLE_MM
    return None if whole or step >= 1 / _MILLIMETRES_PER_METRE else step


def decode_frame(members: Mapping[str, bytes], source: str) -> SequenceFrame:
    """The inverse of encode_frame; `source` names the frame in errors.

    Raises DktError naming source and member where one is missing, unreadable or does not fit.
    """
    for name in _REQUIRED:
        if name not in members:
            raise DktError(f"{source}: member {name} is missing; render or download it again")
    rgb = _image(members, "image.png", source, np.uint8, channels=3)[..., ::-1]
    size = rgb.shape[0], rgb.shape[1]
    max_depth = _number(_json(members, "depth.json", source), "max_depth", source)
    steps = _image(members, "depth.png", source, np.uint16, size=size)
    depth = steps.astype(np.float32) * np.float32(max_depth / _DEPTH_STEPS)
    depth[steps == 0] = np.nan
    intrinsics, extrinsics, index, extra = _metadata(members, source)
    normal = raw_depth = mask = instance = raw_step_m = None
    if "mask.png" in members:
        mask = _image(members, "mask.png", source, np.uint8, size=size)
    if "instance.png" in members:
        instance = _image(members, "instance.png", source, np.uint8, size=size)
    if "normal.png" in members:
        normal = _normal(members, source, size)
    if "raw_depth.png" in members:
        steps = _image(members, "raw_depth.png", source, np.uint16, size=size)
        steps_per_metre = _MILLIMETRES_PER_METRE
        if "raw_depth.json" in members:
            raw_step_m = _number(_json(members, "raw_depth.json", source), _RAW_STEP, source)
            steps_per_metre = 1.0 / raw_step_m
        raw_depth = (steps / steps_per_metre).astype(np.float32)
        raw_depth[~has_reading(steps)] = np.nan
    return SequenceFrame(
        rgb=np.ascontiguousarray(rgb),
        depth=depth,
        camera_matrix=_in_pixels(intrinsics, size[1], size[0]),
        world_to_camera=extrinsics,
        mask=mask,
        normal=normal,
        raw_depth=raw_depth,
        instance=instance,
        index=index,
        raw_step_m=raw_step_m,
        extra=extra,
    )


def write_sequence(path: Path, sequence: str, frames: Iterable[SequenceFrame]) -> int:
    """Writes one tar and returns the number of frames.

    Atomic: the tar appears under its name only when it is whole and on the disk. The bytes depend
    on the frames alone (no clock, no user). Frames may be a generator; one is held at a time.

    Raises StorageError where the disk is full or refuses, BusyError where another process is
    writing the same tar. Either way, what was there stays as it was.
    """
    count = 0
    with whole_file(path, _ADVICE) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for frame in frames:
            for name, content in sorted(encode_frame(frame, sequence).items()):
                info = tarfile.TarInfo(f"{sequence}_{frame.index:08d}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            count += 1
    return count


def read_sequence(path: Path | str) -> tuple[SequenceFrame, ...]:
    """All frames of one tar in the order of their keys; DktError names file and member."""
    frames = tuple(decode_frame(members, source) for source, members in _frame_members(Path(path)))
    if not frames:
        raise DktError(f"{path}: holds no frame; expected members like 000000_00000000.image.png")
    return frames


def _frame_members(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    for key, members in sorted(tar_index(path).items()):
        yield f"{path}: {key}", read_members(path, key, members)


def _image(
    members: Mapping[str, bytes],
    name: str,
    source: str,
    dtype: type[np.generic],
    channels: int = 1,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    content = np.frombuffer(members[name], np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None or cut_short(members[name]) or not members[name].startswith(PNG):
        raise DktError(f"{source}: {name} is truncated or not a PNG")
    found = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != dtype or found not in (channels, channels + 1 if channels == 3 else 1):
        raise DktError(
            f"{source}: {name} is {image.dtype} with {found} channels, "
            f"expected {np.dtype(dtype)} with {channels}"
        )
    if size is not None and image.shape[:2] != size:
        raise DktError(
            f"{source}: {name} is {image.shape[0]}x{image.shape[1]}, "
            f"expected {size[0]}x{size[1]} as image.png"
        )
    return image[..., :3] if channels == 3 else image


def _normal(members: Mapping[str, bytes], source: str, size: tuple[int, int]) -> np.ndarray:
    stored = _image(members, "normal.png", source, np.uint8, channels=3, size=size)[..., ::-1]
    normal = stored.astype(np.float32) / 127.5 - 1.0
    return unit_vectors(normal * np.array([1.0, -1.0, -1.0], np.float32))


def _json(members: Mapping[str, bytes], name: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(members[name])
    except (ValueError, RecursionError) as error:
        raise DktError(f"{source}: {name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise DktError(f"{source}: {name} holds a {type(value).__name__}, expected an object")
    return value


def _number(values: Mapping[str, Any], key: str, source: str) -> float:
    value = values.get(key)
    if not isinstance(value, int | float) or not np.isfinite(value) or value <= 0:
        raise DktError(f"{source}: {key} is {value!r}, expected a positive number of metres")
    return float(value)


def _metadata(
    members: Mapping[str, bytes], source: str
) -> tuple[np.ndarray, np.ndarray | None, int, dict[str, Any]]:
    metadata = _json(members, "metadata.json", source)
    try:
        matrices = metadata["camera_matrices"]
        intrinsics = np.array(matrices["intrinsics"], np.float64)
        extrinsics = None
        if "extrinsics" in matrices:
            extrinsics = np.array(matrices["extrinsics"], np.float64)
        index = int(metadata.get("frame_id", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise DktError(f"{source}: metadata.json lacks usable camera_matrices ({error})") from error
    for name, matrix, shape in (
        ("intrinsics", intrinsics, (3, 3)),
        ("extrinsics", extrinsics, (4, 4)),
    ):
        if matrix is None:
            continue
        if matrix.shape != shape or not np.isfinite(matrix).all():
            raise DktError(f"{source}: {name} in metadata.json is not a finite {shape} matrix")
    extra = {key: value for key, value in metadata.items() if key not in _OWN_METADATA}
    return intrinsics, extrinsics, index, extra


def _normalised(camera_matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """Normalised coordinates start at the picture's corner, pixels at the first pixel's centre."""
    k = camera_matrix
    return np.array(
        [
            [k[0, 0] / width, 0.0, (k[0, 2] + 0.5) / width],
            [0.0, k[1, 1] / width, (k[1, 2] + 0.5) / height],
            [0.0, 0.0, 1.0],
        ]
    )


def _in_pixels(intrinsics: np.ndarray, width: int, height: int) -> np.ndarray:
    n = intrinsics
    return np.array(
        [
            [n[0, 0] * width, 0.0, n[0, 2] * width - 0.5],
            [0.0, n[1, 1] * width, n[1, 2] * height - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
