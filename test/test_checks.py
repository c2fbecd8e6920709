"""What a Python program hands in by mistake is named, with what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.red_network import RedNetwork

from dkt_ros import (
    DepthEstimator,
    EstimatorConfig,
    Frame,
    Intrinsics,
    PredictorOptions,
    SourceOptions,
    frame_errors,
    frames_of,
    load_estimator,
    process,
)
from dkt_ros.alignment.aligner import Aligner, AlignmentConfig, align_depth, metric_alignment
from dkt_ros.bags.recording import stamps
from dkt_ros.errors import DktError
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.consistency import Consistency, ConsistencyConfig
from dkt_ros.fusion.fuser import Fuser
from dkt_ros.grasp.antipodal import GraspConfig, Gripper
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.predict.clip import PredictOptions
from dkt_ros.predict.load import load_predictor
from dkt_ros.processing.compare import Limits

PREDICTOR = "fixtures.red_network:load"
CAMERA = Intrinsics(20.0, 20.0, 7.5, 5.5, 16, 12)
RGB = np.zeros((12, 16, 3), np.uint8)
DEPTH = np.ones((12, 16), np.float32)
ALIGNMENT = metric_alignment(DEPTH, DEPTH)
CONFIGS = (
    AlignmentConfig(),
    GraspConfig(),
    Gripper(),
    Limits(),
    LiveOptions(warm_start=1.0, min_agreement=0.5, seed=2**31 - 1),
    PredictOptions(),
    ConsistencyConfig(),
    EstimatorConfig(),
    FusionConfig(),
    PredictorOptions(),
    SourceOptions(),
    CAMERA,
)
WRONG = [(1, 2, 3), [None], DEPTH, DEPTH.astype(complex), np.array(1.0), object(), AlignmentConfig]


def called(function: Callable[..., Any], *args: object, **more: object) -> Callable[[], Any]:
    """A call that no type checker sees; of a generator, up to what it yields first."""

    def call() -> Any:
        found = function(*args, **more)
        return next(found) if isinstance(found, Iterator) else found

    return call


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_field_refuses_what_it_is_not(config: Any) -> None:
    for entry in fields(config):
        for value in WRONG:
            with pytest.raises(DktError, match=f"{type(config).__name__}.{entry.name} is .*expect"):
                replace(config, **{entry.name: value})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_no_number_is_nan(config: Any) -> None:
    """Nothing compares with it, so it would switch off what it is the limit of."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, float):
            with pytest.raises(DktError, match=rf"{entry.name}\b.*nan.*expected"):
                replace(config, **{entry.name: math.nan})
    with pytest.raises(DktError, match=r"pinhole is \(nan, .*, expected \(a number, a number"):
        SourceOptions(pinhole=(math.nan, 1, 1, 1))
    with pytest.raises(DktError, match=r"expected_depth_m is .*nan"):
        ConsistencyConfig(expected_depth_m=(0.1, math.nan))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (called(ConsistencyConfig, frozen_frames=1), "frozen_frames is 1, expected 2 or more"),
        (called(ConsistencyConfig, jump=0.5), r"ConsistencyConfig.jump is 0.5, expected 1 or more"),
        (called(ConsistencyConfig, stale_s=-1), "stale_s is -1, expected 0 or more"),
        (called(ConsistencyConfig, refused=1.0), "refused 1.0, doubted 0.5, looked_into 4.0: expe"),
        (called(ConsistencyConfig, expected_depth_m=(2, 1)), "expected depth 2 .. 1 m: expected 0"),
        (called(ConsistencyConfig, min_raw_depth=20), "range 20 .. 10.0 m: expected 0 < min < max"),
        (called(EstimatorConfig, max_gap_s=-1), "max_gap_s is -1, expected 0 or more"),
        (called(EstimatorConfig, min_depth=20), "min_depth 20 m, max_depth 10.0 m: expected 0 <"),
        (called(EstimatorConfig, min_depth=-1), "min_depth -1 m, max_depth 10.0 m: expected 0 <"),
        (called(Limits, max_share=2), "max_share is 2, expected 0 to 1"),
        (called(Gripper, max_width=0.0), "Gripper.max_width is 0.0, expected 0.0001 to 10"),
        (called(GraspConfig, min_confidence=1.5), "min_confidence is 1.5, expected 0 to 1"),
        (called(GraspConfig, samples=0), "GraspConfig.samples is 0, expected 1 to"),
        (
            called(LiveOptions, warm_start=1.1),
            "warm_start is 1.1, expected a sigma above 0, at",
        ),
        (called(LiveOptions, seed=2**31), r"seed is 2147483648, expected 0 to 2\^31 - 1"),
        (called(LiveOptions, scene_cut=0.0), "scene_cut is 0.0, expected above 0, at most 1"),
        (called(stamps, math.inf), "rate is inf Hz, expected a positive number"),
        (called(stamps, 10.0, math.nan), "start time is nan s, expected 0 to below 2147483648 s"),
        (called(stamps, 10.0, -1.0), "start time is -1.0 s"),
        (called(Fuser, "cpu"), "config is 'cpu', expected FusionConfig or None"),
        (called(Fuser, None, 0), "device is 0, expected device or text"),
        (called(Aligner, "x"), "config is 'x', expected AlignmentConfig"),
        (called(Aligner().update, DEPTH, DEPTH, 1.5), "stamp_ns is 1.5, expected an integer"),
        (called(metric_alignment, DEPTH, DEPTH, {}), "config is {}, expected AlignmentConfig"),
        (called(Consistency, "x"), "config is 'x', expected ConsistencyConfig"),
        (called(DepthEstimator, RedNetwork(), "x"), "config is 'x', expected EstimatorConfig"),
        (called(load_estimator, "dkt-1.3b"), "options is 'dkt-1.3b', expected PredictorOptions"),
        (called(load_estimator, config="x"), "config is 'x', expected EstimatorConfig"),
        (called(load_estimator, depth="fused"), "depth: no field of PredictorOptions, expected pr"),
        (called(load_predictor, "dkt-1.3b"), "options is 'dkt-1.3b', expected PredictorOptions"),
        (called(align_depth, [[1.0]], ALIGNMENT, 0.1, 10), "disparity of type list: expected"),
        (called(align_depth, DEPTH.astype(complex), ALIGNMENT, 0.1, 10), "disparity of .* complex"),
        (called(align_depth, DEPTH[0], ALIGNMENT, 0.1, 10), r"disparity of \(16,\) float32"),
        (called(align_depth, DEPTH, (1.0, 0.0), 0.1, 10), r"alignment is \(1.0, 0.0\), expected"),
        (called(align_depth, DEPTH, ALIGNMENT, "0", 10), r"depth range is \('0', 10\), expected"),
        (called(frame_errors, [[1.0]], DEPTH), "prediction of type list: expected a numpy array"),
        (called(frame_errors, DEPTH, None), "truth of None: expected a numpy array of floats"),
        (called(frame_errors, DEPTH, DEPTH.astype(np.uint16)), r"truth of \(12, 16\) uint16: exp"),
        (called(frame_errors, DEPTH, DEPTH.astype(object)), r"truth of \(12, 16\) object: expect"),
        (called(frame_errors, DEPTH, DEPTH, [True]), "mask of type list: expected bool"),
        (called(frame_errors, DEPTH, DEPTH[:2]), r"shapes differ: .* \(12, 16\), truth \(2, 16\)"),
        (called(Frame, RGB, DEPTH, CAMERA, 0.5, "c"), "stamp_ns is 0.5, expected an integer"),
        (called(Frame, RGB, DEPTH, CAMERA, 0, None), "frame_id is None, expected text"),
        (called(frames_of, [(RGB, DEPTH)], CAMERA.matrix), "intrinsics is .*float64, expec"),
        (called(frames_of, [(RGB, DEPTH)], None, 0.0), "period_s is 0.0, expected seconds"),
        (called(Intrinsics.from_matrix, "K", 16, 12), r"camera matrix: .*; expected \(3, 3\)"),
        (called(CAMERA.scaled_to, "8", 6), r"size is \('8', 6\), expected \(an integer, an int"),
        (called(process, ["a", "b"]), r"recording is \['a', 'b'\], expected text or a path"),
        (called(process, "a", source={}), "source is {}, expected SourceOptions or None"),
        (called(process, "a", estimator="x"), "estimator is 'x', expected DepthEstimator"),
        (called(process, "a", config="x"), "config is 'x', expected EstimatorConfig"),
    ],
)
def test_numbers_out_of_range_and_wrong_objects_are_named(
    call: Callable[[], Any], words: str
) -> None:
    with pytest.raises(DktError, match=words):
        call()


def test_numbers_of_every_library_are_numbers() -> None:
    numbers: Any = (20, np.float32(20), 7.5, 5, np.int64(16), 12)
    assert Intrinsics(*numbers).width == 16
    assert AlignmentConfig(jump=1, min_inliers=np.uint8(10)).min_inliers == 10  # type: ignore[arg-type]
    with pytest.raises(DktError, match=r"PredictorOptions.steps is True, expected an integer"):
        PredictorOptions(steps=True)


@pytest.mark.parametrize("limits", [None, 1.0, "ab", (0.1,), (0.1, None), (0.1, 1.0, 2.0)])
def test_a_range_is_two_numbers(limits: Any) -> None:
    estimator = load_estimator(predictor=PREDICTOR)
    with pytest.raises(DktError, match=r"depth_range is .*, expected \(a number, a number\)"):
        estimator.depth_range = limits


def test_paths_and_lists_are_taken() -> None:
    options = SourceOptions(pinhole=[1, 2, 3, 4], topics={"color": "/c"})  # type: ignore[arg-type]
    assert options.topics == {"color": "/c"}
    assert PredictorOptions(checkpoint=Path("x")).checkpoint == Path("x")
    with pytest.raises(DktError, match=r"topics is .*, expected a dictionary of text to text"):
        SourceOptions(topics={"color": None})  # type: ignore[dict-item]
