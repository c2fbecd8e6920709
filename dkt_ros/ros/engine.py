"""From the node's parameters to a loaded, warm network inside a DepthEstimator.

Knows in which order they are made. Knows nothing of topics, nor what a parameter means.
"""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from dkt_ros.estimator import DepthEstimate, DepthEstimator
from dkt_ros.ros.params.parameters import NodeParameters, parse_size
from dkt_ros.ros.predictors import NetworkPredictor, StreamPredictor
from dkt_ros.ros.settings import buffer_frames, estimator_config, proof_frames, request_of
from dkt_ros.ros.warm_up import warm_up, warm_up_live


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
    backend: str = "torch"
    note: str = ""
    """What is other than asked for; empty where nothing is."""


class Engine:
    """A loaded network and the estimator around it."""

    def __init__(
        self,
        predictor: NetworkPredictor | StreamPredictor,
        estimator: DepthEstimator[DepthEstimate] | DepthEstimator[DepthEstimate | None],
        info: EngineInfo,
        proof_frames: int = 1,
        warmed_up: tuple[int, int] | None = None,
    ) -> None:
        """`proof_frames` of a new stream have to succeed for the next one to be sure to.

        warmed_up: (height, width) of the camera that the network was made ready for.
        """
        self.predictor = predictor
        self.estimator = estimator
        self.info = info
        self.proof_frames = proof_frames
        self._warmed_up = warmed_up

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self.estimator.config = replace(
            self.estimator.config,
            min_depth=parameters.min_depth_m,
            max_depth=parameters.max_depth_m,
        )

    def remark_on(self, height: int, width: int) -> str:
        """What a user should do about a camera of this size; "" when nothing."""
        warm = self._warmed_up
        if warm is None or not self.info.device.startswith("cuda"):
            return ""
        size = self.predictor.network_size
        if size(height, width) == size(*warm):
            return ""
        return (
            f"the camera's images are {height}x{width} (rows x columns), and the network was "
            f"warmed up for {warm[0]}x{warm[1]}: the first frames have it compile, for minutes if "
            f"it is large. Set parameter warm_up_size to {height}x{width}."
        )

    def close(self) -> None:
        """Gives the network's memory back, as far as nobody else holds it."""
        del self.predictor, self.estimator
        gc.unfreeze()
        self.free_cache()

    def gpu_memory(self) -> dict[str, int]:
        """Bytes on the GPU: allocated by torch here, free, total; empty when there are none.

        TensorRT allocates by itself: its plans' weights are missing in free alone.
        """
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
        _free_cache(self.info.device)


def build_engine(
    parameters: NodeParameters, log: Callable[[str], None] = lambda text: None
) -> Engine:
    """Loads the network and warms it up, so that the first frame is not late; `log` gets progress.

    Raises DktError for what the parameters name wrongly; what torch raises (out of memory) passes.
    Either way nothing of the network stays in memory, not even for whoever keeps the exception.
    """
    try:
        return _build(parameters, log)
    except BaseException as error:
        _forget_frames(error)
        # After some errors a GPU answers nothing any more; the first error tells more.
        with contextlib.suppress(RuntimeError):
            _free_cache(parameters.device)
        raise


def _build(parameters: NodeParameters, log: Callable[[str], None]) -> Engine:
    import torch

    from dkt_ros.model.backends import load_network
    from dkt_ros.model.fast_network import fast_network

    request = request_of(parameters)
    # Before loading: onnxruntime takes its number of threads from torch's then.
    torch.set_num_threads(parameters.cpu_threads or _default_threads())
    loaded = load_network(request, _progress_lines(log))
    network = fast_network(loaded.network)
    info = network.info
    config = estimator_config(parameters, info)
    live = StreamPredictor(network, parameters) if parameters.mode == "live" else None
    exact = NetworkPredictor(network, parameters)
    size = parse_size(parameters.warm_up_size) or (info.height, info.width)
    engine = Engine(
        live or exact,
        DepthEstimator(live, config) if live else DepthEstimator(exact, config),
        EngineInfo(
            checkpoint=info.name,
            path=str(request.checkpoint),
            origin=info.origin,
            device=str(network.device),
            dtype=loaded.dtype,
            steps=parameters.steps or info.steps,
            mode=f"live, {parameters.live_preset}" if live else "exact",
            backend=loaded.backend,
            note=loaded.note,
        ),
        proof_frames(parameters, info),
        size,
    )
    whole = network.device.type == "cuda"
    lines = partial(_progress_lines(log), "warm-up")
    if live:
        warm_up_live(live, size, whole, lines)
    else:
        warm_up(exact, size, buffer_frames(parameters, info), whole, lines)
    # A million objects that stay: spares every later collection, in either thread, to look at them.
    gc.collect()
    gc.freeze()
    return engine


def _forget_frames(error: BaseException) -> None:
    """Empties the ended calls that the error's traceback keeps, and those of what led to it."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        pending += [one.__cause__, one.__context__]


def _free_cache(device: str) -> None:
    """Gives memory back that nothing uses any more."""
    gc.collect()
    if device == "auto" or device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def _progress_lines(log: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """Lines such as "warm-up 2/6 after 3.1 s", one for each part that is done."""
    started = time.monotonic()

    def line(stage: str, done: int, total: int) -> None:
        if done:
            log(f"{stage} {done}/{total} after {time.monotonic() - started:.1f} s")

    return line


@lru_cache(maxsize=1)
def _default_threads() -> int:
    """What torch chose before anybody else did."""
    import torch

    return torch.get_num_threads()
