"""Which plans may be loaded."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from dkt_ros.errors import DktError
from dkt_ros.model.engine.manifest import GraphSpec, TensorSpec
from dkt_ros.model.engine.plans import Described, check_described, check_version, read_plan

PLAN = b"a plan"
GRAPH = GraphSpec(
    "encoder_first",
    "encoder_first.onnx",
    "encoder_first.plan",
    (TensorSpec("images", (1, 3, 1, 32, 48), "float32"),),
    (TensorSpec("latents", (1, 16, 1, 4, 6), "float32"),),
    hashlib.sha256(PLAN).hexdigest(),
)
FOUND: Described = {
    "images": ("input", (1, 3, 1, 32, 48), "float32"),
    "latents": ("output", (1, 16, 1, 4, 6), "float32"),
}


def test_the_plan_that_was_built_is_read(tmp_path: Path) -> None:
    (tmp_path / "encoder_first.plan").write_bytes(PLAN)
    assert read_plan(tmp_path, GRAPH) == PLAN


@pytest.mark.parametrize(
    ("graph", "content", "says"),
    [
        (GRAPH, b"another plan", "changed after it was built"),
        (GRAPH, None, "cannot be read"),
        (replace(GRAPH, plan=None), PLAN, "no plan of encoder_first"),
        (replace(GRAPH, plan_sha256=None), PLAN, "no plan of encoder_first"),
    ],
)
def test_any_other_file_is_refused(
    tmp_path: Path, graph: GraphSpec, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "encoder_first.plan").write_bytes(content)
    with pytest.raises(DktError, match=f"{says}.*dkt engine build"):
        read_plan(tmp_path, graph)


def test_a_plan_with_its_graphs_inputs_and_outputs_passes() -> None:
    check_described(GRAPH, FOUND)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": ("input", (1, 3, 1, 64, 48), "float32")}, "images is an input 1x3x1x64x48"),
        ({"latents": ("output", (1, 16, 1, 4, 6), "bfloat16")}, "latents is an output .* bfloat16"),
        ({"latents": ("input", (1, 16, 1, 4, 6), "float32")}, "latents is an input"),
        ({"more": ("input", (1,), "float32")}, "more is an input 1 float32, .* says missing"),
    ],
)
def test_a_plan_of_another_graph_is_refused(change: Described, says: str) -> None:
    with pytest.raises(DktError, match=says):
        check_described(GRAPH, {**FOUND, **change})


@pytest.mark.parametrize("version", ["10.8.0.43", "10.16.1", "11.0.0", "11.4.1.7"])
def test_versions_this_was_written_for(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["8.6.1", "10.7.0", "12.0.0"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(DktError, match=f"TensorRT is {version}, expected 10.8 to 11"):
        check_version(version)
