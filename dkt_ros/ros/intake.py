"""Messages in, observations out: pairs, converts and files what the camera sends.

Runs in the executor thread, in the subscriptions' callbacks. Knows the message types; nothing of
rclpy, of threads or of what becomes of an observation. Whatever a message holds, it is dropped,
counted and named, and the next one is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dkt_ros.errors import DktError
from dkt_ros.frames import NANOSECONDS_PER_SECOND, FlushReason, Frame
from dkt_ros.geometry import Intrinsics
from dkt_ros.ros.convert.compressed_images import compressed_to_depth, compressed_to_rgb
from dkt_ros.ros.convert.images import DepthImage, RgbImage, image_to_depth, image_to_rgb
from dkt_ros.ros.convert.messages import (
    MessageError,
    camera_info_to_intrinsics,
    has_distortion,
    stamp_to_ns,
)
from dkt_ros.ros.observation import Observation
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.statistics import Statistics
from dkt_ros.ros.synchronizer import Pair, Synchronizer

ImageMessage: TypeAlias = "Image | CompressedImage"
Report = Callable[[str, str], None]

MOST_REMARKS = 20
"""Things are named once each; a camera that invents frame_ids must not fill the memory."""


@dataclass(frozen=True)
class _Arrival:
    """A message and when it came, time.monotonic()."""

    message: ImageMessage
    arrived_s: float


class Intake:
    """The camera's side of the node."""

    def __init__(
        self,
        parameters: NodeParameters,
        statistics: Statistics,
        file: Callable[[Observation], None],
        report: Report,
    ) -> None:
        """`file` gets each observation; `report(cause, text)` what was dropped or looks wrong."""
        self._parameters = parameters
        self._statistics = statistics
        self._file = file
        self._report = report
        self._synchronizer: Synchronizer[_Arrival, _Arrival] = Synchronizer(parameters.sync_slop_s)
        self._camera_info: CameraInfo | None = None
        self._encodings: tuple[str, str] | None = None
        self._time_jumps = 0
        self._last_ns: int | None = None
        self._epoch = 0
        self._remarked: set[str] = set()

    @property
    def offset_s(self) -> float | None:
        """Newest colour stamp less newest depth stamp; None until both streams were seen."""
        offset_ns = self._synchronizer.offset_ns
        return None if offset_ns is None else offset_ns * 1e-9

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self._parameters = parameters
        self._synchronizer.slop_s = parameters.sync_slop_s

    def on_color(self, message: ImageMessage) -> None:
        """Callback of the colour subscription."""
        self._statistics.seen("color")
        arrival = _Arrival(message, time.monotonic())
        self._take(self._synchronizer.push_color(stamp_to_ns(message.header.stamp), arrival))

    def on_depth(self, message: ImageMessage) -> None:
        """Callback of the raw depth subscription."""
        self._statistics.seen("depth")
        arrival = _Arrival(message, time.monotonic())
        self._take(self._synchronizer.push_depth(stamp_to_ns(message.header.stamp), arrival))

    def on_camera_info(self, message: CameraInfo) -> None:
        """Callback of the calibration's subscription; the latest one holds."""
        self._statistics.seen("camera_info")
        self._camera_info = message

    def _take(self, pairs: list[Pair[_Arrival, _Arrival]]) -> None:
        self._count_drops()
        for pair in pairs:
            try:
                self._file(self._observe(pair))
            except MessageError as error:
                self._drop(error.cause, str(error))
            except DktError as error:
                self._drop("inconsistent frame", str(error))
            except Exception as error:  # noqa: BLE001 no message may end the node
                self._drop("unexpected error", f"{type(error).__name__}: {error}")

    def _observe(self, pair: Pair[_Arrival, _Arrival]) -> Observation:
        color, depth = pair.color.message, pair.depth.message
        info = self._camera_info
        if info is None:
            raise MessageError(
                "no camera_info yet",
                "images arrive, but no color/camera_info: expected one per image. Map "
                "color/camera_info to the topic that belongs to the colour image.",
            )
        intrinsics = camera_info_to_intrinsics(info, self._parameters.rectified)
        rgb = _rgb(color)
        raw_depth = _depth(depth, self._parameters.depth_unit_m)
        _check_sizes(rgb, raw_depth, intrinsics)
        frame = Frame(rgb, raw_depth, intrinsics, pair.color_stamp_ns, color.header.frame_id)
        self._follow_stream(color, depth, frame.stamp_ns)
        self._remark(color.header.frame_id, depth.header.frame_id, info)
        return Observation(frame, info, self._epoch, pair.color.arrived_s)

    def _follow_stream(self, color: ImageMessage, depth: ImageMessage, stamp_ns: int) -> None:
        """Starts a new epoch when time ran back, stood open too long, or an encoding changed.

        Looked at here, where every frame passes, because the network may be too slow to see more
        than a few of them: the time between those says nothing about the camera.
        """
        encodings = (_encoding(color), _encoding(depth))
        elapsed_ns = 0 if self._last_ns is None else stamp_ns - self._last_ns
        reason: str | None = None
        if self._encodings not in (None, encodings):
            reason = "image encoding changed"
        elif self._synchronizer.time_jumps != self._time_jumps:
            reason = FlushReason.STAMP_BACKWARDS.value
        elif elapsed_ns > self._parameters.max_gap_s * NANOSECONDS_PER_SECOND:
            reason = FlushReason.GAP.value
        if reason is not None:
            self._epoch += 1
            self._statistics.flushed(reason)
        self._encodings = encodings
        self._time_jumps = self._synchronizer.time_jumps
        self._last_ns = stamp_ns

    def _remark(self, color_frame: str, depth_frame: str, info: CameraInfo) -> None:
        """Names, once each, what works but is likely wrong."""
        if not color_frame:
            self._once(
                "frame_id",
                "color/image has no frame_id: expected the camera's optical frame. Planners "
                "cannot place this depth; set the frame in the camera's driver.",
            )
        elif depth_frame != color_frame:
            self._once(
                "frame_id",
                f"depth/image has frame_id '{depth_frame}', color/image '{color_frame}': expected "
                "depth registered to colour, in colour's frame. Ignore this if it is registered; "
                "otherwise map depth/image to the registered topic (RealSense: "
                "align_depth.enable:=true and aligned_depth_to_color/image_raw).",
            )
        if not self._parameters.rectified and has_distortion(info):
            self._once(
                "distortion",
                f"color/camera_info has {info.distortion_model or 'unnamed'} distortion, which "
                "dkt/points leaves out. Rectify the images (image_proc) and set rectified to true "
                "where its borders matter.",
            )

    def _once(self, cause: str, text: str) -> None:
        if text not in self._remarked and len(self._remarked) < MOST_REMARKS:
            self._remarked.add(text)
            self._report(cause, text)

    def _drop(self, cause: str, text: str) -> None:
        self._statistics.dropped(cause)
        self._report(cause, f"frame dropped: {text}")

    def _count_drops(self) -> None:
        dropped = self._synchronizer.dropped
        for cause, number in dropped.items():
            if number:
                self._statistics.dropped(cause.value, number)
        dropped.clear()


def _rgb(message: ImageMessage) -> RgbImage:
    return (
        compressed_to_rgb(message)
        if isinstance(message, CompressedImage)
        else image_to_rgb(message)
    )


def _depth(message: ImageMessage, unit_m: float) -> DepthImage:
    if isinstance(message, CompressedImage):
        return compressed_to_depth(message, unit_m)
    return image_to_depth(message, unit_m)


def _encoding(message: ImageMessage) -> str:
    name = message.format if isinstance(message, CompressedImage) else message.encoding
    return str(name)


def _check_sizes(rgb: RgbImage, depth: DepthImage, intrinsics: Intrinsics) -> None:
    height, width = rgb.shape[:2]
    if depth.shape != (height, width):
        raise MessageError(
            "depth of another size",
            f"depth image is {depth.shape[1]}x{depth.shape[0]}, color image {width}x{height}: "
            "expected depth registered to colour, of the same size. RealSense: "
            "align_depth.enable:=true and depth/image mapped to aligned_depth_to_color/image_raw; "
            "other cameras: their driver's registration, or depth_image_proc's register node.",
        )
    if (intrinsics.height, intrinsics.width) != (height, width):
        raise MessageError(
            "camera_info of another size",
            f"camera_info is for {intrinsics.width}x{intrinsics.height} images, color image is "
            f"{width}x{height}: expected the same size. Map color/camera_info to the topic that "
            "belongs to color/image.",
        )
