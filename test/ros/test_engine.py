"""Parameters become the network and estimator that they name."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("dkt_ros.msg", reason="needs the generated messages: make build")

import rclpy
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from torch import Tensor

from dkt_ros.estimator import DepthEstimator, EstimatorConfig
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.predict.clip import ClipPredictor
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.stream import StreamPredictor
from dkt_ros.ros.engine import Engine, SharedNetwork, estimator_config
from dkt_ros.ros.node import DktNode
from dkt_ros.ros.params.parameters import NodeParameters

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def parameters(checkpoint: Path, **changes: Any) -> NodeParameters:
    chosen: dict[str, Any] = {"device": "cpu", "cpu_threads": 1, "buffer_frames": 1, "steps": 1}
    return NodeParameters(checkpoint=str(checkpoint), **(chosen | changes))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return SharedNetwork().build(parameters(checkpoint))


def test_the_engine_says_what_it_is(engine: Engine, checkpoint: Path) -> None:
    info = engine.info
    assert (info.name, info.path) == ("tiny-random", str(checkpoint))
    assert (info.device, info.dtype, info.steps) == ("cpu", "float32", 1)
    assert engine.gpu_memory() == {}


def test_every_option_is_a_parameter_of_the_same_default() -> None:
    """But for the exact sampler's windows, which matter for long videos alone."""
    assert PredictorOptions.taken_from(NodeParameters()) == PredictorOptions()
    chosen = NodeParameters(mode="live", live_preset="fast", seed=7, inference_size="96x160")
    options = PredictorOptions.taken_from(chosen)
    assert (options.mode, options.live_preset, options.seed) == ("live", "fast", 7)
    assert options.size == (96, 160)


def test_warming_up_takes_the_size_it_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    for kind in (ClipPredictor, StreamPredictor):
        monkeypatch.setattr(kind, "warm_up", lambda self, size, report: sizes.append(size))
    for mode in ("exact", "live"):
        for size in ("", "48x32"):
            SharedNetwork().build(parameters(checkpoint, mode=mode, warm_up_size=size))
    assert sizes == [(64, 96), (48, 32)] * 2


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
    assert isinstance(engine.predictor, ClipPredictor)
    predictor = ClipPredictor(engine.predictor.network, info=replace(engine.info, device=device))
    estimator = DepthEstimator(predictor, EstimatorConfig(depth="network"))
    remark = Engine(estimator, warmed_up=(720, 1080)).remark_on(*camera)
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
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        SharedNetwork().build(parameters(checkpoint, mode=mode))
    assert networks, "it never came to computing"
    assert [network() for network in networks] == [None] * len(networks)
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "exhausted", "where it happened can still be told"


def test_a_gpu_that_answers_nothing_any_more_does_not_hinder_closing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("torch.cuda.empty_cache", broken)
    engine = SharedNetwork().build(parameters(checkpoint))
    engine.predictor.info = replace(engine.info, device="cuda:0")
    engine.free_cache()
    engine.close()


def test_depth_range_and_confidence_act_at_once(engine: Engine) -> None:
    engine.apply(NodeParameters(min_depth_m=0.5, max_depth_m=0.75, min_confidence=0.4))
    assert engine.estimator.depth_range == (0.5, 0.75)
    assert engine.estimator.min_confidence == 0.4


def test_every_estimator_parameter_arrives() -> None:
    config = estimator_config(
        NodeParameters(
            min_depth_m=0.3,
            max_depth_m=3.0,
            raw_min_depth_m=0.4,
            raw_max_depth_m=4.0,
            align_min_inlier_ratio=0.33,
            align_max_uncertainty=0.02,
            align_max_held_s=1.5,
            align_max_held_frames=7,
            depth_sensor="tof",
            refiner="/mine",
            depth="network",
            fusion_method="membrane",
            min_confidence=0.4,
            confidence_tolerance=0.05,
            expected_min_depth_m=0.5,
            expected_max_depth_m=2.5,
        )
    )
    assert config.max_gap_s == math.inf, "the intake finds gaps"
    assert (config.min_depth, config.max_depth) == (0.3, 3.0)
    fusion, consistency = config.fusion, config.consistency
    assert (config.depth, fusion.method, fusion.sensor) == ("network", "membrane", "tof")
    assert (fusion.weights, fusion.min_confidence, fusion.tolerance) == ("/mine", 0.4, 0.05)
    for part in (fusion, consistency):
        assert (part.min_raw_depth, part.max_raw_depth) == (0.4, 4.0)
    assert consistency.expected_depth_m == (0.5, 2.5)
    assert estimator_config(NodeParameters()).consistency.expected_depth_m is None
    alignment = config.alignment
    assert (alignment.min_raw_depth, alignment.max_raw_depth) == (0.4, 4.0)
    assert (alignment.min_inlier_ratio, alignment.max_uncertainty) == (0.33, 0.02)
    assert (alignment.max_held_s, alignment.max_held_frames) == (1.5, 7)


def test_a_node_alone_is_not_told_of_other_cameras(checkpoint: Path) -> None:
    """What it loaded before may still be held, as by an error that was caught."""
    rclpy.init(args=["--ros-args", "-p", "autostart:=false"])
    node = DktNode()
    try:
        before = node._build(parameters(checkpoint))
        other = node._build(parameters(checkpoint, steps=2))
        assert before.predictor is not other.predictor
        before.close()
        other.close()
    finally:
        node.close()
        rclpy.shutdown()
