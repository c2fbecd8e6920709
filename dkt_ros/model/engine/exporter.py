"""A checkpoint to a folder of graphs: ONNX files, their weights, constants and engine.json.

Knows the order of the work. Knows nothing of plans or of who runs the graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.engine.constants import write_constants
from dkt_ros.model.engine.files import file_hashes
from dkt_ros.model.engine.fp8 import use_fp8
from dkt_ros.model.engine.graphs import NetworkGraphs
from dkt_ros.model.engine.manifest import CONSTANTS_FILE, GraphSpec, Manifest
from dkt_ros.model.engine.onnx_export import check_file, export, import_onnx
from dkt_ros.model.engine.onnx_files import WEIGHTS_FILE, GraphFolder
from dkt_ros.model.engine.request import EngineRequest

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16"}
"""The type in which what a precision does not quantise is computed."""
Progress = Callable[[str, int, int], None]
"""on_progress(what is at work, graphs done, graphs in all)."""


def export_engine(
    request: EngineRequest,
    folder: Path,
    on_progress: Progress = lambda stage, done, total: None,
    largest_inputs: Mapping[str, float] | None = None,
) -> Manifest:
    """Exports what is asked for into `folder`, which exists; returns the manifest it wrote.

    engine.json comes last, so that a folder that has it is whole. largest_inputs: of the
    transformer's layers, which precision fp8 needs (see calibration.py). Raises DktError.
    """
    import_onnx()
    if request.precision is None:
        raise DktError(f"an export needs a precision, one of {', '.join(DTYPES)}")
    if (request.precision == "fp8") != (largest_inputs is not None):
        raise DktError("precision fp8 and calibration go together, one of them is missing")
    network = load_checkpoint(request.checkpoint, "cpu", DTYPES[request.precision])
    multiple = network.size_multiple
    if any(side % multiple for side in request.size):
        raise DktError(
            f"size {request.size[0]}x{request.size[1]}: expected multiples of {multiple} pixels"
        )
    if largest_inputs is not None:
        use_fp8(network.transformer, largest_inputs)
    graphs = NetworkGraphs(network, request.size)
    total = len(request.windows) + 5
    specs = []
    with GraphFolder(folder) as files:
        for done, graph in enumerate(graphs.all(request.windows)):
            on_progress(graph.name, done, total)
            inputs, outputs = graph.specs()
            file = files.write(export(graph), graph.name)
            check_file(str(folder / file))
            specs.append(GraphSpec(graph.name, file, None, inputs, outputs))
    on_progress("constants", total, total)
    write_constants(folder, graphs.transformer, request.steps, network.info.sigma_shift)
    t, h, w = graphs.transformer.patch
    manifest = Manifest(
        system=None,
        checkpoint=request.fingerprint,
        info=network.info,
        size=request.size,
        windows=request.windows,
        precision=request.precision,
        steps=request.steps,
        latent_channels=network.latent_channels,
        spatial_ratio=network.spatial_ratio,
        patch=(t, h, w),
        head_dim=graphs.transformer.head_dim,
        graphs=tuple(specs),
        calibration=request.calibration,
        files=file_hashes(folder, [*(spec.onnx for spec in specs), WEIGHTS_FILE, CONSTANTS_FILE]),
    )
    manifest.write(folder)
    return manifest
