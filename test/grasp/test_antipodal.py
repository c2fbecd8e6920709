"""Grasps on scenes whose geometry is known: where they close, how wide, and what is refused."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures.grasp_scenes import CAMERA, Ball, Box, Cylinder, View, depth_of, view

from dkt_ros.errors import DktError
from dkt_ros.geometry import backproject
from dkt_ros.grasp.antipodal import Grasp, GraspConfig, Gripper, Plan, plan_grasps
from dkt_ros.grasp.heights import Plane, Scene, _supported, find_table, height_map

BOX = Box(0.0, 0.0, (0.05, 0.14, 0.06), turn=0.4)
GLASS = Cylinder(0.02, -0.01, 0.03, 0.1)
VIEWS = [view(0.0), view(0.5), view(0.8)]


def plan(things: list[Box | Cylinder], seen: View, **changes: object) -> Plan:
    noise = 0.0005 * np.random.default_rng(1).standard_normal((240, 320)).astype(np.float32)
    return plan_grasps(Scene(depth_of(things, seen) + noise, CAMERA), config=GraspConfig(**changes))  # type: ignore[arg-type]


def in_table(found: Plan, seen: View) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) and rotations (N, 3, 3) in the table's frame."""
    positions = np.stack([grasp.position for grasp in found.grasps])
    rotations = np.stack([seen.rotation.T @ grasp.rotation for grasp in found.grasps])
    return seen.to_table(positions), rotations


@pytest.mark.parametrize("seen", VIEWS)
def test_the_table_is_found(seen: View) -> None:
    table = plan([BOX, GLASS], seen).table
    assert table is not None
    assert seen.rotation.T @ table.normal @ [0, 0, 1] > np.cos(np.radians(0.5))
    assert table.offset == pytest.approx(-seen.position[2], abs=2e-3)


@pytest.mark.parametrize("seen", VIEWS)
def test_a_box_is_grasped_across_its_narrow_side(seen: View) -> None:
    found = plan([BOX], seen)
    assert found.grasps, found.refused
    positions, rotations = in_table(found, seen)
    across = np.array([np.cos(BOX.turn), np.sin(BOX.turn), 0.0])
    angle = np.degrees(np.arccos(np.abs(rotations[:, :, 1] @ across).clip(0, 1)))
    assert angle[0] < 21
    assert (angle < 30).all()
    np.testing.assert_allclose(rotations[:, :, 2], [[0, 0, -1]] * len(positions), atol=0.02)
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    # Within the box, across its middle line; the fingers' tips over the table.
    assert (np.abs(positions @ across) < 0.008).all()
    assert (positions[:, 2] > 0.003).all()
    assert (positions[:, 2] < 0.06).all()
    for grasp in found.grasps:
        assert 0.05 < grasp.width <= Gripper().max_width
    assert found.grasps[0].width < 0.08
    scores = [grasp.score for grasp in found.grasps]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1


@pytest.mark.parametrize("seen", VIEWS)
def test_a_glass_is_grasped_about_its_axis(seen: View) -> None:
    found = plan([GLASS], seen)
    assert found.grasps, found.refused
    positions, rotations = in_table(found, seen)
    away = positions[:, :2] - [GLASS.x, GLASS.y]
    closing = rotations[:, :2, 1]
    along = np.abs(np.einsum("ij,ij->i", away, closing))
    assert (along < 0.012).all(), "centred between the fingers"
    assert (np.linalg.norm(away, axis=1) < 0.025).all()
    assert 0.06 < found.grasps[0].width < 0.08


def test_what_is_too_wide_is_refused() -> None:
    found = plan([Cylinder(0, 0, 0.06, 0.1)], VIEWS[0])
    assert not found.grasps
    assert found.refused["wider than the gripper"] > 1000


def test_a_neighbour_keeps_the_fingers_out() -> None:
    """Two boxes 6 mm apart: none of the grasps has a finger between them."""
    left, right = (Box(x, 0.0, (0.05, 0.05, 0.06)) for x in (-0.028, 0.028))
    found = plan([left, right], VIEWS[0])
    assert found.grasps
    _, rotations = in_table(found, VIEWS[0])
    angle = np.degrees(np.arccos(np.abs(rotations[:, 1, 1]).clip(0, 1)))
    assert (angle < 45).all(), "all close along y, where there is room"
    assert found.refused["a finger hits something"] > 0
    alone = plan([left], VIEWS[0])
    _, rotations = in_table(alone, VIEWS[0])
    assert (np.abs(rotations[:, 0, 1]) > 0.9).any(), "alone it is grasped along x too"


def test_what_is_tall_keeps_the_palm_away() -> None:
    """A post amid a low box: beside it the fingers fit, but the palm would come down on it."""
    low, post = Box(0.0, 0.0, (0.05, 0.1, 0.03)), Box(0.0, 0.0, (0.012, 0.012, 0.056))
    found = plan([low, post], VIEWS[0])
    assert found.refused["the palm hits something"] > 50
    positions, _ = in_table(found, VIEWS[0])
    long = plan_grasps(Scene(depth_of([low, post], VIEWS[0]), CAMERA), Gripper(finger_length=0.15))
    assert long.refused["the palm hits something"] == 0
    beside = np.abs(positions[:, 1]) > 0.014
    assert (beside | (positions[:, 2] > 0.009)).all()


@pytest.mark.parametrize("height", [0.2, 0.01])
def test_a_wall_or_a_ledge_beside_it_keeps_the_fingers_away(height: float) -> None:
    low, wall = Box(0.0, 0.0, (0.04, 0.04, 0.03)), Box(0.04, 0.0, (0.02, 0.2, height))
    found = plan([low, wall], VIEWS[0], samples=1500)
    assert found.grasps, found.refused
    assert found.refused["a finger hits something"] > 25
    positions, rotations = in_table(found, VIEWS[0])
    half = np.array([grasp.width for grasp in found.grasps]) / 2 + Gripper().finger_thickness
    reach = positions[:, 0] + half * np.abs(rotations[:, 0, 1])
    assert (reach < 0.032).all()


def test_what_is_not_trusted_is_not_grasped() -> None:
    depth = depth_of([BOX], VIEWS[0])
    for confidence, expected in ((0.15, False), (np.nan, False), (0.9, True)):
        uneven = np.tile(np.linspace(-1, 2, 240, dtype=np.float32).clip(0.3, 1), (320, 1)).T
        found = plan_grasps(Scene(depth, CAMERA, confidence * uneven))
        assert bool(found.grasps) is expected
        assert (found.refused["depth is not trusted"] > 10) is not expected
        assert all(grasp.trust >= 0.2 for grasp in found.grasps)
        scores = [grasp.score for grasp in found.grasps]
        assert scores == sorted(scores, reverse=True)


def test_what_nobody_vouches_for_is_ranked_all_the_same() -> None:
    depth = depth_of([BOX], VIEWS[1])
    unknown = np.full(depth.shape, np.nan, np.float32)
    found = plan_grasps(Scene(depth, CAMERA, unknown), config=GraspConfig(min_confidence=0.0))
    trusted = plan_grasps(Scene(depth, CAMERA))
    assert {grasp.score for grasp in found.grasps} == {0.0}
    for grasp, other in zip(found.grasps, trusted.grasps, strict=True):
        np.testing.assert_array_equal(grasp.position, other.position)


def test_trust_is_asked_for_at_both_contacts() -> None:
    """One long side of the box is doubtful, as far as a finger's breadth: no grasp across it."""
    depth = depth_of([replace(BOX, turn=0.0)], VIEWS[0])
    confidence = np.full(depth.shape, 0.9, np.float32)
    confidence[:, 167:175] = 0.1
    config = GraspConfig(min_confidence=0.5)
    found = plan_grasps(Scene(depth, CAMERA, confidence), config=config)
    assert not found.grasps
    assert found.refused["depth is not trusted"] > 100


def test_only_the_target_is_grasped_and_the_rest_is_in_the_way() -> None:
    seen = VIEWS[1]
    other = Cylinder(0.12, 0.0, 0.02, 0.05)
    depth = depth_of([BOX, other], seen)
    target = depth_of([BOX], seen) < depth_of([], seen) - 1e-4
    found = plan_grasps(Scene(depth, CAMERA, target=target))
    assert found.grasps
    positions, _ = in_table(found, seen)
    assert (positions[:, 0] < 0.06).all()
    both = plan_grasps(Scene(depth, CAMERA))
    positions, _ = in_table(both, seen)
    assert (positions[:, 0] > 0.08).any(), "without a target the cylinder is grasped too"


def test_unseen_room_is_no_room() -> None:
    depth = depth_of([BOX], VIEWS[0])
    box = depth < 0.595
    blind = np.where(box, depth, np.nan).astype(np.float32)
    table = Plane(np.array([0.0, 0.0, -1.0]), -0.6)
    found = plan_grasps(Scene(blind, CAMERA), table=table)
    assert not found.grasps
    assert found.refused["a side was not seen"] > 100
    clear = plan_grasps(Scene(depth, CAMERA), table=table)
    assert clear.grasps
    # A centimetre beside the box is seen, its sides with it.
    around = cv2.dilate(box.astype(np.uint8), np.ones((11, 11))) > 0
    dark = Scene(np.where(around, depth, np.float32(np.nan)), CAMERA)
    found = plan_grasps(dark, table=table, config=GraspConfig(max_unseen=0.1))
    assert not found.grasps
    assert found.refused["the fingers' room was not seen"] > 100
    daring = plan_grasps(dark, table=table, config=GraspConfig(max_unseen=1.0))
    assert 0 < daring.grasps[0].score < 0.9 * clear.grasps[0].score


def test_the_middle_of_what_is_long_and_a_good_hold_are_liked_best() -> None:
    found = plan([Box(0.0, 0.0, (0.04, 0.3, 0.05))], VIEWS[0], count=64)
    positions, _ = in_table(found, VIEWS[0])
    assert abs(positions[0, 1]) < 0.02
    aside = [g.score for g, place in zip(found.grasps, positions, strict=True) if place[1] > 0.05]
    assert 0 < max(aside) < 0.5 * found.grasps[0].score
    low = Box(0.0, 0.0, (0.04, 0.1, 0.015))
    assert plan([low], VIEWS[0]).grasps[0].score < 0.7 * found.grasps[0].score
    flat = plan([low], VIEWS[0], min_reach=0.013)
    assert not flat.grasps
    assert flat.refused["too flat"] > 1000


def test_trust_is_that_of_what_is_seen_highest() -> None:
    """Not that of the wall below, which the same cells show."""
    seen = VIEWS[1]
    depth = depth_of([BOX], seen)
    up = seen.to_table(backproject(depth, CAMERA))[..., 2]
    confidence = np.where(up > 0.055, np.float32(0.9), np.float32(0.1))
    table = find_table(backproject(depth, CAMERA).reshape(-1, 3))
    assert table is not None
    found = height_map(Scene(depth, CAMERA, confidence, up > 0.055), table, 0.002, 0.1, 0.012)
    assert found is not None
    top = found.height > 0.057
    assert np.mean(found.trust[top] > 0.6) > 0.98
    assert found.target[top].mean() > 0.98
    assert found.trust[found.height < 0.05].max() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("tilt", "radius"), [(0.0, 0.03), (0.8, 0.03), (1.1, 0.03), (1.1, 0.035), (1.2, 0.035)]
)
def test_fingers_stay_out_of_what_a_round_thing_hides_of_itself(tilt: float, radius: float) -> None:
    """The far side of a ball, seen obliquely, is neither an edge nor room.

    Nor is the table that a low camera sees under it.
    """
    seen = view(tilt)
    found = plan_grasps(Scene(depth_of([Ball(0.0, 0.0, radius)], seen), CAMERA))
    assert found.grasps, found.refused
    assert (found.refused["a side was not seen"] > 0) is (tilt > 0)
    gripper = Gripper()
    along, up = np.linspace(-1, 1, 5), np.linspace(0, 1, 10)
    x, y, z = np.meshgrid(along * gripper.finger_breadth / 2, [-1, 1], -up * 0.045, indexing="ij")
    positions, rotations = in_table(found, seen)
    for grasp, position, rotation in zip(found.grasps, positions, rotations, strict=True):
        fingers = np.stack([x, y * grasp.width / 2, z], axis=-1) @ rotation.T + position
        assert np.linalg.norm(fingers - [0, 0, radius], axis=-1).min() > radius - 1e-3


def test_nothing_is_trusted_where_nothing_was_seen() -> None:
    """Also under a ball, past which a low camera sees the table."""
    depth = depth_of([Ball(0.0, 0.0, 0.035)], view(1.2))
    table = find_table(backproject(depth, CAMERA))
    assert table is not None
    found = height_map(Scene(depth, CAMERA), table, 0.002, 0.1, 0.012)
    assert found is not None
    np.testing.assert_array_equal(found.trust > 0, np.isfinite(found.height))


def test_a_stray_point_far_away_makes_no_large_map() -> None:
    """Above the horizon, where it seems to stand on the table's plane; a wall does the same."""
    seen = view(1.2)
    depth = depth_of([BOX], seen)
    depth[depth > 2] = np.nan
    table = find_table(backproject(depth, CAMERA)[np.isfinite(depth)])
    assert table is not None
    sizes = set()
    for far in (np.nan, 16.0):
        depth[0, 0] = far
        found = height_map(Scene(depth, CAMERA), table, 0.002, 0.1, 0.012)
        assert found is not None
        sizes.add((*found.height.shape, found.cell_m))
    assert len(sizes) == 1


def test_no_map_has_more_than_four_million_cells() -> None:
    depth = depth_of([BOX], VIEWS[0])
    table = Plane(np.array([0.0, 0.0, -1.0]), -0.6)
    found = height_map(Scene(depth, CAMERA), table, 0.002, 4.0, 0.012)
    assert found is not None
    assert 3.9e6 < found.height.size < 4.1e6


@pytest.mark.parametrize(("breadth", "radius"), [(0.02, 0.002), (0.1, 0.005)])
def test_what_is_thin_is_in_the_way_of_fingers_of_any_breadth(
    breadth: float, radius: float
) -> None:
    """Posts beside the box, and such as rise out of it."""
    box = Box(0.0, 0.0, (0.05, 0.2, 0.06))
    places = np.linspace(-0.043, 0.047, 4)
    gripper = Gripper(finger_breadth=breadth)
    for seen in VIEWS:
        for x, height in ((0.045, 0.1), (0.005, 0.15)):
            rods = [Cylinder(x, y, radius, height) for y in places]
            found = plan_grasps(Scene(depth_of([box, *rods], seen), CAMERA), gripper)
            assert sum(found.refused[f"{what} hits something"] for what in ("a finger", "the palm"))
            if not found.grasps:
                continue
            positions, rotations = in_table(found, seen)
            for grasp, position, rotation in zip(found.grasps, positions, rotations, strict=True):
                palm = grasp.width / 2 + gripper.finger_thickness
                for y in places:
                    aside, along = rotation.T[:2] @ (np.array([x, y, 0]) - position * [1, 1, 0])
                    if abs(aside) < breadth / 2 - 0.001 and height > position[2] + 0.045:
                        assert abs(along) > palm - 0.001


def test_thin_fingers_far_from_the_camera_find_room_by_cells() -> None:
    """A cell of 7 mm, fingers of 1 mm."""
    found = plan_grasps(
        Scene(depth_of([BOX], view(0.5, 1.5)), CAMERA), Gripper(finger_thickness=0.001)
    )
    assert found.grasps
    assert all(0 < grasp.score <= 1 for grasp in found.grasps)


def test_a_roof_leans_away_from_the_fingers() -> None:
    """A shallow cone of glass: whatever closes on it slips up."""
    v, u = np.mgrid[0:240, 0:320]
    away = 0.6 * np.hypot(u - CAMERA.cx, v - CAMERA.cy) / 300.0
    depth = np.minimum(0.6, 0.56 + 1.2 * away).astype(np.float32)
    found = plan_grasps(Scene(depth, CAMERA))
    assert not found.grasps
    assert found.refused["sides lean away from the fingers"] > 100


@pytest.mark.parametrize("mirrored", [False, True])
def test_one_side_that_leans_is_enough_to_slip(mirrored: bool) -> None:
    """Steep on one side, a roof on the other, and as long as the picture."""
    x = np.tile(0.6 * (np.arange(320) - CAMERA.cx) / 300.0, (240, 1))
    roof = np.minimum(0.6, 0.56 + 1.2 * np.maximum(x, 0))
    depth = np.where(x > -0.02, roof, 0.6).astype(np.float32)
    found = plan_grasps(Scene(depth[:, ::-1] if mirrored else depth, CAMERA))
    assert not found.grasps
    assert found.refused["sides lean away from the fingers"] > 100


def test_open_fingers_have_their_clearance_on_both_sides() -> None:
    scene = Scene(depth_of([BOX], VIEWS[0]), CAMERA)
    least = [
        min(g.width for g in plan_grasps(scene, Gripper(max_width=0.15, clearance=each)).grasps)
        for each in (0.004, 0.024)
    ]
    assert least[1] - least[0] == pytest.approx(2 * 0.02, abs=0.006)  # two cells


def test_memory_does_not_grow_with_the_samples() -> None:
    scene = Scene(depth_of([BOX], VIEWS[1]), CAMERA)
    peaks, found = [], []
    for samples in (2000, 10000):
        tracemalloc.start()
        found.append(plan_grasps(scene, config=GraspConfig(samples=samples)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    refused = [sum(plan.refused.values()) for plan in found]
    assert 9500 < refused[1] < 10000 > refused[0] * 4, "each batch is counted"
    assert found[1].grasps[0].score >= found[0].grasps[0].score


def test_memory_does_not_grow_with_the_gripper() -> None:
    """But for the map, which is larger: its 0.4 million cells."""
    scene = Scene(depth_of([BOX], VIEWS[1]), CAMERA)
    tracemalloc.start()
    plan_grasps(scene, Gripper(max_width=1.0, finger_breadth=0.2), GraspConfig(samples=500))
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()


def test_the_seed_decides() -> None:
    first, again, other = (plan([BOX, GLASS], VIEWS[1], seed=seed) for seed in (3, 3, 4))
    for a, b in zip(first.grasps, again.grasps, strict=True):
        np.testing.assert_array_equal(a.position, b.position)
        np.testing.assert_array_equal(a.rotation, b.rotation)
        assert (a.width, a.score) == (b.width, b.score)
    assert first.refused == again.refused
    assert any(
        not np.array_equal(a.position, b.position)
        for a, b in zip(first.grasps, other.grasps, strict=False)
    )


def test_grasps_stand_apart_and_no_more_than_asked_for() -> None:
    found = plan([replace(BOX, turn=0.0)], VIEWS[0], count=4)  # some close along -x, some along x
    assert len(found.grasps) == 4
    for i, a in enumerate(found.grasps):
        for b in found.grasps[:i]:
            turned = np.degrees(np.arccos(np.clip(abs(a.rotation[:, 1] @ b.rotation[:, 1]), 0, 1)))
            assert np.linalg.norm(a.position - b.position) > 0.014 or turned > 19


def test_without_table_or_object_the_reason_is_said() -> None:
    nothing = np.full((240, 320), np.nan, np.float32)
    assert "no table" in plan_grasps(Scene(nothing, CAMERA)).problem
    rough = np.random.default_rng(0).uniform(0.3, 1.0, (240, 320)).astype(np.float32)
    assert "no table" in plan_grasps(Scene(rough, CAMERA)).problem
    assert "nothing stands over the table by 0.012 m" in plan([], VIEWS[0]).problem
    elsewhere = Scene(depth_of([BOX], VIEWS[0]), CAMERA, target=np.zeros((240, 320), bool))
    assert plan_grasps(elsewhere).problem.endswith("by 0.012 m where to look")


def test_arrays_of_another_size_are_refused() -> None:
    depth = np.ones((240, 320), np.float32)
    with pytest.raises(DktError, match=r"confidence is \(2, 2\), expected depth's \(240, 320\)"):
        Scene(depth, CAMERA, np.ones((2, 2), np.float32))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"confidence": np.full((240, 320), 80.0, np.float32)}, "80 to 80, expected 0 to 1 or NaN"),
        ({"confidence": np.full((240, 320), np.inf, np.float32)}, "inf to inf, expected 0 to 1"),
        ({"confidence": np.full((240, 320), -1, np.float32)}, "-1 to -1, expected 0 to 1 or NaN"),
        ({"target": np.full((240, 320), 255, np.uint8)}, "target is uint8, expected bool"),
        ({"up": np.array([0.0, 0.0, 9.81])}, r"up is \[0.0, 0.0, 9.81\], expected length 1"),
    ],
)
def test_arrays_of_another_meaning_are_refused(given: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DktError, match=said):
        Scene(np.ones((240, 320), np.float32), CAMERA, **given)


@pytest.mark.parametrize(
    ("normal", "offset"),
    [((0, 0, 1.0), 0.6), ((0, 0, -2.0), -1.2), ((0, 0, np.nan), -0.6), ((0, 0, -1.0), np.nan)],
)
def test_a_table_that_is_no_plane_seen_from_above_is_refused(
    normal: tuple[float, float, float], offset: float
) -> None:
    with pytest.raises(DktError, match="expected a normal of length 1 towards the camera"):
        Plane(np.array(normal), offset)


@pytest.mark.parametrize(
    ("rotation", "position", "width", "said"),
    [
        (np.eye(4), np.zeros(3), 0.05, r"has arrays \(4, 4\) and \(3,\), expected"),
        (np.eye(3).tolist(), np.zeros(3), 0.05, "has arrays None and"),
        (np.full((3, 3), np.nan), np.zeros(3), 0.05, "expected a rotation"),
        (np.diag([1.0, 1.0, -1.0]), np.zeros(3), 0.05, "expected a rotation"),
        (2 * np.eye(3), np.zeros(3), 0.05, "expected a rotation"),
        (np.eye(3), np.array([0, np.nan, 0]), 0.05, "expected metres"),
        (np.eye(3), np.zeros(3), 0.0, "width 0, expected metres, and a width above 0"),
        (np.eye(3), np.zeros(3), np.inf, "width inf, expected"),
    ],
)
def test_a_grasp_that_is_no_pose_is_refused(
    rotation: np.ndarray, position: np.ndarray, width: float, said: str
) -> None:
    """A planner of one's own may return anything."""
    with pytest.raises(DktError, match=said):
        Grasp(rotation, position, width, 1.0, 1.0)


def test_what_can_hold_nothing_is_refused() -> None:
    with pytest.raises(DktError, match=r"Gripper.clearance is 0.05 on each side of an object and"):
        Gripper(clearance=0.05)
    with pytest.raises(DktError, match=r"GraspConfig.friction is 0, expected 0.001 to 10"):
        GraspConfig(friction=0)


def room(*walls: Box, tilt: float, lift: float = 0.0) -> tuple[np.ndarray, View]:
    """Depth of things on a table before walls, a camera that looks over it, and the noise."""
    seen = view(tilt, 0.5)
    seen = View(seen.rotation, seen.position + np.array([0, 0, lift]))
    depth = depth_of(
        [Box(-0.06, 0.0, (0.05, 0.1, 0.06)), Cylinder(0.08, 0.0, 0.03, 0.08), *walls], seen
    )
    place = seen.to_table(backproject(depth, CAMERA))
    depth[(place[..., 2] < 1e-3) & ((place[..., 1] < -0.3) | (np.abs(place[..., 0]) > 0.5))] = (
        np.nan
    )
    noise = 1 + 0.001 * np.random.default_rng(0).standard_normal(depth.shape)
    return (depth * noise).astype(np.float32), seen


BEHIND, BESIDE = Box(0.0, 0.2, (3.0, 0.02, 2.0)), Box(-0.25, 0.0, (0.02, 3.0, 2.0))


@pytest.mark.parametrize(
    ("walls", "tilt", "lift"),
    [
        ([BEHIND], 1.3, 0.1),
        ([BEHIND, BESIDE], 1.3, 0.1),
        ([BEHIND, BESIDE], 0.9, 0.2),
        ([Box(0.0, 0.3, (0.5, 0.3, 0.6))], 1.1, 0.2),
    ],
)
def test_what_things_stand_on_is_the_table_and_not_a_larger_wall(
    walls: list[Box], tilt: float, lift: float
) -> None:
    depth, seen = room(*walls, tilt=tilt, lift=lift)
    points = backproject(depth, CAMERA)
    largest = find_table(points[np.isfinite(depth)])
    assert largest is not None
    assert abs((seen.rotation.T @ largest.normal)[2]) < 0.1, "a wall"
    found = plan_grasps(Scene(depth, CAMERA))
    assert found.table is not None
    assert (seen.rotation.T @ found.table.normal)[2] > 0.98
    assert found.grasps, found.refused
    _, rotations = in_table(found, seen)
    assert (rotations[:, 2, 2] < -0.98).all(), "from above"


def test_a_wall_that_an_arm_reaches_out_of_is_no_table() -> None:
    """What the picture cuts off may be anything: other walls, a robot, a hand."""
    depth, seen = room(BEHIND, BESIDE, tilt=0.6, lift=0.2)
    found = plan_grasps(Scene(depth, CAMERA))
    assert found.table is not None
    assert (seen.rotation.T @ found.table.normal)[2] > 0.98


def test_where_up_is_told_no_wall_is_a_table() -> None:
    wall = Box(0.0, 0.12, (3.0, 0.02, 2.0))
    depth, seen = room(wall, tilt=1.4)
    depth[seen.to_table(backproject(depth, CAMERA))[..., 2] < 0.1] = np.nan
    up = seen.rotation @ [0.0, 0.0, 1.0]
    assert plan_grasps(Scene(depth, CAMERA)).table is not None
    found = plan_grasps(Scene(depth, CAMERA, up=up))
    assert not found.grasps
    assert "no table: expected a plane" in found.problem
    assert found.problem.endswith("and is level to 20 degrees")
    depth, seen = room(BEHIND, tilt=1.3, lift=0.1)
    found = plan_grasps(Scene(depth, CAMERA, up=seen.rotation @ [0.0, 0.0, 1.0]))
    assert found.table is not None
    assert (seen.rotation.T @ found.table.normal)[2] > 0.98


def test_where_up_is_told_a_ceiling_is_no_table() -> None:
    points = backproject(depth_of([], VIEWS[0]), CAMERA)
    up = np.array([0.0, 0.0, -1.0])  # the camera looks down
    assert find_table(points, up=up) is not None
    assert find_table(points, up=-up) is None
    for degrees in (18, 22):
        leaning = np.array([0.0, np.sin(np.radians(degrees)), -np.cos(np.radians(degrees))])
        assert (find_table(points, up=leaning) is not None) is (degrees < 20)


def test_a_table_with_outliers_is_found_to_a_millimetre() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (5000, 3)).astype(np.float32)
    points[:2500, 2] = 0.8 + 0.1 * points[:2500, 0] + 0.001 * rng.standard_normal(2500)
    points[2500:, 2] += 0.8
    table = find_table(points)
    assert table is not None
    flat = np.array([[x, y, 0.8 + 0.1 * x] for x in (-0.5, 0.5) for y in (-0.5, 0.5)])
    assert np.abs(table.heights(flat)).max() < 1e-3
    assert find_table(points[:2]) is None


def test_a_hollow_glass_is_held_across_though_pieces_of_its_wall_are_missing() -> None:
    seen = view(0.5)
    outer, hollow = Cylinder(0.0, 0.0, 0.03, 0.09), Cylinder(0.0, 0.0, 0.026, 0.09)
    depth = depth_of([outer], seen)
    points = seen.to_table(backproject(depth, CAMERA))
    away = np.hypot(points[..., 0] - hollow.x, points[..., 1] - hollow.y)
    inside = (away < hollow.radius) & (points[..., 2] > 0.08)
    broken = (away < 0.032) & (np.abs(points[..., 1]) < 0.004)
    found = plan_grasps(Scene(np.where(inside | broken, np.nan, depth), CAMERA))
    assert found.grasps, found.refused
    positions, rotations = in_table(found, seen)
    best = next(n for n, grasp in enumerate(found.grasps) if grasp.width > 0.06)
    assert abs(positions[best, :2] @ rotations[best, :2, 1]) < 0.004, "centred between the fingers"
    assert np.linalg.norm(positions[best, :2]) < 0.02
    assert found.grasps[best].width < 0.08


def test_a_wall_of_what_is_too_wide_is_held() -> None:
    seen = VIEWS[0]
    depth, table = depth_of([Cylinder(0.0, 0.0, 0.046, 0.05)], seen), depth_of([], seen)
    away = np.linalg.norm(seen.to_table(backproject(depth, CAMERA))[..., :2], axis=-1)
    found = plan_grasps(Scene(np.where(away < 0.04, table, depth), CAMERA))
    assert found.grasps, found.refused
    positions, _ = in_table(found, seen)
    np.testing.assert_allclose(np.linalg.norm(positions[:, :2], axis=1), 0.043, atol=0.005)
    assert all(0.01 < grasp.width < 0.04 for grasp in found.grasps)


def test_a_map_lies_in_the_table_however_the_camera_is_rolled() -> None:
    """Looking ahead, its right side up."""
    up = np.array([1.0, 0.0, 0.0])
    seen = View(
        np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0, -0.5, 0.15])
    )
    found = height_map(Scene(depth_of([BOX], seen), CAMERA), Plane(up, -0.15), 0.002, 0.1, 0.012)
    assert found is not None
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(found.axes[2], up)
    assert np.nanmax(found.height) == pytest.approx(0.06, abs=1e-3)


@pytest.mark.parametrize(
    ("rows", "columns", "nearest", "stands"),
    [
        ((40, 60), (90, 110), 0.9, [400, 0]),
        ((40, 60), (98, 118), 0.5, [0, 400]),  # by its foot, which is nearer to the wall
        ((0, 20), (40, 60), 0.9, [0, 0]),  # the picture cuts it off, as an arm
        ((80, 100), (40, 60), 0.9, [0, 0]),
        ((40, 60), (0, 20), 0.9, [0, 0]),
        ((40, 60), (100, 120), 0.9, [0, 0]),
        ((40, 60), (40, 80), 0.9, [0, 0]),  # 40 cm long
        ((50, 53), (50, 53), 0.9, [0, 0]),  # some noise
    ],
)
def test_a_thing_is_small_is_seen_whole_and_stands_on_its_foot(
    rows: tuple[int, int], columns: tuple[int, int], nearest: float, stands: list[int]
) -> None:
    """A pixel for each centimetre of a table, a wall at its right end."""
    y, x = np.mgrid[0:100, 0:120] / 100
    z = np.ones((100, 120))
    leaning = np.linspace(nearest, nearest - 0.3, rows[1] - rows[0])
    z[slice(*rows), slice(*columns)] = leaning[:, None]
    points = np.stack([x, y, z], axis=-1).astype(np.float32)
    table, wall = Plane(np.array([0.0, 0.0, -1.0]), -1.0), Plane(np.array([-1.0, 0.0, 0.0]), -1.25)
    assert _supported(points, [table, wall]) == stands
