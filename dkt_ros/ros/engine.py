"""What the node holds from configure to cleanup: a warm network inside a DepthEstimator."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Callable

from dkt_ros.alignment.aligner import AlignmentConfig
from dkt_ros.arguments import parse_size
from dkt_ros.errors import DktError
from dkt_ros.estimator import DepthEstimator, EstimatorConfig
from dkt_ros.fusion.config import FusionConfig
from dkt_ros.fusion.consistency import ConsistencyConfig
from dkt_ros.predict.load import free_cache, load_predictor, released_on_error
from dkt_ros.predict.options import PredictorOptions
from dkt_ros.predict.predictor import Predictor, PredictorInfo
from dkt_ros.progress import Progress
from dkt_ros.ros.params.parameters import NodeParameters
from dkt_ros.ros.turns import Turns


class Engine:
    """An estimator, and what the node has to know of its network and device."""

    def __init__(
        self,
        estimator: DepthEstimator,
        warmed_up: tuple[int, int] | None = None,
        turns: Turns | None = None,
    ) -> None:
        """warmed_up: (height, width) of the camera that the network was made ready for.

        turns: at the network, with others that share it.
        """
        self.estimator = estimator
        self.turns = turns or Turns()
        self._warmed_up = warmed_up

    @property
    def predictor(self) -> Predictor:
        """The network."""
        return self.estimator.predictor

    @property
    def info(self) -> PredictorInfo:
        """What diagnostics tell of it."""
        return self.predictor.info

    def apply(self, parameters: NodeParameters) -> None:
        """Takes over the parameters that act at once."""
        self.estimator.depth_range = (parameters.min_depth_m, parameters.max_depth_m)
        self.estimator.min_confidence = parameters.min_confidence

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
            f"warmed up for {warm[0]}x{warm[1]}: the first frames trigger compilation, which takes "
            f"minutes for a large network. Set parameter warm_up_size to {height}x{width}."
        )

    def close(self) -> None:
        """Gives the network's memory back, as far as nobody else holds it."""
        device = self.info.device
        del self.estimator
        gc.unfreeze()
        free_cache(device)

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
        free_cache(self.info.device)


class SharedNetwork:
    """Engines of several cameras around one network, from any thread.

    Whoever is configured first has it loaded; it leaves memory with the last of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns = Turns()
        self._streams: weakref.WeakSet[Predictor] = weakref.WeakSet()
        self._options = PredictorOptions()
        self._warm: set[tuple[int, int]] = set()

    def build(
        self, parameters: NodeParameters, log: Callable[[str], None] = lambda text: None
    ) -> Engine:
        """Loads the network and warms it up, so that the first frame is not late.

        `log` gets progress. Raises, and leaves no memory in use then, as `load_predictor` does, and
        DktError for another network than is loaded.
        """
        options, report = PredictorOptions.taken_from(parameters), _progress_lines(log)
        with self._lock:
            first = next(iter(self._streams), None)
            if first is None:
                self._options, self._warm = options, set()
                with released_on_error(parameters.device):
                    engine = self._ready(load_predictor(options, report), parameters, report)
                # A million objects that stay: spares every later collection, in either thread, to
                # look at them.
                gc.collect()
                gc.freeze()
            else:
                self._refuse_another(options)
                engine = self._ready(first.beside(), parameters, report)
            self._streams.add(engine.predictor)
            return engine

    def _ready(self, predictor: Predictor, parameters: NodeParameters, report: Progress) -> Engine:
        size = parse_size(parameters.warm_up_size) or predictor.natural_size
        if (network_size := predictor.network_size(*size)) not in self._warm:
            with self._turns.turn():
                predictor.warm_up(size, report)
            self._warm.add(network_size)
        return Engine(DepthEstimator(predictor, estimator_config(parameters)), size, self._turns)

    def _refuse_another(self, options: PredictorOptions) -> None:
        differ = [
            f"{name} is {asked!r}, expected {loaded!r}"
            for name, (asked, loaded) in options.differences(self._options).items()
        ]
        if differ:
            raise DktError(
                f"another camera has loaded the network, which all share: {'; '.join(differ)}. "
                "Set these alike for all cameras, or give this one a process of its own (dkt_node)"
            )


def estimator_config(parameters: NodeParameters) -> EstimatorConfig:
    """The parameters that the estimator is made of."""
    return EstimatorConfig(
        depth=parameters.depth,
        fusion=FusionConfig(
            method=parameters.fusion_method,
            sensor=parameters.depth_sensor,
            weights=parameters.refiner,
            min_confidence=parameters.min_confidence,
            min_raw_depth=parameters.raw_min_depth_m,
            max_raw_depth=parameters.raw_max_depth_m,
            tolerance=parameters.confidence_tolerance,
        ),
        consistency=ConsistencyConfig(
            min_raw_depth=parameters.raw_min_depth_m,
            max_raw_depth=parameters.raw_max_depth_m,
            expected_depth_m=(parameters.expected_min_depth_m, parameters.expected_max_depth_m)
            if parameters.expected_max_depth_m
            else None,
        ),
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


def _progress_lines(log: Callable[[str], None]) -> Progress:
    """Lines such as "warm-up 2/6 after 3.1 s", one for each part that is done."""
    started = time.monotonic()

    def line(stage: str, done: int, total: int) -> None:
        if done:
            log(f"{stage} {done}/{total} after {time.monotonic() - started:.1f} s")

    return line
