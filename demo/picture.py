"""demo.png: a few frames side by side. Knows how to draw; measures nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from demo.figures import DKT, RAW, TRUSTED
from demo.recorded import RecordedFrame
from dkt_ros.messages.images import DepthImage

_HOLE_GREY = "0.35"
_PANEL_INCHES = 2.9
# How far the colour scale reaches beyond the objects' depths, as a share of their span.
_SCALE_MARGIN = 0.3


@dataclass(frozen=True, eq=False)
class Row:
    """One frame to draw: what was recorded, the node's depth and confidence (H, W), and words.

    moment: when it was, for people. notes: by method, how it fared.
    """

    recorded: RecordedFrame
    dkt_depth: DepthImage
    confidence: DepthImage | None
    moment: str
    notes: Mapping[str, str]


def draw(rows: Sequence[Row], path: Path, title: str) -> None:
    """Writes the picture: colour, raw depth, DKT depth, its confidence and, where known, truth.

    All depths share one colour scale, in metres, over the objects' range; confidence has one of
    its own, from 0 to 1; holes are grey. Outlines of transparent and reflective things are white.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    has_truth = any(row.recorded.truth is not None for row in rows)
    columns = 5 if has_truth else 4
    height, width = rows[0].recorded.rgb.shape[:2]
    panel_height = _PANEL_INCHES * height / width
    figure = Figure(
        figsize=(columns * _PANEL_INCHES + 1.2, len(rows) * (panel_height + 0.3) + 1.1), dpi=110
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    near, far = _range(rows)
    depths, confidences = _palette("turbo", near, far), _palette("viridis", 0.0, 1.0)
    heads = ["camera", "raw sensor depth", "/dkt/depth", "/dkt/confidence", "truth"]
    for axis, head in zip(axes[0], heads, strict=False):
        axis.annotate(
            head, (0.5, 1.0), (0, 18), xycoords="axes fraction", textcoords="offset points",
            ha="center", fontsize=12, fontweight="bold",
        )  # fmt: skip
    for line, row in zip(axes, rows, strict=True):
        recorded = row.recorded
        line[0].imshow(recorded.rgb)
        line[0].set_title(row.moment, fontsize=9)
        panels = [
            (recorded.raw_depth, depths, row.notes.get(RAW, ""), "not in the bag"),
            (row.dkt_depth, depths, row.notes.get(DKT, ""), ""),
            (row.confidence, confidences, row.notes.get(TRUSTED, ""), "none came"),
            (recorded.truth, depths, "", "not in the bag"),
        ]
        for axis, (values, palette, note, absent) in zip(line[1:], panels, strict=False):
            if values is not None:
                axis.imshow(
                    np.ma.masked_invalid(values), cmap=palette.cmap, norm=palette.norm,
                    interpolation="nearest",
                )  # fmt: skip
            axis.set_title(note if values is not None else absent, fontsize=9)
        for axis in line:
            _outline(axis, recorded.mask)
            axis.set_xticks([])
            axis.set_yticks([])
    figure.suptitle(title, fontsize=12, y=1 - 0.08 / figure.get_figheight())
    figure.subplots_adjust(
        left=0.01, right=0.92, top=1 - 0.95 / figure.get_figheight(),
        bottom=0.3 / figure.get_figheight(),
        wspace=0.03, hspace=0.16,
    )  # fmt: skip
    bar = figure.colorbar(depths, cax=figure.add_axes((0.93, 0.46, 0.011, 0.4)), extend="both")
    bar.set_label("depth in metres (grey: none)", fontsize=10)
    bar = figure.colorbar(confidences, cax=figure.add_axes((0.93, 0.08, 0.011, 0.28)))
    bar.set_label("confidence", fontsize=10)
    if any(row.recorded.mask is not None for row in rows):
        figure.text(
            0.01, 0.01, "white outlines: transparent and reflective objects, known from the bag",
            fontsize=9,
        )  # fmt: skip
    figure.savefig(path)


def _palette(name: str, low: float, high: float) -> Any:
    """Colours of the values from low to high, grey where there is none."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colors = colormaps[name].with_extremes(bad=_HOLE_GREY)
    return ScalarMappable(Normalize(low, high), colors)


def _outline(axis: Any, mask: npt.NDArray[np.uint8] | None) -> None:
    if mask is not None and 0 < np.count_nonzero(mask) < mask.size:
        axis.contour(mask > 0, levels=[0.5], colors="white", linewidths=0.8)


def _range(rows: Sequence[Row]) -> tuple[float, float]:
    """The colour scale's ends, chosen for what matters: the objects, or else the nearer part."""
    objects = np.concatenate([_object_depths(row.recorded) for row in rows])
    if objects.size:
        near, far = np.percentile(objects, [1, 99])
        margin = _SCALE_MARGIN * (far - near)
        near, far = max(0.0, near - margin), far + margin
    else:
        shown = np.concatenate([_shown_depths(row) for row in rows])
        near, far = np.percentile(shown, [1, 90]) if shown.size else (0.0, 1.0)
    return float(near), float(max(far, near + 0.05))


def _object_depths(recorded: RecordedFrame) -> npt.NDArray[np.float32]:
    if recorded.truth is None or recorded.mask is None:
        return np.empty(0, np.float32)
    depths = recorded.truth[recorded.mask > 0]
    return depths[np.isfinite(depths)]


def _shown_depths(row: Row) -> npt.NDArray[np.float32]:
    recorded = row.recorded
    depths = [d for d in (recorded.raw_depth, recorded.truth, row.dkt_depth) if d is not None]
    return np.concatenate([depth[np.isfinite(depth)] for depth in depths])
