"""What works but is likely wrong with what a camera sends: frame_ids, calibration, sizes, stamps.

A remark stands as long as the frames show it, and is reported once. Knows nothing of pixels, nor of
how messages become frames.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise

from dkt_ros.frames import NANOSECONDS_PER_SECOND
from dkt_ros.geometry import Intrinsics
from dkt_ros.messages.calibration import unlikely
from dkt_ros.messages.fields import (
    CameraInfo,
    HowToSet,
    MessageError,
    camera_info_to_intrinsics,
    has_distortion,
    moved_aside,
)
from dkt_ros.wording import kind_of

Report = Callable[[str, str], None]

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


class Remarks:
    """Those on one camera's frames."""

    def __init__(
        self, report: Report, now_ns: Callable[[], int] | None, how_to_set: HowToSet
    ) -> None:
        """See Intake."""
        self._report, self._now_ns, self._how_to_set = report, now_ns, how_to_set
        self._was_off = False
        self._sizes: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._frames: deque[str] = deque(maxlen=REMEMBERED)
        self._remarked: set[str] = set()
        self.standing: dict[str, str] = {}
        """Cause -> what is likely wrong with the newest frame; replaced whole, read by others."""

    def look(
        self,
        frame_ids: tuple[str, str],
        info: CameraInfo,
        intrinsics: Intrinsics,
        rectified: bool,
        stamp_ns: int,
    ) -> None:
        """At the next frame: colour's and depth's frame_id, what was read of info, colour's stamp.

        rectified: whether P of info holds instead of K.
        """
        remarks: dict[str, str] = {}
        color_frame, depth_frame = frame_ids
        if text := _frame_id_remark(color_frame, depth_frame):
            remarks["frame_id"] = text
        info_frame = info.header.frame_id
        if color_frame and info_frame not in ("", color_frame):
            remarks["camera_info frame_id"] = (
                f"color/camera_info has frame_id '{info_frame}', color/image '{color_frame}': "
                "expected the calibration of the same camera. Map color/camera_info to the topic "
                "beside color/image."
            )
        if not rectified and (text := self._distortion_remark(info)):
            remarks["distortion"] = text
        if text := unlikely(intrinsics):
            remarks["calibration"] = text + self._other_matrix(info, not rectified)
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
        self._sizes.append((intrinsics.width, intrinsics.height))
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
        off = self._clock_remark(stamp_ns)
        # The first image of a bag that starts anew may come before its clock.
        if off is not None and self._was_off:
            remarks["clock"] = off
        self._was_off = off is not None
        for cause, text in remarks.items():
            # A clock that drifts, or a bag that is played slowly, has another number each second.
            if (kind := kind_of(text)) not in self._remarked and len(self._remarked) < MOST_REMARKS:
                self._remarked.add(kind)
                self._report(cause, text)
        self.standing = remarks

    def _distortion_remark(self, info: CameraInfo) -> str:
        """What is wrong with D of raw images; "" for nothing."""
        if not all(map(math.isfinite, info.d)):
            return (
                "color/camera_info has numbers in D that are not finite, and so has "
                "dkt/camera_info: whoever rectifies by it (image_proc, image_geometry) gets "
                "nothing. Calibrate the camera anew, or have its driver fill D."
            )
        if has_distortion(info):
            return (
                f"color/camera_info has {info.distortion_model or 'unnamed'} distortion, which "
                "dkt/points leaves out. If the images are rectified, "
                f"{self._how_to_set(True)}: P is theirs, not K. Else rectify them (image_proc) "
                "where their borders matter."
            )
        return ""

    def _other_matrix(self, info: CameraInfo, otherwise: bool) -> str:
        """What to do where the other matrix is like a camera's; "" where it is not."""
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


def _frame_id_remark(color_frame: str, depth_frame: str) -> str:
    """What is wrong with the frame_ids of the images; "" for nothing."""
    if not color_frame:
        return (
            "color/image has no frame_id: expected the camera's optical frame. Planners "
            "cannot place this depth; set the frame in the camera's driver."
        )
    if color_frame.startswith("/"):
        return (
            f"color/image has frame_id '{color_frame}': expected no slash before it. TF "
            "look-ups for this depth will fail, for tf2 refuses such names; take the slash "
            "away in the camera's driver."
        )
    if color_frame != color_frame.strip():
        return (
            f"color/image has frame_id {color_frame!r}: expected no blank before or after it. "
            "TF look-ups by the name without it will fail; mend the name in the camera's "
            "driver, or in the file that sets it."
        )
    if depth_frame != color_frame:
        return (
            f"depth/image has frame_id '{depth_frame}', color/image '{color_frame}': expected "
            "depth registered to colour, in colour's frame. Ignore this if it is registered; "
            "otherwise map depth/image to the registered topic (RealSense: "
            "align_depth.enable:=true and aligned_depth_to_color/image_raw)."
        )
    return ""


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


def _turns(values: Iterable[object]) -> int:
    """How often one differs from the one before."""
    return sum(one != other for one, other in pairwise(values))
