"""One engine of the tiny network, exported once: exporting takes longer than all that is tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkt_ros.model.backends import engine_network
from dkt_ros.model.compiled.build import export_engine
from dkt_ros.model.compiled.manifest import (
    EngineRequest,
    Manifest,
    checkpoint_fingerprint,
    window_lengths,
)
from dkt_ros.model.compiled.network import EngineNetwork
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.windows import exact_windows, live_windows

ENGINE_SIZE = (32, 48)
ENGINE_LIVE = LiveOptions(window=2, new=1, steps=2)
EXACT_FRAMES = 9


@pytest.fixture(scope="session")
def tiny_request(tiny_checkpoint: Path) -> EngineRequest:
    """For ENGINE_LIVE, and for the exact sampler on EXACT_FRAMES in windows of two."""
    windows = (*live_windows(ENGINE_LIVE), *exact_windows([EXACT_FRAMES], window=2, overlap=1))
    return EngineRequest(
        checkpoint=tiny_checkpoint,
        fingerprint=checkpoint_fingerprint(tiny_checkpoint),
        size=ENGINE_SIZE,
        windows=window_lengths(windows),
        steps=2,
        precision="fp32",
    )


@pytest.fixture(scope="session")
def tiny_engine(tiny_request: EngineRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of graphs in float32 that tests read and never change."""
    pytest.importorskip("onnxscript", reason="graphs are exported with requirements/onnx.txt")
    folder = tmp_path_factory.mktemp("engine")
    export_engine(tiny_request, folder)
    return folder


@pytest.fixture(scope="session")
def engine(tiny_engine: Path) -> EngineNetwork:
    """That folder's network, by onnxruntime."""
    pytest.importorskip("onnxruntime")
    manifest = Manifest.read(tiny_engine)
    return engine_network(tiny_engine, manifest, manifest.windows, None)
