"""Rendered sequences held in memory, and augmented batches drawn from them.

Knows TransPhy3D tars, of which only sound ones are taken, and the normalisation of disparity. Knows
nothing of networks. Every batch is a function of (seed, step) and of the clips loaded, so that a
resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.datasets.dataset import UNSPLIT
from dkt_ros.datasets.sample import Sample
from dkt_ros.datasets.transphy3d import TransPhy3dClip
from dkt_ros.errors import DktError
from dkt_ros.geometry import disparity_of
from dkt_ros.model.condition import pictures, range_of
from dkt_ros.train.data.disparity import clip_range, half_range, normalise
from dkt_ros.train.sensor import failing_clip
from dkt_ros.train.small import TarFolder, resized, samples_of

Array = TypeVar("Array")
_SMALLEST_CROP = 0.5
_STILL = 0.5


@dataclass(frozen=True)
class Clip:
    """One sequence.

    rgb: (T,H,W,3) uint8. disparity: (T,H,W) float32 1/m, 0 = unknown. mask: (T,H,W) uint8 material
    class, 0 = opaque. readings: (T,H,W) float32, 1/raw depth, 0 = none; None without raw depth.
    """

    name: str
    rgb: np.ndarray
    disparity: np.ndarray
    mask: np.ndarray
    readings: np.ndarray | None = None


@dataclass(frozen=True)
class Batch(Generic[Array]):
    """B clips of F frames, float32, as arrays of numpy's or tensors.

    rgb: (B,3,F,H,W) in [-1,1]. target: (B,1,F,H,W) normalised disparity in [-1,1], unknown = -1.
    known: (B,1,F,H,W) 1 where the target counts. objects: (B,1,F,H,W) 1 on transparent and
    reflective pixels. relative: (B,1,F,H,W) what an error of 1 in target means as a relative
    error of depth, half the clip's disparity range over the pixel's disparity.
    condition: (B,3,F,H,W) pictures of the raw depth, see model/condition.py. given: (B,1,1,1,1) 1
    where there are such; the others' are zero. Of those the target is in the range that the
    readings tell.
    """

    rgb: Array
    target: Array
    known: Array
    objects: Array
    relative: Array
    condition: Array
    given: Array


class SequenceFolder(TarFolder[Clip]):
    """Clips, and batches drawn from them."""

    @property
    def clips(self) -> list[Clip]:
        """All of them."""
        return self.items

    def read(self, path: Path) -> list[Clip]:
        """See TarFolder; a tar is refused where one frame is: without it it were no video.

        Raises DktError that names what `dkt data check` would.
        """
        if breaks := TransPhy3dClip(path, path.stem, UNSPLIT, is_video=True).problems():
            raise DktError("; ".join(breaks))
        samples = samples_of(path)
        self.look_at(samples[0])
        return [_clip(path.stem, samples)]

    def batch(
        self,
        seed: int,
        step: int,
        size: tuple[int, int],
        count: int,
        frames: int,
        conditioned: float = 0.0,
    ) -> Batch[np.ndarray]:
        """An augmented batch of `count` clips of `frames` frames at (height, width) pixels.

        conditioned: share of clips that come with their raw depth, where they have any. Of clips of
        more than one frame half stand still, one frame of any sequence with its faults drawn anew;
        the others come from sequences long enough, where there are any.
        """
        rng = np.random.default_rng([seed, step])
        long_enough = [clip for clip in self.clips if len(clip.rgb) >= frames]
        rows = []
        for _ in range(count):
            moves = frames > 1 and bool(long_enough) and rng.random() >= _STILL
            pool = long_enough if moves else self.clips
            clip = pool[rng.integers(len(pool))]
            chosen = _frames(len(clip.rgb), frames, moves, rng)
            rows.append(_draw(clip, chosen, rng, size, conditioned))
        return stack(rows)


def stack(rows: list[Batch[np.ndarray]]) -> Batch[np.ndarray]:
    """Joins batches of equal sizes."""
    return Batch(*(np.concatenate([vars(r)[k] for r in rows]) for k in Batch.__annotations__))


def make_sample(
    rgb: np.ndarray, disparity: np.ndarray, mask: np.ndarray, readings: np.ndarray | None = None
) -> Batch[np.ndarray]:
    """One clip, (F,H,W,3) uint8, (F,H,W) 1/m and (F,H,W), as a batch of one.

    Disparity is mapped to [-1, 1] with clamping: between the clip's 2nd and 98th percentile, or,
    where readings (F,H,W) in 1/m are given and there are enough, in the range that they tell.
    """
    known = disparity > 0
    limits = None if readings is None else range_of(readings)
    condition = np.zeros((1, 3, *disparity.shape), np.float32)
    if limits is not None and readings is not None:
        low, high = limits.low, limits.high
        condition[0] = pictures(readings, limits)
    else:
        low, high = clip_range(disparity, known) if known.any() else (0.0, 1.0)
    target = np.where(known, normalise(disparity, low, high), -1.0)
    relative = np.where(known, half_range(low, high) / np.maximum(disparity, 1e-3), 0.0)
    planes = [p.astype(np.float32)[None, None] for p in (target, known, mask > 0, relative)]
    video = rgb.astype(np.float32).transpose(3, 0, 1, 2)[None] / 127.5 - 1.0
    given = np.full((1, 1, 1, 1, 1), limits is not None, np.float32)
    wanted, valid, objects, weight = planes
    return Batch(video, wanted, valid, objects, weight, condition, given)


def _clip(name: str, frames: list[Sample]) -> Clip:
    disparity = np.stack([disparity_of(frame.depth) for frame in frames])
    raw = [frame.raw_depth for frame in frames if frame.raw_depth is not None]
    readings = np.stack([disparity_of(one) for one in raw]) if len(raw) == len(frames) else None
    masks = [
        np.zeros(frame.depth.shape, np.uint8) if frame.mask is None else frame.mask
        for frame in frames
    ]
    rgb = np.stack([frame.rgb for frame in frames])
    return Clip(name, rgb, disparity, np.stack(masks), readings)


def _frames(length: int, frames: int, moves: bool, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices into a sequence: successive ones forth or back, or one again and again."""
    if not moves:
        return np.full(frames, rng.integers(length))
    start = int(rng.integers(length - frames + 1))
    chosen = np.arange(start, start + frames)
    return chosen[::-1] if rng.random() < 0.5 else chosen


def _draw(
    clip: Clip,
    chosen: NDArray[np.intp],
    rng: np.random.Generator,
    size: tuple[int, int],
    conditioned: float,
) -> Batch[np.ndarray]:
    height, width = clip.rgb.shape[1:3]
    share = 1.0 if rng.random() < 0.5 else float(rng.uniform(_SMALLEST_CROP, 1.0))
    crop_height, crop_width = round(height * share), round(width * share)
    top = int(rng.integers(height - crop_height + 1))
    left = int(rng.integers(width - crop_width + 1))
    window = (slice(top, top + crop_height), slice(left, left + crop_width))
    flip = rng.random() < 0.5
    colour = _ColourChange(rng)
    rgb = np.stack(
        [colour(resized(clip.rgb[index][window], size, flip, nearest=False)) for index in chosen]
    )

    def cut(maps: np.ndarray) -> np.ndarray:
        return np.stack([resized(maps[i][window], size, flip) for i in chosen])

    disparity, mask, readings = cut(clip.disparity), cut(clip.mask), None
    if conditioned > 0 and clip.readings is not None and rng.random() < conditioned:
        readings = failing_clip(cut(clip.readings), disparity, mask, rng)
    return make_sample(rgb, disparity, mask, readings)


class _ColourChange:
    """One photometric change, the same for every frame of a clip; noise differs per frame."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.gamma = float(np.exp(rng.uniform(-0.4, 0.4)))
        self.gains = np.exp(rng.uniform(-0.15, 0.15, 3) + rng.uniform(-0.25, 0.25))
        self.offset = float(rng.uniform(-0.08, 0.08))
        self.saturation = float(rng.uniform(0.0, 1.4))
        self.swap = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
        self.noise = float(rng.uniform(0.0, 0.03))
        self.blur = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.2 else 0.0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = (image.astype(np.float32) / 255.0) ** np.float32(self.gamma)
        x = x[..., self.swap]
        grey = x.mean(axis=-1, keepdims=True)
        x = (grey + (x - grey) * self.saturation) * self.gains + self.offset
        if self.blur:
            x = cv2.GaussianBlur(x, (0, 0), self.blur)
        x = x + self.rng.normal(0.0, self.noise, (*x.shape[:2], 1))
        return np.clip(x * 255.0, 0, 255).astype(np.uint8)
