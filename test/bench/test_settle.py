"""Bodies that are dropped: at rest, on what holds them, in the world of the attempt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="physics needs MuJoCo (pip install 'dkt_ros[grasp]')")

from dkt_ros.bench.physics import Physics, Result, attempt
from dkt_ros.formats.transphy3d import MaterialClass
from dkt_ros.rigid.settle import fall, settle
from dkt_ros.rigid.world import Body
from dkt_ros.synth.lathe import stack
from dkt_ros.synth.scene import Container, Substance

WALLS = [(k * np.pi / 2, 0.06) for k in range(4)]
BIN = Container(
    *("bin", (0.08, 0.06), 0.07, 0.002, 0.01, 0.4),
    Substance("plain", MaterialClass.OPAQUE, (0.5, 0.5, 0.5), 0.5),
)


def block(x: float, y: float, z: float, tilt: float = 0.0) -> Body:
    """A block with edges of 3, 4 and 5 cm, its base's middle at a place, turned about x."""
    mesh, pose = stack([(0.015, 0.02, 0.0), (0.015, 0.02, 0.05)]), np.eye(4)
    c, s = np.cos(tilt), np.sin(tilt)
    pose[1:3, 1:3] = [[c, -s], [s, c]]
    pose[:3, 3] = x, y, z
    return Body("box", pose, 0.1, mesh, (mesh,))


def closing(along: np.ndarray) -> np.ndarray:
    """The rotation of a gripper that comes from above and closes along a horizontal line."""
    level, down = np.array([along[0], along[1], 0.0]), np.array([0.0, 0.0, -1.0])
    level /= np.linalg.norm(level)
    return np.stack([np.cross(level, down), level, down], axis=1)


def dropped(bodies: list[Body], container: Container | None = None) -> list[Body]:
    fixtures = container.parts() if container else []
    landed = fall(bodies, fixtures, WALLS)
    moved = [replace(body, pose=pose) for body, pose in zip(bodies, landed, strict=True)]
    rest = [pose for pose in settle(moved, fixtures) if pose is not None]
    return [replace(body, pose=pose) for body, pose in zip(moved, rest, strict=True)]


def test_what_is_dropped_rests_on_the_table_or_on_another_and_stays_there() -> None:
    under, over = dropped([block(0, 0, 0.02, 0.3), block(0.004, 0.0, 0.12)])
    lowest = [body.vertices_at(body.pose)[:, 2].min() for body in (under, over)]
    assert lowest[0] == pytest.approx(0.0, abs=5e-4)
    assert lowest[1] > 0.02, "on the first"
    done = attempt(
        [under, over],
        0,
        np.diag([1.0, -1.0, -1.0]),
        np.array([0.3, 0.0, 0.05]),
        0.05,
        physics=Physics(hold=0.1),
    )
    assert done.result is Result.MISSED
    assert done.drift < 0.001
    again = dropped([block(0, 0, 0.02, 0.3), block(0.004, 0.0, 0.12)])
    np.testing.assert_array_equal(again[1].pose, over.pose)


def lowest(body: Body, pose: np.ndarray | None) -> np.ndarray:
    """Heights of a body's corners, the lowest first."""
    assert pose is not None
    return np.sort(body.vertices_at(pose)[:, 2])


def test_what_still_moves_after_three_seconds_has_no_place() -> None:
    soon, late = block(0, 0, 0.8, 0.3), block(0.2, 0, 50.0)
    poses = settle([soon, late])
    assert poses[1] is None
    assert lowest(soon, poses[0])[0] == pytest.approx(0.0, abs=5e-4)


def test_what_stands_on_an_edge_is_not_taken_to_rest_there() -> None:
    tilt = np.arctan2(0.04, 0.05) + 0.067  # by less, the friction of rolling holds it
    balanced = block(0, 0, 0.02 * np.sin(tilt), tilt)
    (pose,) = settle([balanced])
    np.testing.assert_allclose(lowest(balanced, pose)[:4], 0.0, atol=5e-4)


def test_what_is_jammed_into_another_has_no_place() -> None:
    """It is at rest there, and no two things are in one place."""
    apart = 0.02 + 0.5 * 0.024  # for three centimetres
    corners, faces = stack([(0.02, 0.05, 0.0), (0.02, 0.05, 0.06)])
    beside = [(corners + np.array([x, 0, 0]), faces) for x in (-apart, apart)]
    jammed, free = block(0, 0, 0.0002), block(0.2, 0, 0.0002)
    poses = settle([jammed, free], beside)
    assert poses[0] is None
    assert lowest(free, poses[1])[0] == pytest.approx(0.0, abs=5e-4)


def test_walls_hold_what_falls_and_a_hull_does_for_its_parts() -> None:
    body = replace(block(0.05, 0.0, 0.05), parts=())
    (pose,) = fall([body], (), WALLS)
    assert lowest(body, pose)[0] == pytest.approx(0.0, abs=5e-4)
    assert body.vertices_at(pose)[:, 0].max() < 0.061


def test_what_mujoco_warns_of_is_logged_and_not_written_to_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    fall([block(0, 0, 1e11)])
    assert "The simulation is unstable" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_bin_holds_what_falls_into_it_and_stops_a_finger() -> None:
    (inside,) = dropped([block(0.03, 0.0, 0.05, 0.2)], BIN)
    assert inside.vertices_at(inside.pose)[:, 2].min() == pytest.approx(0.0022, abs=5e-4)
    middle = inside.vertices_at(inside.pose).mean(axis=0)
    short = {"width": 0.06, "physics": Physics(hold=0.3)}
    grasp = {"rotation": closing(inside.pose[:3, 0]), "position": middle, **short}
    assert attempt([inside], 0, fixtures=BIN.parts(), **grasp).result is Result.HELD
    out = np.array([np.cos(BIN.turn), np.sin(BIN.turn), 0.0])
    # A finger over the wall, which leans out from 0.08 m.
    grasp = {"rotation": closing(out), "position": 0.05 * out + [0, 0, 0.03], **short}
    assert attempt([inside], 0, fixtures=BIN.parts(), **grasp).result is Result.COLLISION
    assert attempt([inside], 0, **grasp).result is not Result.COLLISION


def test_a_container_s_parts_are_those_of_its_mesh() -> None:
    corners = BIN.mesh()[0]
    parts = BIN.parts()
    for vertex in corners:
        away = min(np.linalg.norm(part - vertex, axis=1).min() for part, _ in parts)
        assert away < 0.003, "a wall's foot is the floor's underside"
    assert all(np.linalg.det(part[faces]).sum() > 0 for part, faces in parts), "faces look out"
    points = np.vstack([part for part, _ in parts])
    np.testing.assert_allclose(points.min(axis=0), corners.min(axis=0), atol=1e-9)
    np.testing.assert_allclose(points.max(axis=0), corners.max(axis=0), atol=1e-9)
