"""Video in, relative disparity out: sizes, orientation and clip length around the exact sampler.

Knows what the network may be fed. Knows nothing of files, cameras or metric scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from dkt_ros.errors import DktError
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import initial_noise, sample

FRAMES_PER_LATENT = 4
Stage = Callable[[str, int, int], None]
"""on_progress(stage name, parts done, parts in all)."""


@dataclass(frozen=True)
class PredictOptions:
    """How to sample. `None` takes the checkpoint's own value.

    steps: Euler steps, at least 1. window, overlap: latent frames, 0 <= overlap < window. An
    overlap left to the checkpoint shrinks to fit a small window. seed: of the noise. size: (height,
    width) in pixels the network works at, rounded to multiples of 16; None is the input's own.
    """

    steps: int | None = None
    window: int | None = None
    overlap: int | None = None
    seed: int = 1
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DktError(f"{name} is {value}, expected at least 1")
        if self.overlap is not None and self.overlap < 0:
            raise DktError(f"overlap is {self.overlap}, expected at least 0")
        if self.window is not None and self.overlap is not None:
            _check_overlap(self.overlap, self.window)
        if not -(2**63) <= self.seed < 2**64:
            raise DktError(f"seed is {self.seed}, expected a 64-bit integer")
        if self.size is not None and min(self.size) < 1:
            raise DktError(f"size is {self.size[0]}x{self.size[1]}, expected positive HxW pixels")


def predict_disparity(
    network: DktNetwork,
    rgb: np.ndarray,
    options: PredictOptions | None = None,
    on_progress: Stage = lambda stage, done, total: None,
) -> np.ndarray:
    """Relative disparity (near = large) of a video, by the exact sampler.

    rgb: uint8 (T, H, W, 3), T >= 1. Returns float32 (T, H, W) in [0, 1]: the decoded video's mean
    over its channels, (x + 1) / 2, never rounded to 8 bits. Portrait video is turned by 90 degrees
    for the network, clips are padded to 4N+1 frames by repeating the last.
    Raises DktError for input of another shape or type and for options that do not fit together.
    """
    options = options or PredictOptions()
    _check_video(rgb)
    steps, window, overlap = _schedule(network, options)
    count, height, width, _ = rgb.shape
    turned = height > width
    upright = np.rot90(rgb, axes=(1, 2)) if turned else rgb
    size = working_size((height, width), options.size, network.size_multiple)

    with torch.inference_mode():
        on_progress("encode", 0, 1)
        latents = network.encode_rgb(_to_video(upright, size))
        on_progress("encode", 1, 1)
        noise = initial_noise(tuple(latents.shape), options.seed)
        result = sample(
            network,
            latents,
            noise,
            steps=steps,
            shift=network.info.sigma_shift,
            window=window,
            overlap=overlap,
            on_progress=lambda done, total: on_progress("denoise", done, total),
        )
        on_progress("decode", 0, 1)
        decoded = network.decode(result)[0, :, :count]
        disparity = (decoded.mean(dim=0) + 1.0) / 2.0
        disparity = resize(disparity[:, None], (upright.shape[1], upright.shape[2]))[:, 0].clamp(
            0.0, 1.0
        )
        on_progress("decode", 1, 1)
    array = disparity.cpu().numpy()
    return np.ascontiguousarray(np.rot90(array, k=-1, axes=(1, 2)) if turned else array)


def working_size(
    native: tuple[int, int], requested: tuple[int, int] | None, multiple: int
) -> tuple[int, int]:
    """(height, width) the network works at, both multiples of `multiple`.

    native: the input's size. A portrait input is turned, so its size, and a portrait `requested`
    with it, are read with the sides swapped.
    """
    height, width = requested or native
    if native[0] > native[1] and height > width:
        height, width = width, height
    rounded = (max(1, round(side / multiple)) * multiple for side in (height, width))
    return next(rounded), next(rounded)


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic, antialiased; images (T, C, H, W) come back untouched where the size is the same."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)


def _schedule(network: DktNetwork, options: PredictOptions) -> tuple[int, int, int]:
    info = network.info
    window = info.window if options.window is None else options.window
    overlap = min(info.overlap, window - 1) if options.overlap is None else options.overlap
    _check_overlap(overlap, window)
    return info.steps if options.steps is None else options.steps, window, overlap


def _check_overlap(overlap: int, window: int) -> None:
    if overlap >= window:
        raise DktError(f"overlap is {overlap}, expected less than the window of {window}")


def _check_video(rgb: np.ndarray) -> None:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        found = rgb.dtype if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise DktError(f"rgb is {found}, expected a uint8 array")
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or 0 in rgb.shape:
        raise DktError(f"rgb has shape {rgb.shape}, expected (frames, height, width, 3)")


def _to_video(rgb: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (T, H, W, 3) -> float32 (1, 3, 4N+1, *size) in [-1, 1], the last frame repeated."""
    # Frame by frame: a long clip at full size need not exist as float.
    images = [
        resize(torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0)[None].float(), size)
        for image in rgb
    ]
    missing = -(len(images) - 1) % FRAMES_PER_LATENT
    video = torch.cat(images + images[-1:] * missing)
    return (video.clamp(0.0, 255.0) / 127.5 - 1.0).movedim(1, 0)[None]
