"""What a bag holds of chosen frames: colour, raw depth, truth and mask, paired by stamp.

Knows bags and messages. Knows nothing of the node.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.serialization import deserialize_message

from demo.stamps import NANOSECONDS_PER_SECOND, header_stamp_ns
from dkt_ros.bags.reader import BagReader, RecordedMessage
from dkt_ros.bags.topics import CameraTopics
from dkt_ros.messages.images import DepthImage, RgbImage
from dkt_ros.messages.pixels import depth_of, rgb_of
from dkt_ros.ros.replay.bag_player import message_class

# Raw depth may be stamped beside colour by this much; truth and mask have colour's stamp.
_DEPTH_SLOP_NS = 20_000_000
# Messages of one frame lie this close together in the bag.
_SPREAD_NS = NANOSECONDS_PER_SECOND


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One frame as the bag holds it; None: the bag has it not.

    rgb: (H,W,3) uint8. raw_depth, truth: (H,W) float32 metres, NaN = unknown.
    mask: (H,W) uint8 of transphy3d.MaterialClass.
    """

    stamp_ns: int
    rgb: RgbImage
    raw_depth: DepthImage | None
    truth: DepthImage | None
    mask: npt.NDArray[np.uint8] | None


@dataclass
class _Pending:
    first_seen_ns: int
    parts: dict[str, RecordedMessage] = field(default_factory=dict)
    depth_distance_ns: int = _DEPTH_SLOP_NS + 1


def read_frames(
    bag: BagReader, topics: CameraTopics, stamps: Collection[int]
) -> Iterator[RecordedFrame]:
    """The frames whose colour has one of the stamps, in the bag's order; few are held at a time.

    Raises DktError where the bag is damaged, MessageError where a picture cannot be decoded.
    """
    wanted = sorted(stamps)
    roles = {
        name: role
        for role in ("color", "depth", "truth", "mask")
        if (name := getattr(topics, role)) is not None
    }
    pending: dict[int, _Pending] = {}
    for message in bag.messages(roles):
        _file(message, roles[message.topic], wanted, pending)
        done = [s for s, p in pending.items() if p.first_seen_ns < message.time_ns - _SPREAD_NS]
        yield from _decoded(pending, done)
    yield from _decoded(pending, sorted(pending))


def _file(
    message: RecordedMessage, role: str, wanted: list[int], pending: dict[int, _Pending]
) -> None:
    stamp = header_stamp_ns(message.cdr)
    nearest = _nearest(wanted, stamp)
    if nearest is None:
        return
    distance = abs(nearest - stamp)
    if distance > (_DEPTH_SLOP_NS if role == "depth" else 0):
        return
    entry = pending.setdefault(nearest, _Pending(message.time_ns))
    if role == "depth":
        if distance >= entry.depth_distance_ns:
            return
        entry.depth_distance_ns = distance
    entry.parts[role] = message


def _nearest(ordered: list[int], value: int) -> int | None:
    index = bisect_left(ordered, value)
    around = ordered[max(0, index - 1) : index + 1]
    return min(around, key=lambda candidate: abs(candidate - value)) if around else None


def _decoded(pending: dict[int, _Pending], stamps: list[int]) -> Iterator[RecordedFrame]:
    for stamp in stamps:
        parts = pending.pop(stamp).parts
        if "color" not in parts:
            continue
        mask = rgb_of(_message(parts["mask"])) if "mask" in parts else None
        yield RecordedFrame(
            stamp_ns=stamp,
            rgb=rgb_of(_message(parts["color"])),
            raw_depth=depth_of(_message(parts["depth"])) if "depth" in parts else None,
            truth=depth_of(_message(parts["truth"])) if "truth" in parts else None,
            # A grey picture has three equal channels by now.
            mask=None if mask is None else np.ascontiguousarray(mask[..., 0]),
        )


def _message(recorded: RecordedMessage) -> Any:
    return deserialize_message(recorded.cdr, message_class(recorded.msgtype))
