"""What a recipe may say about its data."""

from __future__ import annotations

from typing import Any

import pytest

from dkt_ros.errors import DktError
from dkt_ros.train.data.config import DATA_FIELDS, parse_data

SMALL: dict[str, Any] = {"data": [{"path": "somewhere"}], "size": [96, 160]}


def test_everything_but_paths_and_size_has_a_default() -> None:
    config = parse_data(SMALL)
    assert config.size == (96, 160)
    assert [source.path for source in config.data] == ["somewhere"]
    assert config.disparity.low_percentile == 2
    assert config.augmentation.flip is True
    assert set(SMALL) <= set(DATA_FIELDS)


def test_lists_become_pairs() -> None:
    data = [{"path": "a", "depth_range": [0.3, 1.5], "still": True, "kind": "hiss", "weight": 2}]
    config = parse_data({**SMALL, "data": data, "validation": [{"path": "b"}]})
    assert config.data[0].depth_range == (0.3, 1.5)
    assert config.data[0].still is True
    assert config.validation[0].path == "b"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": []}, "data is .*at least one"),
        ({"data": [3]}, r"data\[0\]"),
        ({"data": [{"kind": "hiss"}]}, r"data\[0\]\.path is missing"),
        ({"data": [{"path": "a", "wieght": 1}]}, r"data\[0\]\.wieght is unknown"),
        ({"data": [{"path": "a", "weight": 0}]}, "weight is 0.*above 0"),
        ({"data": [{"path": "a", "weight": float("nan")}]}, "weight is nan"),
        ({"data": [{"path": "a", "kind": "imagenet"}]}, "kind is 'imagenet'.*transphy3d"),
        ({"data": [{"path": "a", "split": "holdout"}]}, "split is 'holdout'"),
        ({"data": [{"path": "a", "still": "maybe"}]}, "still is 'maybe'"),
        ({"data": [{"path": "a", "depth_range": [1.5, 0.3]}]}, "depth_range"),
        ({"data": [{"path": "a", "depth_range": [1.5]}]}, "depth_range"),
        ({"data": [{"path": "a", "depth_range": [0.0, 1.5]}]}, "depth_range"),
        ({"size": [96, 100]}, "size is .*multiples of 16"),
        ({"size": [96]}, "size"),
        ({"size": [0, 96]}, "size"),
        ({"condition_dropped": 1.1}, "condition_dropped is 1.1"),
        ({"augmentation": {"crop": 0}}, r"augmentation\.crop is 0"),
        ({"augmentation": {"variants": -1}}, r"augmentation\.variants is -1"),
        ({"augmentation": {"variants": 1.5}}, r"augmentation\.variants is 1.5"),
        ({"augmentation": {"window_stride": -1}}, r"augmentation\.window_stride is -1"),
        ({"augmentation": {"saturation": 1.1}}, r"augmentation\.saturation is 1.1"),
        ({"augmentation": {"hue": 0.7}}, r"augmentation\.hue is 0.7"),
        ({"disparity": {"low_percentile": 98}}, r"disparity\.high_percentile"),
        ({"disparity": {"low_percentile": -1}}, r"disparity\.low_percentile is -1"),
        ({"cache": 3}, "cache is 3"),
    ],
)
def test_errors_name_the_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DktError, match=named):
        parse_data({**SMALL, **changes})
