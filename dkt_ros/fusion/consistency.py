"""Whether colour, raw depth and the network's disparity belong together, told over a stream.

Knows small pictures and what goes wrong with cameras: a lens cap, a stuck driver, wrong units,
depth that is not registered or of another scene. Knows nothing of networks, alignment or ROS.

Registration is judged by two correlations of the network's disparity with 1/raw: what is left of
either when a robust plane is taken away (any table fits any other table), and what is left when its
own surroundings are. Depth that is shifted, mirrored or zoomed shows as a higher correlation there.
Where the edges of colour lie on the steps of depth, it is the network that is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.errors import DktError

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SIZE = 80, 144  # (h, w) that everything is compared at
_FINE = 160, 288  # and edges
_REACH = 18  # px at the small size; larger shifts are not looked for
_EDGE_REACH = 24  # px at the fine size
_SURROUNDINGS = 13  # px: box that a pixel is compared with
_FEWEST = 600  # readings at that size; fewer cannot be judged
_FULL = 3  # first frames in which everything is looked at
_SHARE = 0.3  # of a new score in its running mean
_RARE_SHARE = 0.7  # the same of what is looked at every fifth frame

_GAIN = 0.05  # correlation gained by a shift, from which it is suspected; twice: certain
_PEAK = 0.3  # that correlation at least
_BESIDE = np.hypot(*np.mgrid[-_EDGE_REACH : _EDGE_REACH + 1, -_EDGE_REACH : _EDGE_REACH + 1]) >= 6

# The logistic of c_plane and c_local that tells own pairs from foreign ones on rendered scenes.
_LOGIT = 7.6, 14.4, -5.1

_VARIANTS = {
    "mirrored": "mirrored left to right",
    "zoom 1.3": "zoomed by about 1.3",
    "zoom 0.75": "zoomed by about 0.75",
}


@dataclass(frozen=True)
class ConsistencyConfig:
    """Where doubt becomes certainty.

    min_raw_depth, max_raw_depth  m: range that readings are expected in
    expected_depth_m  (low, high): the median reading must lie in it; None does not ask
    first_checks      checks before registration is judged at all
    refused, doubted  log-odds that colour and depth belong together, below which they are certain
                      not to, or are suspected
    better            log-odds by which another registration must be likelier
    edges             standard deviations by which colour's edges lie on the depth's steps better
                      than shifted ones, from which colour and depth are taken to belong together
    frozen_frames     identical frames in a row that make a stream frozen while the other moves
    stale_s           seconds of identical colour that are said even where nothing else moves
    jump              factor of depth between two alike pictures that is a jump of scale
    jump_s            seconds for which a jump is certain
    """

    min_raw_depth: float = 0.1
    max_raw_depth: float = 10.0
    expected_depth_m: tuple[float, float] | None = None
    first_checks: int = 3
    refused: float = -0.5
    doubted: float = 0.5
    better: float = 2.0
    edges: float = 2.5
    frozen_frames: int = 3
    stale_s: float = 5.0
    jump: float = 1.5
    jump_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.min_raw_depth < self.max_raw_depth:
            raise DktError(
                f"raw depth range {self.min_raw_depth} .. {self.max_raw_depth} m: expected "
                "0 < min < max"
            )
        if self.expected_depth_m is not None:
            low, high = self.expected_depth_m
            if not 0 <= low < high:
                raise DktError(f"expected depth {low} .. {high} m: expected 0 <= low < high")


@dataclass(frozen=True)
class Suspicion:
    """What is wrong. cause: a short name; text: a sentence; certain: the network must not be used.

    Causes: colour, depth range, expected depth, jump, frozen depth, frozen colour, stale colour,
    foreign, shifted, mirrored, zoomed; network: its disparity contradicts the depth.
    """

    cause: str
    text: str
    certain: bool


@dataclass(frozen=True)
class Verdict:
    """Of one frame. scores: the numbers behind it, by name; those not measured are absent."""

    suspicions: tuple[Suspicion, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def certain(self) -> bool:
        """Whether any suspicion is."""
        return any(one.certain for one in self.suspicions)


@dataclass(eq=False)
class _Stream:
    """A stream's exact samples: since when they are the same, and how the other one was then."""

    sample: NDArray[Any] | None = None
    since_ns: int = 0
    repeats: int = 0
    other: Float32 | None = None

    def update(self, sample: NDArray[Any], other: Float32 | None, stamp_ns: int) -> None:
        if self.sample is not None and np.array_equal(self.sample, sample, equal_nan=True):
            self.repeats += 1
        else:
            self.sample, self.since_ns, self.repeats, self.other = sample, stamp_ns, 0, other


class Consistency:
    """Judges one stream's frames."""

    def __init__(self, config: ConsistencyConfig | None = None) -> None:
        self.config = config or ConsistencyConfig()
        self.reset()

    def reset(self) -> None:
        """Forgets the stream, as on a flush."""
        self._colour, self._depth = _Stream(), _Stream()
        self._registration = _Registration()
        self._last: tuple[Float32, float] | None = None
        self._jump: tuple[float, int] | None = None

    def update(
        self,
        rgb: NDArray[np.uint8],
        raw_depth: Float32 | None,
        disparity: NDArray[Any] | None,
        stamp_ns: int,
        line: tuple[float, float] | None = None,
    ) -> Verdict:
        """Judges the next frame.

        rgb (H, W, 3) uint8. raw_depth (H, W) float32 metres, 0/NaN/inf unknown, or None. disparity
        (H, W) float, relative, or None. line: the scale and shift that bring it to 1/m.
        """
        scores: dict[str, float] = {}
        fine = _grey(rgb)
        grey = _shrunk(fine)
        found = _colour_faults(rgb, grey, scores)
        blind = bool(found)
        inverse, known = np.zeros(_SIZE, np.float32), np.zeros(_SIZE, bool)
        readings = np.zeros(_FINE, np.float32)
        if raw_depth is not None:
            readings = self._readings(raw_depth, found, scores)
            inverse, known = _halved(readings)
            self._depth.update(raw_depth[::24, ::2].copy(), grey, stamp_ns)
        self._colour.update(rgb[::24, ::2].copy(), inverse, stamp_ns)
        found += self._frozen(grey, inverse, raw_depth is not None, stamp_ns, scores)
        small = None
        if disparity is not None and not blind:
            small = _shrunk(_strided(disparity))
        found += self._jumped(grey, inverse[known], small, line, stamp_ns, scores)
        if small is not None and np.count_nonzero(known) >= _FEWEST:
            self._registration.check(small, inverse, known, readings, fine)
            found += self._registered(rgb.shape[:2], scores)
        return Verdict(tuple(found), scores)

    def _readings(self, raw: Float32, found: list[Suspicion], scores: dict[str, float]) -> Float32:
        """1/raw at the fine size, 1/m, 0 unknown."""
        config = self.config
        some = np.asarray(cv2.resize(raw, _FINE[::-1], interpolation=cv2.INTER_NEAREST), np.float32)
        any_ = (some > 0) & (some < np.inf)
        inside = (some >= config.min_raw_depth) & (some <= config.max_raw_depth)
        if np.count_nonzero(any_) > _FEWEST:
            median = float(np.median(some[any_][::4]))
            outside = 1.0 - np.count_nonzero(inside) / np.count_nonzero(any_)
            scores |= {"outside": outside, "median_m": median}
            if outside > 0.5:
                found.append(
                    Suspicion(
                        "depth range",
                        f"{outside:.0%} of the raw readings lie outside {config.min_raw_depth:g} "
                        f".. {config.max_raw_depth:g} m, their median is {median:.3g} m: is the "
                        "depth in the right unit?",
                        outside > 0.8,
                    )
                )
            expected = config.expected_depth_m
            if expected is not None and not expected[0] <= median <= expected[1]:
                found.append(
                    Suspicion(
                        "expected depth",
                        f"the median raw depth is {median:.3g} m, outside the expected "
                        f"{expected[0]:g} .. {expected[1]:g} m: is the depth in the right unit?",
                        True,
                    )
                )
        return np.divide(1.0, some, out=np.zeros_like(some), where=inside)

    def _frozen(
        self, grey: Float32, inverse: Float32, has_depth: bool, now: int, scores: dict[str, float]
    ) -> list[Suspicion]:
        found: list[Suspicion] = []
        needed = self.config.frozen_frames - 1
        colour, depth = self._colour, self._depth
        if has_depth and depth.repeats >= needed and depth.other is not None:
            moved = _changed_colour(depth.other, grey)
            scores["colour_moved"] = moved
            if moved > 2.0:
                text = "colour changes and the depth images are identical: the depth is frozen"
                found.append(Suspicion("frozen depth", text, True))
        seconds = (now - colour.since_ns) / 1e9
        if colour.repeats >= needed and has_depth and colour.other is not None:
            moved = _changed_depth(colour.other, inverse)
            scores["depth_moved"] = moved
            if moved > 0.1:
                text = "depth changes and the colour images are identical: the colour is frozen"
                found.append(Suspicion("frozen colour", text, True))
                return found
        if colour.repeats >= needed and seconds >= self.config.stale_s:
            text = f"the colour image has not changed by a bit for {seconds:.0f} s"
            found.append(Suspicion("stale colour", text, False))
        return found

    def _jumped(
        self,
        grey: Float32,
        readings: Float32,
        disparity: Float32 | None,
        line: tuple[float, float] | None,
        now: int,
        scores: dict[str, float],
    ) -> list[Suspicion]:
        """A jump of scale between two pictures that look alike."""
        level = float(np.median(readings)) if readings.size > _FEWEST else 0.0
        if line is not None and disparity is not None and np.isfinite(line).all():
            level = line[0] * float(np.median(disparity)) + line[1]
        if level > 0:
            if self._last is not None:
                before, old = self._last
                factor = old / level
                scores["jump"] = factor
                large = max(factor, 1 / factor) > self.config.jump
                if large and _changed_colour(before, grey) < 20:
                    back = self._jump is not None and 0.8 < self._jump[0] * factor < 1.25
                    self._jump = None if back else (factor, now)
            self._last = grey, level
        if self._jump is None:
            return []
        factor, when = self._jump
        text = (
            f"depth became {factor:.2g} times as large between two frames that look alike, "
            f"{(now - when) / 1e9:.1f} s ago: did the depth's unit or the camera's mode change?"
        )
        return [Suspicion("jump", text, (now - when) / 1e9 <= self.config.jump_s)]

    def _registered(self, size: tuple[int, ...], scores: dict[str, float]) -> list[Suspicion]:
        seen, config = self._registration, self.config
        odds = {name: seen.log_odds(name) for name in seen.scores}
        own = odds.pop("own")
        plane, local = (float(value) for value in seen.scores["own"])
        scores |= {"c_plane": plane, "c_local": local, "log_odds": own}
        scores |= {f"log_odds {name}": value for name, value in odds.items()}
        (dx, dy), gain = seen.shift()
        dx, dy = dx * size[1] / _SIZE[1], dy * size[0] / _SIZE[0]
        edge = seen.edge()
        scores |= {"shift_x_px": dx, "shift_y_px": dy, "shift_gain": gain, "edges": edge}
        if seen.checks < config.first_checks:
            return []
        name = max(odds, key=lambda one: odds[one])
        if odds[name] > max(own + config.better, 0.5):
            cause = "mirrored" if name == "mirrored" else "zoomed"
            text = f"the depth seems {_VARIANTS[name]} against the colour: is it registered?"
            return [Suspicion(cause, text, True)]
        on_edges = edge > config.edges
        if gain > _GAIN and not on_edges:
            text = f"the depth seems shifted by {_words(dx, dy)} against the colour"
            return [Suspicion("shifted", text + ": is it registered to it?", gain > 2 * _GAIN)]
        if own >= config.doubted:
            return []
        if on_edges:
            text = "the network's disparity contradicts the depth, though edges of colour lie on it"
            return [Suspicion("network", text, False)]
        text = (
            "the network sees in colour what is not in the depth: are they of one scene and moment?"
        )
        return [Suspicion("foreign", text, own < config.refused)]


class _Registration:
    """Means over the last checks of how well disparity and 1/raw go together."""

    def __init__(self) -> None:
        self.checks = 0
        self.scores: dict[str, NDArray[np.float64]] = {}
        self.surfaces: dict[str, NDArray[Any]] = {}

    def check(
        self, disparity: Float32, inverse: Float32, known: Mask, readings: Float32, grey: Float32
    ) -> None:
        """Takes in one frame at the small size; readings and grey at the fine one."""
        # Once all has been looked at, each check takes its part of the work.
        all_of_it, part = self.checks < _FULL, self.checks % (len(_VARIANTS) + 2)
        self.checks += 1
        inverse_local = _clipped(_local(inverse, known), known)
        inverse_plane = _clipped(_off_plane(inverse, known), known)
        for index, name in enumerate(("own", *_VARIANTS)):
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
            if name == "own" and (all_of_it or part == len(_VARIANTS)):
                surface = _shifted_correlation(local, inverse_local, known)
                self._take(self.surfaces, "shift", surface)
        if all_of_it or part == len(_VARIANTS) + 1:
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


def _words(dx: float, dy: float) -> str:
    parts = [
        f"{abs(round(value))} px {name[value > 0]}"
        for value, name in ((dx, ("left", "right")), (dy, ("up", "down")))
        if abs(value) >= 2
    ]
    return " and ".join(parts) or "a few px"


def _shrunk(picture: Float32) -> Float32:
    """Means at the small size."""
    return np.asarray(cv2.resize(picture, _SIZE[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _strided(picture: NDArray[Any]) -> NDArray[Any]:
    """Every k-th pixel, still at least twice the small size where it was."""
    step = max(1, min(picture.shape[0] // (2 * _SIZE[0]), picture.shape[1] // (2 * _SIZE[1])))
    return np.ascontiguousarray(picture[::step, ::step], np.float32)


def _grey(rgb: NDArray[np.uint8]) -> Float32:
    """At the fine size, 0..255; few pixels of a large picture are looked at."""
    fine = cv2.resize(rgb, _FINE[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(fine, cv2.COLOR_RGB2GRAY), np.float32)


def _halved(readings: Float32) -> tuple[Float32, Mask]:
    """Means of 2 x 2 readings, where at least two are known."""
    known = (readings > 0).astype(np.float32)
    total, share = _shrunk(readings), _shrunk(known)
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


def _colour_faults(
    rgb: NDArray[np.uint8], grey: Float32, scores: dict[str, float]
) -> list[Suspicion]:
    """A picture without information."""
    low, middle, high = (float(v) for v in np.quantile(grey[::3, ::3], (0.02, 0.5, 0.98)))
    spread = high - low
    rows = rgb[:: max(1, rgb.shape[0] // 20), :, 1].astype(np.float32)
    rows = rows - rows.mean()
    smooth = float((rows[:, 1:] * rows[:, :-1]).mean() / max(float((rows * rows).mean()), 1e-6))
    burnt = float(np.mean(grey > 250))
    scores |= {"colour_spread": spread, "colour_smooth": smooth, "colour_burnt": burnt}
    text = ""
    if spread < 10:
        what = "black" if middle < 16 else "white" if middle > 239 else "of one grey"
        text = f"the colour image is {what} (its grey levels spread by {spread:.0f} of 255)"
    elif burnt > 0.8:
        text = f"{burnt:.0%} of the colour image are saturated"
    elif smooth < 0.3:
        text = f"the colour image is noise (neighbouring pixels correlate by {smooth:.2f})"
    return [Suspicion("colour", text + ": is the camera well?", True)] if text else []


def _changed_colour(before: Float32, now: Float32) -> float:
    """Mean change in grey levels, without a change of brightness."""
    change = now - before
    return float(np.abs(change - change.mean()).mean())


def _changed_depth(before: Float32, now: Float32) -> float:
    """Share of blocks whose mean reading changed by more than 2%."""
    known = ((before > 0) & (now > 0)).astype(np.float32)
    weight, old, new = (cv2.blur(x, (5, 5))[::4, ::4] for x in (known, before * known, now * known))
    full = weight > 0.6
    if np.count_nonzero(full) < 20:
        return 0.0
    return float(np.mean(np.abs(new[full] / old[full] - 1) > 0.02))


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
    grid.astype(np.float32) for grid in np.mgrid[-1 : 1 : _SIZE[0] * 1j, -1 : 1 : _SIZE[1] * 1j]
)
_ONES = np.ones(_SIZE, np.float32)
_EVERYWHERE = np.ones(_SIZE, bool)


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
    if x.size < _FEWEST:
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
