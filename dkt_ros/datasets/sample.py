"""One frame of any data set, in this package's units and axes.

Knows what a frame is made of. Knows nothing of files or layouts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass


class BadFrameError(DktError):
    """A frame that must not be learned from or measured against.

    problems: one line per file (or fact) that does not fit, each naming it.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[BadFrameError], tuple[tuple[str, ...]]]:
        """So that a data loader's worker process can hand it on."""
        return BadFrameError, (self.problems,)


@dataclass(frozen=True, eq=False)
class Sample:
    """One frame; every picture has the size of depth.

    rgb: (H,W,3) uint8.
    depth: (H,W) float32, true planar depth in metres to the first surface (glass included), NaN =
        unknown. At least two different depths are known.
    source: names the frame in messages (data set folder, clip and frame).
    raw_depth: (H,W) float32 metres, what a sensor measured or was simulated to, NaN = no reading.
    mask: (H,W) uint8 of transphy3d.MaterialClass. Data sets that do not tell transparent from
        reflective mark their objects TRANSPARENT.
    normal: (H,W,3) float32 unit vectors in camera axes (x right, y down, z forward), 0 = unknown.
    camera_matrix: (3,3) float64 in pixels; the centre of the top left pixel is (0, 0).
    world_to_camera: (4,4) float64, camera axes as of normal.
    remarks: what is odd in the files without spoiling the frame, each line naming its file.
    """

    rgb: np.ndarray
    depth: np.ndarray
    source: str
    raw_depth: np.ndarray | None = None
    mask: np.ndarray | None = None
    normal: np.ndarray | None = None
    camera_matrix: np.ndarray | None = None
    world_to_camera: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """(H,W) bool: where the true depth is known."""
        return np.isfinite(self.depth)

    @property
    def transparent_or_reflective(self) -> np.ndarray | None:
        """(H,W) bool: the pixels that depth cameras fail on; None where the set has no mask."""
        return None if self.mask is None else self.mask != MaterialClass.OPAQUE
