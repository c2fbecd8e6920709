"""Normal errors and normals of depth against planes and angles worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dkt_ros.evaluation.normals import (
    away_from_edges,
    frame_normal_errors,
    normals_of_depth,
)

K = np.array([[50.0, 0.0, 15.5], [0.0, 40.0, 11.5], [0.0, 0.0, 1.0]])
HEIGHT, WIDTH = 24, 32


def plane(normal: np.ndarray, distance: float) -> np.ndarray:
    """Depth of the plane normal . P = -distance: z = -distance / (normal . ray)."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(K).T
    return (-distance / (rays @ normal)).astype(np.float32)


def tilted(degrees: float) -> np.ndarray:
    """Facing the camera, tilted about the vertical axis."""
    angle = math.radians(degrees)
    return np.array([math.sin(angle), 0.0, -math.cos(angle)])


@pytest.mark.parametrize(
    "normal",
    [
        np.array([0.0, 0.0, -1.0]),  # a wall straight ahead
        tilted(30.0),
        tilted(-60.0),
        np.array([0.0, -math.sqrt(0.75), -0.5]),  # a table seen from above: its normal points up
        np.array([0.48, -0.64, -0.6]),
    ],
)
def test_normals_of_a_plane(normal: np.ndarray) -> None:
    found = normals_of_depth(plane(normal, 0.9), K)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert found.dtype == np.float32
    inner = found[1:-1, 1:-1]
    np.testing.assert_allclose(inner, np.broadcast_to(normal, inner.shape), atol=2e-4)
    assert (found[0] == 0).all()
    assert (found[:, -1] == 0).all()


def test_neighbours_without_depth_leave_no_normal() -> None:
    depth = plane(tilted(0.0), 1.0)
    depth[10, 10] = np.nan
    known = np.abs(normals_of_depth(depth, K)).sum(axis=-1) > 0
    missing = np.argwhere(~known[1:-1, 1:-1]) + 1
    assert missing.tolist() == [[9, 10], [10, 9], [10, 10], [10, 11], [11, 10]]
    assert not normals_of_depth(np.ones((2, 9)), K).any()


def test_edges_are_those_of_the_truth() -> None:
    depth = plane(tilted(0.0), 1.0)
    depth[:, 16:] = 1.2
    inside = away_from_edges(depth)
    assert inside[:, :15].all()
    assert not inside[:, 15:17].any()
    assert inside[:, 17:].all()


def test_angles_by_hand() -> None:
    truth = np.broadcast_to(tilted(0.0), (1, 4, 3))
    predicted = np.stack([tilted(angle) for angle in (5.0, 20.0, 29.0, 90.0)])[None]
    errors = frame_normal_errors(predicted, truth)
    assert errors.mean_deg == pytest.approx(144.0 / 4)
    assert errors.median_deg == pytest.approx(24.5)
    assert (errors.within_1125, errors.within_2250, errors.within_3000) == (0.25, 0.5, 0.75)
    assert errors.normal_coverage == 1.0


def test_a_share_is_of_smaller_angles_only_and_opposite_is_180_degrees() -> None:
    truth = np.array([[[0.0, 0.0, -1.0]]])
    assert frame_normal_errors(-truth, truth).mean_deg == pytest.approx(180.0)
    assert frame_normal_errors(truth, truth).mean_deg == 0.0
    for field, degrees in (("within_1125", 11.25), ("within_2250", 22.5), ("within_3000", 30.0)):
        for beyond, share in ((0.1, 0.0), (-0.1, 1.0)):
            errors = frame_normal_errors(tilted(degrees + beyond)[None, None], truth)
            assert getattr(errors, field) == share


def test_length_does_not_matter_and_unknown_does_not_count() -> None:
    truth = np.array([[tilted(0.0), tilted(0.0), tilted(0.0), [0.0, 0.0, 0.0]]])
    predicted = np.array([[3 * tilted(10.0), [0.0, 0.0, 0.0], tilted(70.0), tilted(80.0)]])
    mask = np.array([[True, True, False, True]])
    errors = frame_normal_errors(predicted, truth, mask)
    assert errors.mean_deg == pytest.approx(10.0)
    assert errors.normal_coverage == 0.5
    none = frame_normal_errors(predicted, truth, np.zeros((1, 4), bool))
    assert math.isnan(none.mean_deg)
    assert math.isnan(none.normal_coverage)
    unseen = frame_normal_errors(np.full(truth.shape, np.nan), truth)
    assert unseen.normal_coverage == 0.0


@pytest.mark.parametrize(
    ("shape", "mask"),
    [
        ((1, 2), np.ones((1, 2), bool)),
        ((1, 2, 3), np.ones((1, 3), bool)),
        ((1, 2, 3), np.ones((1, 2))),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        frame_normal_errors(np.ones(shape), np.ones((1, 2, 3)), mask)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (1, 9)])
def test_a_picture_that_is_border_alone_has_no_normals(size: tuple[int, int]) -> None:
    found = normals_of_depth(np.ones(size, np.float32), np.eye(3))
    assert found.shape == (*size, 3)
    assert not found.any()
