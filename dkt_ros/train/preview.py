"""What the network being trained makes of a few fixed clips: errors and one picture.

Knows how a disparity is compared and drawn. Knows nothing of losses, logs or when to look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dkt_ros.colors import colored
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError
from dkt_ros.evaluation.metrics import (
    DepthErrors,
    disparity_to_metric,
    fit_disparity,
    mean_of,
    video_errors,
)
from dkt_ros.geometry import disparity_of, is_reading
from dkt_ros.model.canvas import Canvas
from dkt_ros.model.condition import range_of
from dkt_ros.model.latent_frames import FRAMES_PER_LATENT
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import sample
from dkt_ros.predict.dkt import beginning_or_noise, conditions, raw_pictures
from dkt_ros.progress import Report, no_report
from dkt_ros.train.data.augmentation import Augmentation
from dkt_ros.train.data.config import AUTO, DataConfig, SourceConfig
from dkt_ros.train.data.disparity import clip_range
from dkt_ros.train.data.preparation import FrameView, view_frame
from dkt_ros.train.data.sources import Mixture, Source

Predict = Callable[[np.ndarray, "np.ndarray | None"], np.ndarray]
"""rgb uint8 (F,H,W,3) and readings (F,H,W) in 1/m to disparity float32 (F,H,W) in [0, 1]."""
_DRAWS = 0x9E3
_GAP = 2


@dataclass(frozen=True)
class PreviewClip:
    """rgb: (F,H,W,3) uint8. depth: (F,H,W) metres, NaN = unknown. F = 4n - 3.

    trained: whether the clip is one of those that are trained on. views: its frames.
    """

    name: str
    rgb: np.ndarray
    depth: np.ndarray
    trained: bool = False
    views: tuple[FrameView, ...] = ()

    @property
    def readings(self) -> np.ndarray | None:
        """(F,H,W) 1/raw depth, 0 = none; None without raw depth."""
        return _stacked([view.readings for view in self.views])

    @property
    def glass(self) -> np.ndarray | None:
        """(F,H,W) bool: transparent and reflective pixels; None where nobody knows."""
        objects = _stacked([view.objects for view in self.views])
        return None if objects is None else objects > 0


def _stacked(maps: Sequence[np.ndarray | None]) -> np.ndarray | None:
    known = [one for one in maps if one is not None]
    return np.stack(known) if known and len(known) == len(maps) else None


@dataclass(frozen=True)
class Preview:
    """errors: mean over the clips, after one scale and shift each. clips: the same by clip's name.

    glass: errors on transparent and reflective pixels; None where no clip has any.

    picture: (H,W,3) uint8, a row per clip: RGB, true and predicted disparity of its middle frame,
    red near, blue far, black unknown; both in the colours of the clip's true range.
    """

    errors: DepthErrors
    clips: dict[str, DepthErrors]
    picture: np.ndarray
    glass: DepthErrors | None = None


def load_clips(
    config: DataConfig, clips: int, frames: int, report: Report = no_report
) -> tuple[PreviewClip, ...]:
    """The same clips every time, from all validation sets in turn, without augmentation.

    Of a set that names no split its val or test split. Without validation sets from the training
    sets' own val or test split, or else from what is trained on.
    frames: of each, rounded down to 4n - 3; pictures and shorter videos give as many as they have.
    report: called with what the sets' first frames give away as wrong.
    Raises DktError where there is not one usable clip.
    """
    asked = [s for s in config.validation if s.split != AUTO]
    chosen = [*asked, *(_held_out(s) for s in config.validation or config.data if s not in asked)]
    mixtures = [Mixture([source], stride=lambda frames: frames, threads=1) for source in chosen]
    for mixture in mixtures:
        for line in mixture.suspicions():
            report(line)
    trained = {path for source in config.data for path in _trained_on(source)}
    waiting = [_clips(mixture, config.size, frames, trained) for mixture in mixtures]
    found: list[PreviewClip] = []
    while waiting and len(found) < clips:
        current = waiting.pop(0)
        clip = next(current, None)
        if clip is not None:
            found.append(clip)
            waiting.append(current)
    for mixture in mixtures:
        mixture.close()
    if not found and clips > 0:
        raise mixtures[0].nothing_left(1)
    return tuple(found)


def check_validation(config: DataConfig) -> None:
    """Raises DktError for a validation set that cannot be opened or lacks its split.

    Reads no frame.
    """
    for number, source in enumerate(config.validation):
        try:
            Source(source if source.split != AUTO else _held_out(source))
        except DktError as error:
            raise DktError(f"validation[{number}]: {error}") from error


def preview(clips: Sequence[PreviewClip], predict: Predict) -> Preview:
    """Predicts all clips, in order."""
    errors: dict[str, DepthErrors] = {}
    rows, on_glass = [], []
    for clip in clips:
        disparity = predict(clip.rgb, clip.readings)
        scale, shift = _alignment(disparity, clip.depth)
        known = clip.depth[is_reading(clip.depth)]
        depth_range = float(known.min()), float(known.max())
        metric = disparity_to_metric(disparity, scale, shift, depth_range)
        errors[clip.name] = video_errors(metric, clip.depth)
        if clip.glass is not None and is_reading(clip.depth)[clip.glass].any():
            of_glass = np.where(clip.glass, clip.depth, np.float32(np.nan))
            on_glass.append(video_errors(metric, of_glass))
        rows.append(_row(clip, scale * disparity + shift))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    glass = mean_of(DepthErrors, on_glass) if on_glass else None
    return Preview(
        mean_of(DepthErrors, errors.values()), errors, np.concatenate(padded)[:-_GAP], glass
    )


def sampled(network: DktNetwork, *, steps: int | None = None, seed: int = 1) -> Predict:
    """A prediction by the exact sampler, the whole clip in one window.

    steps: None for the checkpoint's own. Unlike predict_disparity it keeps nothing that is made of
    the weights, which may change between calls.
    """

    def predict(rgb: np.ndarray, readings: np.ndarray | None) -> np.ndarray:
        canvas = Canvas((rgb.shape[1], rgb.shape[2]), None, network.size_multiple)
        shown = network.info.sees_depth and readings is not None
        limits = range_of(readings) if shown and readings is not None else None
        with torch.no_grad():
            latents, raw = network.encode_rgb(canvas.paint(rgb)), None
            if limits is not None and readings is not None:
                raw = network.encode_rgb(raw_pictures(readings, limits, network.device))
            result = sample(
                network,
                conditions(network.info, latents, raw),
                beginning_or_noise(network.info, raw, tuple(latents.shape), seed),
                steps=network.info.steps if steps is None else steps,
                shift=network.info.sigma_shift,
                window=latents.shape[2],
                overlap=0,
            )
            return canvas.disparity(network.decode(result))

    return predict


def _held_out(source: SourceConfig) -> SourceConfig:
    dataset = open_dataset(source.path, None if source.kind == AUTO else source.kind)
    unused = [s for s in ("val", "test") if s in dataset.splits and s != source.split]
    return dataclasses.replace(source, split=next(iter(unused), source.split))


def _trained_on(source: SourceConfig) -> set[Path]:
    try:
        return {clip.path.resolve() for clip in Source(source).clips}
    except DktError:  # which ends the training, where it opens that set
        return set()


def _clips(
    mixture: Mixture, size: tuple[int, int], frames: int, trained: Set[Path]
) -> Iterator[PreviewClip]:
    """One window of each clip: first of the clips as long as wanted, then of ever shorter ones."""
    (source,) = mixture.sources
    random = np.random.default_rng(_DRAWS)
    plain = Augmentation()
    used = set()
    for count in range((frames - 1) // FRAMES_PER_LATENT * FRAMES_PER_LATENT + 1, 0, -4):
        for window in mixture.candidates(random, count):
            if window.clip in used:
                continue
            views = mixture.read(
                window, lambda sample: view_frame(sample, plain, size, source.depth_range)
            )
            if views is None or not _comparable(views):
                continue
            used.add(window.clip)
            rgb = torch.stack([view.rgb for view in views]).round().byte().movedim(1, -1).numpy()
            depth = np.stack([view.depth for view in views])
            known = window.clip.path.resolve() in trained
            yield PreviewClip(str(window), rgb, depth, known, tuple(views))


def _comparable(views: Sequence[FrameView]) -> bool:
    known = np.concatenate([view.depth[np.isfinite(view.depth)] for view in views])
    one_size = len({view.native for view in views}) == 1
    return one_size and known.size > 1 and bool(known.min() < known.max())


def _alignment(disparity: np.ndarray, depth: np.ndarray) -> tuple[float, float]:
    try:
        return fit_disparity(disparity, depth)
    except ValueError:
        # A constant (a network that has learned nothing): the best line through it is flat.
        return 0.0, float(np.mean(1.0 / depth[is_reading(depth)].astype(np.float64)))


def _row(clip: PreviewClip, disparity: np.ndarray) -> np.ndarray:
    truth = disparity_of(clip.depth)
    low, high = clip_range(truth, truth > 0)
    middle = len(clip.rgb) // 2
    gap = np.zeros((clip.rgb.shape[1], _GAP, 3), np.uint8)
    parts = [
        clip.rgb[middle],
        gap,
        colored(np.where(truth[middle] > 0, truth[middle], np.nan), low, high),
        gap,
        colored(disparity[middle], low, high),
    ]
    return np.concatenate(parts, axis=1)
