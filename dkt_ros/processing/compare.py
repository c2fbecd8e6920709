"""Two outputs of the same recordings: how far they differ, which is better, which is faster."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dkt_ros.checks import check_fields, check_ranges
from dkt_ros.colors import colored
from dkt_ros.errors import DktError
from dkt_ros.evaluation.regions import OBJECTS
from dkt_ros.files import write_whole
from dkt_ros.formats.pictures import encoded
from dkt_ros.geometry import is_reading
from dkt_ros.processing.figures import plain
from dkt_ros.processing.outputs import Output, Outputs, read_outputs
from dkt_ros.processing.previews import ERROR_SCALE, UNKNOWN
from dkt_ros.processing.written_depth import written_depth
from dkt_ros.wording import counted, one_line

_T = TypeVar("_T")
_MAPS = 4
"""Pictures of the frames that differ most, for each recording."""
_SEPARATOR = 4


@dataclass(frozen=True)
class Limits:
    """What B may be away from A.

    tolerance  relative difference of depth that counts as the same
    max_share  of the pixels that both know, how many may differ by more
    max_lost   share of A's known pixels, and of its frames, that B may lack
    max_worse  how much larger B's mean error against the truth may be (0.01: one percent point)
    """

    tolerance: float = 0.01
    max_share: float = 0.01
    max_lost: float = 0.01
    max_worse: float = 0.005

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, **dict.fromkeys(vars(self), (0.0, 1.0)))


@dataclass
class Comparison:
    """One recording twice. Shares and relative numbers are in 0..1, NaN where there is none.

    frames: answered by both. only_a, only_b: by one. mean, p95: relative difference of pixels that
    both know. beyond: share of them above the tolerance. lost, gained: pixels that B lacks or A.
    identical: whether all that both know is the same to the last bit, NaN alike.
    errors_a, errors_b: mean relative error against truth by region, over the frames in which both
    have one. seconds_a, seconds_b: mean time a frame of the recording, answered or not. why: what
    is beyond the limits. neither: why neither has an output; that is within them.
    """

    name: str
    frames: int = 0
    only_a: int = 0
    only_b: int = 0
    mean: float = float("nan")
    p95: float = float("nan")
    beyond: float = 0.0
    lost: float = 0.0
    gained: float = 0.0
    identical: bool = True
    errors_a: dict[str, float] = field(default_factory=dict)
    errors_b: dict[str, float] = field(default_factory=dict)
    seconds_a: float = float("nan")
    seconds_b: float = float("nan")
    why: list[str] = field(default_factory=list)
    neither: str = ""


def compare(a: Path, b: Path, limits: Limits, maps: Path | None = None) -> list[Comparison]:
    """The recordings of two output folders, by name; single outputs are taken as one recording.

    maps: a folder that gets pictures of the frames that differ most: A, B, difference. Raises
    DktError where nothing can be compared.
    """
    of_a, of_b = read_outputs([a]), read_outputs([b])
    pairs = list(_pairs(of_a, of_b))
    if not any(pair[0] and pair[1] for pair in pairs):
        raise DktError(
            f"{a} and {b} have no recording in common: the first holds {_held(of_a)}, the second "
            f"{_held(of_b)}; expected outputs of the same recordings"
        )
    found = []
    for mine, theirs in pairs:
        if mine is None or theirs is None:
            one = mine or theirs
            assert one is not None  # a pair has one at least
            comparison = Comparison(one.name, identical=False)
            side, others = ("A", of_b) if mine else ("B", of_a)
            reason = others.failed.get(one.name)
            comparison.why.append(f"only in {side}" + (f", failed: {reason}" if reason else ""))
            found.append(comparison)
        else:
            found.append(compare_outputs(mine, theirs, limits, maps))
    for name in sorted(of_a.failed.keys() & of_b.failed.keys()):
        found.append(Comparison(name, identical=False, neither=of_b.failed[name]))
    return found


def _held(found: Outputs) -> str:
    names = [output.name for output in found.outputs]
    names += [f"{name} ({why})" for name, why in found.failed.items()]
    return ", ".join(names[:3]) + " …" * (len(names) > 3)


def compare_outputs(a: Output, b: Output, limits: Limits, maps: Path | None = None) -> Comparison:
    """See compare."""
    result = Comparison(a.name)
    stamps_a, stamps_b = (Counter(f["stamp_ns"] for f in one.frames) for one in (a, b))
    common = stamps_a & stamps_b
    result.only_a = (stamps_a - common).total()
    result.only_b = (stamps_b - common).total()
    means, tails, beyond, lost, gained = [], [], [], [], []
    worst: list[tuple[float, int, NDArray[np.uint8]]] = []
    # Both follow the recording, so that what both have comes in the same order.
    for (stamp, mine), (other, theirs) in zip(
        _chosen(a.folder, common), _chosen(b.folder, common), strict=False
    ):
        if stamp != other or mine.shape != theirs.shape:
            raise DktError(
                f"{a.folder} and {b.folder}: frames differ at {stamp} ({mine.shape}) and {other} "
                f"({theirs.shape}); are they of the same recording?"
            )
        result.frames += 1
        result.identical &= np.array_equal(mine, theirs, equal_nan=True)
        known_a, known_b = is_reading(mine), is_reading(theirs)
        both = known_a & known_b
        lost.append(float((known_a & ~known_b).sum() / max(known_a.sum(), 1)))
        gained.append(float((known_b & ~known_a).sum() / max(known_b.sum(), 1)))
        difference = np.full(mine.shape, np.nan, np.float32)
        difference[both] = np.abs(theirs[both] - mine[both]) / mine[both]
        if both.any():
            values = difference[both]
            means.append(float(values.mean()))
            tails.append(float(np.percentile(values, 95)))
            beyond.append(float((values > limits.tolerance).mean()))
            if maps is not None:
                worst.append((means[-1], stamp, _picture(mine, theirs, difference)))
                worst = sorted(worst, key=lambda entry: -entry[0])[:_MAPS]
    if result.frames < common.total():
        raise DktError(
            f"{a.folder} or {b.folder} is damaged: {result.frames} of {common.total()} frames of "
            "depth can be read in both; process again with --overwrite"
        )
    for name, each in (("mean", means), ("p95", tails), ("beyond", beyond)):
        setattr(result, name, float(np.mean(each)) if each else float("nan"))
    result.lost, result.gained = (float(np.mean(v)) if v else 0.0 for v in (lost, gained))
    result.errors_a, result.errors_b = _errors(a, b, common)
    result.seconds_a, result.seconds_b = (
        one.summary["inference_s"] / one.summary["frames"] for one in (a, b)
    )
    result.why = list(_beyond(result, limits))
    for mean, stamp, picture in worst:
        if maps is not None and mean > 0:
            write_whole(maps / f"{a.name}_{stamp}.png", encoded(".png", picture))
    return result


def table(found: list[Comparison]) -> str:
    """Markdown, for people and for a pull request."""
    lines = [
        "| recording | frames (only A, only B) | mean difference | 95% | beyond | lost, gained | "
        "error on glass and metal A, B | error A, B | ms a frame A, B | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        errors = [
            f"{_percent(one.errors_a.get(region))}, {_percent(one.errors_b.get(region))}"
            for region in (OBJECTS, "all")
        ]
        verdict = "; ".join(one.why) or ("identical" if one.identical else "within the limits")
        if one.neither:
            verdict = f"in neither, failed: {one.neither}"
        lines.append(
            f"| {_in_cell(one.name)} | {one.frames} ({one.only_a}, {one.only_b}) | "
            f"{_percent(one.mean)} | {_percent(one.p95)} | {_percent(one.beyond)} | "
            f"{_percent(one.lost)}, {_percent(one.gained)} | {errors[0]} | "
            f"{errors[1]} | {_milliseconds(one.seconds_a)}, {_milliseconds(one.seconds_b)} | "
            f"{_in_cell(verdict)} |"
        )
    return "\n".join(lines)


def _in_cell(text: str) -> str:
    return one_line(text).replace("|", r"\|")


def as_json(found: list[Comparison], limits: Limits) -> str:
    """One line."""
    return json.dumps(
        plain(
            {
                "within": not any(one.why for one in found),
                "limits": vars(limits),
                "recordings": [vars(one) for one in found],
            }
        )
    )


def _pairs(a: Outputs, b: Outputs) -> Iterator[tuple[Output | None, Output | None]]:
    if len(a.outputs) == len(b.outputs) == 1:
        yield a.outputs[0], b.outputs[0]
        return
    mine, theirs = ({one.name: one for one in found.outputs} for found in (a, b))
    for name in sorted({*mine, *theirs}):
        yield mine.get(name), theirs.get(name)


def _chosen(folder: Path, common: Counter[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    return _first_of(written_depth(folder), common)


def _first_of(found: Iterable[tuple[int, _T]], common: Counter[int]) -> Iterator[tuple[int, _T]]:
    """What has a common stamp, as often as both have it."""
    left = Counter(common)
    for stamp, one in found:
        if left[stamp]:
            left[stamp] -= 1
            yield stamp, one


def _errors(
    a: Output, b: Output, common: Counter[int]
) -> tuple[dict[str, float], dict[str, float]]:
    """Each one's mean relative error by region, over the same frames."""
    sides = (
        _first_of(((frame["stamp_ns"], frame["errors"]) for frame in one.frames), common)
        for one in (a, b)
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for (_, mine), (_, theirs) in zip(*sides, strict=True):
        for region in mine.keys() & theirs.keys():
            pair = mine[region]["rel"], theirs[region]["rel"]
            if None not in pair:
                found.setdefault(region, []).append(pair)
    means = {region: np.mean(pairs, axis=0) for region, pairs in found.items()}
    before, after = ({name: float(mean[side]) for name, mean in means.items()} for side in (0, 1))
    return before, after


def _beyond(result: Comparison, limits: Limits) -> Iterator[str]:
    if not result.frames:
        yield "no frame in common"
        return
    if not (np.isfinite(result.mean) or result.identical):
        yield "no pixel is known in both"
    if result.only_a > limits.max_lost * (result.frames + result.only_a):
        yield f"{counted(result.only_a, 'frame')} only in A"
    if result.beyond > limits.max_share:
        yield f"{result.beyond:.1%} of the pixels differ by more than {limits.tolerance:.1%}"
    if result.lost > limits.max_lost:
        yield f"{result.lost:.1%} of A's pixels are unknown in B"
    for region, error in result.errors_b.items():
        before: Any = result.errors_a.get(region)
        if before is not None and error - before > limits.max_worse:
            yield f"error on {region} rose from {before:.2%} to {error:.2%}"


def _picture(
    mine: NDArray[np.float32], theirs: NDArray[np.float32], difference: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A, B, difference side by side."""
    known = mine[is_reading(mine)]
    low, high = np.percentile(known, (1, 99)).tolist() if len(known) else (0.0, 1.0)
    bar = np.full((len(mine), _SEPARATOR, 3), 255, np.uint8)
    maps = [colored(depth, low, high, UNKNOWN) for depth in (mine, theirs)]
    error = colored(difference, 0.0, ERROR_SCALE, UNKNOWN, cv2.COLORMAP_INFERNO)
    return np.concatenate([maps[0], bar, maps[1], bar, error], axis=1)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if np.isfinite(seconds) else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None or not np.isfinite(share) else f"{share:.2%}"
