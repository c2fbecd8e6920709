"""Depth cameras with light of their own on the camera's axis or beside it: ToF, structured light.

Knows optics on traced paths (trace.Paths). Knows nothing of Blender. Both see glass as their light
does: it goes through, comes back from behind later (ToF) or from elsewhere (structured light).
Depth comes out planar in the colour picture, whole millimetres, NaN where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dkt_ros.synth.trace import Paths

_LIGHT_SPEED = 299_792_458.0


@dataclass(frozen=True)
class TimeOfFlight:
    """Two modulation frequencies in hertz; the figures of an Azure Kinect's narrow view.

    Ranges wrap at c / 2 |f1 - f2| (7.5 m). noise: of each phasor, where 1 is a white wall at 1 m;
    faintest, brightest: amplitudes between which a pixel counts; lens: pixels (standard deviation)
    over which the lens mixes surfaces; stray: share of light that the lens spreads over the
    picture; bounced: share that comes by way of neighbouring surfaces; coherence: below this the
    pixel mixes several ranges and is dropped.
    """

    frequencies: tuple[float, float] = (80e6, 100e6)
    nearest: float = 0.25
    farthest: float = 5.46
    noise: float = 0.004
    faintest: float = 0.012
    brightest: float = 10.0
    lens: float = 0.6
    stray: float = 0.01
    bounced: float = 0.04
    coherence: float = 0.75

    @property
    def lamp(self) -> tuple[float, float, float]:
        """The lamp in camera axes."""
        return 0.0, 0.0, 0.0

    def measure(
        self, paths: Paths, camera_matrix: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """(H,W) float32 metres."""
        there = paths.first > 0
        first = np.where(there, paths.first, 1.0)
        direct = np.where(there, paths.scatter * paths.facing / first**2, 0.0)
        # A smooth surface that faces the lamp throws its picture back.
        width = 0.003 + 0.2 * paths.rough
        direct += paths.mirror * 4.0 * np.exp(-(1 - paths.facing) / width) / first**2
        behind = paths.beyond > 0
        beyond = np.where(behind, paths.beyond, 1.0)
        # The gain holds one way through the glass; light goes it twice.
        through = np.where(behind, paths.gain * paths.passed / beyond**2, 0.0)
        phasors, coherence = [], np.ones_like(first)
        for frequency in self.frequencies:
            wave = 4 * np.pi * frequency / _LIGHT_SPEED
            clean = direct * np.exp(1j * wave * first) + through * np.exp(1j * wave * beyond)
            late = direct * np.exp(1j * wave * 1.08 * first)
            mixed = _blurred(clean, self.lens)
            sharp = _blurred(np.abs(direct) + np.abs(through), self.lens).real
            coherence = np.minimum(coherence, np.abs(mixed) / np.maximum(sharp, 1e-9))
            mixed = mixed + self.bounced * _blurred(late, 5.0)
            mixed = mixed + self.stray * _blurred(clean, 0.1 * first.shape[1])
            shape = (*first.shape, 2)
            mixed += self.noise * (random.normal(0, 1, shape) @ [1, 1j])
            phasors.append(mixed)
        amplitude = np.abs(phasors[0])
        distance = self._unwrap(phasors[0], phasors[1])
        depth = distance * _axial(first.shape, camera_matrix)
        good = (amplitude > self.faintest) & (amplitude < self.brightest)
        good &= (coherence > self.coherence) & (depth > self.nearest) & (depth < self.farthest)
        return _millimetres(np.where(good, depth, np.nan))

    def _unwrap(self, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
        """Range in metres from two phasors, 0 to the range at which it wraps."""
        f1, f2 = self.frequencies
        span, wrap = _LIGHT_SPEED / (2 * f1), _LIGHT_SPEED / (2 * abs(f2 - f1))
        fine = np.angle(slow) % (2 * np.pi) / (2 * np.pi) * span
        coarse = np.angle(fast * np.conj(slow)) % (2 * np.pi) / (2 * np.pi) * wrap
        if f2 < f1:
            coarse = wrap - coarse
        return (fine + np.rint((coarse - fine) / span) * span) % wrap


@dataclass(frozen=True)
class StructuredLight:
    """A dot pattern from a projector beside the camera, as in a PrimeSense Carmine 1.09.

    baseline: metres to the projector, along +x; focal: pixels of the sensor's own 640 wide
    picture, in which disparity comes in steps of `step` (Khoshelham and Elberink, 2012) with
    `noise` (standard deviation); window: pixels it correlates over; spread: of disparity, at most,
    within it; faintest: signal of a white wall at 1 m is 1; grazing: least cosine of incidence.
    """

    baseline: float = 0.075
    focal: float = 580.0
    nearest: float = 0.35
    farthest: float = 3.0
    step: float = 0.125
    noise: float = 0.05
    window: int = 9
    spread: float = 1.6
    faintest: float = 0.025
    brightest: float = 12.0
    grazing: float = 0.12

    @property
    def lamp(self) -> tuple[float, float, float]:
        """The projector in camera axes."""
        return self.baseline, 0.0, 0.0

    def measure(
        self, paths: Paths, camera_matrix: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """(H,W) float32 metres."""
        width = paths.first.shape[1]
        x = (np.arange(width) - camera_matrix[0, 2]) / camera_matrix[0, 0]
        there, behind = paths.first > 0, paths.beyond > 0
        first = np.where(there, paths.first, 1.0)
        z_first = first * _axial(first.shape, camera_matrix)
        direct = np.where(there, paths.scatter * paths.facing / first**2, 0.0)
        glare = paths.mirror * 40.0 * np.exp(-(1 - paths.facing) / (0.003 + 0.2 * paths.rough))
        glare = np.where(there, glare / first**2, 0.0)
        beyond = np.where(behind, paths.beyond, 1.0)
        through = np.where(behind, paths.gain * paths.passed / beyond**2, 0.0)
        # The dot seen at a pixel is the one that lights the point this pixel's light comes from.
        own = self.baseline / z_first
        depth = np.where(behind, np.maximum(paths.point[..., 2], 1e-3), 1.0)
        elsewhere = x - (paths.point[..., 0] - self.baseline) / depth
        through_wins = through > direct
        disparity = self.focal * np.where(through_wins, elsewhere, own)
        signal = np.maximum(direct, through)
        lit = paths.lit | (behind & ~through_wins)
        good = there & lit & (signal > self.faintest) & (signal + glare < self.brightest)
        good &= paths.facing > self.grazing
        # What mixes two answers of like strength decodes to neither.
        weak = np.minimum(direct, through) > 0.5 * signal
        good &= ~weak
        # The window, in pixels of this picture.
        scale = camera_matrix[0, 0] / self.focal
        size = max(3, 2 * round(0.5 * self.window * scale) + 1)
        mean, deviation = _window(disparity, good, size)
        share = cv2.blur(good.astype(np.float32), (size, size))
        good &= (share > 0.45) & (deviation < self.spread)
        blurred = np.where(np.abs(mean - disparity) < 0.5 * self.spread, mean, disparity)
        shaky = self.noise / np.sqrt(np.clip(signal / 0.2, 0.05, 2.0))
        noise = cv2.GaussianBlur(random.normal(0, 1, disparity.shape), (0, 0), 0.35 * size)
        noise = noise / max(float(noise.std()), 1e-9)
        found = np.rint((blurred + shaky * noise) / self.step) * self.step
        with np.errstate(divide="ignore"):
            depth = self.focal * self.baseline / np.where(found > 0, found, np.nan)
        good &= (depth > self.nearest) & (depth < self.farthest)
        return _millimetres(np.where(good, depth, np.nan))


def _axial(shape: tuple[int, ...], camera_matrix: np.ndarray) -> np.ndarray:
    """(H,W): planar depth over range."""
    v, u = np.mgrid[: shape[0], : shape[1]]
    x = (u - camera_matrix[0, 2]) / camera_matrix[0, 0]
    y = (v - camera_matrix[1, 2]) / camera_matrix[1, 1]
    return np.asarray(1 / np.sqrt(1 + x * x + y * y))


def _blurred(values: np.ndarray, deviation: float) -> np.ndarray:
    real = cv2.GaussianBlur(np.ascontiguousarray(values.real), (0, 0), deviation)
    imaginary = cv2.GaussianBlur(np.ascontiguousarray(values.imag), (0, 0), deviation)
    return np.asarray(real + 1j * imaginary)


def _window(values: np.ndarray, known: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over windows of what is known."""
    around = (size, size)
    weight = np.maximum(cv2.blur(known.astype(np.float64), around), 1e-6)
    filled = np.where(known, values, 0.0)
    mean = cv2.blur(filled, around) / weight
    square = cv2.blur(filled * filled, around) / weight
    return mean, np.sqrt(np.maximum(square - mean * mean, 0.0))


def _millimetres(depth: np.ndarray) -> np.ndarray:
    return (np.rint(depth * 1000.0) / 1000.0).astype(np.float32)
