"""Frames with truth, as the bag that a camera beside an oracle would have recorded.

Knows which message goes onto which topic. Knows nothing of where the frames come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dkt_ros.bags.encode import MessageEncoder
from dkt_ros.bags.topics import CameraTopics
from dkt_ros.bags.writer import BagWriter
from dkt_ros.errors import DktError
from dkt_ros.frames import NANOSECONDS_PER_SECOND, Frame
from dkt_ros.geometry import is_true_depth

# Stamps begin here unless told otherwise: what is made twice is the same twice, and 0 would read
# as "no time" to ROS.
DEFAULT_START_S = 1_700_000_000.0
LAST_S = 2**31
"""ROS counts seconds to here."""
_TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
_T = TypeVar("_T", bound=np.generic)
TRUTH, MASK = "true depth", "mask"
FRAME_ID = "camera_color_optical_frame"
"""As realsense-ros calls it, for what was recorded without one."""


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A camera frame and what is known of it. Raises DktError where sizes differ; see labelled.

    truth        (H, W) float32 metres, NaN unknown, as is what a renderer says of nothing (65504,
                 1e10); None: nobody knows
    mask         (H, W) uint8 of transphy3d.MaterialClass, or None
    camera_info  the recorded calibration message, where there is one
    unusable     "true depth" or "mask" -> why what there is of it cannot be used
    picture      the colour picture's name in the recording; "" where only its stamp names it
    """

    frame: Frame
    truth: NDArray[np.float32] | None = None
    mask: NDArray[np.uint8] | None = None
    camera_info: Any = None
    unusable: dict[str, str] = field(default_factory=dict)
    picture: str = ""

    def __post_init__(self) -> None:
        for name, picture in ((TRUTH, self.truth), (MASK, self.mask)):
            if picture is not None:
                _check_size(name, picture, self.frame)
        if self.truth is not None:
            known = np.where(is_true_depth(self.truth), self.truth, np.float32(np.nan))
            object.__setattr__(self, "truth", known)


def labelled(
    frame: Frame,
    truth: Callable[[], NDArray[np.float32] | None] | None,
    mask: Callable[[], NDArray[np.uint8] | None] | None,
    source: str,
    camera_info: Any = None,
) -> LabelledFrame:
    """The frame with what is read of it, if there is any; what cannot be used is told in unusable.

    source: what to say the frame is.
    """
    unusable: dict[str, str] = {}

    def read(name: str, reader: Callable[[], NDArray[_T] | None] | None) -> NDArray[_T] | None:
        said = ""  # what cannot be read names itself
        try:
            picture = None if reader is None else reader()
            said = f"{source}: "
            if picture is not None:
                _check_size(name, picture, frame)
            return picture
        except DktError as error:
            unusable[name] = f"{said}{error}"
            return None

    known, classes = read(TRUTH, truth), read(MASK, mask)
    return LabelledFrame(frame, known, classes, camera_info, unusable)


def _check_size(name: str, picture: NDArray[Any], frame: Frame) -> None:
    expected = frame.rgb.shape[:2]
    if picture.shape[:2] != expected:
        raise DktError(
            f"{name} is {picture.shape[1]}x{picture.shape[0]}, colour is "
            f"{expected[1]}x{expected[0]}: they must be registered to each other, in one size"
        )


@dataclass(frozen=True)
class RecordingOptions:
    """How a bag is written.

    storage: "mcap" or "sqlite3"; compress: zstd in the storage.
    color, depth: the encodings of encode.MessageEncoder; compressed messages go onto the topics
    that image_transport would use (`…/compressed`, `…/compressedDepth`). Raises DktError for
    topics that no bag can have.
    """

    topics: CameraTopics = field(default_factory=CameraTopics)
    storage: str = "mcap"
    compress: bool = True
    color: str = "jpeg"
    depth: str = "png"
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        named = {role: name for role, name in vars(self.topics).items() if name is not None}
        for role, name in named.items():
            if not _TOPIC.fullmatch(name):
                raise DktError(f"{role} topic is {name!r}, expected a name such as /camera/{role}")
            other = next(one for one, same in named.items() if same == name)
            if other != role:
                raise DktError(f"{other} and {role} have one topic, {name}; expected one for each")


def record(frames: Iterable[LabelledFrame], path: Path | str, options: RecordingOptions) -> int:
    """Writes a bag and returns the number of frames; frames may be a generator.

    The time of every message is its frame's stamp. Raises DktError where the path is taken, an
    option is unknown, or there is no frame.
    """
    count = 0
    with BagWriter(path, storage=options.storage, compress=options.compress) as writer:
        for labelled in frames:
            frame = labelled.frame
            encoder = MessageEncoder(
                writer.typestore,
                frame.frame_id,
                color=options.color,
                depth=options.depth,
                jpeg_quality=options.jpeg_quality,
            )
            for topic, message in _messages(labelled, encoder, options.topics):
                writer.write(topic, message, frame.stamp_ns)
            count += 1
        if not count:
            raise DktError(f"{path}: no frames to record")
    return count


def stamps(rate_hz: float, start_s: float = DEFAULT_START_S) -> Iterator[int]:
    """Endless stamps in nanoseconds, `rate_hz` a second; DktError where they are no stamps."""
    if not 0 < rate_hz <= NANOSECONDS_PER_SECOND:
        raise DktError(f"rate is {rate_hz} Hz, expected a positive number up to 1e9")
    if not 0 <= start_s < LAST_S:
        raise DktError(f"start time is {start_s} s, expected 0 to below {LAST_S} s, as ROS counts")
    start = round(start_s * NANOSECONDS_PER_SECOND)
    index = 0
    while True:
        yield checked_stamp(start + round(index * NANOSECONDS_PER_SECOND / rate_hz))
        index += 1


def checked_stamp(stamp_ns: int) -> int:
    """The stamp; DktError where ROS does not count so far."""
    if stamp_ns >= LAST_S * NANOSECONDS_PER_SECOND:
        raise DktError(
            f"a frame would be stamped {stamp_ns / NANOSECONDS_PER_SECOND:g} s, expected below "
            f"{LAST_S} s, as ROS counts; take a higher rate, a shorter gap or an earlier start"
        )
    return stamp_ns


def _messages(
    labelled: LabelledFrame, encoder: MessageEncoder, topics: CameraTopics
) -> Iterator[tuple[str, object]]:
    frame = labelled.frame
    color_suffix = "/compressed" if encoder.color == "jpeg" else ""
    depth_suffix = "/compressedDepth" if encoder.depth == "png" else ""
    stamp = frame.stamp_ns
    # Intrinsics first: who pairs by stamp then has them when the picture arrives.
    yield topics.camera_info, encoder.camera_info(frame.intrinsics, stamp)
    yield topics.color + color_suffix, encoder.color_image(frame.rgb, stamp)
    if topics.depth and frame.raw_depth is not None:
        yield topics.depth + depth_suffix, encoder.depth_image(frame.raw_depth, stamp)
    if topics.truth and labelled.truth is not None:
        yield topics.truth + depth_suffix, encoder.depth_image(labelled.truth, stamp)
    if topics.mask and labelled.mask is not None:
        yield topics.mask + color_suffix, encoder.mask_image(labelled.mask, stamp)
