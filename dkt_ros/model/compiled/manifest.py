"""engine.json: what graphs and plans a folder holds, what they were made for, whether it is whole.

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
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dkt_ros.arguments import DTYPES
from dkt_ros.errors import DktError
from dkt_ros.files import sha256, write_whole
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.wording import NAME, is_name

if TYPE_CHECKING:
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
        check_precision(manifest.precision)
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


def check_precision(name: str) -> None:
    """Raises DktError for none of PRECISIONS."""
    if name not in PRECISIONS:
        raise DktError(f"precision is {name!r}, expected one of {', '.join(PRECISIONS)}")


def _integers(values: Any, count: int | None = None) -> Any:
    numbers = tuple(values)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    if not whole or (count is not None and len(numbers) != count):
        raise DktError(f"{values!r} is no list of {f'{count} ' if count else ''}positive integers")
    return numbers


def by(shape: Sequence[int]) -> str:
    """(480, 832) -> "480x832"."""
    return "x".join(str(side) for side in shape)


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
