"""Frames of a data set to what the VAE is fed: pictures and disparity of one size, and weights.

Knows sizes, augmentation and the normalisation of disparity. Knows nothing of where frames come
from or what encodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.geometry import disparity_of, resize_nearest, resize_readings
from dkt_ros.model.canvas import resize
from dkt_ros.model.condition import fill, pictures, range_of
from dkt_ros.train.data.augmentation import AS_IT_IS, Augmentation
from dkt_ros.train.data.config import DisparityConfig
from dkt_ros.train.data.disparity import clip_range, normalise
from dkt_ros.train.sensor import failing_clip

LEAST_KNOWN = 0.01
"""Share of a clip's pixels that must have a true depth."""
LEAST_RELIEF = 1e-3
"""Smallest range of a clip's disparity, as a share of the disparity: below, noise would be blown up
to the whole of [-1, 1]."""


@dataclass(frozen=True)
class FrameView:
    """One frame at the training size.

    rgb: (3, H, W) float32 in [0, 255]. depth: (H, W) float32 metres, NaN = unknown.
    native: (height, width) of the frame before. readings: (H, W) float32, 1/raw depth, 0 = none;
    objects: (H, W) uint8, above 0 on glass and metal; None where the data set lacks them.
    """

    rgb: Tensor
    depth: np.ndarray
    native: tuple[int, int]
    readings: np.ndarray | None = None
    objects: np.ndarray | None = None


@dataclass(frozen=True)
class ClipView:
    """One clip of F = 4n - 3 frames as the VAE is fed with it, float32.

    rgb: (1, 3, F, H, W) in [-1, 1]. disparity: (1, 1, F, H, W) in [-1, 1], near = 1, known
    everywhere. weight: (1, n, H / ratio, W / ratio), share of pixels whose depth is truly known.
    raw: (1, 3, F, H, W) pictures of the raw depth, see model/condition.py; None: not shown.
    """

    rgb: Tensor
    disparity: Tensor
    weight: Tensor
    raw: Tensor | None = None


def view_frame(
    sample: Sample,
    augmentation: Augmentation,
    size: tuple[int, int],
    depth_range: tuple[float, float] | None = None,
) -> FrameView:
    """Cut, mirrored and resized to (height, width); never distorted beyond a pixel's rounding.

    RGB is resized as at inference (bicubic, antialiased), depth by nearest neighbour, since a mean
    over an edge is no surface. A portrait picture is turned by 90 degrees where the size is not
    portrait, as at inference. Depth outside depth_range (metres) becomes unknown.
    """
    native = sample.depth.shape[0], sample.depth.shape[1]
    turns = native[0] > native[1] and size[0] <= size[1]
    box = augmentation.box(native[::-1] if turns else native, size)

    def cut(image: np.ndarray) -> np.ndarray:
        part = (np.rot90(image) if turns else image)[box]
        return part[:, ::-1] if augmentation.flip else part

    def small(image: np.ndarray | None) -> np.ndarray | None:
        return None if image is None else resize_nearest(cut(image), size[1], size[0])

    image = torch.from_numpy(np.ascontiguousarray(cut(sample.rgb))).movedim(-1, 0)[None].float()
    depth = resize_nearest(cut(sample.depth), size[1], size[0]).astype(np.float32)
    if depth_range is not None:
        with np.errstate(invalid="ignore"):
            depth[(depth < depth_range[0]) | (depth > depth_range[1])] = np.nan
    readings = None
    if sample.raw_depth is not None:
        readings = disparity_of(resize_readings(cut(sample.raw_depth), size[1], size[0]))
    picture = resize(image, size)[0].clamp_(0.0, 255.0)
    return FrameView(picture, depth, native, readings, small(sample.mask))


def view_clip(
    frames: Sequence[FrameView], augmentation: Augmentation, config: DisparityConfig, ratio: int
) -> ClipView:
    """Puts a clip together; ratio: pixels per latent along each side.

    Disparity is normalised between percentiles of the whole clip, or, where raw depth is shown, in
    the range that its readings tell, as at inference; unknown pixels take the value of
    the nearest known one of their frame (of the nearest frame in time where theirs has none).
    Raises DktError where nothing could be learned from the clip.
    """
    natives = {frame.native for frame in frames}
    if len(natives) > 1:
        found = ", ".join(f"{height}x{width}" for height, width in sorted(natives))
        raise DktError(f"frames of several sizes {found}, expected one")
    depth = np.stack([frame.depth for frame in frames])
    known = np.isfinite(depth)
    if known.mean() < LEAST_KNOWN:
        raise DktError(f"depth is known on {known.mean():.2%} of what is seen; too little")
    disparity = np.divide(1.0, depth, out=np.zeros_like(depth), where=known)
    low, high = clip_range(disparity, known, (config.low_percentile, config.high_percentile))
    if high - low < LEAST_RELIEF * high:
        raise DktError(f"depth range of zero in what is seen: all at about {1.0 / high:.4g} m")
    readings, limits = _readings(frames, disparity, augmentation), None
    if readings is not None and (limits := range_of(readings)) is not None:
        low, high = limits.low, limits.high
    target = normalise(fill(disparity), low, high)
    rgb = augmentation.colour(torch.stack([frame.rgb for frame in frames]))
    return ClipView(
        (rgb / 127.5 - 1.0).movedim(1, 0)[None],
        torch.from_numpy(target.astype(np.float32))[None, None],
        latent_weight(known, ratio),
        None
        if limits is None or readings is None
        else torch.from_numpy(pictures(readings, limits))[None],
    )


def _readings(
    frames: Sequence[FrameView], disparity: np.ndarray, augmentation: Augmentation
) -> np.ndarray | None:
    """What the sensor of the augmentation measures, (F,H,W) in 1/m; None where it is not shown."""
    raw = [frame.readings for frame in frames if frame.readings is not None]
    if augmentation.sensor is None or len(raw) < len(frames):
        return None
    readings = np.stack(raw)
    if augmentation.sensor == AS_IT_IS:
        return readings
    nothing = np.zeros(readings.shape[1:], np.uint8)
    objects = [nothing if frame.objects is None else frame.objects for frame in frames]
    random = np.random.default_rng(augmentation.sensor)
    return failing_clip(readings, disparity, np.stack(objects), random)


def latent_weight(known: np.ndarray, ratio: int) -> Tensor:
    """(F,H,W) bool -> (1, n, H / ratio, W / ratio): known share of the pixels behind each latent.

    Those are ratio x ratio pixels of the first frame, then of four frames at a time.
    """
    shares = avg_pool2d(torch.from_numpy(known.astype(np.float32))[None], ratio)[0]
    following = shares[1:].reshape(-1, 4, *shares.shape[1:]).mean(dim=1)
    return torch.cat([shares[:1], following])[None]
