"""Plans as files: which may be loaded, and whether they are what engine.json says.

Knows the manifest and hashes. Knows nothing of TensorRT's own types. A plan holds programs: only
files whose SHA-256 stands in engine.json are loaded, so trust in a folder is trust in that file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.model.engine.manifest import GraphSpec

OLDEST, BEYOND = (10, 8), (12, 0)
"""Versions of TensorRT that this is written for: from OLDEST, before BEYOND."""
REBUILD = "build it again with `dkt engine build`"

Described = Mapping[str, tuple[str, tuple[int, ...], str]]
"""Name of an input or output -> "input" or "output", shape, dtype as in a TensorSpec."""


def check_version(version: str) -> None:
    """Raises DktError for a TensorRT that this was not written for."""
    found = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= found < BEYOND:
        raise DktError(
            f"TensorRT is {version}, expected {'.'.join(map(str, OLDEST))} to "
            f"{BEYOND[0] - 1}; install one of these, or choose backend torch"
        )


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
    return f"an {role} {'x'.join(map(str, shape))} {dtype}"
