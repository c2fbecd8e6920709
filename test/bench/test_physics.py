"""One grasp in MuJoCo: what holds, what slips, what misses, and that nothing blows up."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco", reason="physics needs MuJoCo (pip install 'dkt_ros[grasp]')")
from scipy.spatial import ConvexHull

from dkt_ros.bench.physics import Physics, Result, attempt
from dkt_ros.errors import DktError
from dkt_ros.files import only_process
from dkt_ros.rigid.parts import convex_parts
from dkt_ros.rigid.world import Body, Mesh, world

DOWN = np.diag([1.0, -1.0, -1.0])
"""The gripper closes along -y and comes down."""
SHORT = Physics(hold=0.5)


def block(x: float, y: float, z: float) -> Mesh:
    """Edges in metres; on its base, about the z axis."""
    corners = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (0, 1)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    return corners * [x, y, z], np.array(faces)


def body(x: float = 0.0, y: float = 0.0, mass: float = 0.2) -> Body:
    mesh, pose = block(0.03, 0.04, 0.07), np.eye(4)
    pose[:3, 3] = x, y, 0.0002
    return Body("box", pose, mass, mesh, (mesh,))


def grasp(y: float = 0.0, x: float = 0.0, z: float = 0.03, width: float = 0.05) -> dict:
    return {"rotation": DOWN, "position": np.array([x, y, z]), "width": width}


def test_what_is_grasped_at_its_true_pose_is_lifted_and_held() -> None:
    done = attempt([body()], 0, **grasp())
    assert done.result is Result.HELD
    assert done.lifted[0] == pytest.approx(Physics().lift, abs=0.01)
    assert done.poses[0, 2, 3] > 0.1
    np.testing.assert_allclose(done.poses[0, :3, :3], np.eye(3), atol=0.05)


def test_surfaces_hardly_enter_one_another_and_energy_stays_that_of_the_lift() -> None:
    done = attempt([body(), body(x=0.1)], 0, **grasp(y=0.003), physics=SHORT)
    assert 0 < done.penetration < 0.002
    # 0.2 kg at the hand's 0.25 m/s have 6 mJ.
    assert 0.001 < done.energy < 0.03
    assert done.drift < 0.001


def test_without_friction_it_slips() -> None:
    done = attempt([body()], 0, **grasp(), physics=replace(SHORT, friction=0.0))
    assert done.result is Result.SLIPPED
    assert done.lifted[0] < 0.01


def test_what_is_too_heavy_for_the_force_slips() -> None:
    """Two pads of 20 N and 0.6 hold 24 N."""
    assert attempt([body(mass=3.0)], 0, **grasp(), physics=SHORT).result is Result.SLIPPED
    strong = replace(SHORT, force=60.0)
    assert attempt([body(mass=4.0)], 0, **grasp(), physics=strong).result is Result.HELD


def test_what_slides_down_between_the_fingers_is_not_held() -> None:
    done = attempt([body(mass=2.25)], 0, **grasp(z=0.045), physics=replace(SHORT, lift=0.05))
    assert 0.01 < done.lifted[0] < 0.03, "still between them"
    assert done.result is Result.SLIPPED


def test_one_finger_alone_holds_nothing() -> None:
    """It pushes against what it cannot move; coupled, the other one does not come."""
    done = attempt([body(mass=8.0)], 0, **grasp(y=0.014, width=0.075), physics=SHORT)
    assert done.result is Result.MISSED


def test_pads_keep_what_they_have_by_one_end_from_swinging() -> None:
    """A dumb-bell, whose ball they touch in a point each."""
    number = np.arange(200) + 0.5
    polar, around = np.arccos(1 - 2 * number / 200), np.pi * (1 + 5**0.5) * number
    axes = np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)
    points = 0.02 * np.stack(axes, axis=1)
    hull = ConvexHull(points)
    faces = hull.simplices
    inward = np.linalg.det(points[faces]) < 0
    faces[inward] = faces[inward][:, ::-1]
    near, far = (points + np.array([x, 0, 0.02]) for x in (0, 0.06))
    both = np.vstack([near, far]), np.vstack([faces, faces + len(points)])
    bell = replace(body(), mesh=both, parts=((near, faces), (far, faces)))
    done = attempt([bell], 0, **grasp(z=0.02), physics=SHORT)
    assert done.result is Result.HELD
    np.testing.assert_allclose(done.poses[0, :3, :3], np.eye(3), atol=0.1)


def test_how_far_bodies_move_by_themselves_is_told() -> None:
    dropped = body()
    dropped.pose[2, 3] = 0.012
    assert attempt([dropped], 0, **grasp(), physics=SHORT).drift == pytest.approx(0.012, abs=1e-3)


def test_three_centimetres_off_misses() -> None:
    assert attempt([body()], 0, **grasp(x=0.03), physics=SHORT).result is Result.MISSED


def test_a_finger_that_comes_down_on_it_or_on_the_table_is_a_collision() -> None:
    assert attempt([body()], 0, **grasp(y=0.02), physics=SHORT).result is Result.COLLISION
    # Another that reaches 3 mm, or 2 mm, under a finger, and one that does not.
    for x, y, result in (
        (0.0, 0.054, Result.COLLISION),
        (0.023, 0.044, Result.COLLISION),
        (0.0, 0.058, Result.HELD),
        (0.027, 0.044, Result.HELD),
    ):
        assert attempt([body(), body(x, y)], 0, **grasp(), physics=SHORT).result is result
    beside = grasp(x=0.2, z=-0.01)
    assert attempt([body()], 0, **beside, physics=SHORT).result is Result.COLLISION


def test_a_palm_that_comes_down_flat_on_it_is_a_collision() -> None:
    """However many points share the force."""
    assert attempt([body()], 0, **grasp(z=0.02), physics=SHORT).result is Result.COLLISION
    assert attempt([body()], 0, **grasp(z=0.026), physics=SHORT).result is Result.HELD


@pytest.mark.parametrize("fixed", [True, False])
def test_what_is_over_it_is_in_the_way(fixed: bool) -> None:
    """A board on two legs, as one of the bodies or as what never moves."""
    legs = [(block(0.02, 0.2, 0.3)[0] + [x, 0, 0], block(0.02, 0.2, 0.3)[1]) for x in (-0.1, 0.1)]
    board = block(0.22, 0.2, 0.01)
    parts = (*legs, (board[0] + [0, 0, 0.3], board[1]))
    if fixed:
        done = attempt([body()], 0, **grasp(), physics=SHORT, fixtures=parts)
    else:
        corners = np.vstack([vertices for vertices, _ in parts])
        faces = np.vstack([faces + 8 * n for n, (_, faces) in enumerate(parts)])
        bridge = replace(body(mass=2.0), mesh=(corners, faces), parts=parts)
        done = attempt([body(), bridge], 0, **grasp(), physics=SHORT)
    assert done.result is Result.COLLISION


def test_lifting_its_neighbour_is_the_wrong_object() -> None:
    done = attempt([body(), body(x=0.15)], 1, **grasp(), physics=SHORT)
    assert done.result is Result.WRONG_OBJECT
    assert done.lifted[1] == pytest.approx(0.0, abs=1e-3)
    slips = replace(SHORT, friction=0.0)
    done = attempt([body(), body(x=0.15)], 1, **grasp(), physics=slips)
    assert done.result is Result.SLIPPED, "nothing was lifted"
    mesh = block(0.03, 0.02, 0.02)
    rider = replace(body(mass=0.03), mesh=mesh, parts=(mesh,))
    rider.pose[2, 3] = 0.0705
    done = attempt([body(), rider], 1, **grasp(z=0.05), physics=SHORT)
    assert done.result is Result.WRONG_OBJECT
    assert done.lifted[1] > 0.1, "carried by what was lifted"


def test_the_same_attempt_ends_the_same() -> None:
    first, second = (attempt([body()], 0, **grasp(y=0.004), physics=SHORT) for _ in range(2))
    np.testing.assert_array_equal(first.poses, second.poses)
    assert first.energy == second.energy


def test_inertia_is_that_of_the_mesh() -> None:
    centre, inertia = body().inertia
    np.testing.assert_allclose(centre, [0, 0, 0.035], atol=1e-9)
    x, y, z = 0.03, 0.04, 0.07
    expected = 0.2 / 12 * np.diag([y * y + z * z, x * x + z * z, x * x + y * y])
    np.testing.assert_allclose(inertia, expected, atol=1e-12)


def test_a_body_of_the_world_has_its_inertia_about_all_axes() -> None:
    """Of a shape that is not symmetric: one block beside, and in front of, another."""
    (low, faces), (high, _) = block(0.03, 0.04, 0.02), block(0.02, 0.01, 0.05)
    mesh = np.vstack([low, high + np.array([0.005, 0.015, 0.02])]), np.vstack([faces, faces + 8])
    thing = replace(body(), mesh=mesh, parts=((low, faces),))
    model = world([thing], 0.002).compile()
    place = model.body("object0").id
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, model.body_iquat[place])
    axes = axes.reshape(3, 3)
    centre, inertia = thing.inertia
    assert (np.abs(inertia[np.triu_indices(3, 1)]) > 1e-6).all()
    found = axes @ np.diag(model.body_inertia[place]) @ axes.T
    np.testing.assert_allclose(found, inertia, atol=1e-9)
    np.testing.assert_allclose(model.body_ipos[place], centre, atol=1e-9)


def test_a_hollow_body_keeps_its_hollow_and_its_parts_are_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    rings = [0.03 * ring, 0.03 * ring + [0, 0, 0.08], 0.026 * ring + [0, 0, 0.08], 0.026 * ring]
    faces = []
    for k in range(4):
        for i in range(24):
            a, b = 24 * k + i, 24 * k + (i + 1) % 24
            c, d = 24 * ((k + 1) % 4) + i, 24 * ((k + 1) % 4) + (i + 1) % 24
            faces += [[a, b, d], [a, d, c]]
    tube = np.vstack(rings), np.array(faces)
    parts = convex_parts(tube, tmp_path)
    assert len(parts) > 4
    monkeypatch.setattr("dkt_ros.rigid.parts.subprocess.run", None)
    again = convex_parts(tube, tmp_path)
    for (vertices, _), (kept, _) in zip(parts, again, strict=True):
        np.testing.assert_array_equal(vertices, kept)
    with pytest.raises(TypeError, match="NoneType"):  # others of the same corners are made
        convex_parts((tube[0], tube[1][:-1]), tmp_path)
    pose = np.eye(4)
    pose[2, 3] = 0.0002
    held = attempt(
        [Body("tube", pose, 0.1, tube, parts)],
        0,
        **grasp(y=0.028, z=0.05, width=0.02),
        physics=SHORT,
    )
    assert held.result is Result.HELD, "one finger inside, one outside"


@pytest.fixture(scope="module")
def kept_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mesh, Path]:
    """A block's only part, and the file that it is kept in."""
    folder = tmp_path_factory.mktemp("parts")
    (part,) = convex_parts(block(0.03, 0.04, 0.07), folder)
    (kept,) = folder.iterdir()
    return part, kept


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_parts_that_cannot_be_read_are_made_again(
    kept_parts: tuple[Mesh, Path], tmp_path: Path, content: bytes
) -> None:
    (vertices, faces), whole = kept_parts
    kept = tmp_path / whole.name
    np.testing.assert_allclose(np.ptp(vertices, axis=0), [0.03, 0.04, 0.07], atol=1e-7)
    kept.write_bytes(content)
    ((again, _),) = convex_parts(block(0.03, 0.04, 0.07), tmp_path)
    np.testing.assert_array_equal(again, vertices)
    assert kept.stat().st_size == whole.stat().st_size
    assert faces.dtype == np.int64


def test_parts_that_another_process_keeps_are_used_all_the_same(
    kept_parts: tuple[Mesh, Path], tmp_path: Path
) -> None:
    with only_process(tmp_path / f"{kept_parts[1].name}.partial", ""):
        assert len(convex_parts(block(0.03, 0.04, 0.07), tmp_path)) == 1


def test_a_crash_of_coacd_is_tried_again_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = subprocess.run, []

    def crashing(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if len(calls) == 1:
            return subprocess.CompletedProcess(command, -11, "", "")
        return run(command, **options)

    monkeypatch.setattr("dkt_ros.rigid.parts.subprocess.run", crashing)
    ((vertices, _),) = convex_parts(block(0.03, 0.04, 0.07), tmp_path)
    assert len(calls) == 2
    np.testing.assert_allclose(np.ptp(vertices, axis=0), [0.03, 0.04, 0.07], atol=1e-5)
    failed = subprocess.CompletedProcess([], -11, "", "")
    monkeypatch.setattr("dkt_ros.rigid.parts.subprocess.run", lambda *_, **__: failed)
    with pytest.raises(DktError, match="exit status -11 over a mesh of 12 faces"):
        convex_parts(block(0.03, 0.04, 0.08), tmp_path)
