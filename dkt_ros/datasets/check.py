"""Reads a whole data set (or some of it) and reports what it holds and what does not fit.

Knows clips and samples. Knows nothing of terminals; commands.py shows the report.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dkt_ros.datasets.dataset import Clip, Dataset
from dkt_ros.datasets.plausibility import suspicions
from dkt_ros.datasets.sample import BadFrameError
from dkt_ros.datasets.statistics import Statistics
from dkt_ros.errors import DktError

_SEED = 0
_Measured: TypeAlias = tuple[Statistics | None, tuple[str, ...]]
"""Figures of a frame, None where it cannot be used, and what does not fit."""


@dataclass
class SplitReport:
    """Counts of one split.

    clips, frames: all there are. bad_clips: those that cannot be listed. checked, bad_frames:
    frames read, and those of them that cannot be used. statistics: of the usable ones.
    """

    clips: int = 0
    bad_clips: int = 0
    frames: int = 0
    checked: int = 0
    bad_frames: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        counts = {name: value for name, value in vars(self).items() if name != "statistics"}
        return {**counts, **self.statistics.summary()}


@dataclass
class CheckReport:
    """What a data set holds; problems: one line per file that does not fit, naming it."""

    kind: str
    root: str
    splits: dict[str, SplitReport] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        splits = {name: split.as_json() for name, split in sorted(self.splits.items())}
        return {"kind": self.kind, "root": self.root, "splits": splits, "problems": self.problems}


@dataclass(frozen=True)
class Progress:
    """clips: listed so far, of `all_clips`. frames: read so far, of `all_frames`.

    all_frames is a guess, from the clips listed so far, until all are.
    """

    clips: int
    all_clips: int
    frames: int
    all_frames: int


def check_dataset(
    dataset: Dataset,
    *,
    sample: int | None = None,
    workers: int = 2,
    on_problem: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> CheckReport:
    """Reads every frame, or `sample` random ones (the same in every run), on `workers` threads.

    Every clip is listed and its shared files are read either way. Frames are dropped once measured.
    Problems are handed on in the order of the frames.
    """
    return _Check(dataset, on_problem, on_progress).run(sample, workers)


class _Check:
    def __init__(
        self,
        dataset: Dataset,
        on_problem: Callable[[str], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._dataset = dataset
        self._on_problem = on_problem
        self._on_progress = on_progress
        self._report = CheckReport(dataset.kind, str(dataset.root))
        self._seen: set[str] = set()
        self._listed = 0
        self._found = 0
        self._read = 0
        self._wanted: int | None = None
        self._sizes: dict[str, str] = {}

    def run(self, sample: int | None, workers: int) -> CheckReport:
        self._note(self._dataset.unread)
        frames = self._all_frames() if sample is None else self._sampled_frames(sample)
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[tuple[Clip, int, Future[_Measured]]] = deque()
            for clip, index in frames:
                waiting.append((clip, index, pool.submit(_measure, clip, index)))
                if len(waiting) > 2 * workers:
                    self._take(*waiting.popleft())
            while waiting:
                self._take(*waiting.popleft())
        return self._report

    def _all_frames(self) -> Iterator[tuple[Clip, int]]:
        for clip in self._dataset:
            for index in range(self._list(clip)):
                yield clip, index

    def _sampled_frames(self, sample: int) -> Iterator[tuple[Clip, int]]:
        lengths = [self._list(clip) for clip in self._dataset]
        self._wanted = min(sample, self._found)
        chosen = sorted(random.Random(_SEED).sample(range(self._found), self._wanted))
        yield from _locate(self._dataset, lengths, chosen)

    def _list(self, clip: Clip) -> int:
        split = self._report.splits.setdefault(clip.split, SplitReport())
        split.clips += 1
        try:
            count = len(clip)
            self._note(clip.problems())
        except DktError as error:
            split.bad_clips += 1
            self._note([str(error)])
            count = 0
        split.frames += count
        self._listed += 1
        self._found += count
        self._show()
        return count

    def _take(self, clip: Clip, index: int, future: Future[_Measured]) -> None:
        statistics, problems = future.result()
        split = self._report.splits[clip.split]
        split.checked += 1
        if statistics is None:
            split.bad_frames += 1
        else:
            split.statistics.add(statistics)
            if clip.is_video:
                self._compare_sizes(clip, index, *statistics.sizes)
        self._note(problems)
        self._read += 1
        self._show()

    def _compare_sizes(self, clip: Clip, index: int, size: str) -> None:
        """Notes the first frame of a video that has another size than those before it."""
        usual = self._sizes.setdefault(clip.name, size)
        if size != usual != "":
            self._sizes[clip.name] = ""
            self._note(
                [
                    f"{clip.path}: frame {clip.keys[index]} is {size}, those before it {usual}; "
                    "expected one size in a video"
                ]
            )

    def _note(self, problems: Iterable[str]) -> None:
        for problem in problems:
            if problem not in self._seen:  # one file can serve several clips
                self._seen.add(problem)
                self._report.problems.append(problem)
                self._on_problem(problem)

    def _show(self) -> None:
        clips = len(self._dataset)
        frames = self._wanted
        if frames is None:
            frames = round(self._found / max(self._listed, 1) * clips)
        self._on_progress(Progress(self._listed, clips, self._read, frames))


def _measure(clip: Clip, index: int) -> _Measured:
    try:
        sample = clip.read(index)
    except BadFrameError as error:
        return None, error.problems
    except DktError as error:
        return None, (str(error),)
    return Statistics.of(sample), (*sample.remarks, *suspicions(sample))


def _locate(
    clips: Iterable[Clip], lengths: Iterable[int], positions: Iterable[int]
) -> Iterator[tuple[Clip, int]]:
    """Positions (rising) in the row of all frames, as clip and index."""
    ends = iter(zip(clips, lengths, strict=True))
    clip, length = next(ends)
    start = 0
    for position in positions:
        while position >= start + length:
            start += length
            clip, length = next(ends)
        yield clip, position - start
