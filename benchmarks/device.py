"""The machine that benchmarks run on: what it is, how fast it multiplies, what it has allocated."""

from __future__ import annotations

import platform
import resource
import time
from dataclasses import dataclass
from importlib import metadata

import torch

LIBRARIES = (
    "torch",
    "diffusers",
    "triton",
    "tensorrt",
    "tensorrt_rtx_cu12",
    "onnxruntime",
    "numpy",
)


@dataclass(frozen=True)
class Machine:
    """Where figures come from."""

    machine: str
    gpu: str | None
    cuda: str | None
    cudnn: int | None
    threads: int
    libraries: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        gpu = torch.cuda.is_available()
        return cls(
            machine=platform.platform(),
            gpu=torch.cuda.get_device_name() if gpu else None,
            cuda=torch.version.cuda,
            cudnn=torch.backends.cudnn.version() if gpu else None,
            threads=torch.get_num_threads(),
            libraries={name: version for name in LIBRARIES if (version := _version(name))},
        )


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP per second of a large square product, the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times) / 1e12


def peak_memory(device: torch.device) -> float:
    """MiB: on a GPU since the last reset, on a CPU the process's so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
