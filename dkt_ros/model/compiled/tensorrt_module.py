"""The module `tensorrt` as builder and runtime take it: its version, its messages, its system."""

from __future__ import annotations

import logging
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.manifest import System

OLDEST, BEYOND = (10, 8), (12, 0)
"""Versions of TensorRT that this is written for: from OLDEST, before BEYOND."""
_LOG = logging.getLogger("dkt_ros.tensorrt")


def import_tensorrt() -> Any:
    """The module `tensorrt`; raises DktError where it is missing or too old or too new."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:  # OSError: its libraries are not those it was made for
        raise DktError(
            f"TensorRT cannot be loaded ({error}); install it with requirements/tensorrt.txt, or "
            "do without: backend torch, or `dkt engine build --onnx-only`"
        ) from error
    check_version(str(tensorrt.__version__))
    return tensorrt


def check_version(version: str) -> None:
    """Raises DktError for a TensorRT that this was not written for."""
    found = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= found < BEYOND:
        raise DktError(
            f"TensorRT is {version}, expected {'.'.join(map(str, OLDEST))} to "
            f"{BEYOND[0] - 1}; install one of these, or choose backend torch"
        )


def current_system(device: torch.device) -> System:
    """What a plan made for this CUDA device and this TensorRT is bound to."""
    trt = import_tensorrt()
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    return System(name, f"{major}.{minor}", str(trt.__version__))


def make_logger(trt: Any) -> Any:
    """An ILogger: TensorRT's messages in Python's log, and `last()`, its last error."""
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
            return self._error or "TensorRT gave no reason"

    return Logger()
