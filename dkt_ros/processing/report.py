"""Outputs of `dkt process` as one HTML file that needs no network: words, curves, frames, cloud."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from dkt_ros.evaluation.regions import OBJECTS
from dkt_ros.html_page import page
from dkt_ros.processing.figures import score
from dkt_ros.processing.one import PREVIEWS
from dkt_ros.processing.outputs import Figures, Output, Outputs
from dkt_ros.processing.previews import ERROR_SCALE, preview_files, read_preview
from dkt_ros.wording import counted

_MOST_TIMES = 600
"""Points of a curve; longer recordings are shown by the means of neighbours."""
_VIEWS = {
    "all": "all",
    "color": "colour",
    "raw": "raw",
    "depth": "DKT",
    "confidence": "confidence",
    "error": "error",
    "truth": "truth",
}


def report_html(found: Outputs, title: str = "dkt_ros report", most_frames: int = 40) -> str:
    """The page. most_frames: of each recording to look at, the worst among them."""
    data = [_data(i, output, most_frames) for i, output in enumerate(found.outputs)]
    versions = sorted({str(output.summary["version"]) for output in found.outputs})
    body = _table(found) + "".join(_section(i, one) for i, one in enumerate(found.outputs))
    footer = f"Made by dkt report, dkt_ros {', '.join(versions)}."
    return page(title, _words(found), body, footer, data)


def _words(found: Outputs) -> str:
    total = len(found.outputs) + len(found.failed)
    frames = sum(int(one.summary["frames"]) for one in found.outputs)
    answered = sum(int(one.summary["answered"]) for one in found.outputs)
    text = f"{counted(total, 'recording')}, {counted(frames, 'frame')}, {answered} of them with an "
    text += "answer."
    if found.failed:
        text += f" {counted(len(found.failed), 'recording')} could not be processed."
    all_frames = [frame for one in found.outputs for frame in one.frames]
    return f"{text} {_quality(all_frames)}"


def _quality(frames: Sequence[Figures]) -> str:
    """What was reached, in words."""
    if not frames:
        return ""
    text = (
        f"The sensor gives depth on {_percent(_mean(frames, 'raw_coverage'))} of the pixels, DKT "
        f"on {_percent(_mean(frames, 'coverage'))}."
    )
    for region, name in ((OBJECTS, "glass and metal"), ("rest", "the rest"), ("all", "all pixels")):
        mine = _mean(frames, "errors", region, "rel")
        if mine is None or (region == "all" and "on glass" in text.lower()):
            continue
        raw = _mean(frames, "raw_errors", region, "rel")
        share = _mean(frames, "raw_errors", region, "coverage")
        text += f" On {name} the mean error is {_percent(mine)}"
        if raw is not None:
            text += f" (raw depth {_percent(raw)}, on the {_percent(share)} where there is any)"
        text += "."
    if not any(frame["errors"] for frame in frames):
        rel = _median(frames, "network_rel")
        if rel is not None:
            text += (
                " There is no truth; where the raw depth is trusted the network by itself differs "
                f"from it by {_percent(rel)} (median)."
            )
    bad = [frame for frame in frames if frame["state"] != "OK"]
    if bad:
        states = ", ".join(
            f"{sum(frame['state'] == state for frame in bad)} {state}"
            for state in sorted({frame["state"] for frame in bad})
        )
        reason = next((frame["reason"] for frame in bad if frame["reason"]), "")
        text += (
            f" {len(bad)} of {len(frames)} frames are not OK ({states}): {reason or 'see below'}."
        )
    else:
        text += " All frames are OK."
    return text


def _table(found: Outputs) -> str:
    heads = "recording, frames, with answer, OK, raw cover, DKT cover, error on glass and metal, "
    heads += "error, network to raw, frames/s, x real time"
    rows = []
    for index, one in enumerate(found.outputs):
        frames, summary = one.frames, one.summary
        times = summary["times_real_time"]
        cells = (
            str(summary["frames"]),
            str(summary["answered"]),
            str(summary["states"].get("OK", 0)),
            _percent(_mean(frames, "raw_coverage")),
            _percent(_mean(frames, "coverage")),
            _percent(_mean(frames, "errors", OBJECTS, "rel")),
            _percent(_mean(frames, "errors", "all", "rel")),
            _percent(_median(frames, "network_rel")),
            f"{summary['frames_per_s']:.2f}",
            f"{times:.2f}" if times else "",
        )
        link = f'<a href="#r{index}">{escape(one.name)}</a>'
        rows.append(f"<tr><td>{link}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    for name, why in found.failed.items():
        rows.append(
            f'<tr><td>{escape(name)}</td><td class="text bad" colspan="{heads.count(",")}">'
            f"{escape(why)}</td></tr>"
        )
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads.split(", "))
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _section(index: int, one: Output) -> str:
    summary = one.summary
    network = summary["network"]
    lines = [
        f"{summary['kind']} {summary['recording']}; {network['name']}, mode {network['mode']}, on "
        f"{network['device']}; {summary['elapsed_s']:.1f} s, at most "
        f"{summary['peak_memory_mb']:.0f} MB."
    ]
    lines += [f"Not used: {lost}." for lost in summary["lost"]]
    lines += [f"Note: {note}" for note in summary["notes"]]
    lines += [f"{n} x {why}." for why, n in summary["unpaired"].items()]
    lines += [f"Began anew {counted(n, 'time')}: {why}." for why, n in summary["restarts"].items()]
    if summary["between_answers"]:
        lines.append(
            f"Between two answers of mode live: {counted(summary['between_answers'], 'frame')}."
        )
    notes = "".join(f"<li>{escape(line)}</li>" for line in lines)
    radios = "".join(
        f'<label><input type="radio" name="view{index}" value="{value}"'
        f"{' checked' if value == 'all' else ''}> {name}</label>"
        for value, name in _VIEWS.items()
    )
    return (
        f'<section id="r{index}" aria-label="{escape(one.name)}"><h2>{escape(one.name)}</h2>'
        f'<p>{escape(_quality(one.frames))}</p><ul class="note">{notes}</ul>'
        '<div class="viewer"><h3>Frames</h3><div class="controls">'
        f'<label>order <select><option value="time">in time</option><option value="worst">worst '
        "first</option></select></label>"
        '<button type="button" class="before" aria-label="frame before">&#8592;</button>'
        f'<input type="range" min="0" value="0" step="1" aria-label="frame of {escape(one.name)}">'
        '<button type="button" class="after" aria-label="next frame">&#8594;</button>'
        f"<output></output></div><fieldset><legend>show</legend>{radios}</fieldset>"
        '<div class="views"></div><h3>Worst frames</h3><ol class="worst"></ol>'
        '<h3>Point cloud</h3><canvas tabindex="0" role="img" aria-label="point cloud of the '
        'frame; arrow keys turn it, plus and minus zoom"></canvas>'
        '<p class="note">Drag, or the arrow keys, to turn; wheel, or + and -, to zoom.</p></div>'
        '<div class="plots"></div></section>'
    )


def _data(index: int, one: Output, most_frames: int) -> dict[str, Any]:
    frames = one.frames
    start = frames[0]["stamp_ns"] if frames else 0
    times = [(frame["stamp_ns"] - start) * 1e-9 for frame in frames]
    groups = np.array_split(np.arange(len(frames)), min(len(frames), _MOST_TIMES) or 1)

    def thinned(values: Sequence[Any]) -> list[float | None]:
        found = []
        for group in groups:
            known = [values[i] for i in group if values[i] is not None]
            found.append(float(np.mean(known)) if known else None)
        return found

    def series(name: str, *path: str) -> dict[str, Any]:
        return {"name": name, "values": thinned([_at(frame, path) for frame in frames])}

    stages = [name for name in (frames[0]["timings_s"] if frames else {}) if name != "total"]
    has_truth = any(frame["errors"] for frame in frames)
    region = OBJECTS if any(OBJECTS in frame["errors"] for frame in frames) else "all"
    where = "glass and metal" if region == OBJECTS else "all pixels"
    share: dict[str, Any] = {"unit": "%", "factor": 100, "zero": True}
    errors = [
        series(f"DKT, {where}", "errors", region, "rel"),
        series(f"raw, {where}", "raw_errors", region, "rel"),
        series("DKT, the rest", "errors", "rest", "rel"),
    ]
    trusted = [series("network to trusted raw depth", "network_rel")]
    plots = [
        {
            "title": "Pixels with depth",
            **share,
            "series": [
                series("raw", "raw_coverage"),
                series("DKT", "coverage"),
                series("of it the network's", "share_network"),
            ],
        },
        {
            "title": "Error against truth" if has_truth else "Error against trusted raw depth",
            **share,
            "series": errors if has_truth else trusted,
        },
        {
            "title": "Expected error and share of raw depth that agrees",
            **share,
            "series": [series("expected error", "uncertainty"), series("agrees", "inlier_ratio")],
        },
        {
            "title": "Residual to raw depth",
            "unit": " mm",
            "factor": 1000,
            "zero": True,
            "series": [series("residual", "residual_m")],
        },
        {
            "title": "Mean confidence",
            **share,
            "series": [series("confidence", "confidence")],
        },
        {
            "title": "Scale and shift, 1/m",
            "series": [series("scale", "scale"), series("shift", "shift")],
        },
        {
            "title": "Time for a frame",
            "unit": " ms",
            "factor": 1000,
            "zero": True,
            "series": [
                series("in all", "timings_s", "total"),
                *(series(stage, "timings_s", stage) for stage in stages[:3]),
            ],
        },
    ]
    kind = "truth" if has_truth else "raw depth"
    return {
        "id": f"r{index}",
        "times": thinned(times),
        "plots": plots,
        "frames": _looked_at(one, times, most_frames),
        "error_caption": f"difference to {kind}, 0 to {ERROR_SCALE:.0%}",
    }


def _looked_at(one: Output, times: Sequence[float], most: int) -> list[dict[str, Any]]:
    """Frames with pictures: the worst third of what may be shown, the rest evenly chosen."""
    files = preview_files(one.folder / PREVIEWS)
    there = sorted(index for index in files if index < len(one.frames))
    worst = sorted(there, key=lambda index: -score(one.frames[index]))[: max(1, most // 3)]
    rest = [index for index in there if index not in worst]
    spread = np.linspace(0, len(rest) - 1, min(len(rest), max(0, most - len(worst))))
    chosen = sorted({*worst, *(rest[round(place)] for place in spread)})
    found = []
    for index in chosen:
        content = read_preview(files[index])
        figures = one.frames[index]
        every = max(1, len(content["points"]) // 2500)
        told = f"frame {index}, {times[index]:.2f} s, {figures['state']}"
        told += f", {_percent(figures['coverage'])} with depth"
        for region, name in ((OBJECTS, "glass and metal"), ("all", "all")):
            rel = _at(figures, ("errors", region, "rel"))
            told += f", error {_percent(rel)} ({name})" if rel is not None else ""
        if figures["reason"]:
            told += f": {figures['reason']}"
        found.append(
            {
                "index": index,
                "time": times[index],
                "score": score(figures),
                "told": told,
                "pictures": {
                    name: base64.b64encode(content[name]).decode()
                    for name in _VIEWS
                    if name in content
                },
                "points": base64.b64encode(content["points"][::every].tobytes()).decode(),
                "colors": base64.b64encode(content["colors"][::every].tobytes()).decode(),
            }
        )
    return found


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _known(frames: Sequence[Figures], *path: str) -> list[float]:
    return [one for frame in frames if (one := _at(frame, path)) is not None]


def _mean(frames: Sequence[Figures], *path: str) -> float | None:
    values = _known(frames, *path)
    return float(np.mean(values)) if values else None


def _median(frames: Sequence[Figures], key: str) -> float | None:
    values = _known(frames, key)
    return float(np.median(values)) if values else None


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.1f}%"
