"""How far the live sampler is from the exact one: errors and flicker on rendered sequences.

    python benchmarks/live_consistency.py --data DIR [--checkpoint DIR] [--output F.json]

Every clip is played forth and back until it has --frames frames, so that windows slide; one scale
and shift per video, least squares to the truth; TAE over the same depth. Exact windows are as long
as the checkpoint says. `latest` counts only the frames that have a depth when `publish` is latest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkt_ros.evaluation.evaluate import aligned_to_truth, region_masks
from dkt_ros.evaluation.metrics import video_errors
from dkt_ros.evaluation.temporal import temporal_alignment_error
from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
from dkt_ros.model.live import LivePredictor
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.predictor import PredictOptions, predict_disparity
from dkt_ros.transphy3d import SequenceFrame, read_sequence

RANGE = (0.1, 10.0)
SETTINGS = {
    "quality": LiveOptions.preset("quality"),
    "balanced": LiveOptions.preset("balanced"),
    "fast": LiveOptions.preset("fast"),
    "window 2, new 1": LiveOptions(2, 1),
}


def main() -> None:
    """Prints one line per setting, and writes the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--publish", choices=("latest", "all"), default="latest")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    network = load_checkpoint(args.checkpoint or default_checkpoint())
    size = (network.info.height, network.info.width)
    rows: dict[str, dict[str, list[float]]] = {}
    for path in sorted(args.data.glob("*.tar"))[: args.clips]:
        clip = forth_and_back(list(read_sequence(path)), args.frames)
        rgb = np.stack([frame.rgb for frame in clip])
        exact = predict_disparity(network, rgb, PredictOptions(size=size))
        for name, options in SETTINGS.items():
            changes: dict[str, Any] = {"size": size, "scene_cut": None, "publish": args.publish}
            live = LivePredictor(network, LiveOptions(**(vars(options) | changes)))
            results = [live.push(image) for image in rgb]
            given = [i for i, result in enumerate(results) if result is not None]
            streamed = np.stack([r.disparity for r in results if r is not None])
            row = rows.setdefault(name, {})
            for mode, disparity in (("exact", exact[given]), ("live", streamed)):
                for measure, value in figures([clip[i] for i in given], disparity).items():
                    row.setdefault(f"{mode} {measure}", []).append(value)
        print(f"{path.name} done", flush=True)
    means = {
        name: {measure: float(np.nanmean(values)) for measure, values in row.items()}
        for name, row in rows.items()
    }
    report(means)
    if args.output:
        content = {
            "checkpoint": network.info.name,
            "clips": args.clips,
            "frames": args.frames,
            "publish": args.publish,
            "torch": torch.__version__,
            "mean": means,
        }
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def forth_and_back(frames: list[SequenceFrame], count: int) -> list[SequenceFrame]:
    """The clip mirrored in time again and again: frames 0 1 2 1 0 1 2 ..."""
    period = frames + frames[-2:0:-1]
    return [period[i % len(period)] for i in range(count)]


def figures(frames: list[SequenceFrame], disparity: np.ndarray) -> dict[str, float]:
    """REL over all and over transparent pixels, and TAE, of disparity (T, H, W) put to scale."""
    truth = np.stack([frame.depth for frame in frames])
    truth = np.where((truth >= RANGE[0]) & (truth <= RANGE[1]), truth, np.nan)
    regions = region_masks(np.stack([f.mask for f in frames if f.mask is not None]))
    depth = aligned_to_truth(disparity, truth, RANGE)
    poses = [frame.world_to_camera for frame in frames]
    return {
        "REL": video_errors(depth, truth, regions["all"]).rel,
        "REL transparent": video_errors(depth, truth, regions["transparent"]).rel,
        "TAE": temporal_alignment_error(depth, frames[0].camera_matrix, poses),
    }


def report(means: dict[str, dict[str, float]]) -> None:
    """Prints the means and the change from exact to live."""
    for name, row in means.items():
        for measure in ("REL", "REL transparent", "TAE"):
            exact, live = row[f"exact {measure}"], row[f"live {measure}"]
            change = 100 * (live / exact - 1)
            print(f"{name:18}{measure:18}exact {exact:.4f}  live {live:.4f}  {change:+.1f} %")


if __name__ == "__main__":
    main()
