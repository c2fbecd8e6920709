"""The picture is drawn for every kind of bag, and holes look different from depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs", reason="needs the ROS message packages")

from demo.picture import Row, draw
from demo.recorded import RecordedFrame

pytestmark = pytest.mark.ros

HOLE = np.array([89, 89, 89])
CONFIDENCE = 0.5
CONFIDENCE_BGR = np.array([140, 144, 32])  # the middle of viridis


def row(truth: bool, mask: bool, depth: float = 0.8) -> Row:
    ramp = np.tile(np.linspace(0.5, 1.0, 64, dtype=np.float32), (48, 1))
    raw = ramp.copy()
    raw[:, 20:40] = np.nan
    glass = np.zeros((48, 64), np.uint8)
    glass[10:30, 20:40] = 1
    rgb = np.full((48, 64, 3), 255, np.uint8)
    recorded = RecordedFrame(0, rgb, raw, ramp if truth else None, glass if mask else None)
    confidence = None if np.isnan(depth) else np.full((48, 64), CONFIDENCE, np.float32)
    return Row(recorded, np.full((48, 64), depth, np.float32), confidence, "t = 1.5 s", {})


def share_of(path: Path, color: np.ndarray) -> float:
    picture = cv2.imread(str(path))
    return float((np.abs(picture.astype(int) - color).max(axis=-1) < 3).mean())


def share_of_holes(path: Path) -> float:
    return share_of(path, HOLE)


@pytest.mark.parametrize(("truth", "mask"), [(True, True), (True, False), (False, False)])
def test_every_kind_of_bag_is_drawn(tmp_path: Path, truth: bool, mask: bool) -> None:
    draw([row(truth, mask), row(truth, mask)], tmp_path / "p.png", "title")
    picture = cv2.imread(str(tmp_path / "p.png"))
    columns = 5 if truth else 4
    assert picture.shape[1] > columns * 300
    assert share_of(tmp_path / "p.png", CONFIDENCE_BGR) > 0.5 / columns
    assert share_of_holes(tmp_path / "p.png") > 0.02


def test_holes_are_grey(tmp_path: Path) -> None:
    draw([row(True, False)], tmp_path / "known.png", "")
    draw([row(True, False, depth=float("nan"))], tmp_path / "unknown.png", "")
    more = share_of_holes(tmp_path / "unknown.png") - share_of_holes(tmp_path / "known.png")
    assert more > 0.1


def test_no_depth_at_all_is_drawn_too(tmp_path: Path) -> None:
    draw([row(False, False, depth=float("nan"))], tmp_path / "p.png", "")
    assert (tmp_path / "p.png").stat().st_size > 1000
