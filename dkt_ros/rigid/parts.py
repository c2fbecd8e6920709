"""Convex parts of a mesh by CoACD, kept on disk by the mesh's content.

CoACD runs in a process of its own: beside Blender's module it ends the process, as it does, now
and then, over a mesh that has nothing wrong with it.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dkt_ros import child
from dkt_ros.errors import DktError
from dkt_ros.files import BusyError, write_whole
from dkt_ros.formats.numpy_files import arrays_in
from dkt_ros.rigid.world import Mesh

_VERSION = b"1"
_MOVED_M = (0.0, 1e-6, 1e-5)
"""Metres that vertices are moved by at random, one after another until CoACD comes to an end."""


def convex_parts(mesh: Mesh, cache: Path) -> tuple[Mesh, ...]:
    """Convex meshes that fill it together, to about a twentieth of its size; seconds a mesh.

    What is kept and cannot be read is made again. Raises DktError where CoACD fails.
    """
    vertices, faces = (np.ascontiguousarray(array) for array in mesh)
    digest = hashlib.sha256(_VERSION + vertices.tobytes() + faces.tobytes()).hexdigest()[:24]
    path = cache / f"{digest}.npz"
    with suppress(DktError):
        return _read(path)
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "parts.npz"
        _decompose(vertices, faces, fresh)
        with suppress(BusyError):  # Another process keeps the same.
            write_whole(path, fresh.read_bytes())
        return _read(fresh)


def _read(path: Path) -> tuple[Mesh, ...]:
    with arrays_in(path) as stored:
        count = len(stored) // 2
        return tuple(
            (np.asarray(stored[f"v{n}"], np.float64), np.asarray(stored[f"f{n}"], np.int64))
            for n in range(count)
        )


def _decompose(vertices: np.ndarray, faces: np.ndarray, parts: Path) -> None:
    if find_spec("coacd") is None:
        raise ModuleNotFoundError("No module named 'coacd'", name="coacd")
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        mesh = Path(folder) / "mesh.npz"
        for moved in _MOVED_M:
            some = vertices + random.normal(0, moved, vertices.shape) if moved else vertices
            np.savez(mesh, vertices=some, faces=faces)
            command = child.command("dkt_ros.rigid.decompose", str(mesh), str(parts))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
    told = done.stderr.strip().splitlines()
    raise DktError(
        f"CoACD ended with exit status {done.returncode} over a mesh of {len(faces)} faces, "
        f"expected convex parts: {told[-1] if told else 'it said nothing'}"
    )
