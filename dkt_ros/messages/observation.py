"""One pair of images and what it came with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dkt_ros.frames import Frame
from dkt_ros.messages.fields import CameraInfo
from dkt_ros.messages.pixels import ImageMessage


@dataclass(frozen=True, eq=False)
class Observation:
    """One pair of images, not decoded yet: inference may be too slow to want it.

    decode       makes the frame; raises DktError where an image turns out to be damaged
    stamp_ns     the colour image's
    size         (height, width) of the images
    camera_info  the calibration that holds for the frame, as the camera sent it; but region and
                 binning are in K and P, and of rectified images K is P's and nothing is distorted
    epoch        rises when the stream broke between frames that inference may not see: time ran
                 back, no frame came for max_gap_s, or an encoding changed
    arrived_s    when the colour image reached the node, time.monotonic()
    color        the colour image as it was sent
    again        whether that image, and the depth's, is to the bit the one of the pair before
    """

    decode: Callable[[], Frame]
    stamp_ns: int
    size: tuple[int, int]
    camera_info: CameraInfo
    epoch: int
    arrived_s: float
    color: ImageMessage
    again: tuple[bool, bool] = (False, False)
