"""Real renders, tiny: exact geometry, classes, a sensor with holes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy", reason="rendering needs Blender as a module (pip install bpy)")

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth import bodies
from dkt_ros.synth.families import make_shape
from dkt_ros.synth.photo import develop, exposure
from dkt_ros.synth.render import Renderer, RenderOptions
from dkt_ros.synth.sampling import SceneOptions, sample_scene
from dkt_ros.synth.scene import Item, Liquid, Prop, Scene, Substance
from dkt_ros.synth.sensor import StereoSensor
from dkt_ros.synth.sensors import SENSORS, DepthSensor

_TINY = RenderOptions(width=64, height=40, samples=2)


def staged(size: RenderOptions, **view: Any) -> tuple[Renderer, np.ndarray]:
    """A glass tumbler, a metal can and an opaque ball side by side, seen from the front.

    view: what else its path is.
    """
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
        radius=0.6,
        elevation=np.radians(35),
        azimuth=-np.pi / 2,
        **{"target": (0.0, 0.0, 0.04), "horizontal_fov": np.radians(50)} | view,
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


def test_the_picture_is_exposed_and_developed() -> None:
    grey = np.full((8, 8, 3), 0.01)
    factor = exposure(grey, 0.2)
    assert factor == pytest.approx(20)
    # sRGB of linear 0.2.
    assert (develop(grey * factor) == 124).all()
    steps = develop(np.linspace(0, 3, 50)[:, None, None].repeat(3, axis=2))
    assert (np.diff(steps[:, 0, 0].astype(int)) >= 0).all()


def test_a_nonsense_size_is_refused() -> None:
    for name, value in (("height", 3), ("width", 99999), ("samples", 10**10), ("bounces", 2000)):
        with pytest.raises(DktError, match=f"{name} is {value}, expected [0-9]+ to [0-9]+"):
            RenderOptions(**{name: value})


def failures(
    sensor: DepthSensor, size: tuple[int, int] = (160, 100), **view: Any
) -> tuple[np.ndarray, ...]:
    """Raw depth minus truth; masks of clear glass, metal and table near the middle."""
    renderer, pose = staged(RenderOptions(*size, samples=1), **view)
    geometry = renderer.geometry(pose)
    raw = renderer.raw_depth(pose, sensor, np.random.default_rng(0))
    height = world_points(geometry.depth, renderer.camera_matrix, pose)[..., 2]
    glass = geometry.mask == MaterialClass.TRANSPARENT
    metal = geometry.mask == MaterialClass.REFLECTIVE
    table = (np.abs(height) < 1e-4) & (geometry.depth < 0.8)
    return raw - geometry.depth, glass, metal, table


def test_the_sensor_has_holes_on_glass_and_measures_the_table() -> None:
    # A narrow view of the glass: the infrared pair is rendered at the sensor's own resolution.
    error, glass, _, table = failures(
        StereoSensor(), (96, 60), target=(-0.07, 0.0, 0.04), horizontal_fov=np.radians(26)
    )
    holes = np.isnan(error)
    assert holes[glass].mean() > 0.3
    assert holes[table].mean() < holes[glass].mean() - 0.2
    assert np.nanmedian(np.abs(error[table])) < 0.006
    assert np.nanmedian(error[glass]) > 0.005


def test_tof_sees_through_glass_and_past_metal() -> None:
    error, glass, metal, table = failures(SENSORS["tof"])
    assert np.isnan(error[table]).mean() < 0.05
    assert abs(np.nanmedian(error[table])) < 0.015
    assert np.isfinite(error[glass]).mean() > 0.5
    assert (error[glass] > 0.02).mean() > 0.4
    assert (np.isnan(error[metal]) | (np.abs(error[metal]) > 0.03)).mean() > 0.3


def test_structured_light_has_holes_on_glass_and_metal_and_a_shadow() -> None:
    error, glass, metal, table = failures(SENSORS["structured-light"])
    assert np.isnan(error[glass]).mean() > 0.3
    assert np.isnan(error[metal]).mean() > 0.3
    assert np.nanmedian(np.abs(error[table])) < 0.004
    # What it does see of glass lies behind it.
    assert np.nanmedian(error[glass]) > 0.01
    # The projector stands at the right: what it cannot see lies at the left of the objects.
    holes, things = np.isnan(error) & table, glass | metal
    left = np.roll(things, -6, axis=1) & table
    right = np.roll(things, 6, axis=1) & table
    assert holes[left].mean() > holes[right].mean() + 0.1


def test_the_d405_measures_texture_by_room_light_and_fails_on_glass() -> None:
    error, glass, _, table = failures(SENSORS["d405"])
    assert np.isfinite(error[table]).mean() > 0.4
    assert np.nanmedian(np.abs(error[table])) < 0.03
    wrong = np.isnan(error) | (np.abs(error) > 0.02)
    assert wrong[glass].mean() > wrong[table].mean() + 0.15


def test_a_filled_glass_shows_its_liquid_and_the_level_is_a_surface() -> None:
    renderer, _ = staged(_TINY)
    item = renderer.scene.items[0]
    assert item.shape.cavity is not None
    milk = Substance("milk", MaterialClass.OPAQUE, (0.9, 0.05, 0.05), 0.3)
    filled = replace(item, liquid=Liquid(item.shape.cavity[1] // 3, milk, milk))
    scene = replace(renderer.scene, items=(filled, *renderer.scene.items[1:]))
    assert [name for name, _ in scene.things] == ["tumbler", "can", "ball", "liquid"]
    look = replace(scene.path, elevation=np.radians(70)).world_to_camera(0)
    before, empty = renderer.geometry(look), renderer.picture(look).astype(float)
    renderer = Renderer(scene, _TINY)
    after, full = renderer.geometry(look), renderer.picture(look).astype(float)
    surface = after.instance == 4
    assert surface.sum() > 5
    nearer = before.depth[surface] - after.depth[surface]
    assert nearer.min() > 0
    assert np.median(nearer) > 0.005
    assert (after.mask[surface] == MaterialClass.OPAQUE).all()
    red = (full[..., 0] - full[..., 1])[surface].mean()
    assert red > (empty[..., 0] - empty[..., 1])[surface].mean() + 40


def test_what_is_fixed_to_the_camera_stays_in_the_picture() -> None:
    renderer, pose = staged(_TINY)
    black = Substance("plastic", MaterialClass.OPAQUE, (0.02, 0.02, 0.02), 0.5)
    place = np.eye(4)
    place[:3, 3] = 0.0, 0.03, 0.15
    mesh = bodies.block((-0.02, -0.005, -0.02), (0.02, 0.02, 0.02))
    prop = Prop("gripper", *mesh, black, place, attached=True)
    renderer = Renderer(replace(renderer.scene, props=(prop,)), _TINY)
    first = renderer.geometry(pose).instance == 4
    later = renderer.geometry(renderer.scene.path.world_to_camera(8)).instance == 4
    assert first.sum() > 30
    np.testing.assert_array_equal(first, later)
