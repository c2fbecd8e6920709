"""Runs an engine's plans with TensorRT, from version 10.8 up to 11, on torch's tensors and streams.

Knows TensorRT's Python bindings. Knows nothing of what the graphs compute, nor which files may be
loaded (plans.py). All plans share one scratch memory, because they never run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.cuda_graphs import worth_recording
from dkt_ros.model.engine.buffers import (
    CachePool,
    addresses,
    is_cache,
    nbytes,
    torch_dtype,
)
from dkt_ros.model.engine.manifest import GraphRunner, GraphSpec, Manifest
from dkt_ros.model.engine.plans import (
    REBUILD,
    Described,
    check_described,
    read_plan,
)
from dkt_ros.model.engine.tensorrt_module import import_tensorrt, make_logger


def load_runners(
    folder: Path,
    manifest: Manifest,
    names: Iterable[str],
    device: torch.device,
    *,
    cuda_graphs: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, GraphRunner]:
    """Runners for the graphs of these names, on a CUDA device.

    cuda_graphs: replay recorded launches, which matters where the graphs are small.
    on_progress(done, total) counts plans. Raises DktError naming the plan and what is wrong.
    """
    trt = import_tensorrt()
    with torch.cuda.device(device):
        return _load(
            trt, folder, [manifest.graph(name) for name in names], device, cuda_graphs, on_progress
        )


def _load(
    trt: Any,
    folder: Path,
    graphs: Sequence[GraphSpec],
    device: torch.device,
    cuda_graphs: bool,
    on_progress: Callable[[int, int], None],
) -> dict[str, GraphRunner]:
    log = make_logger(trt)
    runtime = trt.Runtime(log)
    engines = []
    for done, graph in enumerate(graphs):
        on_progress(done, len(graphs))
        engines.append(_deserialize(runtime, log, read_plan(folder, graph), graph))
        check_described(graph, _described(trt, engines[-1]))
    on_progress(len(graphs), len(graphs))
    need = max((int(engine.device_memory_size_v2) for engine in engines), default=0)
    scratch = torch.empty(max(need, 1), dtype=torch.uint8, device=device)
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    runners: dict[str, GraphRunner] = {}
    for graph, engine in zip(graphs, engines, strict=True):
        context = engine.create_execution_context(strategy)
        if context is None:
            raise DktError(f"plan {graph.plan} gives no execution context: {log.last()}")
        context.set_device_memory(scratch.data_ptr(), scratch.nbytes)
        runners[graph.name] = TensorRTRunner(graph, context, scratch, log.last, cuda_graphs)
    return runners


class TensorRTRunner:
    """A GraphRunner over one plan's execution context. Results and new caches are the caller's."""

    def __init__(
        self,
        graph: GraphSpec,
        context: Any,
        scratch: Tensor,
        last_error: Callable[[], str],
        cuda_graphs: bool,
    ) -> None:
        """context: an IExecutionContext that works in `scratch`."""
        self._graph, self._context, self._last_error = graph, context, last_error
        self._scratch = scratch  # the context knows its address only
        self._device = scratch.device
        self._stream = torch.cuda.Stream(self._device)
        self._recorder: _Recorder | None = None
        if cuda_graphs and worth_recording(nbytes((*graph.inputs, *graph.outputs))):
            self._recorder = _Recorder(graph, self._device)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See GraphRunner. Enqueues on torch's current stream and does not wait for the result."""
        with torch.cuda.device(self._device):
            given = {
                spec.name: inputs[spec.name]
                .to(self._device, torch_dtype(spec.dtype), non_blocking=True)
                .contiguous()
                for spec in self._graph.inputs
            }
            if self._recorder is not None:
                return self._recorder.run(given, self._bind, self._launch, self._stream)
            outputs = {
                spec.name: torch.empty(
                    spec.shape, dtype=torch_dtype(spec.dtype), device=self._device
                )
                for spec in self._graph.outputs
            }
            self._bind(given | outputs)
            with _usable_stream(self._stream) as stream:
                self._launch(stream)
            return outputs

    def _bind(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise DktError(f"{self._graph.name}: cannot bind {name}: {self._last_error()}")

    def _launch(self, stream: torch.cuda.Stream) -> None:
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise DktError(f"TensorRT failed to run {self._graph.name}: {self._last_error()}")


class _Recorder:
    """Replays a graph's launches, recorded once for each pair of cache sets.

    Inputs and results have a place of their own, the caches lie in a CachePool: so addresses recur.
    """

    def __init__(self, graph: GraphSpec, device: torch.device) -> None:
        caches = {spec.name for spec in graph.inputs + graph.outputs if is_cache(spec)}
        self._new_caches = [spec.name for spec in graph.outputs if spec.name in caches]
        self._pool = CachePool([spec for spec in graph.outputs if spec.name in caches], device)
        self._fixed = {
            spec.name: torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=device)
            for spec in graph.inputs + graph.outputs
            if spec.name not in caches
        }
        self._results = [spec.name for spec in graph.outputs if spec.name not in caches]
        self._recorded: dict[tuple[int, ...], torch.cuda.CUDAGraph] = {}

    def run(
        self,
        given: Mapping[str, Tensor],
        bind: Callable[[Mapping[str, Tensor]], None],
        launch: Callable[[torch.cuda.Stream], None],
        stream: torch.cuda.Stream,
    ) -> dict[str, Tensor]:
        new_caches = dict(zip(self._new_caches, self._pool.lend(), strict=True))
        for name in given.keys() & self._fixed.keys():
            self._fixed[name].copy_(given[name])
        bound = {**given, **new_caches, **self._fixed}
        key = addresses([bound[name] for name in sorted(bound)])
        if key not in self._recorded:
            bind(bound)
            with _usable_stream(stream) as usable:
                launch(usable)  # what TensorRT does at a first launch only is not recorded
            recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recorded, stream=stream, capture_error_mode="thread_local"):
                launch(stream)
            self._recorded[key] = recorded
        self._recorded[key].replay()
        return {**{name: self._fixed[name].clone() for name in self._results}, **new_caches}


@contextmanager
def _usable_stream(own: torch.cuda.Stream) -> Iterator[torch.cuda.Stream]:
    """torch's current stream, or `own` in its turn: on the default one TensorRT would wait."""
    current = torch.cuda.current_stream(own.device)
    if current.cuda_stream:
        yield current
        return
    own.wait_stream(current)
    yield own
    current.wait_stream(own)


def _described(trt: Any, engine: Any) -> Described:
    types = {trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16"}
    types[trt.DataType.BF16] = "bfloat16"
    roles = {trt.TensorIOMode.INPUT: "input", trt.TensorIOMode.OUTPUT: "output"}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: (
            roles[engine.get_tensor_mode(name)],
            tuple(int(side) for side in engine.get_tensor_shape(name)),
            types.get(dtype := engine.get_tensor_dtype(name), str(dtype)),
        )
        for name in names
    }


def _deserialize(runtime: Any, log: Any, content: bytes, graph: GraphSpec) -> Any:
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise DktError(f"plan {graph.plan} cannot be loaded: {log.last()}; {REBUILD}")
    return engine
