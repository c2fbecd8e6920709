"""The live sampler on a stream: frames in one by one, relative disparity of the newest out.

Chunks, windows, clips and when to start anew. A frame crosses to the network's device once, as its
camera took it. A network that is right on short clips alone (`CheckpointInfo.clip`) sees the stream
as clips of that length, each beginning with the last frame of the one before: both halves of its
VAE and its transformer are then never asked for more than they learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dkt_ros.arrays import Array, to_host
from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason, Frame
from dkt_ros.model.canvas import Canvas, upload
from dkt_ros.model.condition import DisparityRange, range_of
from dkt_ros.model.latent_frames import FRAMES_PER_LATENT
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.live_sampler import LiveSampler
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.model.streaming_vae import Stream
from dkt_ros.model.windows import clip_latents, windows_until_full
from dkt_ros.predict.dkt import DktPredictor, answered, beginning, conditions, raw_pictures
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Prediction, PredictorInfo, black_frame
from dkt_ros.progress import Progress, no_progress

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_CUT_STRIDE = 8
"""Every 8th pixel a side is enough to see that the scene is another."""
_BRIGHTER = 4.0
"""Times by which light or exposure may change within one scene."""
_OLD = 8
"""Windows after which a stream is compared with its newest frame alone every so many windows."""
_FLAT = 0.02
"""A picture or disparity that spreads by less shows nothing to agree on."""


class StreamPredictor(DktPredictor):
    """Mode live: the sampler remembers the stream and computes what is new."""

    def __init__(
        self,
        network: StreamingNetwork,
        options: PredictorOptions | None = None,
        info: PredictorInfo | None = None,
    ) -> None:
        super().__init__(network, options, info)
        self.live_options = live = self.options.live.within(network.info.clip)
        self._windows = windows_until_full(live)
        self.proof_frames = 1 + FRAMES_PER_LATENT * live.new * self._windows
        self.answers_every = FRAMES_PER_LATENT * live.new if live.publish == "latest" else 1
        self._shape: tuple[int, ...] = ()
        self._live: LivePredictor | None = None

    def push(self, frame: Frame) -> Prediction | None:
        """See LivePredictor. Raises InferenceCancelledError."""
        if self._live is None or self._shape != frame.rgb.shape:
            self._shape = frame.rgb.shape
            size = self.requested_size(*frame.rgb.shape[:2])
            self._live = LivePredictor(
                self.network,
                replace(self.live_options, size=size),
                self._stop.check,
                keep_on_device=True,
            )
        answer = self._live.push(frame.rgb, frame.raw_depth)
        if answer is None:
            return None
        if self.network.info.task == "normal":
            normals = to_host(answer.disparity)
            return Prediction(
                answer.rgb, normals=normals, frames=answer.frames, restarted=answer.restarted
            )
        return answered(
            answer.rgb, answer.disparity, answer.limits, answer.frames, answer.restarted
        )

    def reset(self) -> None:
        """Forgets the stream."""
        if self._live is not None:
            self._live.reset()

    def warm_up(self, size: tuple[int, int], report: Progress = no_progress) -> None:
        """The first frame and one window; on a GPU until windows grow no more, twice."""
        black = black_frame(size)
        streams, windows = (2, self._windows) if self.on_gpu else (1, 1)
        total, done = streams * (1 + windows), 0
        for _ in range(streams):
            for window in range(1 + windows):
                report("warm-up", done, total)
                for _ in range(FRAMES_PER_LATENT * self.live_options.new if window else 1):
                    self.push(black)
                done += 1
            self.reset()
        report("warm-up", done, total)


@dataclass(frozen=True, eq=False)
class LiveDisparity:
    """disparity: (H, W) float32 in [0, 1] of the newest frame, near = large; rgb: that frame.

    Of a normals checkpoint `disparity` is (H, W, 3) unit vectors, on the host.

    Both numpy arrays, or both tensors on the network's device where that was asked for.
    frames: how many frames the window that made it spans. restarted: why the stream began anew
    since the result before, so that scale and shift may have changed; None where it did not.
    limits: the 1/m that 0 and 1 stand for, where the network was shown raw depth.
    """

    disparity: Array
    rgb: Array
    frames: int
    restarted: FlushReason | None
    limits: DisparityRange | None = None


@dataclass(frozen=True, eq=False)
class _Shown:
    """What latents' answers depend on: the velocity's conditions, and what the flow begins at."""

    conditions: Tensor
    begin: Tensor | None

    @property
    def parts(self) -> list[Tensor]:
        return [part for part in (self.conditions, self.begin) if part is not None]

    @classmethod
    def joined(cls, latents: list[_Shown]) -> _Shown:
        """Successive ones' as one; of one clip, so that all begin alike."""
        columns = zip(*(one.parts for one in latents), strict=True)
        conditions, *begin = (torch.cat(column, dim=2) for column in columns)
        return cls(conditions, begin[0] if begin else None)


class LivePredictor:
    """The network on a stream. `push` is the whole interface; `reset` starts a new stream."""

    def __init__(
        self,
        network: StreamingNetwork,
        options: LiveOptions | None = None,
        on_progress: Progress = no_progress,
        keep_on_device: bool = False,
    ) -> None:
        """network: a loaded checkpoint or an engine.

        on_progress(stage, done, total) is called between parts of the work; it may raise.
        keep_on_device: results are tensors on the network's device, unless that is the CPU.
        """
        info = network.info
        self.options = (options or LiveOptions()).within(info.clip)
        self._network = network
        self._multiple = network.size_multiple
        self._ratio = network.spatial_ratio
        self._channels = network.latent_channels
        self._on_progress = on_progress
        self._keep_on_device = keep_on_device and self._network.device.type != "cpu"
        self._sampler, self._alone = (
            LiveSampler(
                network,
                steps=self.options.steps or info.steps,
                shift=info.sigma_shift,
                window=self.options.window,
                new=self.options.new,
                warm_start=self.options.warm_start,
                seed=self.options.seed,
            )
            for _ in range(2)
        )
        self._encoder = self._network.encoder_stream()
        self._decoder = self._network.decoder_stream()
        self._raw_encoder = self._network.encoder_stream()
        self._sees_depth = info.sees_depth
        self._is_normals = info.task == "normal"
        self._clip = clip_latents(info.clip, self.options.new)
        self.reset()

    def reset(self) -> None:
        """Forgets the stream so far."""
        self._end_clip()
        self._canvas: Canvas | None = None
        self._images: list[Tensor] = []  # of the latent that is not complete
        self._readings: list[NDArray[np.float32]] = []  # of the same frames
        self._limits: DisparityRange | None = None
        self._group: list[_Shown] = []  # of complete latents without depth
        # image and readings that the next clip begins with
        self._overlap: tuple[Tensor, NDArray[np.float32]] | None = None
        self._luminance: np.ndarray | None = None
        self._restarted: FlushReason | None = None

    def push(
        self, rgb: np.ndarray, raw_depth: NDArray[np.float32] | None = None
    ) -> LiveDisparity | None:
        """Takes the next frame, uint8 (H, W, 3); returns its disparity, or None: not yet.

        raw_depth: (H, W) metres, NaN without a reading, for a network that is shown it. The range
        of the first frame's readings holds until the stream or a clip begins anew, since what is
        remembered is in that range; readings that no longer suit it make the stream begin anew.

        The first frame of a stream has its disparity at once; later frames as `publish` says. An
        exception (out of memory, or one that on_progress raises) resets the stream and passes on.
        Raises DktError for a frame of another shape or type.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise DktError(f"rgb of {rgb.shape} {rgb.dtype}: expected uint8 (height, width, 3)")
        self._start_anew_if_needed(rgb)
        try:
            with torch.inference_mode():
                return self._advance(rgb, raw_depth)
        except BaseException:
            self.reset()
            raise

    def nbytes(self) -> int:
        """Bytes kept from frame to frame."""
        waiting = [*self._images, *(part for one in self._group for part in one.parts)]
        if self._overlap is not None:
            waiting.append(self._overlap[0])
        parts = (self._sampler, self._encoder, self._raw_encoder, self._decoder)
        kept = sum(part.nbytes() for part in parts)
        return kept + sum(part.untyped_storage().nbytes() for part in waiting)

    def _advance(
        self, rgb: np.ndarray, raw_depth: NDArray[np.float32] | None
    ) -> LiveDisparity | None:
        if self._canvas is None:
            self._canvas = Canvas((rgb.shape[0], rgb.shape[1]), self.options.size, self._multiple)
        canvas = self._canvas
        readings = canvas.readings(raw_depth if self._sees_depth else None)
        if self._encoder.caches is not None and not self._suits(readings):
            luminance = self._luminance  # this frame's, which the next is compared with
            self.reset()
            self._canvas, self._luminance = canvas, luminance
            self._restarted = FlushReason.RANGE
        if self._overlap is not None:  # not with the last answer, which need not wait for it
            self._begin_clip(*self._overlap)
        picture = upload(rgb, self._network.device)
        newest = picture if self._keep_on_device else rgb
        self._images.append(self._canvas.paint(picture[None]))
        self._readings.append(readings)
        is_first = self._encoder.caches is None
        complete = len(self._images) == (1 if is_first else FRAMES_PER_LATENT)
        if complete:
            self._on_progress("encode", 0, 1)
            last = self._images[-1]
            if is_first:
                self._limits = range_of(readings)
            self._group.append(self._shown(self._images, self._readings))
            self._images.clear()
            self._readings.clear()
        if complete and (is_first or len(self._group) == self.options.new):
            decoded, frames = self._finish_window()
            if self._sampler.index == self._clip:
                self._overlap = last, readings
            elif not is_first and self._is_due():
                alone = self._begun_anew_if_drifted(last, readings, decoded)
                if alone is not None:
                    decoded, frames = alone, 1
            return self._result(newest, decoded, -1, frames)
        if self.options.publish == "all":
            return self._look_ahead(newest)
        return None

    def _begin_clip(self, image: Tensor, readings: NDArray[np.float32]) -> None:
        """A clip that starts with an image (1, 3, 1, H, W), whose depth was given already."""
        self._end_clip()
        self._overlap = None
        self._on_progress("encode", 0, 1)
        before = self._limits is not None
        self._limits = range_of(readings, begun=before)
        if before and self._limits is None:
            self._restarted = FlushReason.RANGE
        self._group.append(self._shown([image], [readings]))
        self._finish_window()

    def _is_due(self) -> bool:
        """Whether the stream is to be compared with its newest frame alone; often while young."""
        windows = self._windows
        young = windows < _OLD and windows & (windows - 1) == 0
        return self.options.min_agreement is not None and (young or windows % _OLD == 0)

    def _begun_anew_if_drifted(
        self, image: Tensor, readings: NDArray[np.float32], decoded: Tensor
    ) -> Tensor | None:
        """The first answer of a stream that begins with `image`, where this one has left that.

        image (1, 3, 1, H, W) and its readings; decoded (1, 3, T, H, W), the stream's own answer,
        the newest last.
        A stream that feeds on its own mistakes goes on making them, whatever it is shown.
        """
        assert self.options.min_agreement is not None
        streams = self._encoder, self._raw_encoder, self._decoder
        caches = [stream.caches for stream in streams]
        for stream in streams:
            stream.reset()
        self._on_progress("encode", 0, 1)
        shown = self._shown([image], [readings])
        latents = self._alone.denoise(shown.conditions, self._latent_shape(), shown.begin)
        self._alone.reset()
        self._on_progress("decode", 0, 1)
        alone = self._decoder.advance(latents)
        seen = float(image.float().std()) > _FLAT
        images = decoded[:, :, -1], alone[:, :, -1]
        if not self._is_normals:
            images = images[0].mean(dim=1), images[1].mean(dim=1)
        if not seen or _agreement(*images) >= self.options.min_agreement:
            for stream, kept in zip(streams, caches, strict=True):
                stream.caches = kept
            return None
        self._sampler.reset()
        self._sampler.commit(latents, shown.conditions, shown.begin)
        self._windows = 0
        self._restarted = FlushReason.DRIFT
        return alone

    def _end_clip(self) -> None:
        self._windows = 0
        self._sampler.reset()
        self._encoder.reset()
        self._raw_encoder.reset()
        self._decoder.reset()

    def _suits(self, readings: NDArray[np.float32]) -> bool:
        """Whether a stream that has begun, with its range or without one, can go on with them."""
        if self._limits is None:
            return range_of(readings) is None
        return self._limits.suits(readings)

    def _shown(
        self, images: list[Tensor], readings: list[NDArray[np.float32]], peek: bool = False
    ) -> _Shown:
        """What the answer to a chunk depends on; peek: the streams do not move on."""

        def encoded(stream: Stream, chunk: Tensor) -> Tensor:
            return stream.peek(chunk) if peek else stream.advance(chunk)

        latent, raw = encoded(self._encoder, torch.cat(images, dim=2)), None
        if self._limits is not None:
            shown = raw_pictures(readings, self._limits, self._network.device)
            raw = encoded(self._raw_encoder, shown)
        info = self._network.info
        embedded = self._network.embed_rgb(conditions(info, latent, raw))
        return _Shown(embedded, beginning(info, raw))

    def _finish_window(self) -> tuple[Tensor, int]:
        """Images (1, 3, 1 or 4, H, W) of the newest latent, and how many frames made them."""
        shown = _Shown.joined(self._group)
        self._group.clear()
        latents, frames = self._denoise(shown)
        self._windows += self._sampler.index > 0  # the first frame's is none
        self._sampler.commit(latents, shown.conditions, shown.begin)
        self._on_progress("decode", 0, 1)
        for latent in latents.split(1, dim=2):
            decoded = self._decoder.advance(latent)
        return decoded, frames

    def _look_ahead(self, newest: Array) -> LiveDisparity:
        """Depth of the newest frame before its latent or window is complete; moves nothing on."""
        group, missing = list(self._group), 0
        if self._images:
            self._on_progress("encode", 0, 1)
            missing = FRAMES_PER_LATENT - len(self._images)
            images = self._images + self._images[-1:] * missing
            readings = self._readings + self._readings[-1:] * missing
            group.append(self._shown(images, readings, peek=True))
        latents, frames = self._denoise(_Shown.joined(group))
        self._on_progress("decode", 0, 1)
        before = self._decoder.caches
        for latent in latents.split(1, dim=2):
            decoded = self._decoder.advance(latent)
        self._decoder.caches = before
        return self._result(newest, decoded, -1 - missing, frames - missing)

    def _denoise(self, shown: _Shown) -> tuple[Tensor, int]:
        latents = self._sampler.denoise(
            shown.conditions,
            self._latent_shape(),
            shown.begin,
            lambda done, total: self._on_progress("denoise", done, total),
        )
        count = self._sampler.context + shown.conditions.shape[2]
        begins = self._sampler.index == self._sampler.context  # the clip's first frame is in it
        return latents, FRAMES_PER_LATENT * count - (FRAMES_PER_LATENT - 1 if begins else 0)

    def _latent_shape(self) -> tuple[int, int, int]:
        assert self._canvas is not None
        height, width = (side // self._ratio for side in self._canvas.size)
        return self._channels, height, width

    def _result(self, rgb: Array, decoded: Tensor, position: int, frames: int) -> LiveDisparity:
        assert self._canvas is not None
        image = decoded[:, :, position][:, :, None]
        restarted, self._restarted = self._restarted, None
        kept: Array
        if self._is_normals:
            kept = self._canvas.normals(image)[0]
        else:
            disparity = self._canvas.disparity_tensor(image)[0]
            kept = disparity if self._keep_on_device else to_host(disparity)
        return LiveDisparity(kept, rgb, frames, restarted, self._limits)

    def _start_anew_if_needed(self, rgb: np.ndarray) -> None:
        luminance = rgb[::_CUT_STRIDE, ::_CUT_STRIDE] @ (_LUMINANCE / 255.0)
        before, threshold = self._luminance, self.options.scene_cut
        if self._canvas is not None:
            resized = self._canvas.native != rgb.shape[:2]
            cut = False
            if threshold is not None and before is not None and not resized:
                cut = _change(before, luminance) > threshold
            if resized or cut:
                self.reset()
                self._restarted = FlushReason.SCENE_CUT
        self._luminance = luminance


def _change(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Mean change of luminance beyond what light and exposure do to all of a picture."""
    least = 1 / 255
    gain = max(float(before.mean()), least) / max(float(now.mean()), least)
    half = min(max(gain, 1 / _BRIGHTER), _BRIGHTER) ** 0.5
    return float(np.abs(now * half - before / half).mean())


def _agreement(stream: Tensor, alone: Tensor) -> float:
    """Correlation of two decoded images in [-1, 1]; 1 where `alone` shows nothing."""
    one, other = (image.float().flatten() / 2 for image in (stream, alone))
    if float(other.std()) < _FLAT:
        return 1.0
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1].nan_to_num(0.0))
