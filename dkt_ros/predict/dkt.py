"""What the exact and the live predictor of a DKT checkpoint share: network, sizes, raw depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dkt_ros.arrays import Array
from dkt_ros.frames import FlushReason
from dkt_ros.model.canvas import Canvas, auto_size
from dkt_ros.model.condition import DisparityRange, pictures
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.sampler import initial_noise
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.predict.options import NATIVE, PredictorOptions
from dkt_ros.predict.predictor import Prediction, Predictor, PredictorInfo


def raw_pictures(
    readings: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    limits: DisparityRange,
    device: torch.device,
) -> Tensor:
    """Readings of a chunk's frames, (h, w) each, as the VAE takes them: (1, 3, T, h, w)."""
    return torch.from_numpy(pictures(np.asarray(readings, np.float32), limits))[None].to(device)


def conditions(info: CheckpointInfo, rgb_latents: Tensor, raw: Tensor | None) -> Tensor:
    """What `embed_rgb` takes: RGB latents, and of a network that sees depth those of the raw depth.

    raw: None where a clip has no readings; their latents are zero, as in training.
    """
    if not info.sees_depth:
        return rgb_latents
    raw = torch.zeros_like(rgb_latents) if raw is None else raw
    return torch.cat([rgb_latents, raw], dim=1)


def beginning(info: CheckpointInfo, raw: Tensor | None) -> Tensor | None:
    """What a clip's flow begins at in place of noise: the latents of its raw depth, or None."""
    return raw if info.begins_at_raw_depth else None


def beginning_or_noise(
    info: CheckpointInfo, raw: Tensor | None, shape: tuple[int, ...], seed: int
) -> Tensor:
    """What a whole clip's flow begins at, (1, Z, T, h, w)."""
    begin = beginning(info, raw)
    return initial_noise(shape, seed) if begin is None else begin


def answered(
    rgb: Array,
    disparity: Array,
    limits: DisparityRange | None,
    frames: int,
    restarted: FlushReason | None = None,
) -> Prediction:
    """A prediction from disparity in [0, 1]: in 1/m where readings told the range it is in.

    As disparity, not as depth, so that scale and shift are still fitted: about 1 and 0, they tell
    how far the network follows the readings, and take out what the VAE is off by (on dkt-nano a
    third of the error).
    """
    shown = limits is not None
    if limits is not None:
        disparity = limits.disparity(disparity)
    return Prediction(rgb, disparity, frames=frames, on_scale=shown, restarted=restarted)


class DktPredictor(Predictor):
    """A DKT network at the working size."""

    def __init__(
        self,
        network: StreamingNetwork,
        options: PredictorOptions | None = None,
        info: PredictorInfo | None = None,
    ) -> None:
        """info: what load.py knows of where the network came from."""
        self.options = options or PredictorOptions()
        known = network.info
        super().__init__(
            info or PredictorInfo(known.name, origin=known.origin, device=str(network.device))
        )
        self.network = network

    def beside(self) -> DktPredictor:
        """See Predictor.beside."""
        return type(self)(self.network, self.options, self.info)

    @property
    def natural_size(self) -> tuple[int, int]:
        """(height, width) that the checkpoint was trained at."""
        return self.network.info.height, self.network.info.width

    def requested_size(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) asked for, for pictures of this size; None: the pictures' own."""
        if self.options.inference_size == NATIVE:
            return None
        given = self.options.size or self.network.fixed_size
        if given:
            return given
        return auto_size((height, width), self.natural_size, self.network.size_multiple)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the network computes for such a camera: rounded, not portrait."""
        return self.canvas(height, width).size

    def canvas(self, height: int, width: int) -> Canvas:
        """The network's view of pictures of this size."""
        requested = self.requested_size(height, width)
        return Canvas((height, width), requested, self.network.size_multiple)

    @property
    def sees_depth(self) -> bool:
        """Whether the checkpoint is shown raw depth."""
        return self.network.info.sees_depth

    @property
    def on_gpu(self) -> bool:
        """Whether every new shape costs compilations and recordings."""
        return torch.device(self.network.device).type == "cuda"
