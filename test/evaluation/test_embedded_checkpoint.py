"""dkt-nano as it ships: small, deterministic, and better than filling holes on a held-out scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dkt_ros.datasets.registry import open_dataset
from dkt_ros.evaluation.evaluate import evaluate_video, summarise
from dkt_ros.evaluation.models import camera_frames
from dkt_ros.evaluation.networks import load_methods
from dkt_ros.evaluation.videos import Video, VideoReader
from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
from dkt_ros.predict.load import load_predictor
from dkt_ros.predict.options import PredictorOptions

LARGEST_BYTES = 15_000_000
HELDOUT = Path(__file__).resolve().parents[1] / "data" / "heldout"


@pytest.fixture(scope="module")
def video() -> Video:
    """One frame of a rendered scene of shapes and materials that training never saw."""
    (only,) = VideoReader(open_dataset(HELDOUT))
    return only


def predict(video: Video, steps: int = 0) -> np.ndarray:
    predictor = load_predictor(PredictorOptions(device="cpu", steps=steps))
    return predictor.video(camera_frames(video))


def test_it_is_small_and_computes_in_float32() -> None:
    network = load_checkpoint(default_checkpoint())
    files = [path for path in default_checkpoint().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES
    assert network.dtype.is_floating_point
    assert {p.dtype for p in network.vae.parameters()} == {network.dtype}
    assert str(network.dtype) == "torch.float32"
    assert (default_checkpoint() / "MODEL_CARD.md").is_file()


def test_it_is_deterministic_and_runs_at_any_step_count(video: Video) -> None:
    of_steps = {steps: predict(video, steps) for steps in (0, 1, 2, 5)}
    np.testing.assert_array_equal(of_steps[0], of_steps[1])  # its own number is 1
    for disparity in of_steps.values():
        assert disparity.shape == video.truth.shape
        assert np.isfinite(disparity).all()
        # Near is large: the foreground at the bottom before the background at the top.
        assert disparity[:, -20:].mean() > disparity[:, :20].mean() + 0.2


def test_glass_is_better_than_filling_holes(video: Video) -> None:
    names, methods = load_methods([PredictorOptions(device="cpu")])
    assert names == ["dkt-nano"]
    summary = summarise(evaluate_video(video, methods, (0.1, 10.0)))
    transparent = {name: regions["transparent"] for name, regions in summary.items()}
    for alignment in ("video", "online"):
        ours = transparent[f"dkt exact, {alignment}"]
        assert ours.coverage == 1.0
        for baseline in ("nearest fill", "plane", "Telea"):
            assert ours.rel < transparent[baseline].rel, (alignment, baseline)
