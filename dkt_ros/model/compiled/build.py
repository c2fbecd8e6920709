"""A checkpoint to an engine's folder: graphs exported, plans built, nothing done twice.

What builds one plan is handed in: TensorRT's builder stands in tensorrt_build.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.files import PARTIAL, sha256, writing
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.compiled.fp8 import use_fp8
from dkt_ros.model.compiled.graphs import NetworkGraphs
from dkt_ros.model.compiled.manifest import (
    CHECKS_FILE,
    CONSTANTS_FILE,
    GRAPH_NAMES,
    MANIFEST_FILE,
    STEP,
    WEIGHTS_FILE,
    GraphSpec,
    Manifest,
    System,
    by,
    changed_files,
    plan_whole,
    step_name,
)
from dkt_ros.model.compiled.network import write_constants
from dkt_ros.model.compiled.onnx_export import check_file, export, graph_writer, import_onnx
from dkt_ros.model.compiled.request import EngineRequest, differences
from dkt_ros.model.compiled.self_check import write_checks
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.progress import Progress, Report, no_progress

GRAPH_FILES = 6
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16"}
"""The type in which what a precision does not quantise is computed."""
Export = Callable[[EngineRequest, Path], Manifest]
BuildPlan = Callable[[Path, Path, Sequence[GraphSpec]], str]
"""(graph's file, plan's file, the graphs in it) -> the plan's SHA-256."""


def export_engine(
    request: EngineRequest,
    folder: Path,
    on_progress: Progress = no_progress,
    largest_inputs: Mapping[str, float] | None = None,
    device: str = "cpu",
) -> Manifest:
    """Exports what is asked for into `folder`, which exists; returns the manifest it wrote.

    engine.json comes last, so that a folder that has it is whole. largest_inputs: of the
    transformer's layers, which precision fp8 needs (see fp8.measure). device: where torch computes
    what the engine will be compared with. Raises DktError.
    """
    import_onnx()
    if request.precision is None:
        raise DktError(f"an export needs a precision, one of {', '.join(DTYPES)}")
    if (request.precision == "fp8") != (largest_inputs is not None):
        raise DktError("precision fp8 and calibration go together, one of them is missing")
    network = load_checkpoint(request.checkpoint, "cpu", DTYPES[request.precision])
    multiple = network.size_multiple
    if any(side % multiple for side in request.size):
        raise DktError(f"size {by(request.size)}: expected multiples of {multiple} pixels")
    if largest_inputs is not None:
        use_fp8(network.transformer, largest_inputs)
    graphs = NetworkGraphs(network, request.size)
    specs = []
    with graph_writer(folder) as write:
        for done, graph in enumerate(graphs.all()):
            on_progress(graph.name, done, GRAPH_FILES)
            file = write(export(graph), graph.name)
            check_file(str(folder / file))
            if graph.name == STEP:
                for frames in request.windows:
                    specs.append(
                        GraphSpec(step_name(frames), file, None, *graphs.step(frames).specs())
                    )
            else:
                specs.append(GraphSpec(graph.name, file, None, *graph.specs()))
    write_constants(folder, graphs, request.steps, request.windows, network.info.sigma_shift)
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
        files={
            name: sha256(folder / name)
            for name in (*(spec.onnx for spec in specs), WEIGHTS_FILE, CONSTANTS_FILE)
        },
    )
    del network, graphs, graph  # before the weights are read again in float32
    wide = FastNetwork(load_checkpoint(request.checkpoint, device, "float32"), accelerate=False)
    write_checks(folder, wide, request.size, request.windows, on_progress)
    files = {**manifest.files, CHECKS_FILE: sha256(folder / CHECKS_FILE)}
    manifest = replace(manifest, files=files)
    manifest.write(folder)
    return manifest


def update_graphs(folder: Path, request: EngineRequest, make: Export, report: Report) -> Manifest:
    """The manifest of graphs that fit the request; they are exported unless they are there."""
    with contextlib.suppress(DktError):  # nothing there, or what this version cannot read
        manifest = Manifest.read(folder)
        if not differences(manifest, request) and not changed_files(folder, manifest):
            report(f"the graphs in {folder} are up to date")
            return manifest
    with writing(folder / MANIFEST_FILE):
        folder.mkdir(parents=True, exist_ok=True)
        _check_own(folder)
        # Before anything else: half an engine must not look like a whole one.
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        for pattern in ("*.onnx", "*.plan", WEIGHTS_FILE, CONSTANTS_FILE, CHECKS_FILE):
            for file in folder.glob(pattern):
                file.unlink()
    return make(request, folder)


def _check_own(folder: Path) -> None:
    """Raises DktError for a folder of other things, whose graphs and weights are not ours to go."""
    if (folder / MANIFEST_FILE).is_file():
        return
    own = {MANIFEST_FILE, WEIGHTS_FILE, CONSTANTS_FILE, CHECKS_FILE}
    own |= {f"{name}{suffix}" for name in GRAPH_NAMES for suffix in (".onnx", ".plan")}
    names = sorted(file.name.removesuffix(PARTIAL) for file in folder.iterdir())
    if other := next((name for name in names if name not in own and name[0] != "."), None):
        raise DktError(
            f"{folder} holds {other}, which is no part of an engine; name a new folder, or one "
            "that holds an engine"
        )


def update_plans(
    folder: Path, manifest: Manifest, system: System, build: BuildPlan, report: Report
) -> Manifest:
    """Builds the plans that this system lacks; engine.json says so after each.

    So a build that was interrupted goes on where it was.
    """
    if manifest.system != system:
        bare = tuple(replace(graph, plan=None, plan_sha256=None) for graph in manifest.graphs)
        manifest = replace(manifest, system=system, graphs=bare)
    missing = [graph.onnx for graph in manifest.graphs if not plan_whole(folder, graph)]
    if not missing:
        report(f"the plans in {folder} are up to date")
    for file in dict.fromkeys(missing):
        plan = f"{Path(file).stem}.plan"
        digest = build(folder / file, folder / plan, manifest.sharing(file))
        manifest = manifest.with_plans(system, {file: (plan, digest)})
        manifest.write(folder)
    return manifest
