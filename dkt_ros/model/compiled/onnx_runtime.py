"""Runs an engine's graphs with onnxruntime on the CPU: no plans, no GPU.

Made for checking graphs and for machines without torch kernels worth having. Graphs are in float32
or float16, for onnxruntime computes no bfloat16 on a CPU; to be checked, those are made wider.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.extras import install
from dkt_ros.model.compiled.manifest import GraphRunner, GraphSpec, Manifest
from dkt_ros.model.compiled.onnx_export import import_onnx


def load_runners(
    folder: Path,
    manifest: Manifest,
    names: Iterable[str],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    widen: bool = False,
) -> dict[str, GraphRunner]:
    """Runners for the graphs of these names. on_progress(done, total) counts files.

    widen: compute in float32 whatever the precision, with the weights as they are.
    """
    if manifest.precision not in ("fp32", "fp16") and not widen:
        raise DktError(
            f"{folder} holds {manifest.precision} graphs, of which onnxruntime computes none on a "
            "CPU; export them with --precision fp32"
        )
    graphs = [manifest.graph(name) for name in names]
    files = list(dict.fromkeys(graph.onnx for graph in graphs))
    sessions = {}
    for done, file in enumerate(files, start=1):
        sessions[file] = (_widened_session if widen else open_session)(folder / file)
        on_progress(done, len(files))
    return {graph.name: OnnxRunner(sessions[graph.onnx], graph) for graph in graphs}


def open_session(file: Path, optimized: bool = True) -> Any:
    """An onnxruntime.InferenceSession on the CPU; DktError where the file cannot be loaded.

    optimized: False computes node by node as written, without fusing what has no fused kernel.
    """
    runtime = _import_onnxruntime()
    options = runtime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise DktError(f"{file} cannot be loaded by onnxruntime: {error}") from error


def _widened_session(file: Path) -> Any:
    """A session over the graph with float32 in the place of the halves."""
    import_onnx()
    import onnx_ir

    model, wide = onnx_ir.load(file), onnx_ir.DataType.FLOAT
    halves = (onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.FLOAT16)
    nodes = list(model.graph.all_nodes())
    initializers = list(model.graph.initializers.values())
    outputs = [value for node in nodes for value in node.outputs]
    for value in (*model.graph.inputs, *initializers, *outputs):
        if value.dtype in halves:
            value.dtype = wide
    for value in initializers:
        if value.const_value.dtype in halves:
            content = value.const_value.numpy().astype(np.float32)
            value.const_value = onnx_ir.tensor(content, name=value.name)
    for node in nodes:
        if node.op_type == "Cast" and node.attributes["to"].as_int() in halves:
            node.attributes.add(onnx_ir.AttrInt64("to", int(wide)))
    with tempfile.TemporaryDirectory() as folder:
        onnx_ir.save(model, Path(folder) / file.name, external_data="weights")
        return open_session(Path(folder) / file.name, optimized=False)


class OnnxRunner:
    """A GraphRunner over one ONNX file."""

    def __init__(self, session: Any, graph: GraphSpec) -> None:
        """session: of open_session, on the graph's file."""
        self._session = session
        self._outputs = [spec.name for spec in graph.outputs]

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See GraphRunner; tensors on the CPU."""
        given = {name: tensor.numpy(force=True) for name, tensor in inputs.items()}
        results = self._session.run(self._outputs, given)
        return {
            name: torch.from_numpy(result)
            for name, result in zip(self._outputs, results, strict=True)
        }


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise DktError(
            f"onnxruntime cannot be loaded ({error}); {install('onnx')} brings it"
        ) from error
    return onnxruntime
