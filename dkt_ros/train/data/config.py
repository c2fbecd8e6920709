"""What a recipe may say about its training data, checked field by field.

Knows the fields, their ranges and their defaults. Knows nothing of files, tensors or the trainer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dkt_ros.checks import check
from dkt_ros.datasets.registry import KINDS
from dkt_ros.train.fields import above_zero, at_least, build, shares

AUTO = "auto"
SPLITS = (AUTO, "any", "train", "val", "test", "all")


@dataclass(frozen=True)
class SourceConfig:
    """One data set of the mixture.

    path: its folder. kind: a layout's name (`dkt data check` prints them), auto finds out.
    split: train, val, test, all (clips in no split's folder) or any; auto takes train where the set
    has one, else what lies in no split's folder, never val or test.
    weight: how often it is drawn from, in relation to the other sets.
    still: true makes single pictures of a video, false says that pictures of a folder follow each
    other in time; auto believes the layout.
    depth_range: metres; true depth outside counts as unknown.
    """

    path: str
    kind: str = AUTO
    split: str = AUTO
    weight: float = 1.0
    still: Literal["auto", True, False] = "auto"
    depth_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        known = (AUTO, *KINDS)
        check("kind", self.kind, f"one of {', '.join(known)}", self.kind in known)
        check("split", self.split, f"one of {', '.join(SPLITS)}", self.split in SPLITS)
        above_zero(self, "weight")
        limits = self.depth_range
        valid = limits is None or 0 < limits[0] < limits[1]
        check("depth_range", limits, "[nearest, farthest] in metres, both above 0", valid)


@dataclass(frozen=True)
class AugmentationConfig:
    """How samples are varied; the same for all frames of a clip. Nothing of it is published.

    flip: mirrors every other sample, RGB and depth. crop: side of the smallest cut-out, as a share
    of the largest box of the training size's aspect ratio; 1 cuts nothing but the margin.
    RGB alone: brightness, contrast, saturation: largest change of the factor 1. hue: largest
    rotation, in turns.
    variants: so many variants of each window exist, which are encoded once and kept in the cache;
    0 draws a new one every time and caches nothing.
    window_stride: frames between the starts of neighbouring windows of a video. 0: as many as the
    window has, so that windows do not overlap and are soon cached; without a cache every start.
    """

    flip: bool = True
    crop: float = 0.75
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    variants: int = 4
    window_stride: int = 0

    def __post_init__(self) -> None:
        check("crop", self.crop, "a share from 0.1 to 1", 0.1 <= self.crop <= 1)
        for name, most in (("brightness", 0.9), ("contrast", 0.9), ("saturation", 1), ("hue", 0.5)):
            value = getattr(self, name)
            check(name, value, f"a number from 0 to {most}", 0 <= value <= most)
        at_least(0, self, "variants", "window_stride")


@dataclass(frozen=True)
class DisparityConfig:
    """Percentiles of a clip's disparity that become -1 and 1; what lies beyond is clamped."""

    low_percentile: float = 2.0
    high_percentile: float = 98.0

    def __post_init__(self) -> None:
        for name in ("low_percentile", "high_percentile"):
            value = getattr(self, name)
            check(name, value, "a number from 0 to 100", 0 <= value <= 100)
        expected = f"above low_percentile ({self.low_percentile:g})"
        above = self.high_percentile > self.low_percentile
        check("high_percentile", self.high_percentile, expected, above)


@dataclass(frozen=True)
class DataConfig:
    """All that decides which samples there are.

    data: the mixture. size: [height, width] in pixels that the network is trained at, multiples of
    16. validation: data sets that previews are drawn from; without any, the mixture's val split, or
    else its test split, or else what is trained on. cache: folder of the encoded samples, None
    leaves it to the caller. condition: "raw_depth" encodes the raw depth of sets that have it too
    (model/condition.py), made to err at random; "from_raw_depth": the same, and the flow begins
    there instead of at noise; "none". condition_dropped: share of samples that come without.
    """

    data: tuple[SourceConfig, ...]
    size: tuple[int, int]
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    disparity: DisparityConfig = field(default_factory=DisparityConfig)
    validation: tuple[SourceConfig, ...] = ()
    cache: str | None = None
    condition: Literal["none", "raw_depth", "from_raw_depth"] = "none"
    condition_dropped: float = 0.2

    def __post_init__(self) -> None:
        check("data", self.data, "at least one data set", len(self.data) > 0)
        shares(self, "condition_dropped")
        valid = all(side > 0 and side % 16 == 0 for side in self.size)
        check("size", list(self.size), "[height, width], multiples of 16", valid)

    @property
    def shows_depth(self) -> bool:
        """Whether the network learns to be shown raw depth."""
        return self.condition != "none"

    @property
    def conditioned(self) -> float:
        """Share of samples that come with their raw depth, where their set has any."""
        return 1.0 - self.condition_dropped if self.shows_depth else 0.0


DATA_FIELDS = tuple(entry.name for entry in dataclasses.fields(DataConfig))
"""The keys of a recipe that parse_data takes."""


def parse_data(values: Mapping[str, Any]) -> DataConfig:
    """Builds the configuration from the recipe's parsed YAML, its keys DATA_FIELDS alone.

    Raises DktError naming the field that is unknown, missing, of another type or out of range.
    """
    return build(DataConfig, dict(values))
