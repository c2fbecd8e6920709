"""How depth cameras err, at random and beyond what a renderer simulates: for networks to outlast.

Knows disparity, its truth and where glass and metal are. Knows nothing of networks, files or sizes.
What is drawn is a function of the arguments and the random generator alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.geometry import nearest_fill

Float32 = NDArray[np.float32]
_BEHIND = 0.03  # relative
BETTER = 0.35


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator, cells: int) -> Float32:
    """(H, W) of smooth noise, mean 0, standard deviation 1."""
    coarse = rng.normal(size=(cells, cells + 2)).astype(np.float32)
    field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def behind(truth: Float32, classes: NDArray[np.uint8]) -> Float32:
    """The true disparity with objects replaced by what is nearest to them around."""
    hidden = (classes > 0) | (truth <= 0)
    if hidden.all():
        return truth
    filled = cv2.blur(nearest_fill(np.where(hidden, np.float32(0), truth)), (5, 5))
    return np.asarray(filled, np.float32)


def failing(
    disparity: Float32,
    truth: Float32,
    classes: NDArray[np.uint8],
    rng: np.random.Generator,
    better: float = BETTER,
) -> Float32:
    """The readings of a sensor that fails in more ways than the one that was simulated.

    disparity, truth: (H, W) in 1/m, 0 = unknown. classes: (H, W), above 0 on glass and metal.
    better: how often it is a better sensor off these than the simulated one.
    """
    disparity = disparity.copy()
    objects = classes > 0
    shape = disparity.shape
    known = truth > 0
    if rng.random() < better:
        # What exists off the objects is right.
        clean = ~objects & known & (disparity > 0)
        noise = rng.uniform(0.0005, 0.003)
        small = rng.normal(0, noise, shape) + rng.uniform(0, 0.003) * smooth_noise(shape, rng, 12)
        disparity[clean] = (truth * (1 + small))[clean]
        if rng.random() < 0.5:
            few = ~objects & known & (disparity == 0) & (smooth_noise(shape, rng, 10) > 0.3)
            disparity[few] = (truth * (1 + small))[few]
    choice = rng.random()
    if choice < 0.25:  # the sensor sees through
        through = objects & (smooth_noise(shape, rng, 12) > rng.normal(0, 0.7))
        seen = behind(truth, classes) * (1 + rng.normal(0, 0.004, shape) + rng.normal(0, 0.01))
        disparity[through] = seen[through]
    elif choice < 0.5:  # it sees the object's surface in patches, or nothing
        gone = objects & (smooth_noise(shape, rng, 12) > rng.normal(0, 1.0))
        disparity[gone] = 0
        if rng.random() < 0.5:
            right = objects & known & (smooth_noise(shape, rng, 9) > 0.8)
            noise = np.exp(rng.normal(0, 0.004, shape))
            disparity[right] = (truth * noise)[right]
    elif choice < 0.6:
        disparity[objects] = 0
    if rng.random() < 0.3:  # holes anywhere
        disparity[smooth_noise(shape, rng, int(rng.integers(5, 30))) > rng.uniform(0.8, 2.0)] = 0
    if rng.random() < 0.15:  # a side that the other eye does not see, or what is out of range
        border = int(rng.integers(2, shape[1] // 5))
        disparity[:, :border] = 0
    if rng.random() < 0.2:  # registration that is not quite right
        shift = np.array([[1, 0, rng.uniform(-2, 2)], [0, 1, rng.uniform(-1, 1)]], np.float32)
        moved = cv2.warpAffine(disparity, shift, shape[::-1], flags=cv2.INTER_NEAREST)
        disparity = np.asarray(moved, np.float32)
    if rng.random() < 0.3:  # flying edges
        wide = int(rng.choice([3, 5]))
        blurred, count = (
            cv2.blur(part, (wide, wide)) for part in (disparity, (disparity > 0).astype(np.float32))
        )
        mean = blurred / np.maximum(count, 1e-6)
        edge = (np.abs(mean - disparity) > 0.03 * disparity) & (disparity > 0)
        edge &= smooth_noise(shape, rng, 20) > 0
        disparity[edge] = mean[edge]
    if rng.random() < 0.2:  # noise that grows with distance
        typical = np.median(truth[known])
        noise = rng.uniform(0.001, 0.01) * typical
        measured = disparity > 0
        grain = rng.normal(0, noise, shape)
        if rng.random() < 0.5:
            grain = cv2.GaussianBlur(grain, (0, 0), 1.5) * 3
        disparity[measured] = np.maximum((disparity + grain)[measured], 1e-3)
    return np.asarray(disparity, np.float32)


def without_behind(
    disparity: Float32, truth: Float32, rng: np.random.Generator, share: float = 0.8
) -> Float32:
    """The readings without most patches of what lies behind the truth, as when it is seen through.

    So a network is asked again, without what fusion has found out. disparity, truth: (H, W) in 1/m,
    0 = unknown. share: of the patches.
    """
    through = (disparity > 0) & (disparity < truth * np.float32(1 - _BEHIND))
    wider = cv2.dilate(through.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, patches = cv2.connectedComponents(wider)
    left_out = rng.random(count) < share
    left_out[0] = False
    return np.where(left_out[patches], np.float32(0), disparity)


def failing_clip(
    disparity: Float32, truth: Float32, classes: NDArray[np.uint8], rng: np.random.Generator
) -> Float32:
    """`failing` and `unfamiliar` of (F, H, W): in every frame alike, or in each differently."""
    seed, steady = int(rng.integers(2**32)), rng.random() < 0.5
    frames = []
    for index, readings in enumerate(disparity):
        own = np.random.default_rng(seed if steady else [seed, index])
        if (truth[index] > 0).any():
            readings = failing(readings, truth[index], classes[index], own)
        frames.append(unfamiliar(readings, own))
    return np.stack(frames)


def unfamiliar(disparity: Float32, rng: np.random.Generator) -> Float32:
    """Readings (H, W) as sensors of other makes give them: off in scale, in steps, sparse."""
    disparity = disparity.copy()
    measured = disparity > 0
    if rng.random() < 0.2:  # calibration that is not quite right
        disparity *= np.float32(np.exp(rng.normal(0, 0.01)))
    if rng.random() < 0.2:  # steps of depth
        step = rng.uniform(0.001, 0.01)
        depth = np.rint(1.0 / (disparity[measured] * step)) * step
        disparity[measured] = 1.0 / np.maximum(depth, step)
    elif rng.random() < 0.2:  # steps of disparity, as of block matching without subpixels
        step = rng.uniform(0.002, 0.02)
        disparity[measured] = np.maximum(np.rint(disparity[measured] / step), 1.0) * step
    if rng.random() < 0.15:  # so few readings as a laser or a coarse ToF chip has
        every = int(rng.integers(2, 9))
        kept = np.zeros(disparity.shape, bool)
        kept[rng.integers(every) :: every, rng.integers(every) :: every] = True
        disparity[~kept] = 0
    elif rng.random() < 0.15:  # or readings missing here and there
        disparity[rng.random(disparity.shape) < rng.uniform(0.1, 0.9)] = 0
    return disparity
