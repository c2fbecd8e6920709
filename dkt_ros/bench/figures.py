"""What many attempts show: shares with intervals, paired tests, failures, errors beside success."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dkt_ros.bench.attempts import Record
from dkt_ros.bench.physics import Result
from dkt_ros.formats.tabletop import MATERIALS

_Z95 = 1.959964
_BINS_M = (0.0, 0.002, 0.004, 0.008, 0.016, math.inf)


def wilson(successes: int, attempts: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share; (0, 1) of none."""
    if attempts == 0:
        return 0.0, 1.0
    share, n, z = successes / attempts, attempts, _Z95
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of pairs that differ, under equal chances."""
    n = only_first + only_second
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1)) / 2**n
    return min(1.0, 2 * tail)


def methods_of(records: Sequence[Record]) -> list[str]:
    """In order of appearance, the truth last."""
    names = list(dict.fromkeys(record.method for record in records))
    return sorted(names, key=lambda name: name == "truth")


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Method -> material (and `all`) -> figures; `paired`: method pairs per material."""
    methods = methods_of(records)
    groups = (*MATERIALS, "all")
    table: dict[str, Any] = {}
    for method in methods:
        table[method] = {}
        for group in groups:
            rows = [r for r in records if r.method == method and group in (r.material, "all")]
            if rows:
                table[method][group] = _figures(rows)
    best = "fused" if "fused" in methods else methods[0]
    paired = {
        f"{best} - {method}": {
            group: pair
            for group in groups
            if (pair := _paired(records, best, method, group)) is not None
        }
        for method in methods
        if method != best
    }
    tried = [r for r in records if r.result != Result.NO_GRASP.value]
    return {
        "methods": table,
        "paired": paired,
        "by_shape": [
            {"shape": shape, **_of_methods([r for r in tried if r.shape == shape], methods)}
            for shape in sorted({r.shape for r in tried})
        ],
        "by_error": _by_error(tried, methods),
    }


def _figures(rows: Sequence[Record]) -> dict[str, Any]:
    held = sum(row.held for row in rows)
    errors = [row.error_m for row in rows if row.error_m is not None]
    return {
        "attempts": len(rows),
        "held": held,
        "share": held / len(rows),
        "interval": wilson(held, len(rows)),
        "results": dict(Counter(row.result for row in rows)),
        "error_m": float(np.median(errors)) if errors else None,
        "known": float(np.mean([row.known for row in rows])),
        "bad": float(np.mean([row.bad for row in rows])),
    }


def _paired(
    records: Sequence[Record], first: str, second: str, group: str
) -> dict[str, Any] | None:
    held: dict[tuple[str, str], dict[str, bool]] = {}
    for row in records:
        if group in (row.material, "all"):
            held.setdefault((row.scene, row.material), {})[row.method] = row.held
    both = [one for one in held.values() if first in one and second in one]
    if not both:
        return None
    only_first = sum(one[first] and not one[second] for one in both)
    only_second = sum(one[second] and not one[first] for one in both)
    return {
        "pairs": len(both),
        "difference": (only_first - only_second) / len(both),
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar(only_first, only_second),
    }


def _by_error(tried: Sequence[Record], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Success by the depth's median error on the grasped object."""
    found = []
    for low, high in pairwise(_BINS_M):
        part = [r for r in tried if r.error_m is not None and low <= r.error_m < high]
        if part:
            limits = {"from_m": low, "to_m": high if math.isfinite(high) else None}
            found.append({**limits, **_of_methods(part, methods)})
    return found


def _of_methods(rows: Sequence[Record], methods: Sequence[str]) -> dict[str, Any]:
    """Attempts and those held, of all methods together and of each."""

    def counts(rows: Sequence[Record]) -> dict[str, int]:
        return {"attempts": len(rows), "held": sum(row.held for row in rows)}

    both = counts(rows)
    return {
        **both,
        "interval": wilson(both["held"], both["attempts"]),
        "methods": {name: counts([r for r in rows if r.method == name]) for name in methods},
    }


def format_table(summary: Mapping[str, Any]) -> str:
    """For a terminal; Markdown."""
    return "\n\n".join(
        "\n".join(map(_row, [heads, ["---"] * len(heads), *rows]))
        for heads, *rows in tables(summary).values()
    )


def tables(summary: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Title -> heads and rows."""
    table, paired = summary["methods"], summary["paired"]
    groups = [g for g in (*MATERIALS, "all") if any(g in row for row in table.values())]
    held = [[name, *(_share(row.get(g)) for g in groups)] for name, row in table.items()]
    differences = [
        [name, *(_difference(row.get(g)) for g in groups)] for name, row in paired.items()
    ]
    return {
        "Objects held": [["held", *groups], *held],
        "Differences": [["difference, p", *groups], *differences],
        "How it ended, and depth on the object": _failure_table(table, groups),
        "Kinds of object": _shape_table(summary),
        "Errors and success": _error_table(summary),
    }


def _failure_table(table: Mapping[str, Any], groups: Sequence[str]) -> list[list[str]]:
    results = [result.value for result in Result if result is not Result.HELD]
    rows = [["failures", "material", *results, "median error, mm", "with depth", "off > 1 cm"]]
    for method, row in table.items():
        for group in groups:
            if group in row and group != "all":
                one = row[group]
                counts = [str(one["results"].get(result, 0)) for result in results]
                error = "" if one["error_m"] is None else f"{1000 * one['error_m']:.1f}"
                figures = [error, f"{one['known']:.2f}", f"{one['bad']:.2f}"]
                rows.append([method, group, *counts, *figures])
    return rows


def _shape_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """Heads and rows: grasps that were tried by the kind of object that they were at."""
    return _by_method("object that was grasped at", summary, "by_shape", lambda one: one["shape"])


def _error_table(summary: Mapping[str, Any]) -> list[list[str]]:
    """Heads and rows: grasps that were tried by the depth's median error on their object."""

    def limits(part: Mapping[str, Any]) -> str:
        low, high = 1000 * part["from_m"], part["to_m"]
        return f"{low:g} to {1000 * high:g} mm" if high else f"over {low:g} mm"

    return _by_method("error on the grasped object", summary, "by_error", limits)


def _by_method(
    head: str, summary: Mapping[str, Any], key: str, name: Callable[[Mapping[str, Any]], str]
) -> list[list[str]]:
    rows = [[head, "attempts", "held", *summary["methods"]]]
    for part in summary[key]:
        each = [f"{one['held']}/{one['attempts']}" for one in part["methods"].values()]
        rows.append([name(part), str(part["attempts"]), _interval(part), *each])
    return rows


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _share(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{_interval(one)}, {one['held']}/{one['attempts']}"


def _difference(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{one['difference']:+.2f}, {one['p']:.2g}"


def _interval(one: Mapping[str, Any]) -> str:
    """Share held, with its interval."""
    low, high = one["interval"]
    return f"{one['held'] / one['attempts']:.2f} ({low:.2f} to {high:.2f})"
