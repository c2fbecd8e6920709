"""From the node's parameters to a loaded, warm network inside a DepthEstimator.

Knows which checkpoint, device, type and size the parameters mean. Knows nothing of topics.
"""

from __future__ import annotations

import gc
import math
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dkt_ros.alignment import AlignmentConfig
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimate, DepthEstimator, EstimatorConfig
from dkt_ros.model.live_options import LiveOptions
from dkt_ros.ros.parameters import NodeParameters, parse_inference_size
from dkt_ros.ros.worker import InferenceCancelledError

if TYPE_CHECKING:
    from dkt_ros.model.live import LiveDisparity, LivePredictor
    from dkt_ros.model.network import DktNetwork


@dataclass(frozen=True)
class EngineInfo:
    """What diagnostics tell of the engine."""

    checkpoint: str
    path: str
    origin: str
    device: str
    dtype: str
    steps: int
    mode: str = "exact"


class _Stoppable:
    """The network at the working size, able to stop midway."""

    def __init__(self, network: DktNetwork, parameters: NodeParameters) -> None:
        self._network = network
        self._steps = parameters.steps or None
        self._seed = parameters.seed
        self._native = parameters.inference_size == "native"
        self._size = parse_inference_size(parameters.inference_size)
        self._cancelled = threading.Event()

    def working_size(self, height: int, width: int) -> tuple[int, int] | None:
        """(height, width) the network works at for a camera of this size; None: the camera's."""
        from dkt_ros.model.canvas import fit_area

        if self._native:
            return None
        return self._size or fit_area(
            height, width, self._network.info.height * self._network.info.width
        )

    def cancel(self) -> None:
        """Has a running and every later prediction raise InferenceCancelledError, until allow()."""
        self._cancelled.set()

    def allow(self) -> None:
        """Lets predictions run again."""
        self._cancelled.clear()

    def _check(self, stage: str, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise InferenceCancelledError(f"{stage} {done}/{total}")


class NetworkPredictor(_Stoppable):
    """Mode exact: a clip in, the disparity of its frames out, as the estimator wants it."""

    def __call__(self, rgb: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Video (T, H, W, 3) -> relative disparity (T, H, W). Raises InferenceCancelledError."""
        from dkt_ros.model.predictor import PredictOptions, predict_disparity

        options = PredictOptions(
            steps=self._steps, seed=self._seed, size=self.working_size(rgb.shape[1], rgb.shape[2])
        )
        return predict_disparity(self._network, rgb, options, self._check)


class StreamPredictor(_Stoppable):
    """Mode live: frame by frame, as the estimator wants it."""

    def __init__(self, network: DktNetwork, parameters: NodeParameters) -> None:
        super().__init__(network, parameters)
        cut = parameters.live_scene_cut
        self.options = LiveOptions.preset(
            parameters.live_preset,
            steps=self._steps,
            publish=parameters.live_publish,
            seed=self._seed,
            scene_cut=cut if cut < 1 else None,
        )
        self._shape: tuple[int, ...] = ()
        self._live: LivePredictor | None = None

    def push(self, rgb: npt.NDArray[np.uint8], /) -> LiveDisparity | None:
        """The next frame (H, W, 3); see LivePredictor. Raises InferenceCancelledError."""
        if self._live is None or self._shape != rgb.shape:
            from dkt_ros.model.live import LivePredictor

            self._shape = rgb.shape
            options = replace(self.options, size=self.working_size(rgb.shape[0], rgb.shape[1]))
            self._live = LivePredictor(self._network, options, self._check, keep_on_device=True)
        return self._live.push(rgb)

    def reset(self) -> None:
        """Forgets the stream."""
        if self._live is not None:
            self._live.reset()


class Engine:
    """A loaded network and the estimator around it."""

    def __init__(
        self,
        predictor: NetworkPredictor | StreamPredictor,
        estimator: DepthEstimator[DepthEstimate] | DepthEstimator[DepthEstimate | None],
        info: EngineInfo,
    ) -> None:
        self.predictor = predictor
        self.estimator = estimator
        self.info = info

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self.estimator.config = replace(
            self.estimator.config,
            min_depth=parameters.min_depth_m,
            max_depth=parameters.max_depth_m,
        )

    def close(self) -> None:
        """Gives the network's memory back, as far as nobody else holds it."""
        del self.predictor, self.estimator
        gc.unfreeze()
        self.free_cache()

    def gpu_memory(self) -> dict[str, int]:
        """Bytes on the GPU: allocated by this process, free, total; empty when there are none."""
        if not self.info.device.startswith("cuda"):
            return {}
        import torch

        try:
            free, total = torch.cuda.mem_get_info(self.info.device)
            allocated = torch.cuda.memory_allocated(self.info.device)
        except RuntimeError:  # after some errors a GPU answers nothing any more
            return {}
        return {"allocated": allocated, "free": free, "total": total}

    def free_cache(self) -> None:
        """Gives memory back that nothing uses any more."""
        gc.collect()
        if self.info.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def build_engine(parameters: NodeParameters) -> Engine:
    """Loads the checkpoint and runs it once per clip length, so that the first frame is not late.

    Raises DktError for what the parameters name wrongly; what torch raises (out of memory) passes.
    """
    import torch

    from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint

    device = resolve_device(parameters.device)
    dtype = resolve_dtype(parameters.dtype, device)
    path = (
        Path(parameters.checkpoint).expanduser() if parameters.checkpoint else default_checkpoint()
    )
    network = load_checkpoint(path, device, dtype)
    if network.info.task != "depth":
        raise DktError(
            f"checkpoint {path} predicts '{network.info.task}', expected 'depth'; name a depth "
            "checkpoint in parameter checkpoint"
        )
    torch.set_num_threads(parameters.cpu_threads or _default_threads())
    config = estimator_config(parameters)
    live = StreamPredictor(network, parameters) if parameters.mode == "live" else None
    exact = NetworkPredictor(network, parameters)
    engine = Engine(
        live or exact,
        DepthEstimator(live, config) if live else DepthEstimator(exact, config),
        EngineInfo(
            checkpoint=network.info.name,
            path=str(path),
            origin=network.info.origin,
            device=device,
            dtype=dtype,
            steps=parameters.steps or network.info.steps,
            mode=f"live, {parameters.live_preset}" if live else "exact",
        ),
    )
    size = (network.info.height, network.info.width)
    if live:
        warm_up_live(live, *size, whole=device.startswith("cuda"))
    else:
        warm_up(exact, *size, parameters.buffer_frames)
    # A million objects that stay: spares every later collection, in either thread, to look at them.
    gc.collect()
    gc.freeze()
    return engine


@lru_cache(maxsize=1)
def _default_threads() -> int:
    """What torch chose before anybody else did."""
    import torch

    return torch.get_num_threads()


def warm_up(predictor: NetworkPredictor, height: int, width: int, frames: int) -> None:
    """Runs the network on black clips of 1 and `frames` frames: the shortest and the longest."""
    for count in sorted({1, frames}):
        predictor(np.zeros((count, height, width, 3), dtype=np.uint8))


def warm_up_live(predictor: StreamPredictor, height: int, width: int, whole: bool) -> None:
    """Streams black frames: the first frame and one window, or until windows grow no more."""
    options = predictor.options
    windows = -(-options.window // options.new) + 1 if whole else 1
    for _ in range(1 + 4 * options.new * windows):
        predictor.push(np.zeros((height, width, 3), dtype=np.uint8))
    predictor.reset()


def estimator_config(parameters: NodeParameters) -> EstimatorConfig:
    """The part of the parameters that the estimator is made of."""
    return EstimatorConfig(
        max_frames=parameters.buffer_frames,
        max_gap_s=math.inf,  # the intake looks for gaps: it sees every frame
        min_depth=parameters.min_depth_m,
        max_depth=parameters.max_depth_m,
        alignment=AlignmentConfig(
            min_raw_depth=parameters.raw_min_depth_m,
            max_raw_depth=parameters.raw_max_depth_m,
            min_inlier_ratio=parameters.align_min_inlier_ratio,
            max_uncertainty=parameters.align_max_uncertainty,
            max_held_s=parameters.align_max_held_s,
            max_held_frames=parameters.align_max_held_frames,
        ),
    )


def resolve_device(name: str) -> str:
    """`auto` -> "cuda" where torch finds a GPU, else "cpu"; other names as they are."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(name: str, device: str) -> str:
    """`auto` -> bfloat16 on a GPU, float32 elsewhere; other names as they are."""
    if name != "auto":
        return name
    return "bfloat16" if device.startswith("cuda") else "float32"
