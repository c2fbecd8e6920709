"""Reading on where a frame does not fit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fixtures import dataset_trees as trees

from dkt_ros.datasets.dataset import Clip
from dkt_ros.datasets.iterate import Skipped, read_frame
from dkt_ros.datasets.registry import open_dataset


@pytest.fixture
def damaged(tmp_path: Path) -> Clip:
    """A video of three frames, the middle one without its truth."""
    trees.clearpose_scene(tmp_path / "clearpose/set1/scene1")
    trees.truncate(tmp_path / "clearpose/set1/scene1/000001-depth_true.png")
    (clip,) = open_dataset(tmp_path / "clearpose")
    return clip


def test_a_bad_frame_is_counted_named_and_logged_once(
    damaged: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    skipped = Skipped()
    with caplog.at_level(logging.WARNING):
        frames = [read_frame(damaged, index, skipped) for index in (0, 1, 2, 1)]
    assert [frame and frame.source[-6:] for frame in frames] == ["000000", None, "000002", None]
    assert skipped.count == 2
    ((what, why),) = skipped.reasons.items()
    assert what == "set1/scene1 frame 1"
    assert "000001-depth_true.png: truncated picture" in why
    assert str(skipped).startswith("2 skipped, 1 different ones, the first set1/scene1 frame 1")
    assert len(caplog.records) == 1
    assert "skipped set1/scene1 frame 1" in caplog.text


def test_normals_can_be_left_out(damaged: Clip) -> None:
    first, bare = (read_frame(damaged, 0, Skipped(), with_normal=with_) for with_ in (True, False))
    assert first is not None
    assert bare is not None
    assert first.normal is not None
    assert bare.normal is None


def test_nothing_skipped_says_so() -> None:
    assert str(Skipped()) == "nothing skipped"
