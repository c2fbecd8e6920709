"""TensorRT as builder and runtime take it: NVIDIA's TensorRT, or TensorRT for RTX, which pip has.

Both have the same bindings. TensorRT builds for the GPU it runs on; TensorRT for RTX also ahead of
time, without a GPU, for the compute capabilities that are named.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.extras import install
from dkt_ros.model.compiled.manifest import System

RTX = "tensorrt_rtx"
VERSIONS = {"tensorrt": ((10, 8), (12, 0)), RTX: ((1, 7), (2, 0))}
"""Module -> versions that this is written for: from the first, before the second."""
NAMES = {"tensorrt": "TensorRT", RTX: "TensorRT for RTX"}
"""What a module is called, the one that is taken first."""
_LOG = logging.getLogger("dkt_ros.tensorrt")


def import_tensorrt(ahead: bool = False) -> Any:
    """The module `tensorrt`, where it is missing `tensorrt_rtx`, which alone builds ahead of time.

    Raises DktError where there is none, or one that is too old or too new.
    """
    reasons = []
    for name in (RTX,) if ahead else NAMES:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: its libraries are another version's
            reasons.append(str(error))
            continue
        check_version(str(module.__version__), name)
        return module
    raise DktError(
        f"TensorRT cannot be loaded ({'; '.join(reasons)}); {install('tensorrt')} brings it, or "
        "do without: backend torch, or `dkt engine build --onnx-only`"
    )


def check_version(version: str, name: str = "tensorrt") -> None:
    """Raises DktError for a TensorRT that this was not written for."""
    oldest, beyond = VERSIONS[name]
    found = tuple(int(part) for part in version.split(".")[:2])
    if not oldest <= found < beyond:
        raise DktError(
            f"{NAMES[name]} is {version}, expected {'.'.join(map(str, oldest))} to "
            f"{beyond[0] - 1}; install one of these, or choose backend torch"
        )


def is_rtx(trt: Any) -> bool:
    """Whether the module is TensorRT for RTX."""
    return str(trt.__name__) == RTX


def version_of(trt: Any) -> str:
    """What plans are bound to: "10.8.0.43", or "RTX 1.7.1.116"."""
    return f"RTX {trt.__version__}" if is_rtx(trt) else str(trt.__version__)


def current_system(device: torch.device) -> System:
    """What a plan made for this CUDA device and this TensorRT is bound to."""
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    return System(name, f"{major}.{minor}", version_of(import_tensorrt()))


def target_system(targets: Sequence[str]) -> System:
    """What plans built ahead of time are bound to. targets: such as sm89, for a GPU of 8.9."""
    version = version_of(import_tensorrt(ahead=True))
    capabilities(targets)
    numbers = dict.fromkeys(re.sub(r"^sm(\d+)(\d)$", r"\1.\2", target) for target in targets)
    return System("", " ".join(sorted(numbers)), version)


def capabilities(targets: Sequence[str]) -> list[Any]:
    """TensorRT's names of targets; DktError where it builds for no such GPU."""
    known = import_tensorrt(ahead=True).ComputeCapability.__members__
    for target in targets:
        if re.fullmatch(r"sm\d+", target) is None or target.upper() not in known:
            names = ", ".join(name.lower() for name in known if name.startswith("SM"))
            raise DktError(f"--target {target}: TensorRT for RTX builds for {names}")
    return [known[target.upper()] for target in dict.fromkeys(targets)]


def make_logger(trt: Any) -> Any:
    """The ILogger: TensorRT's messages in Python's log, and `last()`, its last error since then.

    One for the process: TensorRT takes no other while anything that was made with the first lives.
    """
    logger = _only_logger(trt)
    logger.last()
    return logger


@functools.cache
def _only_logger(trt: Any) -> Any:
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.DEBUG,
        trt.ILogger.VERBOSE: logging.DEBUG,
    }

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._error = ""

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity, logging.WARNING)
            if level == logging.ERROR:
                self._error = msg.strip()
            _LOG.log(level, "%s", msg)

        def last(self) -> str:
            error, self._error = self._error, ""
            return error or "TensorRT gave no reason"

    return Logger()


@contextmanager
def interrupts_held(told: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Around long calls of TensorRT: SIGINT only calls `told`; what it else does comes at the end.

    Python raises KeyboardInterrupt in whatever runs next, which is TensorRT's calls of its logger
    and its monitor, and TensorRT drops what is raised in them.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # none may be set here; what is ignored, or ends the process at once, stays so
        return
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        noted.append(number)
        told()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)
