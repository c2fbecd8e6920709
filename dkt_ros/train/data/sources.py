"""The mixture of data sets: which window of which clip a sample is drawn from, and its frames.

Knows data sets, weights and what has turned out to be unusable. Knows nothing of tensors, sizes or
augmentation. Frames are read when asked for and not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TypeVar

import numpy as np

from dkt_ros.datasets.dataset import UNSPLIT, Clip, Dataset, unusual_steps
from dkt_ros.datasets.iterate import Skipped
from dkt_ros.datasets.plausibility import Suspects
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.model.latent_frames import FRAMES_PER_LATENT
from dkt_ros.train.data.config import AUTO, SourceConfig
from dkt_ros.wording import counted

T = TypeVar("T")
_LOOKED_AT = 3


@dataclass(frozen=True)
class Window:
    """Frames start to start + frames - 1 of a clip, from the set at that place of the mixture."""

    source: int
    clip: Clip
    start: int
    frames: int

    @property
    def keys(self) -> tuple[str, ...]:
        """The frames' names."""
        return self.clip.keys[self.start : self.start + self.frames]

    def __str__(self) -> str:
        # Not what a frame of it is called: one cut-out may be unusable where another is of use.
        keys = self.keys
        span = f"frame {keys[0]}" if self.frames == 1 else f"frames {keys[0]} to {keys[-1]}"
        return f"{_named(self.clip)}: window of {span}"


class Source:
    """One data set of the mixture.

    kind: its layout. clips: those of the chosen split. depth_range, weight: as configured.
    has_video: whether any of them is one.
    """

    def __init__(self, config: SourceConfig) -> None:
        """Opens the data set; DktError where there is none or it has no clip of that split."""
        dataset = open_dataset(config.path, None if config.kind == AUTO else config.kind)
        self.kind, self.root = dataset.kind, dataset.root
        self.clips = _chosen(dataset, config.split)
        self.weight, self.depth_range = float(config.weight), config.depth_range
        self._still = config.still
        self.has_video = any(self.is_video(clip) for clip in self.clips)
        self._steady: dict[Clip, tuple[int, ...]] = {}

    def is_video(self, clip: Clip) -> bool:
        """Whether windows of more than one frame may be taken."""
        return clip.is_video if self._still == AUTO else not self._still

    def starts(self, clip: Clip, frames: int, stride: int) -> tuple[int, ...]:
        """First frames of the clip's windows, `stride` apart and one that ends with the clip.

        None where the clip is too short or no video, and none across a break in the numbering of
        its frames. Raises DktError where the clip cannot be listed.
        """
        if frames > 1 and not self.is_video(clip):
            return ()
        last = len(clip) - frames
        if last < 0:
            return ()
        starts = [*range(0, last, stride), last]
        if frames == 1:
            return tuple(starts)
        if clip not in self._steady:
            self._steady[clip] = unusual_steps(clip.keys)[1]
        breaks = self._steady[clip]
        return tuple(s for s in starts if not any(s < b < s + frames for b in breaks))


class Mixture:
    """Draws windows from several sources and reads them.

    skipped: frames, windows and clips that did not fit, with the reason; drawn again, they count
    again. It tells and decides nothing: which frames are usable depends on their files alone, so
    that the same candidates are passed over whatever was read before.
    """

    def __init__(
        self, sources: Sequence[SourceConfig], stride: Callable[[int], int], threads: int
    ) -> None:
        """stride: frames between windows of so many frames. threads: that read a window's frames.

        Raises DktError where a data set cannot be opened.
        """
        self.sources = tuple(Source(config) for config in sources)
        self.skipped = Skipped()
        self._bad_frames: dict[tuple[int, str, str], str] = {}
        self._bad_clips: dict[tuple[int, str], str] = {}
        self._stride = stride
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dkt-read")

    def candidates(self, random: np.random.Generator, frames: int) -> Iterator[Window]:
        """Windows in the order in which they are to be tried; the first usable one is the sample.

        A source is drawn by weight, of it a clip and of that a window, each as likely as the next;
        every window of the source comes up in the end, then those of the other sources. A single
        frame may come from any clip, several from videos alone.
        """
        left = [i for i, source in enumerate(self.sources) if frames == 1 or source.has_video]
        while left:
            weights = np.array([self.sources[index].weight for index in left])
            index = left.pop(int(random.choice(len(left), p=weights / weights.sum())))
            yield from self._windows(index, random, frames)

    def summary(self, with_frames: bool = False) -> list[str]:
        """A line per source; with_frames: counts them, which lists every clip."""
        total = sum(source.weight for source in self.sources)
        lines = []
        for source in self.sources:
            frames = (
                f" of {counted(sum(map(_frames, source.clips)), 'frame')}" if with_frames else ""
            )
            share = f"{source.weight / total:.0%} of the samples"
            lines.append(
                f"{source.root}: {source.kind}, {counted(len(source.clips), 'clip')}{frames}, "
                f"{share}"
            )
        return lines

    def require(self, frames: int) -> None:
        """Raises DktError where no clip is long enough for such a window; reads no frame."""
        if not self._offers(frames):
            shorter = range(frames - FRAMES_PER_LATENT, 0, -FRAMES_PER_LATENT)
            raise self.nothing_left(frames, next(filter(self._offers, shorter), 0))

    def has_raw_depth(self) -> bool:
        """Whether the first frame of any clip has; reads such frames until one has."""
        clips = (clip for source in self.sources for clip in source.clips if _frames(clip))
        return any(_view(clip, lambda one: one.raw_depth is not None, 0) is True for clip in clips)

    def suspicions(self) -> list[str]:
        """What the first frames of each source's first clips give away as wrong, each kind once."""
        told = []
        for source in self.sources:
            suspects = Suspects()
            for clip in [clip for clip in source.clips if _frames(clip)][:_LOOKED_AT]:
                found = _view(clip, suspects.of_learned, 0)
                told += [] if isinstance(found, _Unreadable) else found
        return told

    def shared(self) -> list[str]:
        """A line for each two sources that have clips in common, which come up the more often."""
        clips = [
            {(clip.path.resolve(), clip.name.rpartition("/")[2]) for clip in source.clips}
            for source in self.sources
        ]
        return [
            f"data.{one} and data.{other} have {counted(len(both), 'clip')} in common, such as "
            f"{min(both)[0]}: these come up the more often; name each set once, with its weight"
            for one, other in combinations(range(len(clips)), 2)
            if (both := clips[one] & clips[other])
        ]

    def nothing_left(self, frames: int, offered: int = 0) -> DktError:
        """What to raise when all candidates have failed. offered: the longest windows there are."""
        roots = ", ".join(str(source.root) for source in self.sources)
        wanted = "a usable frame" if frames == 1 else f"{frames} usable frames of a video"
        advice = "" if frames == 1 else ", add longer videos or lower latent_frames"
        if offered:
            most = (offered - 1) // FRAMES_PER_LATENT + 1
            advice += f": the longest give {offered}, latent_frames of {most} at most"
        return DktError(
            f"{roots}: no clip offers {wanted} ({self.skipped}); check them with `dkt data check`"
            + advice
        )

    def read(self, window: Window, view: Callable[[Sample], T]) -> list[T] | None:
        """What `view` makes of each frame of the window; None where one of them does not fit.

        `view` runs in several threads; what it raises is raised. Only these frames are decoded,
        each gone when viewed.
        """
        frames = [(window.source, window.clip.name, key) for key in window.keys]
        if not any(frame in self._bad_frames for frame in frames):
            span = range(window.start, window.start + window.frames)
            found = list(self._pool.map(partial(_view, window.clip, view), span))
            views = [result for result in found if not isinstance(result, _Unreadable)]
            if len(views) == len(found):
                return views
            for frame, result in zip(frames, found, strict=True):
                if isinstance(result, _Unreadable):
                    self._bad_frames[frame] = result.why
        for frame in frames:
            if frame in self._bad_frames:
                name = f"{_named(window.clip)}: frame {frame[-1]}"
                self.skipped.add(name, self._bad_frames[frame])
        return None

    def close(self) -> None:
        """Ends the reading threads."""
        self._pool.shutdown()

    def _windows(self, index: int, random: np.random.Generator, frames: int) -> Iterator[Window]:
        source = self.sources[index]
        tried = {}
        for place in random.permutation(len(source.clips)):
            clip = source.clips[place]
            starts = self._starts(index, clip, frames)
            if starts:
                tried[clip] = starts[int(random.integers(len(starts)))]
                yield Window(index, clip, tried[clip], frames)
        for clip, first in tried.items():
            starts = self._starts(index, clip, frames)
            for place in random.permutation(len(starts)):
                if starts[place] != first:
                    yield Window(index, clip, starts[place], frames)

    def _offers(self, frames: int) -> bool:
        return next(self.candidates(np.random.default_rng(0), frames), None) is not None

    def _starts(self, index: int, clip: Clip, frames: int) -> tuple[int, ...]:
        known_bad = self._bad_clips.get((index, clip.name))
        if known_bad is None:
            try:
                return self.sources[index].starts(clip, frames, self._stride(frames))
            except DktError as error:
                known_bad = self._bad_clips[index, clip.name] = str(error)
        self.skipped.add(_named(clip), known_bad)
        return ()


@dataclass(frozen=True)
class _Unreadable:
    why: str


def _view(clip: Clip, view: Callable[[Sample], T], index: int) -> T | _Unreadable:
    try:
        sample = clip.read(index, with_normal=False)
    except DktError as error:
        return _Unreadable(str(error))
    return view(sample)


def _frames(clip: Clip) -> int:
    """How many it has; 0 where it cannot be listed, which `require` has told."""
    try:
        return len(clip)
    except DktError:
        return 0


def _named(clip: Clip) -> str:
    """Where a clip is; what the name ends in too where the path has it not (a scene's cameras)."""
    last = clip.name.rpartition("/")[2]
    return str(clip.path) if last in (clip.path.name, clip.path.stem) else f"{clip.path} ({last})"


def _chosen(dataset: Dataset, split: str) -> tuple[Clip, ...]:
    if split == AUTO:
        split = "train" if "train" in dataset.splits else UNSPLIT
        if split not in dataset.splits:
            raise DktError(
                f"{dataset.root}: holds only {' and '.join(dataset.splits)} data; to train on it, "
                f"set split: {dataset.splits[0]} (or any)"
            )
    return dataset.select(None if split == "any" else split)
