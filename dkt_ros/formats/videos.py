"""Videos to pictures and when each was taken, as the file tells.

Pictures are as stored: a rotation in the metadata would turn them against their depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError
from dkt_ros.files import check_no_pipe


class Facts(NamedTuple):
    """Pictures a second and in all, 0 where not told; degrees by which players turn them."""

    rate_hz: float
    frames: int
    turned: int


def facts(path: Path) -> Facts:
    """What the file tells of itself. Raises as `pictures` does."""
    with _opened(path) as capture:
        if not capture.read()[0]:
            raise _undecoded(path, capture)
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        turned = int(capture.get(cv2.CAP_PROP_ORIENTATION_META))
    # Streams that were written while they came in state the least number there is.
    known = rate if 0 < rate < math.inf else 0.0, int(count) if 0 < count < math.inf else 0
    return Facts(*known, turned)


def pictures(path: Path, rate_hz: float = 10.0) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """(seconds since the first one, (H, W, 3) uint8 RGB) of each picture.

    rate_hz: of those whose time is not told. Raises DktError where there is no picture.
    """
    with _opened(path) as capture:
        begin, seconds = None, 0.0
        while (found := capture.read())[0]:
            told = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            if begin is None:
                begin = told
            else:
                seconds = told - begin if told - begin > seconds else seconds + 1 / rate_hz
            yield seconds, np.ascontiguousarray(found[1][..., ::-1])
        if begin is None:
            raise _undecoded(path, capture)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    check_no_pipe(path)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DktError(f"{path} gives no video frames: it is damaged, or no video")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        yield capture
    finally:
        capture.release()


def _undecoded(path: Path, capture: cv2.VideoCapture) -> DktError:
    """Why an open video gives no first picture."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    name = code.decode("ascii", "replace")
    return DktError(
        f"{path} gives no video frames: it is damaged, or OpenCV here cannot decode its "
        f"codec {name if name.isprintable() else ''}; convert it (ffmpeg -i {path.name} "
        "-c:v libx264 other.mp4)"
    )
