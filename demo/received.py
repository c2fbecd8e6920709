"""What the subscriber wrote down: one record per camera frame, one depth image per answer.

Knows the files. Knows nothing of ROS.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_INDEX = "received.json"


@dataclass
class Received:
    """What came of one camera frame; times are seconds after the camera's message, None: not known.

    depth_s, points_s, alignment_s: when the node's messages came.
    has_depth, has_info: whether depth and its camera_info came at all.
    points: points with finite coordinates, None: no cloud came. The rest is ScaleAlignment's.
    """

    stamp_ns: int
    frame_id: str = ""
    has_depth: bool = False
    has_info: bool = False
    depth_s: float | None = None
    points_s: float | None = None
    alignment_s: float | None = None
    points: int | None = None
    state: str = ""
    reason: str = ""
    scale: float | None = None
    shift: float | None = None
    inlier_ratio: float | None = None
    residual_m: float | None = None
    window: int | None = None
    stages_s: dict[str, float] | None = None


@dataclass(frozen=True)
class Reception:
    """sent: stamps of all frames the camera sent, in order. frames: those that were answered."""

    sent: tuple[int, ...]
    frames: tuple[Received, ...]

    @property
    def with_depth(self) -> tuple[Received, ...]:
        """The answers that hold a depth image."""
        return tuple(frame for frame in self.frames if frame.has_depth)

    @property
    def incomplete(self) -> tuple[Received, ...]:
        """The answers of which a message is missing: lost on the way, since the node sends all."""
        return tuple(
            frame
            for frame in self.frames
            if not (frame.has_depth and frame.has_info and frame.state) or frame.points is None
        )

    def write(self, folder: Path) -> None:
        """Writes everything but the depth images into `folder`."""
        content = {"sent": self.sent, "frames": [asdict(frame) for frame in self.frames]}
        (folder / _INDEX).write_text(json.dumps(content, indent=1))

    @classmethod
    def read(cls, folder: Path) -> Reception:
        """The inverse of write."""
        content = json.loads((folder / _INDEX).read_text())
        return cls(tuple(content["sent"]), tuple(Received(**frame) for frame in content["frames"]))


def write_depth(folder: Path, stamp_ns: int, depth: npt.NDArray[np.float32]) -> None:
    """Keeps a depth image (H, W), metres, under its stamp."""
    np.save(_depth_file(folder, stamp_ns), depth)


def read_depth(folder: Path, stamp_ns: int) -> npt.NDArray[np.float32]:
    """The depth image kept under the stamp."""
    depth: npt.NDArray[np.float32] = np.load(_depth_file(folder, stamp_ns))
    return depth


def _depth_file(folder: Path, stamp_ns: int) -> Path:
    return folder / f"{stamp_ns}.npy"
