"""From a checkpoint and options to the methods that `dkt eval` measures.

Knows how the network's two samplers are called. Knows nothing of data sets or errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dkt_ros.errors import DktError
from dkt_ros.estimator import StreamingPredictor
from dkt_ros.evaluation.evaluate import Methods
from dkt_ros.evaluation.models import ALIGNMENTS, DepthModel, ExactModel, LiveModel
from dkt_ros.model.arguments import parse_size
from dkt_ros.model.canvas import auto_size
from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.live import LivePredictor
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.predictor import PredictOptions, predict_disparity, predict_normals


@dataclass(frozen=True)
class NetworkOptions:
    """The network options of `dkt eval`, named as there.

    checkpoint: a folder, None for the embedded one. mode: "exact", "live" or "both". align: one of
    ALIGNMENTS or "both". preset, publish: of the live sampler. steps: None is the checkpoint's.
    size: "auto", "native" or HxW.
    """

    checkpoint: Path | None = None
    mode: str = "exact"
    align: str = "both"
    preset: str = "balanced"
    publish: str = "latest"
    steps: int | None = None
    size: str = "auto"
    seed: int = 1
    device: str = "cpu"
    dtype: str = "float32"


def load_methods(
    options: NetworkOptions, with_normals: bool = True
) -> tuple[CheckpointInfo, Methods]:
    """Loads the checkpoint. Raises DktError naming the option that does not fit."""
    # So that what is wrong is found before anything runs.
    working_size(options.size, (16, 16), (16, 16), 16)
    PredictOptions(options.steps, seed=options.seed)
    network = load_checkpoint(
        options.checkpoint or default_checkpoint(), options.device, options.dtype
    )
    if network.info.task == "normal":
        if options.mode != "exact":
            raise DktError(
                f"{network.info.name} predicts normals, for which there is no live sampler; take "
                "--mode exact"
            )
        if not with_normals:
            raise DktError(f"{network.info.name} predicts normals; --no-normals leaves nothing")
        return network.info, Methods(predict_normals=_normals(network, options))
    alignments = ALIGNMENTS if options.align == "both" else (options.align,)
    models: list[DepthModel] = []
    if options.mode in ("exact", "both"):
        models.append(exact_model(network, options))
    if options.mode in ("live", "both"):
        models.append(live_model(network, options))
    return network.info, Methods(models, alignments, with_normals=with_normals)


def exact_model(network: DktNetwork, options: NetworkOptions) -> ExactModel:
    """The exact sampler at the size that the options say."""

    def predict(rgb: np.ndarray, /) -> np.ndarray:
        return predict_disparity(network, rgb, _predict_options(network, options, rgb))

    return ExactModel(predict, network.info.buffer_frames)


def live_model(network: DktNetwork, options: NetworkOptions) -> LiveModel:
    """The live sampler with the preset and the size that the options say."""
    chosen = LiveOptions.preset(
        options.preset, steps=options.steps, publish=options.publish, seed=options.seed
    )
    return live_model_of(network, chosen, options.size)


def live_model_of(network: DktNetwork, live: LiveOptions, size: str = "auto") -> LiveModel:
    """The live sampler with options of its own, but for the size."""

    def stream(native: tuple[int, int]) -> StreamingPredictor:
        return LivePredictor(network, replace(live, size=_size(network, size, native)))

    return LiveModel(stream)


def working_size(
    text: str, native: tuple[int, int], known: tuple[int, int], multiple: int
) -> tuple[int, int] | None:
    """(height, width) for --size; None is native. auto is the node's: see canvas.auto_size."""
    if text == "native":
        return None
    if text == "auto":
        return auto_size(native, known, multiple)
    size = parse_size(text.lower())
    if size is None:
        raise DktError(f"--size is {text!r}, expected auto, native or HxW such as 192x320")
    return size


def _size(network: DktNetwork, text: str, native: tuple[int, int]) -> tuple[int, int] | None:
    info = network.info
    return working_size(text, native, (info.height, info.width), network.size_multiple)


def _normals(network: DktNetwork, options: NetworkOptions) -> Callable[[np.ndarray], np.ndarray]:
    def predict(rgb: np.ndarray) -> np.ndarray:
        return predict_normals(network, rgb, _predict_options(network, options, rgb))

    return predict


def _predict_options(
    network: DktNetwork, options: NetworkOptions, rgb: np.ndarray
) -> PredictOptions:
    size = _size(network, options.size, (rgb.shape[1], rgb.shape[2]))
    return PredictOptions(options.steps, seed=options.seed, size=size)
