"""Clips to arrays, colour and raw depth: videos, pictures, folders of them, .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.files import shown
from dkt_ros.formats.numpy_files import arrays_in, may_be_depth
from dkt_ros.formats.pictures import IMAGES, natural_key, out_of_step
from dkt_ros.formats.pixels import read_depth, read_rgb
from dkt_ros.formats.videos import pictures
from dkt_ros.geometry import METRES_PER_MILLIMETRE, USABLE_DEPTH_M, has_reading, known_depth


def read_clip(path: Path, color: str | None = None) -> np.ndarray:
    """A clip as uint8 (T, H, W, 3), RGB.

    path: a video file, one image, a folder of images of one size (in natural order: frame2 before
    frame10), or an .npz whose `rgb` is the clip. color: glob, from the folder on, of the images
    that are meant; None: all in it. Raises DktError naming the file that does not fit, depth
    pictures among them.
    """
    if not path.exists():
        raise DktError(f"input {path} does not exist")
    if path.is_dir():
        return _read_folder(path, color)
    if color is not None:
        raise DktError(f"input {path} is no folder: images are chosen by name in folders only")
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    if path.suffix.lower() in IMAGES:
        return _read_image(path)[None]
    return _read_video(path)


def read_raw_depth(
    path: Path, pattern: str | None, rgb: np.ndarray, color: str | None = None
) -> np.ndarray | None:
    """The raw depth of a clip read by read_clip, float32 (T, H, W) metres, NaN = unknown.

    pattern: glob of a folder's depth, as of pixels.read_depth, in the same order; None: there
    is none but an .npz's own, `raw_depth` or `depth`. color: as given to read_clip. Raises DktError
    where it does not fit the clip.
    """
    if pattern is not None and not path.is_dir():
        raise DktError(
            f"input {path} is no folder: depth is chosen by name in folders only; an .npz has it "
            "as raw_depth or depth"
        )
    if path.suffix.lower() == ".npz" and path.is_file():
        with arrays_in(path) as content:
            depth = next((content[n] for n in ("raw_depth", "depth") if n in content), None)
        if depth is not None and depth.dtype.kind in "iu" and may_be_depth(depth.dtype):
            depth = np.where(has_reading(depth), depth * METRES_PER_MILLIMETRE, np.nan)
    elif pattern is None:
        return None
    else:
        files = sorted(shown(path, pattern), key=natural_key)
        if other := out_of_step(_images(path, color), files):
            raise DktError(
                f"{path}: of colour and depth in the order of their names {other[0].name} would "
                f"have {other[1].name}: a picture is missing before, or they are counted from "
                "different numbers; remove what has no partner, or name partners alike"
            )
        depths = [read_depth(file) for file in files]
        for file, picture in zip(files, depths, strict=True):
            if picture.shape != rgb.shape[1:3]:
                raise DktError(
                    f"{file} is {_size(picture)}, the colour images are {_size(rgb[0])}: raw depth "
                    "has to be registered to colour"
                )
        depth = np.stack(depths) if depths else None
    if depth is None:
        if pattern is not None:
            raise DktError(f"{path} holds no depth {pattern}")
        return None
    if depth.shape != rgb.shape[:3] or not np.issubdtype(depth.dtype, np.floating):
        raise DktError(
            f"{path}: raw depth is {depth.dtype} {depth.shape}, expected metres as floats "
            "or millimetres as integers of 16 bits or more, "
            f"{rgb.shape[:3]}, one picture for each of colour"
        )
    metres = known_depth(depth)
    known = metres[np.isfinite(metres)]
    near, far = USABLE_DEPTH_M
    if known.size and not ((known >= near) & (known <= far)).any():
        raise DktError(
            f"{path}: raw depth from {known.min():.3g} to {known.max():.3g} m, none between {near} "
            f"and {far:g} m; expected 16-bit millimetres or floats in metres"
        )
    return metres


def _images(folder: Path, color: str | None) -> list[Path]:
    found = shown(folder) if color is None else shown(folder, color)
    files = (file for file in found if file.suffix.lower() in IMAGES)
    return sorted(files, key=natural_key)


def _read_folder(folder: Path, color: str | None) -> np.ndarray:
    files = _images(folder, color)
    if not files and color is not None:
        names = ", ".join(sorted(file.name for file in shown(folder))[:3]) or "nothing"
        raise DktError(f"{folder} holds no image {color}; it holds {names} and so on")
    if not files:
        raise DktError(
            f"{folder} holds no images; expected files ending in {', '.join(IMAGES)}, or a pattern "
            "of those in folders below (--color 'color/*')"
        )
    frames: list[np.ndarray] = []
    for file in files:
        frame = _read_image(file)
        if frames and frame.shape != frames[0].shape:
            raise DktError(
                f"{file} is {_size(frame)}, {files[0].name} is {_size(frames[0])}: the images of a "
                "clip must have one size"
            )
        frames.append(frame)
    return np.stack(frames)


def _read_image(file: Path) -> np.ndarray:
    try:
        return read_rgb(file)
    except DktError as error:
        raise DktError(
            f"{error}; a folder's colour images are chosen by name (--color '*rgb*')"
        ) from error


def _read_npz(file: Path) -> np.ndarray:
    with arrays_in(file) as content:
        if "rgb" not in content:
            raise DktError(f"{file} holds {sorted(content)}, expected an array rgb")
        rgb = content["rgb"]
    if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[-1] != 3 or 0 in rgb.shape:
        raise DktError(
            f"{file}: rgb is {rgb.dtype} {rgb.shape}, expected uint8 (frames, height, width, 3), "
            "none of it 0"
        )
    return rgb


def _read_video(file: Path) -> np.ndarray:
    try:
        return np.stack([rgb for _, rgb in pictures(file)])
    except DktError as error:
        raise DktError(
            f"{error}; expected a video, an image, a folder of images or an .npz with rgb"
        ) from error


def _size(frame: np.ndarray) -> str:
    return f"{frame.shape[0]}x{frame.shape[1]}"
