"""Normals of a normals checkpoint: axes, length, orientation and task."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.errors import DktError
from dkt_ros.frames import FlushReason
from dkt_ros.model.canvas import Canvas, normals_in_camera_axes
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import PredictOptions, predict_disparity, predict_normals
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import black_frame
from dkt_ros.predict.stream import StreamPredictor


@pytest.fixture(scope="module")
def normals_network(tmp_path_factory: pytest.TempPathFactory) -> FastNetwork:
    """The tiny network, said to be for normals."""
    path = make_tiny_checkpoint(tmp_path_factory.mktemp("normals"))
    info = json.loads((path / "dkt.json").read_text())
    (path / "dkt.json").write_text(json.dumps(info | {"task": "normal"}))
    return FastNetwork(load_checkpoint(path))


def clip(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_blender_axes_become_camera_axes() -> None:
    # Towards the viewer, up, right: in Blender's camera axes +z, +y, +x.
    decoded = np.array([[0.0, 0.0, 1.0], [0.0, 0.9, 0.0], [0.6, 0.0, 0.0], [0.1, 0.1, 0.0]])
    expected = [[0, 0, -1], [0, -1, 0], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(normals_in_camera_axes(decoded, turned=False), expected, atol=1e-6)


def test_a_turned_picture_turns_its_vectors_back() -> None:
    # The network sees portrait pictures turned against the clock: what was the bottom is right.
    right, up = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    np.testing.assert_allclose(normals_in_camera_axes(np.array(right), True), [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(normals_in_camera_axes(np.array(up), True), [1, 0, 0], atol=1e-6)


def test_a_canvas_resizes_vectors_and_brings_them_to_length_one() -> None:
    decoded = torch.zeros(1, 3, 2, 16, 32)
    decoded[:, 0], decoded[:, 2] = 0.3, 0.4 * 2
    normals = Canvas((24, 40), (16, 32), 16).normals(decoded)
    assert normals.shape == (2, 24, 40, 3)
    assert normals.dtype == np.float32
    expected = np.array([0.3, 0.0, -0.8]) / np.hypot(0.3, 0.8)
    np.testing.assert_allclose(normals, np.broadcast_to(expected, normals.shape), atol=1e-5)


def test_unit_vectors_of_the_size_of_the_input(normals_network: FastNetwork) -> None:
    normals = predict_normals(normals_network, clip(6, 30, 50), PredictOptions(steps=1))
    assert normals.shape == (6, 30, 50, 3)
    length = np.linalg.norm(normals, axis=-1)
    assert np.all((np.abs(length - 1) < 1e-5) | (length == 0))
    assert (length > 0).any()


def test_a_stream_of_normals_says_where_it_begins_anew(normals_network: FastNetwork) -> None:
    predictor = StreamPredictor(normals_network, PredictorOptions(live_scene_cut=0.2))
    black = black_frame((32, 48))
    light = replace(black, rgb=np.full_like(black.rgb, 200))
    answers = [predictor.push(frame) for frame in (black, light)]
    assert [answer and answer.restarted for answer in answers] == [None, FlushReason.SCENE_CUT]


def test_portrait_is_turned_there_and_back(normals_network: FastNetwork) -> None:
    landscape = clip(1, 32, 48)
    portrait = np.ascontiguousarray(np.rot90(landscape, k=-1, axes=(1, 2)))
    seen = predict_normals(normals_network, landscape)
    turned = np.rot90(np.stack([-seen[..., 1], seen[..., 0], seen[..., 2]], -1), -1, axes=(1, 2))
    np.testing.assert_allclose(predict_normals(normals_network, portrait), turned, atol=1e-6)


def test_each_task_has_its_function(normals_network: FastNetwork, tiny_fast: FastNetwork) -> None:
    with pytest.raises(DktError, match="for the task 'depth', expected one for 'normal'"):
        predict_normals(tiny_fast, clip(1, 16, 16))
    with pytest.raises(DktError, match="for the task 'normal', expected one for 'depth'"):
        predict_disparity(normals_network, clip(1, 16, 16))
