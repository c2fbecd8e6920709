"""Scenes to grasp in: what differs between materials, and that a gripper can hold what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.cli import main
from dkt_ros.formats.tabletop import ARRANGEMENTS, CAMERAS, MATERIALS
from dkt_ros.formats.transphy3d import MaterialClass, read_sequence
from dkt_ros.synth.camera import eye_of
from dkt_ros.synth.scene import placed
from dkt_ros.synth.tabletop import Tabletop, _arranged, sample_tabletop, solid

_KINDS = {
    "transparent": MaterialClass.TRANSPARENT,
    "reflective": MaterialClass.REFLECTIVE,
    "diffuse": MaterialClass.OPAQUE,
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_only_what_the_objects_are_made_of_differs(camera: str) -> None:
    for index in range(6):
        kinds = [Tabletop(material, camera) for material in MATERIALS]
        scenes = [sample_tabletop(3, index, kind, (1, 4), CAMERAS[camera]) for kind in kinds]
        for material, scene in zip(MATERIALS, scenes, strict=True):
            assert {item.substance.kind for item in scene.items} == {_KINDS[material]}
            assert replace(scene, items=()) == replace(scenes[0], items=())
            for item, other in zip(scene.items, scenes[0].items, strict=True):
                np.testing.assert_array_equal(item.pose, other.pose)
                np.testing.assert_array_equal(item.shape.vertices, other.shape.vertices)


def test_all_stand_on_the_table_fit_between_fingers_and_into_the_picture() -> None:
    for index in range(12):
        scene = sample_tabletop(3, index, Tabletop("diffuse"), (1, 4))
        assert 1 <= len(scene.items) <= 4
        assert not scene.props
        for item in scene.items:
            points = placed(item.shape.vertices, item.pose)
            assert points[:, 2].min() == pytest.approx(0.0002, abs=2e-4)
            assert points[:, 2].max() > 0.03
            angle = np.linspace(0, np.pi, 90)
            across = points[:, :2] @ np.stack([np.cos(angle), np.sin(angle)])
            assert np.ptp(across, axis=0).min() < 0.075
            to_camera = scene.path.world_to_camera(0)
            seen = points @ to_camera[:3, :3].T + to_camera[:3, 3]
            side = np.tan(0.5 * scene.path.horizontal_fov)
            assert (np.abs(seen[:, 0] / seen[:, 2]) < side).all()
            assert (np.abs(seen[:, 1] / seen[:, 2]) < side * 5 / 9).all()


def test_a_solid_tells_the_mass_of_its_walls() -> None:
    scene = sample_tabletop(3, 0, Tabletop("diffuse"), (1, 4))
    told = solid(scene.items[0])
    corners = np.array(told["vertices"])[np.array(told["faces"])]
    volume = np.linalg.det(corners).sum() / 6
    assert told["mass"] == pytest.approx(min(2500 * volume, 0.5), rel=1e-3)


def test_the_scenes_of_a_table_are_those_that_were_published() -> None:
    scene = sample_tabletop(1500, 3, Tabletop("reflective"), (1, 4))
    assert [item.shape.family for item in scene.items] == ["tumbler", "ball", "tumbler", "box"]
    np.testing.assert_allclose(scene.items[0].pose[:3, 3], [0.063797, 0.044482, 0.0002], atol=1e-6)


def test_an_orbit_goes_round_and_ends_with_all_in_view() -> None:
    scene = sample_tabletop(3, 1, Tabletop("diffuse", "orbit"), (1, 4), frames=5)
    eyes = np.array([eye_of(scene.path.world_to_camera(frame))[:2] for frame in range(5)])
    bearing = np.unwrap(np.arctan2(*(eyes - scene.path.target[:2]).T[::-1]))
    assert 34 < np.degrees(abs(bearing[-1] - bearing[0])) < 71
    np.testing.assert_allclose(np.diff(bearing), np.diff(bearing)[0], atol=1e-6)
    for item in scene.items:
        points = placed(item.shape.vertices, item.pose)
        to_camera = scene.path.world_to_camera(4)
        seen = points @ to_camera[:3, :3].T + to_camera[:3, 3]
        side = np.tan(0.5 * scene.path.horizontal_fov)
        assert (np.abs(seen[:, :2] / seen[:, 2:]) < (side, side * 5 / 9)).all()


@pytest.mark.parametrize("arrangement", ["heap", "tray", "bin"])
def test_what_is_dropped_lies_in_its_place_and_depends_on_the_seed_alone(
    arrangement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco", reason="objects are dropped by MuJoCo")
    # Solid things: CoACD would take seconds over hollow ones.
    monkeypatch.setattr("dkt_ros.synth.tabletop._DROPPED", ("ball", "can", "tool"))
    monkeypatch.setattr("dkt_ros.rigid.parts.convex_parts", lambda mesh, cache: (mesh,))
    kind = Tabletop("diffuse", "fixed", arrangement, tmp_path)
    scene = sample_tabletop(3, 0, kind, (3, 4))
    assert 3 <= len(scene.items) <= 4
    assert scene.dropped
    assert (scene.area.container is not None) == (arrangement != "heap")
    if scene.area.container is not None:
        assert scene.area.container.kind == arrangement
        assert scene.things[len(scene.items)][0] == arrangement
    assert {item.shape.family for item in scene.items} <= {"ball", "can", "tool"}
    lowest = [(placed(item.shape.vertices, item.pose))[:, 2].min() for item in scene.items]
    assert min(lowest) >= scene.area.floor + 0.00019
    assert max(np.hypot(*item.pose[:2, 3]) for item in scene.items) < 0.3
    other = sample_tabletop(3, 0, replace(kind, material="transparent"), (3, 4))
    _arranged.cache_clear()
    again = sample_tabletop(3, 0, kind, (3, 4))
    for item, same, glass in zip(scene.items, again.items, other.items, strict=True):
        np.testing.assert_array_equal(item.pose, same.pose)
        np.testing.assert_array_equal(item.pose, glass.pose)
    _arranged.cache_clear()


def test_numbers_of_objects_and_frames_fit_what_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(ARRANGEMENTS) == {"table", "heap", "tray", "bin"}
    assert CAMERAS["fixed"] == CAMERAS["wrist"] == 1 < CAMERAS["orbit"]
    pytest.importorskip("bpy", reason="the command asks for Blender first")
    words = "synth tabletop --scenes 1 --frames 4 --output"
    assert main([*words.split(), str(tmp_path)]) == 2
    assert "--frames 4 goes with --camera orbit" in capsys.readouterr().err


@pytest.mark.bpy
def test_the_command_renders_three_materials_of_the_same_truth(tmp_path: Path) -> None:
    words = "synth tabletop --seed 5 --scenes 1 --size 40x72 --samples 1 --sensor tof --output"
    assert main([*words.split(), str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        f"s0005-000000-{material}.tar" for material in sorted(MATERIALS)
    ]
    frames = {m: read_sequence(tmp_path / f"s0005-000000-{m}.tar")[0] for m in MATERIALS}
    for material, frame in frames.items():
        np.testing.assert_array_equal(frame.depth, frames["diffuse"].depth)
        instances = frames["diffuse"].instance
        assert frame.instance is not None
        assert instances is not None
        np.testing.assert_array_equal(frame.instance, instances)
        assert frame.mask is not None
        assert frame.mask.max() == _KINDS[material]
        assert frame.extra["sensor"] == "tof"
        things = frame.extra["objects"]
        assert [t["vertices"] for t in things] == [
            t["vertices"] for t in frames["diffuse"].extra["objects"]
        ]
        assert (frame.rgb != frames["diffuse"].rgb).any() or material == "diffuse"
