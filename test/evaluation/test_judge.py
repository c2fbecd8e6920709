"""Which pixels count for depth, flicker and normals, against cases worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.evaluated_scenes import CAMERA, HEIGHT, RANGE, WIDTH, table_with_glass

from dkt_ros.evaluation.judge import Figures, Judge
from dkt_ros.evaluation.videos import Video

SHAPE = (2, HEIGHT, WIDTH)


def wall(distance: float = 2.0, **parts: Any) -> Video:
    """A wall straight ahead, two frames from one place."""
    facing = np.broadcast_to(np.array([0.0, 0.0, -1.0], np.float32), (*SHAPE, 3))
    given: dict[str, Any] = {
        "normals": facing,
        "camera_matrices": np.repeat(CAMERA[None], 2, axis=0),
        "world_to_camera": np.repeat(np.eye(4)[None], 2, axis=0),
    }
    rgb = np.zeros((*SHAPE, 3), np.uint8)
    return Video("wall", rgb, np.full(SHAPE, distance, np.float32), **(given | parts))


def tilted(degrees: float) -> np.ndarray:
    """Depth (T, H, W) of a plane turned about the vertical axis, 2 m ahead."""
    angle = math.radians(degrees)
    x = (np.arange(WIDTH) - CAMERA[0, 2]) / CAMERA[0, 0]
    row = 2.0 * math.cos(angle) / (math.cos(angle) - math.sin(angle) * x)
    return np.broadcast_to(row.astype(np.float32), SHAPE)


def test_every_figure_of_a_flickering_wall() -> None:
    # 2 m told as 2.0 and 2.5: REL 0 and .25; TAE |2 - 2.5| / 2.5 there, / 2 back.
    depth = np.full(SHAPE, 2.0, np.float32)
    depth[1] = 2.5
    figures = Judge(wall(), RANGE).depth(depth)["all"]
    assert figures.rel == pytest.approx(0.125)
    assert figures.rmse_m == pytest.approx(0.25)
    assert (figures.delta_105, figures.delta_110, figures.delta_125) == (0.5, 0.5, 0.5)
    assert figures.tae == pytest.approx((0.2 + 0.25) / 2)
    assert figures.mean_deg == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("degrees", [-20.0, 12.0, 40.0])
def test_depth_is_judged_by_its_normals(degrees: float) -> None:
    figures = Judge(wall(), RANGE).depth(tilted(degrees))["all"]
    assert figures.mean_deg == pytest.approx(abs(degrees), abs=0.05)
    assert figures.median_deg == pytest.approx(abs(degrees), abs=0.05)
    assert figures.within_1125 == 0.0
    assert figures.within_2250 == (1.0 if abs(degrees) < 22.5 else 0.0)
    # The picture's border, where no central difference exists, does not count as missing.
    assert figures.normal_coverage == 1.0


def test_normals_of_depth_do_not_count_at_edges_but_those_of_a_network_do() -> None:
    video = table_with_glass()
    assert video.normals is not None
    judge = Judge(video, RANGE)
    floor = judge.floor()
    assert floor is not None
    # Glass and table are nowhere mixed: the table's normals are right to a hundredth of a degree.
    assert floor["rest"].mean_deg < 0.05
    wrong = video.normals.copy()
    wrong[:, 10, 20:44] = (0.0, 0.0, -1.0)  # the glass's upper edge, one of its 16 rows
    angle = math.degrees(math.acos(1.1 / math.hypot(1.25, 1.1)))
    assert judge.normals(wrong)["transparent"].mean_deg == pytest.approx(angle / 16, rel=1e-3)


def test_tae_counts_only_where_the_truth_is_known() -> None:
    video = wall()
    video.truth[:, :, 30:] = np.nan
    depth = np.full(SHAPE, 2.0, np.float32)
    depth[1, :, 30:] = 4.0
    assert Judge(video, RANGE).depth(depth)["all"].tae == 0.0


def test_frames_passed_over_are_no_neighbours() -> None:
    video = table_with_glass(3)
    assert video.world_to_camera is not None
    video.world_to_camera[1, 2, 3] = 0.5  # away for a moment
    depth = video.truth.copy()
    depth[1] = np.nan
    depth[2] *= 1.25
    figures = Judge(video, RANGE).depth(depth)["all"]
    assert figures.tae == pytest.approx((0.2 + 0.25) / 2)
    assert figures.coverage == pytest.approx(2 / 3)


def test_the_floor_is_the_flicker_of_the_truth() -> None:
    truth = np.full(SHAPE, 2.0, np.float32)
    truth[1] = 2.5
    for video in (wall(), wall(normals=None)):
        floor = Judge(replace(video, truth=truth), RANGE).floor()
        assert floor is not None
        assert floor["all"].tae == pytest.approx((0.2 + 0.25) / 2)


def test_what_a_video_lacks_is_not_made_up() -> None:
    bare = replace(wall(), normals=None, world_to_camera=None)
    judge = Judge(bare, RANGE)
    assert judge.floor() is None
    figures = judge.depth(np.full(SHAPE, 2.2, np.float32))
    assert list(figures) == ["all"]
    assert figures["all"].rel == pytest.approx(0.1)
    assert math.isnan(figures["all"].tae)
    assert math.isnan(figures["all"].mean_deg)
    assert math.isnan(judge.normals(np.zeros((*SHAPE, 3)))["all"].mean_deg)
    without_camera = replace(wall(), camera_matrices=None)
    assert math.isnan(Judge(without_camera, RANGE).depth(without_camera.truth)["all"].mean_deg)
    unwanted = Judge(wall(), RANGE, with_normals=False).depth(tilted(20.0))["all"]
    assert math.isnan(unwanted.mean_deg)


def test_predictions_are_clipped_into_the_range_and_truth_outside_does_not_count() -> None:
    video = wall()
    video.truth[:, :, :10] = 20.0
    trust = np.full(SHAPE, 0.5, np.float32)
    figures = Judge(video, (0.3, 4.0)).depth(np.full(SHAPE, 100.0, np.float32), trust, 0.1)["all"]
    assert figures.rel == pytest.approx(1.0)
    assert figures.rmse_m == pytest.approx(2.0)
    assert figures.rel_by_decile == pytest.approx([1.0] * 10)


def test_the_range_includes_its_ends() -> None:
    for ends in ((2.0, 3.0), (1.0, 2.0)):
        assert Judge(wall(2.0), ends).depth(np.full(SHAPE, 2.0, np.float32))["all"].coverage == 1.0


def test_normals_count_only_where_the_true_depth_does() -> None:
    video = wall()
    video.truth[:, :, :10] = 20.0
    assert video.normals is not None
    wrong = video.normals.copy()
    wrong[:, :, :10] = (0.0, -1.0, 0.0)
    assert Judge(video, RANGE).normals(wrong)["all"].mean_deg == 0.0


def test_regions_by_masks() -> None:
    classes = np.zeros(SHAPE, np.uint8)
    classes[:, :, :10], classes[:, :, 10:20], classes[0, :, 20:30] = 1, 2, 255
    depth = np.full(SHAPE, 2.0, np.float32)
    depth[:, :, :10], depth[:, :, 10:20], depth[0, :, 20:30] = 2.2, 2.6, 3.0
    figures = Judge(wall(classes=classes), RANGE).depth(depth)
    found = {name: round(value.rel, 5) for name, value in figures.items()}
    assert found == {
        "all": pytest.approx((0.1 * 10 + 0.3 * 10 + 0.5 * 10 / 2) / WIDTH, abs=1e-4),
        "transparent/reflective": 0.2,
        "transparent": 0.1,
        "reflective": 0.3,
        "rest": 0.0,
    }
    untold = Judge(wall(classes=classes, reflective=False), RANGE).depth(depth)
    assert list(untold) == ["all", "transparent/reflective", "rest"]


def test_figures_are_unknown_unless_told() -> None:
    assert all(np.isnan(value).all() for value in vars(Figures()).values())
    assert math.isnan(Figures().ece)
