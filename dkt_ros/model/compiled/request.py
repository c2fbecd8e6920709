"""What is asked of an engine: of which checkpoint, for which sizes and windows; whether one fits.

Knows engine.json's content and a checkpoint's files. Knows nothing of graphs or how they run.
Imports neither torch nor ONNX nor TensorRT, so that a command line can be read without them.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dkt_ros.errors import DktError
from dkt_ros.files import sha256, shown
from dkt_ros.model.checkpoint import checkpoint_folder
from dkt_ros.model.compiled.manifest import Manifest, System, by, check_precision
from dkt_ros.model.info import INFO_FILE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class EngineRequest:
    """What `dkt engine build` is asked for, and what a node asks of an engine.

    checkpoint   its folder
    fingerprint  of that folder, see checkpoint_fingerprint
    size         (H, W) in pixels the network works at
    windows      latent frames of every window that the sampler asks for, see window_lengths
    steps        Euler steps of the schedule
    precision    one of PRECISIONS; None: any will do, with any calibration
    options      the flags that ask `dkt engine build` for these windows, e.g. ("--preset", "fast")
    calibration  fingerprint of the clip that FP8's scales are to come from; None without FP8
    """

    checkpoint: Path
    fingerprint: str
    size: tuple[int, int]
    windows: tuple[int, ...]
    steps: int
    precision: str | None = None
    options: tuple[str, ...] = ()
    calibration: str | None = None

    def __post_init__(self) -> None:
        if self.precision is not None:
            check_precision(self.precision)
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
            *("--size", by(self.size), "--steps", self.steps),
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
    found = [] if system is None else system_differences(manifest, system)

    def compare(what: str, has: object, wants: object) -> None:
        if has != wants:
            found.append(f"{what} is {has}, expected {wants}")

    if manifest.checkpoint != request.fingerprint:
        found.append(
            f"its checkpoint is {manifest.info.name} with hash {manifest.checkpoint[:12]}, "
            f"expected {request.checkpoint} with hash {request.fingerprint[:12]}"
        )
    compare("its size", by(manifest.size), by(request.size))
    compare("its number of steps", manifest.steps, request.steps)
    if request.precision is not None:
        compare("its precision", manifest.precision, request.precision)
        compare("its calibration clip's hash", manifest.calibration, request.calibration)
    missing = [window for window in request.windows if window not in manifest.windows]
    if missing:
        found.append(
            f"its windows are of {in_words(manifest.windows)} latent frames, expected "
            f"{in_words(missing)} as well"
        )
    return found


def system_differences(manifest: Manifest, system: System) -> list[str]:
    """Every point in which its plans do not fit a machine, in words."""
    found = []
    if without := [graph.name for graph in manifest.graphs if graph.plan is None]:
        found.append(f"it holds no plans of {', '.join(without)}, only graphs")
    if (built := manifest.system) is not None:
        for what, has, wants in (
            ("GPU", built.gpu or system.gpu, system.gpu),
            ("TensorRT", built.tensorrt, system.tensorrt),
        ):
            if has != wants:
                found.append(f"its {what} is {has}, expected {wants}")
        if system.compute_capability not in built.compute_capability.split():
            found.append(
                f"its compute capability is {built.compute_capability}, expected "
                f"{system.compute_capability}"
            )
    return found


def require_match(
    folder: Path, manifest: Manifest, request: EngineRequest, system: System | None
) -> None:
    """Raises one DktError that names every difference and the command to run."""
    found = differences(manifest, request, system)
    if found:
        command = request.command(folder, manifest.precision)
        raise DktError(f"engine {folder} does not fit: {'; '.join(found)}; run `{command}`")


def in_words(numbers: Iterable[int]) -> str:
    """(1, 4, 6) -> "1, 4, 6"."""
    return ", ".join(map(str, numbers))


def checkpoint_fingerprint(folder: str | Path) -> str:
    """SHA-256 over names and contents of the checkpoint's .json and .safetensors files.

    Reads everything: seconds for a checkpoint of some gigabytes. Raises DktError where there is
    none.
    """
    folder = checkpoint_folder(folder)
    if not (folder / INFO_FILE).is_file():
        raise DktError(f"{folder} is no dkt checkpoint: it has no {INFO_FILE}")
    files = (file for kind in ("*.json", "*.safetensors") for file in shown(folder, f"**/{kind}"))
    digest = hashlib.sha256()
    try:
        for file in sorted(files):
            digest.update(f"{file.relative_to(folder).as_posix()} {sha256(file)}\n".encode())
    except OSError as error:
        raise DktError(f"checkpoint {folder} cannot be read: {error}") from error
    return digest.hexdigest()


def clip_fingerprint(rgb: npt.NDArray[np.uint8]) -> str:
    """SHA-256 over shape and pixels of a clip (T, H, W, 3), wherever it was read from."""
    return hashlib.sha256(str(rgb.shape).encode() + rgb.tobytes()).hexdigest()
