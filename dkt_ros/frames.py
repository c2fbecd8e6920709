"""One synchronised RGB + raw depth + intrinsics, and the sliding buffer of the newest 4N+1.

Knows when a stream has broken (stamps running backwards, a gap, another size or camera) and that
the network's clips hold 4k+1 frames. Knows nothing of the network, alignment or ROS.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

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
        size = (self.intrinsics.height, self.intrinsics.width)
        if self.rgb.dtype != np.uint8 or self.rgb.shape != (*size, 3):
            raise DktError(
                f"rgb of {self.rgb.shape} {self.rgb.dtype}: expected {(*size, 3)} uint8, "
                "the size that the intrinsics state"
            )
        depth = self.raw_depth
        if depth is None:
            return
        if depth.dtype != np.float32:
            raise DktError(
                f"raw depth of type {depth.dtype}: expected float32 in metres; convert "
                "millimetres (uint16) first"
            )
        if depth.shape != size:
            raise DktError(
                f"raw depth of shape {depth.shape}: expected {size}, registered to the colour "
                "image (RealSense: align_depth.enable:=true)"
            )


class FlushReason(Enum):
    """Why a buffer forgot the frames it held."""

    STAMP_BACKWARDS = "stamps ran backwards"
    GAP = "gap between frames"
    SIZE_CHANGED = "image size changed"
    INTRINSICS_CHANGED = "camera intrinsics changed"
    SCENE_CUT = "another scene"  # noticed by a predictor, never by the buffer


class FrameBuffer:
    """The newest frames of one unbroken stream, oldest first."""

    def __init__(self, max_frames: int, max_gap_s: float) -> None:
        """Holds at most `max_frames` (4N+1: 1, 5, 9, ...), no two further apart than max_gap_s."""
        if max_frames < 1 or max_frames % 4 != 1:
            raise DktError(f"max_frames {max_frames}: expected 4N+1, that is 1, 5, 9, 13, 17, 21")
        if not max_gap_s > 0:
            raise DktError(f"max_gap_s {max_gap_s}: expected a positive number of seconds")
        self.max_frames = max_frames
        self.max_gap_s = max_gap_s
        self._frames: deque[Frame] = deque(maxlen=max_frames)

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: Frame) -> FlushReason | None:
        """Takes a frame; drops it if its stamp is the newest one's.

        Returns why the frames before it were forgotten, None when it continues their stream.
        """
        reason = self._break_before(frame)
        if reason is not None:
            self._frames.clear()
        elif self.is_duplicate(frame):
            return None
        self._frames.append(frame)
        return reason

    def is_duplicate(self, frame: Frame) -> bool:
        """Whether the frame has the newest one's stamp and continues its stream."""
        return (
            bool(self._frames)
            and frame.stamp_ns == self._frames[-1].stamp_ns
            and self._break_before(frame) is None
        )

    def clip(self) -> tuple[Frame, ...]:
        """The newest 4k+1 frames, oldest first, k as large as the buffer allows; () when empty."""
        count = len(self._frames)
        if count == 0:
            return ()
        used = count - (count - 1) % 4
        return tuple(self._frames)[count - used :]

    def newest(self) -> Frame:
        """The frame pushed last; IndexError when empty."""
        return self._frames[-1]

    def clear(self) -> None:
        """Forgets every frame."""
        self._frames.clear()

    def _break_before(self, frame: Frame) -> FlushReason | None:
        if not self._frames:
            return None
        newest = self._frames[-1]
        now, then = frame.intrinsics, newest.intrinsics
        if (now.width, now.height) != (then.width, then.height):
            return FlushReason.SIZE_CHANGED
        if now != then:
            return FlushReason.INTRINSICS_CHANGED
        elapsed_ns = frame.stamp_ns - newest.stamp_ns
        if elapsed_ns < 0:
            return FlushReason.STAMP_BACKWARDS
        if elapsed_ns > self.max_gap_s * NANOSECONDS_PER_SECOND:
            return FlushReason.GAP
        return None
