"""What an engine is wanted for, and in which points one that exists differs from it.

Knows the manifest and the command that builds. Knows nothing of torch, ONNX or TensorRT.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dkt_ros.errors import DktError
from dkt_ros.model.engine.manifest import PRECISIONS, Manifest, System


@dataclass(frozen=True)
class EngineRequest:
    """What `dkt engine build` is asked for, and what a node asks of an engine.

    checkpoint   its folder
    fingerprint  of that folder, see fingerprint.py
    size         (H, W) in pixels the network works at
    windows      (T, keep) of every window that the sampler asks for, see windows.py
    steps        Euler steps of the schedule
    precision    one of PRECISIONS; None: any will do, with any calibration
    options      the flags that ask `dkt engine build` for these windows, e.g. ("--preset", "fast")
    calibration  fingerprint of the clip that FP8's scales are to come from; None without FP8
    """

    checkpoint: Path
    fingerprint: str
    size: tuple[int, int]
    windows: tuple[tuple[int, int], ...]
    steps: int
    precision: str | None = None
    options: tuple[str, ...] = ()
    calibration: str | None = None

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise DktError(
                f"precision is {self.precision!r}, expected one of {', '.join(PRECISIONS)}"
            )
        if self.steps < 1:
            raise DktError(f"steps is {self.steps}, expected at least 1")

    def command(self, folder: Path, precision: str | None = None) -> str:
        """The command line that builds it into `folder`; precision: instead of one left open.

        Where it is FP8, the clip to calibrate with is left to whoever runs it.
        """
        precision = self.precision or precision or "bf16"
        words: Sequence[object] = (
            *("dkt", "engine", "build", "--checkpoint", self.checkpoint),
            *("--precision", precision, *(("--calibrate", "CLIP") if precision == "fp8" else ())),
            *self.options,
            *("--size", f"{self.size[0]}x{self.size[1]}", "--steps", self.steps),
            *("--output", folder),
        )
        return shlex.join(str(word) for word in words)


def differences(
    manifest: Manifest, request: EngineRequest, system: System | None = None
) -> list[str]:
    """Every point in which an engine does not fit, in words; empty where it fits.

    system: what plans would run on; None: only the graphs are looked at. More windows than are
    asked for do no harm.
    """
    found = []

    def compare(what: str, has: object, wants: object) -> None:
        if has != wants:
            found.append(f"{what} is {has}, expected {wants}")

    without = [graph.name for graph in manifest.graphs if graph.plan is None]
    if system is not None and without:
        found.append(f"it holds no plans of {', '.join(without)}, only graphs")
    if system is not None and manifest.system is not None:
        built = manifest.system
        compare("its GPU", built.gpu, system.gpu)
        compare("its compute capability", built.compute_capability, system.compute_capability)
        compare("its TensorRT", built.tensorrt, system.tensorrt)
    if manifest.checkpoint != request.fingerprint:
        found.append(
            f"its checkpoint is {manifest.info.name} with hash {manifest.checkpoint[:12]}, "
            f"expected {request.checkpoint} with hash {request.fingerprint[:12]}"
        )
    compare("its size", _by(manifest.size), _by(request.size))
    compare("its number of steps", manifest.steps, request.steps)
    if request.precision is not None:
        compare("its precision", manifest.precision, request.precision)
        compare("its calibration clip's hash", manifest.calibration, request.calibration)
    missing = [window for window in request.windows if window not in manifest.windows]
    if missing:
        found.append(
            f"its windows are {_windows(manifest.windows)}, expected {_windows(missing)} as well"
        )
    return found


def require_match(
    folder: Path, manifest: Manifest, request: EngineRequest, system: System | None = None
) -> None:
    """Raises one DktError that names every difference and the command to run."""
    found = differences(manifest, request, system)
    if found:
        command = request.command(folder, manifest.precision)
        raise DktError(f"engine {folder} does not fit: {'; '.join(found)}; run `{command}`")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _windows(windows: Sequence[tuple[int, int]]) -> str:
    """(6, 3) -> "3 of 6": the last 3 of 6 latent frames."""
    return ", ".join(f"{keep} of {frames}" for frames, keep in windows)
