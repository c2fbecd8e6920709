"""The summary of a demonstration as Markdown. Knows its keys; computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from demo.figures import DKT, NEAREST, OBJECTS, RAW, TRUSTED

_HEADLINE = (("/dkt/depth", DKT), ("raw sensor", RAW), ("raw with holes filled", NEAREST))


def as_markdown(summary: dict[str, Any]) -> str:
    """report.md: frames, errors, coverage, latencies."""
    frames = summary["frames"]
    told = [f"- {line}" for line in reasons(summary)]
    shares = summary["shares"]
    lines = [
        "# What the demonstration gave",
        "",
        f"Bag `{summary['bag']}`, checkpoint `{summary['checkpoint']}`, "
        f"replayed at {summary['rate']:.2g} times its recorded speed.",
        "",
        f"{outcome(summary)} The node always takes the latest frame and never queues.",
        f"Of the pixels {_percent(shares['sensor'])} have the sensor's depth and "
        f"{_percent(shares['network'])} the network's. Point clouds: {frames['clouds']}. Answers "
        f"of which a message was lost on the way: {frames['incomplete']}.",
        "",
        *([*told, ""] if told else []),
        "![colour, raw depth, DKT's depth, its confidence, truth](demo.png)",
        "",
        *_errors(summary),
        *_latencies(summary),
    ]
    return "\n".join(lines)


def outcome(summary: dict[str, Any]) -> str:
    """How many frames were answered, how, and how many of them hold depth; one line."""
    frames = summary["frames"]
    states = ", ".join(f"{count} {state}" for state, count in summary["alignment"].items())
    return (
        f"Of {frames['in_bag']} camera frames {frames['with_depth']} got depth: "
        f"{frames['answered']} were answered{f' ({states})' if states else ''}, "
        f"{frames['dropped']} dropped."
    )


def reasons(summary: dict[str, Any]) -> list[str]:
    """Why frames were not OK, the most frequent first, one line each; empty where all were."""
    return [
        f"{entry['state']} in {entry['frames']}: {entry['reason']}" for entry in summary["reasons"]
    ]


def headline(summary: dict[str, Any]) -> str:
    """What was played through what, and what it amounts to where that is known; two lines."""
    text = f"Bag {summary['bag']} through dkt_node with {summary['checkpoint']}"
    errors = summary["errors"].get(OBJECTS, {})
    found = [
        f"{name} {_percent(errors[method]['rel'])}{_share(errors[method]['coverage'])}"
        for name, method in _HEADLINE
        if method in errors and errors[method]["rel"] is not None
    ]
    if not found:
        return text
    if TRUSTED in errors and errors[TRUSTED]["rel"] is not None:
        found[1:1] = [f"its half trusted most {_percent(errors[TRUSTED]['rel'])}"]
    return f"{text}\nmean error on glass and metal: {', '.join(found)}"


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
            "depth count; coverage says how many those are, so raw depth is judged on fewer. The "
            "half trusted most: of the objects' pixels, by /dkt/confidence, frame by frame.",
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
        "From the arrival of the colour image at the planner to the arrival of the answer, and "
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


def _share(coverage: float) -> str:
    """What the error leaves out, where that is worth a word."""
    return "" if coverage > 0.995 else f" (on the {coverage:.0%} that have depth)"


def _percent(value: float | None) -> str:
    return _number(value, 100.0, "{:.1f}%")


def _number(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else form.format(factor * value)
