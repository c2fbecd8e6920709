"""The user's meshes: units, closedness, what cannot be used is named and skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy", reason="meshes are read by Blender (pip install bpy)")

import bpy

from dkt_ros.errors import DktError
from dkt_ros.synth.families import make_shape
from dkt_ros.synth.meshes import is_closed, metres_per_unit, read_mesh, read_meshes
from dkt_ros.synth.panoramas import find_panoramas

_VASE = make_shape("vase", np.random.default_rng(0))


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    lines = [f"v {x:.7f} {y:.7f} {z:.7f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    head = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    rows = [" ".join(f"{value:.7f}" for value in vertex) for vertex in vertices]
    rows += [f"3 {a} {b} {c}" for a, b, c in faces]
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


def write_stl(path: Path, vertices: np.ndarray, faces: np.ndarray, header: bytes) -> Path:
    """Binary; there are writers whose header begins as that of the text form does."""
    facets = np.zeros(len(faces), [("corners", "<f4", 12), ("_", "<u2")])
    facets["corners"][:, 3:] = vertices[faces].reshape(-1, 9)
    count = len(faces).to_bytes(4, "little")
    path.write_bytes(header.ljust(80, b"\0") + count + facets.tobytes())
    return path


def write_glb(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = bpy.data.meshes.new("thing")
    mesh.from_pydata(vertices.tolist(), [], faces.tolist())
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("thing", mesh))
    bpy.ops.export_scene.gltf(filepath=str(path), export_format="GLB")
    return path


def box(*size: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed box with its faces' corners kept apart, as files do for their normals."""
    signs = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = np.array(
        [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    )
    vertices = (signs * size)[quads.reshape(-1)]
    corners = np.arange(24).reshape(6, 4)
    return vertices, np.vstack([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


def test_all_formats_give_the_same_closed_vase(tmp_path: Path) -> None:
    glb = read_mesh(write_glb(tmp_path / "a.glb", _VASE.vertices, _VASE.faces))
    ply = read_mesh(write_ply(tmp_path / "b.ply", 1000 * _VASE.vertices, _VASE.faces))
    millimetres = 1000 * _VASE.vertices
    stl = read_mesh(write_stl(tmp_path / "c.STL", millimetres, _VASE.faces, b"solid vase"))
    for shape in (glb, ply, stl):
        assert shape.closed
        assert shape.height == pytest.approx(_VASE.height, rel=1e-3)
        assert shape.vertices[:, 2].min() == pytest.approx(0, abs=1e-9)
        assert len(shape.faces) == len(_VASE.faces)


def test_split_corners_are_joined_and_a_box_without_lid_is_open(tmp_path: Path) -> None:
    vertices, faces = box(0.1, 0.2, 0.05)
    shape = read_mesh(write_ply(tmp_path / "box.ply", vertices, faces))
    assert shape.closed
    assert len(shape.vertices) == 8
    turned = read_mesh(write_ply(tmp_path / "turned.ply", vertices, faces[:, ::-1]))
    a, b, c = np.moveaxis(turned.vertices[turned.faces], 1, 0)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6 == pytest.approx(1e-3, rel=1e-4)
    lidless = read_mesh(write_ply(tmp_path / "open.ply", vertices, np.delete(faces, [5, 11], 0)))
    assert not lidless.closed
    assert is_closed(_VASE.faces)


@pytest.mark.parametrize(
    ("extent", "metres"),
    [(0.2, 0.2), (150.0, 0.15), (15.0, 0.15), (1.0, 0.16), (2.0, 0.16), (4.0, 0.04)],
)
def test_units_are_guessed(extent: float, metres: float) -> None:
    factor = metres_per_unit(extent)
    assert factor is not None
    assert factor * extent == pytest.approx(metres)


def test_what_cannot_be_used_is_named_and_counted(tmp_path: Path) -> None:
    write_obj(tmp_path / "good.obj", *box(0.05, 0.06, 0.1))
    (tmp_path / "points.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
        "property float z\nend_header\n0 0 0\n"
    )
    (tmp_path / "garbage.glb").write_bytes(b"\x00\x01 not a model" * 9)
    (tmp_path / "empty.obj").write_text("")
    (tmp_path / "nan.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 2 3 4\n")
    write_obj(tmp_path / "planet.obj", *box(1e6, 1e6, 1e6))
    (tmp_path / "readme.txt").write_text("not a mesh")
    lines: list[str] = []
    (shape,) = read_meshes(tmp_path, say=lines.append)
    assert shape.family == "good"
    for name in ("points.ply", "garbage.glb", "empty.obj", "nan.obj", "planet.obj"):
        assert any(name in line and line.startswith("skipped") for line in lines), (name, lines)
    assert lines[-1].endswith("1 usable, 5 skipped")
    with pytest.raises(DktError, match=r"0\.1 units long, 100 m at --mesh-scale 1000"):
        read_mesh(tmp_path / "good.obj", scale=1000.0)
    (tmp_path / "good.obj").unlink()
    with pytest.raises(DktError, match="none of 5 files"):
        read_meshes(tmp_path, say=lines.append)
    with pytest.raises(DktError, match="is not a folder"):
        read_meshes(tmp_path / "absent")
    with pytest.raises(DktError, match="--mesh-scale is 0"):
        read_meshes(tmp_path, scale=0.0)


def test_meshes_of_kinds_that_are_not_read_are_told(tmp_path: Path) -> None:
    write_ply(tmp_path / "box.ply", *box(0.1, 0.2, 0.05))
    for name in ("a.dae", "b/c.STEP", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    said: list[str] = []
    assert len(read_meshes(tmp_path, say=said.append)) == 1
    assert said[0] == f"{tmp_path}: 2 files left out (.dae, .step); export them as .glb"


def test_panoramas_are_checked(tmp_path: Path) -> None:
    def save(name: str, width: int, height: int) -> None:
        picture = bpy.data.images.new(name, width, height, float_buffer=True)
        picture.file_format, picture.filepath_raw = "HDR", str(tmp_path / name)
        picture.save()

    save("sky.hdr", 32, 16)
    save("square.hdr", 16, 16)
    (tmp_path / "broken.exr").write_bytes(b"v/1\x01 nothing")
    lines: list[str] = []
    (found,) = find_panoramas(tmp_path, say=lines.append)
    assert found.name == "sky.hdr"
    assert any("square.hdr: 16x16" in line for line in lines)
    assert any("broken.exr" in line for line in lines)
    found.unlink()
    with pytest.raises(DktError, match="none of 2 files"):
        find_panoramas(tmp_path, say=lines.append)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (read_meshes, r"--meshes .*: holds no file that ends in \.glb or"),
        (find_panoramas, r"--hdris .*: holds no file that ends in \.hdr or \.exr"),
    ],
)
def test_a_folder_without_any_says_what_it_looked_for(
    tmp_path: Path, read: Callable[..., object], words: str
) -> None:
    for suffix in (".obj", ".exr"):
        (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(DktError, match=words):
        read(tmp_path, say=print)
