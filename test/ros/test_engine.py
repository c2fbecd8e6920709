"""Parameters become the network and estimator that they name."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="needs ROS 2")

from fixtures.tiny_checkpoint import make_tiny_checkpoint
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.canvas import fit_area
from dkt_ros.model.engine.windows import live_windows
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import PRESETS
from dkt_ros.ros.engine import Engine, build_engine
from dkt_ros.ros.frame_choice import FrameChoice
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.predictors import NetworkPredictor, StreamPredictor
from dkt_ros.ros.settings import (
    estimator_config,
    frames_together,
    proof_frames,
    resolve_device,
    resolve_dtype,
)
from dkt_ros.ros.warm_up import warm_up, warm_up_live
from dkt_ros.ros.worker import InferenceCancelledError

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    parameters = NodeParameters(
        checkpoint=str(checkpoint), device="cpu", cpu_threads=1, buffer_frames=1, steps=1
    )
    return build_engine(parameters)


def test_the_engine_says_what_it_is(engine: Engine, checkpoint: Path) -> None:
    info = engine.info
    assert (info.checkpoint, info.path) == ("tiny-random", str(checkpoint))
    assert (info.device, info.dtype, info.steps) == ("cpu", "float32", 1)
    assert engine.gpu_memory() == {}


def test_it_predicts_at_the_cameras_size(engine: Engine) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (1, 120, 200, 3), dtype=np.uint8)
    assert isinstance(engine.predictor, NetworkPredictor)
    disparity = engine.predictor(rgb)
    assert disparity.shape == (1, 120, 200)
    assert disparity.dtype == np.float32
    assert 0.0 <= disparity.min() < disparity.max() <= 1.0


def test_it_stops_midway_when_told_to(engine: Engine) -> None:
    rgb = np.zeros((1, 64, 96, 3), dtype=np.uint8)
    assert isinstance(engine.predictor, NetworkPredictor)
    engine.predictor.cancel()
    with pytest.raises(InferenceCancelledError):
        engine.predictor(rgb)
    engine.predictor.allow()
    engine.predictor(rgb)


def test_mode_live_streams(checkpoint: Path) -> None:
    parameters = NodeParameters(
        checkpoint=str(checkpoint),
        device="cpu",
        cpu_threads=1,
        mode="live",
        live_preset="fast",
        live_publish="all",
        live_scene_cut=1.0,
        steps=1,
        seed=5,
    )
    engine = build_engine(parameters)
    assert engine.info.mode == "live, fast"
    assert engine.proof_frames == 25
    predictor = engine.predictor
    assert isinstance(predictor, StreamPredictor)
    options = predictor.options
    assert (options.publish, options.steps, options.seed) == ("all", 1, 5)
    assert options.scene_cut is None
    assert (options.window, options.new) == (PRESETS["fast"].window, PRESETS["fast"].new)
    black = np.zeros((64, 96, 3), dtype=np.uint8)
    for count in (1, 2, 3):  # warming up has left nothing behind
        result = predictor.push(black)
        assert result is not None
        assert result.frames == count
    tall = predictor.push(np.zeros((120, 100, 3), dtype=np.uint8))
    assert tall is not None
    assert (tall.frames, tall.disparity.shape) == (1, (120, 100))
    predictor.cancel()
    with pytest.raises(InferenceCancelledError):
        predictor.push(black)
    predictor.allow()
    assert predictor.push(black) is not None
    engine.estimator.reset()
    again = predictor.push(black)
    assert again is not None
    assert again.frames == 1


def test_it_is_warm_for_every_shape_that_will_come(engine: Engine) -> None:
    """On a GPU, where a new shape costs seconds."""
    assert isinstance(engine.predictor, NetworkPredictor)
    clips: list[int] = []
    reports: list[tuple[int, int]] = []

    def exact(rgb: np.ndarray) -> None:
        clips.append(len(rgb))

    warm_up(cast("Any", exact), (32, 48), 9, True, lambda *report: reports.append(report))
    assert clips == [1, 1, 5, 5, 9, 9], "compiled, then recorded"
    assert reports == [(done, 6) for done in range(7)]

    parameters = NodeParameters(live_publish="all", live_preset="fast", steps=1)
    predictor = StreamPredictor(engine.predictor._network, parameters)
    asked: Counter[tuple[int, int]] = Counter()
    velocity = engine.predictor._network.velocity

    def watched(noisy: Tensor, tokens: Tensor, timestep: float, keep: int) -> Tensor:
        asked[noisy.shape[2], keep] += 1
        return velocity(noisy, tokens, timestep, keep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.predictor._network, "velocity", watched)
        warm_up_live(predictor, (32, 48), True, lambda *report: None)
    assert set(asked) == set(live_windows(predictor.options))
    assert min(asked.values()) >= 2
    fresh = predictor.push(np.zeros((32, 48, 3), dtype=np.uint8))
    assert fresh is not None
    assert fresh.frames == 1


def test_a_stream_is_proven_when_its_windows_have_all_been_had(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(engine.predictor, NetworkPredictor)
    network = engine.predictor._network
    parameters = NodeParameters(mode="live", live_preset="fast", steps=1)
    predictor = StreamPredictor(network, parameters)
    asked: set[tuple[int, int]] = set()
    velocity = network.velocity

    def watched(noisy: Tensor, tokens: Tensor, timestep: float, keep: int) -> Tensor:
        asked.add((noisy.shape[2], keep))
        return velocity(noisy, tokens, timestep, keep)

    monkeypatch.setattr(network, "velocity", watched)
    for _ in range(proof_frames(parameters, network.info)):
        predictor.push(np.zeros((32, 48, 3), dtype=np.uint8))
    assert asked == set(live_windows(predictor.options))


def test_frames_wait_together_where_a_window_is_for_all_of_them() -> None:
    def together(**values: str) -> int:
        return frames_together(NodeParameters(**values))  # type: ignore[arg-type]

    even = {"mode": "live", "frame_choice": "even"}
    assert together(**even, live_preset="quality") == 16
    assert together(**even, live_preset="balanced") == 12
    assert together(**even, live_preset="fast") == 8
    assert together(**even, live_publish="all") == 1
    assert together(mode="live") == 1, "the newest never waits"
    assert together(frame_choice="even") == 1
    for name in PRESETS:
        FrameChoice("even", together(**even, live_preset=name))
    exact = CheckpointInfo("a", buffer_frames=13)
    assert proof_frames(NodeParameters(), exact) == 13


def test_warming_up_takes_the_size_it_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        NetworkPredictor, "__call__", lambda self, rgb: sizes.append(rgb.shape[1:3])
    )
    for warm_up_size in ("", "48x32"):
        build_engine(
            NodeParameters(
                checkpoint=str(checkpoint), device="cpu", cpu_threads=1, warm_up_size=warm_up_size
            )
        )
    assert sizes == [(64, 96), (64, 96), (48, 32), (48, 32)]


@pytest.mark.parametrize(
    ("device", "camera", "is_warm"),
    [
        ("cuda:0", (720, 1080), True),
        ("cuda:0", (1080, 720), True),  # turned
        ("cuda:0", (640, 960), True),
        ("cuda:0", (480, 640), True),  # rounded
        ("cuda:0", (960, 960), False),
        ("cuda:0", (32, 48), False),
        ("cpu", (960, 960), True),
    ],
)
def test_a_camera_that_it_is_not_warmed_up_for_is_named(
    engine: Engine, device: str, camera: tuple[int, int], is_warm: bool
) -> None:
    info = replace(engine.info, device=device)
    elsewhere = Engine(engine.predictor, engine.estimator, info, warmed_up=(720, 1080))
    remark = elsewhere.remark_on(*camera)
    if is_warm:
        assert remark == ""
    else:
        assert remark.endswith(f"Set parameter warm_up_size to {camera[0]}x{camera[1]}.")
        assert "720x1080" in remark


@pytest.mark.parametrize("mode", ["exact", "live"])
def test_a_failed_warm_up_leaves_no_network_behind(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """However long the error is kept: as it stands, and as the one it was raised from."""
    networks: list[weakref.ref[FastNetwork]] = []

    def exhausted(network: FastNetwork, *arguments: Any) -> Tensor:
        networks.append(weakref.ref(network))
        try:
            raise MemoryError("no room for this")
        except MemoryError as error:
            raise RuntimeError("out of memory") from error

    monkeypatch.setattr(FastNetwork, "velocity", exhausted)
    parameters = NodeParameters(checkpoint=str(checkpoint), device="cpu", cpu_threads=1, mode=mode)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        build_engine(parameters)
    assert networks, "it never came to computing"
    assert [network() for network in networks] == [None] * len(networks)
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "exhausted", "where it happened can still be told"


def test_a_stream_is_gone_with_its_last_reference(engine: Engine) -> None:
    assert isinstance(engine.predictor, NetworkPredictor)
    predictor = StreamPredictor(engine.predictor._network, NodeParameters(steps=1))
    assert predictor.push(np.zeros((32, 48, 3), dtype=np.uint8)) is not None
    stream = weakref.ref(predictor)
    gc.disable()
    try:
        del predictor
        assert stream() is None
    finally:
        gc.enable()


def test_depth_range_acts_at_once(engine: Engine) -> None:
    engine.apply(NodeParameters(min_depth_m=0.5, max_depth_m=0.75))
    assert engine.estimator.config.min_depth == 0.5
    assert engine.estimator.config.max_depth == 0.75


@pytest.mark.parametrize(
    ("inference_size", "camera", "size"),
    [
        ("native", (480, 640), None),
        ("96x160", (480, 640), (96, 160)),
        ("auto", (64, 96), (64, 96)),
        ("auto", (480, 640), (68, 91)),  # the tiny checkpoint was trained at 64x96
        ("auto", (640, 480), (91, 68)),
        ("auto", (640, 980), (64, 96)),
        ("auto", (980, 640), (96, 64)),
        ("auto", (32, 48), (32, 48)),
    ],
)
def test_the_working_size(
    engine: Engine, inference_size: str, camera: tuple[int, int], size: tuple[int, int] | None
) -> None:
    parameters = NodeParameters(inference_size=inference_size)
    predictor = NetworkPredictor(engine.predictor._network, parameters)
    assert predictor.working_size(*camera) == size


@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(64 * 64, 2000 * 2000))
def test_fitting_keeps_the_aspect_ratio_and_never_enlarges(
    height: int, width: int, area: int
) -> None:
    fitted_height, fitted_width = fit_area(height, width, area)
    assert fitted_height <= height
    assert fitted_width <= width
    if height * width <= area:
        assert (fitted_height, fitted_width) == (height, width)
    else:
        assert fitted_height * fitted_width <= area + height + width
        ratio = (fitted_height * width) / (fitted_width * height)
        assert ratio == pytest.approx(1.0, abs=0.5 / fitted_height + 0.5 / fitted_width + 1e-3)


def test_the_checkpoint_says_how_many_frames_unless_the_parameter_does() -> None:
    info = CheckpointInfo("a", buffer_frames=13)
    assert estimator_config(NodeParameters(), info).max_frames == 13
    assert estimator_config(NodeParameters(buffer_frames=1), info).max_frames == 1


def test_every_estimator_parameter_arrives() -> None:
    config = estimator_config(
        NodeParameters(
            buffer_frames=9,
            min_depth_m=0.3,
            max_depth_m=3.0,
            raw_min_depth_m=0.4,
            raw_max_depth_m=4.0,
            align_min_inlier_ratio=0.33,
            align_max_uncertainty=0.02,
            align_max_held_s=1.5,
            align_max_held_frames=7,
        ),
        CheckpointInfo("a", buffer_frames=5),
    )
    assert (config.max_frames, config.max_gap_s) == (9, math.inf), "the intake finds gaps"
    assert (config.min_depth, config.max_depth) == (0.3, 3.0)
    alignment = config.alignment
    assert (alignment.min_raw_depth, alignment.max_raw_depth) == (0.4, 4.0)
    assert (alignment.min_inlier_ratio, alignment.max_uncertainty) == (0.33, 0.02)
    assert (alignment.max_held_s, alignment.max_held_frames) == (1.5, 7)


def test_auto_means_what_the_machine_has() -> None:
    import torch

    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_dtype("auto", "cuda:0") == "bfloat16"
    assert resolve_dtype("auto", "cpu") == "float32"
    assert resolve_dtype("float16", "cpu") == "float16"


def test_a_device_that_is_not_there_is_named(checkpoint: Path) -> None:
    with pytest.raises(DktError, match="device cuda:77 cannot be used"):
        build_engine(NodeParameters(checkpoint=str(checkpoint), device="cuda:77"))


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    path = make_tiny_checkpoint(tmp_path)
    info = json.loads((path / "dkt.json").read_text())
    (path / "dkt.json").write_text(json.dumps(info | {"task": "normal"}))
    with pytest.raises(DktError, match="predicts 'normal', expected 'depth'"):
        build_engine(NodeParameters(checkpoint=str(path), device="cpu"))
