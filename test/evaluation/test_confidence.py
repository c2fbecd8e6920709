"""Figures of a confidence, on errors for which they can be told by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dkt_ros.evaluation.confidence import (
    ConfidenceErrors,
    calibration_error,
    confidence_errors,
    frame_confidence_errors,
)
from dkt_ros.evaluation.metrics import mean_of

ERROR = np.arange(1000) / 1000.0


def ece(found: ConfidenceErrors) -> float:
    return calibration_error(found.bin_confidence, found.bin_within)


def test_a_confidence_that_falls_with_the_error_ranks_perfectly() -> None:
    found = confidence_errors(ERROR, 1 - ERROR, 0.5)
    assert found.ause == pytest.approx(0.0, abs=1e-12)
    assert found.trusted_half_rel == pytest.approx(ERROR[:500].mean())
    assert found.rel_by_decile == pytest.approx([0.0495 + 0.1 * i for i in range(10)])


def test_a_confidence_that_says_nothing_loses_what_the_best_order_gains() -> None:
    found = confidence_errors(ERROR, np.full(1000, 0.5), 0.5)
    # Kept are shares s of 1 to 0.02: mean 1/2 against s/2, whatever the order of the pixels.
    assert found.ause == pytest.approx(0.5 - 0.51 / 2, abs=1e-3)
    assert found.trusted_half_rel == pytest.approx(ERROR.mean())
    assert found.rel_by_decile == pytest.approx([ERROR.mean()] * 10)
    assert ece(found) == pytest.approx(0.0, abs=1e-9), "half of them are within, as it says"


def test_errors_that_are_trusted_most_cost_by_the_shares_that_they_are_of_what_is_kept() -> None:
    """A fiftieth is wrong: of what is kept it is 1, 1/2 ... 1/49, and in the best order nothing.

    Of the whole it is 1/50 in either.
    """
    wrong = ERROR < 0.02
    found = confidence_errors(wrong.astype(float), 1 - ERROR, 0.5)
    assert found.ause == pytest.approx(sum(1 / k for k in range(1, 50)) / 50, rel=1e-2)


def test_calibration_is_told_bin_by_bin() -> None:
    """A tenth says 0.05, nine tenths 0.95; of either half is right."""
    confidence = np.repeat([0.05, 0.95], [100, 900])
    error = np.tile([0.01, 0.03], 500)
    found = confidence_errors(error, confidence, 0.02)
    assert ece(found) == pytest.approx(0.1 * 0.45 + 0.9 * 0.45)
    assert sum(found.bin_within) == pytest.approx(0.5)
    assert found.bin_confidence[-1] == pytest.approx(0.9 * 0.95)
    assert ece(confidence_errors(error, confidence, 0.1)) == pytest.approx(1 - 0.86)
    # What is certain belongs to the last bin.
    sure = confidence_errors(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 0.1)
    assert sure.bin_within == (0.0,) * 9 + (0.5,)
    tenth = confidence_errors(np.array([0.0, 1.0]), np.array([0.01, 0.09]), 0.1)
    assert tenth.bin_confidence == pytest.approx((0.05,) + (0.0,) * 9)


def test_frames_that_err_to_either_side_are_calibrated_together() -> None:
    """As ECE of a set is: of each frame alone it would be 0.5."""
    frames = [confidence_errors(np.array([e]), np.array([0.5]), 0.02) for e in (0.0, 1.0)]
    assert [ece(frame) for frame in frames] == [0.5, 0.5]
    both = mean_of(ConfidenceErrors, frames)
    assert ece(both) == 0.0
    assert both.rel_by_decile[0] == pytest.approx(0.5)


def test_pixels_without_truth_depth_or_mask_do_not_count() -> None:
    truth = np.array([[1.0, 2.0, np.nan, 1.0, 1.0, 65504.0]])
    depth = np.array([[1.1, 2.0, 1.0, np.nan, 5.0, 1.0]])
    confidence = np.array([[0.2, 0.8, 0.9, 0.0, 0.9, 0.9]])
    mask = np.array([[True, True, True, True, False, True]])
    found = frame_confidence_errors(depth, truth, confidence, mask, 0.02)
    assert found.rel_by_decile[:2] == pytest.approx([0.0, 0.1])
    assert found.trusted_half_rel == 0.0
    # Two pixels: the curves differ by nothing, whether both are kept or one.
    assert found.ause == pytest.approx(0.0, abs=1e-9)
    assert ece(found) == pytest.approx((0.2 + 0.2) / 2)
    nothing = frame_confidence_errors(depth, truth, confidence, np.zeros_like(mask), 0.02)
    assert math.isnan(nothing.ause)
    assert math.isnan(ece(nothing))


def test_large_frames_are_sampled_evenly() -> None:
    truth = np.ones((700, 700))
    depth = truth + np.linspace(0.0, 1.0, 700)[:, None]
    found = frame_confidence_errors(depth, truth, 2 - depth, np.ones(truth.shape, bool), 0.5)
    assert found.rel_by_decile == pytest.approx([0.05 + 0.1 * i for i in range(10)], abs=2e-3)
