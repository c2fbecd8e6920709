"""Checkpoint and baselines on videos, region by region, and the means over videos and data sets.

Knows which methods are compared and how their figures are averaged: over the pixels of a frame,
the frames of a video, the videos of a set, the sets. Knows nothing of how depth is predicted, of
files or of how results are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dkt_ros.datasets.iterate import Skipped
from dkt_ros.errors import DktError
from dkt_ros.evaluation.baselines import BASELINES, completions
from dkt_ros.evaluation.judge import Figures, Judge
from dkt_ros.evaluation.metrics import mean_of
from dkt_ros.evaluation.models import ALIGNMENTS, MAIN_ALIGNMENTS, DepthModel, Depths
from dkt_ros.evaluation.regions import in_order
from dkt_ros.evaluation.videos import Video

TRUTH = "truth"
"""The true depth as a method: its TAE and its normals are those of a perfect prediction."""
NORMALS = "dkt normals"
SHARED = ", live frames"
"""Ends the name of a row of the exact sampler on the frames alone that live has a depth for."""

Regions = Mapping[str, Figures]
Summary = dict[str, dict[str, Figures]]
"""Method -> region -> figures."""


@dataclass(frozen=True)
class Result:
    """One method on one video: its figures per region."""

    method: str
    video: str
    regions: Regions


@dataclass(frozen=True)
class Methods:
    """What is measured beside the baselines.

    models: in the order of the table. alignments: of ALIGNMENTS. predict_normals: rgb (T,H,W,3)
    uint8 -> unit vectors (T,H,W,3), for a normals checkpoint. with_normals: whether depth is judged
    by its normals too. long_run: frames that networks are also run for, to see whether their error
    grows; 0: none.
    """

    models: Sequence[DepthModel] = ()
    alignments: Sequence[str] = MAIN_ALIGNMENTS
    predict_normals: Callable[[np.ndarray], np.ndarray] | None = None
    with_normals: bool = True
    long_run: int = 0


def method_name(model: str, alignment: str, shared: bool = False) -> str:
    """A model's row; shared: only on the frames that the live sampler has a depth for."""
    return ", ".join(filter(None, (model, alignment))) + (SHARED if shared else "")


def rows_of_raw(models: Sequence[DepthModel]) -> set[str]:
    """Rows that only a video with raw depth has: the baselines' and the models' online ones."""
    return {
        *BASELINES,
        *(
            method_name(model.name, alignment, shared)
            for model in models
            for alignment in ALIGNMENTS
            if alignment != "video"
            for shared in (False, True)
        ),
    }


def evaluate_video(
    video: Video,
    methods: Methods,
    depth_range: tuple[float, float],
    skipped: Skipped | None = None,
) -> list[Result]:
    """Figures of the truth itself, the baselines (where there is raw depth) and the models.

    depth_range: metres; truth outside does not count, predictions are clipped into it. Where a
    model fails, or no true depth is within the range, that is noted in `skipped` and its results
    are left out. Where a model passes frames over (live with publish "latest"), the one before it
    that does not has a second row of figures, of those frames alone.
    """
    skipped = Skipped() if skipped is None else skipped
    judge = Judge(video, depth_range, methods.with_normals)
    if not np.isfinite(judge.truth).any():
        low, high = depth_range
        skipped.add(video.name, f"no true depth from {low:g} to {high:g} m")
        return []
    found: dict[str, Regions] = {}
    floor = judge.floor()
    if floor is not None:
        found[TRUTH] = floor
    if video.raw is not None:
        for name, depth in zip(BASELINES, completions(video.raw), strict=True):
            found[name] = judge.depth(depth)
    if methods.predict_normals is not None:
        try:
            found[NORMALS] = judge.normals(methods.predict_normals(video.rgb))
        except DktError as error:
            skipped.add(f"{video.name}, {NORMALS}", str(error))
    whole: dict[str, Depths] = {}  # of the last model that answers every frame
    whole_name = ""
    for model in methods.models:
        try:
            depths = model.depths(video, judge.truth, methods.alignments)
        except DktError as error:
            skipped.add(f"{video.name}, {model.name}", str(error))
            continue
        for alignment, told in depths.items():
            row = method_name(model.name, alignment)
            found[row] = judge.depth(told.depth, told.confidence, told.tolerance)
            for frame, why in told.problems.items():
                skipped.add(f"{video.name} frame {frame}, {model.name}", why)
            if model.answers_every > 1 and alignment in whole:
                given = np.isfinite(told.depth).any(axis=(1, 2))
                other = whole[alignment]
                shared = np.where(given[:, None, None], other.depth, np.nan)
                found[method_name(whole_name, alignment, shared=True)] = (
                    found[method_name(whole_name, alignment)]
                    if given.all()
                    else judge.depth(shared, other.confidence, other.tolerance)
                )
        if model.answers_every == 1:
            whole, whole_name = depths, model.name
    return [Result(method, video.name, regions) for method, regions in found.items()]


def summarise(results: Iterable[Result]) -> Summary:
    """The mean over the videos, per method (in order of appearance) and region."""
    videos: dict[str, dict[str, Regions]] = {}
    for result in results:
        videos.setdefault(result.video, {})[result.method] = result.regions
    return mean_summary(list(videos.values()))


def mean_summary(parts: Sequence[Mapping[str, Regions]]) -> Summary:
    """The mean over videos or data sets, each counting once in the rows that it has."""
    methods = dict.fromkeys(method for part in parts for method in part)
    rows = {method: [part.get(method) for part in parts] for method in methods}
    return {m: mean_regions([row for row in rows[m] if row is not None]) for m in methods}


def mean_regions(rows: Sequence[Regions]) -> dict[str, Figures]:
    """The mean of each region over the rows that have it."""
    regions = in_order(region for row in rows for region in row)
    return {
        region: mean_of(Figures, (row[region] for row in rows if region in row))
        for region in regions
    }
