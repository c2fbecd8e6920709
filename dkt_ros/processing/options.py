"""How recordings are processed: one frozen dataclass."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.estimator import EstimatorConfig
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.processing.formats import COLORS, FILE_FORMATS
from dkt_ros.processing.source import SourceOptions


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

    @property
    def fingerprint(self) -> str:
        """The same for options that give the same output."""
        content = self.plain
        del content["part_frames"]
        del content["predictor"]["cpu_threads"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
