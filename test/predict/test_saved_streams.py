"""What predictors remember of a stream, saved: no network is in it, and another one goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.tiny_checkpoint import make_tiny_checkpoint
from torch import Tensor

from dkt_ros import snapshot
from dkt_ros.frames import Frame, frames_of
from dkt_ros.model.cuda_graphs import RecordedFunction, with_tensors
from dkt_ros.predict.load import load_predictor
from dkt_ros.predict.normals import WithNormals
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Prediction, Predictor

BEFORE, AFTER = 6, 5


def frames(count: int) -> list[Frame]:
    y, x = np.mgrid[:32, :48]
    first = np.stack([5 * x, 7 * y, 255 - 3 * x - 2 * y], axis=-1).astype(np.uint8)
    return list(frames_of((np.roll(first, 4 * i, axis=1), None) for i in range(count)))


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> PredictorOptions:
    depth = make_tiny_checkpoint(tmp_path_factory.mktemp("depth"))
    return PredictorOptions(
        checkpoint=depth,
        device="cpu",
        cpu_threads=1,
        steps=2,
        live_preset="fast",
        live_publish="all",
        live_scene_cut=1.0,
    )


@pytest.fixture(scope="module")
def normals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_checkpoint(tmp_path_factory.mktemp("normals"), seed=1, task="normal")


Load = Callable[[], Predictor]


class Replay:
    """As a CUDA graph, which no pickle holds."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._call = lambda tensors: function(*with_tensors(arguments, iter(tensors)))

    def __call__(self, tensors: list[Tensor]) -> Any:
        return self._call(tensors)


@pytest.fixture(
    params=["exact", "live", "exact, with normals", "live, with normals", "live, recorded"]
)
def load(
    request: pytest.FixtureRequest,
    options: PredictorOptions,
    normals: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Load:
    mode, _, more = request.param.partition(", ")
    if more == "recorded":  # as on a GPU
        recorded = "dkt_ros.model.fast_network.accelerated"
        monkeypatch.setattr(recorded, lambda function, _: RecordedFunction(function, Replay))
    asked = replace(
        options, mode=mode, normals_checkpoint=normals if more == "with normals" else ""
    )
    return lambda: load_predictor(asked)


def test_another_one_goes_on_to_the_same_bits_by_its_own_network(load: Load) -> None:
    first, second = load(), load()
    shown = frames(BEFORE + AFTER)
    for frame in shown[:BEFORE]:
        first.push(frame)
    saved = snapshot.save({"predictor": first})
    assert saved is not None
    for part in (b"diffusers", b"FastNetwork", b"torch.nn"):
        assert part not in saved, "a network is in it"
    own = networks_of(second)
    snapshot.load({"predictor": second}, saved)
    assert [id(one) for one in networks_of(second)] == [id(one) for one in own]
    for frame in shown[BEFORE:]:
        assert said(second.push(frame)) == said(first.push(frame))


def networks_of(predictor: Predictor) -> list[object]:
    if isinstance(predictor, WithNormals):
        return networks_of(predictor._depth) + networks_of(predictor._normals)
    return [predictor.network]  # type: ignore[attr-defined]


def said(answer: Prediction | None) -> list[bytes]:
    assert answer is not None
    arrays = (answer.disparity, answer.normals)
    return [np.asarray(one).tobytes() for one in arrays if one is not None]
