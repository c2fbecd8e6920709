"""Depth against how badly the sensor fails: missing, seen-through and shifted readings, as curves.

    python benchmarks/robustness.py DATA [--checkpoint NAME=DIR ...] [--frames N] [--output JSON]

DATA is a folder of tars that `dkt synth render --raw-depth` wrote. From each, its first frames go
through the estimator with every checkpoint, network alone and fused, beside the nearest fill, and
the raw depth of all of them fails the same way: in a share of the picture's patches there is no
reading, a share of the glass's patches shows what stands behind it, or all of it is shifted. Mean
relative error of the last frame on glass and metal, and off them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.device import Machine
from benchmarks.program import script
from dkt_ros import frames_of, load_estimator
from dkt_ros.errors import DktError
from dkt_ros.estimator import EstimatorConfig
from dkt_ros.evaluation.metrics import frame_errors
from dkt_ros.files import write_whole
from dkt_ros.formats.transphy3d import SequenceFrame, read_sequence
from dkt_ros.geometry import disparity_of, nearest_fill
from dkt_ros.train.sensor import behind, smooth_noise

Fail = Callable[[SequenceFrame, float, np.random.Generator], NDArray[np.float32]]


def readings(frame: SequenceFrame) -> NDArray[np.float32]:
    """(H, W) metres, NaN = none. Raises DktError where the sequence has no raw depth."""
    if frame.raw_depth is None:
        raise DktError("a sequence without raw depth: expected dkt synth render --raw-depth")
    return frame.raw_depth


def classes_of(frame: SequenceFrame) -> NDArray[np.uint8]:
    """(H, W), above 0 on glass and metal. Raises DktError where the sequence has no mask."""
    if frame.mask is None:
        raise DktError("a sequence without mask of glass and metal: expected dkt synth render")
    return frame.mask


def patches(where: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """That share of some pixels, (H, W), in blots."""
    noise = smooth_noise(where.shape, rng, 10)
    return where & (noise >= np.quantile(noise[where], 1.0 - share)) & (share > 0)


def missing(frame: SequenceFrame, share: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """No reading in that share of the picture, in patches."""
    raw = readings(frame).copy()
    raw[patches(np.ones(raw.shape, np.bool_), share, rng)] = np.nan
    return raw


def seen_through(
    frame: SequenceFrame, share: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Of glass and metal that share reads as what is behind, the rest as it was."""
    raw, classes = readings(frame).copy(), classes_of(frame)
    through = patches(classes > 0, share, rng)
    background = behind(disparity_of(frame.depth), classes)
    raw[through] = 1.0 / np.maximum(background[through], 1e-3)
    return raw


def shifted(frame: SequenceFrame, pixels: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Registered so many pixels too far to the right."""
    by, right = round(pixels), readings(frame)
    raw = np.full_like(right, np.nan)
    raw[:, by:] = right[:, : raw.shape[1] - by]
    return raw


CURVES: dict[str, tuple[Fail, tuple[float, ...]]] = {
    "missing": (missing, (0.0, 0.25, 0.5, 0.75, 0.9)),
    "seen through": (seen_through, (0.0, 0.25, 0.5, 0.75, 1.0)),
    "shifted": (shifted, (0.0, 2.0, 4.0, 8.0)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--checkpoint", nargs="+", default=["dkt-nano=dkt-nano"], metavar="NAME=DIR"
    )
    parser.add_argument("--frames", type=int, default=1, help="of each tar (default %(default)s)")
    parser.add_argument("--output", type=Path, help="the table as JSON")
    args = parser.parse_args(argv)
    if not (paths := sorted(args.data.glob("*.tar"))):
        raise DktError(f"{args.data}: no sequences (*.tar) in it; expected dkt synth render's")
    clips = [read_sequence(path)[: args.frames] for path in paths]
    estimators = {}
    for entry in args.checkpoint:
        name, _, folder = entry.rpartition("=")
        if not name:
            raise DktError(f"--checkpoint {entry}: expected NAME=DIR")
        for depth in ("network", "fused"):
            estimators[f"{name}, {depth}"] = load_estimator(
                config=EstimatorConfig(depth=depth), checkpoint=folder
            )
    rows: list[dict[str, str | float]] = []
    for curve, (fail, levels) in CURVES.items():
        for level in levels:
            errors: dict[str, list[tuple[float, float]]] = {}
            for number, clip in enumerate(clips):
                objects = classes_of(clip[-1]) > 0
                if not objects.any():
                    continue
                raws = [fail(frame, level, np.random.default_rng(number)) for frame in clip]
                found: dict[str, NDArray[np.float32]] = {}
                if np.isfinite(raws[-1]).any():
                    found["nearest fill"] = nearest_fill(np.nan_to_num(raws[-1]))
                for name, estimator in estimators.items():
                    estimator.reset()
                    for frame in frames_of(zip((f.rgb for f in clip), raws, strict=True)):
                        if (estimate := estimator.push(frame)) is not None:
                            found[name] = estimate.depth
                for name, answer in found.items():
                    on, off = (
                        frame_errors(answer, clip[-1].depth, part).rel
                        for part in (objects, ~objects)
                    )
                    errors.setdefault(name, []).append((on, off))
            for name, pairs in errors.items():
                on, off = (float(value) for value in np.nanmean(np.array(pairs), axis=0))
                # A method may have no depth on the objects of some.
                frames = int(np.isfinite(np.array(pairs)[:, 0]).sum())
                rows.append(
                    {
                        "curve": curve,
                        "level": level,
                        "method": name,
                        "objects": on,
                        "rest": off,
                        "frames": frames,
                    }
                )
                print(
                    f"{curve:<14}{level:6.2f}  {name:<24}{100 * on:8.2f}{100 * off:8.2f} %"
                    f"  {frames} frames",
                    flush=True,
                )
    if not rows:
        raise DktError(f"{args.data}: no glass or metal in the last frame of any sequence")
    if args.output:
        content = {**asdict(Machine.here()), "rows": rows}
        write_whole(args.output, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    script(main)
