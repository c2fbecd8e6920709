"""Image files to frames: which colour picture goes with which depth, truth and mask.

Knows names of files and how they pair. Knows nothing of bags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dkt_ros.bags.images import read_depth, read_intrinsics, read_mask
from dkt_ros.bags.recording import DEFAULT_START_S, LabelledFrame, stamps
from dkt_ros.datasets.files import read_rgb
from dkt_ros.errors import DktError
from dkt_ros.frames import NANOSECONDS_PER_SECOND, Frame
from dkt_ros.geometry import METRES_PER_MILLIMETRE, Intrinsics


@dataclass(frozen=True)
class ImageFolder:
    """Where the pictures are and how they pair.

    Patterns are relative to `folder` and hold one `*`; pictures belong together where the text in
    the place of the `*` is the same (`color/*.png` and `depth/*.exr`, or `*-rgb.jpg` and
    `*-depth.png`).
    intrinsics: a YAML file (images.read_intrinsics) or fx, fy, cx, cy in pixels.
    metres_per_unit: of 16-bit depth maps.
    repeat: how often each picture is shown in a row, with stamps that go on.
    gap_s: extra seconds between two pictures, so that unrelated scenes are not taken for one video.
    """

    folder: Path
    intrinsics: Path | tuple[float, float, float, float]
    color: str = "color/*"
    depth: str | None = "depth/*"
    truth: str | None = None
    mask: str | None = None
    metres_per_unit: float = METRES_PER_MILLIMETRE
    rate_hz: float = 10.0
    start_s: float = DEFAULT_START_S
    frame_id: str = "camera_color_optical_frame"
    repeat: int = 1
    gap_s: float = 0.0

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise DktError(f"repeat is {self.repeat}, expected 1 or more")
        if not self.gap_s >= 0:
            raise DktError(f"gap is {self.gap_s} s, expected 0 or more")
        if not self.metres_per_unit > 0:
            raise DktError(f"depth scale is {self.metres_per_unit}, expected metres per unit")


def read_frames(source: ImageFolder) -> Iterator[LabelledFrame]:
    """Frames in the order of their names, one at a time.

    Raises DktError where no colour picture matches, a partner is missing, or a file is unusable.
    """
    roles = {"depth": source.depth, "truth": source.truth, "mask": source.mask}
    color = _matches(source.folder, source.color)
    partners = {
        role: _matches(source.folder, pattern) for role, pattern in roles.items() if pattern
    }
    for role, files in partners.items():
        missing = sorted(color.keys() - files.keys())
        if missing:
            raise DktError(
                f"{source.folder}: {len(missing)} of {len(color)} colour pictures have no {role} "
                f"by the pattern {roles[role]!r}, the first is {color[missing[0]].name}"
            )
    clock = stamps(source.rate_hz, source.start_s)
    for index, key in enumerate(sorted(color)):
        pause_ns = round(index * source.gap_s * NANOSECONDS_PER_SECOND)
        rgb = read_rgb(color[key])
        height, width = rgb.shape[:2]
        intrinsics = _intrinsics(source.intrinsics, width, height)
        files = {role: found[key] for role, found in partners.items()}
        scale = source.metres_per_unit
        raw_depth = read_depth(files["depth"], scale) if "depth" in files else None
        truth = read_depth(files["truth"], scale) if "truth" in files else None
        mask = read_mask(files["mask"]) if "mask" in files else None
        for _ in range(source.repeat):
            frame = Frame(
                rgb=rgb,
                raw_depth=raw_depth,
                intrinsics=intrinsics,
                stamp_ns=next(clock) + pause_ns,
                frame_id=source.frame_id,
            )
            yield LabelledFrame(frame, truth, mask)


def _matches(folder: Path, pattern: str) -> dict[str, Path]:
    """The text in the place of the pattern's `*` -> file; a suffix after `*` may be left out."""
    if pattern.count("*") != 1:
        raise DktError(f"pattern {pattern!r} must hold exactly one *")
    if not folder.is_dir():
        raise DktError(f"{folder}: no such folder")
    prefix, suffix = pattern.split("*")
    found = {}
    for path in sorted(folder.glob(pattern)):
        name = path.relative_to(folder).as_posix()
        key = name[len(prefix) : len(name) - len(suffix)]
        # `color/*` pairs with `depth/*` although .jpg and .png differ.
        found[key if suffix else str(Path(key).with_suffix(""))] = path
    if not found:
        raise DktError(f"{folder}: no file matches {pattern!r}")
    return found


def _intrinsics(
    given: Path | tuple[float, float, float, float], width: int, height: int
) -> Intrinsics:
    if isinstance(given, Path):
        return read_intrinsics(given, width, height)
    fx, fy, cx, cy = given
    return Intrinsics(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
