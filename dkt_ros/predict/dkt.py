"""What the exact and the live predictor of a DKT checkpoint share: the network and its sizes."""

from __future__ import annotations

import torch

from dkt_ros.model.canvas import Canvas, auto_size, working_size
from dkt_ros.model.streaming_network import StreamingNetwork
from dkt_ros.predict.options import NATIVE, PredictorOptions
from dkt_ros.predict.predictor import Predictor, PredictorInfo


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
        requested = self.requested_size(height, width)
        return working_size((height, width), requested, self.network.size_multiple)

    def canvas(self, height: int, width: int) -> Canvas:
        """The network's view of pictures of this size."""
        requested = self.requested_size(height, width)
        return Canvas((height, width), requested, self.network.size_multiple)

    @property
    def on_gpu(self) -> bool:
        """Whether every new shape costs compilations and recordings."""
        return torch.device(self.network.device).type == "cuda"
