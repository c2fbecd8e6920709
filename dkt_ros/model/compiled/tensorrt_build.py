"""One graph to one plan, with the builder of TensorRT 10.8 to 11 or of TensorRT for RTX.

Networks are strongly typed: types are the graph's, in 10.x by a flag, in 11 there is nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.files import user_cache, write_whole
from dkt_ros.model.checkpoint import parse_device
from dkt_ros.model.compiled.manifest import GraphSpec, System
from dkt_ros.model.compiled.tensorrt_module import (
    capabilities,
    current_system,
    import_tensorrt,
    interrupts_held,
    is_rtx,
    make_logger,
)
from dkt_ros.progress import Progress


@dataclass(frozen=True)
class BuildOptions:
    """workspace: bytes TensorRT may use as scratch memory, None: all of the GPU's.

    level: builder optimization level, 0 (quick) to 5 (thorough); timing_cache: file of measured
    kernels, read if it is there and written, but by TensorRT for RTX, which measures none; None:
    none. targets: GPUs such as sm89 to build for ahead of time, with TensorRT for RTX; none: the
    GPU that is there.
    """

    workspace: int | None = None
    level: int = 3
    timing_cache: Path | None = None
    targets: tuple[str, ...] = ()


def building_system(device: str) -> System:
    """The GPU of that name and the TensorRT that plans are made for; DktError without either."""
    import_tensorrt()
    if not torch.cuda.is_available():
        raise DktError(
            "TensorRT needs an NVIDIA GPU and a torch that can use it, and torch finds none; name "
            "the GPU to build for, such as --target sm89 (TensorRT for RTX), or export the graphs "
            "alone with --onnx-only"
        )
    found = parse_device(device)
    if found.type != "cuda":
        raise DktError(f"plans are for NVIDIA GPUs, and --device is {device}; name one as cuda:0")
    return current_system(found)


def timing_cache_file(system: System) -> Path:
    """Where the user's timing cache for this GPU and this TensorRT is kept."""
    words = f"{system.gpu} {system.compute_capability} {system.tensorrt}"
    name = re.sub(r"[^a-z0-9.]+", "-", words.lower())
    return user_cache() / "tensorrt" / f"{name}.timing"


def build_plan(
    graph: Path,
    plan: Path,
    profiles: Sequence[GraphSpec],
    options: BuildOptions,
    on_progress: Progress,
) -> str:
    """Builds `plan` from the ONNX file `graph`; returns the plan's SHA-256.

    profiles: the graphs of the file, which fix the sizes that it leaves open. The plan is there
    whole or not at all, and so is the timing cache, which is written even when the next graph
    fails. Ctrl-C stops the build. Raises DktError with TensorRT's own words.
    """
    trt = import_tensorrt(bool(options.targets))
    log = make_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    with interrupts_held():  # from a file: weights stand in another beside it
        parsed = parser.parse_from_file(str(graph))
    if not parsed:
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise DktError(f"TensorRT cannot read {graph}: {'; '.join(errors) or log.last()}")
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    tf32 = getattr(trt.BuilderFlag, "TF32", None)
    if tf32 is not None:  # on unless it is cleared, and float32 is asked for where it matters
        config.clear_flag(tf32)
    if is_rtx(trt):  # else a plan may take memory while it runs, and cannot be recorded
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.targets:
        found = capabilities(options.targets)
        config.num_compute_capabilities = len(found)
        for index, capability in enumerate(found):
            config.set_compute_capability(capability, index)
    elif is_rtx(trt):
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    for spec in profiles if _is_open(network) else ():
        profile = builder.create_optimization_profile()
        for tensor in spec.inputs:
            profile.set_shape(tensor.name, tensor.shape, tensor.shape, tensor.shape)
        config.add_optimization_profile(profile)
    monitor = _monitor(trt, on_progress)
    config.progress_monitor = monitor
    timing = None if is_rtx(trt) else options.timing_cache
    cache = _load_timing_cache(config, timing)
    torch.cuda.empty_cache()  # what torch has computed with, and keeps, TensorRT can have
    with interrupts_held(monitor.interrupt):
        content = builder.build_serialized_network(network, config)
    if cache is not None and timing is not None:
        write_whole(timing, config.get_timing_cache().serialize())
    if content is None:
        raise DktError(f"TensorRT cannot build {graph}: {log.last()}")
    write_whole(plan, content)
    return hashlib.sha256(content).hexdigest()


def _is_open(network: Any) -> bool:
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    return any(side < 0 for tensor in inputs for side in tensor.shape)


def _strongly_typed(trt: Any) -> int:
    """Flags of create_network: in 11 the flag is deprecated, and may be gone after it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _load_timing_cache(config: Any, file: Path | None) -> Any:
    """Attaches the cache in the file, or an empty one where it is missing or another system's."""
    if file is None:
        return None
    known = file.read_bytes() if file.is_file() else b""
    for content in (known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _monitor(trt: Any, on_progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Reports the outermost phase, and stops the build once it is interrupted."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._goes_on = True
            self._outermost: str | None = None
            self._steps = 0

        def interrupt(self) -> None:
            self._goes_on = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._outermost, self._steps = phase_name, num_steps
                self._report(0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self._outermost:
                self._report(min(step + 1, self._steps))
            return self._goes_on

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self._outermost:
                self._report(self._steps)
                self._outermost = None

        def _report(self, done: int) -> None:
            on_progress(self._outermost or "", done, self._steps)

    return Monitor()
