"""Which plans may be loaded, and who gets which memory when."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.cuda_on_cpu import FakeCuda, FakeStream
from fixtures.interrupts import interrupts as interrupts
from fixtures.interrupts import raise_interrupt
from fixtures.sums_engine import INPUTS, LOOKED_AHEAD, look_ahead, write_plans
from fixtures.tensorrt_on_cpu import PLANS, TensorRTOnCpu

from dkt_ros.errors import DktError
from dkt_ros.model import cuda_graphs
from dkt_ros.model.compiled import tensorrt_runtime
from dkt_ros.model.compiled.manifest import GraphRunner, GraphSpec, Manifest, TensorSpec
from dkt_ros.model.compiled.tensorrt_runtime import (
    CachePool,
    Described,
    addresses,
    check_described,
    is_cache,
    load_runners,
    nbytes,
    read_plan,
)
from dkt_ros.model.streaming_vae import Caches, Stream

PLAN = b"a plan"
GRAPH = GraphSpec(
    "encoder_first",
    "encoder_first.onnx",
    "encoder_first.plan",
    (TensorSpec("images", (1, 3, 1, 32, 48), "float32"),),
    (TensorSpec("latents", (1, 16, 1, 4, 6), "float32"),),
    hashlib.sha256(PLAN).hexdigest(),
)
FOUND: Described = {
    "images": ("input", (1, 3, 1, 32, 48), "float32"),
    "latents": ("output", (1, 16, 1, 4, 6), "float32"),
}


def test_the_plan_that_was_built_is_read(tmp_path: Path) -> None:
    (tmp_path / "encoder_first.plan").write_bytes(PLAN)
    assert read_plan(tmp_path, GRAPH) == PLAN


@pytest.mark.parametrize(
    ("graph", "content", "says"),
    [
        (GRAPH, b"another plan", "changed after it was built"),
        (GRAPH, None, "cannot be read"),
        (replace(GRAPH, plan=None), PLAN, "no plan of encoder_first"),
        (replace(GRAPH, plan_sha256=None), PLAN, "no plan of encoder_first"),
    ],
)
def test_any_other_file_is_refused(
    tmp_path: Path, graph: GraphSpec, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "encoder_first.plan").write_bytes(content)
    with pytest.raises(DktError, match=f"{says}.*dkt engine build"):
        read_plan(tmp_path, graph)


def test_a_plan_with_its_graphs_inputs_and_outputs_passes() -> None:
    check_described(GRAPH, FOUND)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": ("input", (1, 3, 1, 64, 48), "float32")}, "images is an input 1x3x1x64x48"),
        ({"latents": ("output", (1, 16, 1, 4, 6), "bfloat16")}, "latents is an output .* bfloat16"),
        ({"latents": ("input", (1, 16, 1, 4, 6), "float32")}, "latents is an input"),
        ({"more": ("input", (1,), "float32")}, "more is an input 1 float32, .* says missing"),
    ],
)
def test_a_plan_of_another_graph_is_refused(change: Described, says: str) -> None:
    with pytest.raises(DktError, match=says):
        check_described(GRAPH, {**FOUND, **change})


SPECS = (
    TensorSpec("new_cache_00", (1, 2, 2), "float32"),
    TensorSpec("new_cache_01", (3,), "float16"),
)


def counting(pool: CachePool) -> Stream:
    """A stream whose caches hold how many chunks it has seen."""

    def first(chunk: torch.Tensor) -> tuple[torch.Tensor, Caches]:
        caches = pool.lend()
        for cache in caches:
            cache.fill_(1)
        return chunk, caches

    def following(chunk: torch.Tensor, caches: Caches) -> tuple[torch.Tensor, Caches]:
        new = pool.lend()
        for before, after in zip(caches, new, strict=True):
            torch.add(before, 1, out=after)
        return caches[0].mean() + chunk, new

    return Stream(first, following)


def test_sets_have_the_shapes_and_types_asked_for() -> None:
    lent = CachePool(SPECS, torch.device("cpu")).lend()
    assert [(tuple(t.shape), t.dtype) for t in lent] == [
        ((1, 2, 2), torch.float32),
        ((3,), torch.float16),
    ]


@torch.inference_mode()
def test_two_sets_take_turns_in_a_stream() -> None:
    pool = CachePool(SPECS, torch.device("cpu"))
    stream = counting(pool)
    seen = []
    zero = torch.zeros(1)
    for _ in range(7):
        stream.advance(zero)
        assert stream.caches is not None
        seen.append(addresses(stream.caches))
    assert len(pool) == 2
    assert seen[0::2] == [seen[0]] * 4
    assert seen[1::2] == [seen[1]] * 3
    assert not set(seen[0]) & set(seen[1])
    assert stream.caches is not None
    assert stream.caches[0].mean() == 7


@torch.inference_mode()
def test_a_look_ahead_leaves_the_set_it_came_from_alone() -> None:
    pool = CachePool(SPECS, torch.device("cpu"))
    stream = counting(pool)
    zero = torch.zeros(1)
    for _ in range(3):
        stream.advance(zero)
    for _ in range(4):
        before = stream.caches
        for ahead in range(3):  # as LivePredictor does
            assert stream.advance(zero) == 3 + ahead
        stream.caches = before
        assert stream.peek(zero) == 3
        assert before is not None
        assert before[0].mean() == 3
    assert len(pool) == 3


def test_one_tensor_that_is_held_keeps_its_set() -> None:
    pool = CachePool(SPECS, torch.device("cpu"))
    held = pool.lend()[1]
    assert held.data_ptr() not in addresses(pool.lend())
    assert len(pool) == 2
    address = held.data_ptr()
    del held
    assert address in addresses(pool.lend())
    assert len(pool) == 2


def test_bytes_are_counted_by_type() -> None:
    assert nbytes(SPECS) == 4 * 4 + 3 * 2
    assert nbytes([TensorSpec("new_cache_30", (2, 96, 480, 832), "bfloat16")]) == 153_354_240


def test_caches_are_told_by_their_names() -> None:
    names = ("cache_00", "new_cache_12", "images", "modulation")
    specs = [TensorSpec(name, (1,), "float32") for name in names]
    assert [is_cache(spec) for spec in specs] == [True, True, False, False]


CPU = torch.device("cpu")
Engine = tuple[Path, Manifest]


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TensorRTOnCpu:
    class Torch:
        cuda = FakeCuda()

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    module = TensorRTOnCpu(Torch.cuda, request.param)
    monkeypatch.setattr(tensorrt_runtime, "torch", Torch())
    monkeypatch.setattr(tensorrt_runtime, "import_tensorrt", lambda: module)
    return module


@pytest.fixture
def sums(tmp_path: Path) -> Engine:
    return tmp_path, write_plans(tmp_path, {name: name.encode() for name in INPUTS})


def loaded(engine: Engine, **options: Any) -> dict[str, GraphRunner]:
    return load_runners(*engine, INPUTS, CPU, **options)


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("side_stream", [False, True])
def test_a_stream_with_look_aheads(
    trt: TensorRTOnCpu, sums: Engine, records: bool, side_stream: bool
) -> None:
    seen: list[tuple[int, int]] = []
    progress: Callable[[int, int], None] = lambda *at: seen.append(at)  # noqa: E731
    runners = loaded(sums, cuda_graphs=records, on_progress=progress)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    current = FakeStream() if side_stream else trt.cuda.caller
    with trt.cuda.stream(current):
        assert look_ahead(runners, CPU) == LOOKED_AHEAD
        assert trt.cuda.current is current
    replayed = [graph.replays for graph in trt.cuda.graphs]
    assert (sum(replayed) > 10) == records
    assert len(replayed) < 10, "sets of caches recur"
    assert {options["capture_error_mode"] for options in trt.cuda.captures} <= {"thread_local"}


def test_what_is_large_is_launched_each_time(
    trt: TensorRTOnCpu, sums: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "RECORD_LIMIT_BYTES", 3 * 16)
    assert look_ahead(loaded(sums), CPU) == LOOKED_AHEAD
    assert len(trt.cuda.graphs) == 1, "first takes and gives no more"


def test_what_cannot_be_recorded_is_launched_each_time(
    trt: TensorRTOnCpu, sums: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    trt.plans[b"following"] = replace(PLANS[b"following"], takes_more=True)
    assert look_ahead(loaded(sums), CPU) == LOOKED_AHEAD
    assert trt.cuda.current is trt.cuda.caller
    assert [graph.replays for graph in trt.cuda.graphs if graph.launches] == [0]
    tried = 2 if trt.__name__ == "tensorrt" else 1
    assert len(trt.cuda.graphs) == tried, "TensorRT for RTX is asked before"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "following runs without a CUDA graph" in record.getMessage()


def test_all_plans_work_in_one_memory(trt: TensorRTOnCpu, sums: Engine) -> None:
    runners = loaded(sums)
    assert len(runners) == len(trt.contexts) == 2
    [memory] = {context.memory for context in trt.contexts}
    assert memory is not None
    assert memory[1] == 1000


def test_windows_of_one_plan_have_a_profile_each(trt: TensorRTOnCpu, tmp_path: Path) -> None:
    (tmp_path / "step.plan").write_bytes(b"step")
    graphs = tuple(
        GraphSpec(
            f"step_T{frames}",
            "step.onnx",
            "step.plan",
            (TensorSpec("noisy", (frames, 4), "float32"),),
            (TensorSpec("velocity", (frames, 4), "float32"),),
            hashlib.sha256(b"step").hexdigest(),
        )
        for frames in (1, 3)
    )
    manifest = replace(write_plans(tmp_path, {}), graphs=graphs)
    for names in (["step_T3"], ["step_T3", "step_T1"]):
        runners = load_runners(tmp_path, manifest, names, CPU)
        for name in names * 2:
            noisy = torch.arange(4.0 * int(name[-1])).view(-1, 4)
            assert torch.equal(runners[name]({"noisy": noisy})["velocity"], 2 * noisy)
    wrong = replace(manifest, graphs=(*graphs[:1], *graphs))
    with pytest.raises(DktError, match=r"step\.plan has no profile of step_T3: .*engine build"):
        load_runners(tmp_path, wrong, ["step_T3"], CPU)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("records", [False, True])
def test_inputs_of_another_type_or_order_in_memory_are_taken(
    trt: TensorRTOnCpu, sums: Engine, dtype: torch.dtype, records: bool
) -> None:
    runners = loaded(sums, cuda_graphs=records)
    strided = torch.arange(8, dtype=dtype).view(4, 2).T
    for _ in range(2):
        found = runners["following"]({"chunk": strided[:1], "cache_00": strided[1:]})
        assert found["result"].tolist() == [[1.0, 5.0, 9.0, 13.0]]
        assert found["new_cache_00"].tolist() == [[2.0, 4.0, 6.0, 8.0]]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("create_execution_context", "first.plan gives no execution context"),
        ("set_tensor_address", "first: cannot bind chunk"),
        ("execute_async_v3", "failed to run first"),
    ],
)
def test_what_tensorrt_refuses_is_said_in_its_words(
    trt: TensorRTOnCpu, sums: Engine, call: str, says: str
) -> None:
    trt.fails = call
    for records in (False, True):
        with pytest.raises(DktError, match=f"{says}: {call} failed$"):
            loaded(sums, cuda_graphs=records)["first"]({"chunk": torch.zeros(1, 4)})


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("call", ["deserialize_cuda_engine", "create_execution_context"])
def test_ctrl_c_ends_loading(trt: TensorRTOnCpu, sums: Engine, call: str) -> None:
    trt.meanwhile = lambda made: raise_interrupt() if made == call else None
    with pytest.raises(KeyboardInterrupt):
        loaded(sums)


def test_a_plan_that_is_none_or_of_another_graph_is_named(trt: TensorRTOnCpu, sums: Engine) -> None:
    trt.plans[b"following"] = replace(PLANS[b"following"], dtype="HALF")
    with pytest.raises(DktError, match=r"following\.plan: cache_00 is an input 1x4 float16, eng"):
        loaded(sums)
    trt.plans[b"following"] = replace(PLANS[b"following"], dtype="INT8")
    with pytest.raises(DktError, match=r"cache_00 is an input 1x4 INT8, engine\.json says an inp"):
        loaded(sums)
    del trt.plans[b"following"]
    with pytest.raises(DktError, match=r"following\.plan cannot be loaded: no plan; .*engine buil"):
        loaded(sums)
