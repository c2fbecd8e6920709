"""One data set measured from its first video to its last, and what it lacks.

Knows what a whole set's results are made of. Knows nothing of tables or files of results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dkt_ros.datasets.iterate import Skipped
from dkt_ros.errors import DktError
from dkt_ros.evaluation.evaluate import (
    TRUTH,
    Methods,
    Result,
    Summary,
    evaluate_video,
    rows_of_raw,
    summarise,
)
from dkt_ros.evaluation.long_runs import Curve, long_runs, mean_curves
from dkt_ros.evaluation.models import PredictorModel
from dkt_ros.evaluation.videos import Video, VideoReader
from dkt_ros.wording import counted


@dataclass
class SetReport:
    """One data set's results.

    depth_range: metres. frames: video to how many of its frames were measured. left_out: frames
    that --stride and --max-frames passed over. skipped names what could not be read or measured.
    notes: what the set lacks, and so which figures. long_runs: model to error over time in runs of
    that many frames, by what was shown; where those were asked for.
    """

    data: str
    kind: str
    split: str | None
    depth_range: tuple[float, float]
    skipped: Skipped
    results: list[Result] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    long_runs: dict[str, dict[str, Curve]] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        """The mean over the set's videos."""
        return summarise(self.results)


def evaluate_set(
    reader: VideoReader,
    methods: Methods,
    depth_range: tuple[float, float],
    on_video: Callable[[int, str, int], None] = lambda clips, name, frames: None,
) -> SetReport:
    """Every video of the reader by every method.

    on_video(clips begun, name of the video just measured, frames measured in all) is called after
    each. What cannot be read or measured is skipped and named in the report.
    """
    dataset = reader.dataset
    report = SetReport(
        str(dataset.root), dataset.kind, reader.split, depth_range, skipped=reader.skipped
    )
    parts = _Parts()
    runs: dict[str, list[dict[str, Curve]]] = {}
    for number, clip in enumerate(reader.clips, 1):
        for video in reader.videos_of(clip):
            results = evaluate_video(video, methods, depth_range, reader.skipped)
            if results:
                report.results += results
                report.frames[video.name] = len(video)
                parts.add(video, [result.method for result in results])
                for model in methods.models if methods.long_run else ():
                    if not isinstance(model, PredictorModel):
                        continue
                    try:
                        run = long_runs(model.predictor, video, methods.long_run, depth_range)
                    except DktError as error:
                        reader.skipped.add(f"{video.name}, {model.name}, long run", str(error))
                        continue
                    runs.setdefault(model.name, []).append(run)
            on_video(number, video.name, sum(report.frames.values()))
    report.long_runs = {name: mean_curves(found) for name, found in runs.items()}
    report.left_out = reader.left_out
    report.notes = [*parts.notes(methods), *parts.failed(methods), *reader.remarks]
    return report


class _Parts:
    """Counts what the videos of a set have, and how many have which row."""

    def __init__(self) -> None:
        self._videos = 0
        self._reflective = False
        self._have = dict.fromkeys(("raw", "classes", "poses", "normals"), 0)
        self._longest = 0
        self._rows: Counter[str] = Counter()

    def add(self, video: Video, rows: Sequence[str]) -> None:
        self._videos += 1
        self._rows.update(row for row in rows if row != TRUTH)
        self._reflective |= video.reflective
        self._longest = max(self._longest, len(video))
        posed = video.camera_matrices is not None and video.world_to_camera is not None
        for part, has in (
            ("raw", video.raw is not None),
            ("classes", video.classes is not None),
            ("poses", posed),
            ("normals", video.normals is not None and bool(np.any(video.normals))),
        ):
            self._have[part] += has

    def notes(self, methods: Methods) -> list[str]:
        """One line for each part that videos lack."""
        if not self._videos:
            return ["nothing could be measured"]
        lines = []
        lacking = {
            "raw": "no raw depth: no baselines, no online alignment",
            "classes": "no masks: all pixels only",
            "poses": "no camera poses: no TAE",
            "normals": "no true normals",
        }
        if self._longest == 1:
            lacking["poses"] = "pictures, no videos: aligned one by one, no TAE"
        if not methods.with_normals:
            del lacking["normals"]
        for part, text in lacking.items():
            missing = self._videos - self._have[part]
            if part == "poses" and self._longest == 1:
                missing = self._videos
            if missing:
                where = "" if missing == self._videos else f"{missing} of {self._videos} videos: "
                lines.append(where + text)
        if self._have["classes"] and not self._reflective:
            lines.append("masks do not tell transparent from reflective")
        return lines

    def failed(self, methods: Methods) -> list[str]:
        """A line for rows that some videos lack which could have one."""
        short = dict[str, list[str]]()
        of_raw = rows_of_raw(methods.models)
        for row, count in self._rows.items():
            possible = self._have["raw"] if row in of_raw else self._videos
            if count < possible:
                short.setdefault(f"{count} of {counted(possible, 'video')}", []).append(row)
        return [f"means over {share} alone: {'; '.join(rows)}" for share, rows in short.items()]
