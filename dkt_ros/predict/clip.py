"""The exact sampler, as the reference works: on a whole video, or on the newest frames of a stream.

A stream's frame crosses to the network's device once, and only the newest frame's disparity is
brought to the camera's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dkt_ros.arrays import write_to
from dkt_ros.checks import check, check_fields
from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.geometry import disparity_of
from dkt_ros.model.canvas import Canvas, upload
from dkt_ros.model.condition import DisparityRange, range_of
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.latent_frames import chunk_spans, pad_chunk
from dkt_ros.model.sampler import sample
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.model.streaming_vae import Stream
from dkt_ros.predict.beyond import Beyond
from dkt_ros.predict.dkt import DktPredictor, answered, beginning_or_noise, conditions, raw_pictures
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Prediction, PredictorInfo, black_frame
from dkt_ros.progress import Progress, no_progress


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
        check_fields(self)
        for name, least in (("steps", 1), ("window", 1), ("overlap", 0)):
            value = getattr(self, name)
            check(name, value, f"at least {least}", value is None or value >= least)
        if self.window is not None and self.overlap is not None:
            _check_overlap(self.overlap, self.window)
        check("seed", self.seed, "a 64-bit integer", -(2**63) <= self.seed < 2**64)
        if self.size is not None and min(self.size) < 1:
            raise DktError(f"size is {self.size[0]}x{self.size[1]}, expected positive HxW pixels")


def predict_disparity(
    network: StreamingNetwork,
    rgb: np.ndarray,
    options: PredictOptions | None = None,
    on_progress: Progress = no_progress,
    raw_depth: Sequence[NDArray[np.float32] | None] = (),
) -> np.ndarray:
    """Relative disparity (near = large) of a video of any length, by the exact sampler.

    rgb: uint8 (T, H, W, 3), T >= 1. raw_depth: (H, W) metres of each frame, None or NaN without a
    reading, for a network that is shown it. Returns float32 (T, H, W) in [0, 1]: the decoded
    video's mean over its channels, (x + 1) / 2, never rounded to 8 bits; of a network that was
    shown raw depth 1/depth in 1/m. Portrait video is turned by 90 degrees for the network, clips
    are padded to 4N+1 frames by repeating the last. A network that is shown raw depth and does best
    on one frame (its buffer_frames) sees each by itself, where each has readings and no window is
    asked for.
    Raises DktError for input of another shape or type and for options that do not fit together.
    """
    _check(network, rgb, "depth")
    options = options or PredictOptions()
    canvas = _canvas(network, rgb, options)
    readings, limits = np.empty(0, np.float32), None
    if network.info.sees_depth and raw_depth:
        readings = np.stack([canvas.readings(one) for one in raw_depth])
        limits = range_of(readings)
    disparity = np.empty(rgb.shape[:3], np.float32)
    shown = network, canvas, rgb, options, on_progress, readings
    if limits is not None and answers_one_by_one(network.info, options.window, raw_depth):
        for at, answer in enumerate(_pictures(*shown, limits)):
            write_to(disparity[at], answer)
    else:
        for frames, video in _videos(*shown, limits):
            disparity[frames] = canvas.disparity(video)
    return disparity if limits is None else limits.disparity(disparity)


def predict_normals(
    network: StreamingNetwork,
    rgb: np.ndarray,
    options: PredictOptions | None = None,
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
    options = options or PredictOptions()
    canvas = _canvas(network, rgb, options)
    normals = np.empty(rgb.shape, np.float32)
    for frames, video in _videos(network, canvas, rgb, options):
        normals[frames] = canvas.normals(video)
    return normals


def _canvas(network: StreamingNetwork, rgb: np.ndarray, options: PredictOptions) -> Canvas:
    return Canvas((rgb.shape[1], rgb.shape[2]), options.size, network.size_multiple)


@torch.inference_mode()
def _videos(
    network: StreamingNetwork,
    canvas: Canvas,
    rgb: np.ndarray,
    options: PredictOptions,
    on_progress: Progress = no_progress,
    readings: NDArray[np.float32] | None = None,
    limits: DisparityRange | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Chunk by chunk: which frames, and their decoded video (1, 3, T, h, w) in [-1, 1].

    readings: (frames, h, w), which limits are of; without those none are shown.
    """
    spans = chunk_spans(len(rgb))
    # A generator, so that a long clip at full size never exists as float.
    images = (
        canvas.paint(upload(pad_chunk(rgb[begin:end], begin), network.device))
        for begin, end in spans
    )
    clip = _Clip(network, images, len(spans), options, on_progress)
    decoded = clip.decoded(_raw_chunks(readings, spans, limits, network.device))
    for (begin, end), video in zip(spans, decoded, strict=True):
        yield slice(begin, end), video[:, :, : end - begin]


def answers_one_by_one(
    info: CheckpointInfo, window: int | None, raw_depth: Sequence[NDArray[np.float32] | None]
) -> bool:
    """Whether each frame of a video is answered by itself: by a network that is best so.

    The readings' range keeps all on one scale; a frame that has too few of its own needs the
    others'. window: as in CheckpointInfo.one_by_one. raw_depth: as in predict_disparity.
    """
    return info.one_by_one(window) and all(
        one is not None and range_of(disparity_of(one)) is not None for one in raw_depth
    )


@torch.inference_mode()
def _pictures(
    network: StreamingNetwork,
    canvas: Canvas,
    rgb: np.ndarray,
    options: PredictOptions,
    on_progress: Progress,
    readings: NDArray[np.float32],
    limits: DisparityRange,
) -> Iterator[Tensor]:
    """Each frame's disparity (H, W) by itself; see _alone."""
    beyond = Beyond()
    for at, one in enumerate(rgb):

        def report(*_: Any, at: int = at) -> None:
            on_progress("frames", at, len(rgb))

        image = canvas.paint(upload(one[None], network.device))
        clip = _Clip(network, iter([image]), 1, options, report)
        raw = _raw_chunks(readings[at : at + 1], chunk_spans(1), limits, network.device)
        yield _alone(clip, canvas, raw, limits, beyond)
        on_progress("frames", at + 1, len(rgb))


def _raw_chunks(
    readings: NDArray[np.float32] | None,
    spans: Sequence[tuple[int, int]],
    limits: DisparityRange | None,
    device: torch.device,
) -> Iterator[Tensor]:
    """The pictures (1, 3, 1 then 4, h, w) of each latent's readings; none without a range.

    readings: (frames, h, w).
    """
    if limits is None or readings is None:
        return
    for start, stop in spans:
        yield raw_pictures(pad_chunk(readings[start:stop], start), limits, device)


class _Clip:
    """A clip whose colours are encoded: answered with readings or without."""

    def __init__(
        self,
        network: StreamingNetwork,
        images: Iterator[Tensor],
        chunks: int,
        options: PredictOptions,
        on_progress: Progress,
    ) -> None:
        """images: of each latent (1, 3, 1 then 4, h, w) in [-1, 1], `chunks` of them."""
        self._network, self._chunks = network, chunks
        self._options, self._report = options, on_progress
        self._encoder, latents = network.encoder_stream(), []
        on_progress("encode", 0, chunks)
        for latent in _through(self._encoder, images, chunks):
            latents.append(latent)
            on_progress("encode", len(latents), chunks)
        self._colours = torch.cat(latents, dim=2)

    def decoded(self, raw: Iterable[Tensor] = ()) -> Iterator[Tensor]:
        """The decoded video of each latent (1, 3, 1 then 4, h, w) in [-1, 1].

        raw: the pictures of each latent's raw depth, where there is any to be shown.
        """
        network, chunks, report = self._network, self._chunks, self._report
        steps, window, overlap = _schedule(network, self._options)
        raw_latents = list(_through(self._encoder, raw, chunks))
        shown = torch.cat(raw_latents, dim=2) if raw_latents else None
        shape = tuple(self._colours.shape)
        result = sample(
            network,
            conditions(network.info, self._colours, shown),
            beginning_or_noise(network.info, shown, shape, self._options.seed),
            steps=steps,
            shift=network.info.sigma_shift,
            window=window,
            overlap=overlap,
            embed=network.embed_rgb,
            on_progress=lambda done, total: report("denoise", done, total),
        )
        decoder = network.decoder_stream()
        report("decode", 0, chunks)
        for done, video in enumerate(_through(decoder, result.split(1, dim=2), chunks), 1):
            report("decode", done, chunks)
            yield video


def _alone(
    clip: _Clip, canvas: Canvas, raw: Iterator[Tensor], limits: DisparityRange, beyond: Beyond
) -> Tensor:
    """Disparity (H, W) of a clip of one frame; in [0, 1], but for what lies beyond limits."""

    def answer(raw: Iterable[Tensor]) -> Tensor:
        [video] = clip.decoded(raw)
        return canvas.disparity_tensor(video)[0]

    return beyond.of(answer(raw), limits, lambda: answer(()))


def _through(stream: Stream, chunks: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """Each of a clip's `count` chunks through a half of the VAE, which then begins anew."""
    for done, chunk in enumerate(chunks, 1):
        yield stream.peek(chunk) if done == count else stream.advance(chunk)
    stream.reset()


class ClipPredictor(DktPredictor):
    """Mode exact: every frame's answer is made anew from it and the frames before it."""

    sees_video = True

    def __init__(
        self,
        network: StreamingNetwork,
        options: PredictorOptions | None = None,
        info: PredictorInfo | None = None,
    ) -> None:
        super().__init__(network, options, info)
        self.buffer_frames = self.options.buffer_frames or network.info.buffer_frames
        self.proof_frames = self.buffer_frames
        chosen = self.options
        self._sampling = PredictOptions(
            chosen.steps or None, chosen.window, chosen.overlap, chosen.seed
        )
        self._images: deque[Tensor] = deque(maxlen=self.buffer_frames)  # (1, 3, 1, h, w) each
        self._readings: deque[NDArray[np.float32]] = deque(maxlen=self.buffer_frames)  # (h, w)
        self._canvas: Canvas | None = None
        self._was_shown: bool | None = None
        self._beyond = Beyond()

    def reset(self) -> None:
        """Forgets the stream."""
        self._was_shown = None
        self._beyond = Beyond()
        self._images.clear()
        self._readings.clear()
        self._canvas = None

    @torch.inference_mode()
    def push(self, frame: Frame) -> Prediction:
        """The newest 4k+1 frames' clip, k as large as the buffer allows; the newest one's answer.

        Raises InferenceCancelledError.
        """
        height, width = frame.rgb.shape[:2]
        if self._canvas is None or self._canvas.native != (height, width):
            self.reset()
            self._canvas = self.canvas(height, width)
        picture = upload(frame.rgb, self.network.device)
        self._append(picture, frame)
        count = len(self._images) - (len(self._images) - 1) % 4
        clip = list(self._images)[-count:]
        spans = chunk_spans(count)
        chunks = (torch.cat(clip[start:stop], dim=2) for start, stop in spans)
        limits, readings = None, np.array(list(self._readings)[-count:], np.float32)
        if len(readings):
            limits = range_of(readings, begun=bool(self._was_shown))
        # Without readings to be shown the answer is relative: another scale than before.
        before, self._was_shown = self._was_shown, limits is not None
        restarted = None if before in (None, self._was_shown) else FlushReason.RANGE
        raw = _raw_chunks(readings, spans, limits, self.network.device)
        encoded = _Clip(self.network, chunks, len(spans), self._sampling, self._stop.check)
        if limits is not None and self.buffer_frames == 1:
            disparity = _alone(encoded, self._canvas, raw, limits, self._beyond)
        else:
            for video in encoded.decoded(raw):
                newest = video[:, :, -1:]
            if self.network.info.task == "normal":
                normals = self._canvas.normals(newest)[0]
                return Prediction(frame.rgb, normals=normals, frames=count)
            disparity = self._canvas.disparity_tensor(newest)[0]
        if self.network.device.type == "cpu":
            return answered(frame.rgb, disparity.numpy(), limits, count, restarted)
        return answered(picture, disparity, limits, count, restarted)

    def video(
        self, frames: Sequence[Frame], on_progress: Progress = no_progress
    ) -> NDArray[np.float32]:
        """The whole video in one go, in the checkpoint's own windows."""
        rgb = np.stack([frame.rgb for frame in frames])
        raw_depth = [frame.raw_depth for frame in frames]
        return predict_disparity(self.network, rgb, self._for_video(rgb), on_progress, raw_depth)

    def normals(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (T, H, W, 3) of a video, where the checkpoint's task is normals."""
        return predict_normals(self.network, rgb, self._for_video(rgb))

    def _for_video(self, rgb: NDArray[np.uint8]) -> PredictOptions:
        return replace(self._sampling, size=self.requested_size(rgb.shape[1], rgb.shape[2]))

    def warm_up(self, size: tuple[int, int], report: Progress = no_progress) -> None:
        """Clips as the buffer fills: the shortest and the longest, on a GPU every length.

        There twice, for what compiles at the first call is recorded at the second.
        """
        black = black_frame(size)
        done, times = 0, 2 if self.on_gpu else 1
        ends = sorted({1, self.buffer_frames})
        lengths = range(1, self.buffer_frames + 1, 4) if self.on_gpu else ends
        total = len(lengths) * times
        for _ in range(times):
            for count in range(1, self.buffer_frames + 1):
                if count in lengths:
                    report("warm-up", done, total)
                    self.push(black)
                    done += 1
                else:
                    self._fill(black)
            self.reset()
        report("warm-up", done, total)

    @torch.inference_mode()
    def _fill(self, frame: Frame) -> None:
        self._append(upload(frame.rgb, self.network.device), frame)

    def _append(self, picture: Tensor, frame: Frame) -> None:
        assert self._canvas is not None
        self._images.append(self._canvas.paint(picture[None]))
        if self.sees_depth:
            self._readings.append(self._canvas.readings(frame.raw_depth))


def _schedule(network: StreamingNetwork, options: PredictOptions) -> tuple[int, int, int]:
    info = network.info
    window = info.window if options.window is None else options.window
    overlap = min(info.overlap, window - 1) if options.overlap is None else options.overlap
    _check_overlap(overlap, window)
    return info.steps if options.steps is None else options.steps, window, overlap


def _check_overlap(overlap: int, window: int) -> None:
    if overlap >= window:
        raise DktError(f"overlap is {overlap}, expected less than the window of {window}")


def _check(network: StreamingNetwork, rgb: np.ndarray, task: str) -> None:
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
