"""Version 3's scenes: what is in them fits, and each share does what it says."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.synth import bodies
from dkt_ros.synth.camera import HandPath, PathOptions, Sway, eye_of
from dkt_ros.synth.clearance import least_distance
from dkt_ros.synth.commands import _SHARES
from dkt_ros.synth.lathe import SEGMENTS
from dkt_ros.synth.prints import draw_print
from dkt_ros.synth.sampling import HELD_OUT_FAMILIES, Pool, SceneOptions
from dkt_ros.synth.scene import Scene, about_z, placed
from dkt_ros.synth.sensors import SENSORS, sensor_of
from dkt_ros.synth.variety import Shares, complete, sample_varied_scene

_PLACED = SceneOptions(drop_share=0.0)


def scene_of(index: int, content: SceneOptions = _PLACED, **shares: Any) -> Scene:
    chosen = Shares(**shares)
    return complete(sample_varied_scene(31, index, content, chosen), 31, index, chosen)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """That tests read and never change."""
    return [scene_of(index, hands=0.4, grippers=0.6) for index in range(24)]


def object_points(scene: Scene) -> np.ndarray:
    return np.vstack([placed(item.shape.vertices, item.pose) for item in scene.items])


def is_closed(faces: np.ndarray) -> bool:
    """Whether each edge is used once, and once the other way."""
    edges = np.concatenate([faces[:, [i, (i + 1) % 3]] for i in range(3)])
    forward, backward = (np.sort(edges @ way) for way in ([2**31, 1], [1, 2**31]))
    return np.array_equal(forward, backward) and bool((np.diff(forward) > 0).all())


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def test_a_scene_depends_on_seed_and_index_alone(scenes: list[Scene]) -> None:
    again = scene_of(5, hands=0.4, grippers=0.6)
    assert again.path == scenes[5].path
    assert again.photo == scenes[5].photo
    assert again.panels == scenes[5].panels
    for a, b in zip(again.props, scenes[5].props, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)
        np.testing.assert_array_equal(a.pose, b.pose)


def test_the_camera_runs_into_nothing_and_stays_in_the_room(scenes: list[Scene]) -> None:
    for scene in scenes:
        points = object_points(scene)[::5]
        for frame in range(0, 48, 6):
            eye = eye_of(scene.path.world_to_camera(frame))
            assert eye[2] > 0.03
            assert np.linalg.norm(points - eye, axis=1).min() > 0.06
            assert np.abs(eye[:2]).max() < scene.wall_distance
            for panel in scene.panels:
                (local,) = placed((eye - panel.centre)[None], about_z(-panel.turn))
                assert (np.abs(local) > panel.half).any()


def test_near_walls_stand_behind_the_objects(scenes: list[Scene]) -> None:
    walls = 0
    for scene in scenes:
        for panel in scene.panels:
            if panel.kind == "near wall":
                walls += 1
                out = np.array([np.cos(panel.turn), np.sin(panel.turn)])
                front = np.array(panel.centre[:2]) @ out - panel.half[0]
                assert (object_points(scene)[:, :2] @ out).max() < front
    assert walls > 3


def test_props_are_closed_turn_outwards_and_keep_off_the_objects(scenes: list[Scene]) -> None:
    kinds = {prop.kind for scene in scenes for prop in scene.props}
    assert kinds >= {"label", "sheet", "gripper", "fingers", "hand", "sleeve"}
    for scene in scenes:
        for prop in scene.props:
            assert volume(prop.vertices, prop.faces) > 0, prop.kind
            assert is_closed(prop.faces), prop.kind
            if prop.attached:
                continue
            points = placed(prop.vertices, prop.pose)
            assert points[:, 2].min() > -1e-6
            if prop.kind in ("gripper", "hand", "sleeve", "fingers"):
                for item in scene.items:
                    local = placed(points, np.linalg.inv(item.pose))
                    inside = (local[:, 2] > 0) & (local[:, 2] < item.shape.height)
                    core = np.hypot(local[inside, 0], local[inside, 1]) < 0.4 * item.shape.radius
                    if item.shape.round:
                        assert not core.any(), (prop.kind, item.shape.family)


def test_what_is_fixed_to_the_camera_clears_the_table(scenes: list[Scene]) -> None:
    attached = [(scene, prop) for scene in scenes for prop in scene.props if prop.kind == "fingers"]
    held = [(scene, prop) for scene, prop in attached if prop.attached]
    assert held
    for scene, prop in held:
        tips = placed(prop.vertices, prop.pose)
        assert tips[:, 2].max() > 0.08, "in front of the camera"
        for frame in range(0, 48, 12):
            back = np.linalg.inv(scene.path.world_to_camera(frame))
            assert placed(tips, back)[:, 2].min() > 0


def test_liquids_lie_level_inside_upright_vessels() -> None:
    filled = [
        item
        for index in range(20)
        for item in scene_of(index, liquids=1.0, hands=0, grippers=0).items
        if item.liquid
    ]
    assert len(filled) > 10
    for item in filled:
        assert item.shape.cavity is not None
        assert item.liquid is not None
        first, count = item.shape.cavity
        assert len(item.shape.vertices) >= (first + count) * SEGMENTS + 2
        rings = item.shape.vertices[first * SEGMENTS : (first + count) * SEGMENTS]
        rings = rings.reshape(count, SEGMENTS, 3)
        # From the rim down to the floor, inside the outer wall.
        assert (np.diff(rings[..., 2].mean(axis=1)) < 1e-9).all()
        ring = rings[item.liquid.ring]
        assert np.ptp(ring[:, 2]) < 1e-9
        assert ring[0, 2] < item.shape.height
        assert item.pose[2, 2] > 0.999
        wall, wet = item.substance, item.liquid.wet
        if wall.kind == wet.kind == MaterialClass.TRANSPARENT:
            assert wet.ior * item.liquid.substance.ior == pytest.approx(wall.ior)


def test_stacked_vessels_do_not_touch() -> None:
    stacks = 0
    for index in range(40):
        scene = scene_of(index, stacks=1.0, hands=0, grippers=0)
        for a, b in pairwise(scene.items):
            if a.shape is b.shape and np.allclose(a.pose[:2, 3], b.pose[:2, 3]):
                stacks += 1
                rise = b.pose[2, 3] - a.pose[2, 3]
                assert 0.003 < rise < 0.8 * a.shape.height
                lower = a.shape.vertices
                assert least_distance(lower[::5] + np.array([0, 0, rise]), lower[::3]) > 2e-4
    assert stacks > 3


def test_each_share_at_nothing_leaves_its_thing_out() -> None:
    names = [field.name for field in fields(Shares)]
    assert names == list(_SHARES)
    bare = Shares(**dict.fromkeys(names, 0.0))
    for index in range(10):
        drawn = sample_varied_scene(31, index, _PLACED, bare)
        scene = complete(drawn, 31, index, bare)
        assert not scene.props
        assert not scene.panels
        assert scene.photo is None
        assert not any(item.liquid for item in scene.items)
        assert not isinstance(scene.path, HandPath)
        assert "print" not in {
            item.substance.texture.pattern for item in scene.items if item.substance.texture
        }
    with pytest.raises(DktError, match=r"--shares hands=1\.5"):
        Shares(hands=1.5)
    with pytest.raises(DktError, match="add up"):
        Shares(close=0.9, wrist=0.9)


def test_views_reach_close_straight_down_and_upside_down() -> None:
    content = replace(_PLACED, container_share=0.0)
    wrist = [scene_of(i, content, wrist=1, close=0, low=0, far=0).path for i in range(12)]
    assert max(path.elevation for path in wrist) > np.radians(80)
    assert min(path.radius for path in wrist) < 0.35
    turned = scene_of(3, content, upside_down=1, wrist=0).path.world_to_camera(0)
    assert turned[1, 2] > 0.2, "the world's up is the picture's down"
    still = scene_of(3, content, static=1).path
    np.testing.assert_array_equal(still.world_to_camera(0), still.world_to_camera(20))
    held = scene_of(3, content, static=0).path
    assert np.abs(held.world_to_camera(0) - held.world_to_camera(5)).max() > 1e-3


def test_a_hand_path_looks_at_its_target_even_straight_down() -> None:
    path = HandPath((0.1, -0.05, 0.02), 0.3, np.pi / 2, 0.7, 0.0, 1.0)
    pose = path.world_to_camera(0)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(placed(np.array([path.target]), pose), [[0, 0, 0.3]], atol=1e-12)
    swaying = replace(path, sways=(Sway("radius", 0.05, 8.0, 0.0),))
    assert eye_of(swaying.world_to_camera(2))[2] == pytest.approx(0.37)
    turning = replace(path, roll=0.4, sways=(Sway("pan", 0.2, 8.0, 0.5), Sway("tilt", 0.3, 8.0, 1)))
    turned = turning.world_to_camera(3)
    np.testing.assert_allclose(turned[:3, :3] @ turned[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turned[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(eye_of(turned), eye_of(pose), atol=1e-12)
    assert np.abs(turned[2, :3] - pose[2, :3]).max() > 0.05
    rolled = replace(path, elevation=0.5, roll=np.pi).world_to_camera(0)
    up = rolled[:3, :3] @ [0, 0, 1]
    assert up[1] > 0.8


def test_the_training_pool_leaves_the_held_out_shapes_out() -> None:
    for index in range(15):
        content = replace(_PLACED, pool=Pool.TRAIN)
        drawn = sample_varied_scene(31, index, content, Shares(stacks=1.0))
        assert not {item.shape.family for item in drawn.items} & set(HELD_OUT_FAMILIES)


def test_fov_holds_and_objects_are_as_many_as_asked() -> None:
    content = SceneOptions(objects=(3, 3), drop_share=0.0, path=PathOptions(fov=(50, 51)))
    for index in range(8):
        drawn = sample_varied_scene(31, index, content, Shares(stacks=0))
        assert 50 <= np.degrees(drawn.path.horizontal_fov) <= 51
        assert len(drawn.items) <= 3


def test_mixed_sensors_suit_the_distance() -> None:
    near = [sensor_of("mixed", 1, index, 0.3) for index in range(200)]
    far = [sensor_of("mixed", 1, index, 1.0) for index in range(200)]
    assert set(near) == set(far) == set(SENSORS)
    assert near.count("d405") > 3 * far.count("d405")
    assert sensor_of("tof", 1, 0, 0.3) == "tof"


def test_a_band_is_closed_and_a_print_has_ink() -> None:
    for span in (0.5, 3.0, 6.0):
        vertices, faces = bodies.band(0.03, 0.02, 0.08, span, 2e-4)
        assert is_closed(faces)
        assert volume(vertices, faces) == pytest.approx(span * 0.03 * 2e-4 * 0.06, rel=0.05)
    drawn = draw_print((0.8, 0.8, 0.8), (0.5, 0.1, 0.1), 3)
    assert 0.05 < (np.abs(drawn - 0.8).max(axis=-1) > 0.2).mean() < 0.95
    assert not np.array_equal(drawn, draw_print((0.8, 0.8, 0.8), (0.5, 0.1, 0.1), 4))


def test_packaging_is_thin_clear_plastic_whose_bottles_may_have_caps() -> None:
    scenes = [scene_of(index, packaging=1.0, hands=0, grippers=0) for index in range(12)]
    packed = [item for s in scenes for item in s.items if item.substance.name == "packaging"]
    assert len(packed) > 20
    for item in packed:
        assert item.shape.family in ("bottle", "tumbler")
        assert item.substance.kind == MaterialClass.TRANSPARENT
        assert is_closed(item.shape.faces)
        assert item.shape.cavity is not None
        first, count = item.shape.cavity
        middle = (first + count // 2) * SEGMENTS
        ring = item.shape.vertices[middle : middle + SEGMENTS]
        outer = item.shape.vertices[: first * SEGMENTS]
        to_outside = np.linalg.norm(outer[:, None] - ring[None, ::12], axis=-1).min(axis=0)
        assert (to_outside < 0.012).all(), "beside the outer wall, whose rings are apart"
        assert 0 < volume(item.shape.vertices, item.shape.faces) < 4e-5, "a few grammes of it"
    caps = [prop for scene in scenes for prop in scene.props if prop.kind == "cap"]
    assert len(caps) > 5
    for cap in caps:
        assert is_closed(cap.faces)
        assert volume(cap.vertices, cap.faces) > 0
        assert placed(cap.vertices, cap.pose)[:, 2].min() > 0, "not in the table"


def test_scenes_without_packaging_are_what_they_were() -> None:
    names: list[set[str]] = []
    for index in range(12):
        plain, some = (scene_of(index, packaging=share) for share in (0.0, 0.5))
        names.append({item.substance.name for item in some.items} & {"packaging"})
        if not names[-1]:
            for a, b in zip(plain.items, some.items, strict=True):
                np.testing.assert_array_equal(a.pose, b.pose)
                np.testing.assert_array_equal(a.shape.vertices, b.shape.vertices)
            assert len(plain.props) == len(some.props)
    assert 0 < sum(map(bool, names)) < 12
