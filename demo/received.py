"""What the subscriber wrote down: one record per camera frame, the pictures of each answer.

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
    known: share of the pixels that have a depth, None: no depth image came.
    has_info, has_confidence: whether depth's camera_info and confidence came at all.
    points: points with finite coordinates, None: no cloud came. The rest is ScaleAlignment's.
    """

    stamp_ns: int
    frame_id: str = ""
    known: float | None = None
    has_info: bool = False
    has_confidence: bool = False
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
    share_sensor: float | None = None
    share_network: float | None = None
    window: int | None = None
    stages_s: dict[str, float] | None = None


@dataclass(frozen=True)
class Reception:
    """sent: stamps of the colour images heard, in order. frames: those of which an answer came."""

    sent: tuple[int, ...]
    frames: tuple[Received, ...]

    @property
    def answered(self) -> tuple[Received, ...]:
        """The answers that hold a depth image, be it without a single known pixel."""
        return tuple(frame for frame in self.frames if frame.known is not None)

    @property
    def with_depth(self) -> tuple[Received, ...]:
        """The answers in which the depth of at least one pixel is known."""
        return tuple(frame for frame in self.frames if frame.known)

    @property
    def incomplete(self) -> tuple[Received, ...]:
        """The answers of which a message is missing: lost on the way, since the node sends all."""
        return tuple(
            frame
            for frame in self.frames
            if not (frame.has_info and frame.has_confidence and frame.state)
            or frame.known is None
            or frame.points is None
        )

    def write(self, folder: Path) -> None:
        """Writes everything but the pictures into `folder`."""
        content = {"sent": self.sent, "frames": [asdict(frame) for frame in self.frames]}
        (folder / _INDEX).write_text(json.dumps(content, indent=1))

    @classmethod
    def read(cls, folder: Path) -> Reception:
        """The inverse of write."""
        content = json.loads((folder / _INDEX).read_text())
        return cls(tuple(content["sent"]), tuple(Received(**frame) for frame in content["frames"]))


def write_image(folder: Path, stamp_ns: int, kind: str, image: npt.NDArray[np.float32]) -> None:
    """Keeps an image (H, W) of an answer, `depth` in metres or `confidence`, under its stamp."""
    np.save(_image_file(folder, stamp_ns, kind), image)


def read_image(folder: Path, stamp_ns: int, kind: str) -> npt.NDArray[np.float32] | None:
    """The image kept under the stamp, None where none came."""
    file = _image_file(folder, stamp_ns, kind)
    if not file.exists():
        return None
    image: npt.NDArray[np.float32] = np.load(file)
    return image


def _image_file(folder: Path, stamp_ns: int, kind: str) -> Path:
    return folder / f"{stamp_ns}.{kind}.npy"
