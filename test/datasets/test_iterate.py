"""Reading on, or stopping, where a frame does not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fixtures import dataset_trees as trees

from dkt_ros.datasets.dataset import Dataset
from dkt_ros.datasets.iterate import Skipped, iterate, read_frames
from dkt_ros.datasets.registry import open_dataset
from dkt_ros.datasets.sample import BadFrameError
from dkt_ros.errors import DktError


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two videos of three frames, the first one's middle frame truncated; one damaged tar."""
    trees.transphy3d_tree(tmp_path / "tars")
    (tmp_path / "tars/train/000009.tar").write_bytes(b"")
    return open_dataset(tmp_path / "tars")


@pytest.fixture
def damaged(tmp_path: Path) -> Dataset:
    """A video of three frames, the middle one without its truth."""
    trees.clearpose_scene(tmp_path / "clearpose/set1/scene1")
    trees.truncate(tmp_path / "clearpose/set1/scene1/000001-depth_true.png")
    return open_dataset(tmp_path / "clearpose")


def test_everything_in_order(tmp_path: Path) -> None:
    trees.transphy3d_tree(tmp_path)
    dataset = open_dataset(tmp_path)
    sources = [sample.source.rpartition(": ")[2] for sample in iterate(dataset)]
    assert sources == [f"{clip:06d}_{frame:08d}" for clip in (1, 0) for frame in range(3)]


def test_raise_stops_at_the_first(damaged: Dataset) -> None:
    frames = iterate(damaged)
    next(frames)
    with pytest.raises(BadFrameError, match=r"000001-depth_true\.png: truncated"):
        next(frames)


def test_skip_counts_names_and_logs(damaged: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    skipped = Skipped()
    with caplog.at_level(logging.WARNING):
        samples = list(iterate(damaged, on_bad="skip", skipped=skipped))
    assert [sample.source[-6:] for sample in samples] == ["000000", "000002"]
    assert skipped.count == 1
    ((what, why),) = skipped.reasons.items()
    assert what == "set1/scene1 frame 1"
    assert "000001-depth_true.png: truncated picture" in why
    assert str(skipped).startswith("1 skipped, 1 different ones, the first set1/scene1 frame 1")
    assert "skipped set1/scene1 frame 1" in caplog.text


def test_a_skipped_frame_is_logged_even_if_nobody_counts(
    damaged: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(list(iterate(damaged, on_bad="skip"))) == 2
    assert "000001-depth_true.png" in caplog.text


def test_a_clip_that_cannot_be_listed_counts_as_one(dataset: Dataset) -> None:
    with pytest.raises(DktError, match=r"000009\.tar"):
        list(iterate(dataset))
    skipped = Skipped()
    assert len(list(iterate(dataset, on_bad="skip", skipped=skipped))) == 6
    assert list(skipped.reasons) == ["train/000009"]


def test_a_window_with_a_bad_frame_is_no_window(
    damaged: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    (clip,) = damaged
    skipped = Skipped()
    for _ in range(3):
        assert read_frames(clip, range(3), on_bad="skip", skipped=skipped) is None
    assert skipped.count == 3
    assert len(skipped.reasons) == len(caplog.records) == 1  # logged once
    window = read_frames(clip, (0, 2), on_bad="skip", skipped=skipped)
    assert window is not None
    assert len(window) == 2
    with pytest.raises(BadFrameError):
        read_frames(clip, (1,))


def test_normals_can_be_left_out(damaged: Dataset) -> None:
    assert next(iterate(damaged)).normal is not None
    assert next(iterate(damaged, with_normal=False)).normal is None


def test_another_policy_is_refused(damaged: Dataset) -> None:
    policy: Any = "ignore"
    with pytest.raises(ValueError, match="'ignore', expected 'skip' or 'raise'"):
        list(iterate(damaged, on_bad=policy))


def test_nothing_skipped_says_so() -> None:
    assert str(Skipped()) == "nothing skipped"
