"""An engine's folder brought up to date: graphs exported, plans built, nothing done twice.

Knows the order of the work and when a part of it can be left out. Knows nothing of TensorRT: it is
handed what builds one plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.model.engine.files import changed_files
from dkt_ros.model.engine.manifest import CONSTANTS_FILE, MANIFEST_FILE, GraphSpec, Manifest, System
from dkt_ros.model.engine.onnx_files import WEIGHTS_FILE
from dkt_ros.model.engine.request import EngineRequest, differences
from dkt_ros.model.weights import sha256

Export = Callable[[EngineRequest, Path], Manifest]
BuildPlan = Callable[[Path, Path], str]
"""(graph's file, plan's file) -> the plan's SHA-256."""
Report = Callable[[str], None]


def update_graphs(folder: Path, request: EngineRequest, export: Export, report: Report) -> Manifest:
    """The manifest of graphs that fit the request; they are exported unless they are there."""
    manifest = _existing(folder)
    if manifest is not None and not differences(manifest, request) and _whole(folder, manifest):
        report(f"the graphs in {folder} are up to date")
        return manifest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Before anything else: half an engine must not look like a whole one.
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        for pattern in ("*.onnx", "*.plan", WEIGHTS_FILE, CONSTANTS_FILE):
            for file in folder.glob(pattern):
                file.unlink()
    except OSError as error:
        raise DktError(f"{folder} cannot be written: {error}") from error
    return export(request, folder)


def update_plans(
    folder: Path, manifest: Manifest, system: System, build: BuildPlan, report: Report
) -> Manifest:
    """Builds the plans that this system lacks; engine.json says so after each.

    So a build that was interrupted goes on where it was.
    """
    if manifest.system != system:
        bare = tuple(replace(graph, plan=None, plan_sha256=None) for graph in manifest.graphs)
        manifest = replace(manifest, system=system, graphs=bare)
    missing = [graph for graph in manifest.graphs if not plan_whole(folder, graph)]
    if not missing:
        report(f"the plans in {folder} are up to date")
    for graph in missing:
        plan = f"{graph.name}.plan"
        digest = build(folder / graph.onnx, folder / plan)
        built = replace(graph, plan=plan, plan_sha256=digest)
        manifest = replace(
            manifest,
            graphs=tuple(built if old.name == graph.name else old for old in manifest.graphs),
        )
        manifest.write(folder)
    return manifest


def plan_whole(folder: Path, graph: GraphSpec) -> bool:
    """Whether the graph's plan is there and unchanged."""
    if graph.plan is None:
        return False
    file = folder / graph.plan
    return file.is_file() and sha256(file) == graph.plan_sha256


def _whole(folder: Path, manifest: Manifest) -> bool:
    """Whether what was exported is there and unchanged."""
    files = (*(graph.onnx for graph in manifest.graphs), WEIGHTS_FILE, manifest.constants)
    return not changed_files(folder, manifest, files)


def _existing(folder: Path) -> Manifest | None:
    """What is there; None where there is nothing, or what this version cannot read."""
    try:
        return Manifest.read(folder)
    except DktError:
        return None
