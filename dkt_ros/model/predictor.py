"""Video in, relative disparity or normals out: clip length and options around the exact sampler.

Knows the order of the work. Knows nothing of files, cameras or metric scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from dkt_ros.errors import DktError
from dkt_ros.model.canvas import Canvas, upload
from dkt_ros.model.fast_network import fast_network
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import initial_noise, sample
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.model.streaming_vae import FRAMES_PER_LATENT

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
    network: DktNetwork | StreamingNetwork,
    rgb: np.ndarray,
    options: PredictOptions | None = None,
    on_progress: Stage = lambda stage, done, total: None,
) -> np.ndarray:
    """Relative disparity (near = large) of a video of any length, by the exact sampler.

    rgb: uint8 (T, H, W, 3), T >= 1. Returns float32 (T, H, W) in [0, 1]: the decoded video's mean
    over its channels, (x + 1) / 2, never rounded to 8 bits. Portrait video is turned by 90 degrees
    for the network, clips are padded to 4N+1 frames by repeating the last.
    Raises DktError for input of another shape or type and for options that do not fit together.
    """
    _check(network, rgb, "depth")
    disparity = np.empty(rgb.shape[:3], np.float32)

    def store(frames: slice, canvas: Canvas, decoded: torch.Tensor) -> None:
        disparity[frames] = canvas.disparity(decoded)

    _run(network, rgb, options or PredictOptions(), on_progress, store)
    return disparity


def predict_normals(
    network: DktNetwork | StreamingNetwork,
    rgb: np.ndarray,
    options: PredictOptions | None = None,
    on_progress: Stage = lambda stage, done, total: None,
) -> np.ndarray:
    """Surface normals of a video of any length, by the exact sampler and a normals checkpoint.

    rgb: as in predict_disparity. Returns float32 unit vectors (T, H, W, 3) in camera axes (x right,
    y down, z forward: a surface that faces the camera has z < 0), 0 where the network gives none.

    The decoded video's channels are taken as x, y, z in [-1, 1] in Blender's camera axes (x right,
    y up, z backward), for so TransPhy3D, which the published normals network learned from, stores
    its normals; the axes of the published network's own output are not documented and could not
    be checked against its weights. Raises DktError as predict_disparity, and for a depth
    checkpoint.
    """
    _check(network, rgb, "normal")
    normals = np.empty(rgb.shape, np.float32)

    def store(frames: slice, canvas: Canvas, decoded: torch.Tensor) -> None:
        normals[frames] = canvas.normals(decoded)

    _run(network, rgb, options or PredictOptions(), on_progress, store)
    return normals


def _run(
    network: DktNetwork | StreamingNetwork,
    rgb: np.ndarray,
    options: PredictOptions,
    on_progress: Stage,
    store: Callable[[slice, Canvas, torch.Tensor], None],
) -> None:
    """Chunk by chunk: store(frames, canvas, their decoded video (1, 3, T, h, w) in [-1, 1])."""
    steps, window, overlap = _schedule(network, options)
    fast = fast_network(network)
    canvas = Canvas((rgb.shape[1], rgb.shape[2]), options.size, network.size_multiple)
    chunks = chunk_spans(len(rgb))

    with torch.inference_mode():
        # Chunk by chunk: a long clip at full size never exists as float.
        encoder, latents = fast.encoder_stream(), []
        on_progress("encode", 0, len(chunks))
        for done, (start, stop) in enumerate(chunks, 1):
            images = pad_chunk(rgb[start:stop], start)
            latents.append(encoder.advance(canvas.paint(upload(images, fast.device))))
            on_progress("encode", done, len(chunks))
        encoder.reset()
        rgb_latents = torch.cat(latents, dim=2)
        noise = initial_noise(tuple(rgb_latents.shape), options.seed)
        result = sample(
            fast,
            rgb_latents,
            noise,
            steps=steps,
            shift=network.info.sigma_shift,
            window=window,
            overlap=overlap,
            embed=fast.embed_rgb,
            on_progress=lambda done, total: on_progress("denoise", done, total),
        )
        decoder = fast.decoder_stream()
        on_progress("decode", 0, len(chunks))
        for done, (start, stop) in enumerate(chunks, 1):
            decoded = decoder.advance(result[:, :, done - 1 : done])[:, :, : stop - start]
            store(slice(start, stop), canvas, decoded)
            on_progress("decode", done, len(chunks))


def chunk_spans(frames: int) -> list[tuple[int, int]]:
    """Half-open spans of the frames of each latent: the first frame, then four at a time."""
    starts = range(1, frames, FRAMES_PER_LATENT)
    return [(0, 1), *((start, min(start + FRAMES_PER_LATENT, frames)) for start in starts)]


def pad_chunk(rgb: np.ndarray, start: int) -> np.ndarray:
    """Repeats the last of a chunk's frames (T, H, W, 3) until the chunk is whole.

    start: the chunk's first frame in the clip; the chunk that starts at 0 is one frame.
    """
    missing = (1 if start == 0 else FRAMES_PER_LATENT) - len(rgb)
    return np.concatenate([rgb, *([rgb[-1:]] * missing)]) if missing else rgb


def _schedule(
    network: DktNetwork | StreamingNetwork, options: PredictOptions
) -> tuple[int, int, int]:
    info = network.info
    window = info.window if options.window is None else options.window
    overlap = min(info.overlap, window - 1) if options.overlap is None else options.overlap
    _check_overlap(overlap, window)
    return info.steps if options.steps is None else options.steps, window, overlap


def _check_overlap(overlap: int, window: int) -> None:
    if overlap >= window:
        raise DktError(f"overlap is {overlap}, expected less than the window of {window}")


def _check(network: DktNetwork | StreamingNetwork, rgb: np.ndarray, task: str) -> None:
    if network.info.task != task:
        raise DktError(
            f"checkpoint {network.info.name} is for the task {network.info.task!r}, expected one "
            f"for {task!r}"
        )
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8:
        found = rgb.dtype if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise DktError(f"rgb is {found}, expected a uint8 array")
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or 0 in rgb.shape:
        raise DktError(f"rgb has shape {rgb.shape}, expected (frames, height, width, 3)")
