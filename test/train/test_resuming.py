"""Which changes of a resumed run's recipe leave its validation loss comparable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.train_process import small_recipe

from dkt_ros.train.fields import plain
from dkt_ros.train.resuming import judged_alike


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({}, True),
        ({"steps": 9, "preview": {"every": 7, "steps": 3}}, True),
        ({"data": [{"path": "unused", "weight": 2.0}]}, True),
        ({"data": [{"path": "other"}]}, False),
        ({"validation": [{"path": "other"}]}, False),
        ({"preview": {"clips": 1}}, False),
        ({"preview": {"frames": 5}}, False),
        ({"preview": {"seed": 2}}, False),
        ({"size": [32, 48]}, False),
        ({"disparity": {"low_percentile": 5}}, False),
        ({"condition": "raw_depth"}, False),
    ],
)
def test_losses_compare_where_clips_and_what_is_seen_of_them_are_the_same(
    tiny_checkpoint: Path, changes: dict[str, Any], alike: bool
) -> None:
    before = plain(small_recipe(tiny_checkpoint))
    assert judged_alike(before, small_recipe(tiny_checkpoint, **changes)) is alike


def test_what_is_trained_on_judges_nothing_where_there_are_validation_data(
    tiny_checkpoint: Path,
) -> None:
    held_out = {"validation": [{"path": "held out"}]}
    before = plain(small_recipe(tiny_checkpoint, **held_out))
    now = small_recipe(tiny_checkpoint, **held_out, data=[{"path": "more"}])
    assert judged_alike(before, now)
