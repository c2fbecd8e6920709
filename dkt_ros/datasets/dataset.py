"""A data set as a sequence of clips, each a sequence of frames read one at a time.

Knows names, splits and frame keys. Knows nothing of any layout; each layout has a module of its
own, registry.open_dataset finds the one that fits.
"""

from __future__ import annotations

import abc
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from dkt_ros.datasets.sample import Sample
from dkt_ros.errors import DktError
from dkt_ros.files import natural_order
from dkt_ros.wording import counted

UNSPLIT = "all"
"""The split of clips that lie in no folder named train, val or test."""

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
    "test": "test",
    "testing": "test",
}


class Clip(abc.ABC):
    """Frames that belong together: a video, or pictures of one scene.

    path: the folder or file that holds it.
    name: unique in its data set, the path below the data set's folder.
    split: "train", "val", "test" or UNSPLIT.
    is_video: whether neighbouring frames are neighbours in time.
    """

    def __init__(self, path: Path, name: str, split: str, is_video: bool) -> None:
        self.path = path
        self.name = name
        self.split = split
        self.is_video = is_video

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The frames' names in order, listed when first asked for.

        Raises DktError where the clip as a whole is unusable (a corrupt tar, no frame).
        """
        keys = tuple(sorted(self._list_keys(), key=natural_order))
        if not keys:
            raise DktError(f"{self.path}: holds no frame")
        return keys

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int, *, with_normal: bool = True) -> Sample:
        """One frame by its position; without normals where they are not wanted (they cost time).

        Raises BadFrameError naming every file that does not fit.
        """
        return self._read(self.keys[index], with_normal)

    def problems(self) -> tuple[str, ...]:
        """What is wrong with files that serve the whole clip, each line naming its file.

        For a video this includes breaks in the numbering of its frames.
        """
        return numbering_breaks(str(self.path), self.keys) if self.is_video else ()

    def _file(self, key: str, ending: str) -> Path:
        """A frame's file in the clip's folder."""
        return self.path / f"{key}{ending}"

    @abc.abstractmethod
    def _list_keys(self) -> Iterable[str]: ...

    @abc.abstractmethod
    def _read(self, key: str, with_normal: bool) -> Sample: ...


class Dataset(Sequence[Clip]):
    """The clips found below one folder.

    kind: the layout's name. root: the folder. unread: a line for each folder below it that could
    not be listed.
    """

    def __init__(self, kind: str, root: Path, clips: Iterable[Clip], unread: Iterable[str]) -> None:
        self.kind = kind
        self.unread = tuple(unread)
        self.root = root
        self.clips = tuple(sorted(clips, key=lambda clip: natural_order(clip.name)))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # int or slice, as of a tuple
        return self.clips[index]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in alphabetical order."""
        return tuple(sorted({clip.split for clip in self.clips}))

    def select(self, split: str | None) -> tuple[Clip, ...]:
        """The clips of a split, all for None; DktError where there are none."""
        chosen = tuple(clip for clip in self.clips if split in (None, clip.split))
        if not chosen:
            raise DktError(
                f"{self.root}: no clip of split {split!r}; found {', '.join(self.splits)}"
            )
        return chosen


def split_of(parts: Iterable[str]) -> str:
    """The split that a path's folders name, the innermost counting; UNSPLIT where none does."""
    named = [_SPLIT_FOLDERS[name] for part in parts if (name := part.lower()) in _SPLIT_FOLDERS]
    return named[-1] if named else UNSPLIT


def numbering_breaks(path: str, keys: Sequence[str]) -> tuple[str, ...]:
    """One line where a video's frame numbers (the last in each key) leave their usual step."""
    usual, breaks = unusual_steps(keys)
    if not breaks:
        return ()
    return (
        f"{path}: frame numbers go by {usual}, but not at {counted(len(breaks), 'place')}, first "
        f"between {keys[breaks[0] - 1]} and {keys[breaks[0]]}; a window across such a place is "
        "no video",
    )


def unusual_steps(keys: Sequence[str]) -> tuple[int, tuple[int, ...]]:
    """The usual step of a video's frame numbers, and the positions of frames not that step on."""
    found = [re.findall(r"\d+", key) for key in keys]
    if len(keys) < 3 or not all(found):
        return 1, ()
    numbers = [int(digits[-1]) for digits in found]
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    usual, _ = Counter(steps).most_common(1)[0]
    return usual, tuple(place for place, step in enumerate(steps, 1) if step != usual)
