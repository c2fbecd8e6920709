"""The network as the estimator wants it: clip by clip or frame by frame, able to stop midway.

Knows the working size for a camera's. Knows nothing of how the network was loaded, or of topics.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dkt_ros.ros.params.parameters import NodeParameters, parse_inference_size
from dkt_ros.ros.settings import live_options
from dkt_ros.ros.worker import InferenceCancelledError

if TYPE_CHECKING:
    from dkt_ros.model.live import LiveDisparity, LivePredictor
    from dkt_ros.model.network import DktNetwork
    from dkt_ros.model.streaming_network import StreamingNetwork


class _Stoppable:
    """The network at the working size, able to stop midway."""

    def __init__(self, network: DktNetwork | StreamingNetwork, parameters: NodeParameters) -> None:
        from dkt_ros.model.fast_network import fast_network

        self._network = fast_network(network)
        self._steps = parameters.steps or None
        self._seed = parameters.seed
        self._native = parameters.inference_size == "native"
        self._size = parse_inference_size(parameters.inference_size)
        self._stop = _Stop()

    def working_size(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) the network works at for a camera of this size; None: the camera's."""
        from dkt_ros.model.canvas import auto_size

        if self._native:
            return None
        if self._size or self._network.fixed_size:
            return self._size or self._network.fixed_size
        info = self._network.info
        known = info.height, info.width
        return auto_size((height, width), known, self._network.size_multiple)

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the network computes for such a camera: rounded, not portrait."""
        from dkt_ros.model.canvas import working_size

        requested = self.working_size(height, width)
        return working_size((height, width), requested, self._network.size_multiple)

    def cancel(self) -> None:
        """Has a running and every later prediction raise InferenceCancelledError, until allow()."""
        self._stop.asked.set()

    def allow(self) -> None:
        """Lets predictions run again."""
        self._stop.asked.clear()


class _Stop:
    """What the network asks between parts of its work; apart, lest it hold who holds it."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def check(self, stage: str, done: int, total: int) -> None:
        if self.asked.is_set():
            raise InferenceCancelledError(f"{stage} {done}/{total}")


class NetworkPredictor(_Stoppable):
    """Mode exact: a clip in, the disparity of its frames out, as the estimator wants it."""

    def __call__(self, rgb: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Video (T, H, W, 3) -> relative disparity (T, H, W). Raises InferenceCancelledError."""
        from dkt_ros.model.predictor import PredictOptions, predict_disparity

        options = PredictOptions(
            steps=self._steps, seed=self._seed, size=self.working_size(rgb.shape[1], rgb.shape[2])
        )
        return predict_disparity(self._network, rgb, options, self._stop.check)


class StreamPredictor(_Stoppable):
    """Mode live: frame by frame, as the estimator wants it."""

    def __init__(self, network: DktNetwork | StreamingNetwork, parameters: NodeParameters) -> None:
        super().__init__(network, parameters)
        self.options = live_options(parameters)
        self._shape: tuple[int, ...] = ()
        self._live: LivePredictor | None = None

    def push(self, rgb: npt.NDArray[np.uint8], /) -> LiveDisparity | None:
        """The next frame (H, W, 3); see LivePredictor. Raises InferenceCancelledError."""
        if self._live is None or self._shape != rgb.shape:
            from dkt_ros.model.live import LivePredictor

            self._shape = rgb.shape
            options = replace(self.options, size=self.working_size(rgb.shape[0], rgb.shape[1]))
            self._live = LivePredictor(
                self._network, options, self._stop.check, keep_on_device=True
            )
        return self._live.push(rgb)

    def reset(self) -> None:
        """Forgets the stream."""
        if self._live is not None:
            self._live.reset()
