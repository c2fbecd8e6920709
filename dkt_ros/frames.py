"""One synchronised RGB + raw depth + intrinsics, and where a stream of them breaks.

Knows nothing of the network, alignment or ROS.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import described, is_array, is_floating, to_host, unmasked
from dkt_ros.checks import check_type
from dkt_ros.errors import DktError
from dkt_ros.geometry import Intrinsics

NANOSECONDS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Frame:
    """What a camera saw at one instant. Every pixel array has the intrinsics' size.

    rgb        (H, W, 3) uint8
    raw_depth  (H, W) float32, metres along the optical axis, registered to rgb; NaN (also 0 and
               inf) = unknown. None: the camera gave no depth for this image.
    stamp_ns   the RGB image's stamp in nanoseconds
    frame_id   the RGB image's optical frame
    """

    rgb: NDArray[np.uint8]
    raw_depth: NDArray[np.float32] | None
    intrinsics: Intrinsics
    stamp_ns: int
    frame_id: str

    def __post_init__(self) -> None:
        if not isinstance(self.intrinsics, Intrinsics):
            raise DktError(
                f"intrinsics of {described(self.intrinsics)}: expected dkt_ros.Intrinsics; "
                "Intrinsics.from_matrix makes them of a camera matrix"
            )
        check_type("stamp_ns", self.stamp_ns, int)
        check_type("frame_id", self.frame_id, str)
        size, rgb = (self.intrinsics.height, self.intrinsics.width), self.rgb
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.shape != (*size, 3):
            raise DktError(
                f"rgb of {described(rgb)}: expected an array {(*size, 3)} uint8, "
                "the size that the intrinsics state"
            )
        depth = self.raw_depth
        if depth is None:
            return
        if not isinstance(depth, np.ndarray) or depth.dtype != np.float32:
            raise DktError(
                f"raw depth of {described(depth)}: expected an array of float32 in metres; convert "
                "millimetres (uint16) first"
            )
        if isinstance(depth, np.ma.MaskedArray):
            raise DktError("raw depth of a masked array: expected NaN there; take .filled(np.nan)")
        if depth.shape != size:
            remedy = ", registered to the colour image (RealSense: align_depth.enable:=true)"
            raise DktError(
                f"raw depth of shape {depth.shape}: expected {size}"
                f"{remedy if depth.ndim == 2 else ''}"
            )


class FlushReason(Enum):
    """Why the frames before were forgotten."""

    STAMP_BACKWARDS = "stamps ran backwards"
    GAP = "gap between frames"
    SIZE_CHANGED = "image size changed"
    INTRINSICS_CHANGED = "camera intrinsics changed"
    SCENE_CUT = "another scene"  # these are noticed by a predictor
    DRIFT = "live stream had drifted"
    RANGE = "raw depth in another range than before"


_LENS_MOVES = 0.005
"""Change of focal lengths, and of the centre as a share of the size, from frame to frame, that
autofocus and stabilisation make: each frame goes by its own."""


def are_of_one_camera(one: Intrinsics, other: Intrinsics) -> bool:
    """Whether two frames of one size are of one camera, whose lens may move."""
    return (
        abs(one.fx / other.fx - 1.0) <= _LENS_MOVES
        and abs(one.fy / other.fy - 1.0) <= _LENS_MOVES
        and abs(one.cx - other.cx) <= _LENS_MOVES * one.width
        and abs(one.cy - other.cy) <= _LENS_MOVES * one.height
    )


class Continuity:
    """Tells whether a frame continues the stream of the one before it."""

    def __init__(self, max_gap_s: float = math.inf) -> None:
        """max_gap_s: stamps further apart start a new stream; may be changed at any time."""
        if not max_gap_s > 0:
            raise DktError(f"max_gap_s {max_gap_s}: expected a positive number of seconds")
        self.max_gap_s = max_gap_s
        self._newest: tuple[int, Intrinsics] | None = None

    def follow(self, frame: Frame) -> FlushReason | None:
        """Takes the next frame; why a new stream begins with it, None when it continues one."""
        reason = self.break_before(frame.stamp_ns, frame.intrinsics)
        self._newest = (frame.stamp_ns, frame.intrinsics)
        return reason

    def is_duplicate(self, frame: Frame) -> bool:
        """Whether the frame has the newest one's stamp and continues its stream."""
        return (
            self._newest is not None
            and frame.stamp_ns == self._newest[0]
            and self.break_before(frame.stamp_ns, frame.intrinsics) is None
        )

    def reset(self) -> None:
        """Forgets the stream: whatever comes next begins one."""
        self._newest = None

    def break_before(self, stamp_ns: int, camera: Intrinsics) -> FlushReason | None:
        """Why such a frame would not continue the stream; None where it would."""
        if self._newest is None:
            return None
        then_ns, then = self._newest
        if (camera.width, camera.height) != (then.width, then.height):
            return FlushReason.SIZE_CHANGED
        if not are_of_one_camera(camera, then):
            return FlushReason.INTRINSICS_CHANGED
        elapsed_ns = stamp_ns - then_ns
        if elapsed_ns < 0:
            return FlushReason.STAMP_BACKWARDS
        if elapsed_ns > self.max_gap_s * NANOSECONDS_PER_SECOND:
            return FlushReason.GAP
        return None


def frames_of(
    pictures: Iterable[tuple[NDArray[np.uint8], NDArray[Any] | None]],
    intrinsics: Intrinsics | None = None,
    period_s: float = 0.1,
    frame_id: str = "camera",
) -> Iterator[Frame]:
    """Arrays as a camera would send them: (rgb (H, W, 3) uint8, raw depth (H, W) metres or None).

    They are copied, so that a camera's memory may be written to again. What is masked is unknown.
    period_s: between two stamps, which begin at 0. intrinsics: without them a camera with 53
    degrees of horizontal view stands in, which matters for point clouds, not for depth.
    Raises DktError as Frame does, at the picture that does not fit.
    """
    if not isinstance(pictures, Iterable):
        raise DktError(f"pictures of {described(pictures)}: expected pairs (rgb, raw depth)")
    check_type("intrinsics", intrinsics, Intrinsics | None)
    check_type("period_s", period_s, float)
    if not 0 < period_s < math.inf:
        raise DktError(f"period_s is {period_s}, expected seconds above 0")
    for index, pair in enumerate(pictures):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DktError(
                f"picture {index} of {described(pair)}: expected a pair (rgb, raw depth or None)"
            )
        rgb, raw_depth = pair
        if not is_array(rgb) or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise DktError(f"rgb of {described(rgb)}: expected an array (H, W, 3) uint8")
        if raw_depth is not None and not (is_array(raw_depth) and is_floating(raw_depth)):
            raise DktError(
                f"raw depth of {described(raw_depth)}: expected an array (H, W) of floats in "
                "metres, or None; convert millimetres (uint16) first"
            )
        height, width = rgb.shape[:2]
        camera = intrinsics or Intrinsics(
            width, width, (width - 1) / 2, (height - 1) / 2, width, height
        )
        raw = None if raw_depth is None else np.array(to_host(unmasked(raw_depth)), np.float32)
        stamp_ns = round(index * period_s * NANOSECONDS_PER_SECOND)
        yield Frame(np.array(to_host(rgb), order="C"), raw, camera, stamp_ns, frame_id)
