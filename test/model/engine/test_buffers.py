"""Who gets which memory when."""

from __future__ import annotations

import torch

from dkt_ros.model.engine.buffers import CachePool, addresses, is_cache, nbytes
from dkt_ros.model.engine.manifest import TensorSpec
from dkt_ros.model.streaming_vae import Caches, Stream

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
