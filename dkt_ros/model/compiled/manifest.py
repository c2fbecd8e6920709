"""engine.json: what graphs and plans a folder holds, what they were made for, and whether it fits.

Imports neither torch nor ONNX nor TensorRT, so that a command line can be read without them.

Graphs, with their inputs and outputs in the order of the functions they are made from:

    encoder_first      images (1, 3, 1, H, W)    -> latents (1, Z, 1, h, w), new_cache_00, ...
    encoder_following  images (1, 3, 4, H, W), cache_00, ...    -> latents, new_cache_00, ...
    decoder_first      latents (1, Z, 1, h, w)   -> images (1, 3, 1, H, W), new_cache_00, ...
    decoder_following  latents, cache_00, ...    -> images (1, 3, 4, H, W), new_cache_00, ...
    embed_rgb          latents (1, Z, 1, h, w)   -> tokens (1, 1, 1, n, D)
    step_T{T}          noisy (1, Z, T, h, w), rgb_tokens (1, 1, T, n, D), modulation (L, 6, D),
                       final (2, D), cos and sin (T, n, d / 2)    -> velocity (1, Z, T, h, w)

Tokens and caches have the type that the network computes in, all else is float32. The steps are
one file, step.onnx, and one plan with a profile for each T, so that the weights stand once. A
timestep's modulation and final and the rotary tables stand in constants.safetensors (network.py),
what torch makes of stored inputs in checks.safetensors (self_check.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dkt_ros.arguments import DTYPES
from dkt_ros.errors import DktError
from dkt_ros.files import sha256, shown, write_whole
from dkt_ros.model.checkpoint import checkpoint_folder
from dkt_ros.model.info import INFO_FILE, CheckpointInfo
from dkt_ros.wording import NAME, is_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

FORMAT_VERSION = 2
MANIFEST_FILE = "engine.json"
CONSTANTS_FILE = "constants.safetensors"
WEIGHTS_FILE = "weights.bin"
CHECKS_FILE = "checks.safetensors"
REBUILD = "build it again with `dkt engine build`"
PRECISIONS = ("fp32", "bf16", "fp16", "fp8")

ENCODER_FIRST, ENCODER_FOLLOWING = "encoder_first", "encoder_following"
DECODER_FIRST, DECODER_FOLLOWING = "decoder_first", "decoder_following"
EMBED_RGB = "embed_rgb"
STEP = "step"
GRAPH_NAMES = (
    *(ENCODER_FIRST, ENCODER_FOLLOWING, EMBED_RGB, STEP),
    *(DECODER_FIRST, DECODER_FOLLOWING),
)
"""Of graphs, and of their files and plans without the ending."""
_COUNTS = ("steps", "latent_channels", "spatial_ratio", "head_dim")


class GraphRunner(Protocol):
    """One graph, ready to run."""

    def __call__(self, inputs: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Tensors by the names, shapes and types of its GraphSpec, in and out."""


def step_name(frames: int) -> str:
    """Name of the step's graph for windows of `frames` latent frames."""
    return f"{STEP}_T{frames}"


def graph_names(windows: Iterable[int]) -> list[str]:
    """Names of all graphs of an engine for windows of so many latent frames."""
    fixed = (ENCODER_FIRST, ENCODER_FOLLOWING, DECODER_FIRST, DECODER_FOLLOWING, EMBED_RGB)
    return [*fixed, *map(step_name, windows)]


def window_lengths(windows: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """The T of a sampler's windows (T, keep), each once: all that an engine needs to know."""
    return tuple(sorted({frames for frames, _ in windows}))


def cache_name(index: int, new: bool = False) -> str:
    """Name of a graph's index-th cache as it is given, or as it is returned."""
    return f"{'new_' if new else ''}cache_{index:02d}"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; dtype is one of arguments.DTYPES."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSpec:
    """One graph. onnx, plan: files relative to the folder; plan is None where none was built.

    Graphs that share a file are its optimization profiles, in the manifest's order. plan_sha256: of
    the plan's file. A plan holds programs, so the runtime loads no other file.
    """

    name: str
    onnx: str
    plan: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    plan_sha256: str | None = None


@dataclass(frozen=True)
class System:
    """What a plan is bound to: names as the driver and TensorRT give them.

    gpu: e.g. "NVIDIA L4"; empty for plans that run on every GPU of their compute capability.
    compute_capability: e.g. "8.9", several with blanks between; tensorrt: its full version, after
    "RTX " for TensorRT for RTX.
    """

    gpu: str
    compute_capability: str
    tensorrt: str


@dataclass(frozen=True)
class Manifest:
    """The contents of engine.json.

    system       what the plans run on; None where there are graphs only
    checkpoint   fingerprint of the checkpoint's files, see checkpoint_fingerprint
    info         the checkpoint's dkt.json
    size         (H, W) in pixels the network works at
    windows      latent frames T of every window that a step's graph takes
    precision    one of PRECISIONS
    steps        Euler steps whose timesteps have their constants
    latent_channels, spatial_ratio, patch, head_dim
                 Z, pixels per latent along a side, (t, h, w) of a token, channels of a head
    constants    file of the modulations, relative to the folder
    calibration  fingerprint of the clip that FP8's scales come from; None for other precisions
    files        name -> SHA-256 of the folder's files other than plans
    """

    system: System | None
    checkpoint: str
    info: CheckpointInfo
    size: tuple[int, int]
    windows: tuple[int, ...]
    precision: str
    steps: int
    latent_channels: int
    spatial_ratio: int
    patch: tuple[int, int, int]
    head_dim: int
    graphs: tuple[GraphSpec, ...]
    constants: str = CONSTANTS_FILE
    calibration: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of this many pixels."""
        return self.spatial_ratio * max(self.patch[1:])

    def sharing(self, onnx: str) -> tuple[GraphSpec, ...]:
        """The graphs that one ONNX file holds: the profiles of its plan, in order."""
        return tuple(graph for graph in self.graphs if graph.onnx == onnx)

    def with_plans(self, system: System, plans: Mapping[str, tuple[str, str]]) -> Manifest:
        """With plans that were built. plans: ONNX file -> plan's file and its SHA-256."""
        graphs = tuple(
            replace(graph, plan=plans[graph.onnx][0], plan_sha256=plans[graph.onnx][1])
            if graph.onnx in plans
            else graph
            for graph in self.graphs
        )
        return replace(self, system=system, graphs=graphs)

    def graph(self, name: str) -> GraphSpec:
        """The graph of that name; raises DktError where there is none."""
        for graph in self.graphs:
            if graph.name == name:
                return graph
        found = ", ".join(graph.name for graph in self.graphs)
        raise DktError(f"the engine has no graph {name}, only {found}")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads a folder's engine.json; raises DktError naming the file and what is wrong."""
        file = folder / MANIFEST_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise DktError(
                f"{file} is missing, so {folder} holds no engine; make one with `dkt engine build`"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise DktError(f"{file} cannot be read as JSON: {error}; {REBUILD}") from error
        try:
            return cls.from_dict(content)
        except DktError as error:
            raise DktError(f"{file}: {error}; {REBUILD}") from error

    @classmethod
    def from_dict(cls, content: Any) -> Manifest:
        """From parsed JSON; DktError for another version and for fields that are wrong."""
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise DktError(f"format_version is {version!r}, this dkt_ros reads {FORMAT_VERSION}")
        try:
            system = content["system"]
            manifest = cls(
                **content
                | {
                    "system": None if system is None else System(**system),
                    "info": CheckpointInfo.from_dict(content["info"]),
                    "size": _integers(content["size"], 2),
                    "windows": _integers(content["windows"]),
                    "patch": _integers(content["patch"], 3),
                    **{name: _integers([content[name]])[0] for name in _COUNTS},
                    "graphs": tuple(_graph(graph) for graph in content["graphs"]),
                    "files": {str(k): str(v) for k, v in content["files"].items()},
                }
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DktError(f"fields are missing, unknown or of the wrong type ({error})") from error
        _require_own_files("constants", manifest.constants)
        _require_own_files("files", *manifest.files)
        _check_precision(manifest.precision)
        return manifest

    def write(self, folder: Path) -> None:
        """Writes engine.json whole or not at all."""
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        write_whole(folder / MANIFEST_FILE, text)


def _graph(content: Mapping[str, Any]) -> GraphSpec:
    def specs(items: Any) -> tuple[TensorSpec, ...]:
        return tuple(_tensor(item) for item in items)

    if not is_name(content["name"]):
        raise DktError(f"a graph's name is {content['name']!r}, expected {NAME}")
    graph = GraphSpec(
        **{**content, "inputs": specs(content["inputs"]), "outputs": specs(content["outputs"])}
    )
    _require_own_files(f"graph {graph.name}", graph.onnx, graph.plan)
    return graph


def _require_own_files(what: str, *names: str | None) -> None:
    """A manifest may come from elsewhere: it names files of its own folder only."""
    for name in names:
        if name is not None and Path(name).name != name:
            raise DktError(f"{what} names {name!r}, expected a file in the folder")


def _tensor(content: Mapping[str, Any]) -> TensorSpec:
    spec = TensorSpec(**{**content, "shape": _integers(content["shape"])})
    if spec.dtype not in DTYPES:
        raise DktError(f"{spec.name} is of {spec.dtype!r}, expected one of {', '.join(DTYPES)}")
    return spec


def _check_precision(name: str) -> None:
    if name not in PRECISIONS:
        raise DktError(f"precision is {name!r}, expected one of {', '.join(PRECISIONS)}")


def _integers(values: Any, count: int | None = None) -> Any:
    numbers = tuple(values)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    if not whole or (count is not None and len(numbers) != count):
        raise DktError(f"{values!r} is no list of {f'{count} ' if count else ''}positive integers")
    return numbers


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
            _check_precision(self.precision)
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
    folder: Path, manifest: Manifest, request: EngineRequest, system: System | None = None
) -> None:
    """Raises one DktError that names every difference and the command to run."""
    found = differences(manifest, request, system)
    if found:
        command = request.command(folder, manifest.precision)
        raise DktError(f"engine {folder} does not fit: {'; '.join(found)}; run `{command}`")


def by(shape: Sequence[int]) -> str:
    """(480, 832) -> "480x832"."""
    return "x".join(str(side) for side in shape)


def in_words(numbers: Iterable[int]) -> str:
    """(1, 4, 6) -> "1, 4, 6"."""
    return ", ".join(map(str, numbers))


def changed_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None
) -> list[str]:
    """What is wrong with these files, in words; None: all but the plans. Reads them whole."""
    found = []
    for name in manifest.files if names is None else names:
        expected, file = manifest.files.get(name), folder / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif expected is None:
            found.append(f"{name} is none of the files that engine.json names")
        elif (digest := sha256(file)) != expected:
            found.append(
                f"{name} has SHA-256 {digest[:12]}..., engine.json says {expected[:12]}..."
            )
    return found


def plan_whole(folder: Path, graph: GraphSpec) -> bool:
    """Whether the graph's plan is there and unchanged."""
    if graph.plan is None:
        return False
    file = folder / graph.plan
    return file.is_file() and sha256(file) == graph.plan_sha256


def require_unchanged(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raises DktError unless these files are those that were written with engine.json."""
    found = changed_files(folder, manifest, names)
    if found:
        raise DktError(f"engine {folder} is not whole: {'; '.join(found)}; {REBUILD}")


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
