"""A stream whose network is on a device: the same disparity, and each frame uploaded once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures.transfers import DEVICE, PretendDevice, moved
from torch import Tensor

from dkt_ros.arrays import to_host
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.model.streaming_vae import Stream
from dkt_ros.predict.clip import PredictOptions, predict_disparity
from dkt_ros.predict.stream import LiveDisparity, LivePredictor

CAMERA = (40, 60)
FRAME_BYTES = 3 * CAMERA[0] * CAMERA[1]


class NetworkOnDevice:
    """A network whose tensors must lie on the pretended device."""

    device = DEVICE
    fixed_size = None

    def __init__(self, fast: StreamingNetwork) -> None:
        self._fast = fast
        self.info: CheckpointInfo = fast.info
        self.latent_channels = fast.latent_channels
        self.spatial_ratio = fast.spatial_ratio
        self.size_multiple = fast.size_multiple

    def encoder_stream(self) -> Stream:
        return self._stream(self._fast.encoder_stream())

    def decoder_stream(self) -> Stream:
        return self._stream(self._fast.decoder_stream())

    def _stream(self, stream: Stream) -> Stream:
        return Stream(moved(stream._first), moved(stream._following))

    def embed_rgb(self, latents: Tensor) -> Tensor:
        result: Tensor = moved(self._fast.embed_rgb)(latents)
        return result

    def velocity(
        self, noisy: Tensor, rgb_latents: Tensor, timestep: Tensor | float, keep: int | None = None
    ) -> Tensor:
        result: Tensor = moved(self._fast.velocity)(noisy, rgb_latents, float(timestep), keep)
        return result


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (13, *CAMERA, 3), np.uint8)


def streamed(live: LivePredictor, video: np.ndarray) -> list[LiveDisparity | None]:
    return [live.push(frame) for frame in video]


@pytest.mark.parametrize("publish", ["latest", "all"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_frame_is_uploaded_once_and_its_disparity_stays(
    tiny_fast: FastNetwork, video: np.ndarray, publish: str, turned: bool
) -> None:
    if turned:
        video = np.rot90(video, axes=(1, 2))
    options = LiveOptions(2, 1, steps=1, publish=publish, size=(32, 48), scene_cut=None)
    expected = streamed(LivePredictor(tiny_fast, options), video)
    with PretendDevice() as device:
        network = NetworkOnDevice(tiny_fast)
        live = LivePredictor(network, options, keep_on_device=True)
        results = streamed(live, video)
        crossings = device.crossings
        assert not crossings.downloads
        assert not crossings.reads
        for result, theirs, frame in zip(results, expected, video, strict=True):
            assert (result is None) == (theirs is None)
            if result is None or theirs is None:
                continue
            assert result.disparity.device.type == DEVICE.type
            np.testing.assert_allclose(to_host(result.disparity), theirs.disparity, rtol=1e-5)
            np.testing.assert_array_equal(to_host(result.rgb), frame)
            np.testing.assert_array_equal(theirs.rgb, frame)
    latents = 1 + (len(video) - 1) // 4
    noise = 4 * network.latent_channels * (32 // 8) * (48 // 8)
    assert sorted(crossings.uploads) == sorted([FRAME_BYTES] * len(video) + [noise] * latents)


def test_left_on_the_device_only_where_asked_for(tiny_fast: FastNetwork, video: np.ndarray) -> None:
    options = LiveOptions(2, 1, steps=1, size=(32, 48), scene_cut=None)
    with PretendDevice() as device:
        result = LivePredictor(NetworkOnDevice(tiny_fast), options).push(video[0])
    assert result is not None
    assert isinstance(result.disparity, np.ndarray)
    assert device.crossings.downloads == [4 * CAMERA[0] * CAMERA[1]]
    on_cpu = LivePredictor(tiny_fast, options, keep_on_device=True).push(video[0])
    assert on_cpu is not None
    np.testing.assert_allclose(result.disparity, on_cpu.disparity, rtol=1e-5)


def test_a_clip_is_uploaded_as_the_camera_took_it(
    tiny_fast: FastNetwork, video: np.ndarray
) -> None:
    options = PredictOptions(steps=1, size=(32, 48))
    clip = video[:5]
    with PretendDevice() as device:
        disparity = predict_disparity(NetworkOnDevice(tiny_fast), clip, options)
    np.testing.assert_allclose(disparity, predict_disparity(tiny_fast, clip, options), rtol=1e-5)
    assert device.crossings.uploads[:2] == [FRAME_BYTES, 4 * FRAME_BYTES]
    assert device.crossings.downloads == [4 * FRAME_BYTES // 3, 16 * FRAME_BYTES // 3]


def test_noise_is_drawn_once_for_each_latent(
    tiny_fast: FastNetwork, video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def draw(seed: int, index: int, shape: tuple[int, int, int]) -> Tensor:
        drawn.append(index)
        return torch.zeros(1, shape[0], 1, *shape[1:])

    monkeypatch.setattr("dkt_ros.model.live_sampler.frame_noise", draw)
    live = LivePredictor(
        tiny_fast, LiveOptions(2, 1, steps=1, publish="all", size=(32, 48), scene_cut=None)
    )
    streamed(live, video)
    assert drawn == [0, 1, 2, 3]
