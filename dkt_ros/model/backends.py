"""Who computes a checkpoint: torch, or an engine's graphs by TensorRT or ONNX Runtime.

Knows where each is loaded and what to do when an engine does not fit. Knows nothing of cameras, and
imports no deep learning library before it is asked to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dkt_ros.errors import DktError
from dkt_ros.progress import Progress, no_progress

if TYPE_CHECKING:
    from dkt_ros.model.compiled.manifest import GraphRunner, Manifest, System
    from dkt_ros.model.compiled.network import EngineNetwork
    from dkt_ros.model.streaming_network import StreamingNetwork

BACKENDS = ("torch", "tensorrt", "onnxruntime")


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


def load_network(request: Request, on_progress: Progress = no_progress) -> Loaded:
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
    from dkt_ros.model.canvas import working_size
    from dkt_ros.model.compiled.manifest import Manifest, window_lengths
    from dkt_ros.model.compiled.request import EngineRequest, checkpoint_fingerprint, require_match
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
    device = request.device if request.backend == "tensorrt" else None
    require_match(folder, manifest, wanted, None if device is None else _system(device))
    network = engine_network(folder, manifest, wanted.windows, device, on_progress)
    report = partial(on_progress, "check graphs")
    require_accurate(network, folder, manifest, wanted.windows, report)
    return Loaded(network, request.backend, manifest.precision)


def _system(device: str) -> System:
    from dkt_ros.model.checkpoint import parse_device
    from dkt_ros.model.compiled.tensorrt_module import current_system

    found = parse_device(device)
    if found.type != "cuda":
        raise DktError(
            f"backend tensorrt computes on NVIDIA GPUs, and the device is {device}; choose device "
            "cuda, or backend torch"
        )
    return current_system(found)


def engine_network(
    folder: Path,
    manifest: Manifest,
    windows: Sequence[int],
    device: str | None,
    on_progress: Progress = no_progress,
    widen: bool = False,
) -> EngineNetwork:
    """An engine's network, its files compared with engine.json.

    windows: latent frames of those that will be asked for. device: the GPU that TensorRT runs the
    plans on; None: onnxruntime runs the graphs on the CPU. widen: see onnx_runtime.load_runners.
    Raises DktError naming what is missing, changed or cannot be loaded.
    """
    import torch

    from dkt_ros.model.compiled import onnx_runtime, tensorrt_runtime
    from dkt_ros.model.compiled.manifest import (
        CHECKS_FILE,
        WEIGHTS_FILE,
        graph_names,
        require_unchanged,
    )
    from dkt_ros.model.compiled.network import EngineNetwork, read_constants

    names, files = graph_names(windows), {manifest.constants, CHECKS_FILE}
    runners: Mapping[str, GraphRunner]
    if device is None:
        files |= {WEIGHTS_FILE, *(manifest.graph(name).onnx for name in names)}
        require_unchanged(folder, manifest, sorted(files))
        report = partial(on_progress, "load graphs")
        runners = onnx_runtime.load_runners(folder, manifest, names, report, widen)
    else:
        require_unchanged(folder, manifest, sorted(files))
        report = partial(on_progress, "load plans")
        runners = tensorrt_runtime.load_runners(
            folder, manifest, names, torch.device(device), on_progress=report
        )
    place = torch.device(device or "cpu")
    return EngineNetwork(manifest, runners, read_constants(folder, manifest, place), place)
