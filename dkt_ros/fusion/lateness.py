"""Whether raw depth is of an earlier or later moment than the colour that it came with.

Knows small pictures of colour's edges and of depth's steps, and their spectra. Knows nothing of
networks, of what else goes wrong, or of words.

Depth that is late lies on the colour of some frames ago, wherever the camera has moved since; depth
that is registered a little wrong lies beside its own colour, always the same way. So the steps of
each frame are laid on the edges of several, at all shifts at once, and the running mean of each lag
is taken over a second of motion: the true lag's has a sharp peak, while the others' are smeared by
whatever motion there was. Motion that never changes smears none, and tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.fusion.registration import colour_edges

Float32 = NDArray[np.float32]
Spectra = NDArray[np.complex64]

LAGS = 6  # frames, at most, that depth is said to be late or early by
_LOOKED_AT = LAGS + 1  # a peak at the end of the range may lie beyond it
_MEMORY = 20  # frames of motion in the running means
_FEWEST = 8
_EVERY = 4  # frames of motion between looks
_TOLERATED_S = 0.06  # two images of one moment may be taken so far apart
_AT_REST = 0.9  # correlation of edges with those of _LOOKED_AT frames ago
_REACH = 3  # px by which depth may lie wrong beside its being late
_LIKELY = np.exp(-np.square(np.hypot(*np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1])) / 4.5)
_FAINTEST = 0.02  # correlation


@dataclass(frozen=True)
class Lag:
    """By how much depth is older than colour (negative: younger).

    gain: how much better it fits the colour of then than its own, wherever it lies on that; 0..1.
    """

    frames: int
    seconds: float
    gain: float


@dataclass(frozen=True, eq=False)
class _Shown:
    """One frame. edges (h, w) of unit energy; inverse (h, w), see Lateness.take."""

    edges: Float32
    inverse: Float32
    stamp_ns: int

    # Made where the view moves: of what stands still nobody asks.
    @cached_property
    def colour(self) -> Spectra:
        """The edges' spectrum."""
        return _spectrum(self.edges)

    @cached_property
    def depth(self) -> Spectra:
        """That of depth's steps."""
        return _spectrum(_steps(self.inverse))


class Lateness:
    """Running means over one stream."""

    def __init__(self) -> None:
        self._shown: list[_Shown] = []  # newest first
        self._fits: Spectra | None = None
        """(lag + _LOOKED_AT, h, w // 2 + 1): spectra of how steps lie on edges at all shifts."""
        self._moved = 0
        self._newest: Lag | None = None
        self._lag: Lag | None = None

    @property
    def moves(self) -> bool:
        """Whether the view has changed within the last frames; only then late depth is wrong."""
        if len(self._shown) < 2:
            return False
        newest, oldest = self._shown[0].edges, self._shown[-1].edges
        return float(np.vdot(newest, oldest)) < _AT_REST

    def take(self, grey: Float32, inverse: Float32, stamp_ns: int) -> Lag | None:
        """The lag as it is known with this frame; None where depth fits its own colour best.

        Two looks in a row have to tell of it: of a healthy camera that turns back, single ones do.
        grey (h, w) 0..255, inverse (h, w) 1/depth, 0 unknown, always of one size.
        """
        edges = _of_unit_energy(colour_edges(grey, 9))
        shown = _Shown(edges, inverse, stamp_ns)
        self._shown = [shown, *self._shown[:_LOOKED_AT]]
        if len(self._shown) <= _LOOKED_AT or not self.moves:
            return self._lag
        # Depth of now on the colour of before, and that of before on the colour of now.
        late = shown.depth * np.conj(np.stack([one.colour for one in self._shown]))
        early = np.stack([one.depth for one in self._shown[:0:-1]]) * np.conj(shown.colour)
        fits = np.concatenate([early, late])
        self._moved += 1
        if self._fits is None:
            self._fits = fits
        self._fits += (fits - self._fits) * np.float32(1 / min(self._moved, _MEMORY))
        if self._moved >= _FEWEST and self._moved % _EVERY == 0:
            before, self._newest = self._newest, self._looked(edges.shape)
            self._lag = self._newest if _same_way(before, self._newest) else None
        return self._lag

    def _looked(self, size: tuple[int, ...]) -> Lag | None:
        assert self._fits is not None
        period_s = (self._shown[0].stamp_ns - self._shown[-1].stamp_ns) / 1e9 / _LOOKED_AT
        near = int(_TOLERATED_S / period_s) if period_s > 0 else LAGS
        if near >= LAGS:
            return None
        surfaces = np.fft.irfft2(self._fits, s=size)
        own = float(surfaces[_LOOKED_AT - near : _LOOKED_AT + near + 1].max())
        around = np.arange(-_REACH, _REACH + 1)
        beside = surfaces[:, around[:, None], around]
        # Of lags that motion hardly tells apart, the one that needs least shift.
        likely = (beside * _LIKELY).max(axis=(1, 2))
        best = int(likely.argmax())
        frames, peak = best - _LOOKED_AT, float(beside[best].max())
        if not near < abs(frames) <= LAGS or peak < max(own, _FAINTEST):
            return None
        # What is tolerated may still be nearer to a whole frame that is late than to none.
        if abs(frames + _between(*likely[best - 1 : best + 2])) * period_s <= _TOLERATED_S:
            return None
        return Lag(frames, frames * period_s, 1 - own / peak)


def _between(before: float, peak: float, after: float) -> float:
    """Where a parabola through three values at -1, 0 and 1 is highest, -0.5 .. 0.5."""
    bend = before - 2 * peak + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0


def _same_way(one: Lag | None, other: Lag | None) -> bool:
    return one is not None and other is not None and one.frames * other.frames > 0


def _spectrum(picture: Float32) -> Spectra:
    return np.fft.rfft2(picture).astype(np.complex64)


def _steps(inverse: Float32) -> Float32:
    """Relative steps of depth between known neighbours, 0 below 2%, 1 from 10%; of unit energy."""
    near, far = cv2.dilate(inverse, _CROSS), cv2.erode(inverse, _CROSS)
    share = np.divide(far, near, out=np.ones_like(near), where=far > 0)
    steps = np.clip((1 - share - 0.02) / 0.08, 0, 1)
    return _of_unit_energy(steps - steps.mean())


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _of_unit_energy(picture: Float32) -> Float32:
    picture[:2], picture[-2:], picture[:, :2], picture[:, -2:] = 0, 0, 0, 0
    return picture / np.float32(max(float(np.linalg.norm(picture)), 1e-6))
