"""Training samples: a rendered frame, its sensor and its network made to err in many ways.

Knows how networks err; how sensors do stands in train/sensor.py, how light does in spoiled.py.
Knows nothing of the networks that learn or their losses. A sample is a function of its frame and
its random generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.errors import DktError
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.features import Scene, agreement, make_scene
from dkt_ros.fusion.registration import Change
from dkt_ros.train.fusion.config import PredictionConfig, SamplesConfig
from dkt_ros.train.fusion.frames import TrainingFrame
from dkt_ros.train.fusion.spoiled import spoiled_colours, spoiled_readings
from dkt_ros.train.sensor import behind, failing, smooth_noise
from dkt_ros.train.small import resized
from dkt_ros.wording import counted

Float32 = NDArray[np.float32]
_SMALLEST_CROP = 0.55
_FEWEST_READINGS = 100
_DRAWS = 300
_WINDOWS = 3  # so many crops are looked at,
_SEARCHED = 0.7  # and so often that with most objects is taken
_OTHER_SCENE = 0.6  # of the foreign readings; the others are shifted, mirrored or zoomed
_SHIFTS = 0.012, 0.15  # of the width
_FEWEST_AGREE = FusionConfig().min_agreement  # with fewer the fuser does not use a network


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """A scene as the refiner sees it; truth (h, w) 1/m, 0 unknown; classes (h, w).

    belongs: whether colour and readings are of one scene and registered; else the truth is unknown.
    """

    scene: Scene
    truth: Float32
    classes: NDArray[np.uint8]
    belongs: bool


def draw(
    frame: TrainingFrame,
    rng: np.random.Generator,
    config: SamplesConfig,
    other: TrainingFrame | None = None,
    spoiled: float = 0.0,
) -> TrainingSample | None:
    """One augmented sample of the configuration's size; None where no reading is left.

    other: a frame of another scene, for readings that do not belong to the colour: that one's, or
    the frame's own that are not registered. spoiled: share of the colours, and of the readings,
    that are made unlike the other.
    """
    network = _network(rng, config.prediction)
    # A network that is shown readings follows them: its answer is seen beside the frame's own.
    beside = frame.beside if network == "embedded" else None
    disparity = _failing(frame, rng, config) if beside is None else beside
    truth, belongs = frame.truth, True
    if other is not None:
        belongs = False
        if other.truth.shape == truth.shape and rng.random() < _OTHER_SCENE:
            disparity, truth = _failing(other, rng, config), other.truth
        else:
            disparity = _unregistered(disparity, rng)
    predicted = _prediction(network, frame, disparity, rng, config.prediction, belongs)
    if rng.random() < config.skewed:
        added = _skew(truth, rng)
        truth, disparity = (
            np.where(m > 0, m + added, 0).astype(np.float32) for m in (truth, disparity)
        )
        predicted = None if predicted is None else np.maximum(predicted + added, np.float32(1e-3))
    size = config.height, config.width
    windows = [_window(truth.shape, rng, size) for _ in range(_WINDOWS)]
    if rng.random() < _SEARCHED:
        windows.sort(key=lambda window: -count_of(frame.classes[window[0]]))
    window, flip = windows[0]
    upside_down = rng.random() < config.upside_down

    def cut(image: np.ndarray, nearest: bool = True) -> np.ndarray:
        part = image[window]
        return resized(part[::-1] if upside_down else part, size, flip, nearest)

    rgb = _colours(cut(frame.rgb, nearest=False), rng)
    disparity = cut(disparity)
    if spoiled and rng.random() < spoiled:
        rgb = spoiled_colours(rgb, rng)
    if count_of(disparity) < _FEWEST_READINGS:
        return None
    if spoiled and rng.random() < spoiled:
        disparity = spoiled_readings(disparity, rng)
    if predicted is not None:
        predicted = cut(predicted, nearest=False)
    scene = make_scene(rgb, disparity, predicted, config.on_scale)
    if scene is None:
        return None
    truth = cut(truth) if belongs else np.zeros(size, np.float32)
    return TrainingSample(scene, truth, cut(frame.classes), belongs)


def first_drawn(draw_one: Callable[[], TrainingSample | None], frames: int) -> TrainingSample:
    """The first sample that is drawn; DktError where of many draws from so many frames none is."""
    for _ in range(_DRAWS):
        if (sample := draw_one()) is not None:
            return sample
    raise DktError(
        f"{_DRAWS} draws from {counted(frames, 'frame')} gave no sample: expected "
        f"{_FEWEST_READINGS} readings or more in what is cut out; look at the raw depth with "
        "`dkt data check`, and leave scenes out that have hardly any"
    )


def _failing(frame: TrainingFrame, rng: np.random.Generator, config: SamplesConfig) -> Float32:
    return failing(frame.disparity, frame.truth, frame.classes, rng, config.better_sensor)


def _skew(truth: Float32, rng: np.random.Generator) -> Float32:
    """A plane (H, W) in 1/m to be added to all disparity: a projective change of the scene.

    It keeps planes plane and what is in front in front, and makes of a table a wall, a slope, a
    table that is nearer or farther. No known point comes to less than a fifth of the median.
    """
    known = truth[truth > 0]
    typical, least = float(np.median(known)), float(np.quantile(known, 0.005))
    y, x = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in truth.shape)
    slope_y, slope_x = rng.normal(0, 0.8, 2).astype(np.float32)
    plane = slope_y * y[:, None] + slope_x * x + np.float32(rng.uniform(-0.5, 1.0))
    lowest = least + typical * float(plane.min())
    if lowest < 0.2 * typical:
        plane += np.float32(0.2 - lowest / typical)
    return np.asarray(typical * plane, np.float32)


def _unregistered(disparity: Float32, rng: np.random.Generator) -> Float32:
    """Readings shifted, small shifts as often as large ones, mirrored, or zoomed."""
    choice = rng.random()
    if choice < 0.15:
        change = Change(mirrored=True)
    elif choice < 0.4:
        change = Change(zoom=float(np.exp(-rng.choice([-1, 1]) * rng.uniform(0.15, 0.4))))
    else:
        angle, far = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(*np.log(_SHIFTS)))
        change = Change(-far * np.cos(angle), -far * np.sin(angle))
    return change.undone(disparity)


def degraded(frame: TrainingFrame, rng: np.random.Generator, config: PredictionConfig) -> Float32:
    """Disparity (H, W) in 1/m of a network that errs as real ones do."""
    if config.good_share and rng.random() < config.good_share:
        errs, soft = config.smooth_error / 3, config.blur_px / 3
        config = replace(config, smooth_error=errs, blur_px=soft, object_share=0.0)
    truth = frame.truth.copy()
    known = truth > 0
    truth[~known] = np.median(truth[known])
    if rng.random() < config.object_share:
        # Some objects' disparity is off, or they are not noticed at all.
        _, parts = cv2.connectedComponents((frame.classes > 0).astype(np.uint8))
        background = behind(frame.truth, frame.classes)
        for part in range(1, int(parts.max()) + 1):
            where = parts == part
            if rng.random() < 0.3:
                truth[where] = background[where]
            else:
                amount = np.float32(rng.normal(1.0, 0.6))
                truth[where] = background[where] + amount * (truth[where] - background[where])
    truth = _blurred(truth, rng, config.blur_px)
    error = rng.uniform(0.0, config.smooth_error)
    truth = truth * np.exp(error * smooth_noise(truth.shape, rng, int(rng.integers(3, 13))))
    return np.asarray(np.maximum(truth, 1e-3), np.float32)


def _blurred(values: Float32, rng: np.random.Generator, most: float) -> Float32:
    """With soft edges, or with near things grown into what is behind them, or both."""
    if rng.random() < 0.3:
        wide = 1 + 2 * int(rng.integers(1, 1 + max(1, round(most))))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide))
        values = np.asarray(cv2.dilate(values, disc), np.float32)
    blur = most * rng.random() ** 2
    if blur > 0.3:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), blur), np.float32)
    return values


def _network(rng: np.random.Generator, config: PredictionConfig) -> str:
    """Whose disparity a sample comes with: "embedded", "made up", or "" for none."""
    choice = rng.random()
    if choice < config.embedded:
        return "embedded"
    return "made up" if choice < config.embedded + config.made_up else ""


def _prediction(
    network: str,
    frame: TrainingFrame,
    disparity: Float32,
    rng: np.random.Generator,
    config: PredictionConfig,
    belongs: bool,
) -> Float32 | None:
    if network == "embedded":
        if belongs:
            line = (frame.scale, frame.shift) if np.isfinite(frame.scale) else None
        else:
            line = _line(frame.relative, disparity)
        if line is None:
            return None
        predicted = line[0] * frame.relative + line[1]
        if rng.random() < 0.5:  # on other pictures than these it errs more
            predicted = _blurred(predicted, rng, config.blur_px)
            cells = int(rng.integers(3, 13))
            predicted *= np.exp(rng.uniform(0, 0.05) * smooth_noise(predicted.shape, rng, cells))
    elif network == "made up":
        predicted = degraded(frame, rng, config)
        low, high = float(predicted.min()), float(predicted.max())
        relative = (predicted - low) / max(high - low, 1e-6)
        line = _line(relative, disparity)
        if line is None:
            return None
        predicted = line[0] * relative + line[1]
    else:
        return None
    if rng.random() < 0.3:  # a scale that is held from another frame
        predicted = predicted * np.float32(np.exp(rng.normal(0, 0.03)))
    if rng.random() < config.failed_share:  # a network that has not understood the picture
        noise = smooth_noise(predicted.shape, rng, int(rng.integers(2, 8)))
        predicted = predicted * np.exp(np.float32(rng.uniform(0.1, 0.6)) * noise)
        predicted -= np.float32(rng.uniform(0.0, 0.5) * np.median(predicted))
    if agreement(disparity, predicted) < _FEWEST_AGREE:
        return None
    return np.asarray(np.maximum(predicted, 1e-3), np.float32)


def _line(relative: Float32, disparity: Float32) -> tuple[float, float] | None:
    """Scale and shift of most readings, roughly as the aligner finds them, which takes longer."""
    where = np.flatnonzero(disparity)
    where = where[:: 1 + len(where) // 2000]
    if len(where) < _FEWEST_READINGS:
        return None
    x, y = relative.ravel()[where], disparity.ravel()[where]
    weight = np.ones_like(x)
    for _ in range(8):
        total = weight.sum()
        mean_x, mean_y = (weight @ x) / total, (weight @ y) / total
        scale = (weight @ ((x - mean_x) * (y - mean_y))) / (weight @ np.square(x - mean_x) + 1e-9)
        off = np.abs(y - mean_y - scale * (x - mean_x))
        weight = 1 / (1 + np.square(off / max(2 * float(np.median(off)), 1e-6)))
    return (float(scale), float(mean_y - scale * mean_x)) if scale > 0 else None


def _window(
    shape: tuple[int, ...], rng: np.random.Generator, size: tuple[int, int]
) -> tuple[tuple[slice, slice], bool]:
    """Half of the crops keep their pixels' size, the others are zoomed."""
    height, width = shape[:2]
    if rng.random() < 0.5:
        rows, columns = min(size[0], height), min(size[1], width)
    else:
        share = rng.uniform(_SMALLEST_CROP, 1.0)
        rows, columns = round(height * share), round(width * share)
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    return (slice(top, top + rows), slice(left, left + columns)), bool(rng.random() < 0.5)


def _colours(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    x = (rgb.astype(np.float32) / 255) ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    if rng.random() < 0.3:
        x = x[..., rng.permutation(3)]
    grey = x.mean(axis=-1, keepdims=True)
    gains = np.exp(rng.uniform(-0.15, 0.15, 3) + rng.uniform(-0.25, 0.25)).astype(np.float32)
    x = (grey + (x - grey) * np.float32(rng.uniform(0, 1.4))) * gains
    x += np.float32(rng.uniform(-0.08, 0.08))
    if rng.random() < 0.3:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.5))
    noise = np.float32(rng.uniform(0, 0.03))
    x += noise * rng.standard_normal((*x.shape[:2], 1), np.float32)
    return np.clip(x * 255, 0, 255).astype(np.uint8)
