"""How results look: tables for people, JSON for programs. Knows nothing of how they came about."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dkt_ros.evaluation.confidence import DECILES
from dkt_ros.evaluation.evaluate import (
    SHARED,
    TRUTH,
    Regions,
    Result,
    Summary,
    mean_summary,
    method_name,
)
from dkt_ros.evaluation.judge import Figures
from dkt_ros.evaluation.local_lines import LOCAL_LINES
from dkt_ros.evaluation.long_runs import ENDS, Curve
from dkt_ros.evaluation.models import ALIGNMENTS, DepthModel
from dkt_ros.evaluation.regions import OBJECTS, REGIONS, in_order
from dkt_ros.evaluation.sets import SetReport
from dkt_ros.files import write_whole
from dkt_ros.wording import counted

MOST_VIDEOS = 40
"""Longer lists of single videos are for the JSON."""
_MOST_SKIPPED = 10

_Column = tuple[str, str, float]
"""Title with unit, field of Figures (or NAME.INDEX in a tuple), factor."""
_DEPTH: tuple[_Column, ...] = (
    ("REL %", "rel", 100),
    ("RMSE cm", "rmse_m", 100),
    ("d<1.05 %", "delta_105", 100),
    ("d<1.10 %", "delta_110", 100),
    ("d<1.25 %", "delta_125", 100),
    ("covered %", "coverage", 100),
    ("TAE %", "tae", 100),
)
_CONFIDENCE: tuple[_Column, ...] = (
    ("ECE %", "ece", 100),
    ("AUSE %", "ause", 100),
    ("REL %", "rel", 100),
    ("half's %", "trusted_half_rel", 100),
)
_DECILES: tuple[_Column, ...] = tuple(
    (title, f"rel_by_decile.{index}", 100.0)
    for index, title in enumerate(("1st", "2nd", "3rd", *(f"{n}th" for n in range(4, DECILES + 1))))
)
_NORMALS: tuple[_Column, ...] = (
    ("mean deg", "mean_deg", 1),
    ("median deg", "median_deg", 1),
    ("<11.25 %", "within_1125", 100),
    ("<22.5 %", "within_2250", 100),
    ("<30 %", "within_3000", 100),
    ("covered %", "normal_coverage", 100),
)
_BLOCKS: tuple[tuple[str, tuple[_Column, ...]], ...] = (
    ("", _DEPTH),
    ("confidence, ", _CONFIDENCE),
    ("REL % by tenths, ", _DECILES),
    ("normals, ", _NORMALS),
)
_COMPARED: tuple[tuple[str, str], ...] = (("REL", "rel"), ("TAE", "tae"))


def describe(report: SetReport) -> str:
    """What was measured of a data set, what was left out, and what it lacks."""
    low, high = report.depth_range
    frames = sum(report.frames.values())
    lines = [
        f"{report.data}: {report.kind}, split {report.split or 'all'}, "
        f"{counted(len(report.frames), 'video')}, {counted(frames, 'frame')}; "
        f"depths from {low:g} to {high:g} m count"
    ]
    if report.left_out:
        lines.append(f"  {counted(report.left_out, 'frame')} passed over (--max-frames, --stride)")
    lines += [f"  {note}" for note in report.notes]
    reasons = list(report.skipped.reasons.items())
    if reasons:
        lines.append(f"  skipped {len(reasons)}:")
        lines += [f"    {what}: {why}" for what, why in reasons[:_MOST_SKIPPED]]
        if len(reasons) > _MOST_SKIPPED:
            lines.append(f"    and {len(reasons) - _MOST_SKIPPED} more, all in the JSON")
    return "\n".join(lines)


def format_summary(summary: Summary) -> str:
    """One block per region of depth errors, then of confidence and normals where there are any."""
    chosen: list[tuple[str, dict[str, Figures], list[_Column]]] = []
    for title, columns in _BLOCKS:
        for region in in_order(region for regions in summary.values() for region in regions):
            rows = {
                method: regions[region]
                for method, regions in summary.items()
                if region in regions
                and _present(columns, [regions[region]])
                # Every row has a REL.
                and (columns is not _CONFIDENCE or math.isfinite(regions[region].ece))
            }
            # The truth by itself is not worth a block.
            if set(rows) - {TRUTH}:
                chosen.append((title + region, rows, _present(columns, rows.values())))
    texts = (text for title, rows, _ in chosen for text in (title, *(f"  {m}" for m in rows)))
    width = max(map(len, texts), default=0)
    return "\n\n".join(_block(title, rows, columns, width) for title, rows, columns in chosen)


def legend(methods: Iterable[str]) -> str:
    """What the rows' names mean, of those that occur."""
    methods = tuple(methods)
    lines = []
    if TRUTH in methods:
        lines.append("truth: the true depth itself, the TAE and angles of a perfect prediction")
    if any(", video" in method for method in methods):
        lines.append("video: one scale and shift per video, least squares to the truth")
    if any(", online" in method for method in methods):
        lines.append(
            "online: scale and shift from the raw depth, frame by frame, as a robot has it"
        )
    if any(", fused" in method for method in methods):
        lines += [
            "fused: the online depth, joined with the raw depth where that can be trusted",
            "confidence: ECE is its mean distance from the share of pixels that are right,",
            "  AUSE is lost by dropping pixels in its order, not in that of their errors,",
            "  half's is the REL of the more trusted half, by tenths that of each tenth",
            "  of a frame's pixels, the most trusted first",
        ]
    local = [name for name in LOCAL_LINES if any(f", {name}" in method for method in methods)]
    if local:
        lines.append(
            f"{', '.join(local)}: the online line made local, raw depth kept where it fits"
        )
    if any(method.endswith(SHARED) for method in methods):
        lines.append(
            "live frames: only the frames that the live sampler has a depth for, as in its own "
            "rows; further apart, so TAE is larger"
        )
    return "\n".join(lines)


def format_videos(report: SetReport) -> str:
    """One line per video, one column per method: REL of the objects, or mean angle of normals."""
    if not report.results:
        return ""
    methods = [
        method
        for method in dict.fromkeys(result.method for result in report.results)
        if method != TRUTH and not method.endswith(SHARED)
    ]
    regions = in_order(region for r in report.results for region in r.regions)
    region = OBJECTS if OBJECTS in regions else "all"
    title, entry, factor = _DEPTH[0]
    if all(math.isnan(r.regions["all"].rel) for r in report.results):
        title, entry, factor = _NORMALS[0]
    # A video without masks has no line of figures for the objects, whatever the others have.
    found = {
        (r.video, r.method): getattr(r.regions.get(region, Figures()), entry)
        for r in report.results
    }
    names = list(report.frames)
    shown = names[:MOST_VIDEOS]
    first = f"{title}, {region}"
    width = max(len(text) for text in (first, *(f"  {name}" for name in shown)))
    # Names of two words take two lines, lest the table be too wide for a screen.
    heads = [method.rpartition(" ") for method in methods]
    widths = [max(len(above), len(below), 6) + 2 for above, _, below in heads]
    lines = [
        " " * width + "".join(map(str.rjust, (above for above, _, _ in heads), widths)),
        first.ljust(width) + "".join(map(str.rjust, (below for _, _, below in heads), widths)),
    ]
    for name in shown:
        cells = [_cell(found.get((name, m), math.nan) * factor) for m in methods]
        lines.append(f"  {name}".ljust(width) + "".join(map(str.rjust, cells, widths)))
    if len(names) > len(shown):
        lines.append(f"  and {len(names) - len(shown)} more, all in the JSON")
    return "\n".join(lines)


def format_difference(sets: Sequence[Sequence[Result]], models: Sequence[DepthModel]) -> str:
    """Every model against the first, on the frames that both answer; "" where there is one.

    sets: each data set's results. A video counts where both have a figure of it.
    """
    rows = [{(one.method, one.video): one.regions for one in results} for results in sets]
    tables = [_difference(rows, models[0], after) for after in models[1:]]
    return "\n\n".join(table for table in tables if table)


_Rows = Sequence[Mapping[tuple[str, str], Regions]]
"""Of each set, method and video to figures."""


def _difference(sets: _Rows, first: DepthModel, second: DepthModel) -> str:
    rows = []
    for alignment in ALIGNMENTS:
        after = method_name(second.name, alignment)
        before = [method_name(first.name, alignment)]
        if second.answers_every > 1:
            before.insert(0, method_name(first.name, alignment, shared=True))
        for region in REGIONS:
            for title, entry in _COMPARED:
                old, new = _paired_means(sets, before, after, region, entry)
                if math.isfinite(old) and math.isfinite(new):
                    change = 100 * (new / old - 1) if old else math.nan
                    cells = (_cell(100 * old), _cell(100 * new), _cell(change, sign=True))
                    rows.append((f"  {title}, {alignment}, {region}", *cells))
    if not rows:
        return ""
    header = (f"{second.name} against {first.name}, same frames", "before %", "after %", "change %")
    return _columns([header, *rows], 11)


def _paired_means(
    sets: _Rows, before: Sequence[str], after: str, region: str, entry: str
) -> tuple[float, float]:
    """A figure of the first of the rows `before` that is there, and of another row.

    Means over the videos in which both have it, then over the sets; NaN where none is.
    """
    means = []
    for rows in sets:
        pairs = []
        for (method, video), regions in rows.items():
            other = next((rows[name, video] for name in before if (name, video) in rows), None)
            if method != after or other is None:
                continue
            pair = [getattr(one.get(region, Figures()), entry) for one in (other, regions)]
            if all(map(math.isfinite, pair)):
                pairs.append(pair)
        if pairs:
            means.append([fmean(side) for side in zip(*pairs, strict=True)])
    if not means:
        return math.nan, math.nan
    old, new = (fmean(side) for side in zip(*means, strict=True))
    return old, new


def format_long_runs(report: SetReport) -> str:
    """REL at the beginning and at the end of long runs; "" where there were none."""
    rows = [
        (f"  {model}, {shown}", curve)
        for model, runs in report.long_runs.items()
        for shown, curve in runs.items()
    ]
    if not rows:
        return ""
    title = f"runs of {counted(rows[0][1].length, 'frame')}, one scale and shift per frame"
    count = rows[0][1].ends
    lines = [(title, f"first {count}, %", f"last {count}, %", "change %", "worst %")]
    for name, curve in rows:
        change = 100 * (curve.last / curve.first - 1) if curve.first else math.nan
        worst = max((r for r in curve.rel if math.isfinite(r)), default=math.nan)
        ends = _cell(100 * curve.first), _cell(100 * curve.last)
        lines.append((name, *ends, _cell(change, sign=True), _cell(100 * worst)))
    return _columns(lines, 12)


def _columns(rows: Sequence[Sequence[str]], width: int) -> str:
    """Names on the left, the other cells in columns of that width."""
    names = max(len(name) for name, *_ in rows)
    return "\n".join(
        name.ljust(names) + "".join(f"{c:>{width}}" for c in cells) for name, *cells in rows
    )


def write_json(
    path: Path, reports: Sequence[SetReport], about: Mapping[str, Any], done: bool = True
) -> None:
    """Every figure: per set, per video and in the mean over sets; NaN becomes null.

    about: entries for the top level (checkpoint, arguments). done: False while sets are missing.
    Raises StorageError where the file cannot be written.
    """
    content = {
        **about,
        "complete": done,
        "mean": _plain_summary(mean_summary([report.summary for report in reports])),
        "sets": [_plain_set(report) for report in reports],
    }
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _plain_set(report: SetReport) -> dict[str, Any]:
    videos: dict[str, dict[str, Any]] = {
        name: {"name": name, "frames": count, "methods": {}}
        for name, count in report.frames.items()
    }
    for result in report.results:
        videos[result.video]["methods"][result.method] = _plain_regions(result.regions)
    return {
        "data": report.data,
        "kind": report.kind,
        "split": report.split,
        "depth_range_m": list(report.depth_range),
        "frames": sum(report.frames.values()),
        "frames_passed_over": report.left_out,
        "notes": report.notes,
        "skipped": {"count": report.skipped.count, "reasons": report.skipped.reasons},
        "mean": _plain_summary(report.summary),
        "long_runs": {
            model: {shown: _plain_curve(curve) for shown, curve in runs.items()}
            for model, runs in report.long_runs.items()
        },
        "videos": list(videos.values()),
    }


def _plain_summary(summary: Summary) -> dict[str, Any]:
    return {method: _plain_regions(regions) for method, regions in summary.items()}


def _plain_regions(regions: Regions) -> dict[str, Any]:
    return {
        region: {
            name: _plain(value)
            for name, value in (dataclasses.asdict(figures) | {"ece": figures.ece}).items()
        }
        for region, figures in regions.items()
    }


def _plain_curve(curve: Curve) -> dict[str, Any]:
    return {
        "length": curve.length,
        f"rel_of_first_{ENDS}": _plain(curve.first),
        f"rel_of_last_{ENDS}": _plain(curve.last),
        "frames": list(curve.frames),
        "rel": [_plain(value) for value in curve.rel],
    }


def _plain(value: float | tuple[float, ...]) -> float | list[float] | None:
    if not isinstance(value, tuple):
        return None if math.isnan(value) else value
    return None if any(map(math.isnan, value)) else list(value)


def _block(title: str, rows: Mapping[str, Figures], columns: Sequence[_Column], width: int) -> str:
    widths = [max(len(column[0]), 7) + 2 for column in columns]
    lines = [title.ljust(width) + "".join(map(str.rjust, (c[0] for c in columns), widths))]
    for method, figures in rows.items():
        cells = [_cell(_value(figures, entry) * factor) for _, entry, factor in columns]
        lines.append(f"  {method}".ljust(width) + "".join(map(str.rjust, cells, widths)))
    return "\n".join(lines)


def _present(columns: Sequence[_Column], rows: Iterable[Figures]) -> list[_Column]:
    rows = list(rows)
    return [c for c in columns if any(math.isfinite(_value(row, c[1])) for row in rows)]


def _value(figures: Figures, entry: str) -> float:
    name, _, index = entry.partition(".")
    value = getattr(figures, name)
    return float(value[int(index)] if index else value)


def _cell(value: float, sign: bool = False) -> str:
    return "-" if math.isnan(value) else f"{value:{'+' if sign else ''}.2f}"
