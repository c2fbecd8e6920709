"""A rendered sequence (a TransPhy3D tar) as frames. Knows nothing of bags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dkt_ros.bags.recording import DEFAULT_START_S, FRAME_ID, LabelledFrame, stamps
from dkt_ros.errors import DktError
from dkt_ros.formats.tar_index import read_members, tar_index
from dkt_ros.formats.transphy3d import decode_frame
from dkt_ros.frames import Frame
from dkt_ros.geometry import Intrinsics


def read_frames(
    path: Path,
    *,
    rate_hz: float = 10.0,
    start_s: float = DEFAULT_START_S,
    frame_id: str = FRAME_ID,
    frames: slice = slice(None),
) -> Iterator[LabelledFrame]:
    """The sequence's frames with truth and mask, `frames` of them, stamped at `rate_hz`.

    Raises DktError where the tar is unusable or holds no such frames.
    """
    index = tar_index(path)
    chosen = sorted(index)[frames]
    if not chosen:
        raise DktError(f"{path}: none of its {len(index)} frames is chosen")
    clock = stamps(rate_hz, start_s)
    for key in chosen:
        source = decode_frame(read_members(path, key, index[key]), f"{path}: {key}")
        height, width = source.rgb.shape[:2]
        frame = Frame(
            rgb=source.rgb,
            raw_depth=source.raw_depth,
            intrinsics=Intrinsics.from_matrix(source.camera_matrix, width, height),
            stamp_ns=next(clock),
            frame_id=frame_id,
        )
        yield LabelledFrame(frame, source.depth, source.mask)
