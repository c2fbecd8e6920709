"""One seam: the same frames give the same depth wherever they are asked for, to the last bit."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from fixtures.glass_scenes import table_with_glass, with_holes
from fixtures.recorded_frames import HEIGHT, START_NS, WIDTH, labelled_frames

from dkt_ros import EstimatorConfig, frames_of, load_estimator
from dkt_ros.bags.recording import RecordingOptions, record
from dkt_ros.evaluation.models import MAIN_ALIGNMENTS, PredictorModel
from dkt_ros.evaluation.videos import Video
from dkt_ros.fusion.weights import _shared_matcher, _shared_refiner
from dkt_ros.predict.load import load_predictor
from dkt_ros.predict.options import PredictorOptions
from examples import one_frame

SIZE = (72, 96)
MODES = pytest.mark.parametrize("mode", ["exact", "live"])


@cache
def recording() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """rgb, raw depth and truth of a few frames; raw is what dkt-nano's own disparity would fit."""
    scene = with_holes(table_with_glass(0, SIZE), 0, 0.2)
    rgb = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    predictor = load_predictor(PredictorOptions(device="cpu", seed=1))
    disparity = predictor.video(list(frames_of((picture, None) for picture in rgb)))
    truth = (1.0 / (0.8 * disparity + 0.7)).astype(np.float32)
    return rgb, np.where(np.isnan(scene.raw), np.nan, truth).astype(np.float32), truth


@MODES
def test_what_torch_takes_by_default_changes_nothing(mode: str) -> None:
    rgb, raw, _ = recording()
    frames = list(frames_of(zip(rgb, (None, raw[1], raw[2]), strict=True)))  # noise, then readings
    found = []
    usual = torch.get_default_dtype()
    for dtype in (torch.float64, torch.float32):
        for shared in (_shared_refiner, _shared_matcher):
            shared.cache_clear()
        torch.set_default_dtype(dtype)
        try:
            estimator = load_estimator(mode=mode, live_publish="all", device="cpu")
            found.append([estimator.push(frame) for frame in frames])
        finally:
            torch.set_default_dtype(usual)
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert one.disparity.dtype == np.float32
        np.testing.assert_array_equal(one.disparity, other.disparity)
        np.testing.assert_array_equal(one.depth, other.depth)
        np.testing.assert_array_equal(one.confidence, other.confidence)


@MODES
def test_python_evaluation_and_node_agree(mode: str) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2")
    from dkt_ros.ros.engine import SharedNetwork
    from dkt_ros.ros.params.parameters import NodeParameters

    rgb, raw, truth = recording()
    chosen = {"mode": mode, "live_publish": "all", "device": "cpu"}
    frames = list(frames_of(zip(rgb, raw, strict=True)))

    estimator = load_estimator(PredictorOptions(**chosen))  # type: ignore[arg-type]
    ours = [estimator.push(frame) for frame in frames]
    node = SharedNetwork().build(NodeParameters(**chosen)).estimator  # type: ignore[arg-type]
    nodes = [node.push(frame) for frame in frames]
    model = PredictorModel("dkt", load_predictor(PredictorOptions(**chosen)))  # type: ignore[arg-type]
    judged = model.depths(Video("v", rgb, truth, raw=raw), truth, MAIN_ALIGNMENTS)

    assert all(estimate is not None for estimate in ours)
    for one, other, third in zip(ours, nodes, judged["fused"].depth, strict=True):
        assert one is not None
        assert other is not None
        assert np.isfinite(one.depth).any()
        np.testing.assert_array_equal(one.depth, other.depth)
        np.testing.assert_array_equal(one.depth, third)
        assert one.alignment == other.alignment


def test_pythons_defaults_are_the_nodes() -> None:
    from dkt_ros.ros.params.parameters import NodeParameters

    ours, nodes = EstimatorConfig(), NodeParameters()
    assert ours.depth == nodes.depth
    assert ours.max_gap_s == nodes.max_gap_s
    assert (ours.min_depth, ours.max_depth) == (nodes.min_depth_m, nodes.max_depth_m)


def python_of(page: Path) -> str:
    """The only block of Python of a page."""
    (text,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    return str(text)


def test_the_python_of_a_recording_runs(
    repo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / "bag"
    record(labelled_frames(3), bag, RecordingOptions())
    exec(python_of(repo_root / "docs/python.md").replace("one.bag", str(bag)), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith(f"{START_NS + 200_000_000} ")
    # Of so few pixels no depth can be relied on.
    assert lines[-1].endswith(f" AlignmentState.HELD ({HEIGHT}, {WIDTH})")


def test_the_readmes_python_runs_as_it_stands(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder of colour and raw depth to metric depth, by dkt-nano on the CPU."""
    text = python_of(repo_root / "README.md")
    assert len([line for line in text.splitlines() if line and "import" not in line]) <= 5
    assert ast.parse(text)
    rgb, raw, _ = recording()
    scene = tmp_path / "scene"
    scene.mkdir()
    for index, (color, depth) in enumerate(zip(rgb, raw, strict=True)):
        millimetres = np.nan_to_num(depth * 1000).round().astype(np.uint16)
        cv2.imwrite(str(scene / f"{index:03d}_rgb.png"), color[..., ::-1])
        cv2.imwrite(str(scene / f"{index:03d}_depth.png"), millimetres)
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    exec(text, known)
    depth = known["depth"]
    assert depth.shape == SIZE
    seen = np.isfinite(raw[-1])
    error = np.abs(depth[seen] / raw[-1][seen] - 1)
    assert np.median(error) < 0.05


def test_the_example_of_one_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rgb, raw, _ = recording()
    millimetres = np.nan_to_num(raw[0] * 1000).round().astype(np.uint16)
    cv2.imwrite("c.png", rgb[0][..., ::-1])
    cv2.imwrite("d.png", millimetres)

    def run(*more: str) -> None:
        monkeypatch.setattr(sys, "argv", ["one_frame.py", "c.png", "d.png", "o.npz", *more])
        one_frame.main()

    run()
    said = r"SENSOR: sensor \d+%, network \d+%, residual \d+\.\d mm; the colour image is noise .+\n"
    assert re.fullmatch(said, capsys.readouterr().out)
    with np.load("o.npz") as content:
        assert {name: content[name].shape for name in content} == dict.fromkeys(
            ("depth", "confidence", "source"), SIZE
        )
    with pytest.raises(SystemExit) as ended:
        run("--checkpoint", "absent")
    assert ended.value.code == "checkpoint absent does not exist; make one with `dkt convert`"
    cv2.imwrite("d.png", (millimetres // 10).astype(np.uint8))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == "d.png holds uint8, expected 16-bit millimetres"
    cv2.imwrite("d.png", millimetres[::2, ::2])
    with pytest.raises(SystemExit, match=r"raw depth of shape .* registered to the colour image"):
        run()
    cv2.imwrite("d.png", millimetres)
    Path("o.npz").unlink()
    Path("o.npz").mkdir()
    with pytest.raises(SystemExit, match=r"Is a directory: 'o\.npz'"):
        run()
