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
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from dkt_ros.datasets.registry import open_dataset  # noqa: E402
from dkt_ros.evaluation.evaluate import Methods, evaluate_video  # noqa: E402
from dkt_ros.evaluation.models import Depths, PredictorModel  # noqa: E402
from dkt_ros.evaluation.report import describe, format_difference, format_summary, write_json  # noqa: E402
from dkt_ros.evaluation.sets import SetReport  # noqa: E402
from dkt_ros.evaluation.videos import Video, VideoReader, depth_range_of  # noqa: E402
from dkt_ros.model.live_options import PRESETS, PUBLISH, LiveOptions  # noqa: E402
from dkt_ros.predict.clip import ClipPredictor  # noqa: E402
from dkt_ros.predict.load import load_predictor  # noqa: E402
from dkt_ros.predict.options import PredictorOptions  # noqa: E402
from dkt_ros.predict.stream import StreamPredictor  # noqa: E402


class Short(PredictorOptions):
    """Windows shorter than any preset's: two latent frames, of which one is new."""

    @property
    def live(self) -> LiveOptions:
        """See PredictorOptions."""
        return dataclasses.replace(super().live, window=2, new=1)


def settings(publish: str) -> dict[str, PredictorOptions]:
    """What is compared with the exact sampler, by name."""
    common: dict[str, Any] = {"mode": "live", "live_publish": publish, "live_scene_cut": 1}
    common["live_min_agreement"] = 0  # random networks agree with nothing
    presets = {name: PredictorOptions(live_preset=name, **common) for name in PRESETS}
    return presets | {"window 2, new 1": Short(**common)}


class Remembered(PredictorModel):
    """The exact sampler, which computes each video once for all settings."""

    _known: tuple[str, dict[str, Depths]] = "", {}

    def depths(
        self,
        video: Video,
        truth: np.ndarray,
        alignments: Sequence[str],
        depth_range: tuple[float, float],
    ) -> dict[str, Depths]:
        """See DepthModel."""
        if video.name != self._known[0]:
            self._known = video.name, super().depths(video, truth, alignments, depth_range)
        return self._known[1]


def main() -> None:
    """Prints the tables of each setting, and writes the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default="")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--publish", choices=PUBLISH, default="latest")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    predictor = load_predictor(PredictorOptions(checkpoint=args.checkpoint, device="cpu"))
    assert isinstance(predictor, ClipPredictor)
    exact = Remembered("dkt exact", predictor)
    live = {
        name: PredictorModel("dkt live", StreamPredictor(predictor.network, options))
        for name, options in settings(args.publish).items()
    }
    dataset = open_dataset(args.data)
    reader = VideoReader(dataset, with_normals=False)
    depth_range = depth_range_of(dataset.kind)
    reports = {
        name: SetReport(f"{args.data}, {name}", dataset.kind, None, depth_range, reader.skipped)
        for name in live
    }
    for video in itertools.islice(reader, args.clips):
        clip = forth_and_back(video, args.frames)
        for name, model in live.items():
            methods = Methods((exact, model), ("video",), with_normals=False)
            reports[name].results += evaluate_video(clip, methods, depth_range, reader.skipped)
            reports[name].frames[clip.name] = len(clip)
        print(f"{video.name} done", flush=True)
    for name, report in reports.items():
        difference = format_difference(report.summary, (exact, live[name]))
        parts = (describe(report), format_summary(report.summary), difference)
        print("\n" + "\n\n".join(parts))
    if args.output:
        about = {
            "checkpoint": predictor.info.name,
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
