"""Whether depth lies on the colour it came with: two correlations, for every shift, and edges.

Knows disparity, readings and grey pictures at a small size. Knows nothing of streams' other faults,
of causes or of words.

The network's disparity is correlated with 1/raw: what is left of either when a robust plane is
taken away (any table fits any other table), and what is left when its own surroundings are. Depth
that is shifted, mirrored or zoomed shows as a higher correlation there. Where the edges of colour
lie on the steps of depth, it is the network that is wrong.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

FEWEST = 600  # readings at that size; fewer cannot be judged
FINE = 160, 288  # and edges
SIZE = 80, 144  # (h, w) that everything is compared at
_REACH = 18  # px at the small size; larger shifts are not looked for
_EDGE_REACH = 24  # px at the fine size
_SURROUNDINGS = 13  # px: box that a pixel is compared with
_FULL = 3  # first frames in which everything is looked at
_SHARE = 0.3  # of a new score in its running mean
_RARE_SHARE = 0.7  # the same of what is looked at every fifth frame
_BESIDE = np.hypot(*np.mgrid[-_EDGE_REACH : _EDGE_REACH + 1, -_EDGE_REACH : _EDGE_REACH + 1]) >= 6

# The logistic of c_plane and c_local that tells own pairs from foreign ones on rendered scenes.
_LOGIT = 7.6, 14.4, -5.1
_PEAK = 0.3  # that correlation at least

VARIANTS = {
    "mirrored": "mirrored left to right",
    "zoom 1.3": "zoomed by about 1.3",
    "zoom 0.75": "zoomed by about 0.75",
}


class Registration:
    """Means over the last checks of how well disparity and 1/raw go together."""

    def __init__(self) -> None:
        self.checks = 0
        self.scores: dict[str, NDArray[np.float64]] = {}
        self.surfaces: dict[str, NDArray[Any]] = {}

    @property
    def is_new(self) -> bool:
        """Whether there were too few checks to have looked at everything often enough."""
        return self.checks < _FULL

    def check(
        self,
        disparity: Float32,
        inverse: Float32,
        known: Mask,
        readings: Float32,
        grey: Float32,
        belongs: float = math.nan,
    ) -> None:
        """Takes in one frame at the small size; readings and grey at the fine one."""
        # Once all has been looked at, each check takes its part of the work.
        all_of_it, part = self.is_new, self.checks % (len(VARIANTS) + 2)
        self.checks += 1
        inverse_local = _clipped(_local(inverse, known), known)
        inverse_plane = _clipped(_off_plane(inverse, known), known)
        for index, name in enumerate(("own", *VARIANTS)):
            if index and not all_of_it and index - 1 != part:
                continue
            other, seen = _variant(disparity, name)
            both = known & seen
            plane, local = _off_plane(other, both), _clipped(_local(other, seen), seen)
            score = np.array(
                [
                    _correlation(_clipped(plane, both), inverse_plane, both),
                    _correlation(local, inverse_local, both),
                ]
            )
            self._take(self.scores, name, score)
            if name == "own" and (all_of_it or part == len(VARIANTS)):
                surface = _shifted_correlation(local, inverse_local, known)
                self._take(self.surfaces, "shift", surface)
        if all_of_it or part == len(VARIANTS) + 1:
            self._take(self.surfaces, "edges", _edges_on_steps(grey, _steps(readings)))

    def _take(self, means: dict[str, NDArray[Any]], name: str, value: NDArray[Any]) -> None:
        before = means.get(name, value)
        share = _SHARE if name == "own" else _RARE_SHARE
        means[name] = before + (value - before) * max(1.0 / self.checks, share)

    def log_odds(self, name: str) -> float:
        """That colour and depth belong together, if the depth is as named."""
        plane, local, bias = _LOGIT
        return float(self.scores[name] @ (plane, local) + bias)

    def shift(self) -> tuple[tuple[float, float], float]:
        """Where depth lies against colour, px at the small size, and what is gained there."""
        surface = self.surfaces["shift"]
        row, column = np.unravel_index(int(surface.argmax()), surface.shape)
        middle = surface[_REACH - 1 : _REACH + 2, _REACH - 1 : _REACH + 2]
        gain = float(surface.max() - middle.max()) if surface.max() > _PEAK else 0.0
        return (_peak(surface[row], int(column)), _peak(surface[:, column], int(row))), gain

    def edge(self) -> float:
        """By how much edges lie on steps better than beside them; 0 where they peak elsewhere."""
        edges = self.surfaces["edges"]
        row, column = np.unravel_index(int(edges.argmax()), edges.shape)
        if max(abs(row - _EDGE_REACH), abs(column - _EDGE_REACH)) > 3:
            return 0.0
        beside = edges[_BESIDE]
        return float((edges.max() - beside.mean()) / max(float(beside.std()), 1e-6))


def _peak(values: NDArray[np.float64], index: int) -> float:
    """Place of the parabola's top through the peak, from the middle."""
    place = float(index - _REACH)
    if 0 < index < len(values) - 1:
        before, top, after = values[index - 1 : index + 2]
        bend = before - 2 * top + after
        if bend < 0:
            place += float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
    return place


def shrunk(picture: Float32) -> Float32:
    """Means at the small size."""
    return np.asarray(cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA), np.float32)


def thinned(picture: NDArray[Any]) -> NDArray[Any]:
    """Every k-th pixel, still at least twice the small size where it was."""
    step = max(1, min(picture.shape[0] // (2 * SIZE[0]), picture.shape[1] // (2 * SIZE[1])))
    return np.ascontiguousarray(picture[::step, ::step], np.float32)


def grey_of(rgb: NDArray[np.uint8]) -> Float32:
    """At the fine size, 0..255; few pixels of a large picture are looked at."""
    fine = cv2.resize(rgb, FINE[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY), np.float32)


def halved(readings: Float32) -> tuple[Float32, Mask]:
    """Means of 2 x 2 readings, where at least two are known."""
    known = (readings > 0).astype(np.float32)
    total, share = shrunk(readings), shrunk(known)
    enough = share > 0.4
    return np.divide(total, share, out=np.zeros_like(total), where=enough), enough


def _steps(readings: Float32) -> Float32:
    """Relative steps of depth between known neighbours, 0 below 2%, 1 from 10%."""
    steps = np.zeros_like(readings)
    for a, b, inside in (
        (readings[:, 2:], readings[:, :-2], steps[:, 1:-1]),
        (readings[2:], readings[:-2], steps[1:-1]),
    ):
        step = np.abs(a - b) / np.maximum(np.maximum(a, b), 1e-3)
        np.maximum(inside, step * (np.minimum(a, b) > 0), out=inside)
    return np.clip((steps - 0.02) / 0.08, 0, 1)


def _edges_on_steps(grey: Float32, steps: Float32) -> Float32:
    """Strength of colour's edges on steps of depth, for all shifts of the steps up to the reach."""
    smooth = cv2.blur(grey, (3, 3))
    edges = np.sqrt(cv2.magnitude(*(cv2.Sobel(smooth, cv2.CV_32F, *d) for d in ((1, 0), (0, 1)))))
    edges -= cv2.blur(edges, (17, 17))
    inner = steps[_EDGE_REACH:-_EDGE_REACH, _EDGE_REACH:-_EDGE_REACH]
    strength = cv2.matchTemplate(edges, inner, cv2.TM_CCORR)
    energy = cv2.matchTemplate(np.square(edges), inner, cv2.TM_CCORR)
    return np.asarray(strength / np.sqrt(np.maximum(energy * inner.sum(), 0) + 1e-3), np.float32)


def _variant(disparity: Float32, name: str) -> tuple[Float32, Mask]:
    """Disparity as it were if the depth were wrong in that way, and where it is known."""
    if name == "own":
        return disparity, _EVERYWHERE
    if name == "mirrored":
        return disparity[:, ::-1], _EVERYWHERE
    height, width = disparity.shape
    factor = float(name.split()[1])
    move = np.array([[factor, 0, (1 - factor) * width / 2], [0, factor, (1 - factor) * height / 2]])
    zoomed = cv2.warpAffine(disparity, move, (width, height), borderValue=(math.nan,))
    seen = np.isfinite(zoomed)
    return np.where(seen, zoomed, 0).astype(np.float32), seen


_Y, _X = (
    grid.astype(np.float32) for grid in np.mgrid[-1 : 1 : SIZE[0] * 1j, -1 : 1 : SIZE[1] * 1j]
)
_ONES = np.ones(SIZE, np.float32)
_EVERYWHERE = np.ones(SIZE, bool)


def _off_plane(picture: Float32, known: Mask) -> Float32:
    """What is left when a robust plane is taken away."""
    places = np.flatnonzero(known)
    places = places[:: 1 + len(places) // 800]
    design = np.stack([grid.ravel()[places] for grid in (_ONES, _X, _Y)], axis=1)
    values = picture.ravel()[places]
    weight = np.ones(len(places), np.float32)
    plane = np.zeros(3, np.float32)
    for _ in range(6):
        weighted = design * weight[:, None]
        plane = np.linalg.solve(weighted.T @ design + 1e-6 * np.eye(3), weighted.T @ values)
        residual = values - design @ plane
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        weight = 1 / (1 + np.square(residual / (1.5 * scale)))
    return np.asarray(picture - (plane[0] + plane[1] * _X + plane[2] * _Y), np.float32)


def _local(picture: Float32, known: Mask) -> Float32:
    """What is left when the mean of the surroundings is taken away; 0 where it is not known."""
    weight = known.astype(np.float32)
    box = (_SURROUNDINGS, _SURROUNDINGS)
    total, count = cv2.blur(picture * weight, box), cv2.blur(weight, box)
    return np.asarray((picture - total / np.maximum(count, 1e-3)) * weight, np.float32)


def _clipped(residual: Float32, known: Mask) -> Float32:
    """In units of its robust spread."""
    root = float(np.sqrt(np.abs(residual[known])).mean()) if known.any() else 0.0
    return np.clip(residual / (root * root + 1e-6), -4.0, 4.0)


def _correlation(a: Float32, b: Float32, known: Mask) -> float:
    x, y = a[known], b[known]
    if x.size < FEWEST:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y) + 1e-9))


def _shifted_correlation(a: Float32, b: Float32, known: Mask) -> Float32:
    """Correlation of a with b, known where it is, for all shifts of b up to the reach."""
    shape = 108, 180  # at least size + reach, with small factors
    mask = known.astype(np.float32)
    b = b * mask

    def spectrum(picture: Float32) -> Float32:
        padded = np.zeros(shape, np.float32)
        padded[: picture.shape[0], : picture.shape[1]] = picture
        return np.asarray(cv2.dft(padded), np.float32)

    def correlated(x: Float32, y: Float32) -> Float32:
        product = cv2.mulSpectrums(y, x, 0, conjB=True)
        full = cv2.dft(product, flags=cv2.DFT_INVERSE | cv2.DFT_SCALE)
        wrapped = np.concatenate([full[-_REACH:], full[: _REACH + 1]])
        return np.concatenate([wrapped[:, -_REACH:], wrapped[:, : _REACH + 1]], axis=1)

    of_a, of_b, of_mask = spectrum(a), spectrum(b), spectrum(mask)
    one, square_a, square_b = spectrum(_ONES), spectrum(a * a), spectrum(b * b)
    count = np.maximum(correlated(one, of_mask), 1)
    sum_a, sum_b = correlated(of_a, of_mask), correlated(one, of_b)
    both = correlated(of_a, of_b) - sum_a * sum_b / count
    spread_a = correlated(square_a, of_mask) - np.square(sum_a) / count
    spread_b = correlated(one, square_b) - np.square(sum_b) / count
    return np.asarray(both / np.sqrt(np.maximum(spread_a * spread_b, 1e-3)), np.float32)
