"""Messages in, observations out: pairs, checks and files what the camera sends.

In a node it runs in the executor thread, in the subscriptions' callbacks; decoding is left to
whoever takes an observation. The same intake reads recordings. Whatever a message holds, it is
dropped, counted and named, and the next one is looked at. What works but is likely wrong is a
remark, which stands as long as the frames show it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol

from dkt_ros.errors import DktError, place_of
from dkt_ros.frames import NANOSECONDS_PER_SECOND, FlushReason, Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.calibration import unlikely
from dkt_ros.messages.compressed_images import COMPRESSED_OF_ANOTHER_SIZE
from dkt_ros.messages.fields import (
    CameraInfo,
    HowToSet,
    MessageError,
    as_parameter,
    camera_info_to_intrinsics,
    has_distortion,
    how_reduced,
    image_size,
    moved_aside,
    of_images_as_sent,
    of_rectified_images,
    stamp_to_ns,
)
from dkt_ros.messages.images import BitsOf, UsedBits, check_color, check_depth, told_bits
from dkt_ros.messages.observation import Observation
from dkt_ros.messages.pixels import ImageMessage, depth_of, is_raw, rgb_of
from dkt_ros.messages.synchronizer import QUEUE_SIZE, Pair, Synchronizer
from dkt_ros.wording import kind_of

Report = Callable[[str, str], None]

_INFO_OF_ANOTHER_SIZE = "camera_info of another size"
_ANOTHER_SIZE = (_INFO_OF_ANOTHER_SIZE, COMPRESSED_OF_ANOTHER_SIZE)
"""Causes that binning and region of interest may be behind."""
_AS_BEFORE = (
    " Earlier images had that size: if it has just changed, the new camera_info has not arrived "
    "yet, and these images cannot be used until it does; have it sent with each image."
)
ENCODING_CHANGED, FRAME_ID_CHANGED = "image encoding changed", "frame_id changed"
REMEMBERED, MOST_TURNS = 8, 3
"""Frames, and how often size or frame_id may change within them before it is remarked on."""
MOST_REMARKS = 20
"""Remarks are logged once each; a camera that invents frame_ids must not fill the memory."""
CLOCK_TOLERANCE_S, RECORDING_S = 2.0, 86_400.0
"""Stamps may differ from the node's clock by the first; older than the second they are a bag's."""
OLDEST_S = 946_684_800.0
"""Of 2000, before which nothing was recorded: earlier stamps count from when something began."""
LEAST_ASIDE_M = 0.001
"""Less beside another camera is none of a stereo pair."""


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
        self._time_jumps = 0
        self._last_ns: int | None = None
        self._epoch = 0
        self._now_ns = now_ns
        self._was_off = False
        self._sizes: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._frames: deque[str] = deque(maxlen=REMEMBERED)
        self._remarked: set[str] = set()
        self.remarks: dict[str, str] = {}
        """Cause -> what is likely wrong with the newest frame; replaced whole, read by others."""

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
        self._remark(color.header.frame_id, depth.header.frame_id, info, intrinsics, pair)
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
            of_images_as_sent(of_rectified_images(info) if self._parameters.rectified else info),
            self._epoch,
            pair.color.arrived_s,
        )

    def _follow_stream(self, color: ImageMessage, depth: ImageMessage, stamp_ns: int) -> None:
        """Starts a new epoch when time ran back or stood open too long, or the camera changed.

        Looked at here, where every frame passes, because the network may be too slow to see more
        than a few of them: the time between those says nothing about the camera.
        """
        encodings = (_encoding(color), _encoding(depth))
        elapsed_ns = 0 if self._last_ns is None else stamp_ns - self._last_ns
        reason: str | None = None
        if self._encodings not in (None, encodings):
            reason = ENCODING_CHANGED
        elif self._frame_id not in (None, color.header.frame_id):
            reason = FRAME_ID_CHANGED  # two cameras may have one calibration
        elif self.synchronizer.time_jumps != self._time_jumps:
            reason = FlushReason.STAMP_BACKWARDS.value
        elif elapsed_ns > self._parameters.max_gap_s * NANOSECONDS_PER_SECOND:
            reason = FlushReason.GAP.value
        if reason is not None:
            self._epoch += 1
            self._statistics.flushed(reason)
        self._encodings = encodings
        self._frame_id = color.header.frame_id
        self._time_jumps = self.synchronizer.time_jumps
        self._last_ns = stamp_ns

    def _told_bits(self, color: ImageMessage, size: tuple[int, int]) -> BitsOf:
        """What tells how many of 16 bits are used: one for each stream of pictures of one size.

        Raw pictures are asked here, where every frame passes, not the few that are decoded.
        """
        if self._stream != (self._epoch, size):
            self._bits, self._stream = UsedBits(), (self._epoch, size)
        return told_bits(color, self._bits) if is_raw(color) else self._bits

    def _remark(
        self,
        color_frame: str,
        depth_frame: str,
        info: CameraInfo,
        intrinsics: Intrinsics,
        pair: Pair[_Arrival, _Arrival],
    ) -> None:
        """Names what works but is likely wrong."""
        remarks: dict[str, str] = {}
        if not color_frame:
            remarks["frame_id"] = (
                "color/image has no frame_id: expected the camera's optical frame. Planners "
                "cannot place this depth; set the frame in the camera's driver."
            )
        elif color_frame.startswith("/"):
            remarks["frame_id"] = (
                f"color/image has frame_id '{color_frame}': expected no slash before it. TF "
                "look-ups for this depth will fail, for tf2 refuses such names; take the slash "
                "away in the camera's driver."
            )
        elif depth_frame != color_frame:
            remarks["frame_id"] = (
                f"depth/image has frame_id '{depth_frame}', color/image '{color_frame}': expected "
                "depth registered to colour, in colour's frame. Ignore this if it is registered; "
                "otherwise map depth/image to the registered topic (RealSense: "
                "align_depth.enable:=true and aligned_depth_to_color/image_raw)."
            )
        info_frame = info.header.frame_id
        if color_frame and info_frame not in ("", color_frame):
            remarks["camera_info frame_id"] = (
                f"color/camera_info has frame_id '{info_frame}', color/image '{color_frame}': "
                "expected the calibration of the same camera. Map color/camera_info to the topic "
                "beside color/image."
            )
        if not self._parameters.rectified and has_distortion(info):
            remarks["distortion"] = (
                f"color/camera_info has {info.distortion_model or 'unnamed'} distortion, which "
                "dkt/points leaves out. If the images are rectified, "
                f"{self._how_to_set(True)}: P is theirs, not K. Else rectify them (image_proc) "
                "where their borders matter."
            )
        if text := unlikely(intrinsics):
            remarks["calibration"] = text + self._other_matrix(info)
        elif fault := _projection_fault(info):
            remarks["projection"] = (
                f"color/camera_info has {fault}, and so has dkt/camera_info: whoever reads P there "
                "(RViz, image_geometry, depth_image_proc) cannot use it, or puts points in wrong "
                "places. Have the camera's driver fill P, with K's numbers for raw images."
            )
        if (aside_m := moved_aside(info)) > LEAST_ASIDE_M:
            remarks["stereo"] = (
                f"P of color/camera_info has an offset (Tx, Ty) of {aside_m:.3f} m, as of the "
                "second camera of a stereo pair: expected none, as of the first. If "
                f"'{color_frame}' is the first camera's frame, dkt/points are displaced by as "
                "much: map both images and camera_info to the first camera. Ignore this if the "
                "frame is this camera's own."
            )
        self._sizes.append((info.width, info.height))
        if _turns(self._sizes) >= MOST_TURNS:
            first, *others = (f"{width}x{height}" for width, height in sorted(set(self._sizes)))
            remarks["image size"] = (
                f"images of {first} and {' and '.join(others)} come by turns: expected one size. "
                "Is color/image published by more than one camera?"
            )
        self._frames.append(color_frame)
        if _turns(self._frames) >= MOST_TURNS:
            names = " and ".join(f"'{name}'" for name in sorted(set(self._frames)))
            remarks["frame_ids"] = (
                f"color/image has frame_id {names} by turns: expected that of one camera. Is it "
                "published by more than one, or do two come through a relay or a player?"
            )
        off = self._clock_remark(pair.color_stamp_ns)
        # The first image of a bag that starts anew may come before its clock.
        if off is not None and self._was_off:
            remarks["clock"] = off
        self._was_off = off is not None
        for cause, text in remarks.items():
            # A clock that drifts, or a bag that is played slowly, has another number each second.
            if (kind := kind_of(text)) not in self._remarked and len(self._remarked) < MOST_REMARKS:
                self._remarked.add(kind)
                self._report(cause, text)
        self.remarks = remarks

    def _other_matrix(self, info: CameraInfo) -> str:
        """What to do where the other matrix is like a camera's; "" where it is not."""
        otherwise = not self._parameters.rectified
        try:
            other = camera_info_to_intrinsics(info, otherwise)
        except MessageError:
            return ""
        if unlikely(other):
            return ""
        return (
            f" Its {'P' if otherwise else 'K'} is like a camera's: {self._how_to_set(otherwise)} "
            "if that is what the images are."
        )

    def _clock_remark(self, stamp_ns: int) -> str | None:
        now_ns = self._now_ns() if self._now_ns else 0
        age_s = (now_ns - stamp_ns) / NANOSECONDS_PER_SECOND
        if now_ns == 0 or abs(age_s) <= CLOCK_TOLERANCE_S:
            return None
        if age_s >= RECORDING_S and (stamp_s := stamp_ns / NANOSECONDS_PER_SECOND) < OLDEST_S:
            return (
                f"color/image is stamped in {time.gmtime(stamp_s).tm_year}: such stamps count from "
                "when the camera, its machine or a simulation began, and TF look-ups for this "
                "depth will fail. Have the driver stamp with system time, or set use_sim_time for "
                "a simulation or its bag."
            )
        if age_s >= RECORDING_S:
            return None
        return (
            f"color/image is stamped {abs(round(age_s))} s {'before' if age_s > 0 else 'after'} "
            "the node's clock: TF look-ups for this depth will fail. Set the clocks of both "
            "machines (chrony), have the driver stamp with system time, or set use_sim_time for a "
            "bag."
        )

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


def _projection_fault(info: CameraInfo) -> str:
    """What is wrong with P, which many readers take though images are raw; "" for nothing."""
    try:
        camera = camera_info_to_intrinsics(info, rectified=True)
    except MessageError:
        return f"P[0]={info.p[0]:g} and P[5]={info.p[5]:g}"
    if unlikely(camera):
        return (
            f"fx={camera.fx:g} fy={camera.fy:g} cx={camera.cx:g} cy={camera.cy:g} in P, which are "
            f"no camera's of {camera.width}x{camera.height} images"
        )
    return ""


def _encoding(message: ImageMessage) -> str:
    return str(message.encoding if is_raw(message) else message.format)


def _turns(values: Iterable[object]) -> int:
    """How often one differs from the one before."""
    return sum(one != other for one, other in pairwise(values))


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
