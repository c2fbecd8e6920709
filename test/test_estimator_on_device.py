"""Disparity on a device: the same depth as on the host, and what crosses between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.glass_scenes import (
    REAL_SCENES,
    GlassScene,
    read_real_scene,
    see_through,
    table_with_glass,
    with_holes,
    with_network_error,
    with_noise,
)
from fixtures.transfers import DEVICE, PretendDevice

from dkt_ros.alignment.aligner import Aligner, AlignmentState, align_depth
from dkt_ros.arrays import Array, to_host
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimator, EstimatorConfig
from dkt_ros.frames import Frame
from dkt_ros.fusion import weights
from dkt_ros.fusion.matcher import Matcher
from dkt_ros.fusion.network import Refiner
from dkt_ros.geometry import Intrinsics, backproject, known_points, remove_flying_pixels
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo

NETWORK = EstimatorConfig(depth="network")
TOLERANCE = 1e-5
"""Relative; on this machine's processor both paths even agree to the last bit."""
SIZE = (120, 160)
INTRINSICS = Intrinsics(140.0, 141.0, 80.2, 59.3, SIZE[1], SIZE[0])


def made_up(seed: int) -> GlassScene:
    scene = with_noise(see_through(table_with_glass(seed, SIZE), seed, 0.3), seed)
    return with_network_error(with_holes(scene, seed), seed, 0.01)


def uploaded(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(DEVICE)


def assert_same(ours: Array, expected: np.ndarray) -> None:
    np.testing.assert_allclose(to_host(ours), expected, rtol=TOLERANCE, equal_nan=True)


def compare(scene: GlassScene) -> None:
    """Alignment, depth, edges, points: on the device as on the host."""
    disparity, raw = (array.astype(np.float32) for array in (scene.disparity, scene.raw))
    height, width = disparity.shape
    intrinsics = Intrinsics(1.1 * width, 1.1 * width, width / 2, height / 2, width, height)
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    with PretendDevice():
        held = uploaded(disparity)
        expected = Aligner().update(disparity, raw)
        alignment = Aligner().update(held, raw)
        assert (alignment.state, alignment.inliers) == (expected.state, expected.inliers)
        assert alignment.scale == pytest.approx(expected.scale, rel=TOLERANCE)
        assert alignment.shift == pytest.approx(expected.shift, rel=TOLERANCE)
        depth, expected_depth = (
            align_depth(values, alignment, 0.1, 10.0) for values in (held, disparity)
        )
        assert_same(depth, expected_depth)
        depth, expected_depth = (
            remove_flying_pixels(values, 0.05) for values in (depth, expected_depth)
        )
        assert_same(depth, expected_depth)
        cloud, expected_cloud = (
            backproject(values, intrinsics) for values in (depth, expected_depth)
        )
        assert_same(cloud, expected_cloud)
        points = known_points(cloud, uploaded(rgb))
        for ours, theirs in zip(points, known_points(expected_cloud, rgb), strict=True):
            assert theirs is not None
            assert_same(ours, theirs)


@pytest.mark.parametrize("name", REAL_SCENES)
def test_what_a_realsense_saw(name: str, shared_folder: Path) -> None:
    """Its truth has holes, hence NaN among the disparities."""
    scene = read_real_scene(shared_folder / "cleargrasp_d435", name)
    compare(scene)
    compare(with_network_error(scene, 0, 0.03))


@pytest.mark.parametrize("seed", range(3))
def test_made_up_tables(seed: int) -> None:
    compare(made_up(seed))


def test_few_pixels_with_depth() -> None:
    """Then all of them are looked at, and only they are brought over."""
    scene = made_up(0)
    raw = np.full(SIZE, np.nan, np.float32)
    raw[50:65, 60:90] = 1 / (2 * scene.disparity[50:65, 60:90] + 0.3)
    disparity = scene.disparity.astype(np.float32)
    disparity[55, 70] = np.nan
    with PretendDevice() as device:
        held = uploaded(disparity)
        Aligner().update(held, raw)  # now the grid is on the device
        before = len(device.crossings.downloads), len(device.crossings.uploads)
        alignment = Aligner().update(held, raw)
    assert alignment == Aligner().update(disparity, raw)
    assert alignment.state is AlignmentState.OK
    assert device.crossings.downloads[before[0] :][1:] == [15 * 30 * 4]
    assert device.crossings.uploads[before[1] :] == [15 * 30 * 8]


class Stream(Predictor):
    """Knows each frame's disparity from the start, and holds it where it is told to."""

    def __init__(self, disparities: list[np.ndarray], on_device: bool) -> None:
        super().__init__(PredictorInfo("known"))
        self.disparities, self.on_device = disparities, on_device
        self.pushed = 0

    def push(self, frame: Frame) -> Prediction:
        disparity = self.disparities[self.pushed]
        self.pushed += 1
        if self.on_device:
            return Prediction(uploaded(frame.rgb), uploaded(disparity))
        return Prediction(frame.rgb, disparity)


def frames() -> tuple[list[np.ndarray], list[Frame]]:
    """OK, no depth, depth of another scale that must last, noise, OK in the dark."""
    scene = made_up(1)
    disparity = scene.disparity.astype(np.float32)
    raw = scene.raw.astype(np.float32)
    noise = np.random.default_rng(0).permutation(raw.ravel()).reshape(SIZE)
    raws = [None, raw, None, raw * np.float32(1.01), noise, raw]
    grain = np.random.default_rng(1).integers(0, 9, (*SIZE, 3), np.uint8)
    rgb = grain + np.linspace(0, 240, SIZE[1]).astype(np.uint8)[:, None]
    dark = rgb // np.uint8(4)  # which the network gets brightened
    return [disparity] * len(raws), [
        Frame(dark if i == 5 else rgb, depth, INTRINSICS, i * 10**8, "camera")
        for i, depth in enumerate(raws)
    ]


def test_states_and_depth_are_the_host_s() -> None:
    disparities, pushed = frames()
    host, held = (DepthEstimator(Stream(disparities, place), NETWORK) for place in (False, True))
    states = []
    for frame in pushed:
        expected = host.push(frame)
        with PretendDevice():
            estimate = held.push(frame)
            assert expected is not None
            assert estimate is not None
            pixels = estimate.pixels
            assert_same(pixels.depth, expected.depth)
            assert_same(pixels.rgb, frame.rgb)
        assert_same(estimate.depth, expected.depth)
        assert isinstance(estimate.depth, np.ndarray)
        assert expected.pixels.depth is expected.depth
        assert expected.pixels.rgb is frame.rgb
        ours, theirs = estimate.alignment, expected.alignment
        assert (ours.state, ours.reason) == (theirs.state, theirs.reason)
        states.append(ours.state)
    ok, held_state, unaligned = (
        AlignmentState.OK,
        AlignmentState.HELD,
        AlignmentState.UNALIGNED,
    )
    assert states == [unaligned, ok, held_state, ok, held_state, ok]


def test_the_fit_s_samples_and_the_depth_are_all_that_comes_to_the_host() -> None:
    disparities, pushed = frames()
    with PretendDevice() as device:
        stream = Stream(disparities, True)
        estimator = DepthEstimator(stream, NETWORK)
        for frame in pushed[:2]:
            estimator.push(frame)
        crossings = device.crossings
        crossings.uploads.clear()
        crossings.downloads.clear()
        crossings.reads.clear()
        estimator.push(pushed[3])
    height, width = SIZE
    pixels = height * width
    assert crossings.uploads == [3 * pixels, 4 * pixels]  # the stream's own
    samples, depth = crossings.downloads
    assert samples <= 4 * 2 * estimator.config.alignment.max_samples * 1.02
    assert depth == 4 * pixels
    assert crossings.reads == ["aten._local_scalar_dense.default"]  # is all of it finite?


def test_disparity_that_is_not_finite_is_refused_there_too() -> None:
    disparities, pushed = frames()
    broken = disparities[0].copy()
    broken[3, 4] = np.nan
    with PretendDevice(), pytest.raises(DktError, match="not finite"):
        DepthEstimator(Stream([broken], True), NETWORK).push(pushed[0])


def test_a_device_s_disparity_of_another_size_is_refused() -> None:
    disparities, pushed = frames()
    with PretendDevice(), pytest.raises(DktError, match=r"\(60, 160\)"):
        DepthEstimator(Stream([disparities[0][::2]], True), NETWORK).push(pushed[0])


@pytest.mark.parametrize(
    ("network", "refiner"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("an NPU", "cpu")]
)
def test_fusion_is_on_the_network_s_gpu(
    network: str, refiner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Predictor):
        def push(self, frame: Frame) -> Prediction | None:
            del frame
            return None

    asked: list[torch.device] = []

    def load(folder: Path, device: torch.device) -> tuple[Refiner, dict[str, Any]]:
        del folder
        asked.append(device)
        return Refiner(), {}

    def load_other(folder: Path, device: torch.device) -> Matcher:
        del folder
        asked.append(device)
        return Matcher()

    monkeypatch.setattr(weights, "load_refiner", load)
    monkeypatch.setattr(weights, "load_matcher", load_other)
    shared = weights._shared_refiner, weights._shared_matcher
    try:
        for one in shared:
            one.cache_clear()
        DepthEstimator(Silent(PredictorInfo("silent", device=network)))
    finally:
        for one in shared:
            one.cache_clear()
    assert asked == 3 * [torch.device(refiner)]  # a refiner for either kind of network, the matcher
