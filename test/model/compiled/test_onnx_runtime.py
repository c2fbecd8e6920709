"""Exported graphs, computed by onnxruntime, against torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.tiny_checkpoint import make_tiny_checkpoint

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.compiled.build import export_engine
from dkt_ros.model.compiled.graphs import NetworkGraphs
from dkt_ros.model.compiled.manifest import EMBED_RGB, GraphSpec, Manifest, cache_name
from dkt_ros.model.compiled.network import EngineNetwork, read_constants
from dkt_ros.model.compiled.onnx_export import export, graph_writer
from dkt_ros.model.compiled.request import EngineRequest
from dkt_ros.model.compiled.self_check import require_accurate, write_checks
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.streaming_vae import Stream
from dkt_ros.predict.stream import LivePredictor

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from dkt_ros.model.compiled.onnx_runtime import OnnxRunner, load_runners, open_session

TOLERANCE = 1e-3
SIZE = (32, 48)
LIVE = LiveOptions(window=2, new=1, steps=2, scene_cut=None)


@pytest.fixture(scope="module")
def network(tiny_checkpoint: Path) -> DktNetwork:
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def fast(network: DktNetwork) -> FastNetwork:
    return FastNetwork(network)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def video(frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, *SIZE, 3), np.uint8)


@torch.inference_mode()
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_the_vae_chunk_by_chunk(engine: EngineNetwork, fast: FastNetwork, half: str) -> None:
    """Caches go from call to call on both sides, each side its own."""
    ours: Stream = getattr(engine, f"{half}_stream")()
    theirs: Stream = getattr(fast, f"{half}_stream")()
    for index in range(4):
        shape = (1, 16, 1, 4, 6)
        if half == "encoder":
            shape = (1, 3, 1 if index == 0 else 4, *SIZE)
        chunk = random(*shape, seed=index).clamp(-1, 1)
        found, expected = ours.advance(chunk), theirs.advance(chunk)
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
    assert ours.caches is not None
    assert theirs.caches is not None
    assert len(ours.caches) == len(theirs.caches)


@torch.inference_mode()
@pytest.mark.parametrize("window", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("step", [0, 1])
def test_velocity(
    engine: EngineNetwork, fast: FastNetwork, tiny_engine: Path, window: tuple[int, int], step: int
) -> None:
    frames, keep = window
    assert frames in Manifest.read(tiny_engine).windows
    noisy, latents = (random(1, 16, frames, 4, 6, seed=seed) for seed in (1, 2))
    timestep = (1000.0, 5000.0 / 6.0)[step]
    expected = fast.velocity(noisy, fast.embed_rgb(latents), timestep, keep)
    found = engine.velocity(noisy, engine.embed_rgb(latents), timestep, keep)
    assert found.shape == (1, 16, keep, 4, 6)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_graphs_are_what_the_manifest_says(tiny_engine: Path) -> None:
    manifest = Manifest.read(tiny_engine)
    types = {"float32": onnx.TensorProto.FLOAT}
    for graph in manifest.graphs:
        model = onnx.load(tiny_engine / graph.onnx, load_external_data=False)
        for specs, values in (
            (graph.inputs, model.graph.input),
            (graph.outputs, model.graph.output),
        ):
            described = [
                (
                    value.name,
                    tuple(side.dim_value or -1 for side in value.type.tensor_type.shape.dim),
                    value.type.tensor_type.elem_type,
                )
                for value in values
            ]
            assert [(name, dtype) for name, _, dtype in described] == [
                (spec.name, types[spec.dtype]) for spec in specs
            ]
            open_sizes = set()
            for (_, shape, _), spec in zip(described, specs, strict=True):
                pairs = list(zip(shape, spec.shape, strict=True))
                assert all(side in (-1, expected) for side, expected in pairs)
                open_sizes |= {expected for side, expected in pairs if side == -1}
            frames = graph.name.removeprefix("step_T")
            assert open_sizes == ({int(frames)} if frames.isdigit() else set())
        # A constant as an output is what some compilers refuse.
        constants = {tensor.name for tensor in model.graph.initializer}
        assert not constants & {value.name for value in model.graph.output}
    following = manifest.graph("encoder_following")
    caches = [spec for spec in following.inputs if spec.name.startswith("cache_")]
    assert [spec.name for spec in caches] == [cache_name(index) for index in range(len(caches))]
    assert [spec.shape for spec in following.outputs[1:]] == [spec.shape for spec in caches]


def test_weights_are_constants_stored_once(tiny_engine: Path) -> None:
    """A VAE's half has two graphs and one copy of its weights; none is transposed at run time."""
    users: dict[int, set[str]] = {}
    content = (tiny_engine / "weights.bin").read_bytes()
    for file in tiny_engine.glob("*.onnx"):
        model = onnx.load(file, load_external_data=False)
        constants = {tensor.name for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type in ("Transpose", "Slice", "Gather", "Split", "Cast"):
                assert node.input[0] not in constants, f"{file.stem}: {node.name}"
        for tensor in model.graph.initializer:
            at = {entry.key: entry.value for entry in tensor.external_data}
            start, length = int(at.get("offset", 0)), int(at.get("length", 0))
            if any(content[start : start + length]):  # zeros are no weights
                users.setdefault(start, set()).add(file.stem)
    for half in ("encoder", "decoder"):
        of_first = [stems for stems in users.values() if f"{half}_first" in stems]
        assert len(of_first) > 8
        assert all(stems == {f"{half}_first", f"{half}_following"} for stems in of_first)


@torch.inference_mode()
def test_everything_may_stand_in_the_weights_file(
    network: DktNetwork, engine: EngineNetwork, tmp_path: Path
) -> None:
    """As for a network beyond 2 GB: with no weight left in a graph, it computes the same."""
    graph = NetworkGraphs(network, SIZE).embed_rgb()
    with graph_writer(tmp_path, smallest=0) as write:
        file = write(export(graph), graph.name)
    model = onnx.load(tmp_path / file, load_external_data=False)
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == 1]
    assert {tensor.data_location for tensor in weights} == {onnx.TensorProto.EXTERNAL}
    assert len(weights) == 2
    runner = OnnxRunner(
        open_session(tmp_path / file), GraphSpec(graph.name, file, None, *graph.specs())
    )
    latents = random(1, 16, 1, 4, 6)
    found = runner({"latents": latents})["tokens"]
    torch.testing.assert_close(found, engine.embed_rgb(latents))


def test_a_size_that_the_network_cannot_have_is_refused(
    tiny_request: EngineRequest, tmp_path: Path
) -> None:
    with pytest.raises(DktError, match="multiples of 16"):
        export_engine(replace(tiny_request, size=(32, 50)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_halves_that_a_cpu_does_not_compute_are_refused(tiny_engine: Path) -> None:
    manifest = replace(Manifest.read(tiny_engine), precision="bf16")
    with pytest.raises(DktError, match=r"bf16 graphs, .* none on a CPU; export them with --precis"):
        load_runners(tiny_engine, manifest, [EMBED_RGB])
    assert load_runners(tiny_engine, manifest, [EMBED_RGB], widen=True).keys() == {EMBED_RGB}


def test_raw_depth_goes_into_the_graphs(tiny_engine: Path, tmp_path: Path) -> None:
    """Live, from a checkpoint that is shown it: once with readings from the start, once without.

    Its weights are the tiny network's, so that the graph of what it is shown alone is another.
    """
    checkpoint = load_checkpoint(make_tiny_checkpoint(tmp_path / "shown", condition="raw_depth"))
    options = LiveOptions(window=1, new=1, steps=2, scene_cut=None)
    graphs = NetworkGraphs(checkpoint, SIZE)
    graph = graphs.embed_rgb()
    with graph_writer(tmp_path) as write:
        spec = GraphSpec(EMBED_RGB, write(export(graph), EMBED_RGB), None, *graph.specs())
    (given,) = spec.inputs
    assert given.shape == (1, 32, 1, 4, 6)
    manifest = Manifest.read(tiny_engine)
    step = manifest.graph("step_T2")
    assert graphs.step(2).specs() == (step.inputs, step.outputs), "it sees tokens, as ever"
    others = [one for one in manifest.graphs if one.name != EMBED_RGB]
    runners = load_runners(tiny_engine, manifest, [one.name for one in others])
    runners |= {EMBED_RGB: OnnxRunner(open_session(tmp_path / spec.onnx), spec)}
    constants = read_constants(tiny_engine, manifest)
    manifest = replace(manifest, info=checkpoint.info, graphs=(*others, spec))
    engine = EngineNetwork(manifest, runners, constants, torch.device("cpu"))
    fast = FastNetwork(checkpoint)
    write_checks(tmp_path, fast, SIZE, (1,), lambda stage, done, total: None)
    require_accurate(engine, tmp_path, manifest, (1,))
    rows = np.linspace(1.2, 0.6, SIZE[0], dtype=np.float32)[:, None]
    depth = np.repeat(rows, SIZE[1], axis=1)
    depth[8:16, 8:16] = np.nan
    for raw in (depth, None):
        ours, theirs = LivePredictor(engine, options), LivePredictor(fast, options)
        for frame in video(5):
            found, expected = ours.push(frame, raw), theirs.push(frame, raw)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                assert found.limits == expected.limits
                assert (found.limits is None) == (raw is None)
                np.testing.assert_allclose(found.disparity, expected.disparity, atol=TOLERANCE)
