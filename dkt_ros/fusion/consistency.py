"""Whether colour, raw depth and the network's disparity belong together, told over a stream.

Knows small pictures and what goes wrong with cameras: a lens cap, a stuck driver, wrong units,
depth that is not registered or of another scene. Knows nothing of networks, alignment or ROS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.arrays import count_of, median, some_where
from dkt_ros.checks import check_fields, check_ranges, check_type
from dkt_ros.errors import DktError
from dkt_ros.fusion.by_turns import ByTurns
from dkt_ros.fusion.changes import changed_blocks, changed_colour
from dkt_ros.fusion.colours import (
    SMALL,
    broken_off,
    fine_grey,
    nothing_seen,
    registered_to_depth,
    shrunk,
)
from dkt_ros.fusion.fill import is_noisy
from dkt_ros.fusion.jumps import Jumps
from dkt_ros.fusion.lateness import Lateness
from dkt_ros.fusion.quantity import Quantity
from dkt_ros.fusion.registration import EDGE_SIZE, Change, Registration, Seen
from dkt_ros.fusion.resent import SentAgain
from dkt_ros.fusion.steps import Steps
from dkt_ros.fusion.suspicion import Suspicion
from dkt_ros.fusion.torn import Torn, change_of_colour
from dkt_ros.geometry import Intrinsics, is_reading, with_readings_between
from dkt_ros.wording import counted

Float32 = NDArray[np.float32]

_QUANTITIES = {
    "ray": "what is flat is bent unless the raw depth is the distance along each pixel's ray: does "
    "a simulator send that?",
    "disparity": "what is flat is bent unless the raw depth is disparity: is it that?",
    "buffer": "what is flat is bent unless the raw depth is a renderer's depth buffer, which ends "
    "at 1: does a simulator send that?",
    "picture": "what is painted on things is in the raw depth too: is it an infrared picture?",
}
_PUT_RIGHT = 1.5  # log-odds of depth put right: where little is to be seen, much fits as well
_ALONE = 0.3  # log-odds that a suspected change gains more than others: what fits in no way at all
# fits a little better in many
_FEWEST = 600  # readings at that size; fewer cannot be judged
_MOVED, _DEPTH_MOVED = 2.0, 0.1  # mean grey levels; share of the blocks with another depth
_OF_NOISE, _SURELY_MOVED = 1.5, 0.8  # times the share that noise has; a share that is no noise's
_EVERY_ROW = slice(None)
_OTHER_DEPTH = 0.02  # relative change of a block's mean reading
_SMALLEST = 64  # px of a side, below which nobody can tell whether depth lies on its colour
_FEW, _USUAL = 0.4, 0.9  # share of the usual readings; of these what a frame later is remembered
_SAMPLED = np.s_[::23, ::3]  # pixels; what lies apart evenly, as registered to more of them, is met
_FEWEST_SAMPLED = 20  # readings of those that can be the same
_SETTLES_NS = 5_000_000_000  # after what was no depth a jump may be the way back
_PIECES, _PIECE = 20, 128  # rows of colour, about, and pixels of each
_NEARLY = 10  # frames in a row that show nearly nothing before they are looked at again


@dataclass(frozen=True)
class ConsistencyConfig:
    """Where doubt becomes certainty.

    min_raw_depth, max_raw_depth  m: range that readings are expected in
    expected_depth_m  (low, high): the median reading must lie in it; None does not ask
    first_checks      frames before registration is judged at all
    refused, doubted  log-odds that colour and depth belong together, below which they are certain
                      not to, or are suspected
    looked_into       log-odds below which it is tried how the depth would lie better
    better            log-odds gained by such a change that make it certain; 0.7 of it: suspected,
                      where no change unlike it gains nearly as much
    edges             standard deviations by which colour's edges lie on the depth's steps better
                      than shifted ones, from which colour and depth are taken to belong together
    late              share by which depth fits the colour of another moment better than its own,
                      from which it is certain to be of that moment; 0.9 of it: suspected
    frozen_frames     identical frames in a row that make a stream frozen while the other moves
    stale_s           seconds of identical colour that are said even where nothing else moves
    jump              factor of depth between two alike pictures that is a jump of scale; of
                      readings before a camera that is seen to be at rest 1.15 is enough
    jump_s            seconds for which a jump is certain
    """

    min_raw_depth: float = 0.1
    max_raw_depth: float = 10.0
    expected_depth_m: tuple[float, float] | None = None
    first_checks: int = 3
    refused: float = -0.5
    doubted: float = 0.5
    looked_into: float = 4.0
    better: float = 1.6
    edges: float = 2.5
    late: float = 0.2
    frozen_frames: int = 3
    stale_s: float = 5.0
    jump: float = 1.5
    jump_s: float = 10.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            first_checks=(0, np.inf),
            better=(0, np.inf),
            edges=(0, np.inf),
            late=(0, 1),
            frozen_frames=(2, np.inf),  # of one frame alone all are identical
            stale_s=(0, np.inf),
            jump=(1, np.inf),
            jump_s=(0, np.inf),
        )
        if not self.refused <= self.doubted <= self.looked_into:
            raise DktError(
                f"log-odds refused {self.refused}, doubted {self.doubted}, looked_into "
                f"{self.looked_into}: expected none to be below the one before"
            )
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

    sample: bytes | None = None
    since_ns: int = 0
    repeats: int = 0
    other: Float32 | None = None

    def update(self, sample: bytes | None, other: Float32 | None, stamp_ns: int) -> None:
        """With the next frame's; None: it shows nothing that could be the same."""
        if sample is not None and sample == self.sample:
            self.repeats += 1
        else:
            self.sample, self.since_ns, self.repeats, self.other = sample, stamp_ns, 0, other


class Consistency:
    """Judges one stream's frames."""

    def __init__(self, config: ConsistencyConfig | None = None) -> None:
        check_type("config", config, ConsistencyConfig | None)
        self.config = config or ConsistencyConfig()
        self.reset()

    def reset(self) -> None:
        """Forgets the stream, as on a flush."""
        self._colour, self._depth = _Stream(), _Stream()
        self._resent = SentAgain()
        self._grey: Float32 | None = None
        self._inverse: Float32 | None = None  # of the frame before
        self._registration = Registration()
        self._lateness = Lateness()
        self._quantity = Quantity()
        self._torn, self._torn_colour = Torn(change_of_colour), Torn(_change_of_depth)
        self._steps = Steps()
        self._by_turns = ByTurns()
        self._jumps = Jumps()
        self._denied_ns: int | None = None  # when depth was none
        self._jumped_ns: int | None = None
        self._is_passing = False  # of the last jump: it led to what was no depth, or back from it
        self._nearly = 0
        self._shown, self._usual = np.inf, 0.0  # of a frame before the first nothing is known
        self._seen: Seen | None = None  # and not judged yet
        self._beside: list[Suspicion] = []

    def update(
        self,
        rgb: NDArray[np.uint8],
        raw_depth: Float32 | None,
        disparity: NDArray[Any] | None,
        stamp_ns: int,
        line: tuple[float, float] | None = None,
        seen: Seen | None = None,
        camera: Intrinsics | None = None,
        sent: Float32 | None = None,
    ) -> Verdict:
        """Judges the next frame.

        rgb (H, W, 3) uint8. raw_depth (H, W) float32 metres, 0/NaN/inf unknown, or None. disparity
        (H, W) float, relative, or None. line: the scale and shift that bring it to 1/m. seen: what
        the matcher says of the frame before; without it registration is not judged. camera: the
        picture's; without it the shape of flat things is not. sent: the raw depth before anything
        was taken from it; raw_depth where that is all.
        """
        scores: dict[str, float] = {}
        fine = fine_grey(rgb)
        grey = shrunk(fine)
        found = self._nothing_seen(rgb, grey, scores)
        blind = bool(found)
        if not blind:
            found += _told("broken colour", broken_off(rgb, raw_depth, scores))
        inverse, known = np.zeros(SMALL, np.float32), np.zeros(SMALL, bool)
        readings, by_depth = np.zeros(EDGE_SIZE, np.float32), list[Suspicion]()
        if raw_depth is not None:
            readings = self._readings(raw_depth, found, scores)
            inverse, known = _halved(readings)
            found += self._measured(None if blind else fine, raw_depth, readings, camera, scores)
            found += self._part_of_another(raw_depth, grey, scores)
            if (told := self._steps.take(raw_depth if sent is None else sent)) is not None:
                found.append(Suspicion(*told))
            text = "" if blind else registered_to_depth(rgb, raw_depth, scores)
            by_depth = _told("colour by depth", text)
            found += by_depth
            some = raw_depth[_SAMPLED]
            has_depth = count_of(is_reading(some)) >= _FEWEST_SAMPLED
            self._depth.update(some.tobytes() if has_depth else None, grey, stamp_ns)
            found += [] if blind else self._colour_of_another(rgb, inverse, scores)
        self._colour.update(rgb[_SAMPLED].tobytes(), inverse, stamp_ns)
        found += self._sent_again(grey)
        stopped = self._frozen(grey, inverse, bool(known.any()), stamp_ns, scores)
        self._inverse = inverse
        # A picture in which nothing is to be seen stands still.
        found += [one for one in stopped if not blind or one.cause == "frozen depth"]
        level = None if disparity is None or blind else median(_strided(disparity)[::2, ::2])
        # What is no depth is no depth that became larger, and nor is what comes after it.
        is_depth = not any(one.denies_depth for one in found)
        if not is_depth:
            self._denied_ns = stamp_ns
            self._is_passing |= self._has_just_jumped(stamp_ns)
        found += self._jumped(grey, inverse, level, line, stamp_ns, scores) if is_depth else []
        says_something = self._keep(seen, 0.0 if blind else float(count_of(known)))
        if blind or self._shown < _FEWEST:
            return Verdict(tuple(found), scores)
        found += self._taking_turns(grey, inverse, stamp_ns, scores)
        if (newest := self._seen) is not None:
            self._seen = None
            self._beside = self._registered(newest, stamp_ns, fine, readings, rgb.shape, scores)
        elif says_something:
            self._beside = []
        beside = _if_large_enough(self._beside, rgb.shape)
        # What depth itself has drawn into a picture says nothing of the moment.
        late = [] if by_depth else self._late(grey, inverse, stamp_ns, scores)
        # Depth of another moment lies beside its colour too, each time elsewhere.
        found += late if any(one.certain for one in late) else late + beside
        return Verdict(tuple(found), scores)

    def _keep(self, seen: Seen | None, shown: float) -> bool:
        """Keeps what the matcher says of the frame before if that showed something; whether it did.

        shown: readings of this frame, 0 of a black one. The one before may have been black, or of
        an emitter that blinks; of one that was not it is kept where this one is black.
        """
        before, self._shown = self._shown, shown
        self._usual = max(shown, _USUAL * self._usual)
        says_something = before > _FEW * self._usual
        if says_something:
            self._seen = seen
        return says_something

    def _nothing_seen(
        self, rgb: NDArray[np.uint8], grey: Float32, scores: dict[str, float]
    ) -> list[Suspicion]:
        """Whether the picture shows nothing, or nearly so after some that did.

        Near a limit noise would have one picture in two used.
        """
        text, nearly = nothing_seen(rgb, grey, scores)
        if text:
            self._nearly = _NEARLY
        elif self._nearly:
            text = nearly
            self._nearly = self._nearly - 1 if text else 0
        return _told("colour", text, True)

    def _readings(self, raw: Float32, found: list[Suspicion], scores: dict[str, float]) -> Float32:
        """1/raw at the fine size, 1/m, 0 unknown."""
        config = self.config
        some = cv2.resize(raw, EDGE_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
        some = with_readings_between(np.asarray(some, np.float32), raw)
        any_ = is_reading(some)
        inside = (some >= config.min_raw_depth) & (some <= config.max_raw_depth)
        if count_of(any_) > _FEWEST:
            middle = median(some_where(any_, some, 4))
            outside = 1.0 - count_of(inside) / count_of(any_)
            scores |= {"outside": outside, "median_m": middle}
            if outside > 0.5:
                found.append(
                    Suspicion(
                        "depth range",
                        f"{outside:.0%} of the raw readings lie outside {config.min_raw_depth:g} "
                        f".. {config.max_raw_depth:g} m, their median is {middle:.3g} m: is the "
                        "depth in the right unit?",
                        outside > 0.8,
                    )
                )
            expected = config.expected_depth_m
            if expected is not None and not expected[0] <= middle <= expected[1]:
                found.append(
                    Suspicion(
                        "expected depth",
                        f"the median raw depth is {middle:.3g} m, outside the expected "
                        f"{expected[0]:g} .. {expected[1]:g} m: is the depth in the right unit?",
                        True,
                    )
                )
        return np.divide(1.0, some, out=np.zeros_like(some), where=inside)

    def _measured(
        self,
        grey: Float32 | None,
        raw: Float32,
        readings: Float32,
        camera: Intrinsics | None,
        scores: dict[str, float],
    ) -> list[Suspicion]:
        """Whether the raw depth's numbers are depth; grey and readings at EDGE_SIZE."""
        self._quantity.take(grey, readings, camera, raw)
        cause, measured = self._quantity.found()
        scores |= measured
        # No sensor's disparity is without noise, but ramps that somebody made up are.
        if not cause or (cause == "disparity" and not is_noisy(raw)):
            return []
        return [Suspicion(cause, _QUANTITIES[cause], self._quantity.is_certain)]

    def _part_of_another(
        self, raw: Float32, grey: Float32, scores: dict[str, float]
    ) -> list[Suspicion]:
        """Whether some of its rows are an earlier frame's, though what is seen there has moved."""
        part = self._torn.take(raw, grey)
        if part is None:
            return []
        scores["part_moved"] = part[2]
        # Light and its shadows move too, where nothing else does: told of what has noise alone.
        if part[2] <= _MOVED or not is_noisy(raw):
            return []
        return [Suspicion("torn", _told_torn("raw depth", part), True)]

    def _colour_of_another(
        self, rgb: NDArray[np.uint8], inverse: Float32, scores: dict[str, float]
    ) -> list[Suspicion]:
        """The same of the picture's rows, where depth moves."""
        part = self._torn_colour.take(_middle(rgb), inverse)
        if part is None:
            return []
        begin, end, moved = part
        scores["depth_moved_in_part"] = moved
        rows = slice(int(begin * len(inverse)), max(1, int(end * len(inverse))))
        if not self._moves(moved, inverse, rows):
            return []
        return [Suspicion("torn colour", _told_torn("colour image", part), True)]

    def _moves(self, share: float, inverse: Float32, rows: slice = _EVERY_ROW) -> bool:
        """Whether such a share of blocks with another depth than earlier is more than noise has.

        Noise, which far readings have most of, changes as much from each frame to the next.
        """
        if share <= _DEPTH_MOVED or self._inverse is None:
            return False
        noise = _change_of_depth(self._inverse[rows], inverse[rows])
        return share > min(_DEPTH_MOVED / 2 + _OF_NOISE * noise, _SURELY_MOVED)

    def _sent_again(self, grey: Float32) -> list[Suspicion]:
        """Whether one stream's images are often those before, while the other one goes on."""
        before, self._grey = self._grey, grey

        def moved() -> float | None:
            return None if before is None else float(changed_colour(before, grey).mean())

        return self._resent.take(self._colour.repeats > 0, self._depth.repeats > 0, moved)

    def _frozen(
        self, grey: Float32, inverse: Float32, has_depth: bool, now: int, scores: dict[str, float]
    ) -> list[Suspicion]:
        found: list[Suspicion] = []
        needed = self.config.frozen_frames - 1
        colour, depth = self._colour, self._depth
        if has_depth and depth.repeats >= needed and depth.other is not None:
            moved = float(changed_colour(depth.other, grey).mean())
            scores["colour_moved"] = moved
            if moved > _MOVED:
                text = "colour changes and the depth images are identical: the depth is frozen"
                found.append(Suspicion("frozen depth", text, True))
        seconds = (now - colour.since_ns) / 1e9
        if colour.repeats >= needed and has_depth and colour.other is not None:
            _, moved = changed_blocks(colour.other, inverse, _OTHER_DEPTH)
            scores["depth_moved"] = moved
            if self._moves(moved, inverse):
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
        inverse: Float32,
        relative: float | None,
        line: tuple[float, float] | None,
        now: int,
        scores: dict[str, float],
    ) -> list[Suspicion]:
        """A jump of scale between two pictures that look alike; relative: median disparity."""
        level = 0.0
        if line is not None and relative is not None and np.isfinite(line).all():
            level = line[0] * relative + line[1]
        told = self._jumps.take(grey, inverse, level, now, self.config.jump)
        if self._jumps.factor is not None:
            scores["jump"] = self._jumps.factor
        if told is None:
            return []
        factor, when = told
        if when == now:
            denied, self._jumped_ns = self._denied_ns, now
            self._is_passing = denied is not None and 0 <= now - denied <= _SETTLES_NS
        is_certain = self._has_just_jumped(now)
        if self._is_passing and not is_certain:
            return []  # told for long enough
        text = (
            f"depth became {factor:.2g} times as large between two frames that look alike, "
            f"{(now - when) / 1e9:.1f} s ago: did the depth's unit or the camera's mode change?"
        )
        return [Suspicion("jump", text, is_certain)]

    def _has_just_jumped(self, now: int) -> bool:
        """Whether the last jump is so new that what it says is certain."""
        when = self._jumped_ns
        return when is not None and (now - when) / 1e9 <= self.config.jump_s

    def _taking_turns(
        self, grey: Float32, inverse: Float32, now: int, scores: dict[str, float]
    ) -> list[Suspicion]:
        """Whether some depth images are unlike those before and after them."""
        share = self._by_turns.take(grey, inverse)
        if share:
            scores["other_depth"] = share
        is_certain = self._by_turns.last(share, now, self.config.jump_s)
        if is_certain is None:
            return []
        text = (
            "a depth image was unlike those before and after it, though what is seen was the same: "
            "are some not registered, or does another camera publish?"
        )
        return [Suspicion("by turns", text, is_certain)]

    def _late(
        self, grey: Float32, inverse: Float32, stamp_ns: int, scores: dict[str, float]
    ) -> list[Suspicion]:
        """Whether depth is of another moment than colour."""
        lateness, certain = self._lateness, self.config.late
        lag = lateness.take(grey, inverse, stamp_ns)
        if lag is None:
            return []
        scores |= {"lag_frames": float(lag.frames), "lag_s": lag.seconds, "lag_gain": lag.gain}
        if lag.gain <= 0.9 * certain:
            return []
        older, younger = ("depth", "colour") if lag.frames > 0 else ("colour", "depth")
        text = (
            f"the {older} seems about {counted(abs(lag.frames), 'frame')} "
            f"({abs(lag.seconds) * 1000:.0f} ms) older than the {younger} of its stamp: are both "
            "stamped when they were taken?"
        )
        # Of what stands still all moments are alike.
        return [Suspicion("late", text, lag.gain > certain and lateness.moves)]

    def _registered(
        self,
        seen: Seen,
        stamp_ns: int,
        grey: Float32,
        readings: Float32,
        shape: tuple[int, ...],
        scores: dict[str, float],
    ) -> list[Suspicion]:
        """Whether depth lies on its colour; grey, readings at EDGE_SIZE; shape: the picture's."""
        config, registration, width = self.config, self._registration, shape[1]
        registration.take(seen, config.looked_into, stamp_ns)
        scores["log_odds"] = registration.log_odds
        if registration.comes_by_turns(config.doubted):
            text = (
                "in some frames colour and depth belong together, in those between them they do "
                "not: are some depth images not registered, or does another camera publish?"
            )
            return [Suspicion("by turns", text, True)]
        if registration.log_odds >= config.looked_into:
            registration.forget_changes()
            return []
        if registration.is_due:
            registration.look(seen, grey, readings, shape)
        change, gain, then = registration.best()
        edges = registration.edges()
        scores |= {"gain": gain, "edges": edges}
        by_edges = registration.shift_by_edges if gain <= config.better else None
        lies_well = edges > config.edges and by_edges is None
        if registration.frames < config.first_checks or lies_well:
            return []
        needed = 0.7 * config.better if registration.stands_out() > _ALONE else config.better
        if by_edges is not None or (then >= _PUT_RIGHT and gain > needed):
            change = by_edges or change
            scores |= {"shift_x_px": change.x * width, "shift_y_px": change.y * width}
            cause, how = _described(change, width)
            text = f"the depth seems {how} against the colour: is it registered to it?"
            return [Suspicion(cause, text, by_edges is not None or gain > config.better)]
        if registration.log_odds >= config.doubted:
            return []
        text = "what is seen in colour is not in the depth: are they of one scene and moment?"
        return [Suspicion("foreign", text, registration.log_odds < config.refused)]


def _middle(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pieces of some rows: to look at pixels here and there of all takes ten times as long."""
    height, width = rgb.shape[:2]
    begin = max(0, (width - _PIECE) // 2)
    return rgb[:: max(1, height // _PIECES), begin : begin + _PIECE]


def _change_of_depth(then: Float32, now: Float32) -> float:
    _, share = changed_blocks(then, now, _OTHER_DEPTH)
    return share


def _told_torn(what: str, part: tuple[float, float, float]) -> str:
    begin, end, _ = part
    return (
        f"{end - begin:.0%} of the {what}'s rows, from {begin:.0%} down, are an earlier image's to "
        "the bit, though what is seen there has moved: was it torn on the way?"
    )


def _told(cause: str, text: str, certain: bool = False) -> list[Suspicion]:
    return [Suspicion(cause, text, certain)] if text else []


def _if_large_enough(found: list[Suspicion], shape: tuple[int, ...]) -> list[Suspicion]:
    """The same, but of pictures (height, width, ...) in which nobody could tell that."""
    height, width = shape[:2]
    if not found or min(height, width) >= _SMALLEST:
        return found
    text = (
        f"the images are {width}x{height}: too few pixels to tell whether colour and depth belong "
        "together"
    )
    return [Suspicion("small", text, False)]


def _described(change: Change, width: int) -> tuple[str, str]:
    """Cause and words of how the depth lies wrong."""
    if change.mirrored and change.upside_down:
        return "mirrored", "turned by half a turn"
    if change.mirrored or change.upside_down:
        return "mirrored", "mirrored left to right" if change.mirrored else "upside down"
    if change.zoom != 1:
        return "zoomed", f"zoomed by about {change.zoom:g}"
    return "shifted", f"shifted by about {_words(change.x * width, change.y * width)}"


def _words(dx: float, dy: float) -> str:
    parts = [
        f"{abs(round(value))} px {name[value > 0]}"
        for value, name in ((dx, ("left", "right")), (dy, ("up", "down")))
        if abs(value) >= 2
    ]
    return " and ".join(parts) or "a few px"


def _strided(picture: NDArray[Any]) -> NDArray[Any]:
    """Every k-th pixel, still as many as at the small size."""
    step = max(1, min(picture.shape[0] // SMALL[0], picture.shape[1] // SMALL[1]))
    return picture[::step, ::step]


def _halved(readings: Float32) -> tuple[Float32, NDArray[np.bool_]]:
    """Means of 2 x 2 readings, where at least two are known."""
    known = (readings > 0).astype(np.float32)
    total, share = shrunk(readings), shrunk(known)
    enough = share > 0.4
    return np.divide(total, share, out=np.zeros_like(total), where=enough), enough
