"""What torch is asked for on which device."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from fixtures.compile_counter import CompileCounter
from fixtures.tiny_checkpoint import TEXT_DIM, tiny_transformer, tiny_vae
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

from dkt_ros.model import torch_backend
from dkt_ros.model.cuda_graphs import RecordedFunction
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.torch_backend import (
    SHAPES,
    accelerated,
    attention_kernels,
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


def test_on_a_gpu_what_is_recorded_is_compiled(counter: CompileCounter) -> None:
    function = accelerated(lambda x: x + 1, torch.device("cuda"))
    assert isinstance(function, RecordedFunction)
    assert function(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert counter.compiled == 1


@pytest.mark.parametrize(
    ("capability", "first", "cudnn"),
    [
        ((8, 9), SDPBackend.FLASH_ATTENTION, False),
        ((9, 0), SDPBackend.CUDNN_ATTENTION, True),
        ((12, 0), SDPBackend.CUDNN_ATTENTION, True),
    ],
)
def test_attention_takes_what_is_fastest_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], first: SDPBackend, cudnn: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with attention_kernels(torch.device("cuda")):
        assert SDPBackend(torch._C._get_sdp_priority_order()[0]) == first
        assert torch.backends.cuda.cudnn_sdp_enabled() == cudnn
        assert torch.backends.cuda.math_sdp_enabled(), "for what no other fits"


class Convolutions(TorchDispatchMode):
    """Notes how many dimensions convolutions have, and whether they are laid out channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: set[tuple[int, bool]] = set()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket is torch.ops.aten.convolution:
            self.count += 1
            last = [tensor.is_contiguous(memory_format=LAST) for tensor in args[:2]]
            self.kinds.add((args[0].dim(), all(last)))
        return func(*args, **(kwargs or {}))


LAST = torch.channels_last


@torch.no_grad()
def test_a_vae_is_arranged_for_flat_convolutions_without_what_adds_nothing() -> None:
    torch.manual_seed(0)
    plain = tiny_vae().requires_grad_(False)
    plain.encoder.conv_in.weight[:, :, :2] = 0.0
    arranged, counts = copy.deepcopy(plain), []
    transformer = tiny_transformer().requires_grad_(False)
    info = CheckpointInfo(name="tiny", text_tokens=4)
    fast = FastNetwork(DktNetwork(transformer, arranged, torch.zeros(1, TEXT_DIM), info))
    for name, weight in plain.state_dict().items():
        assert torch.equal(arranged.state_dict()[name], weight)
        if weight.dim() == 5:
            taps = arranged.state_dict()[name].unbind(2)
            assert all(tap.is_contiguous(memory_format=LAST) for tap in taps), "never copied"
    for silent in (True, False):
        if not silent:
            arranged.encoder.conv_in.silent = frozenset()
        images, latents = fast.encoder_stream(), fast.decoder_stream()
        with Convolutions() as seen:
            for frames in (1, 4):
                latents.advance(images.advance(torch.rand(1, 3, frames, 32, 48)))
        counts.append(seen.count)
    assert counts[0] == counts[1] - 2
    assert seen.kinds == {(4, True)}
