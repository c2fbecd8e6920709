"""Real renders, tiny: exact geometry, classes, a sensor with holes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bpy", reason="rendering needs Blender as a module (pip install bpy)")

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.families import make_shape
from dkt_ros.synth.render import Renderer, RenderOptions, develop, exposure
from dkt_ros.synth.sampling import SceneOptions, sample_scene
from dkt_ros.synth.scene import Item, Scene, Substance
from dkt_ros.synth.sensor import StereoSensor

_TINY = RenderOptions(width=64, height=40, samples=2)


def staged(size: RenderOptions) -> tuple[Renderer, np.ndarray]:
    """A glass tumbler, a metal can and an opaque ball side by side, seen from the front."""
    random = np.random.default_rng(1)
    substances = (
        Substance("clear_glass", MaterialClass.TRANSPARENT, (1.0, 1.0, 1.0), 0.0),
        Substance("metal", MaterialClass.REFLECTIVE, (0.9, 0.9, 0.9), 0.05),
        Substance("opaque", MaterialClass.OPAQUE, (0.8, 0.2, 0.2), 0.5),
    )
    items = []
    for family, substance, x in zip(
        ("tumbler", "can", "ball"), substances, (-0.12, 0.0, 0.12), strict=True
    ):
        pose = np.eye(4)
        pose[0, 3], pose[2, 3] = x, 2e-4
        items.append(Item(make_shape(family, random), substance, pose))
    scene: Scene = sample_scene(3, 0, SceneOptions(container_share=0.0, drop_share=0.0))
    path = replace(
        scene.path,
        target=(0.0, 0.0, 0.04),
        radius=0.6,
        elevation=np.radians(35),
        azimuth=-np.pi / 2,
        horizontal_fov=np.radians(50),
    )
    texture = replace(scene.table, pattern="noise", first=(0.8, 0.8, 0.8), scale=20.0)
    scene = replace(scene, items=tuple(items), path=path, table=texture)
    return Renderer(scene, size), path.world_to_camera(0)


def world_points(depth: np.ndarray, matrix: np.ndarray, world_to_camera: np.ndarray) -> np.ndarray:
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]]
    rays = np.stack([(u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1]], -1)
    points = np.dstack([rays * depth[..., None], depth])
    return (points - world_to_camera[:3, 3]) @ world_to_camera[:3, :3]


def test_geometry_is_exact_and_glass_is_a_surface() -> None:
    renderer, pose = staged(_TINY)
    geometry = renderer.geometry(pose)
    assert geometry.depth.shape == (40, 64)
    assert set(np.unique(geometry.mask)) == {0, 1, 2}
    assert set(np.unique(geometry.instance)) == {0, 1, 2, 3}
    for number, item in enumerate(renderer.scene.items, start=1):
        assert (geometry.mask[geometry.instance == number] == item.substance.kind).all()
    points = world_points(geometry.depth, renderer.camera_matrix, pose)
    height = points[..., 2]
    beside = np.abs(points[..., 0]) > 0.25
    table = beside & (np.abs(height) < 2e-3)
    assert table.mean() > 0.1
    assert np.abs(height[table]).max() < 1e-5
    for kind, item in ((1, renderer.scene.items[0]), (2, renderer.scene.items[1])):
        seen = points[geometry.mask == kind]
        assert len(seen) > 20
        assert seen[:, 2].min() > -1e-4
        assert seen[:, 2].max() < item.shape.height + 1e-3
        radius = np.hypot(seen[:, 0] - item.pose[0, 3], seen[:, 1])
        assert radius.max() < item.shape.radius + 1e-4
    # The table's plane behind the glass is farther than the glass.
    eye = -pose[:3, :3].T @ pose[:3, 3]
    ray = points - eye
    plane = geometry.depth * (-eye[2] / ray[..., 2])
    glass = geometry.mask == MaterialClass.TRANSPARENT
    assert (geometry.depth[glass] < plane[glass]).all()


def test_normals_face_the_camera_and_the_table_points_up() -> None:
    renderer, pose = staged(_TINY)
    geometry = renderer.geometry(pose)
    height = world_points(geometry.depth, renderer.camera_matrix, pose)[..., 2]
    up = pose[:3, :3] @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(geometry.normal[np.abs(height) < 1e-4] @ up, 1.0, atol=1e-4)
    ball = np.argmin(np.abs(height - 0.03) + 10 * (geometry.mask != 1))
    assert geometry.normal.reshape(-1, 3)[ball, 2] < 0


def test_the_sensor_has_holes_on_glass_and_measures_the_table() -> None:
    renderer, pose = staged(RenderOptions(width=160, height=100, samples=1))
    geometry = renderer.geometry(pose)
    raw = renderer.raw_depth(pose, StereoSensor(), np.random.default_rng(0))
    height = world_points(geometry.depth, renderer.camera_matrix, pose)[..., 2]
    glass = geometry.mask == MaterialClass.TRANSPARENT
    table = (np.abs(height) < 1e-4) & (geometry.depth < 0.8)
    holes = np.isnan(raw)
    assert holes[glass].mean() > 0.3
    assert holes[table].mean() < holes[glass].mean() - 0.2
    error = np.abs(raw - geometry.depth)
    assert np.nanmedian(error[table]) < 0.006
    assert np.nanmedian((raw - geometry.depth)[glass]) > 0.005


def test_the_picture_is_exposed_and_developed() -> None:
    grey = np.full((8, 8, 3), 0.01)
    factor = exposure(grey, 0.2)
    assert factor == pytest.approx(20)
    # sRGB of linear 0.2.
    assert (develop(grey * factor) == 124).all()
    steps = develop(np.linspace(0, 3, 50)[:, None, None].repeat(3, axis=2))
    assert (np.diff(steps[:, 0, 0].astype(int)) >= 0).all()


def test_a_nonsense_size_is_refused() -> None:
    with pytest.raises(DktError, match="height is 3"):
        RenderOptions(height=3)
