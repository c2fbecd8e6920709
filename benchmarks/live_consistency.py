"""How far the live sampler is from the exact one: errors and flicker on rendered sequences.

    python benchmarks/live_consistency.py --data DIR [--checkpoint DIR] [--output F.json]

`dkt eval --mode both` for several settings of the live sampler, aligned per video. Every clip is
played forth and back until it has --frames frames, so that windows slide. Exact windows are as
long as the checkpoint says. Only frames that live has a depth for are compared; when --publish is
latest, those are few.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dkt_ros.datasets.registry import open_dataset
from dkt_ros.evaluation.evaluate import Methods, evaluate_video
from dkt_ros.evaluation.models import DepthModel, ExactModel
from dkt_ros.evaluation.networks import NetworkOptions, exact_model, live_model_of
from dkt_ros.evaluation.report import describe, format_difference, format_summary, write_json
from dkt_ros.evaluation.sets import SetReport
from dkt_ros.evaluation.videos import Video, VideoReader, depth_range_of
from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
from dkt_ros.model.live_options import LiveOptions

SETTINGS = {
    "quality": LiveOptions.preset("quality"),
    "balanced": LiveOptions.preset("balanced"),
    "fast": LiveOptions.preset("fast"),
    "window 2, new 1": LiveOptions(2, 1),
}


class Remembered(ExactModel):
    """The exact sampler, which computes each video once for all settings."""

    def __init__(self, model: DepthModel) -> None:
        self._model = model
        self._known: dict[str, dict[str, np.ndarray]] = {}

    def depths(self, video, truth, alignments, depth_range):  # type: ignore[no-untyped-def]
        """See DepthModel."""
        if video.name not in self._known:
            found = self._model.depths(video, truth, alignments, depth_range)
            self._known = {video.name: found}
        return self._known[video.name]


def main() -> None:
    """Prints the tables of each setting, and writes the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--publish", choices=("latest", "all"), default="latest")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    network = load_checkpoint(args.checkpoint or default_checkpoint())
    exact = Remembered(exact_model(network, NetworkOptions()))
    live = {
        name: live_model_of(
            network, dataclasses.replace(options, scene_cut=None, publish=args.publish)
        )
        for name, options in SETTINGS.items()
    }
    dataset = open_dataset(args.data)
    reader = VideoReader(dataset, with_normals=False)
    depth_range = depth_range_of(dataset.kind)
    reports = {
        name: SetReport(f"{args.data}, {name}", dataset.kind, None, depth_range, reader.skipped)
        for name in SETTINGS
    }
    for video in itertools.islice(reader, args.clips):
        clip = forth_and_back(video, args.frames)
        for name, model in live.items():
            methods = Methods((exact, model), ("video",), with_normals=False)
            reports[name].results += evaluate_video(clip, methods, depth_range, reader.skipped)
            reports[name].frames[clip.name] = len(clip)
        print(f"{video.name} done", flush=True)
    for report in reports.values():
        parts = (
            describe(report),
            format_summary(report.summary),
            format_difference(report.summary),
        )
        print("\n" + "\n\n".join(parts))
    if args.output:
        about = {
            "checkpoint": network.info.name,
            "clips": args.clips,
            "frames": args.frames,
            "publish": args.publish,
            "torch": torch.__version__,
        }
        write_json(args.output, list(reports.values()), about)


def forth_and_back(video: Video, count: int) -> Video:
    """The clip mirrored in time again and again, frames 0 1 2 1 0 1 2 ..., without raw depth."""
    period = [*range(len(video)), *range(len(video) - 2, 0, -1)]
    chosen = [period[i % len(period)] for i in range(count)]
    parts: dict[str, Any] = {
        entry.name: value[chosen]
        for entry in dataclasses.fields(video)
        if isinstance(value := getattr(video, entry.name), np.ndarray)
    }
    return dataclasses.replace(video, **(parts | {"raw": None}))


if __name__ == "__main__":
    main()
