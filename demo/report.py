"""The summary of a demonstration as Markdown. Knows its keys; computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from demo.figures import DKT, NEAREST, OBJECTS, RAW


def as_markdown(summary: dict[str, Any]) -> str:
    """report.md: frames, errors, coverage, latencies."""
    frames = summary["frames"]
    lines = [
        "# What the demonstration gave",
        "",
        f"Bag `{summary['bag']}`, checkpoint `{summary['checkpoint']}`, "
        f"replayed at {summary['rate']:.2g} times its recorded speed.",
        "",
        f"Of {frames['sent']} camera frames, {frames['answered']} were answered with depth and "
        f"{frames['dropped']} dropped: the node always takes the latest frame and never queues.",
        f"Point clouds: {frames['clouds']}. Alignment: {_states(summary['alignment'])}. Answers of "
        f"which a message was lost on the way: {frames['incomplete']}.",
        "",
        "![colour, raw depth, DKT's depth, truth](demo.png)",
        "",
        *_errors(summary),
        *_latencies(summary),
    ]
    return "\n".join(lines)


def headline(summary: dict[str, Any]) -> str:
    """What was played through what, and what it amounts to where that is known; two lines."""
    text = f"Bag {summary['bag']} through dkt_node with {summary['checkpoint']}"
    errors = summary["errors"].get(OBJECTS, {})
    found = [
        f"{name} {_percent(errors[method]['rel'])}{_share(errors[method]['coverage'])}"
        for name, method in (("DKT", DKT), ("raw sensor", RAW), ("raw with holes filled", NEAREST))
        if method in errors and errors[method]["rel"] is not None
    ]
    if not found:
        return text
    return f"{text}\nmean error on transparent and reflective objects: {', '.join(found)}"


def error_table(summary: dict[str, Any]) -> list[str]:
    """The table of errors as Markdown lines; empty where the bag holds no truth."""
    if not summary["errors"]:
        return []
    rows = [
        (
            pixels if index == 0 else "",
            method,
            _percent(errors["rel"]),
            _percent(errors["delta_105"]),
            _percent(errors["delta_110"]),
            _percent(errors["delta_125"]),
            _number(errors["rmse_m"], 1000.0, "{:.0f}"),
            _percent(errors["coverage"]),
        )
        for pixels, table in summary["errors"].items()
        for index, (method, errors) in enumerate(table.items())
    ]
    head = ("pixels", "depth", "REL", "δ1.05", "δ1.10", "δ1.25", "RMSE mm", "coverage")
    return _table(head, rows)


def latency_table(summary: dict[str, Any]) -> list[str]:
    """The table of latencies as Markdown lines."""
    rows = [
        (name, *(f"{1000.0 * spread[key]:.0f}" for key in ("median", "p95", "max")))
        for name, spread in summary["latency_s"].items()
    ]
    return _table(("time, ms", "median", "95%", "max"), rows)


def _errors(summary: dict[str, Any]) -> list[str]:
    lines = ["## Errors", ""]
    if summary["errors"]:
        compared = summary["frames"]["compared_with_truth"]
        lines += [
            *error_table(summary),
            "",
            f"Mean over {compared} frames, over the pixels whose truth is known. REL is the mean "
            "relative error, δt the share of pixels within a factor of t. Only pixels that have a "
            "depth count; coverage says how many those are, so raw depth is judged on fewer.",
        ]
    else:
        shares = (f"{name} {_percent(share)}" for name, share in summary["coverage"].items())
        lines += [
            "The bag holds no truth. Pixels that have a depth: " + ", ".join(shares) + ".",
        ]
    return [*lines, ""]


def _latencies(summary: dict[str, Any]) -> list[str]:
    return [
        "## Latencies",
        "",
        *latency_table(summary),
        "",
        "From the arrival of the camera's message at the planner to the arrival of the answer, and "
        "the node's own stages as it states them in `/dkt/alignment`.",
        "",
    ]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: tuple[str, ...]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "| " + " | ".join(padded) + " |"

    return [
        line(head),
        "|" + "|".join("-" * (width + 2) for width in widths) + "|",
        *map(line, rows),
    ]


def _states(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"


def _share(coverage: float) -> str:
    """What the error leaves out, where that is worth a word."""
    return "" if coverage > 0.995 else f" (on the {coverage:.0%} that have depth)"


def _percent(value: float | None) -> str:
    return _number(value, 100.0, "{:.1f}%")


def _number(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else form.format(factor * value)
