"""What torch is asked for on which device."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo import config

from dkt_ros.model.torch_backend import (
    SHAPES,
    _allow_shapes,
    accelerated,
    can_compile,
    compiled,
    half_precision,
    half_precision_of,
)

CPU = torch.device("cpu")


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


def test_a_function_may_be_compiled_for_every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    monkeypatch.setattr(config, name, 8)
    _allow_shapes(SHAPES)
    assert getattr(config, name) == SHAPES
    _allow_shapes(2)
    assert getattr(config, name) == SHAPES, "what others allow stays allowed"
