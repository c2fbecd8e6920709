"""What the numbers of a depth image are: depth along the optical axis, or what was sent for it.

Knows small pictures and the camera's rays. What is flat tells: in 1/depth a plane is linear in the
pixels, and nothing else of it is but by chance. A simulator's distances along the rays bend it; of
disparity that was sent for depth, the numbers themselves are linear, and so are those of a
renderer's depth buffer, A - B/depth, which end at 1 and may differ little from each other: without
a sensor's noise the last digits still tell. And depth has nothing of what is painted on a surface,
while an infrared picture has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of
from dkt_ros.geometry import Intrinsics, is_reading

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_LOOKS = 3
"""Looks that are taken together, and without which nothing is certain."""
_EVERY, _SOON = 20, 3  # frames between looks, after the first few; while something is found
_FEWEST = 1500  # readings in a look
_TRIES, _SPARSE = 100, 800  # planes through three readings each, judged by so many
_FLAT = 0.006  # relative distance from a plane that is still on it
_LARGEST = 0.2  # share of the readings, at least, that the largest plane has
_FLATTER = 1.3  # so many more lie on one plane than as depth; of depth up to 1.2 times as many
_MOST = 0.7  # of disparity: whoever makes up depth that fills a picture makes it linear, too
_FINE = (7, 7)  # px, finer than which is what surfaces have on them
_ROUGH = 0.01  # median of what is finer in depth, relative: sensors' noise is half of that
_ALIKE = 0.3  # correlation of that with colour's, wherever it lies; of a sensor's up to 0.15
_CLIPPED = 0.9
_END, _APART, _PLACES, _SLOPES, _LEAST_SLOPE = 1.0, 6, 80, 60, 1e-3
"""What a depth buffer ends at. Of the picture, how far apart the readings are of which three in a
line tell; where such begin, and in how many lines; relative step between two of them."""
_TELLING, _LINEAR, _SO_MANY, _TIMES = 300, 0.15, 0.25, 4
"""Such threes; how near to linear, of a plane's bend; their share, and times those that bend as in
depth."""
_GRAINS, _FINE_ONES = 3, 0.05
"""By so many steps between a sensor's numbers a plane's depth has to bend: of fewer a table that is
nearly parallel to the picture is linear, too, as far as they tell. Which share of the differences
between sorted numbers is no larger than that step."""
_ALL = 0.9
"""Of one plane that fills the picture, whoever makes up depth makes it linear, too."""


class Quantity:
    """Looks at one stream's raw depth."""

    def __init__(self) -> None:
        self._frames = 0
        self._flat: deque[Float64] = deque(maxlen=_LOOKS)
        self._alike: deque[float] = deque(maxlen=_LOOKS)
        self._buffer: deque[bool] = deque(maxlen=_LOOKS)
        self._found: tuple[str, dict[str, float]] = "", {}
        self._restless = False

    def take(
        self,
        grey: Float32 | None,
        readings: Float32,
        camera: Intrinsics | None,
        raw: Float32 | None = None,
    ) -> None:
        """The next frame's; most are left out.

        grey (h, w), None where it shows nothing. readings (h, w) 1/m, 0 unknown. camera: of the
        picture that both were reduced from, whatever its size. raw (H, W) metres, 0/NaN/inf
        unknown: that picture's; without it no depth buffer is found.
        """
        due = self._frames < _LOOKS or self._frames % (_SOON if self._restless else _EVERY) == 0
        self._frames += 1
        if not due or count_of(readings) < _FEWEST:
            return
        if camera is not None:
            self._flat.append(_on_planes(readings, camera))
        if grey is not None:
            self._alike.append(_likeness(grey, readings))
        if raw is not None:
            self._buffer.append(_is_buffer(raw))
        self._found = _named(self._flat, self._alike)
        if self._buffer and all(self._buffer):
            self._found = "buffer", self._found[1]
        newest, _ = _named(list(self._flat)[-1:], list(self._alike)[-1:])
        self._restless = bool(newest or self._found[0] or any(self._buffer))

    @property
    def is_certain(self) -> bool:
        """Whether enough was looked at."""
        return max(len(self._flat), len(self._alike), len(self._buffer)) >= _LOOKS

    def found(self) -> tuple[str, dict[str, float]]:
        """ "ray", "disparity", "picture", "buffer" or "" for depth; and the numbers behind it."""
        return self._found


def _named(flat: Collection[Float64], alike: Collection[float]) -> tuple[str, dict[str, float]]:
    """Of some looks: see Quantity.found."""
    scores: dict[str, float] = {}
    found = ""
    if flat:
        depth, ray, disparity = (float(share) for share in np.mean(list(flat), axis=0))
        scores = {"flat": depth, "flat_ray": ray, "flat_disparity": disparity}
        least = max(_LARGEST, _FLATTER * depth)
        if max(least, disparity) < ray:
            found = "ray"
        elif least < disparity < _MOST:
            found = "disparity"
    if alike:
        scores["like_colour"] = float(np.mean(list(alike)))
        if scores["like_colour"] > _ALIKE:
            found = "picture"
    return found, scores


def _is_buffer(raw: Float32) -> bool:
    """Whether planes are linear in the numbers as they are, none of which is beyond 1."""
    if min(raw.shape) < _APART:
        return False
    number, linear, as_depth, most = 0, 0, 0, 0.0
    grain = _GRAINS * _grain(raw)
    for lines in (raw, raw.T):
        apart, step = len(lines) // _APART, max(1, len(lines) // _PLACES)
        some = lines[:, :: max(1, lines.shape[1] // _SLOPES)]
        first, second, third = (
            some[begin : len(lines) - 2 * apart + begin : step].astype(np.float64)
            for begin in (0, apart, 2 * apart)
        )
        if np.fmax.reduce(second, axis=None) > _END:
            return False
        with np.errstate(invalid="ignore", divide="ignore"):
            one, other = second - first, third - second
            low, high = (pick(np.abs(one), np.abs(other)) for pick in (np.minimum, np.maximum))
            telling = (low > _LEAST_SLOPE * second) & (high < 2 * low) & (one * other > 0)
            known = (first > 0) & (second > 0) & (third > 0)
            telling &= known
            # 0 of what is linear as it is, 1 of what is so in 1/depth.
            bend = (2 * (other - one) * second / np.square(one + other))[telling]
            shows = (np.square(one + other) > 2 * grain * second)[telling]
        is_linear = np.abs(bend) < _LINEAR
        number += count_of(shows)
        linear += count_of(is_linear & shows)
        as_depth += count_of((np.abs(bend - 1) < _LINEAR) & shows)
        most = max(most, count_of(is_linear) / max(1, count_of(known)))
    enough = number >= _TELLING and linear >= max(_SO_MANY * number, _TIMES * as_depth)
    return bool(enough and most < _ALL)


def _grain(raw: Float32) -> float:
    """The step between a sensor's numbers, or how near to each other numbers without steps are."""
    height, width = raw.shape
    some = raw[:: max(1, height // _PLACES), :: max(1, width // _SLOPES)]
    values = np.unique(some[is_reading(some)].astype(np.float64))
    return float(np.quantile(np.diff(values), _FINE_ONES)) if len(values) > 1 else 0.0


def _on_planes(readings: Float32, camera: Intrinsics) -> Float64:
    """(3,) shares of the readings on the largest plane: as depth, along the ray, as disparity."""
    height, width = readings.shape
    some = readings[::2, ::2].astype(np.float64)
    rows, columns = (np.arange(0, n, 2) + 0.5 for n in (height, width))
    x = (columns * camera.width / width - 0.5 - camera.cx) / camera.fx
    y = (rows * camera.height / height - 0.5 - camera.cy) / camera.fy
    at = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), -1)
    known = some > 0
    three = _triples(known)
    points, inverse = at[known], some[known]
    ray = np.sqrt(np.square(points).sum(-1))
    lengths = np.sqrt(np.square(at).sum(-1))
    each = (
        (inverse, some),
        (inverse * ray, some * lengths),
        (1 / inverse, np.divide(1, some, out=np.zeros_like(some), where=known)),
    )
    return np.array([_largest(points, values, at, image, three) for values, image in each])


def _triples(known: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns (n, 3) of readings that lie within a quarter of the picture."""
    rng = np.random.default_rng(0)
    height, width = known.shape
    rows, columns = np.nonzero(known)
    first = rng.integers(len(rows), size=8 * _TRIES)
    reach = height // 4
    row = rows[first, None] + np.array([0, 1, 1]) * rng.integers(-reach, reach, (len(first), 3))
    column = columns[first, None] + np.array([0, 1, 1]) * rng.integers(
        -reach, reach, (len(first), 3)
    )
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    usable = known[row, column].all(-1)
    return row[usable][:_TRIES], column[usable][:_TRIES]


def _largest(
    points: Float64,
    values: Float64,
    at: Float64,
    image: Float64,
    three: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> float:
    """Share of values (n,) at points (n, 3) that are linear in them, of the most that are."""
    # No BLAS or LAPACK, which would wake a pool of threads for it.
    first, second, third = np.moveaxis(at[three], 1, 0)
    normals = np.stack(
        [np.cross(second, third), np.cross(third, first), np.cross(first, second)], axis=1
    )
    spread = np.einsum("ni,ni->n", first, normals[:, 0])  # of those that lie on a line it is 0
    usable = np.abs(spread) > 0.1 * np.abs(spread).mean()
    if not usable.any():
        return 0.0
    planes = np.einsum("nk,nki->ni", image[three], normals)[usable] / spread[usable, None]
    tolerated = _FLAT * values
    sparse = slice(None, None, 1 + len(points) // _SPARSE)
    off = np.abs(np.einsum("ni,pi->np", points[sparse], planes) - values[sparse, None])
    plane = planes[(off < tolerated[sparse, None]).sum(axis=0).argmax()]
    most = 0
    for _ in range(3):
        off = np.abs(np.einsum("ni,i->n", points, plane) - values)
        most = max(most, count_of(off < tolerated))
        near = off < 1.5 * tolerated
        _, found = cv2.solve(
            np.einsum("ni,nj->ij", points[near], points[near]),
            np.einsum("ni,n->i", points[near], values[near])[:, None],
            flags=cv2.DECOMP_SVD,
        )
        plane = found[:, 0]
    return most / len(values)


def _likeness(grey: Float32, readings: Float32) -> float:
    """Correlation of what is fine in both, where they lie best on each other; 0 of smooth depth."""
    known = (readings > 0).astype(np.float32)
    share = np.maximum(cv2.blur(known, _FINE), np.float32(1e-3))
    logs = np.log(np.where(readings > 0, readings, 1)).astype(np.float32)
    depth = known * (logs - cv2.blur(logs, _FINE) / share)
    if np.median(np.abs(depth[known > 0])) < _ROUGH:
        return 0.0
    lights = np.log(np.maximum(grey, 1)).astype(np.float32)
    first, second = (
        np.fft.rfft2(_clipped(one)) for one in (lights - cv2.blur(lights, _FINE), depth)
    )
    return float(np.abs(np.fft.irfft2(first * np.conj(second), s=grey.shape)).max())


def _clipped(fine: Float32) -> Float32:
    """Without what is strongest in it, which edges are, and of unit energy."""
    limit = np.quantile(np.abs(fine), _CLIPPED)
    kept = np.clip(fine, -limit, limit)
    return np.asarray(kept / max(float(np.linalg.norm(kept)), 1e-6), np.float32)
