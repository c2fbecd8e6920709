"""A frame at working size."""

from __future__ import annotations

import numpy as np
import pytest

from dkt_ros.fusion.features import (
    agreement,
    bent,
    bent_to_most,
    closeness,
    evidence,
    hung,
    make_scene,
    network_input,
    working_size,
)
from dkt_ros.fusion.network import INPUT_CHANNELS


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ((720, 1280), (160, 288)),
        ((1280, 720), (288, 160)),
        ((480, 640), (192, 240)),
        ((160, 288), (160, 288)),
        ((5, 7), (32, 32)),
        ((300, 1), (304, 32)),
    ],
)
def test_working_size(native: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(*native) == expected


def readings(shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (1 + rows / 100 + columns / 200).astype(np.float32)


def test_holes_take_the_nearest_reading() -> None:
    disparity = readings()
    disparity[10:20, 10:20] = 0
    scene = make_scene(np.zeros((48, 64, 3), np.uint8), disparity, None, True)
    assert scene is not None
    assert scene.filled[10, 15] == disparity[9, 15]
    assert scene.filled[19, 12] == disparity[20, 12]
    assert scene.nearest[10, 15] == 9 * 64 + 15
    assert scene.distance[10, 15] == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(scene.filled[scene.measured], disparity[scene.measured])
    assert scene.typical == pytest.approx(np.median(disparity[disparity > 0]), rel=0.01)


@pytest.mark.parametrize("on_scale", [False, True])
@pytest.mark.parametrize(
    ("error", "expected"), [(0.06, np.log(2)), (0.015, -np.log(2)), (0.0, np.log(0.1)), (1, 2.303)]
)
def test_closeness_is_of_the_network_before_it_is_bent(
    on_scale: bool, error: float, expected: float
) -> None:
    """Errors that readings put right count as well; a few of them seen through do not."""
    rng = np.random.default_rng(0)
    disparity = readings((160, 288))
    predicted = disparity / (
        1 + np.float32(error) * rng.standard_normal(disparity.shape, np.float32)
    )
    disparity[:12] *= 0.5
    disparity[60:70] = 0
    rgb = np.zeros((160, 288, 3), np.uint8)
    scene = make_scene(rgb, disparity, np.clip(predicted, 0.5, 5), on_scale)
    assert scene is not None
    assert closeness(scene) == pytest.approx(expected, abs=0.2)
    alone = make_scene(rgb, disparity, None, on_scale)
    assert alone is not None
    assert closeness(alone) == 0


def test_no_reading_is_no_scene() -> None:
    rgb, nothing = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.float32)
    assert make_scene(rgb, nothing, None, True) is None


def test_a_prediction_is_bent_onto_the_readings() -> None:
    """A smooth error of 8% all but goes, also in holes; outliers have little say."""
    truth = readings((96, 128))
    wave = 0.08 * np.sin(np.indices(truth.shape)[1] / 25)
    disparity = truth.copy()
    disparity[40:56, 50:66] = 0
    disparity[70:80, 20:30] *= 0.6
    found = bent((truth * (1 + wave)).astype(np.float32), disparity)
    error = np.abs(found / truth - 1)
    assert error.mean() < 0.008
    assert error[40:56, 50:66].mean() < 0.02
    assert error[70:80, 20:30].mean() < 0.08


def test_what_the_refiner_sees_has_no_scale_and_no_unit() -> None:
    disparity = readings()
    disparity[10:20, 10:20] = 0
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    inputs = []
    for unit in (1.0, 0.1):
        part = (unit * disparity).astype(np.float32)
        scene = make_scene(rgb, part, np.float32(unit) * readings(), True)
        assert scene is not None
        inputs.append(network_input(scene))
    assert inputs[0].shape == (INPUT_CHANNELS, 48, 64)
    np.testing.assert_allclose(inputs[0], inputs[1], atol=1e-3)
    assert np.abs(inputs[0]).max() <= 4


def seen_through(by: float) -> tuple[np.ndarray, np.ndarray]:
    """True disparity, and readings of which a square is seen through something, so much farther."""
    truth = readings((96, 128))
    disparity = truth.copy()
    disparity[30:66, 40:90] *= 1 - by
    return truth, disparity


@pytest.mark.parametrize("error", [0.0, 0.04])
def test_what_is_seen_through_has_no_say_where_most_readings_agree(error: float) -> None:
    truth, disparity = seen_through(0.1)
    wave = error * np.sin(np.indices(truth.shape)[1] / 40)
    predicted = (truth * (1 + wave)).astype(np.float32)
    square = np.s_[34:62, 44:86]
    wrong = np.abs(bent(predicted, disparity) / truth - 1)[square].mean()
    found = np.abs(bent_to_most(predicted, disparity) / truth - 1)
    assert found[square].mean() < max(0.6 * wrong, 0.001)
    assert found[square].mean() < 0.004 + 0.7 * error
    assert np.median(found) < 0.005


def test_a_prediction_is_bent_to_most_readings_where_there_are_hardly_any() -> None:
    truth = readings()
    disparity = np.zeros_like(truth)
    disparity[1::2, 1::2] = truth[1::2, 1::2]  # every second pixel has none
    found = bent_to_most(np.float32(1.02) * truth, disparity)
    np.testing.assert_allclose(found, truth, rtol=0.01)


@pytest.mark.parametrize(("error", "loudest"), [(0.0, 1.5), (0.045, 1.16), (0.12, 1.0)])
def test_a_network_near_the_readings_by_itself_is_heard_louder(
    error: float, loudest: float
) -> None:
    """Of what is behind it. Smooth errors count, though bending takes them away."""
    truth, disparity = seen_through(0.3)
    wave = np.ones_like(truth)
    wave[:, :40], wave[:, 40:] = 1 + error, 1 - error
    rgb = np.zeros((*truth.shape, 3), np.uint8)
    scene = make_scene(rgb, disparity, (truth / wave).astype(np.float32), False)
    assert scene is not None
    said = evidence(scene)
    assert said is not None
    assert said[1].max() == pytest.approx(loudest, abs=0.05)
    assert said[0].max() <= 1


@pytest.mark.parametrize("on_scale", [False, True])
def test_a_network_that_saw_colour_alone_tells_which_readings_are_seen_through(
    on_scale: bool,
) -> None:
    truth, disparity = seen_through(0.1)
    disparity[:10] = 0
    rgb = np.zeros((*truth.shape, 3), np.uint8)
    scene = make_scene(rgb, disparity, truth, on_scale)
    assert scene is not None
    said = evidence(scene)
    if on_scale:  # it may have followed them
        assert said is None
        return
    assert said is not None
    right, through = said
    square = np.zeros(truth.shape, bool)
    square[31:65, 41:89] = True
    beside = ~square & scene.measured
    beside[28:68, 38:92] = False
    assert through[square].mean() > 0.9
    assert right[square].max() < 0.1
    assert right[beside].mean() > 0.9
    assert through[beside].max() == 0
    assert not said[:, :10].any()


def beside(target: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disparity of 1 everywhere, what it is hung on on the left, and where that is."""
    inverse = np.ones((48, 96), np.float32)
    known = np.indices(inverse.shape)[1] < 32
    return inverse, np.where(known, np.float32(target), inverse), known


@pytest.mark.parametrize("reach", [4.0, 12.0])
def test_what_is_hung_meets_its_target_and_fades_from_there(reach: float) -> None:
    row = hung(*beside(1.05), reach)[24]
    np.testing.assert_allclose(row[28:32], 1.05, atol=0.002)
    off = row[32:] - 1.0
    expected = 0.05 * np.exp(-(np.arange(64) + 1) / reach)
    np.testing.assert_allclose(off[:32], expected[:32], atol=0.004)
    assert off[-1] < 0.001


def test_an_edge_of_the_scene_is_not_bridged() -> None:
    inverse, target, known = beside(1.3)
    np.testing.assert_allclose(hung(inverse, target, known, 8.0), inverse, atol=1e-6)
    target[:24, :32] = 1.05  # of the upper half's, the surface goes on
    joined = hung(inverse, target, known, 8.0)
    assert joined[8, 33] > 1.03
    assert abs(joined[44, 33] - 1.0) < 0.01


def test_the_correction_is_whole_as_far_as_it_is_told_to_begin() -> None:
    """Between two edges of a view only some of what is known joins."""
    inverse, target, known = beside(1.05)
    target[:, 24:32] = 1.3  # something narrow stands at the rim
    without, begun = (hung(inverse, target, known, 8.0, begins=b)[24, 33] for b in (None, known))
    assert begun - 1.0 == pytest.approx(0.05 * np.exp(-2 / 8), abs=0.01)
    assert without - 1.0 < 0.6 * (begun - 1.0)


@pytest.mark.parametrize("on_scale", [False, True])
def test_a_prediction_beyond_all_that_is_read_is_held_near_it(on_scale: bool) -> None:
    disparity = readings()  # 1 to 1.8
    predicted = disparity.copy()
    disparity[:12, :24], predicted[:6, :24], predicted[6:12, :24] = 0.0, 1e-6, 1e3
    scene = make_scene(np.zeros((48, 64, 3), np.uint8), disparity, predicted, on_scale)
    assert scene is not None
    assert scene.predicted is not None
    assert scene.predicted.min() > 0.4
    assert scene.predicted.max() < 4.0


def test_readings_count_as_they_are_weighed() -> None:
    """Of two that contradict each other beside one another the one that weighs more is followed."""
    predicted = np.ones((48, 64), np.float32)
    disparity = predicted.copy()
    disparity[::2] = 1.04
    for upper in (1.0, 0.0):
        weights = np.full(predicted.shape, 1.0 - upper, np.float32)
        weights[::2] = upper
        found = bent(predicted, disparity, weights)
        np.testing.assert_allclose(found[8:-8, 8:-8], 1.0 + 0.04 * upper, atol=0.004)
    np.testing.assert_allclose(bent(predicted, disparity)[8:-8, 8:-8], 1.02, atol=0.004)


def test_agreement_is_the_share_of_the_readings_that_lie_near() -> None:
    predicted = np.ones((4, 5), np.float32)
    found = np.zeros_like(predicted)
    found[0, :4] = 1.0, 1.08, 0.92, 1.3
    assert agreement(found, predicted) == 0.75
    assert agreement(np.zeros_like(predicted), predicted) == 0.0
