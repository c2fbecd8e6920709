"""Runs an engine's plans with TensorRT, 10.8 to 11 or for RTX, on torch's tensors.

All plans share one scratch memory, because they never run at the same time. A plan holds programs:
only files whose SHA-256 stands in engine.json are loaded, so trust in a folder is trust in that
file. Caches are written by one call and read by the next, and never copied.
"""

from __future__ import annotations

import hashlib
import logging
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.manifest import (
    REBUILD,
    GraphRunner,
    GraphSpec,
    Manifest,
    TensorSpec,
    by,
)
from dkt_ros.model.compiled.tensorrt_module import (
    import_tensorrt,
    interrupts_held,
    is_rtx,
    make_logger,
)
from dkt_ros.model.cuda_graphs import worth_recording

_LOG = logging.getLogger(__name__)

Described = Mapping[str, tuple[str, tuple[int, ...], str]]
"""Name of an input or output -> "input" or "output", shape, dtype as in a TensorSpec."""


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
    graphs = [manifest.graph(name) for name in names]
    with torch.cuda.device(device):
        log = make_logger(trt)
        runtime = trt.Runtime(log)
        plans = {graph.plan: graph for graph in graphs}
        engines = {}
        for done, (plan, graph) in enumerate(plans.items()):
            on_progress(done, len(plans))
            content = read_plan(folder, graph)
            with interrupts_held():
                engines[plan] = _deserialize(runtime, log, content, graph)
        on_progress(len(plans), len(plans))
        need = max((int(engine.device_memory_size_v2) for engine in engines.values()), default=0)
        scratch = torch.empty(max(need, 1), dtype=torch.uint8, device=device)
        runners: dict[str, GraphRunner] = {}
        for graph in graphs:
            engine = engines[graph.plan]
            with interrupts_held():
                context = engine.create_execution_context(_in_our_memory(trt, engine))
            if context is None:
                raise DktError(f"plan {graph.plan} gives no execution context: {log.last()}")
            context.set_device_memory(scratch.data_ptr(), scratch.nbytes)
            _choose_profile(manifest, graph, context, device, log)
            check_described(graph, _described(trt, engine, context))
            runners[graph.name] = TensorRTRunner(graph, context, scratch, log.last, cuda_graphs)
        return runners


def _in_our_memory(trt: Any, engine: Any) -> Any:
    """What an execution context is made by.

    For sizes that a plan leaves open TensorRT for RTX compiles better kernels while it runs, and
    then takes them: recorded launches would be of the others. So it is to compile them at once.
    """
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not is_rtx(trt):
        return strategy
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    at_once = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    config.dynamic_shapes_kernel_specialization_strategy = at_once
    return config


def _choose_profile(
    manifest: Manifest, graph: GraphSpec, context: Any, device: torch.device, log: Any
) -> None:
    """Of a plan that several graphs share: the graph's profile and the sizes of its inputs."""
    sharing = [other.name for other in manifest.sharing(graph.onnx)]
    stream = torch.cuda.current_stream(device)
    chosen = context.set_optimization_profile_async(sharing.index(graph.name), stream.cuda_stream)
    stream.synchronize()
    if not chosen or not all(
        context.set_input_shape(spec.name, spec.shape) for spec in graph.inputs
    ):
        raise DktError(f"plan {graph.plan} has no profile of {graph.name}: {log.last()}; {REBUILD}")


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
            self._recorder = _Recorder(graph, self._device, self._can_record)

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
            with _in_its_turn(self._stream):
                self._launch(self._stream)
            return outputs

    def _bind(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise DktError(f"{self._graph.name}: cannot bind {name}: {self._last_error()}")

    def _can_record(self, stream: torch.cuda.Stream) -> bool:
        """What only TensorRT for RTX can say: its plans may take memory while they run."""
        asked = getattr(self._context, "is_stream_capturable", None)
        return asked is None or bool(asked(stream.cuda_stream))

    def _launch(self, stream: torch.cuda.Stream) -> None:
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise DktError(f"TensorRT failed to run {self._graph.name}: {self._last_error()}")


class _Recorder:
    """Replays a graph's launches, recorded once for each pair of cache sets.

    Inputs and results have a place of their own, the caches lie in a CachePool: so addresses recur.
    What cannot be recorded is launched each time, and the log says so once.
    """

    def __init__(
        self,
        graph: GraphSpec,
        device: torch.device,
        can_record: Callable[[torch.cuda.Stream], bool],
    ) -> None:
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
        self._name, self._can_record, self._refused = graph.name, can_record, False

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
        if (known := self._recorded.get(key)) is not None:
            known.replay()
        else:
            bind(bound)
            with _in_its_turn(stream):
                launch(stream)  # what TensorRT does at a first launch only is not recorded
            self._record(key, launch, stream)
        return {**{name: self._fixed[name].clone() for name in self._results}, **new_caches}

    def _record(
        self,
        key: tuple[int, ...],
        launch: Callable[[torch.cuda.Stream], None],
        stream: torch.cuda.Stream,
    ) -> None:
        if self._refused:
            return
        recorded = torch.cuda.CUDAGraph()
        try:
            if not self._can_record(stream):
                raise DktError("TensorRT takes memory while it runs")
            # Around the capture too: one that fails does not leave its own stream.
            with (
                torch.cuda.stream(torch.cuda.current_stream(stream.device)),
                torch.cuda.graph(recorded, stream=stream, capture_error_mode="thread_local"),
            ):
                launch(stream)
        except (DktError, RuntimeError) as error:
            self._refused = True
            why = str(error).partition("\n")[0]
            _LOG.warning("%s runs without a CUDA graph, for recording failed: %s", self._name, why)
        else:
            self._recorded[key] = recorded


@contextmanager
def _in_its_turn(own: torch.cuda.Stream) -> Iterator[None]:
    """What is launched on `own` comes between torch's launches.

    On the default stream, which torch mostly uses, TensorRT would wait for all others.
    """
    current = torch.cuda.current_stream(own.device)
    own.wait_stream(current)
    try:
        yield
    finally:  # torch gives memory on by the order of its own stream
        current.wait_stream(own)


def _described(trt: Any, engine: Any, context: Any) -> Described:
    types = {trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16"}
    types[trt.DataType.BF16] = "bfloat16"
    roles = {trt.TensorIOMode.INPUT: "input", trt.TensorIOMode.OUTPUT: "output"}
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return {
        name: (
            roles[engine.get_tensor_mode(name)],
            tuple(int(side) for side in context.get_tensor_shape(name)),
            types.get(dtype := engine.get_tensor_dtype(name), str(dtype)),
        )
        for name in names
    }


def _deserialize(runtime: Any, log: Any, content: bytes, graph: GraphSpec) -> Any:
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise DktError(f"plan {graph.plan} cannot be loaded: {log.last()}; {REBUILD}")
    return engine


def read_plan(folder: Path, graph: GraphSpec) -> bytes:
    """The plan of a graph; raises DktError unless it is the very file that engine.json names."""
    if graph.plan is None or graph.plan_sha256 is None:
        raise DktError(f"{folder} holds no plan of {graph.name}, only its graph; {REBUILD}")
    file = folder / graph.plan
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DktError(f"plan {file} cannot be read: {error}; {REBUILD}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != graph.plan_sha256:
        raise DktError(
            f"plan {file} has SHA-256 {found[:12]}..., engine.json says "
            f"{graph.plan_sha256[:12]}...: it was changed after it was built, and is not loaded, "
            f"for a plan holds programs; {REBUILD}"
        )
    return content


def check_described(graph: GraphSpec, found: Described) -> None:
    """Raises DktError where a plan's inputs and outputs are not those of its graph."""
    expected = {
        spec.name: (role, spec.shape, spec.dtype)
        for role, specs in (("input", graph.inputs), ("output", graph.outputs))
        for spec in specs
    }
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise DktError(
                f"plan {graph.plan}: {name} is {_in_words(found.get(name))}, engine.json says "
                f"{_in_words(expected.get(name))}; {REBUILD}"
            )


def _in_words(described: tuple[str, tuple[int, ...], str] | None) -> str:
    if described is None:
        return "missing"
    role, shape, dtype = described
    return f"an {role} {by(shape)} {dtype}"


class CachePool:
    """Sets of buffers of the same shapes. A lent set is free again once nobody holds its tensors.

    In a plain stream two sets take turns: a call reads the one and writes the other. A look ahead
    that will be undone keeps the set it came from, and so has a third one made. Sets are never
    given back, so their addresses recur, which is what a captured graph needs.
    """

    def __init__(self, specs: Sequence[TensorSpec], device: torch.device) -> None:
        """specs: of the tensors of a set, in the order they are lent in."""
        self._specs, self._device = tuple(specs), device
        self._sets: list[tuple[Tensor, ...]] = []
        self._holders: list[list[weakref.ref[Tensor]]] = []

    def lend(self) -> tuple[Tensor, ...]:
        """A set that nobody holds; its contents mean nothing.

        Holding one of the tensors keeps the whole set; holding only a view of one does not.
        """
        for index, holders in enumerate(self._holders):
            if all(holder() is None for holder in holders):
                return self._hand_out(index)
        self._sets.append(
            tuple(
                torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=self._device)
                for spec in self._specs
            )
        )
        self._holders.append([])
        return self._hand_out(len(self._sets) - 1)

    def __len__(self) -> int:
        """How many sets there are."""
        return len(self._sets)

    def _hand_out(self, index: int) -> tuple[Tensor, ...]:
        # Tensors of their own over the same memory: their lives tell whether the set is held.
        lent = tuple(buffer.detach() for buffer in self._sets[index])
        self._holders[index] = [weakref.ref(tensor) for tensor in lent]
        return lent


def torch_dtype(name: str) -> torch.dtype:
    """torch's type of a TensorSpec's dtype."""
    found: torch.dtype = getattr(torch, name)
    return found


def is_cache(spec: TensorSpec) -> bool:
    """Whether an input or output is one of a stream's caches, see manifest.py."""
    return spec.name.removeprefix("new_").startswith("cache_")


def nbytes(specs: Iterable[TensorSpec]) -> int:
    """Bytes of tensors like these."""
    return sum(math.prod(spec.shape) * torch_dtype(spec.dtype).itemsize for spec in specs)


def addresses(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Where the tensors lie: what tells one captured graph from another."""
    return tuple(tensor.data_ptr() for tensor in tensors)
