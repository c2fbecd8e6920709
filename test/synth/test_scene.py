"""Scenes drawn from a seed: reproducible, free of collisions, true to their pool."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from dkt_ros.synth.camera import camera_matrix, look_at
from dkt_ros.synth.scene import HELD_OUT_FAMILIES, HELD_OUT_SUBSTANCES, Pool, Scene, sample_scene
from dkt_ros.transphy3d import MaterialClass

_SCENES = [sample_scene(11, index) for index in range(25)]


def world_vertices(scene: Scene) -> list[np.ndarray]:
    return [item.shape.vertices @ item.pose[:3, :3].T + item.pose[:3, 3] for item in scene.items]


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    again = sample_scene(11, 7)
    assert again.path == _SCENES[7].path
    assert again.lights == _SCENES[7].lights
    for given, found in zip(_SCENES[7].items, again.items, strict=True):
        assert given.substance == found.substance
        np.testing.assert_array_equal(given.pose, found.pose)
        np.testing.assert_array_equal(given.shape.vertices, found.shape.vertices)
    assert sample_scene(12, 7).path != again.path


def test_objects_touch_the_table_and_stay_above_it() -> None:
    for scene in _SCENES:
        for vertices in world_vertices(scene):
            assert 0 < vertices[:, 2].min() < 1e-3
            assert (np.abs(vertices[:, :2]) < max(scene.table_half_size)).all()


def test_objects_do_not_meet() -> None:
    for scene in _SCENES:
        for a, b in combinations(world_vertices(scene), 2):
            gap = np.linalg.norm(a[::3, None, :2] - b[None, ::17, :2], axis=-1).min()
            assert gap > 1e-3


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
    held = sample_scene(11, index, Pool.HELD_OUT)
    assert held.items[0].shape.family in HELD_OUT_FAMILIES
    for item in sample_scene(11, index, Pool.TRAIN).items:
        assert item.shape.family not in HELD_OUT_FAMILIES
        assert item.substance.name not in HELD_OUT_SUBSTANCES


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
        assert min(eye[2] for eye in eyes) > 0.1


def test_the_camera_matrix_spans_the_view() -> None:
    matrix = camera_matrix(np.radians(60), 320, 192)
    left = (-0.5 - matrix[0, 2]) / matrix[0, 0]
    assert np.degrees(np.arctan(left)) == pytest.approx(-30)
