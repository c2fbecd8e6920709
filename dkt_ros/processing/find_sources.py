"""From what a user names (paths, globs, folders of recordings) to recordings with their names."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dkt_ros.bags.reader import STORAGE_NAME
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.errors import DktError
from dkt_ros.files import PARTIAL, natural_order, shown
from dkt_ros.processing.bag_source import BagSource
from dkt_ros.processing.outcome import Outcome, ProcessingError
from dkt_ros.processing.picture_sources import ClipSource, FolderSource, is_picture_folder
from dkt_ros.processing.source import Source, SourceOptions
from dkt_ros.processing.video_sources import (
    VIDEOS,
    ArraySource,
    VideoSource,
    files_beside,
    is_clip_file,
)
from dkt_ros.wording import one_line

_log = logging.getLogger(__name__)

SUMMARY, MANIFEST = "summary.json", "manifest.json"
"""Of an output, and of all in a folder."""
_BAGS = (".bag", ".mcap", ".db3", ".zstd", ".zst", ".active")
_LONGEST = 160
_MADE = (".html", ".md", ".rrd")
_CONCERN: dict[str, tuple[str, str, tuple[type[Source], ...]]] = {
    "topics": ("--…-topic", "bag", (BagSource,)),
    "pass_through": ("--pass-through", "bag", (BagSource,)),
    "color": ("--color", "folder of pictures", (FolderSource,)),
    "depth": ("--depth-images", "folder of pictures or video", (FolderSource, VideoSource)),
    "truth": ("--truth", "folder of pictures or video", (FolderSource, VideoSource)),
    "mask": ("--mask", "folder of pictures or video", (FolderSource, VideoSource)),
    "kind": ("--data-set", "data set", (ClipSource,)),
    "split": ("--split", "data set", (ClipSource,)),
}
"""Options of some kinds of recordings alone: their flags, and which kinds those are."""
_FILES: dict[str, type[VideoSource] | type[ArraySource]] = {
    ".npz": ArraySource,
    **dict.fromkeys(VIDEOS, VideoSource),
}


@dataclass(frozen=True)
class Recording:
    """Where one recording is and what its output is called.

    clip: its name in the data set at `path`, "" elsewhere. place: that clip's folder or file.
    """

    path: Path
    name: str
    clip: str = ""
    place: Path | None = None

    @property
    def origin(self) -> str:
        """What tells it from every other recording on this machine."""
        return f"{self.path.resolve()}{f': {self.clip}' if self.clip else ''}"

    def state(self, output: Path, options: SourceOptions) -> str | None:
        """Another where its files are others, larger or written later; None where it is gone.

        output: what is made there or of outputs is none of its files, wherever either lies in the
        other. options: name files that may lie elsewhere.
        """
        place, output = self.place or self.path, output.resolve()
        digest = hashlib.sha256()
        try:
            files = [place]
            if place.is_dir():
                below = sorted(path for path in shown(place, "**/*") if path.suffix not in _MADE)
                made = self._made_in(place.resolve(), output)
                files = [p for p in below if made.isdisjoint(_and_above(p)) and p.is_file()]
            files += sorted(set(self._named(options)).difference(files))
            for file in files:
                status = file.stat()
                # Whole seconds: network drives round the rest, one way before and one after.
                told = f"{os.path.relpath(file, place)}\0{status.st_size}\0{int(status.st_mtime)}\0"
                digest.update(os.fsencode(told))
        except OSError:
            return None
        return digest.hexdigest()[:16]

    def _made_in(self, place: Path, output: Path) -> set[Path]:
        """What is made in the recording's own folder, and nothing else that lies there."""
        if place in output.parents:
            return {output}
        if place != output:
            return set()
        packed = re.compile(re.escape(self.name) + r"-\d{4,}\.tar")
        names = (self.name, self.name + PARTIAL, MANIFEST)
        return {p for p in shown(output) if p.name in names or packed.fullmatch(p.name)}

    def _named(self, options: SourceOptions) -> Iterator[Path]:
        """A video's depth, truth and masks, and what patterns match in a folder and beside it."""
        if self.kind is VideoSource:
            yield from files_beside(self.path, options)
        elif self.kind is FolderSource:
            patterns = (getattr(options, name) for name in ("color", "depth", "truth", "mask"))
            for pattern in filter(None, patterns):
                with suppress(DktError):  # as it is told when opened
                    yield from shown(self.path, pattern)

    def open(self, options: SourceOptions) -> Source:
        """The recording, ready to be read. Raises ProcessingError."""
        try:
            self.path.stat()
            if self.path.is_dir():
                shown(self.path)
            return self._opened(options)
        except OSError as error:
            why = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
            place = error.filename or self.path
            raise ProcessingError(Outcome.NOT_A_RECORDING, f"{place}: {why or error}") from error

    def _opened(self, options: SourceOptions) -> Source:
        if self.clip:
            for clip in open_dataset(self.path, options.kind):
                if clip.name == self.clip:
                    return ClipSource(clip, self.name, options)
            raise ProcessingError(
                Outcome.NOT_A_RECORDING, f"{self.path}: the data set has no clip {self.clip} now"
            )
        kind: Callable[[Path, str, SourceOptions], Source] = self.kind
        if kind is FolderSource:
            self._check_pictures(options)
        return kind(self.path, self.name, options)

    @property
    def kind(self) -> type[Source]:
        """What opens it."""
        if self.clip:
            return ClipSource
        if not os.path.isdir(self.path):
            return _FILES.get(self.path.suffix.lower(), BagSource)
        return BagSource if _is_bag(self.path) else FolderSource

    def _check_pictures(self, options: SourceOptions) -> None:
        if options.color is None and options.depth is None and not is_picture_folder(self.path):
            above = self.path.resolve().parent
            advice = "name its pictures (--color PATTERN, --depth-images PATTERN)"
            if is_picture_folder(above) and self.path.resolve() != above:
                advice = f"{above} seems to hold both: name that"
            raise ProcessingError(
                Outcome.NOT_A_RECORDING,
                f"{self.path}: neither a bag, a data set, a folder of colour and depth pictures, "
                f"nor a folder of these; {advice}",
            )


def find_recordings(
    inputs: Sequence[str | Path], options: SourceOptions, output: Path | None = None
) -> list[Recording]:
    """The recordings that are meant, each once, with names that differ.

    A name that is no path is a glob. A folder is a bag, a data set, a folder of pictures, or holds
    some of these. What cannot be read, or holds nothing, is found when it is opened. output: where
    what is made of them goes; a glob may give that too, which is none of them. Raises DktError
    where a glob gives nothing.
    """
    each: dict[tuple[Path, str], tuple[Path, str, Path | None]] = {}
    for given in inputs:
        for path in _globbed(given):
            for below, clip, place in _below(path, options):  # one may be reached in two ways
                try:
                    each.setdefault((below.resolve(), clip), (below, clip, place))
                except (RuntimeError, OSError) as error:  # from Python 3.13 on the latter
                    raise DktError(f"{below}: is a link to itself; remove it") from error
    found = list(each.values())
    if output is not None:
        # Where nothing else is named it is meant.
        found = [one for one in found if not _is_output(one[0], output)] or found
    names = _names([(path, clip) for path, clip, _ in found])
    return [
        Recording(path, name, clip, place)
        for (path, clip, place), name in zip(found, names, strict=True)
    ]


def check_concerned(recordings: Sequence[Recording], options: SourceOptions) -> None:
    """Raises DktError for an option that counts for none of them; some may be of other kinds."""
    if not all(os.path.exists(one.path) for one in recordings):  # as it is told when opened
        return
    found = {recording.kind for recording in recordings}
    for name, (flag, expected, kinds) in _CONCERN.items():
        if getattr(options, name) and not any(issubclass(kind, kinds) for kind in found):
            told = ", ".join(sorted(str(kind.kind) for kind in found))
            raise DktError(
                f"{flag} applies only to a {expected}, and none is given (found: {told}); leave "
                "it out"
            )


def _and_above(path: Path) -> tuple[Path, ...]:
    path = path.resolve()
    return (path, *path.parents)


def _is_output(path: Path, output: Path) -> bool:
    """Whether a path is the folder of outputs, and nothing else, or lies in one of them."""
    path, output = path.resolve(), output.resolve()
    if path == output:
        return path.is_dir() and not _is_bag(path) and not is_picture_folder(path)
    if output not in path.parents:
        return False
    made = output / path.relative_to(output).parts[0]
    return path != made and (made.suffix == PARTIAL or (made / SUMMARY).is_file())


def _globbed(given: str | Path) -> list[Path]:
    if given == "":
        raise DktError("an empty name was given for a recording; is a variable unset?")
    given = os.path.expanduser(given)
    if os.path.exists(given) or not glob.has_magic(given):
        return [Path(given)]
    paths = sorted(glob.glob(given, recursive=True), key=natural_order)
    if not paths:
        raise DktError(f"nothing matches {given}")
    return [Path(path) for path in paths]


def _below(path: Path, options: SourceOptions) -> Iterator[tuple[Path, str, Path | None]]:
    """What a Recording says of each but its name."""
    try:
        inside = sorted(shown(path), key=lambda item: natural_order(item.name))
    except OSError:  # a file, or a folder that cannot be listed, as it is told when opened
        inside = []
    if not inside or _is_bag(path):
        yield path, "", None
        return
    bags = [p for p in inside if (os.path.isdir(p) and _is_bag(p)) or p.suffix.lower() in _BAGS]
    if bags:
        yield from ((bag, "", None) for bag in bags)
        _tell_what_is_passed_over(path, [p for p in inside if p not in bags and _is_clip(p)])
        return
    named = options.color is not None or options.depth is not None
    if not named:
        try:
            dataset = open_dataset(path, options.kind)
        except (DktError, OSError):
            if options.kind is not None:
                raise
        else:
            yield from ((path, clip.name, clip.path) for clip in dataset.select(options.split))
            return
    if named or _is_clip(path):
        yield path, "", None
        return
    below = [p for p in inside if _is_clip(p)]
    below.sort(key=Path.is_file)
    yield from ((p, "", None) for p in below or [path])


def _is_clip(path: Path) -> bool:
    """Also where it cannot be looked into, as it is told when opened."""
    with suppress(OSError):
        return is_picture_folder(path) if os.path.isdir(path) else is_clip_file(path)
    return True


def _tell_what_is_passed_over(folder: Path, others: Sequence[Path]) -> None:
    """Beside bags lie their pictures, plots and films too: which are recordings, users know."""
    if others:
        names = ", ".join(path.name for path in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        _log.warning(
            "%s",
            one_line(
                f"{folder}: {names}{more}: passed over beside bags; name those that are meant"
            ),
        )


def _is_bag(folder: Path) -> bool:
    """Whether it is one bag; bags beside each other are not, parts NAME_0, NAME_1 … are.

    Nor is a folder that cannot be listed.
    """
    if os.path.isfile(folder / "metadata.yaml"):
        return True
    try:
        files = [p for p in shown(folder) if STORAGE_NAME.search(p.name) and os.path.isfile(p)]
    except OSError:
        return False
    stems = [_stem(p) for p in files]
    parts = [stem.rpartition("_") for stem in stems]
    names = {name + underscore for name, underscore, _ in parts}
    is_split = len(names) == 1 and "" not in names and "0" in [number for _, _, number in parts]
    return len(stems) == 1 or is_split


def _names(found: Sequence[tuple[Path, str]]) -> list[str]:
    """Short names that differ: as many of the path's last folders as that takes."""
    # Once each: a data set has thousands of clips, and the disk is asked.
    paths = dict.fromkeys(path for path, _ in found)
    resolved = {path: path.resolve() for path in paths}
    stems = {path: _stem(path) for path in paths}
    alike = Counter((path.parent, stems[path], clip) for path, clip in found)

    def name(path: Path, clip: str, parts: int) -> str:
        shown = [*resolved[path].parts[1:-1], stems[path]]
        inside = clip.replace("/", "-")
        return "-".join([*shown[-parts:], *([inside] if inside and inside != shown[-1] else [])])

    def ending(path: Path, clip: str) -> str:
        """What tells files of one folder apart: bag.db3 beside bag.mcap."""
        several = alike[path.parent, stems[path], clip] > 1
        return resolved[path].name[len(stems[path]) :].replace(".", "-") if several else ""

    names = [name(*entry, 1) + ending(*entry) for entry in found]
    for parts in range(2, 40):
        times = Counter(names)
        names = [
            name(*entry, parts) + ending(*entry) if times[one] > 1 else one
            for one, entry in zip(names, found, strict=True)
        ]
    # a-b/c and a/b-c: the whole path tells them apart, in every run alike.
    times = Counter(names)
    return [
        f"{_cut(one)}-{_digest(*entry)}" if times[one] > 1 or one != _cut(one) else one
        for one, entry in zip(names, found, strict=True)
    ]


def _cut(name: str) -> str:
    """As much of it as leaves room for endings within what a file may be called, 255 bytes."""
    content = os.fsencode(name)
    return name if len(content) <= _LONGEST else content[:_LONGEST].decode(errors="ignore")


def _digest(path: Path, clip: str) -> str:
    return hashlib.sha256(os.fsencode(f"{path.resolve()}: {clip}")).hexdigest()[:8]


def _stem(path: Path) -> str:
    """Its name without what says its kind; other dots are part of it (run.1.bag, 12.30.bag)."""
    name = path.resolve()
    while not os.path.isdir(path) and name.suffix.lower() in (*_BAGS, *_FILES):
        name = name.with_suffix("")
    return name.name
