"""What torch is asked for on which device."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from fixtures.compile_counter import CompileCounter

from dkt_ros.model import torch_backend
from dkt_ros.model.torch_backend import (
    SHAPES,
    accelerated,
    can_compile,
    compiled,
    half_precision,
    half_precision_of,
)

CPU = torch.device("cpu")
MANY = 12
"""More shapes than torch compiles a function for by itself, and fewer than SHAPES."""


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((6, 1), "float16"),
        ((7, 5), "float16"),
        ((8, 0), "bfloat16"),
        ((8, 7), "bfloat16"),
        ((9, 0), "bfloat16"),
        ((12, 0), "bfloat16"),
    ],
)
def test_bfloat16_where_the_gpu_has_it(capability: tuple[int, int], name: str) -> None:
    assert half_precision_of(capability) == name


def test_a_cpu_has_bfloat16_and_computes_eagerly() -> None:
    assert half_precision(CPU) == "bfloat16"
    assert not can_compile(CPU)
    assert compiled(torch.neg, CPU) is torch.neg
    assert accelerated(torch.neg, CPU) is torch.neg


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """Stands for the compiler, of a device that has one."""
    backend = CompileCounter()
    monkeypatch.setattr(torch_backend, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch.compiler.reset()
    yield backend
    torch.compiler.reset()


def test_every_window_is_compiled_whichever_thread_it_comes_to(counter: CompileCounter) -> None:
    """The node makes its network in one thread and calls it in another."""
    function = compiled(lambda x: x + 1, CPU)
    function(torch.zeros(1))
    with ThreadPoolExecutor(1) as worker:
        for size in range(2, MANY + 1):
            assert worker.submit(function, torch.zeros(size)).result().tolist() == [1.0] * size
    assert counter.compiled == MANY


def test_what_others_allow_stays_allowed(counter: CompileCounter) -> None:
    from torch._dynamo import config

    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    with config.patch({name: SHAPES + 1}):
        compiled(torch.neg, CPU)(torch.zeros(1))
        assert getattr(config, name) == SHAPES + 1
