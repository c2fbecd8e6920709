"""The comparison over a folder: regions, alignments, table and JSON."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.evaluation.commands import format_table, working_size, write_json
from dkt_ros.evaluation.evaluate import Predict, Video, evaluate_video, load_videos, summarise
from dkt_ros.transphy3d import SequenceFrame, write_sequence

RANGE = (0.1, 10.0)


def scene(frames: int = 2, raw: bool = True) -> Video:
    """A table with a nearer glass block, of which the sensor sees nothing."""
    height, width = 48, 64
    rows = np.mgrid[0:height, 0:width][0]
    disparity = np.repeat((0.6 + rows / height)[None], frames, axis=0)
    classes = np.zeros(disparity.shape, np.uint8)
    classes[:, 10:26, 20:44] = 1
    truth = (1.0 / np.where(classes == 1, disparity + 0.5, disparity)).astype(np.float32)
    seen = np.where(classes == 1, np.nan, truth).astype(np.float32)
    camera = np.array([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]])
    rgb = np.zeros((frames, height, width, 3), np.uint8)
    return Video("made up", rgb, truth, classes, seen if raw else None, camera)


def oracle(video: Video) -> Predict:
    """The true disparity, distorted affinely into (0, 1)."""

    def predict(rgb: np.ndarray) -> np.ndarray:
        truth = np.repeat(video.truth[:1], len(rgb), axis=0)
        return ((1.0 / truth - 0.5) / 2.0).astype(np.float32)

    return predict


def test_a_perfect_network_beats_the_baselines_where_glass_is() -> None:
    video = scene()
    summary = summarise(evaluate_video(video, oracle(video), ("video", "online"), RANGE))
    assert summary["dkt, video"]["transparent"].rel < 1e-3
    assert summary["dkt, online"]["transparent"].rel < 5e-3
    assert summary["plane"]["transparent"].rel > 0.2
    assert summary["plane"]["rest"].rel < 1e-3
    assert summary["raw"]["transparent"].coverage == 0.0
    assert math.isnan(summary["raw"]["transparent"].rel)
    assert math.isnan(summary["dkt, video"]["reflective"].rel)


def test_baselines_need_raw_depth_and_online_says_so() -> None:
    video = scene(raw=False)
    results = evaluate_video(video, oracle(video), ("video",), RANGE)
    assert [r.method for r in results] == ["dkt, video"]
    with pytest.raises(DktError, match="no raw_depth"):
        evaluate_video(video, oracle(video), ("online",), RANGE)


def test_truth_outside_the_range_does_not_count() -> None:
    video = scene()
    video.truth[:, 0] = 50.0
    errors = summarise(evaluate_video(video, None, (), RANGE))["nearest fill"]["all"]
    assert errors.rmse_m < 1.0


def test_videos_come_from_tars(tmp_path: Path) -> None:
    with pytest.raises(DktError, match="holds no sequence"):
        list(load_videos(tmp_path))
    video = scene()
    assert video.raw is not None
    frames = [
        SequenceFrame(
            rgb=video.rgb[i],
            depth=video.truth[i],
            camera_matrix=video.camera_matrix,
            world_to_camera=np.eye(4),
            mask=video.classes[i],
            raw_depth=video.raw[i],
            index=i,
        )
        for i in range(2)
    ]
    write_sequence(tmp_path / "one.tar", "one", frames)
    (loaded,) = load_videos(tmp_path)
    assert loaded.name == "one"
    np.testing.assert_allclose(loaded.truth, video.truth, atol=1e-4)
    np.testing.assert_array_equal(loaded.classes, video.classes)
    assert loaded.raw is not None
    assert np.isnan(loaded.raw).sum() == np.isnan(video.raw).sum()


def test_table_and_json(tmp_path: Path) -> None:
    video = scene()
    results = evaluate_video(video, oracle(video), ("video",), RANGE)
    summary = summarise(results)
    table = format_table(summary)
    assert "transparent" in table
    assert "nearest fill" in table
    path = tmp_path / "deep" / "out.json"
    write_json(path, results, summary, "nano", vars(argparse.Namespace(align="video")))
    content = json.loads(path.read_text())
    assert content["mean"]["raw"]["transparent"]["rel"] is None
    found = content["mean"]["plane"]["transparent"]["rel"]
    assert found == pytest.approx(summary["plane"]["transparent"].rel)


def test_working_size() -> None:
    assert working_size("auto", (192, 320), 96 * 160) == (96, 160)
    assert working_size("auto", (48, 64), 96 * 160) == (48, 64)
    assert working_size("native", (48, 64), 1) is None
    assert working_size("100x200", (48, 64), 1) == (100, 200)
    with pytest.raises(DktError, match="expected auto, native or HxW"):
        working_size("big", (48, 64), 1)
