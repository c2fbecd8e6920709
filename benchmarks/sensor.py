"""The simulated depth sensor beside a real D435: holes, see-through and noise, as a table.

    python benchmarks/sensor.py data/heldout/*.tar [--sensor d435] [--shared FOLDER] [--far 1.2]
        [--output JSON]

The tars are of `dkt synth render --raw-depth`, of which only those of one sensor count (version 2
knew the D435 alone). Real, a D435 whatever is simulated: two ClearGrasp scenes, whose truth is the
same sensor's depth of the same objects under paint. Simulated: the mean over frames, between them
the 10th and 90th percentile. "Around" is what is neither transparent nor reflective, nearer than
--far. Pixels without truth, and those next to an edge in depth, count nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / "test")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from fixtures.glass_scenes import REAL_SCENES, read_real_scene  # noqa: E402

from benchmarks.program import script  # noqa: E402
from dkt_ros.formats.transphy3d import MaterialClass, read_sequence  # noqa: E402

Figures = dict[str, float]
SEEN_THROUGH = 0.01  # metres beyond the glass
EDGE = 0.02  # metres of depth between neighbours
LEAST_PIXELS = 50
ROWS = {
    "glass: holes": "%",
    "glass: > 1 cm too far, of the rest": "%",
    "glass: median error of the rest": "mm",
    "metal: holes or > 1 cm off": "%",
    "around: holes": "%",
    "around: median |error|": "mm",
    "around: median |error| in disparity": "1e-3/m",
}


def figures(
    raw: np.ndarray,
    truth: np.ndarray,
    glass: np.ndarray,
    around: np.ndarray,
    metal: np.ndarray | None = None,
) -> Figures:
    """One frame's row values. (H, W): raw and truth in metres, NaN unknown; the rest bool."""
    raw = np.where(raw > 0, raw, np.nan)
    filled = np.nan_to_num(truth, nan=0.0).astype(np.float32)
    window = np.ones((3, 3), np.uint8)
    flat = cv2.dilate(filled, window) - cv2.erode(filled, window) < EDGE
    found: Figures = {}
    on = glass & flat & np.isfinite(truth)
    if on.sum() >= LEAST_PIXELS:
        error = (raw - truth)[on]
        there = error[np.isfinite(error)]
        found["glass: holes"] = 100 * float(np.isnan(error).mean())
        if there.size >= LEAST_PIXELS:
            found["glass: > 1 cm too far, of the rest"] = 100 * float((there > SEEN_THROUGH).mean())
            found["glass: median error of the rest"] = 1000 * float(np.median(there))
    shiny = flat & metal & np.isfinite(truth) if metal is not None else np.zeros_like(glass)
    if shiny.sum() >= LEAST_PIXELS:
        wrong = ~(np.abs(raw - truth)[shiny] < SEEN_THROUGH)
        found["metal: holes or > 1 cm off"] = 100 * float(wrong.mean())
    off = around & flat & np.isfinite(truth)
    if off.sum() >= LEAST_PIXELS:
        error = (raw - truth)[off]
        found["around: holes"] = 100 * float(np.isnan(error).mean())
        found["around: median |error|"] = 1000 * float(np.nanmedian(np.abs(error)))
        inverse = 1 / raw[off] - 1 / truth[off]
        found["around: median |error| in disparity"] = 1e3 * float(np.nanmedian(np.abs(inverse)))
    return found


def real_figures(shared: Path, far: float) -> Iterator[Figures]:
    """Of both real scenes."""
    for name in REAL_SCENES:
        scene = read_real_scene(shared / "cleargrasp_d435", name)
        yield figures(scene.raw, scene.truth, scene.glass, ~scene.glass & (scene.truth < far))


def simulated_figures(paths: Sequence[Path], far: float, sensor: str) -> Iterator[Figures]:
    """Of every frame with that sensor's raw depth and a mask."""
    for path in paths:
        for frame in read_sequence(path):
            if frame.extra.get("sensor", "d435") != sensor:
                continue
            if frame.raw_depth is not None and frame.mask is not None:
                glass = frame.mask == MaterialClass.TRANSPARENT
                around = (frame.mask == MaterialClass.OPAQUE) & (frame.depth < far)
                metal = frame.mask == MaterialClass.REFLECTIVE
                yield figures(frame.raw_depth, frame.depth, glass, around, metal)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = Path(os.environ.get("DKT_SHARED", _ROOT.parent / "shared"))
    parser.add_argument("tars", type=Path, nargs="+")
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--sensor", default="d435", help="simulated (default %(default)s)")
    parser.add_argument("--far", type=float, default=1.2, help="metres (default %(default)s)")
    parser.add_argument("--output", type=Path, help="the table as JSON")
    args = parser.parse_args(argv)
    simulated = list(simulated_figures(args.tars, args.far, args.sensor))
    if not simulated:
        parser.error(
            f"no frame of the tars has raw depth of a {args.sensor} and a mask; expected tars of "
            "`dkt synth render --raw-depth --sensor`, and that sensor (--sensor)"
        )
    if (folder := args.shared / "cleargrasp_d435").is_dir():
        real = list(real_figures(args.shared, args.far))
    else:
        print(f"no {folder}: the real scenes are left out; set --shared or DKT_SHARED")
        real = []
    names = REAL_SCENES[: len(real)]
    print(f"{'':38}{len(real) * '    real'}   simulated, {len(simulated)} frames")
    table: dict[str, dict[str, float | None]] = {}
    for row, unit in ROWS.items():
        values = [frame[row] for frame in simulated if row in frame]
        line = "".join(f"{scene.get(row, np.nan):8.1f}" for scene in real)
        entry = {f"real, {name}": s.get(row) for name, s in zip(names, real, strict=True)}
        table[f"{row}, {unit}"] = entry
        if values:
            low, high = np.percentile(values, (10, 90))
            entry |= {"simulated": float(np.mean(values)), "p10": float(low), "p90": float(high)}
            line += f"{np.mean(values):8.1f}  ({low:.1f} to {high:.1f})"
        print(f"{row + ', ' + unit:38}{line}")
    if args.output:
        report = {"simulated frames": len(simulated), "far (m)": args.far, "table": table}
        report["sensor"] = args.sensor
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    script(main)
