"""Scenes to grasp in: what differs between materials, and that a gripper can hold what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dkt_ros.cli import main
from dkt_ros.formats.transphy3d import MaterialClass, read_sequence
from dkt_ros.synth.tabletop import CAMERAS, MATERIALS, sample_tabletop, solid

_KINDS = {
    "transparent": MaterialClass.TRANSPARENT,
    "reflective": MaterialClass.REFLECTIVE,
    "diffuse": MaterialClass.OPAQUE,
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_only_what_the_objects_are_made_of_differs(camera: str) -> None:
    for index in range(6):
        scenes = [sample_tabletop(3, index, material, camera, (1, 4)) for material in MATERIALS]
        for material, scene in zip(MATERIALS, scenes, strict=True):
            assert {item.substance.kind for item in scene.items} == {_KINDS[material]}
            assert replace(scene, items=()) == replace(scenes[0], items=())
            for item, other in zip(scene.items, scenes[0].items, strict=True):
                np.testing.assert_array_equal(item.pose, other.pose)
                np.testing.assert_array_equal(item.shape.vertices, other.shape.vertices)


def test_all_stand_on_the_table_fit_between_fingers_and_into_the_picture() -> None:
    for index in range(12):
        scene = sample_tabletop(3, index, "diffuse", "fixed", (1, 4))
        assert 1 <= len(scene.items) <= 4
        assert not scene.props
        for item in scene.items:
            points = item.shape.vertices @ item.pose[:3, :3].T + item.pose[:3, 3]
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
    scene = sample_tabletop(3, 0, "diffuse", "fixed", (1, 4))
    told = solid(scene.items[0])
    corners = np.array(told["vertices"])[np.array(told["faces"])]
    volume = np.linalg.det(corners).sum() / 6
    assert told["mass"] == pytest.approx(min(2500 * volume, 0.5), rel=1e-3)


@pytest.mark.bpy
def test_the_command_renders_three_materials_of_the_same_truth(tmp_path: Path) -> None:
    words = "synth tabletop --seed 5 --scenes 1 --size 40x72 --samples 1 --output"
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
        things = frame.extra["objects"]
        assert [t["vertices"] for t in things] == [
            t["vertices"] for t in frames["diffuse"].extra["objects"]
        ]
        assert (frame.rgb != frames["diffuse"].rgb).any() or material == "diffuse"
