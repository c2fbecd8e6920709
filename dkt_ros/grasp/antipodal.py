"""Antipodal grasps from above, for a parallel-jaw gripper: sampled, checked, ranked.

A grasp closes across what stands on the table. Its sides have to face each other within the
friction's cone, the fingers have to find free, seen room beside it over the table, the palm above
it, and the depth at both contacts has to be trusted. What fails is counted by its reason. The same
scene and seed give the same grasps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.checks import check_fields, check_ranges
from dkt_ros.errors import DktError
from dkt_ros.geometry import backproject
from dkt_ros.grasp.heights import HeightMap, Plane, Scene, find_table, height_map

Float64 = NDArray[np.float64]

_AT_ONCE = 2**20  # cells that are looked at together, of some 50 bytes each
_LINES = 5  # across a finger's breadth, of the sides; of what is in the way, one for each cell
_ACROSS = 0.5  # of the grasps: over a hollow from wall to wall, rather than of one wall
_RIM_SHARE = 0.95
_BRIDGED_M = 0.01  # between pieces of one thing that was not wholly seen
_RIM_M = 0.01  # inside each edge, where trust is asked for
_TAPER_M = 0.005
_REACH_FOR_FULL_SCORE_M = 0.02
_CENTRE_M = 0.05  # off the middle of the object by so much: 1/e of the score
_LARGEST_M = 10.0
_APART_M, _APART_RAD = 0.015, np.radians(20.0)


@dataclass(frozen=True)
class Gripper:
    """Lengths in metres. The fingers close along y, the gripper comes down along z.

    finger_thickness  along y
    finger_breadth    along x
    finger_length     from the palm to the tips
    clearance         between an open finger and the object, on each side
    """

    max_width: float = 0.085
    finger_thickness: float = 0.012
    finger_breadth: float = 0.02
    finger_length: float = 0.045
    clearance: float = 0.004

    def __post_init__(self) -> None:
        check_fields(self)
        widths = ("max_width", "finger_thickness", "finger_breadth", "finger_length")
        check_ranges(self, clearance=(0, _LARGEST_M), **dict.fromkeys(widths, (1e-4, _LARGEST_M)))
        if problem := no_room(self.max_width, self.clearance, ("max_width", "Gripper.clearance")):
            raise DktError(problem)


def no_room(max_width: float, clearance: float, names: tuple[str, str]) -> str:
    """What is told, under their names, where both leave no room for an object; else ""."""
    if 2 * clearance < max_width:
        return ""
    return (
        f"{names[1]} is {clearance:g} on each side of an object and {names[0]} {max_width:g}, "
        "expected room for the object between"
    )


@dataclass(frozen=True)
class GraspConfig:
    """What is asked of a grasp.

    friction         coefficient between finger and object
    min_confidence   smallest mean confidence of the depth at either contact
    max_unseen       largest share of the fingers' room that the camera has not seen
    table_clearance  metres between fingertips and table
    min_height       metres over the table from which something is an object
    min_reach        metres that the fingers have to hold of it
    cell             metres, of the height map
    samples          grasps that are tried
    count            grasps that are returned at most
    """

    friction: float = 0.5
    min_confidence: float = 0.2
    max_unseen: float = 0.3
    table_clearance: float = 0.004
    min_height: float = 0.012
    min_reach: float = 0.006
    cell: float = 0.002
    samples: int = 3000
    count: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            friction=(0.001, 10),
            min_confidence=(0, 1),
            max_unseen=(0, 1),
            table_clearance=(0, _LARGEST_M),
            min_height=(0, _LARGEST_M),
            min_reach=(0, _LARGEST_M),
            cell=(1e-4, 0.1),
            samples=(1, 10**7),
            count=(1, 10**7),
            seed=(0, 2**63),
        )


@dataclass(frozen=True, eq=False)
class Grasp:
    """rotation: columns x, y (closes), z (approaches) in camera axes; position: between the tips.

    width: metres between the fingers before they close; score, trust: 0 to 1. Raises DktError for
    what is no pose.
    """

    rotation: Float64
    position: Float64
    width: float
    score: float
    trust: float

    def __post_init__(self) -> None:
        shapes = [getattr(array, "shape", None) for array in (self.rotation, self.position)]
        if shapes != [(3, 3), (3,)]:
            raise DktError(f"a grasp has arrays {shapes[0]} and {shapes[1]}, expected (3, 3), (3,)")
        turned = self.rotation.T @ self.rotation
        if not (np.allclose(turned, np.eye(3), atol=1e-3) and np.linalg.det(self.rotation) > 0):
            raise DktError(f"a grasp has rotation {self.rotation.tolist()}, expected a rotation")
        if not (np.isfinite(self.position).all() and 0 < self.width < np.inf):
            raise DktError(
                f"a grasp has position {self.position.tolist()} and width {self.width:g}, expected "
                "metres, and a width above 0"
            )


@dataclass(frozen=True, eq=False)
class Plan:
    """grasps: the best first. refused: reason -> how many. problem: why none was tried."""

    grasps: tuple[Grasp, ...] = ()
    refused: Counter[str] = field(default_factory=Counter)
    table: Plane | None = None
    problem: str = ""


def plan_grasps(
    scene: Scene,
    gripper: Gripper | None = None,
    config: GraspConfig | None = None,
    table: Plane | None = None,
) -> Plan:
    """Grasps of what stands on the table; `table` is found in the scene where it is not given."""
    gripper, config = gripper or Gripper(), config or GraspConfig()
    if table is None:
        table = find_table(backproject(scene.depth, scene.intrinsics), config.seed, up=scene.up)
        if table is None:
            level = "" if scene.up is None else " and is level to 20 degrees"
            return Plan(
                problem="no table: expected a plane that holds 15% of the known depth within 6 mm"
                + level
            )
    margin = gripper.max_width + gripper.finger_thickness + 2 * gripper.clearance
    heights = height_map(scene, table, config.cell, margin, config.min_height)
    if heights is None:
        return Plan(
            table=table,
            problem=f"nothing stands over the table by {config.min_height:g} m where to look",
        )
    rng = np.random.default_rng(config.seed)
    with np.errstate(invalid="ignore"):
        rows, columns = np.nonzero(heights.target & (heights.height > config.min_height))
    if not len(rows):
        return Plan(table=table, problem="too little is seen of what stands on the table")
    chosen = rng.integers(len(rows), size=config.samples)
    angles = rng.uniform(0.0, np.pi, config.samples)
    across = rng.random(config.samples) < _ACROSS
    components = _components(heights, config.min_height)
    refused: Counter[str] = Counter()
    kept = []
    half, count = _reach(gripper, heights.cell_m)
    at_once = max(1, _AT_ONCE // (2 * half * count))
    for begin in range(0, config.samples, at_once):
        some = slice(begin, begin + at_once)
        x, y = columns[chosen[some]], rows[chosen[some]]
        tried = _Tried(heights, components, x, y, angles[some], across[some], gripper, config)
        kept.append(tried.kept())
        refused += tried.refused
    found = _Kept(*(np.concatenate(parts) for parts in zip(*map(astuple, kept), strict=True)))
    return Plan(tuple(_best_apart(found, heights, config.count)), refused, table)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Grasps that stand all checks, one row each; places in cells."""

    x: Float64
    y: Float64
    angle: Float64
    tip: Float64
    width: Float64
    trust: Float64
    score: Float64
    quality: Float64

    def grasp(self, index: int, heights: HeightMap) -> Grasp:
        """One of them, in camera axes."""
        angle = self.angle[index]
        closing = np.cos(angle) * heights.axes[0] + np.sin(angle) * heights.axes[1]
        approach = -heights.axes[2]
        return Grasp(
            np.stack([np.cross(closing, approach), closing, approach], axis=-1),
            heights.point(self.x[index], self.y[index], self.tip[index]),
            float(self.width[index]),
            float(self.score[index]),
            float(self.trust[index]),
        )


class _Tried:
    """Every sampled grasp as one row of arrays; lengths along the map in cells."""

    def __init__(
        self,
        heights: HeightMap,
        components: tuple[NDArray[np.int32], Float64],
        x: NDArray[np.intp],
        y: NDArray[np.intp],
        angles: Float64,
        across: NDArray[np.bool_],
        gripper: Gripper,
        config: GraspConfig,
    ) -> None:
        self.heights, self.gripper, self.config = heights, gripper, config
        self.refused: Counter[str] = Counter()
        self.angles = angles
        self.along = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # the closing axis
        self.alive = np.ones(len(x), bool)
        cell = heights.cell_m
        half, count = _reach(gripper, cell)
        self.all_lines = np.linspace(-0.5, 0.5, count) * gripper.finger_breadth / cell
        self.steps = np.arange(-half, half + 1)
        self.middle = half
        self.lines = np.linspace(-0.5, 0.5, _LINES) * gripper.finger_breadth / cell
        self.components = components
        self.across, self.part = across, self.components[0][y, x]
        self.x, self.y = x.astype(np.float64), y.astype(np.float64)
        self._look(np.zeros(1))
        first, last = self._ends(np.full(len(x), config.min_height))
        # To the middle between the walls; a wall's other end may lie outside.
        shift = np.where(across, 0.5 * (first + last)[:, 0] - half, 0.0)
        self.x, self.y = self.x + self.along[:, 0] * shift, self.y + self.along[:, 1] * shift
        self._look(self.lines)

    def _look(self, lines: Float64) -> None:
        """Heights and parts (samples, lines, steps) along the closing axes."""
        cells, outside = self._cells(lines, np.arange(len(self.x)))
        self.profile = self.heights.height.take(cells)
        self.profile[outside] = np.nan
        self.own = self.components[0].take(cells) == self.part[:, None, None]
        self.own &= ~outside

    def _cells(
        self, lines: Float64, some: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """(some samples, lines, steps) cells of the map in a row, and which lie outside it."""
        along, (rows, columns) = self.along[some], self.heights.height.shape
        aside = np.stack([-along[:, 1], along[:, 0]], axis=-1)
        px, py = (
            place[some, None, None]
            + along[:, axis, None, None] * self.steps
            + aside[:, axis, None, None] * lines[:, None]
            for axis, place in ((0, self.x), (1, self.y))
        )
        x, y = np.rint(px), np.rint(py)
        outside = (x < 0) | (y < 0) | (x >= columns) | (y >= rows)
        cells = (y * columns + x).astype(np.intp)
        cells[outside] = 0
        return cells, outside

    def _rises_over(self, level: Float64, room: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(samples,) of the living whether anything in their room (samples, 1, steps) does."""
        living = np.flatnonzero(self.alive)
        cells, outside = self._cells(self.all_lines, living)
        seen = (self.heights.height.take(cells) > level[living, None, None]) & ~outside
        rises = np.zeros(len(self.alive), bool)
        rises[living] = (seen & room[living]).any(axis=(1, 2))
        return rises

    def _ends(self, level: Float64) -> tuple[Float64, Float64]:
        """(samples, lines) the first and the last step over the level of the sampled part.

        Without any: 0 and -1.
        """
        with np.errstate(invalid="ignore"):
            own = self.own & (self.profile > level[:, None, None] + 0.001)
        some = own.any(axis=-1)
        last = own.shape[-1] - 1 - np.argmax(own[..., ::-1], axis=-1)
        first = np.argmax(own, axis=-1)
        return np.where(some, first, 0).astype(float), np.where(some, last, -1).astype(float)

    def refuse(self, reason: str, wrong: NDArray[np.bool_]) -> None:
        """Counts and drops those of the living that are wrong."""
        wrong = wrong & self.alive
        self.refused[reason] += int(wrong.sum())
        self.alive &= ~wrong

    def _leave_the_living(self) -> NDArray[np.bool_]:
        """Which of the samples so far are those that are left."""
        living = self.alive
        self.x, self.y, self.angles, self.along, self.across, self.alive = (
            row[living]
            for row in (self.x, self.y, self.angles, self.along, self.across, self.alive)
        )
        self.profile, self.own = self.profile[living], self.own[living]
        return living

    def kept(self) -> _Kept:
        """The grasps that stand all checks."""
        with np.errstate(invalid="ignore", divide="ignore"):
            self._check()
        rows = (self.x, self.y, self.angles, self.tip, self.width, self.trust)
        return _Kept(*(row[self.alive] for row in (*rows, self.score, self.quality)))

    def _check(self) -> None:
        gripper, config, cell = self.gripper, self.config, self.heights.cell_m
        top = np.nanmax(self.profile[:, :, self.middle], axis=1, initial=-np.inf)
        top = np.where(self.across, self._rim(), top)
        self.tip = np.maximum(top - 0.8 * gripper.finger_length, config.table_clearance)
        reach = top - self.tip
        self.refuse("too flat", ~(reach >= config.min_reach))

        left, right = self._edges(self.tip)
        touched = left + right > 0
        least = np.where(self.across, _LINES // 2 + 1, _LINES)
        self.refuse("no surface across the fingers", touched.sum(axis=1) < least)
        wide = np.maximum(left.max(axis=1), right.max(axis=1)) >= self.middle
        span = left.max(axis=1) + right.max(axis=1)
        self.width = span * cell + 2 * gripper.clearance
        self.refuse("wider than the gripper", wide | (self.width > gripper.max_width))

        # Both sides' slopes against the finger's breadth, and how they lean over the fingers.
        slope = np.maximum(np.abs(self._slope(left, touched)), np.abs(self._slope(right, touched)))
        self.refuse("sides do not face each other", slope > config.friction)
        living = self._leave_the_living()  # which are few
        left, right, reach, slope = (row[living] for row in (left, right, reach, slope))
        self.tip, self.width = self.tip[living], self.width[living]
        delta = np.minimum(_TAPER_M, reach / 2)
        higher_left, higher_right = self._edges(self.tip + delta)
        taper = np.maximum(
            np.median(left - higher_left, axis=1), np.median(right - higher_right, axis=1)
        )
        self.refuse("sides lean away from the fingers", taper * cell / delta > config.friction)

        # Room: by the outermost edge of all lines, for fingers that are straight.
        first = np.stack([left.max(axis=1), right.max(axis=1)])  # cells from the middle
        # Beyond an edge that was not seen, the object may go on; by both clearances it may.
        sides = self._edges(self.tip, unseen_is_higher=True)
        hidden = np.stack([side.max(axis=1) for side in sides]) - first
        self.refuse("a side was not seen", (hidden * cell > 2 * gripper.clearance).any(axis=0))
        near = gripper.clearance / cell
        # A finger that is thinner than a cell takes up the next one.
        far = max(near + gripper.finger_thickness / cell, np.ceil(near * 0.5))
        steps = self.steps[None, None, :]
        fingers = [
            (sign * steps >= (edge + near * 0.5)[:, None, None])
            & (sign * steps <= (edge + far)[:, None, None])
            for sign, edge in zip((-1, 1), first, strict=True)
        ]
        room = fingers[0] | fingers[1]
        self.refuse("a finger hits something", self._rises_over(self.tip - 0.001, room))
        body = (steps >= -(first[0] + far)[:, None, None]) & (
            steps <= (first[1] + far)[:, None, None]
        )
        palm = self.tip + gripper.finger_length
        self.refuse("the palm hits something", self._rises_over(palm, body))
        room = np.broadcast_to(room, self.profile.shape)
        self.unseen = (room & np.isnan(self.profile)).sum(axis=(1, 2)) / room.sum(axis=(1, 2))
        self.refuse("the fingers' room was not seen", self.unseen > config.max_unseen)

        self.trust = self._trust(left, right)
        self.refuse("depth is not trusted", self.trust < config.min_confidence)

        shift = (first[1] - first[0]) / 2
        self.x = self.x + self.along[:, 0] * shift
        self.y = self.y + self.along[:, 1] * shift
        off = np.hypot(*(self._centres() - np.stack([self.x, self.y]))) * cell
        self.quality = (  # which also ranks what nobody vouches for
            (1 - 0.5 * slope / config.friction)
            * (1 - self.unseen)
            * np.minimum(1.0, reach / _REACH_FOR_FULL_SCORE_M)
            * np.exp(-((off / _CENTRE_M) ** 2))
        )
        self.score = self.trust * self.quality

    def _edges(self, level: Float64, unseen_is_higher: bool = False) -> tuple[Float64, Float64]:
        """(samples, lines) cells to both sides of the middle that are higher than the level.

        What lies between the walls counts as higher.
        """
        solid = self.profile > level[:, None, None] + 0.001
        if unseen_is_higher:
            solid |= np.isnan(self.profile)
        first, last = self._ends(level)
        places = np.arange(solid.shape[-1])
        between = (places >= first[..., None]) & (places <= last[..., None])
        solid |= between & self.across[:, None, None]
        edges = []
        for side in (solid[..., self.middle :: -1], solid[..., self.middle :]):
            ends = np.argmin(side, axis=-1)
            edges.append(np.where(side.all(axis=-1), self.middle + 1, ends).astype(np.float64))
        return edges[0], edges[1]

    def _rim(self) -> Float64:
        """(samples,) how high the sampled part rises between the fingers, but for stray points."""
        heights = np.where(self.own, self.profile, np.nan).reshape(len(self.x), -1)
        heights = np.sort(heights, axis=1)  # unknown ones last
        count = np.isfinite(heights).sum(axis=1)
        place = np.maximum((_RIM_SHARE * (count - 1)).astype(np.intp), 0)
        rim = np.take_along_axis(heights, place[:, None], axis=1)[:, 0]
        return np.where(count > 0, rim, -np.inf)

    def _slope(self, edges: Float64, touched: NDArray[np.bool_]) -> Float64:
        """Of a straight line through the edges, over the lines that touch something."""
        weight = touched / np.maximum(touched.sum(axis=1), 1)[:, None]
        off = self.lines - (weight * self.lines).sum(axis=1)[:, None]
        spread = np.maximum((weight * off**2).sum(axis=1), 1e-9)
        return np.asarray((weight * off * edges).sum(axis=1) / spread)

    def _trust(self, left: Float64, right: Float64) -> Float64:
        """The lesser of both contacts' mean trust."""
        rim = max(1.0, _RIM_M / self.heights.cell_m)
        trust = self.heights.trust.take(self._cells(self.lines, np.arange(len(self.x)))[0])
        means = []
        for sign, edge in ((-1, left), (1, right)):
            out = sign * self.steps[None, None, :]
            at = (out < edge[..., None]) & (out >= (edge - rim)[..., None])
            means.append((trust * at).sum(axis=(1, 2)) / np.maximum(at.sum(axis=(1, 2)), 1))
        return np.minimum(*means)

    def _centres(self) -> Float64:
        """(2, samples) x and y of the middle of the object under each grasp."""
        labels, centres = self.components
        rows = np.clip(np.rint(self.y), 0, labels.shape[0] - 1).astype(np.intp)
        columns = np.clip(np.rint(self.x), 0, labels.shape[1] - 1).astype(np.intp)
        return np.asarray(centres[labels[rows, columns]].T)


def _reach(gripper: Gripper, cell_m: float) -> tuple[int, int]:
    """Cells to each side of a grasp's middle, and lines across a finger that miss no cell."""
    half = int(np.ceil((gripper.max_width + gripper.finger_thickness) / cell_m)) + 3
    return half, max(_LINES, int(np.ceil(gripper.finger_breadth / cell_m)) + 1)


def _components(heights: HeightMap, least_m: float) -> tuple[NDArray[np.int32], Float64]:
    with np.errstate(invalid="ignore"):
        solid = (heights.height > least_m).astype(np.uint8)
    # Of a thin wall pieces are missing.
    size = 2 * round(0.5 * _BRIDGED_M / heights.cell_m) + 1
    joined = cv2.morphologyEx(
        np.pad(solid, size), cv2.MORPH_CLOSE, np.ones((size, size), np.uint8)
    )[size:-size, size:-size]
    _, labels, _, _ = cv2.connectedComponentsWithStats(joined, connectivity=4)
    labels = np.where(solid > 0, labels, 0)
    rows, columns = np.nonzero(labels)
    found = labels[rows, columns]
    count = np.maximum(np.bincount(found, minlength=labels.max() + 1), 1)
    centres = np.stack(
        [np.bincount(found, at, len(count)) / count for at in (columns, rows)], axis=-1
    )
    return np.asarray(labels, np.int32), np.asarray(centres, np.float64)


def _best_apart(found: _Kept, heights: HeightMap, count: int) -> list[Grasp]:
    """The best, without those that are nearly one of them."""
    kept: list[int] = []
    for index in np.lexsort((-found.quality, -found.score)).tolist():
        for other in kept:
            away = np.hypot(found.x[index] - found.x[other], found.y[index] - found.y[other])
            turned = abs(found.angle[index] - found.angle[other])
            turned = min(turned, np.pi - turned)
            if away * heights.cell_m < _APART_M and turned < _APART_RAD:
                break
        else:
            kept.append(index)
            if len(kept) == count:
                break
    return [found.grasp(index, heights) for index in kept]
