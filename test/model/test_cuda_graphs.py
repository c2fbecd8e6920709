"""When a function is recorded, and that a replay is the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dkt_ros.model import cuda_graphs
from dkt_ros.model.cuda_graphs import (
    CudaRecording,
    RecordedFunction,
    signature,
    tensors_in,
    with_tensors,
)
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.streaming_vae import Caches, Stream


def running_sum(chunk: Tensor, caches: Caches, factor: int = 1) -> tuple[Tensor, Caches]:
    total = caches[0] + factor * chunk
    return total.mean(), (total, caches[1] + 1)


class Recorder:
    """Records on a CPU: the same places for inputs and results, computed anew at each replay."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Callable[[list[Tensor]], Any]:
        self.recorded += 1
        return lambda tensors: function(*with_tensors(arguments, iter(tensors)))


def caches(size: int = 3) -> Caches:
    return torch.zeros(size), torch.zeros(1)


def test_the_second_call_with_the_same_shapes_is_recorded() -> None:
    record = Recorder()
    function = RecordedFunction(running_sum, record)
    seen = []
    for _ in range(4):
        function(torch.ones(3), caches())
        seen.append(record.recorded)
    assert seen == [0, 1, 1, 1]
    for _ in range(2):
        function(torch.ones(2), caches(2))
    assert record.recorded == 2
    for _ in range(2):
        function(torch.ones(3), caches(), 5)
    assert record.recorded == 3, "another number is another recording"


def test_every_call_gives_what_the_function_gives() -> None:
    function = RecordedFunction(running_sum, Recorder())
    state = caches()
    for call in range(1, 5):
        mean, state = function(torch.full((3,), 2.0), state)
        assert (float(mean), float(state[1])) == (2.0 * call, float(call))


def test_what_moves_too_much_memory_is_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Recorder()
    function = RecordedFunction(running_sum, record)
    monkeypatch.setattr(cuda_graphs, "RECORD_LIMIT_BYTES", 4 * (3 + 3 + 1 + 1 + 3 + 1) - 1)
    for _ in range(3):
        function(torch.ones(3), caches())
    assert record.recorded == 0
    monkeypatch.setattr(cuda_graphs, "RECORD_LIMIT_BYTES", 4 * (2 + 2 + 1 + 1 + 2 + 1))
    for _ in range(3):
        function(torch.ones(2), caches(2))
    assert record.recorded == 1


def test_nested_tuples_keep_their_form() -> None:
    a, b, c = (torch.full((1,), float(i)) for i in range(3))
    nested = (a, (b, (c,)), 7)
    assert [float(t) for t in tensors_in(nested)] == [0.0, 1.0, 2.0]
    doubled = with_tensors(nested, (t * 2 for t in tensors_in(nested)))
    assert [float(t) for t in tensors_in(doubled)] == [0.0, 2.0, 4.0]
    assert doubled[2] == 7
    assert len(doubled[1]) == 2


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(3, 2),
        torch.zeros(2, 3, dtype=torch.float16),
        (torch.zeros(2, 3),),
        0.0,
    ],
)
def test_what_differs_is_told_apart(other: object) -> None:
    assert signature(torch.ones(3, 2).T) == signature(torch.zeros(2, 3))
    assert signature(other) != signature(torch.zeros(2, 3))


def test_a_pool_ends_with_the_last_that_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = iter(range(9))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(handles))
    device, other = torch.device("cuda", 0), torch.device("cuda", 1)
    first = cuda_graphs.pool_of(device)
    assert cuda_graphs.pool_of(device) is first
    assert cuda_graphs.pool_of(other).handle != first.handle
    ended = first.handle
    del first
    assert cuda_graphs.pool_of(device).handle != ended


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_recording_goes_on_after_all_recordings_are_gone() -> None:
    """As when a network is taken down and another one loaded."""
    for _ in range(2):
        recording = CudaRecording(lambda x: 2 * x, (torch.ones(3, device="cuda"),))
        assert recording([torch.full((3,), 4.0, device="cuda")]).tolist() == [8.0] * 3
        del recording


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_a_replay_on_a_gpu_is_the_function(tiny_network: DktNetwork) -> None:
    from dkt_ros.model.streaming_vae import StreamingEncoder

    encoder = StreamingEncoder(tiny_network.vae).cuda()
    plain = Stream(encoder.first, encoder.following)
    recorded = Stream(
        RecordedFunction(encoder.first, CudaRecording),
        RecordedFunction(encoder.following, CudaRecording),
    )
    images = torch.randn(6, 1, 3, 4, 32, 48, device="cuda")
    for _ in range(3):
        plain.reset()
        recorded.reset()
        for index, chunk in enumerate(images):
            part = chunk if index else chunk[:, :, :1]
            torch.testing.assert_close(recorded.peek(part), plain.peek(part))
            torch.testing.assert_close(recorded.advance(part), plain.advance(part))
    tiny_network.vae.cpu()
