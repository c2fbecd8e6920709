"""Data sets as videos to be measured: frames stacked, bad ones left out and named.

Knows data sets and how much of them is looked at. Knows nothing of
predictions or errors. One video is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dkt_ros.datasets.dataset import Clip, Dataset
from dkt_ros.datasets.iterate import Skipped, read_frame
from dkt_ros.datasets.plausibility import Suspects
from dkt_ros.datasets.registry import layout_of
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.evaluation.regions import UNKNOWN_CLASS

DEFAULT_RANGE = (0.1, 10.0)


def depth_range_of(kind: str) -> tuple[float, float]:
    """The depths that count, metres: as published for this kind of data set, or DEFAULT_RANGE."""
    return layout_of(kind).published_range or DEFAULT_RANGE


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of one camera with their truth; a picture that is no video is one of one frame.

    rgb: (T,H,W,3) uint8. truth: (T,H,W) float32 metres, NaN unknown.
    classes: (T,H,W) MaterialClass or regions.UNKNOWN_CLASS; None where no frame has a mask.
    reflective: whether the classes tell reflective from transparent.
    raw: (T,H,W) float32 metres, NaN no reading; None where no frame has any.
    normals: (T,H,W,3) float32 unit vectors in camera axes, 0 unknown; None where no frame has any.
    camera_matrices: (T,3,3) pixels; None unless every frame has one.
    world_to_camera: (T,4,4); None unless every frame has one.
    clip: where the frames come from. indices: their places in it.
    """

    name: str
    rgb: np.ndarray
    truth: np.ndarray
    classes: np.ndarray | None = None
    reflective: bool = True
    raw: np.ndarray | None = None
    normals: np.ndarray | None = None
    camera_matrices: np.ndarray | None = None
    world_to_camera: np.ndarray | None = None
    clip: Clip | None = None
    indices: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]


@dataclass
class VideoReader:
    """The videos of one data set, in order, one held at a time.

    split: only its clips, or all. stride: every which frame is looked at. max_frames: frames looked
    at per clip, which bounds the memory that a long video takes (per frame of H x W pixels, about
    90 H W bytes with predictions); None is all. with_normals: whether to read true normals.

    After iterating: skipped names what did not fit, left_out counts frames that stride and
    max_frames passed over, remarks holds what is odd about clips as a whole and what their first
    frames give away as wrong, each kind once.
    Raises DktError where the split has no clip, or stride or max_frames is below 1.
    """

    dataset: Dataset
    split: str | None = None
    stride: int = 1
    max_frames: int | None = None
    with_normals: bool = True
    skipped: Skipped = field(default_factory=Skipped)
    left_out: int = 0
    remarks: list[str] = field(default_factory=list)
    _suspects: Suspects = field(default_factory=Suspects, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("stride", "max_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DktError(f"{name} is {value}, expected at least 1")
        self.clips = self.dataset.select(self.split)

    def __iter__(self) -> Iterator[Video]:
        for clip in self.clips:
            yield from self.videos_of(clip)

    def videos_of(self, clip: Clip) -> Iterator[Video]:
        """The clip as one video, or each of its pictures by itself."""
        try:
            indices = range(0, len(clip), self.stride)[: self.max_frames]
        except DktError as error:
            self.skipped.add(clip.name, str(error))
            return
        self.left_out += len(clip) - len(indices)
        self.remarks.extend(clip.problems())
        reflective = layout_of(self.dataset.kind).tells_reflective
        samples: list[Sample] = []
        looked_at = False
        kept: list[int] = []
        for index in indices:
            frame = read_frame(clip, index, self.skipped, with_normal=self.with_normals)
            if frame is None:
                continue
            if not looked_at:
                self.remarks.extend(self._suspects.of(frame))
                looked_at = True
            if not clip.is_video:
                picture = stack(f"{clip.name}/{clip.keys[index]}", [frame], reflective)
                yield replace(picture, clip=clip, indices=(index,))
            elif samples and frame.rgb.shape != samples[0].rgb.shape:
                found, expected = (
                    f"{s.rgb.shape[1]}x{s.rgb.shape[0]}" for s in (frame, samples[0])
                )
                why = f"is {found}, expected {expected} as the video's first frame"
                self.skipped.add(f"{clip.name} frame {index}", why)
            else:
                samples.append(frame)
                kept.append(index)
        if samples:
            yield replace(stack(clip.name, samples, reflective), clip=clip, indices=kept)


def stack(name: str, samples: Sequence[Sample], reflective: bool) -> Video:
    """One video of frames of one size; parts that only some frames have are filled as unknown."""
    shape = samples[0].depth.shape
    return Video(
        name=name,
        rgb=np.stack([sample.rgb for sample in samples]),
        truth=np.stack([sample.depth for sample in samples]),
        classes=_filled([s.mask for s in samples], np.full(shape, UNKNOWN_CLASS, np.uint8)),
        reflective=reflective,
        raw=_filled([s.raw_depth for s in samples], np.full(shape, np.nan, np.float32)),
        normals=_filled([s.normal for s in samples], np.zeros((*shape, 3), np.float32)),
        camera_matrices=_whole([s.camera_matrix for s in samples]),
        world_to_camera=_whole([s.world_to_camera for s in samples]),
    )


def _filled(parts: Sequence[np.ndarray | None], unknown: np.ndarray) -> np.ndarray | None:
    if all(part is None for part in parts):
        return None
    return np.stack([unknown if part is None else part for part in parts])


def _whole(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.stack(present) if len(present) == len(parts) else None
