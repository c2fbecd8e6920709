"""`python -m dkt_ros.rigid.decompose MESH PARTS`: CoACD in a process of its own, see parts.py."""

from __future__ import annotations

import sys

import coacd
import numpy as np

_THRESHOLD = 0.05


def main(mesh_file: str, parts_file: str) -> None:
    """Reads `vertices` and `faces` of an .npz, writes convex ones as v0, f0, v1, f1, ..."""
    with np.load(mesh_file) as mesh:
        vertices, faces = mesh["vertices"], mesh["faces"]
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
    named = {f"{key}{n}": part[k] for n, part in enumerate(parts) for k, key in enumerate("vf")}
    np.savez_compressed(parts_file, **named)


if __name__ == "__main__":
    main(*sys.argv[1:])
