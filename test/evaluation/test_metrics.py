"""Depth errors against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dkt_ros.errors import DktError
from dkt_ros.evaluation.metrics import (
    DepthErrors,
    disparity_to_metric,
    fit_disparity,
    frame_errors,
    mean_of,
    video_errors,
)


def test_errors_of_four_pixels() -> None:
    truth = np.array([[1.0, 2.0], [4.0, 1.0]], np.float32)
    predicted = np.array([[1.1, 2.0], [3.0, 1.04]], np.float32)
    errors = frame_errors(predicted, truth)
    # |p-g|/g: .1, 0, .25, .04; squared errors: .01, 0, 1, .0016; ratios: 1.1, 1, 1.333, 1.04
    assert errors.rel == pytest.approx(0.39 / 4, abs=1e-6)
    assert errors.rmse_m == pytest.approx(math.sqrt(1.0116 / 4), abs=1e-6)
    assert errors.delta_105 == 0.5
    assert errors.delta_125 == 0.75
    assert errors.coverage == 1.0


def test_delta_is_symmetric_and_strict() -> None:
    truth = np.array([[1.0, 1.0]])
    assert frame_errors(np.array([[0.8, 1.25]]), truth).delta_125 == 0.0
    for field, below in (("delta_105", 1.049), ("delta_110", 1.099), ("delta_125", 1.249)):
        near, off = (np.array([[1 / ratio, ratio]]) for ratio in (below, below + 0.002))
        assert getattr(frame_errors(near, truth), field) == 1.0
        assert getattr(frame_errors(off, truth), field) == 0.0


def test_mask_unknown_truth_and_missing_prediction() -> None:
    truth = np.array([[1.0, np.nan, 0.0, 2.0, 2.0, 2.0, 2.0]])
    predicted = np.array([[2.0, 1.0, 1.0, np.nan, 0.0, -1.0, 9.0]])
    mask = np.array([[True, True, True, True, True, True, False]])
    errors = frame_errors(predicted, truth, mask)
    assert errors.rel == 1.0
    assert errors.coverage == 0.25


@pytest.mark.parametrize("nothing", [65504.0, 1e10])
def test_where_a_renderer_s_ray_meets_nothing_there_is_no_truth(nothing: float) -> None:
    truth = np.array([[1.0, 2.0, nothing, nothing]])
    errors = frame_errors(np.array([[1.1, 2.2, 5.0, np.nan]]), truth)
    assert errors.rel == pytest.approx(0.1)
    assert errors.coverage == 1.0
    assert fit_disparity(np.array([[1.0, 0.5, 0.1, 0.2]]), truth) == pytest.approx((1.0, 0.0))


def test_nothing_to_compare() -> None:
    truth = np.array([[np.nan, 1.0]])
    nothing = frame_errors(np.ones((1, 2)), truth, np.array([[True, False]]))
    assert math.isnan(nothing.rel)
    assert math.isnan(nothing.coverage)
    unseen = frame_errors(np.full((1, 2), np.nan), truth)
    assert math.isnan(unseen.rel)
    assert unseen.coverage == 0.0


def test_mean_leaves_out_frames_without_a_value() -> None:
    one = DepthErrors(0.1, 1.0, 1.0, 1.0, 1.0, 1.0)
    two = DepthErrors(0.3, 3.0, 0.0, 0.0, 0.0, 0.5)
    none = DepthErrors(*[math.nan] * 6)
    assert mean_of(DepthErrors, [one, two, none]) == DepthErrors(0.2, 2.0, 0.5, 0.5, 0.5, 0.75)
    assert math.isnan(mean_of(DepthErrors, []).rel)


def test_video_is_averaged_over_frames_not_pixels() -> None:
    truth = np.ones((2, 1, 4))
    predicted = np.array([[[2.0, np.nan, np.nan, np.nan]], [[1.0, 1.0, 1.0, 1.0]]])
    assert video_errors(predicted, truth).rel == 0.5


def test_alignment_recovers_an_affine_distortion_of_disparity() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 2.0, (3, 8, 9))
    disparity = (1.0 / truth - 0.4) / 1.7
    disparity -= disparity.min() - 0.01
    truth[0, 0] = np.nan
    scale, shift = fit_disparity(disparity, truth)
    assert scale == pytest.approx(1.7)
    depth = disparity_to_metric(disparity, scale, shift)
    assert video_errors(depth, truth).rel < 1e-6


def test_alignment_of_three_points_by_hand() -> None:
    # d = 1, 2, 3 against 1/g = 1, 1, 2: slope 0.5, intercept 1/3
    scale, shift = fit_disparity(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 0.5]]))
    assert scale == pytest.approx(0.5)
    assert shift == pytest.approx(1 / 3)


def test_alignment_leaves_out_zero_disparity_as_published() -> None:
    disparity = np.array([[0.0, 1.0, 2.0]])
    scale, shift = fit_disparity(disparity, np.array([[9.0, 1.0, 0.5]]))
    assert scale == pytest.approx(1.0)
    assert shift == pytest.approx(0.0, abs=1e-9)


def test_constant_disparity_cannot_be_aligned() -> None:
    truth = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])
    for value in (1.0, 0.1):  # the mean of seven of the second is none of them
        with pytest.raises(ValueError, match="cannot align"):
            fit_disparity(np.full(truth.shape, value), truth)


def test_inversion_is_clipped() -> None:
    disparity = np.array([[0.0, 1.0]])
    assert disparity_to_metric(disparity, 1.0, 0.0)[0, 0] == pytest.approx(1000.0)
    assert disparity_to_metric(disparity, 1.0, 0.0, (0.3, 2.0)).tolist() == [[2.0, 1.0]]


def test_depth_in_whole_millimetres_is_refused() -> None:
    metres, millimetres = np.ones((1, 2)), np.full((1, 2), 1000, np.uint16)
    for pair in ((millimetres, metres), (metres, millimetres)):
        with pytest.raises(DktError, match=r"uint16.*expected a numpy array of floats"):
            frame_errors(*pair)


@pytest.mark.parametrize("mask", [np.ones((1, 3), bool), np.ones((1, 2), np.uint8)])
def test_wrong_masks_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(DktError, match=r"shapes differ|expected bool"):
        frame_errors(np.ones((1, 2)), np.ones((1, 2)), mask)
