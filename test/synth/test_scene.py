"""Scenes drawn from a seed: reproducible, free of collisions, true to their pool."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth.camera import PathOptions, camera_matrix, look_at
from dkt_ros.synth.clearance import least_distance
from dkt_ros.synth.sampling import HELD_OUT_FAMILIES, Pool, SceneOptions, sample_scene
from dkt_ros.synth.scene import Scene, placed
from dkt_ros.synth.substances import sample_metal, sample_transparent

_PLACED = SceneOptions(drop_share=0.0)
_SCENES = [sample_scene(11, index, _PLACED) for index in range(25)]
_HELD_OUT = {
    draw(np.random.default_rng(0), held_out=True).name
    for draw in (sample_metal, sample_transparent)
}


def world_vertices(scene: Scene) -> list[np.ndarray]:
    return [placed(item.shape.vertices, item.pose) for item in scene.items]


def test_the_least_distance_is_that_of_all_pairs() -> None:
    some, others = (
        np.random.default_rng(seed).normal(size=(n, 3)) for seed, n in ((0, 200), (1, 7))
    )
    expected = np.linalg.norm(some[:, None] - others, axis=-1).min()
    assert least_distance(some, others) == pytest.approx(expected, rel=1e-12)
    assert least_distance(others, some) == pytest.approx(expected, rel=1e-12)


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    again = sample_scene(11, 7, _PLACED)
    assert again.path == _SCENES[7].path
    assert again.lights == _SCENES[7].lights
    for given, found in zip(_SCENES[7].items, again.items, strict=True):
        assert given.substance == found.substance
        np.testing.assert_array_equal(given.pose, found.pose)
        np.testing.assert_array_equal(given.shape.vertices, found.shape.vertices)
    assert sample_scene(12, 7, _PLACED).path != again.path


def test_objects_touch_what_they_rest_on_and_stay_on_it() -> None:
    assert any(scene.area.container for scene in _SCENES)
    for scene in _SCENES:
        for vertices in world_vertices(scene):
            assert 0 < vertices[:, 2].min() - scene.area.floor < 1e-3
            assert (np.abs(vertices[:, :2]) < max(scene.table_half_size)).all()
            if scene.area.container is not None:
                assert all(scene.area.holds(x, y) for x, y in vertices[::7, :2])


def test_a_container_is_closed_and_holds_its_floor() -> None:
    for scene in _SCENES:
        if (container := scene.area.container) is not None:
            vertices, faces = container.mesh()
            edges = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)])
            forward = set(map(tuple, edges.tolist()))
            assert forward == {(b, a) for a, b in forward}
            assert 0 < vertices[:, 2].min() < 1e-3
            assert np.isclose(vertices[:, 2], scene.area.floor).sum() == 4
            assert np.degrees(scene.path.elevation) > 30 or container.kind == "tray"


def test_dropped_objects_start_clear_of_floor_and_one_another() -> None:
    for index in range(12):
        scene = sample_scene(11, index, SceneOptions(drop_share=1.0))
        assert scene.dropped
        for vertices in world_vertices(scene):
            assert vertices[:, 2].min() > scene.area.floor
        for a, b in combinations(world_vertices(scene), 2):
            assert least_distance(a[::3], b[::17]) > 1e-3


def test_options_say_what_scenes_hold() -> None:
    plain = SceneOptions(objects=(2, 3), drop_share=0.0, container_share=0.0)
    for index in range(10):
        scene = sample_scene(3, index, plain)
        assert len(scene.items) in (2, 3)
        assert not scene.dropped
        assert scene.area.container is None
    with pytest.raises(DktError, match="--objects is 5 4"):
        SceneOptions(objects=(5, 4))
    with pytest.raises(DktError, match=r"--drop-share is 1\.5"):
        SceneOptions(drop_share=1.5)
    with pytest.raises(DktError, match="--fov is 70 40"):
        PathOptions(fov=(70, 40))
    with pytest.raises(DktError, match="--elevation is nan"):
        PathOptions(elevation=(float("nan"), 40))
    for period in (0, 1e-300, float("inf")):
        with pytest.raises(DktError, match=f"--period is {period:g} frames, expected 1 or more"):
            PathOptions(period=period)


def test_an_open_mesh_is_never_transparent() -> None:
    shape = replace(_SCENES[0].items[0].shape, closed=False)
    content = SceneOptions(meshes=(shape,), mesh_share=1.0)
    kinds = {item.substance.kind for i in range(8) for item in sample_scene(1, i, content).items}
    assert kinds == {MaterialClass.OPAQUE, MaterialClass.REFLECTIVE}


def test_all_kinds_of_material_occur() -> None:
    names = {item.substance.name for scene in _SCENES for item in scene.items}
    assert names >= {"clear_glass", "tinted_glass", "clear_plastic", "frosted_plastic"}
    assert names >= {"polished_metal", "brushed_metal", "glazed_ceramic", "opaque"}


def test_objects_do_not_meet() -> None:
    for scene in _SCENES:
        for a, b in combinations(world_vertices(scene), 2):
            assert least_distance(a[::3] * [1, 1, 0], b[::17] * [1, 1, 0]) > 1e-3


def test_a_lying_object_is_supported_at_two_places_along_its_axis() -> None:
    lying = [
        (item, vertices)
        for scene in _SCENES
        for item, vertices in zip(scene.items, world_vertices(scene), strict=True)
        if abs(item.pose[2, 2]) < 0.9 and item.shape.family != "ball"
    ]
    assert lying
    for item, vertices in lying:
        low = vertices[:, 2] < vertices[:, 2].min() + 5e-4
        along = item.shape.vertices[low, 2]
        assert along.max() - along.min() > 0.2 * item.shape.height


def test_about_half_of_the_objects_or_more_are_transparent() -> None:
    kinds = [item.substance.kind for scene in _SCENES for item in scene.items]
    assert 0.45 < kinds.count(MaterialClass.TRANSPARENT) / len(kinds) < 0.85
    assert MaterialClass.REFLECTIVE in kinds
    assert MaterialClass.OPAQUE in kinds


@pytest.mark.parametrize("index", range(15))
def test_the_training_pool_leaves_the_held_out_things_out(index: int) -> None:
    held = sample_scene(11, index, SceneOptions(pool=Pool.HELD_OUT))
    assert held.items[0].shape.family in HELD_OUT_FAMILIES
    for item in sample_scene(11, index, SceneOptions(pool=Pool.TRAIN)).items:
        assert item.shape.family not in HELD_OUT_FAMILIES
        assert item.substance.name not in _HELD_OUT


def test_the_camera_looks_at_its_target() -> None:
    pose = look_at(np.array([0.5, -0.4, 0.6]), np.array([0.0, 0.1, 0.05]))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    x, y, z = pose[:3, :3] @ [0.0, 0.1, 0.05] + pose[:3, 3]
    assert (x, y) == pytest.approx((0, 0), abs=1e-12)
    assert z == pytest.approx(np.sqrt(0.25 + 0.25 + 0.55**2))
    above = pose[:3, :3] @ [0.0, 0.1, 0.15] + pose[:3, 3]
    assert above[1] < 0, "y points down in the picture"


def test_the_path_keeps_its_step_and_its_distance() -> None:
    for scene in _SCENES:
        path = scene.path
        poses = [path.world_to_camera(frame) for frame in range(30)]
        eyes = [-pose[:3, :3].T @ pose[:3, 3] for pose in poses]
        distance = [np.linalg.norm(eye - path.target) for eye in eyes]
        assert min(distance) > 0.45
        assert max(distance) < 1.35
        turn = [np.arccos(np.clip(a[2, :3] @ b[2, :3], -1, 1)) for a, b in pairwise(poses)]
        assert max(turn) < np.radians(3.6)
        for eye in eyes:
            rise = (eye[2] - path.target[2]) / np.linalg.norm(eye - path.target)
            assert 14.9 < np.degrees(np.arcsin(rise)) < 60.1


def test_the_camera_matrix_spans_the_view() -> None:
    matrix = camera_matrix(np.radians(60), 320, 192)
    left = (-0.5 - matrix[0, 2]) / matrix[0, 0]
    assert np.degrees(np.arctan(left)) == pytest.approx(-30)
