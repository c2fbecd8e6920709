"""Pinhole intrinsics out of the files that calibration and recording tools write.

ROS (camera_calibration's YAML, ini and print, `ros2 topic echo`), OpenCV FileStorage, Kalibr,
Open3D, BOP, RealSense, ZED, ORB-SLAM and NeRF's names, and bare numbers (3x3, 3x4, 4x4, or fx fy cx
cy) as text or .npy.
Distortion is told of and left out: the pictures are taken to be rectified.
"""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dkt_ros.errors import DktError
from dkt_ros.formats.calibration_texts import parse_calibration
from dkt_ros.formats.numpy_files import ONLY, arrays_in
from dkt_ros.geometry import Intrinsics
from dkt_ros.unique_keys import NO_YAML

_EXPECTED = "expected fx, fy, cx, cy in pixels, a 3x3 matrix, or a calibration file with either"
_MATRICES = (
    *("cameramatrix", "k", "camk", "intrinsicmatrix"),
    *("intrinsic", "cameraintrinsic", "cameraintrinsics"),
)
"""As other names below, without underscores."""
_NAMES = (("fx", "fl_x"), ("fy", "fl_y"), ("cx", "ppx"), ("cy", "ppy"))
_SIZES = (("width", "height"), ("image_width", "image_height"), ("xres", "yres"), ("w", "h"))
_PINHOLE_MODELS = ("pinhole", "pinhole_camera", "opencv")
_COEFFICIENTS = re.compile(r"dist(ortion)?(coefficients|coeffs?|parameters)?|coeffs|d|k[1-6]|p[12]")
_LENS_MODELS = ("distortionmodel", "distortiontype", "distortion", "cameramodel", "model", "type")
"""As above, without underscores."""
_FISHEYE = re.compile("fisheye|equidistant|kannala", re.I)
"""Lenses that bend pictures even where their numbers are 0."""
# NaN and inf are numbers too, to be refused by name.
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|(?:nan|inf(?:inity)?)\b)"
_BARE = re.compile(rf"[\s,;\[\]()]*(?:{_NUMBER}[\s,;\[\]()]+)*(?:{_NUMBER})?[\s,;\[\]()]*", re.I)
_NAMED = re.compile(rf"\b(fx|fy|cx|cy|ppx|ppy|width|height)\b[ \t]*[:=]?[ \t]*({_NUMBER})", re.I)
# A focal length of a tenth of the picture is a view of 157 degrees, of ten pictures one of 6.
_FOCAL_RANGE = (0.1, 10.0)


_UNIT_NAMES = {
    *("depthscale", "depthmapfactor", "pngdepthscale", "depthunit", "depthunits"),
    *("factordepth", "depthfactor", "depthscalingfactor", "integerdepthscale", "depthshift"),
}
_UNUSABLE = (ValueError, TypeError, KeyError, IndexError, RecursionError)
_OF_DEPTH_PERHAPS = "scale"
"""Beside a camera, where it is steps a metre; less may be a scene's, or the pictures'."""
_METRES_A_STEP, _STEPS_A_METRE = 0.02, 50.0
"""A number of depth's unit up to the first is metres, from the second on how many make one."""


@dataclass(frozen=True)
class _Camera:
    name: str
    values: tuple[float, float, float, float]
    size: tuple[int, int] | None
    distortion: str = ""


def read_intrinsics(
    path: Path, width: int | None = None, height: int | None = None, picture: str = ""
) -> Intrinsics:
    """The camera of a file, for pictures of width x height pixels (None: the file must tell).

    Of several cameras in a file the one for pictures of this size is taken, or, as BOP's files tell
    each picture's by its number, the one of the picture's name. Raises DktError where none is
    found, several remain, the size is another, or the values cannot be right.
    """
    camera = _chosen(path, width, height, picture)
    size = camera.size if width is None or height is None else (width, height)
    if size is None:
        raise DktError(f"{path}: does not tell the pictures' size; add width and height")
    return checked_intrinsics(*camera.values, *size, source=str(path))


def stated_distortion(
    path: Path, width: int | None = None, height: int | None = None, picture: str = ""
) -> str:
    """What bends the pictures of the camera that read_intrinsics gives, as the file says it.

    "" where it says nothing of that, or read_intrinsics would raise.
    """
    try:
        return _chosen(path, width, height, picture).distortion
    except DktError:
        return ""


def _chosen(path: Path, width: int | None, height: int | None, picture: str) -> _Camera:
    """See read_intrinsics."""
    size = None if width is None or height is None else (width, height)
    try:
        cameras = list(dict.fromkeys(_cameras(_of_picture(_content(path), picture), "")))
    except OSError as error:
        raise DktError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (*_UNUSABLE, OverflowError) as error:
        raise DktError(f"{path}: no usable intrinsics ({error}); {_EXPECTED}") from error
    if not cameras:
        raise DktError(f"{path}: no intrinsics found in it; {_EXPECTED}")
    fitting = [camera for camera in cameras if not size or camera.size in (None, size)]
    if not fitting:
        found = " and ".join(sorted({f"{c.size[0]}x{c.size[1]}" for c in cameras if c.size}))
        raise DktError(
            f"{path}: for pictures of {found}, the pictures are {width}x{height}; "
            "give the intrinsics of these pictures"
        )
    if len({(camera.values, camera.size) for camera in fitting}) > 1:
        names = ", ".join(camera.name for camera in fitting[:8])
        raise DktError(f"{path}: holds {len(fitting)} cameras ({names}); keep one")
    return fitting[0]


def stated_depth_unit(path: Path, picture: str = "") -> float | None:
    """Metres that one step of integer depth means, as calibration files of RGB-D tools say it.

    BOP's depth_scale is millimetres a step, RealSense's metres, Open3D's steps a metre, as are
    ORB-SLAM's DepthMapFactor and NICE-SLAM's png_depth_scale; their numbers lie far apart. Of
    several the one of the picture's number is taken, as by read_intrinsics. None where the file
    does not say it, or says several.
    """
    try:
        found = set(_depth_units(_of_picture(_content(path), picture)))
    except (OSError, DktError, *_UNUSABLE):
        return None
    return found.pop() if len(found) == 1 else None


def _of_picture(content: Any, picture: str) -> Any:
    """What BOP's files say of one picture, by its number: 12 of 000012; of others all."""
    if not (picture.isdecimal() and isinstance(content, Mapping)):
        return content
    number = int(picture)
    entry = content.get(str(number), content.get(number))  # of JSON, of YAML
    return {number: entry} if isinstance(entry, Mapping) and "cam_K" in entry else content


def _depth_units(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _depth_units(item)
    elif isinstance(value, Mapping):
        names = {key: _plain(key) for key in value}
        for key, item in value.items():
            if names[key] in _UNIT_NAMES and isinstance(item, (int, float, str)):
                if 0 < (number := _number(str(key), item)) < math.inf:
                    yield _unit_m(number)
            elif names[key] == _OF_DEPTH_PERHAPS and isinstance(item, (int, float)):
                if "fx" in names.values() and _STEPS_A_METRE <= item < math.inf:
                    yield _unit_m(item)
            elif isinstance(item, (Mapping, list)):
                yield from _depth_units(item)


def _plain(key: object) -> str:
    """A name without what stands before its last dot, capitals and underscores."""
    return str(key).rpartition(".")[2].lower().replace("_", "")


def _unit_m(number: float) -> float:
    if number >= _STEPS_A_METRE:
        return 1 / number
    # To the digits that were meant: 0.001 is no float32.
    return float(f"{number if number <= _METRES_A_STEP else number * 1e-3:.6g}")


def checked_intrinsics(
    fx: float, fy: float, cx: float, cy: float, width: int, height: int, source: str
) -> Intrinsics:
    """Intrinsics that a picture of this size can have; DktError naming `source` otherwise."""
    try:
        found = Intrinsics(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
    except DktError as error:
        raise DktError(f"{source}: {error}") from error
    if not (-0.5 <= cx <= width and -0.5 <= cy <= height):
        problem = f"the principal point ({cx:g}, {cy:g}) lies outside"
    elif not all(_FOCAL_RANGE[0] <= f / width <= _FOCAL_RANGE[1] for f in (fx, fy)):
        problem = f"focal lengths {fx:g} and {fy:g} do not suit"
    else:
        return found
    raise DktError(
        f"{source}: {problem} pictures of {width}x{height}; give fx, fy, cx, cy in pixels of these "
        "pictures"
    )


def _content(path: Path) -> Any:
    """What the file holds: mappings, lists and numbers. It is asked for with every picture."""
    status = path.stat()
    return _parsed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _parsed(path: Path, _size: int, _modified: int) -> Any:
    if path.suffix.lower() == ".npy":
        with arrays_in(path) as arrays:
            return arrays[ONLY].tolist()
    content = path.read_bytes()
    # Windows' shell redirects into UTF-16; a comment in another encoding is none of ours.
    coding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    text = content.decode(coding, "replace")
    if "\0" in text:
        raise ValueError("it is no text, nor an .npy; write the numbers down as text")
    if _BARE.fullmatch(text):
        return [float(number) for number in re.findall(_NUMBER, text, re.I)]
    try:
        return json.loads(text)
    except ValueError:
        pass
    found = parse_calibration(text)
    if found is not None:
        return found
    # OpenCV writes a directive and tags that YAML does not know.
    plain = re.sub(r"^%YAML.*$|!!opencv-\S+", "", text, flags=re.M)
    try:
        # `ros2 topic echo` ends every message by "---"; one is enough.
        value = next((value for value in yaml.safe_load_all(plain) if value is not None), None)
    except NO_YAML as error:
        value, problem = None, str(error).replace("\n", " ")
    else:
        problem = f"found {type(value).__name__} {str(value)[:60]!r}"
    if isinstance(value, (dict, list)):
        return value
    named = _NAMED.findall(text)
    if not named:
        raise ValueError(f"neither numbers nor JSON nor YAML: {problem}")
    values = {name.lower(): float(number) for name, number in named}
    if len(values) < len({(name.lower(), float(number)) for name, number in named}):
        raise ValueError("it names several cameras; keep the colour camera's lines")
    return values


def _cameras(value: Any, name: str) -> Iterator[_Camera]:
    """The cameras that a value is or holds."""
    if isinstance(value, list):
        if value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                yield from _cameras(item, f"{name}[{index}]")
        elif value:
            yield _Camera(name, _pinhole(value, name or "it"), None)
    elif isinstance(value, Mapping):
        fields = {str(key).rpartition(".")[2].lower(): item for key, item in value.items()}
        found = _named(fields)
        if found:
            yield _Camera(name, found, _size(fields), _distortion(fields))
            return
        for key, item in value.items():
            if isinstance(item, (Mapping, list)) and (
                isinstance(item, Mapping) or all(isinstance(part, Mapping) for part in item)
            ):
                yield from _cameras(item, f"{name}.{key}".lstrip("."))


def _named(fields: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy by the names of a mapping, None where it has none of them."""
    plain = {_plain(key): item for key, item in fields.items()}
    for name in _MATRICES:
        matrix = plain.get(name)
        if isinstance(matrix, Mapping) and "data" in matrix:
            matrix = matrix["data"]
        if isinstance(matrix, list):
            return _pinhole(matrix, name)
    if isinstance(fields.get("intrinsics"), list):  # Kalibr, EuRoC
        model = fields.get("camera_model", "pinhole")
        if model not in _PINHOLE_MODELS:
            raise ValueError(f"camera_model is {model}, only pinhole is known")
        return _pinhole(fields["intrinsics"], "intrinsics")
    values = [next((fields[n] for n in names if n in fields), None) for names in _NAMES]
    if all(value is None for value in values):
        return None
    missing = [names[0] for names, value in zip(_NAMES, values, strict=True) if value is None]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing")
    pairs = zip(_NAMES, values, strict=True)
    fx, fy, cx, cy = (_number(names[0], value) for names, value in pairs)
    return fx, fy, cx, cy


def _distortion(fields: Mapping[str, Any]) -> str:
    """What a camera's mapping says that bends its pictures; "" where nothing does."""
    plain = {_plain(key): item for key, item in fields.items()}
    models = (str(plain[name]) for name in _LENS_MODELS if name in plain)
    if model := next((name for name in models if _FISHEYE.search(name)), ""):
        return model
    return "distortion" if any(map(float, _coefficients(plain))) else ""


def _coefficients(fields: Mapping[str, Any]) -> Iterator[str]:
    """The numbers of distortion among a mapping's."""
    for name, item in fields.items():
        if not _COEFFICIENTS.fullmatch(name):
            continue
        if isinstance(item, Mapping):
            inner = {_plain(key): value for key, value in item.items()}
            yield from _coefficients({"d": inner["data"]} if "data" in inner else inner)
        else:
            yield from re.findall(_NUMBER, str(item), re.I)


def _number(name: str, value: Any) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}, no number") from error


def _pinhole(numbers: list[Any], name: str) -> tuple[float, float, float, float]:
    try:
        flat = np.array(numbers, np.float64).ravel()
    except ValueError as error:
        raise ValueError(
            f"{name} is {str(numbers)[:120]}, no numbers in rows of one length"
        ) from error
    if flat.size == 4:
        fx, fy, cx, cy = flat.tolist()
        return fx, fy, cx, cy
    if flat.size == 10:  # FoundationStereo's, whose last number is the baseline
        flat = flat[:9]
    if flat.size in (12, 16):  # a projection matrix, ScanNet's
        flat = flat.reshape(-1, 4)[:3, :3].ravel()
    if flat.size != 9:
        raise ValueError(f"found {flat.size} numbers, not 4, 9, 12 or 16")
    matrix = flat.reshape(3, 3)
    if not matrix[:2, 2].any() and matrix[2, :2].any():  # Open3D stores columns
        matrix = matrix.T
    if not np.allclose(matrix[2], (0, 0, 1)):  # fx fy cx cy and five of distortion, say
        raise ValueError(f"{name} ends in {matrix[2].tolist()}, a camera's matrix in 0, 0, 1")
    return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])


def _size(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    pairs = [tuple(fields[n] for n in names) for names in _SIZES if fields.keys() >= set(names)]
    if isinstance(fields.get("resolution"), list):
        pairs.append(tuple(fields["resolution"]))
    for pair in pairs:
        sides = [_number(name, value) for name, value in zip(_SIZES[0], pair, strict=True)]
        if not all(map(math.isfinite, sides)):
            raise ValueError(f"width and height are {pair[0]} and {pair[1]}, no numbers of pixels")
        width, height = map(int, sides)
        if width > 0 and height > 0:
            return width, height
    return None
