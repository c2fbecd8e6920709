"""Pictures of a few frames of a recording: which are kept, and what they show."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from fixtures.recorded_frames import HEIGHT, WIDTH, known, labelled_frames

from dkt_ros.bags.recording import LabelledFrame
from dkt_ros.estimator import DepthEstimate, EstimatorConfig, load_estimator
from dkt_ros.processing.options import ProcessOptions
from dkt_ros.processing.previews import WORST, Previews, read_preview


def estimated(told: ProcessOptions, labelled: LabelledFrame) -> DepthEstimate:
    estimate = load_estimator(told.predictor, EstimatorConfig(depth="network")).push(labelled.frame)
    assert estimate is not None
    return estimate


def test_evenly_chosen_frames_and_the_worst_are_kept(told: ProcessOptions, tmp_path: Path) -> None:
    (labelled,) = labelled_frames(1, width=12, height=8)
    estimate = estimated(told, labelled)
    scores = np.random.default_rng(0).permutation(500) / 500
    previews = Previews(tmp_path)
    for index, score in enumerate(scores):
        previews.add(index, float(score), labelled, estimate)
        if index == 300:  # another run goes on
            shutil.copy(tmp_path / "0000000.npz", tmp_path / "0000299.npz")
            previews = Previews(tmp_path, json.loads(json.dumps(previews.state)))
    worst = np.argsort(scores)[-WORST:].tolist()
    kept = {int(file.stem) for file in tmp_path.iterdir()}
    assert kept == {*range(0, 500, 8), *worst}


def test_a_previews_error_is_to_the_truth_or_else_to_raw_depth(
    told: ProcessOptions, tmp_path: Path
) -> None:
    (labelled,) = labelled_frames(1)
    truth = known(labelled.truth)
    frame = replace(labelled.frame, raw_depth=np.multiply(2, truth, dtype=np.float32))
    estimate = replace(estimated(told, labelled), depth=truth)
    mean = {}
    for index, of_truth in enumerate((truth, 1.05 * truth, None)):
        (file,) = Previews(tmp_path).add(0, 0.0, LabelledFrame(frame, of_truth), estimate)
        shown = read_preview(file)
        error = cv2.imdecode(np.frombuffer(shown["error"], np.uint8), cv2.IMREAD_UNCHANGED)
        assert known(error).shape == (HEIGHT, WIDTH, 3)
        mean[index] = float(known(error).mean())
        assert ("truth" in shown) == (of_truth is not None)
    assert mean[0] < 5 < 20 < mean[1] < mean[2]


def test_a_previews_points_do_not_wrap(told: ProcessOptions, tmp_path: Path) -> None:
    (labelled,) = labelled_frames(1)
    far = replace(estimated(told, labelled), depth=np.full((HEIGHT, WIDTH), 40.0, np.float32))
    (file,) = Previews(tmp_path).add(0, 0.0, LabelledFrame(labelled.frame), far)
    assert set(read_preview(file)["points"][:, 2]) == {32767}
