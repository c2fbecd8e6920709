"""Colour and readings of one scene, made unlike each other as cameras and light make them.

Knows one picture and its readings. Knows nothing of networks, samples or what is learned. What is
drawn is a function of the arguments and the random generator alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.lettering import write_words
from dkt_ros.train.sensor import smooth_noise

Float32 = NDArray[np.float32]
_FEWEST = 100
_NOWHERE = np.float32(np.finfo(np.float32).max)  # what OpenCV takes beyond the border


def spoiled_colours(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) of another exposure, lit in parts, blurred, moved, noisy, grey, or written on."""
    x: Float32 = rgb.astype(np.float32)
    which = rng.random()
    if which < 0.2:
        x *= np.float32(np.exp(rng.uniform(-1.6, 1.1)))
    if 0.1 < which < 0.5:
        x = _lit(x, rng)
    if 0.45 < which < 0.65:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(1, 5)), np.float32)
    if 0.6 < which < 0.75:
        x = np.asarray(cv2.filter2D(x, -1, _streak(rng)), np.float32)
    if 0.7 < which < 0.85:
        x = _written(x, rng)
    if which > 0.8:
        x += rng.normal(0, rng.uniform(5, 30), x.shape).astype(np.float32)
    if which > 0.9:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    return np.clip(x, 0, 255).astype(np.uint8)


def spoiled_readings(disparity: Float32, rng: np.random.Generator) -> Float32:
    """(H, W) in 1/m, 0 = none, as another sensor has them; as they were where few would be left.

    Noisier, grown, smoothed, thinned, of a shorter range, or missing at a side or in pieces.
    """
    shape = height, width = disparity.shape
    which = rng.random()
    depth = np.divide(1, disparity, out=np.zeros_like(disparity), where=disparity > 0)
    known = depth[depth > 0]
    if which < 0.25:
        noise = rng.uniform(0.002, 0.03) * np.clip(depth / np.median(known), 0.3, 3)
        depth *= 1 + noise * rng.normal(0, 1, shape)
    if 0.2 < which < 0.4:
        wide = 2 * int(rng.integers(1, 10)) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide))
        grown = cv2.erode(np.where(depth > 0, depth, _NOWHERE), disc)
        depth = np.where(grown < _NOWHERE, grown, 0)
    if 0.35 < which < 0.55:
        soft, there = rng.uniform(0.7, 4), (depth > 0).astype(np.float32)
        mixed, share = (
            np.asarray(cv2.GaussianBlur(x, (0, 0), soft), np.float32)
            for x in (depth * there, there)
        )
        depth = np.divide(mixed, share, out=np.zeros_like(depth), where=there > 0)
    if 0.5 < which < 0.6:
        step, thinned = int(rng.integers(2, 6)), np.zeros_like(depth)
        thinned[::step, ::step] = depth[::step, ::step]
        depth = thinned
    if 0.6 < which < 0.7:
        depth = np.where(depth > np.quantile(known, rng.uniform(0.4, 1)), 0, depth)
    if 0.7 < which < 0.78:
        depth = np.where(depth < np.quantile(known, rng.uniform(0, 0.5)), 0, depth)
    if 0.78 < which < 0.9:
        gone, part = np.zeros(shape, bool), rng.uniform(0.1, 0.6)
        if rng.random() < 0.5:
            gone[: int(part * height)] = True
        else:
            gone[:, : int(part * width)] = True
        depth = np.where(gone[::-1, ::-1] if rng.random() < 0.5 else gone, 0, depth)
    if which > 0.9:
        pieces = smooth_noise(shape, rng, int(rng.integers(3, 25)))
        depth = np.where(pieces < np.quantile(pieces, rng.uniform(0.1, 0.7)), 0, depth)
    left = depth > 0
    if count_of(left) < _FEWEST:
        return disparity
    return np.divide(1, depth, out=np.zeros_like(disparity), where=left, casting="same_kind")


def _lit(x: Float32, rng: np.random.Generator) -> Float32:
    """Burnt, in shadow, brighter, or of another colour within one or two shapes."""
    height, width = x.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        middle = int(rng.integers(width)), int(rng.integers(height))
        if rng.random() < 0.4:
            cv2.circle(mask, middle, int(rng.uniform(0.05, 0.3) * width), [1.0], -1)
        else:
            corners = np.array(middle) + rng.normal(0, 0.2 * width, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(mask, [corners.astype(np.int32)], [1.0])
    if rng.random() < 0.5:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), np.exp(rng.uniform(0, 2.7))), np.float32)
    share, kind = mask[..., None], rng.random()
    if kind < 0.35:
        return np.asarray(x + (255 - x) * share, np.float32)
    if kind < 0.7:
        return np.asarray(x * (1 - share * rng.uniform(0.2, 0.8)), np.float32)
    if kind < 0.85:
        return np.asarray(x * (1 + share * rng.uniform(0.3, 2)), np.float32)
    return np.asarray(x + (rng.uniform(0, 255, 3) - x) * share, np.float32)


def _streak(rng: np.random.Generator) -> Float32:
    """A kernel of motion blur."""
    length = int(rng.integers(3, 16))
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1 / length
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1)
    return np.asarray(cv2.warpAffine(line, turn, (length, length)), np.float32)


def _written(x: Float32, rng: np.random.Generator) -> Float32:
    """With words that the camera or its driver puts over the picture."""
    x = x.copy()
    for _ in range(int(rng.integers(1, 6))):
        words = "".join(rng.choice(list("ABC 0123:.-xyz"), 8))
        at = int(rng.integers(x.shape[1])), int(rng.integers(x.shape[0]))
        colour = rng.uniform(0, 255, 3)
        write_words(x, words, at, rng.uniform(0.3, 1), colour, int(rng.integers(1, 3)))
    return x
