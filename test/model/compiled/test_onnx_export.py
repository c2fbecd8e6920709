"""Half precision and FP8 in the graphs: types, and values by ONNX's own reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.compiled.fp8 import observed, use_fp8
from dkt_ros.model.compiled.graphs import NetworkGraphs, Traceable

onnx = pytest.importorskip("onnx")
ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxscript")

from dkt_ros.model.compiled.onnx_export import check_nodes, export

SIZE = (32, 48)


def step_of_two(graphs: NetworkGraphs) -> Traceable:
    """Of windows of two latent frames alone, which takes a third of the time to export."""
    return replace(graphs.step(2), open=())


def inputs_of(graph: Traceable) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(example.shape, generator=generator).to(example.dtype)
        for example in graph.examples
    )


def by_reference(proto: Any, graph: Traceable, inputs: tuple[torch.Tensor, ...]) -> np.ndarray:
    """The graph's first output as the ONNX project computes it."""
    from onnx.reference import ReferenceEvaluator

    given = {
        name: ir.tensor(tensor).numpy() for name, tensor in zip(graph.inputs, inputs, strict=True)
    }
    return np.asarray(ReferenceEvaluator(proto).run(None, given)[0], np.float32)


@torch.inference_mode()
def test_half_precision(tiny_checkpoint: Path) -> None:
    graph = step_of_two(NetworkGraphs(load_checkpoint(tiny_checkpoint, dtype="float16"), SIZE))
    proto = ir.to_proto(export(graph))
    onnx.checker.check_model(proto, full_check=True)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    }
    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    assert len(products) > 8
    assert {types[node.output[0]] for node in products} == {onnx.TensorProto.FLOAT16}
    norms = {"LayerNormalization", "ReduceMean"}
    wide = [node for node in proto.graph.node if node.op_type in norms]
    assert len(wide) > 4
    assert {types[node.output[0]] for node in wide} == {onnx.TensorProto.FLOAT}
    inputs = inputs_of(graph)
    expected = graph.module(*inputs)[0].numpy()
    found = by_reference(proto, graph, inputs)
    np.testing.assert_allclose(found, expected, atol=0.01)


class Resized(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.nn.functional.interpolate(x, scale_factor=2),)


def test_a_function_that_tensorrt_would_not_take_is_refused() -> None:
    graph = Traceable("resized", Resized(), ("x",), ("y",), (torch.zeros(1, 1, 4, 4),))
    with pytest.raises(DktError, match="graph resized holds Resize"):
        export(graph)


class Attention(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.nn.functional.scaled_dot_product_attention(x, x.flip(2), x),)


@torch.inference_mode()
@pytest.mark.parametrize(("width", "softmax"), [(256, "FLOAT16"), (264, "FLOAT")])
def test_attention_too_wide_to_be_fused_has_its_softmax_in_float32(
    width: int, softmax: str
) -> None:
    example = torch.zeros(1, 1, 6, width, dtype=torch.float16)
    graph = Traceable("attention", Attention(), ("x",), ("y",), (example,))
    proto = ir.to_proto(export(graph))
    types = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
    [node] = [node for node in proto.graph.node if node.op_type == "Softmax"]
    assert types[node.output[0]] == onnx.TensorProto.DataType.Value(softmax)
    inputs = inputs_of(graph)
    found = by_reference(proto, graph, inputs)
    np.testing.assert_allclose(found, graph.module(*inputs)[0].numpy(), atol=0.01)


@torch.inference_mode()
def test_fp8(tiny_checkpoint: Path) -> None:
    """Q and DQ in float8e4m3fn around every large product of the blocks; same values as torch."""
    network = load_checkpoint(tiny_checkpoint)
    latents = torch.randn(1, 16, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    with observed(network.transformer) as largest:
        plain = network.velocity(latents, latents, 500.0)
    assert use_fp8(network.transformer, largest) == 6
    graphs = NetworkGraphs(network, SIZE)
    graph = step_of_two(graphs)
    proto = ir.to_proto(export(graph))
    onnx.checker.check_model(proto, full_check=True)
    producers = {name: node for node in proto.graph.node for name in node.output}
    quantised = [
        node
        for node in proto.graph.node
        if node.op_type == "MatMul"
        and all(
            name in producers and producers[name].op_type == "DequantizeLinear"
            for name in node.input
        )
    ]
    assert len(quantised) == 6
    assert {
        value.type.tensor_type.elem_type
        for value in proto.graph.value_info
        if value.name in producers and producers[value.name].op_type == "QuantizeLinear"
    } == {onnx.TensorProto.FLOAT8E4M3FN}
    transformer = graphs.transformer
    modulations = transformer.modulations(500.0)
    inputs = (latents, transformer.embed_rgb(latents), *modulations, *graphs.rope(2))
    found = by_reference(proto, graph, inputs)
    # A value between two of FP8's may fall to either side after other roundings.
    error = np.abs(found - graph.module(*inputs)[0].numpy())
    assert error.mean() < 1e-3
    cost = np.abs(found - plain.numpy())
    assert 0 < cost.mean() < 0.1 * plain.abs().mean()


@pytest.mark.parametrize(
    ("node", "shape", "words"),
    [
        (("Resize", ["x", "", "scales"]), [1, 1, 4, 4], "Resize"),
        (("Identity", ["x"]), ["batch", 1, 4, 4], "expected a fixed one"),
    ],
)
def test_what_tensorrt_would_not_take_is_refused(
    node: tuple[str, list[str]], shape: list[Any], words: str
) -> None:
    helper = onnx.helper
    single = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(*node, ["y"])],
        "g",
        [helper.make_tensor_value_info("x", single, shape)],
        [helper.make_tensor_value_info("y", single, shape)],
        [helper.make_tensor("scales", single, [4], [1.0, 1.0, 1.0, 1.0])],
    )
    model = ir.from_proto(helper.make_model(graph))
    with pytest.raises(DktError, match=words):
        check_nodes(model, "g")
