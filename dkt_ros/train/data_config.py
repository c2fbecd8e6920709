"""What a recipe may say about its training data, checked field by field.

Knows the fields, their ranges and their defaults. Knows nothing of files, tensors or the trainer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dkt_ros.datasets.registry import KINDS
from dkt_ros.errors import DktError

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
    still: bool | str = AUTO
    depth_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check("path", self.path, "a folder", isinstance(self.path, str) and self.path)
        check("kind", self.kind, f"auto or one of {', '.join(KINDS)}", self.kind in (AUTO, *KINDS))
        check("split", self.split, f"one of {', '.join(SPLITS)}", self.split in SPLITS)
        check("weight", self.weight, "a number above 0", number(self.weight) and self.weight > 0)
        still = self.still == AUTO or isinstance(self.still, bool)
        check("still", self.still, "auto, true or false", still)
        limits = self.depth_range
        valid = limits is None or (_pair(limits, number) and 0 < limits[0] < limits[1])
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
        check("augmentation.flip", self.flip, "true or false", isinstance(self.flip, bool))
        valid = number(self.crop) and 0.1 <= self.crop <= 1
        check("augmentation.crop", self.crop, "a share from 0.1 to 1", valid)
        for name, most in (("brightness", 0.9), ("contrast", 0.9), ("saturation", 1), ("hue", 0.5)):
            value = getattr(self, name)
            valid = number(value) and 0 <= value <= most
            check(f"augmentation.{name}", value, f"a number from 0 to {most}", valid)
        for name in ("variants", "window_stride"):
            value = getattr(self, name)
            check(f"augmentation.{name}", value, "an integer, 0 or more", whole(value))


@dataclass(frozen=True)
class DisparityConfig:
    """Percentiles of a clip's disparity that become -1 and 1; what lies beyond is clamped."""

    low_percentile: float = 2.0
    high_percentile: float = 98.0

    def __post_init__(self) -> None:
        for name in ("low_percentile", "high_percentile"):
            value = getattr(self, name)
            valid = number(value) and 0 <= value <= 100
            check(f"disparity.{name}", value, "a number from 0 to 100", valid)
        expected = f"above low_percentile ({self.low_percentile:g})"
        above = self.high_percentile > self.low_percentile
        check("disparity.high_percentile", self.high_percentile, expected, above)


@dataclass(frozen=True)
class DataConfig:
    """All that decides which samples there are.

    data: the mixture. size: [height, width] in pixels that the network is trained at, multiples of
    16. validation: data sets that previews are drawn from; without any, the mixture's val split, or
    else its test split, or else what is trained on. cache: folder of the encoded samples, None
    leaves it to the caller.
    """

    data: tuple[SourceConfig, ...]
    size: tuple[int, int]
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    disparity: DisparityConfig = field(default_factory=DisparityConfig)
    validation: tuple[SourceConfig, ...] = ()
    cache: str | None = None

    def __post_init__(self) -> None:
        check("data", self.data, "at least one data set", len(self.data) > 0)
        valid = _pair(self.size, whole) and all(side > 0 and side % 16 == 0 for side in self.size)
        check("size", self.size, "[height, width], multiples of 16", valid)
        valid = self.cache is None or (isinstance(self.cache, str) and bool(self.cache))
        check("cache", self.cache, "a folder", valid)


DATA_FIELDS = tuple(entry.name for entry in dataclasses.fields(DataConfig))
"""The keys of a recipe that parse_data takes."""


def parse_data(values: Mapping[str, Any]) -> DataConfig:
    """Builds the configuration from the recipe's parsed YAML, its keys DATA_FIELDS alone.

    Raises DktError naming the field that is unknown, missing, of another type or out of range.
    """
    values = dict(values)
    for name in ("data", "validation"):
        if name in values:
            values[name] = _parse_sources(name, values[name])
    for name, kind in (("augmentation", AugmentationConfig), ("disparity", DisparityConfig)):
        if name in values:
            values[name] = _build(kind, f"{name}.", values[name])
    built: DataConfig = _build(DataConfig, "", values)
    return built


def check(name: str, value: object, expected: str, valid: object) -> None:
    """Raises the DktError that says what a field is and what it should be, unless valid."""
    if not valid:
        raise DktError(f"{name} is {value!r}, expected {expected}")


def number(value: object) -> bool:
    """A finite int or float; YAML's true and false are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return value == value and abs(value) != float("inf")


def whole(value: object) -> bool:
    """An integer, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _parse_sources(name: str, content: Any) -> tuple[SourceConfig, ...]:
    if not isinstance(content, list):
        raise DktError(f"{name} is {content!r}, expected a list of data sets")
    sources = []
    for index, entry in enumerate(content):
        _check_mapping(f"{name}[{index}]", entry)
        try:
            sources.append(_build(SourceConfig, "", entry))
        except DktError as error:
            raise DktError(f"{name}[{index}].{error}") from error
    return tuple(sources)


def _pair(value: Any, valid: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(valid(item) for item in value)


def _check_mapping(name: str, content: object) -> None:
    check(name, content, "fields with values", isinstance(content, Mapping))


def _build(kind: Any, prefix: str, content: Any) -> Any:
    _check_mapping(prefix.rstrip(".") or "the data", content)
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    for key in content:
        if key not in known:
            raise DktError(f"{prefix}{key} is unknown; known are {', '.join(known)}")
    for key, entry in known.items():
        required = entry.default is entry.default_factory is dataclasses.MISSING
        if key not in content and required:
            raise DktError(f"{prefix}{key} is missing")
    # YAML's lists stand for pairs here.
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in content.items()})
