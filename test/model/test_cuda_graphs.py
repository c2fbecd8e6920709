"""When a function is recorded, and that a replay is the function."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures.compile_counter import CompileCounter
from fixtures.cuda_on_cpu import FakeCuda, FakeStream
from torch import Tensor

from dkt_ros.model import cuda_graphs
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.cuda_graphs import (
    KEPT,
    CudaRecording,
    RecordedFunction,
    signature,
    tensors_in,
    with_tensors,
)
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.sampler import initial_noise
from dkt_ros.model.streaming_vae import Caches, Stream
from dkt_ros.model.torch_backend import accelerated


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


def test_of_ever_other_shapes_the_newest_are_kept() -> None:
    record = Recorder()
    function = RecordedFunction(running_sum, record)
    for size in range(1, 3 * KEPT):
        for number in (size, 1):
            for _ in range(2):
                mean, _ = function(torch.full((number,), 2.0), caches(number))
                assert float(mean) == 2.0
        assert function.recordings <= KEPT
    assert function.recordings == KEPT
    assert record.recorded == 3 * KEPT - 1, "what is called now and then stays"
    for _ in range(2):
        function(torch.ones(2), caches(2))
    assert record.recorded == 3 * KEPT, "what was forgotten is new"
    for size in (0, *range(3 * KEPT, 4 * KEPT), 0):
        function(torch.ones(size), caches(size))
    assert record.recorded == 3 * KEPT, "and so is what was called once, long ago"


def test_recordings_of_much_memory_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    function = RecordedFunction(running_sum, Recorder())
    each = 4 * (1000 + 1000 + 1 + 1 + 1000 + 1)
    monkeypatch.setattr(cuda_graphs, "KEPT_BYTES", 3 * each + 1000)
    for factor in range(8):
        for _ in range(3):
            function(torch.ones(1000), caches(1000), factor)
        assert function.recordings == min(factor + 1, 3)
    monkeypatch.setattr(cuda_graphs, "KEPT_BYTES", 1)
    for _ in range(3):
        function(torch.ones(1000), caches(1000), 8)
    assert function.recordings == 1, "the newest stays"


def test_what_is_not_recorded_takes_no_recordings_place(monkeypatch: pytest.MonkeyPatch) -> None:
    each = 4 * (1000 + 1000 + 1 + 1 + 1000 + 1)
    monkeypatch.setattr(cuda_graphs, "RECORD_LIMIT_BYTES", each)
    monkeypatch.setattr(cuda_graphs, "KEPT_BYTES", 3 * each)
    for sizes in ((1000,) * 3 + (9000,), (9000,) + (1000,) * 4):
        function = RecordedFunction(running_sum, Recorder())
        for factor, size in enumerate(sizes):
            for _ in range(3):
                function(torch.ones(size), caches(size), factor)
        assert function.recordings == 3


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
        torch.zeros(2, 3, device="meta"),
        (torch.zeros(2, 3),),
        0.0,
    ],
)
def test_what_differs_is_told_apart(other: object) -> None:
    assert signature(torch.ones(3, 2).T) == signature(torch.zeros(2, 3))
    assert signature(other) != signature(torch.zeros(2, 3))
    assert signature(1) != signature(1.0)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_graphs, "torch", SimpleNamespace(cuda=fake))
    return fake


def slices(parts: int) -> list[Tensor]:
    """The same shape and type, and other strides each time."""
    return [torch.randn(1, 2, 3 + length, 4)[:, :, :3] for length in range(parts)]


def as_caches(parts: int) -> list[Tensor]:
    """From `first`, then from `following`: dense both, in another order."""
    last = torch.randn(1, 3, 4, 2).permute(0, 3, 1, 2)
    return [torch.randn(1, 2, 3, 4), *([last] * (parts - 1))]


@pytest.mark.parametrize("given", [slices, as_caches])
def test_nothing_compiles_in_a_capture(
    cuda: FakeCuda, given: Callable[[int], list[Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    """Strides are no part of a signature, but torch compiles for each; in a capture it cannot."""
    counter = CompileCounter()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        if cuda.capturing:
            raise RuntimeError("compiled in a capture")
        return counter(graph, inputs)

    torch.compiler.reset()
    compiled = torch.compile(lambda x: (x.mean(), (x + 1,)), backend=backend, dynamic=False)
    function = RecordedFunction(compiled, CudaRecording)
    first, second = given(2)
    function(first)
    mean, (after,) = function(second)
    assert counter.compiled == 2, "the strides differ, so that the second call compiles too"
    assert function.recordings == len(cuda.captures) == 1
    assert not caplog.records
    torch.testing.assert_close(mean, second.mean())
    torch.testing.assert_close(after, second + 1)
    torch.compiler.reset()


def test_a_replay_is_the_function_and_its_results_are_the_callers(cuda: FakeCuda) -> None:
    function = RecordedFunction(running_sum, CudaRecording)
    chunks, states, means = [], [caches()], []
    for call in range(6):
        chunks.append(torch.arange(3.0) + call)
        mean, state = function(chunks[-1], states[-1])
        means.append(mean)
        states.append(state)
    assert [graph.replays for graph in cuda.graphs] == [5]
    expected = caches()
    for call, chunk in enumerate(chunks):
        assert torch.equal(chunk, torch.arange(3.0) + call), "what is given stays"
        assert all(map(torch.equal, states[call], expected))
        mean, expected = running_sum(chunk, expected)
        assert torch.equal(means[call], mean)


def test_before_a_capture_the_function_runs_once_aside(cuda: FakeCuda) -> None:
    streams: list[FakeStream] = []

    def function(x: Tensor) -> Tensor:
        streams.append(cuda.current)
        return x + 1

    recordings = [CudaRecording(function, (torch.ones(size),)) for size in (1, 2)]
    aside, capture = streams[:2]
    assert len({cuda.caller, aside, capture}) == 3
    assert streams == [aside, capture] * 2, "memory is shared between captures of one stream"
    assert [options["stream"] for options in cuda.captures] == [capture] * 2
    assert len({options["pool"] for options in cuda.captures}) == 1
    modes = {options["capture_error_mode"] for options in cuda.captures}
    assert modes == {"thread_local"}, "other threads may compute meanwhile"
    assert aside.waited_for == [cuda.caller] * 2
    assert cuda.caller.waited_for == [aside] * 2
    assert cuda.current is cuda.caller
    assert len(recordings) == 2


def test_what_cannot_be_recorded_is_called_as_it_is(
    cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    def stubborn(x: Tensor) -> Tensor:
        if cuda.capturing:
            cuda.capturing = False
            raise RuntimeError("operation not permitted when stream is capturing")
        return 2 * x

    function = RecordedFunction(stubborn, CudaRecording)
    for _ in range(4):
        for size in (2, 3):
            assert function(torch.ones(size)).tolist() == [2.0] * size
    assert len(cuda.captures) == 2, "one attempt for each signature"
    assert cuda.current is cuda.caller, "and nothing is left on the capture's stream"
    assert function.recordings == 0
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "stubborn" in record.getMessage()
    assert "not permitted" in record.getMessage()


def test_a_function_that_fails_by_itself_fails_as_ever(cuda: FakeCuda) -> None:
    calls = []

    def failing(x: Tensor) -> Tensor:
        calls.append(x)
        if len(calls) > 1:
            raise RuntimeError("out of memory")
        return x

    function = RecordedFunction(failing, CudaRecording)
    function(torch.ones(1))
    with pytest.raises(RuntimeError, match="out of memory"):
        function(torch.ones(1))


def test_a_pool_ends_with_the_last_that_holds_it(cuda: FakeCuda) -> None:
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
def test_a_capture_that_cuda_refuses_leaves_torch_whole(caplog: pytest.LogCaptureFixture) -> None:
    function = RecordedFunction(lambda x: x * x.sum().item(), CudaRecording)
    for _ in range(3):
        assert function(torch.ones(2, device="cuda")).tolist() == [2.0, 2.0]
    assert function.recordings == 0
    assert len(caplog.records) == 1
    torch.cuda.synchronize()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    other = RecordedFunction(lambda x: x + 1, CudaRecording)
    for _ in range(3):
        assert other(torch.ones(2, device="cuda")).tolist() == [2.0, 2.0]


@pytest.fixture
def on_gpu(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> FastNetwork:
    """As it is used on a GPU, compiled and recorded; in full float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return FastNetwork(load_checkpoint(tiny_checkpoint, "cuda", "float32"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_a_replay_on_a_gpu_is_the_function(
    on_gpu: FastNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    for first, following, shape in (
        (on_gpu.encoder.first, on_gpu.encoder.following, (3, 4, 32, 48)),
        (on_gpu.decoder.first, on_gpu.decoder.following, (16, 1, 4, 6)),
    ):
        fast = [accelerated(part, on_gpu.device) for part in (first, following)]
        recorded, plain = Stream(fast[0], fast[1]), Stream(first, following)
        for _ in range(3):
            plain.reset()
            recorded.reset()
            for index, chunk in enumerate(initial_noise((6, 1, *shape), 0).cuda()):
                part = chunk if index else chunk[:, :, :1]
                expected = plain.peek(part)
                torch.testing.assert_close(recorded.peek(part), expected, atol=1e-3, rtol=1e-3)
                torch.testing.assert_close(
                    recorded.advance(part), plain.advance(part), atol=1e-3, rtol=1e-3
                )
        for function in fast:
            assert isinstance(function, RecordedFunction)
            assert function.recordings == 1
    assert not caplog.records, "nothing failed to be recorded"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_a_replayed_step_on_a_gpu_is_the_step_whatever_its_strides(
    on_gpu: FastNetwork, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on_cpu = FastNetwork(load_checkpoint(tiny_checkpoint))
    step = on_gpu._step
    for length in (3, 4, 5, 6):
        noisy, rgb = (initial_noise((1, 16, length, 4, 6), seed) for seed in (length, 9))
        expected = on_cpu.velocity(noisy[:, :, :3], on_cpu.embed_rgb(rgb[:, :, :3]), 555.5)
        # Slices, as a clip's windows are: given to the step itself, past FastNetwork's care.
        tokens = on_gpu.embed_rgb(rgb)[:, :, :3]
        constants = (*on_gpu.transformer.modulations(555.5), *on_gpu.transformer.rope(3, 2, 3))
        found = step(noisy.cuda()[:, :, :3], tokens, *constants, 3)
        torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)
    assert isinstance(step, RecordedFunction)
    assert step.recordings == 1
    assert not caplog.records, "nothing failed to be recorded"
