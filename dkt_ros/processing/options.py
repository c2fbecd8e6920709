"""How recordings are processed: one frozen dataclass."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import getitem
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.estimator import EstimatorConfig
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.processing.formats import COLORS, FILE_FORMATS
from dkt_ros.processing.source import SourceOptions

_FREE = ("part_frames", "predictor.cpu_threads")
"""Options that the output does not depend on."""


@dataclass(frozen=True)
class ProcessOptions:
    """What `dkt process` does with each recording.

    bag          whether a bag is written; color: how /dkt/color is; points: whether /dkt/points is
    files        of FILE_FORMATS
    max_frames   no more of each recording; None: all
    part_frames  so many frames are on the disk for good at a time
    """

    predictor: PredictorOptions = field(default_factory=PredictorOptions)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    source: SourceOptions = field(default_factory=SourceOptions)
    bag: bool = True
    files: tuple[str, ...] = ()
    color: str = COLORS[0]
    points: bool = False
    max_frames: int | None = None
    part_frames: int = 300

    def __post_init__(self) -> None:
        for kind in self.files:
            if kind not in FILE_FORMATS:
                raise DktError(
                    f"format is {kind!r}, expected one of bag, {', '.join(FILE_FORMATS)}"
                )
        if self.color not in COLORS:
            raise DktError(f"color is {self.color!r}, expected one of {', '.join(COLORS)}")
        if self.part_frames < 1 or (self.max_frames is not None and self.max_frames < 1):
            raise DktError("part_frames and max_frames: expected at least 1")

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dict(json.loads(json.dumps(asdict(self), default=str)))

    def unlike(self, told: object) -> str:
        """Which of them an earlier run had otherwise, " (NAME VALUE, now VALUE; ...)" or "".

        told: its `plain`, or whatever a file has in its place.
        """
        before, now = dict(_flat(told)), dict(_flat(self.plain))
        now |= {name: None for name, value in now.items() if value == math.inf}  # as files hold it
        names = [name for name in now if name in before and before[name] != now[name]]
        found = [f"{n} {before[n]}, now {now[n]}" for n in names if n not in _FREE]
        return f" ({'; '.join(found)})" if found else ""

    @property
    def fingerprint(self) -> str:
        """The same for options that give the same output."""
        content = self.plain
        for name in _FREE:
            *groups, last = name.split(".")
            del reduce(getitem, groups, content)[last]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """What nested mappings hold, by names with dots."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, item in value.items():
        yield from _flat(item, f"{name}.{key}".lstrip("."))
