"""What an engine's network refuses, and the constants beside its graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.manifests import MANIFEST as BUILT

from dkt_ros import snapshot
from dkt_ros.errors import DktError
from dkt_ros.model.compiled.graphs import NetworkGraphs
from dkt_ros.model.compiled.network import EngineNetwork, read_constants, write_constants
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.network import DktNetwork
from dkt_ros.predict.stream import LivePredictor

SIZE = (32, 48)


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        (LiveOptions(3, 2, 2), SIZE, "no graph for windows of 3 .*only of 1, 2"),
        (LiveOptions(2, 1, 3), SIZE, "no constants for timestep 909.*2 steps"),
        (LiveOptions(2, 1, 2), (48, 64), "takes images of 1x3x1x32x48, got 1x3x1x48x64"),
    ],
)
def test_what_it_was_not_built_for_is_named(
    engine: EngineNetwork, options: LiveOptions, size: tuple[int, int], says: str
) -> None:
    live = LivePredictor(engine, options)
    with pytest.raises(DktError, match=says):
        list(map(live.push, np.zeros((17, *size, 3), np.uint8)))


def test_the_camera_may_be_of_another_size(engine: EngineNetwork) -> None:
    live = LivePredictor(engine, LiveOptions(2, 1, 2, size=SIZE))
    result = live.push(np.zeros((50, 60, 3), np.uint8))
    assert result is not None
    assert result.disparity.shape == (50, 60)


def test_a_stream_through_it_is_saved_without_it(engine: EngineNetwork) -> None:
    options = LiveOptions(2, 1, 2, scene_cut=None, publish="all", size=SIZE)
    first, second = (_Owner(LivePredictor(engine, options)) for _ in range(2))
    shown = np.random.default_rng(0).integers(0, 255, (11, *SIZE, 3), np.uint8)
    for rgb in shown[:6]:
        first.live.push(rgb)
    saved = snapshot.save({"owner": first})
    assert saved is not None
    assert b"EngineNetwork" not in saved
    snapshot.load({"owner": second}, saved)
    for rgb in shown[6:]:
        ours, theirs = second.live.push(rgb), first.live.push(rgb)
        assert ours is not None
        assert theirs is not None
        np.testing.assert_array_equal(ours.disparity, theirs.disparity)


class _Owner:
    LASTING = ("network",)

    def __init__(self, live: LivePredictor) -> None:
        self.network, self.live = live._network, live


MANIFEST = replace(
    BUILT, system=None, checkpoint="", windows=(1,), precision="fp32", steps=3, graphs=()
)


@pytest.fixture
def graphs(tiny_network: DktNetwork) -> NetworkGraphs:
    return NetworkGraphs(tiny_network, SIZE)


def test_constants_come_back(graphs: NetworkGraphs, tmp_path: Path) -> None:
    write_constants(tmp_path, graphs, 3, (1, 4), 3.0)
    constants = read_constants(tmp_path, MANIFEST)
    modulations = constants.modulations
    # 1000 s with s = 3 u / (1 + 2 u) at u = 1, 2/3, 1/3.
    assert list(modulations) == pytest.approx([1000.0, 6e3 / 7, 600.0])
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
