"""A traceable function to an ONNX graph: static, strongly typed, checked.

Knows torch's exporter and ONNX's checker. Knows nothing of what a graph computes, or of files.
What TensorRT would take badly or not at all is refused here: see FORBIDDEN.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.model.engine.fp8 import onnx_fp8_round
from dkt_ros.model.engine.graphs import Traceable

OPSET = 22
"""The first whose convolutions take bfloat16."""
UNLIMITED = 2**62
FORBIDDEN = {
    "If": "control flow",
    "Loop": "control flow",
    "Scan": "control flow",
    "Resize": "a resampling that TensorRT lacks in bfloat16",
    "CastLike": "a type that is found at run time",
    "Shape": "a shape that is found at run time",
    "NonZero": "a shape that is found at run time",
    "GatherND": "an indexed copy where a reshape would do",
    "ScatterND": "an indexed write",
    "RMSNormalization": "a norm that TensorRT 10 knows only decomposed",
    "Attention": "an operator that TensorRT 10.8 does not know",
}


def import_onnx() -> Any:
    """The module `onnx`, with what exporting needs beside it; DktError where one is missing."""
    try:
        import onnx
        import onnx_ir  # noqa: F401 - asked for here, so that it is missed here
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DktError(
            f"graphs cannot be exported ({error}); install requirements/onnx.txt, or "
            "pip install dkt_ros[onnx]"
        ) from error
    return onnx


def export(graph: Traceable) -> Any:
    """The graph as an `onnx_ir.Model`, its weights still torch's. Raises DktError, see FORBIDDEN.

    Nodes run in the order of the function; shapes of all values are fixed and written in it.
    """
    import_onnx()
    import onnx_ir.passes.common as passes
    import onnxscript.optimizer

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(graph.module, graph.examples, strict=False),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            custom_translation_table=_translations(),
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model
    # Constants are folded, identities and what nobody reads fall away: no pattern is rewritten, so
    # that what TensorRT recognises (LayerNormalization, Gelu, attention) stays as it was exported.
    onnxscript.optimizer.inline(model)
    # Weights of any size are folded: a transposed or sliced one is a constant too.
    onnxscript.optimizer.fold_constants(
        model, input_size_limit=UNLIMITED, output_size_limit=UNLIMITED
    )
    for change in (
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.RemoveUnusedNodesPass(),
        passes.ShapeInferencePass(),
    ):
        change(model)
    model.producer_name, model.graph.name = "dkt_ros", graph.name
    check_nodes(model, graph.name)
    return model


def check_nodes(model: Any, name: str) -> None:
    """Raises DktError where a graph is not static, or holds an operator of FORBIDDEN."""
    for node in model.graph.all_nodes():
        if reason := FORBIDDEN.get(node.op_type):
            raise DktError(
                f"graph {name} holds {node.op_type}, {reason}: this torch ({torch.__version__}) "
                "exports the network in another way than dkt_ros expects; please report it"
            )
    for value in (*model.graph.inputs, *model.graph.outputs):
        shape = value.shape
        if shape is None or not all(isinstance(side, int) for side in shape):
            raise DktError(f"graph {name}: {value.name} has shape {shape}, expected a fixed one")


def check_file(file: str) -> None:
    """onnx.checker on a graph's file, with strict shape and type inference; DktError."""
    onnx = import_onnx()
    try:
        onnx.checker.check_model(file, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise DktError(f"graph {file} is not valid ONNX: {error}") from error


def _translations() -> dict[Any, Any]:
    return {
        torch.ops.aten.scaled_dot_product_attention.default: _attention,
        torch.ops.dkt_ros.fp8_round.default: onnx_fp8_round,
    }


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention as TensorRT recognises it: both factors scaled, product, softmax, product.

    A fused kernel keeps logits in float32 inside. Heads too wide for one (256 channels) would be
    computed as they are written, so there the softmax is written in float32.
    """
    from onnxscript import opset22 as op

    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        raise DktError("attention with a mask, dropout, causality or groups has no ONNX form here")
    width = int(query.shape[-1])
    if scale is None:
        scale = 1.0 / math.sqrt(width)
    root = op.Cast(op.Constant(value_float=math.sqrt(scale)), to=query.dtype)
    turned = op.Transpose(key, perm=[0, 1, 3, 2])
    logits = op.MatMul(op.Mul(query, root), op.Mul(turned, root))
    if width <= WIDEST_FUSED_HEAD:
        return op.MatMul(op.Softmax(logits, axis=-1), value)
    weights = op.Softmax(op.Cast(logits, to=1), axis=-1)
    return op.MatMul(op.Cast(weights, to=query.dtype), value)


WIDEST_FUSED_HEAD = 256
"""Channels of a head up to which TensorRT fuses attention (multiples of 8, from 16)."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of torchvision's absence, its own deprecated calls and the like."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
            yield
    finally:
        log.setLevel(before)
