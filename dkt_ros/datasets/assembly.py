"""A frame put together from its files: every problem is collected before the frame is refused.

Knows which parts a frame has, that they must be of one size, and what makes depth unusable. Knows
nothing of where the files lie.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dkt_ros.arrays import count_of
from dkt_ros.datasets.sample import BadFrameError, Sample
from dkt_ros.errors import DktError
from dkt_ros.geometry import resize_nearest

_FAR_M = 1000.0
"""Renderers store 65504 or 1e10 where a ray meets nothing; no camera's depth reaches this far."""


class Unknown(enum.Flag):
    """How a data set writes "no depth here". Whatever else is no depth becomes a remark."""

    ZERO = enum.auto()
    NEGATIVE = enum.auto()
    NAN = enum.auto()
    FAR = enum.auto()


class FrameAssembly:
    """Collects one frame's parts.

    `load` and `load_depth` read files and remember what is wrong instead of raising; `finish`
    checks the whole and returns the Sample or raises BadFrameError with every problem.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._parts: dict[str, np.ndarray] = {}
        self._paths: dict[str, Path] = {}
        self._problems: list[str] = []
        self._remarks: list[str] = []

    def load(
        self, part: str, path: Path, read: Callable[[Path], np.ndarray], optional: bool = False
    ) -> np.ndarray | None:
        """Reads a part named as in Sample.

        Returns it, or None where that failed or (if optional) the file is not there.
        """
        if optional and not path.exists():
            return None
        try:
            self._parts[part] = read(path)
        except DktError as error:
            self._problems.append(str(error))
            return None
        self._paths[part] = path
        return self._parts[part]

    def load_depth(
        self, part: str, path: Path, read: Callable[[Path], np.ndarray], unknown: Unknown
    ) -> None:
        """Reads a depth map in metres; what is no depth becomes NaN, unexpected kinds a remark."""
        stored = self.load(part, path, read)
        if stored is None:
            return
        with np.errstate(invalid="ignore"):
            kinds = {
                Unknown.NAN: np.isnan(stored),
                Unknown.NEGATIVE: stored < 0,
                Unknown.FAR: stored >= _FAR_M,
                Unknown.ZERO: stored == 0,
            }
        depth = stored.astype(np.float32)
        for kind, where in kinds.items():
            count = count_of(where)
            if count and kind not in unknown:
                self._remarks.append(
                    f"{path}: {count} of {where.size} pixels are {_NAMES[kind]}; read as unknown"
                )
            depth[where] = np.nan
        self._parts[part] = depth

    def replace(self, part: str, value: np.ndarray) -> None:
        """A part computed from the file that `load` read under that name."""
        self._parts[part] = value

    def remark(self, text: str) -> None:
        """Notes what is odd but harmless; the text names the file."""
        self._remarks.append(text)

    def problem(self, text: str) -> None:
        """Notes what makes the frame unusable; the text names the file."""
        self._problems.append(text)

    def shrink_to_depth(self) -> None:
        """Brings parts that are a whole multiple of depth's size down to it.

        rgb by area; everything else by nearest neighbour, so that values are never mixed.
        """
        if "depth" not in self._parts:
            return
        height, width = self._parts["depth"].shape[:2]
        for name, array in self._parts.items():
            factor = array.shape[0] // height
            if factor > 1 and array.shape[:2] == (height * factor, width * factor):
                if name == "rgb":
                    small = cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA)
                else:
                    small = resize_nearest(array, width, height)
                self._parts[name] = small

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the frame's rgb, None where it could not be read."""
        if "rgb" not in self._parts:
            return None
        height, width, _ = self._parts["rgb"].shape
        return height, width

    def finish(
        self,
        camera_matrix: np.ndarray | None = None,
        world_to_camera: np.ndarray | None = None,
    ) -> Sample:
        """The frame; rgb and depth must have been loaded. Raises BadFrameError."""
        self._check_sizes()
        if "depth" in self._parts:
            problem = depth_problem(self._parts["depth"])
            if problem:
                self._problems.append(f"{self._paths['depth']}: {problem}")
        raw_depth = self._parts.get("raw_depth")
        if raw_depth is not None and not np.isfinite(raw_depth).any():
            self._remarks.append(f"{self._paths['raw_depth']}: holds no reading at all")
        if self._problems:
            raise BadFrameError(tuple(self._problems))
        return Sample(
            rgb=self._parts["rgb"],
            depth=self._parts["depth"],
            source=self._source,
            raw_depth=raw_depth,
            mask=self._parts.get("mask"),
            normal=self._parts.get("normal"),
            camera_matrix=camera_matrix,
            world_to_camera=world_to_camera,
            remarks=tuple(self._remarks),
        )

    def _check_sizes(self) -> None:
        if "rgb" not in self._parts:
            return
        expected = self._parts["rgb"].shape[:2]
        for name, array in self._parts.items():
            if array.shape[:2] != expected:
                self._problems.append(
                    f"{self._paths[name]}: is {array.shape[1]}x{array.shape[0]}, expected "
                    f"{expected[1]}x{expected[0]} as {self._paths['rgb'].name}"
                )


def depth_problem(depth: np.ndarray) -> str | None:
    """Why nothing can be learned from a depth map (metres, NaN = unknown), or None."""
    known = depth[np.isfinite(depth)]
    if known.size == 0:
        return "no pixel has a known depth"
    if known.min() == known.max():
        return f"depth range of zero: every known pixel is at {float(known[0]):g} m"
    return None


_NAMES = {
    Unknown.NAN: "NaN",
    Unknown.NEGATIVE: "negative",
    Unknown.FAR: f"at {_FAR_M:g} m or beyond",
    Unknown.ZERO: "zero",
}
