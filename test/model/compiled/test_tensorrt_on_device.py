"""TensorRT's runtime over a small plan made here: caches, recorded launches, damaged files.

Runs wherever TensorRT and a GPU are; the logic that needs neither is in test_tensorrt_runtime.py.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.sums_engine import INPUTS, LOOKED_AHEAD, SHAPE, look_ahead, write_plans

from dkt_ros.errors import DktError
from dkt_ros.model.backends import Request, load_network
from dkt_ros.model.compiled.build import update_plans
from dkt_ros.model.compiled.manifest import GraphSpec, Manifest
from dkt_ros.model.compiled.tensorrt_build import BuildOptions, build_plan, building_system
from dkt_ros.model.compiled.tensorrt_module import import_tensorrt, is_rtx
from dkt_ros.model.compiled.tensorrt_runtime import load_runners
from dkt_ros.model.fast_network import FastNetwork

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
try:
    trt = import_tensorrt()
except DktError as missing:
    pytest.skip(f"needs TensorRT: {missing}", allow_module_level=True)

FLAGS = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def plan(inputs: int) -> bytes:
    """result = sum of the inputs; new_cache_00 = the last input + 1."""
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = builder.create_network(FLAGS)
    names = ["chunk", "cache_00"][:inputs]
    tensors = [network.add_input(name, trt.DataType.FLOAT, SHAPE) for name in names]
    ones = np.ones(SHAPE, np.float32)
    one = network.add_constant(SHAPE, trt.Weights(ones)).get_output(0)

    def add(a: Any, b: Any) -> Any:
        return network.add_elementwise(a, b, trt.ElementWiseOperation.SUM).get_output(0)

    result = add(tensors[0], tensors[1] if inputs == 2 else one)
    cache = add(tensors[-1], one)
    for tensor, name in ((result, "result"), (cache, "new_cache_00")):
        tensor.name = name
        network.mark_output(tensor)
    config = builder.create_builder_config()
    if is_rtx(trt):
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    return bytes(builder.build_serialized_network(network, config))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("engine")
    return folder, write_plans(folder, {name: plan(len(names)) for name, names in INPUTS.items()})


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("side_stream", [False, True])
def test_a_stream_with_look_aheads(
    engine: tuple[Path, Manifest], cuda_graphs: bool, side_stream: bool
) -> None:
    folder, manifest = engine
    device = torch.device("cuda")
    runners = load_runners(folder, manifest, INPUTS, device, cuda_graphs=cuda_graphs)
    current = torch.cuda.Stream() if side_stream else torch.cuda.current_stream()
    with torch.cuda.stream(current):
        assert look_ahead(runners, device) == LOOKED_AHEAD


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_inputs_of_another_type_or_order_in_memory_are_taken(
    engine: tuple[Path, Manifest], dtype: torch.dtype, cuda_graphs: bool
) -> None:
    folder, manifest = engine
    device = torch.device("cuda")
    runners = load_runners(folder, manifest, ["following"], device, cuda_graphs=cuda_graphs)
    strided = torch.arange(8, dtype=dtype).view(4, 2).T
    for _ in range(2):
        found = runners["following"]({"chunk": strided[:1], "cache_00": strided[1:]})
        assert found["result"].tolist() == [[1.0, 5.0, 9.0, 13.0]]
        assert found["new_cache_00"].tolist() == [[2.0, 4.0, 6.0, 8.0]]


def test_a_plan_that_is_none_is_named(engine: tuple[Path, Manifest], tmp_path: Path) -> None:
    _, manifest = engine
    (tmp_path / "first.plan").write_bytes(b"no plan")
    graph = replace(manifest.graphs[0], plan_sha256=hashlib.sha256(b"no plan").hexdigest())
    with pytest.raises(DktError, match=r"first\.plan cannot be loaded"):
        load_runners(tmp_path, replace(manifest, graphs=(graph,)), ["first"], torch.device("cuda"))


def test_an_engine_is_checked_and_computes_what_torch_computes(
    tiny_checkpoint: Path, tiny_engine: Path, tiny_fast: FastNetwork, tmp_path: Path
) -> None:
    """Windows of two lengths by one plan."""
    folder = Path(shutil.copytree(tiny_engine, tmp_path / "engine"))

    def build(graph: Path, plan: Path, profiles: Sequence[GraphSpec]) -> str:
        return build_plan(graph, plan, profiles, BuildOptions(), lambda *progress: None)

    manifest = Manifest.read(folder)
    update_plans(folder, manifest, building_system("cuda:0"), build, print)
    request = Request(
        tiny_checkpoint,
        "cuda:0",
        "float32",
        windows=((1, 1), (2, 1)),
        steps=2,
        backend="tensorrt",
        engine=folder,
    )
    network = load_network(request).network
    for frames in (2, 1, 2):
        noisy = torch.randn(1, 16, frames, 4, 6)
        expected = tiny_fast.velocity(noisy, tiny_fast.embed_rgb(noisy), 1000.0, 1)
        tokens = network.embed_rgb(noisy.cuda())
        found = network.velocity(noisy.cuda(), tokens, 1000.0, 1)
        torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=0)
