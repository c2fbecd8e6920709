"""EngineNetwork against FastNetwork, with graphs that torch itself computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.graphs import NetworkGraphs
from dkt_ros.model.compiled.manifest import (
    DECODER_FIRST,
    DECODER_FOLLOWING,
    EMBED_RGB,
    ENCODER_FIRST,
    ENCODER_FOLLOWING,
    GraphRunner,
    GraphSpec,
    Manifest,
    TensorSpec,
    cache_name,
    step_name,
    window_lengths,
)
from dkt_ros.model.compiled.network import Constants, EngineNetwork, read_constants, write_constants
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import sigmas, timesteps
from dkt_ros.model.windows import exact_windows, live_windows
from dkt_ros.predict.clip import PredictOptions, predict_disparity
from dkt_ros.predict.stream import LiveDisparity, LivePredictor

SIZE = (32, 48)
STEPS = 2
LIVE = LiveOptions(window=3, new=2, steps=STEPS, publish="all", scene_cut=None)
EXACT = PredictOptions(steps=STEPS, window=3, overlap=1)
FRAMES = 13


class Graphs:
    """Runners over torch functions, and the specs of what they take and give."""

    def __init__(self) -> None:
        self.specs: list[GraphSpec] = []
        self.runners: dict[str, GraphRunner] = {}

    def add(
        self, name: str, names: Sequence[str], result: str, function: Callable[..., Any], *args: Any
    ) -> list[Tensor]:
        """function(*args) -> result, or result and caches."""

        def flat(*arguments: Tensor) -> list[Tensor]:
            given = arguments[: len(names)]
            caches = (tuple(arguments[len(names) :]),) if len(arguments) > len(names) else ()
            outputs = function(*given, *caches)
            return [outputs] if isinstance(outputs, Tensor) else [outputs[0], *outputs[1]]

        outputs = flat(*args)
        inputs = [*names, *(cache_name(i) for i in range(len(args) - len(names)))]
        given = [result, *(cache_name(i, new=True) for i in range(len(outputs) - 1))]
        self.specs.append(GraphSpec(name, "", None, specs(inputs, args), specs(given, outputs)))

        def run(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            assert list(tensors) == inputs
            return dict(zip(given, flat(*tensors.values()), strict=True))

        self.runners[name] = run
        return outputs


def specs(names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(t.shape), str(t.dtype).removeprefix("torch."))
        for name, t in zip(names, tensors, strict=True)
    )


@pytest.fixture(scope="module")
def engine(tiny_network: DktNetwork) -> EngineNetwork:
    fast, graphs = FastNetwork(tiny_network), Graphs()
    height, width = SIZE
    transformer = fast.transformer
    levels = timesteps(sigmas(STEPS, tiny_network.info.sigma_shift)).tolist()
    windows = window_lengths((*live_windows(LIVE), *exact_windows([FRAMES], 3, 1)))
    with torch.inference_mode():
        images = torch.zeros(1, 3, 5, height, width)
        latent, *seen = graphs.add(
            ENCODER_FIRST, ["images"], "latents", fast.encoder.first, images[:, :, :1]
        )
        graphs.add(
            ENCODER_FOLLOWING,
            ["images"],
            "latents",
            fast.encoder.following,
            images[:, :, 1:],
            *seen,
        )
        _, *shown = graphs.add(DECODER_FIRST, ["latents"], "images", fast.decoder.first, latent)
        graphs.add(DECODER_FOLLOWING, ["latents"], "images", fast.decoder.following, latent, *shown)
        [token] = graphs.add(EMBED_RGB, ["latents"], "tokens", fast.embed_rgb, latent)
        traced = NetworkGraphs(tiny_network, SIZE)
        for frames in windows:
            step = traced.step(frames)
            graphs.add(
                step_name(frames),
                step.inputs,
                "velocity",
                lambda *inputs, run=step.module: run(*inputs)[0],
                torch.cat([latent] * frames, dim=2),
                torch.cat([token] * frames, dim=2),
                *transformer.modulations(levels[0]),
                *traced.rope(frames),
            )
        modulations = {level: transformer.modulations(level) for level in levels}
        constants = Constants(modulations, *traced.rope(max(windows)))
    manifest = Manifest(
        system=None,
        checkpoint="",
        info=tiny_network.info,
        size=SIZE,
        windows=windows,
        precision="fp32",
        steps=STEPS,
        latent_channels=16,
        spatial_ratio=8,
        patch=(1, 2, 2),
        head_dim=transformer.head_dim,
        graphs=tuple(graphs.specs),
    )
    return EngineNetwork(manifest, graphs.runners, constants, torch.device("cpu"))


def video(frames: int = FRAMES, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, *size, 3), np.uint8)


def push_all(live: LivePredictor, frames: np.ndarray) -> list[LiveDisparity | None]:
    return [live.push(frame) for frame in frames]


def test_live(engine: EngineNetwork, tiny_fast: FastNetwork) -> None:
    ours = push_all(LivePredictor(engine, LIVE), video())
    theirs = push_all(LivePredictor(tiny_fast, LIVE), video())
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine is not None
        assert reference is not None
        np.testing.assert_allclose(mine.disparity, reference.disparity, atol=1e-5)


def test_exact(engine: EngineNetwork, tiny_fast: FastNetwork) -> None:
    ours = predict_disparity(engine, video(), EXACT)
    np.testing.assert_allclose(ours, predict_disparity(tiny_fast, video(), EXACT), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        (
            LiveOptions(4, 2, STEPS, scene_cut=None),
            SIZE,
            "no graph for windows of 4 .*only of 1, 2",
        ),
        (LiveOptions(3, 2, 3), SIZE, "no constants for timestep 909.*2 steps"),
        (LIVE, (48, 64), "takes images of 1x3x1x32x48, got 1x3x1x48x64"),
    ],
)
def test_what_it_was_not_built_for_is_named(
    engine: EngineNetwork, options: LiveOptions, size: tuple[int, int], says: str
) -> None:
    live = LivePredictor(engine, options)
    with pytest.raises(DktError, match=says):
        push_all(live, video(17, size))


def test_the_camera_may_be_of_another_size(engine: EngineNetwork) -> None:
    result = LivePredictor(engine, LiveOptions(3, 2, STEPS, size=SIZE)).push(video(1, (50, 60))[0])
    assert result is not None
    assert result.disparity.shape == (50, 60)


MANIFEST = Manifest(
    system=None,
    checkpoint="",
    info=CheckpointInfo(name="tiny"),
    size=(32, 48),
    windows=(1,),
    precision="fp32",
    steps=3,
    latent_channels=16,
    spatial_ratio=8,
    patch=(1, 2, 2),
    head_dim=12,
    graphs=(),
)


@pytest.fixture
def graphs(tiny_network: DktNetwork) -> NetworkGraphs:
    return NetworkGraphs(tiny_network, SIZE)


def test_constants_come_back(graphs: NetworkGraphs, tmp_path: Path) -> None:
    write_constants(tmp_path, graphs, 3, (1, 4), 5.0)
    constants = read_constants(tmp_path, MANIFEST)
    modulations = constants.modulations
    # 1000 s with s = 5 u / (1 + 4 u) at u = 1, 2/3, 1/3.
    assert list(modulations) == pytest.approx([1000.0, 1e4 / 11, 5e3 / 7])
    for timestep, found in modulations.items():
        for ours, theirs in zip(found, graphs.transformer.modulations(timestep), strict=True):
            assert torch.equal(ours, theirs)
    cos, sin = graphs.rope(2)  # of a shorter window
    assert torch.equal(constants.cos[:2], cos)
    assert torch.equal(constants.sin[:2], sin)


def test_constants_that_are_missing_damaged_or_of_other_steps(
    graphs: NetworkGraphs, tmp_path: Path
) -> None:
    with pytest.raises(DktError, match="dkt engine build"):
        read_constants(tmp_path, MANIFEST)
    write_constants(tmp_path, graphs, 3, (1,), 5.0)
    with pytest.raises(DktError, match=r"holds 3 timesteps, engine\.json says 5"):
        read_constants(tmp_path, replace(MANIFEST, steps=5))
    file = tmp_path / MANIFEST.constants
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DktError, match="cannot be read"):
        read_constants(tmp_path, MANIFEST)
