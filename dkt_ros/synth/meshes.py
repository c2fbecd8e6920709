"""A folder of the user's own meshes as shapes: read, checked, brought to metres.

Knows GLB, glTF, OBJ, PLY and STL through Blender. Knows nothing of scenes. A mesh that cannot be
used is named with the reason; it never ends a run unless none is left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.files import files_below
from dkt_ros.synth.passes import quiet
from dkt_ros.synth.scene import placed
from dkt_ros.synth.shapes import Shape
from dkt_ros.wording import counted

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
_OTHERS = (
    ".dae",
    ".fbx",
    ".usd",
    ".usda",
    ".usdc",
    ".usdz",
    ".3mf",
    ".off",
    ".step",
    ".stp",
    ".iges",
)
"""Of meshes and solids that are not read, and that nobody shall miss without a word."""
_MOST_FACES = 500_000
_SIZES = (0.03, 0.45)
"""Metres: the longest side of things that stand on a table."""
_UNITS = {"metres": 1.0, "millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254}
_NORMALISED = (0.45, 3.0)
_NORMALISED_TO = 0.16
_LIMITS = (0.002, 1.5)


def read_meshes(
    folder: Path, scale: float | None = None, say: Callable[[str], None] = print
) -> tuple[Shape, ...]:
    """All usable meshes below a folder in the order of their names.

    scale: metres per unit of the files; None guesses it for each mesh, see `metres_per_unit`.
    Raises DktError where the folder holds no usable mesh. Empties Blender.
    """
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise DktError(f"--mesh-scale is {scale:g}, expected metres per unit, more than 0")
    if not folder.is_dir():
        raise DktError(f"--meshes {folder} is not a folder")
    paths = files_below(folder, SUFFIXES)
    if others := files_below(folder, _OTHERS):
        kinds = ", ".join(sorted({path.suffix.lower() for path in others}))
        say(f"{folder}: {counted(len(others), 'file')} left out ({kinds}); export them as .glb")
    if not paths:
        raise DktError(f"--meshes {folder}: holds no file that ends in {' or '.join(SUFFIXES)}")
    shapes, skipped = [], []
    for path in paths:
        try:
            shape = read_mesh(path, scale)
        except DktError as error:
            skipped.append(path)
            say(f"skipped: {error}")
            continue
        if not shape.closed:
            say(f"{path}: not closed, so never made of glass or clear plastic")
        shapes.append(shape)
    say(f"{folder}: {len(shapes)} usable, {len(skipped)} skipped")
    if not shapes:
        raise DktError(f"--meshes {folder}: none of {counted(len(paths), 'file')} is usable")
    return tuple(shapes)


def read_mesh(path: Path, scale: float | None = None) -> Shape:
    """One file's mesh, all its objects joined, standing on z = 0 with z up, in metres.

    Raises DktError naming the file where it is unreadable, has no faces, or no plausible size.
    """
    vertices, faces = _import(path)
    if not np.isfinite(vertices).all():
        raise DktError(f"{path}: has vertices that are not numbers")
    if len(faces) > _MOST_FACES:
        raise DktError(f"{path}: {len(faces)} faces, expected at most {_MOST_FACES}; simplify it")
    extent = float(np.ptp(vertices, axis=0).max()) if len(vertices) else 0.0
    vertices, faces = _weld(vertices, faces, 1e-5 * extent)
    if len(faces) < 4:
        raise DktError(f"{path}: has {len(faces)} faces, expected a surface")
    factor = scale if scale is not None else metres_per_unit(extent)
    low, high = _LIMITS
    if factor is None or not low <= factor * extent <= high:
        found = f"{extent:g} units long"
        if scale is not None:
            found += f", {scale * extent:g} m at --mesh-scale {scale:g}"
        raise DktError(f"{path}: {found}, no size for a table; give another --mesh-scale")
    vertices = vertices * factor
    faces = _outward(vertices, faces)
    middle = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
    vertices = vertices - [middle[0], middle[1], vertices[:, 2].min()]
    radius, height = np.linalg.norm(vertices[:, :2], axis=1).max(), vertices[:, 2].max()
    outline = np.array([(0.0, 0.0), (radius, 0.0), (radius, height), (0.0, height)])
    closed = is_closed(faces)
    return Shape(path.stem, vertices, faces, outline, round=False, open=False, closed=closed)


def metres_per_unit(extent: float) -> float | None:
    """The unit that gives the longest side a size for a table; None where none does.

    Metres, then millimetres, centimetres, inches. Meshes scaled to unit size, as in many data
    sets, are taken for 16 cm long.
    """
    low, high = _SIZES
    if low <= extent <= high:
        return 1.0
    if _NORMALISED[0] < extent <= _NORMALISED[1]:
        return _NORMALISED_TO / extent
    for factor in _UNITS.values():
        if low <= factor * extent <= high:
            return factor
    return None


def is_closed(faces: np.ndarray) -> bool:
    """Whether every edge of (F,3) has one face on either side, with one orientation."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    size = int(faces.max(initial=0)) + 1
    there = np.sort(edges[:, 0] * size + edges[:, 1])
    back = np.sort(edges[:, 1] * size + edges[:, 0])
    return bool(len(there)) and bool((np.diff(there) > 0).all()) and np.array_equal(there, back)


def _import(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(V,3) vertices and (F,3) triangles of all mesh objects in a file, z up."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    wm = bpy.ops.wm
    readers = {".obj": wm.obj_import, ".ply": wm.ply_import, ".stl": wm.stl_import}
    reader = readers.get(path.suffix.lower(), bpy.ops.import_scene.gltf)
    try:
        with quiet():
            reader(filepath=str(path))
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise DktError(f"{path}: unreadable ({reason})") from error
    vertices, faces, count = [], [], 0
    for thing in bpy.context.scene.objects:
        if thing.type != "MESH":
            continue
        mesh = thing.data
        points = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", points)
        mesh.calc_loop_triangles()
        corners = np.empty(3 * len(mesh.loop_triangles), np.int32)
        mesh.loop_triangles.foreach_get("vertices", corners)
        pose = np.array(thing.matrix_world, float)
        vertices.append(placed(points.reshape(-1, 3), pose))
        faces.append(corners.reshape(-1, 3).astype(np.int64) + count)
        count += len(vertices[-1])
    if not faces or not sum(map(len, faces)):
        raise DktError(f"{path}: has no faces")
    return np.vstack(vertices), np.vstack(faces)


def _weld(
    vertices: np.ndarray, faces: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Joins vertices that files keep apart for their normals, drops faces without an area."""
    cells = np.rint(vertices / max(distance, 1e-12)).astype(np.int64)
    _, first, joined = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    faces = joined.reshape(-1)[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    used, renumbered = np.unique(faces, return_inverse=True)
    return vertices[first][used], renumbered.reshape(-1, 3)


def _outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Turns the faces round where together they point inwards."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return faces[:, ::-1] if np.einsum("ij,ij->", a, np.cross(b, c)) < 0 else faces
