"""Messages in, observations out: pairs, checks and files what the camera sends.

In a node it runs in the executor thread, in the subscriptions' callbacks; decoding is left to
whoever takes an observation. The same intake reads recordings. Whatever a message holds, it is
dropped, counted and named, and the next one is looked at. What works but is likely wrong is left
to remarks.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from dkt_ros.errors import DktError, place_of
from dkt_ros.frames import NANOSECONDS_PER_SECOND, FlushReason, Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.compressed_images import COMPRESSED_OF_ANOTHER_SIZE
from dkt_ros.messages.fields import (
    CameraInfo,
    HowToSet,
    MessageError,
    as_parameter,
    camera_info_to_intrinsics,
    how_reduced,
    image_size,
    of_images_as_sent,
    of_rectified_images,
    stamp_to_ns,
)
from dkt_ros.messages.images import BitsOf, UsedBits, check_color, check_depth, told_bits
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.pixels import ImageMessage, depth_of, is_raw, rgb_of
from dkt_ros.messages.remarks import Remarks, Report
from dkt_ros.messages.repeats import Samples
from dkt_ros.messages.synchronizer import QUEUE_SIZE, Pair, Synchronizer

_INFO_OF_ANOTHER_SIZE = "camera_info of another size"
_ANOTHER_SIZE = (_INFO_OF_ANOTHER_SIZE, COMPRESSED_OF_ANOTHER_SIZE)
"""Causes that binning and region of interest may be behind."""
_AS_BEFORE = (
    " Earlier images had that size: if it has just changed, the new camera_info has not arrived "
    "yet, and these images cannot be used until it does; have it sent with each image."
)
ENCODING_CHANGED, FRAME_ID_CHANGED = "image encoding changed", "frame_id changed"


class Settings(Protocol):
    """How pairs are made and read; the node's parameters of the same names."""

    @property
    def sync_slop_s(self) -> float:
        """How far apart the stamps of a pair may be."""

    @property
    def depth_unit_m(self) -> float:
        """What one step of an integer depth image means."""

    @property
    def rectified(self) -> bool:
        """Whether P of camera_info holds instead of K."""

    @property
    def max_gap_s(self) -> float:
        """A longer gap between two frames starts anew."""


class Counts(Protocol):
    """Who counts what comes in and what is lost."""

    def seen(self, stream: str) -> None:
        """One message of the stream."""

    def dropped(self, cause: str, number: int = 1) -> None:
        """So many messages are lost."""

    def flushed(self, reason: str) -> None:
        """The stream began anew."""


@dataclass(frozen=True)
class _Arrival:
    """A message and when it came, time.monotonic()."""

    message: ImageMessage
    arrived_s: float


class Intake:
    """The camera's side of a node or of a recording."""

    def __init__(
        self,
        parameters: Settings,
        statistics: Counts,
        file: Callable[[Observation], None],
        report: Report,
        now_ns: Callable[[], int] | None = None,
        queue_size: int = QUEUE_SIZE,
        how_to_set: HowToSet = as_parameter,
    ) -> None:
        """`file` gets each observation; `report(cause, text)` what was dropped or looks wrong.

        `now_ns`: the clock that stamps are expected to come from. `queue_size`: messages of a
        stream that wait for the other one. `how_to_set`: words for whether images are rectified.
        """
        self._how_to_set = how_to_set
        self._parameters = parameters
        self._statistics = statistics
        self._file = file
        self._report = report
        self.synchronizer: Synchronizer[_Arrival, _Arrival] = Synchronizer(
            parameters.sync_slop_s, queue_size
        )
        """What pairs; asked for what its stamps tell, fed here alone."""
        self._camera_info: CameraInfo | None = None
        self._waiting: Pair[_Arrival, _Arrival] | None = None
        self._settled_ns: int | None = None
        self._info_comes_last = False
        self._encodings: tuple[str, str] | None = None
        self._frame_id: str | None = None
        self._bits, self._stream = UsedBits(), (0, (0, 0))
        self._samples = Samples()
        self._time_jumps = 0
        self._last_ns: int | None = None
        self._epoch = 0
        self._remarks = Remarks(report, now_ns, how_to_set)

    @property
    def remarks(self) -> dict[str, str]:
        """See Remarks.standing."""
        return self._remarks.standing

    def apply(self, parameters: Settings) -> None:
        """Takes over the parameters that act at once."""
        self._parameters = parameters
        self.synchronizer.slop_s = parameters.sync_slop_s

    def on_color(self, message: ImageMessage) -> None:
        """Callback of the colour subscription."""
        self.finish()
        self._statistics.seen("color")
        arrival = _Arrival(message, time.monotonic())
        self._take(self.synchronizer.push_color(stamp_to_ns(message.header.stamp), arrival))

    def on_depth(self, message: ImageMessage) -> None:
        """Callback of the raw depth subscription."""
        self.finish()
        self._statistics.seen("depth")
        arrival = _Arrival(message, time.monotonic())
        self._take(self.synchronizer.push_depth(stamp_to_ns(message.header.stamp), arrival))

    def on_camera_info(self, message: CameraInfo) -> None:
        """Callback of the calibration's subscription; the latest one holds."""
        self._statistics.seen("camera_info")
        self._camera_info = message
        self.finish()
        self._info_comes_last = stamp_to_ns(message.header.stamp) == self._settled_ns

    def finish(self) -> None:
        """Files the pair that waits for its calibration, with the newest there is."""
        pair, self._waiting = self._waiting, None
        if pair is not None:
            self._info_comes_last = False
            self._settle(pair)

    def drop(self, error: Exception) -> None:
        """Counts and names a frame that cannot be used; also for whoever decodes it."""
        if isinstance(error, MessageError):
            cause, text = error.cause, str(error)
            if cause in _ANOTHER_SIZE and self._camera_info is not None:
                text += how_reduced(self._camera_info)
                if self._was_of_size(self._camera_info):
                    text += _AS_BEFORE
        elif isinstance(error, DktError):
            cause, text = "inconsistent frame", str(error)
        else:
            cause = "unexpected error"
            text = f"{type(error).__name__}: {error}{place_of(error)}"
        self._statistics.dropped(cause)
        self._report(cause, f"frame dropped: {text}")

    def _take(self, pairs: list[Pair[_Arrival, _Arrival]]) -> None:
        self._count_drops()
        for pair in pairs:
            if pair is pairs[-1] and self._expects_info(pair):
                self._waiting = pair
            else:
                self._settle(pair)

    def _expects_info(self, pair: Pair[_Arrival, _Arrival]) -> bool:
        """Whether a camera that sends calibration behind its images has yet to send this one's.

        It may be another one, of another size. The next image ends the wait.
        """
        info = self._camera_info
        if info is None or self._has_changed(pair, info):
            return True
        return self._info_comes_last and stamp_to_ns(info.header.stamp) != pair.color_stamp_ns

    def _has_changed(self, pair: Pair[_Arrival, _Arrival], info: CameraInfo) -> bool:
        """Whether the camera sends another size now, which its calibration does not say yet."""
        color, depth = pair.color.message, pair.depth.message
        if not (is_raw(color) and is_raw(depth) and self._was_of_size(info)):
            return False
        size = (color.width, color.height)
        return size == (depth.width, depth.height) and size != image_size(info)

    def _was_of_size(self, info: CameraInfo) -> bool:
        """Whether the newest images that fitted any calibration were of this one's size."""
        return self._stream[1][::-1] == image_size(info)

    def _settle(self, pair: Pair[_Arrival, _Arrival]) -> None:
        self._settled_ns = pair.color_stamp_ns
        try:
            self._file(self._observe(pair))
        except Exception as error:  # noqa: BLE001 no message may end the node
            self.drop(error)

    def _observe(self, pair: Pair[_Arrival, _Arrival]) -> Observation:
        color, depth = pair.color.message, pair.depth.message
        info = self._camera_info
        if info is None:
            raise MessageError(
                "no camera_info yet",
                "images arrive, but no color/camera_info: expected one per image. Map "
                "color/camera_info to the topic that belongs to the colour image; if it is sent "
                "once only (latched), diagnostics say how to get it.",
            )
        intrinsics = camera_info_to_intrinsics(info, self._parameters.rectified, self._how_to_set)
        # What can be known without decoding, so that a broken message takes no other one's place.
        if is_raw(color) and is_raw(depth):
            check_color(color)
            check_depth(depth)
            _check_sizes((color.height, color.width), (depth.height, depth.width), intrinsics)
        self._follow_stream(color, depth, pair.color_stamp_ns)
        frame_ids = (color.header.frame_id, depth.header.frame_id)
        rectified = self._parameters.rectified
        self._remarks.look(frame_ids, info, intrinsics, rectified, pair.color_stamp_ns)
        size = (intrinsics.height, intrinsics.width)
        return Observation(
            partial(
                _decode,
                color,
                depth,
                self._parameters.depth_unit_m,
                intrinsics,
                pair.color_stamp_ns,
                self._told_bits(color, size),
            ),
            pair.color_stamp_ns,
            size,
            of_images_as_sent(of_rectified_images(info) if rectified else info),
            self._epoch,
            pair.color.arrived_s,
            color,
            self._samples.take(color, depth),
        )

    def _follow_stream(self, color: ImageMessage, depth: ImageMessage, stamp_ns: int) -> None:
        """Starts a new epoch when time ran back or stood open too long, or the camera changed.

        Looked at here, where every frame passes, because the network may be too slow to see more
        than a few of them: the time between those says nothing about the camera.
        """
        encodings = (_encoding(color), _encoding(depth))
        elapsed_ns = 0 if self._last_ns is None else stamp_ns - self._last_ns
        frame_id = color.header.frame_id or self._frame_id  # none tells of no other camera
        reason: str | None = None
        if self._encodings not in (None, encodings):
            reason = ENCODING_CHANGED
        elif self._frame_id not in (None, frame_id):
            reason = FRAME_ID_CHANGED  # two cameras may have one calibration
        elif self.synchronizer.time_jumps != self._time_jumps:
            reason = FlushReason.STAMP_BACKWARDS.value
        elif elapsed_ns > self._parameters.max_gap_s * NANOSECONDS_PER_SECOND:
            reason = FlushReason.GAP.value
        if reason is not None:
            self._epoch += 1
            self._statistics.flushed(reason)
        self._encodings = encodings
        self._frame_id = frame_id
        self._time_jumps = self.synchronizer.time_jumps
        self._last_ns = stamp_ns

    def _told_bits(self, color: ImageMessage, size: tuple[int, int]) -> BitsOf:
        """What tells how many of 16 bits are used: one for each stream of pictures of one size.

        Raw pictures are asked here, where every frame passes, not the few that are decoded.
        """
        if self._stream != (self._epoch, size):
            self._bits, self._stream = UsedBits(), (self._epoch, size)
        return told_bits(color, self._bits) if is_raw(color) else self._bits

    def _count_drops(self) -> None:
        dropped = self.synchronizer.dropped
        for cause, number in dropped.items():
            if number:
                self._statistics.dropped(cause.value, number)
        dropped.clear()


def _decode(
    color: ImageMessage,
    depth: ImageMessage,
    unit_m: float,
    intrinsics: Intrinsics,
    stamp_ns: int,
    bits_of: BitsOf,
) -> Frame:
    """Raises MessageError where an image is damaged or has another size."""
    size = (intrinsics.height, intrinsics.width)
    rgb, raw_depth = rgb_of(color, size, bits_of), depth_of(depth, unit_m, size)
    _check_sizes(rgb.shape[:2], raw_depth.shape, intrinsics)
    return Frame(rgb, raw_depth, intrinsics, stamp_ns, color.header.frame_id)


def _encoding(message: ImageMessage) -> str:
    return str(message.encoding if is_raw(message) else message.format)


def _other_size(color: tuple[int, int], depth: tuple[int, int]) -> str:
    """What may be behind depth (height, width) of another size; "" where nothing is known."""
    if depth == color[::-1]:
        return " One of them is turned by a quarter: rotate both in the driver, or neither."
    factor = color[0] // max(depth[0], 1)
    if factor > 1 and color == (factor * depth[0], factor * depth[1]):
        return (
            f" It is {factor} times as small: a decimation filter of the driver does that too "
            "(RealSense: decimation_filter.enable:=false)."
        )
    return ""


def _check_sizes(
    color_size: tuple[int, ...], depth_size: tuple[int, ...], intrinsics: Intrinsics
) -> None:
    """Sizes are (height, width)."""
    height, width = color_size
    if depth_size != (height, width):
        raise MessageError(
            "depth of another size",
            f"depth image is {depth_size[1]}x{depth_size[0]}, color image {width}x{height}: "
            "expected depth registered to colour, of the same size. RealSense: "
            "align_depth.enable:=true and depth/image mapped to aligned_depth_to_color/image_raw; "
            "other cameras: their driver's registration, or depth_image_proc's register node."
            + _other_size((height, width), (depth_size[0], depth_size[1])),
        )
    if (intrinsics.height, intrinsics.width) != (height, width):
        raise MessageError(
            _INFO_OF_ANOTHER_SIZE,
            f"camera_info is for {intrinsics.width}x{intrinsics.height} images, color image is "
            f"{width}x{height}: expected the same size. Map color/camera_info to the topic that "
            "belongs to color/image.",
        )
