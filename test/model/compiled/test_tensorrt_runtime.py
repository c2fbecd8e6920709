"""Which plans may be loaded, and who gets which memory when."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.manifest import GraphSpec, TensorSpec
from dkt_ros.model.compiled.tensorrt_runtime import (
    CachePool,
    Described,
    addresses,
    check_described,
    is_cache,
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
