"""Who computes a checkpoint: torch, or an engine's graphs by TensorRT or ONNX Runtime.

Knows where each is loaded and what to do when an engine does not fit. Knows nothing of cameras, and
imports no deep learning library before it is asked to load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dkt_ros.errors import DktError

if TYPE_CHECKING:
    import torch

    from dkt_ros.model.compiled.manifest import EngineRequest, Manifest
    from dkt_ros.model.compiled.network import EngineNetwork
    from dkt_ros.model.streaming_network import StreamingNetwork

BACKENDS = ("torch", "tensorrt", "onnxruntime")

Progress = Callable[[str, int, int], None]
"""on_progress(stage, parts done, parts in all)."""


@dataclass(frozen=True)
class Request:
    """What is to be computed, and by whom.

    checkpoint   folder
    device       of torch, e.g. "cpu" or "cuda:0"
    dtype        torch's computing type; an engine has its own
    windows      (T, keep) of every window that will be asked for; an engine must have them all
    steps        Euler steps; None: the checkpoint's
    size         (H, W) the network will work at; None: any, for an engine its own
    backend      one of BACKENDS
    engine       the engine's folder; needed unless backend is torch
    fall_back    compute with torch where the engine does not fit
    build_flags  what else `dkt engine build` would have to be told, for the message that says so
    """

    checkpoint: Path
    device: str
    dtype: str
    windows: tuple[tuple[int, int], ...]
    steps: int | None = None
    size: tuple[int, int] | None = None
    backend: str = "torch"
    engine: Path | None = None
    fall_back: bool = False
    build_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise DktError(f"backend is {self.backend!r}, expected one of {', '.join(BACKENDS)}")
        if self.backend != "torch" and self.engine is None:
            raise DktError(
                f"backend {self.backend} needs the folder of an engine; `dkt engine build` makes "
                "one"
            )


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network and who computes it; dtype is torch's type or the engine's precision.

    note: why it is another backend than the one asked for; empty where it is not.
    """

    network: StreamingNetwork
    backend: str
    dtype: str
    note: str = ""


def load_network(
    request: Request, on_progress: Progress = lambda stage, done, total: None
) -> Loaded:
    """Loads what the request names.

    Raises DktError where something is missing, damaged or does not fit; for an engine only if
    torch may not take its place.
    """
    note = ""
    if request.backend != "torch":
        try:
            return _load_engine(request, on_progress)
        except DktError as error:
            if not request.fall_back:
                raise
            note = f"computing with torch, because backend {request.backend} failed: {error}"
    from dkt_ros.model.checkpoint import load_checkpoint
    from dkt_ros.model.fast_network import FastNetwork

    network = FastNetwork(load_checkpoint(request.checkpoint, request.device, request.dtype))
    return Loaded(network, "torch", request.dtype, note)


def _load_engine(request: Request, on_progress: Progress) -> Loaded:
    import torch

    from dkt_ros.model.canvas import working_size
    from dkt_ros.model.compiled.manifest import (
        EngineRequest,
        Manifest,
        checkpoint_fingerprint,
        window_lengths,
    )
    from dkt_ros.model.compiled.self_check import require_accurate
    from dkt_ros.model.info import CheckpointInfo

    folder = request.engine
    assert folder is not None  # Request has seen to it
    manifest = Manifest.read(folder)
    size = request.size or manifest.size
    wanted = EngineRequest(
        checkpoint=request.checkpoint,
        fingerprint=checkpoint_fingerprint(request.checkpoint),
        size=working_size(size, size, manifest.size_multiple),
        windows=window_lengths(request.windows),
        steps=request.steps or CheckpointInfo.read(request.checkpoint).steps,
        options=(
            *request.build_flags,
            *(("--onnx-only",) if request.backend == "onnxruntime" else ()),
        ),
    )
    if request.backend == "tensorrt":
        network = _on_tensorrt(folder, manifest, wanted, torch.device(request.device), on_progress)
    else:
        network = _on_onnxruntime(folder, manifest, wanted, on_progress)
    require_accurate(
        network, folder, manifest, wanted.windows, partial(on_progress, "check graphs")
    )
    return Loaded(network, request.backend, manifest.precision)


def _on_tensorrt(
    folder: Path,
    manifest: Manifest,
    wanted: EngineRequest,
    device: torch.device,
    on_progress: Progress,
) -> EngineNetwork:
    from dkt_ros.model.checkpoint import parse_device
    from dkt_ros.model.compiled.manifest import (
        CHECKS_FILE,
        graph_names,
        require_match,
        require_unchanged,
    )
    from dkt_ros.model.compiled.network import EngineNetwork, read_constants
    from dkt_ros.model.compiled.tensorrt_module import current_system
    from dkt_ros.model.compiled.tensorrt_runtime import load_runners

    if parse_device(device).type != "cuda":
        raise DktError(
            f"backend tensorrt computes on NVIDIA GPUs, and the device is {device}; choose device "
            "cuda, or backend torch"
        )
    require_match(folder, manifest, wanted, current_system(device))
    names = graph_names(wanted.windows)
    report = partial(on_progress, "load plans")
    require_unchanged(folder, manifest, [manifest.constants, CHECKS_FILE])
    runners = load_runners(folder, manifest, names, device, on_progress=report)
    return EngineNetwork(manifest, runners, read_constants(folder, manifest, device), device)


def _on_onnxruntime(
    folder: Path, manifest: Manifest, wanted: EngineRequest, on_progress: Progress
) -> EngineNetwork:
    import torch

    from dkt_ros.model.compiled.manifest import (
        CHECKS_FILE,
        WEIGHTS_FILE,
        graph_names,
        require_match,
        require_unchanged,
    )
    from dkt_ros.model.compiled.network import EngineNetwork, read_constants
    from dkt_ros.model.compiled.onnx_runtime import load_runners

    require_match(folder, manifest, wanted)
    names = graph_names(wanted.windows)
    graphs = [manifest.graph(name).onnx for name in names]
    require_unchanged(folder, manifest, {*graphs, WEIGHTS_FILE, manifest.constants, CHECKS_FILE})
    runners = load_runners(folder, manifest, names, partial(on_progress, "load graphs"))
    constants = read_constants(folder, manifest)
    return EngineNetwork(manifest, runners, constants, torch.device("cpu"))
