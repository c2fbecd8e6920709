"""Convex parts of a mesh by CoACD, kept on disk by the mesh's content."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from pathlib import Path

import coacd
import numpy as np

from dkt_ros.bench.physics import Mesh
from dkt_ros.files import BusyError, write_whole

_THRESHOLD = 0.05
_VERSION = b"1"


def convex_parts(mesh: Mesh, cache: Path) -> tuple[Mesh, ...]:
    """Convex meshes that fill it together, to about a twentieth of its size; seconds a mesh."""
    vertices, faces = (np.ascontiguousarray(array) for array in mesh)
    digest = hashlib.sha256(_VERSION + vertices.tobytes() + faces.tobytes()).hexdigest()[:24]
    path = cache / f"{digest}.npz"
    if path.exists():
        with np.load(path) as stored:
            count = len(stored.files) // 2
            return tuple((stored[f"v{n}"], stored[f"f{n}"]) for n in range(count))
    coacd.set_log_level("error")
    parts = coacd.run_coacd(
        coacd.Mesh(vertices, faces),
        threshold=_THRESHOLD,
        # The meshes are closed; remeshing would swallow thin walls.
        preprocess_mode="off",
        resolution=1000,
        mcts_nodes=10,
        mcts_iterations=40,
        mcts_max_depth=2,
        seed=0,
    )
    found = tuple((np.asarray(v, np.float64), np.asarray(f, np.int64)) for v, f in parts)
    stream = io.BytesIO()
    named = {f"{key}{n}": part[k] for n, part in enumerate(found) for k, key in enumerate("vf")}
    np.savez_compressed(stream, **named)
    with suppress(BusyError):  # Another process keeps the same.
        write_whole(path, stream.getvalue())
    return found
