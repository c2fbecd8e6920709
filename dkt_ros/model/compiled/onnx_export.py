"""A traceable function to an ONNX file: strongly typed, checked, its weights shared.

What TensorRT would take badly or not at all is refused here: see FORBIDDEN. Shapes are fixed but
for the number of frames of a step's window. The step holds 2.4 GB (1.3B in bfloat16), which is
beyond what one protobuf may hold, and each half of the VAE is in two graphs. So large tensors stand
in `weights.bin`, each value once, and the graphs name it as ONNX external data.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.extras import install
from dkt_ros.model.compiled.fp8 import onnx_fp8_round
from dkt_ros.model.compiled.graphs import Traceable
from dkt_ros.model.compiled.manifest import WEIGHTS_FILE

OPSET = 22
"""The first whose convolutions take bfloat16."""
UNLIMITED = 2**62
ALIGNMENT = 4096
"""Bytes; a page, so that the weights file can be mapped."""
SMALLEST = 1024
"""Bytes from which a tensor stands in the weights file; smaller ones stay in the graph."""
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
            f"graphs cannot be exported ({error}); {install('onnx')} brings what that needs"
        ) from error
    return onnx


def export(graph: Traceable) -> Any:
    """The graph as an `onnx_ir.Model`, its weights still torch's. Raises DktError, see FORBIDDEN.

    Nodes run in the order of the function; shapes of all values are written in it, fixed but for
    the one that `graph.open` names.
    """
    import_onnx()
    import onnx_ir.passes.common as passes
    import onnxscript.optimizer

    size = torch.export.Dim("frames", min=1)
    shapes = tuple(None if axis is None else {axis: size} for axis in graph.open)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(
                graph.module,
                graph.examples,
                dynamic_shapes={"inputs": shapes} if shapes else None,
                strict=False,
            ),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            custom_translation_table={
                torch.ops.aten.scaled_dot_product_attention.default: _attention,
                torch.ops.dkt_ros.fp8_round.default: onnx_fp8_round,
            },
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
    _fix_reshapes(model)
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
    check_nodes(model, graph.name, open_sizes=1 if shapes else 0)
    return model


def _fix_reshapes(model: Any) -> None:
    """Reshapes to a size computed at run time become ones to a constant, with -1 for it."""
    import onnx_ir

    for node in list(model.graph):
        if node.op_type != "Reshape" or node.inputs[1].const_value is not None:
            continue
        shape = node.outputs[0].shape or ()
        sides = [side if isinstance(side, int) else -1 for side in shape]
        if sides.count(-1) != 1:
            continue  # left to check_nodes, for its size is asked for by an operator it refuses
        constant = onnx_ir.tensor(sides, dtype=onnx_ir.DataType.INT64)
        value = onnx_ir.Value(name=f"{node.outputs[0].name}_shape", const_value=constant)
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)


def check_nodes(model: Any, name: str, open_sizes: int = 0) -> None:
    """Raises DktError where a graph holds an operator of FORBIDDEN, or more sizes are open."""
    for node in model.graph.all_nodes():
        if reason := FORBIDDEN.get(node.op_type):
            raise DktError(
                f"graph {name} holds {node.op_type}, {reason}: this torch ({torch.__version__}) "
                "exports the network in another way than dkt_ros expects; please report it"
            )
    sizes = set()
    for value in (*model.graph.inputs, *model.graph.outputs):
        sizes |= {str(side) for side in value.shape or (None,) if not isinstance(side, int)}
        if len(sizes) > open_sizes:
            raise DktError(
                f"graph {name}: {value.name} has shape {value.shape}, expected a fixed one"
            )


def check_file(file: str) -> None:
    """onnx.checker on a graph's file, with strict shape and type inference; DktError."""
    onnx = import_onnx()
    try:
        onnx.checker.check_model(file, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise DktError(f"graph {file} is not valid ONNX: {error}") from error


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


@contextlib.contextmanager
def graph_writer(folder: Path, smallest: int = SMALLEST) -> Iterator[Callable[[Any, str], str]]:
    """Within it, write(onnx_ir.Model, name) writes `name`.onnx and returns the file's name.

    What is new of a model's weights goes to the weights file, which the model then refers to.
    smallest: bytes from which a tensor does.
    """
    import onnx_ir

    known: dict[tuple[str, int], int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as weights:

        def store(content: bytes) -> int:
            key = (hashlib.sha256(content).hexdigest(), len(content))
            if key not in known:
                weights.write(bytes(-weights.tell() % ALIGNMENT))
                known[key] = weights.tell()
                weights.write(content)
                weights.flush()
            return known[key]

        def write(model: Any, name: str) -> str:
            for value in model.graph.initializers.values():
                tensor = value.const_value
                # Integers are shapes and axes, without which nothing can be inferred of a graph.
                if tensor.nbytes < smallest or not tensor.dtype.is_floating_point():
                    continue
                value.const_value = onnx_ir.ExternalTensor(
                    location=WEIGHTS_FILE,
                    offset=store(tensor.tobytes()),
                    length=tensor.nbytes,
                    dtype=tensor.dtype,
                    shape=tensor.shape,
                    name=value.name,
                    base_dir=folder,
                )
            onnx_ir.save(model, folder / f"{name}.onnx")
            return f"{name}.onnx"

        yield write
