"""engine.json: what graphs and plans a folder holds, and what they were made for.

Knows the names that exporter, builder and runtime agree on, and how to read and write the file.
Knows nothing of torch's, ONNX's or TensorRT's own types.

Graphs, with their inputs and outputs in the order of the functions they are made from:

    encoder_first      images (1, 3, 1, H, W)    -> latents (1, Z, 1, h, w), new_cache_00, ...
    encoder_following  images (1, 3, 4, H, W), cache_00, ...    -> latents, new_cache_00, ...
    decoder_first      latents (1, Z, 1, h, w)   -> images (1, 3, 1, H, W), new_cache_00, ...
    decoder_following  latents, cache_00, ...    -> images (1, 3, 4, H, W), new_cache_00, ...
    embed_rgb          latents (1, Z, 1, h, w)   -> tokens (1, 1, 1, n, D)
    step_T{T}_keep{K}  noisy (1, Z, T, h, w), rgb_tokens (1, 1, T, n, D),
                       modulation (L, 6, D), final (2, D)    -> velocity (1, Z, K, h, w)

Images, latents, noisy, modulation, final and velocity are float32; tokens and caches have the type
that the network computes in. The rotary tables are constants of a step's graph. A timestep's
modulation and final stand in constants.safetensors (see constants.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dkt_ros.errors import DktError
from dkt_ros.model.info import CheckpointInfo

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
MANIFEST_FILE = "engine.json"
CONSTANTS_FILE = "constants.safetensors"
PRECISIONS = ("fp32", "bf16", "fp16", "fp8")
DTYPES = ("float32", "bfloat16", "float16")
"""Of tensors, by torch's names."""
ENCODER_FIRST, ENCODER_FOLLOWING = "encoder_first", "encoder_following"
DECODER_FIRST, DECODER_FOLLOWING = "decoder_first", "decoder_following"
EMBED_RGB = "embed_rgb"


class GraphRunner(Protocol):
    """One graph, ready to run."""

    def __call__(self, inputs: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Tensors by the names, shapes and types of its GraphSpec, in and out."""
        ...


def step_name(frames: int, keep: int) -> str:
    """Name of the step's graph for windows of `frames` latent frames, the last `keep` wanted."""
    return f"step_T{frames}_keep{keep}"


def graph_names(windows: Iterable[tuple[int, int]]) -> list[str]:
    """Names of all graphs of an engine with these windows (T, keep)."""
    fixed = (ENCODER_FIRST, ENCODER_FOLLOWING, DECODER_FIRST, DECODER_FOLLOWING, EMBED_RGB)
    return [*fixed, *(step_name(frames, keep) for frames, keep in windows)]


def cache_name(index: int, new: bool = False) -> str:
    """Name of a graph's index-th cache as it is given, or as it is returned."""
    return f"{'new_' if new else ''}cache_{index:02d}"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; dtype is one of DTYPES."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSpec:
    """One graph. onnx, plan: files relative to the folder; plan is None where none was built.

    plan_sha256: of the plan's file. A plan holds programs, so the runtime loads no other file.
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

    gpu: e.g. "NVIDIA L4"; compute_capability: e.g. "8.9"; tensorrt: its full version.
    """

    gpu: str
    compute_capability: str
    tensorrt: str


@dataclass(frozen=True)
class Manifest:
    """The contents of engine.json.

    system       what the plans run on; None where there are graphs only
    checkpoint   fingerprint of the checkpoint's files, see fingerprint.py
    info         the checkpoint's dkt.json
    size         (H, W) in pixels the network works at
    windows      (T, keep) of every step's graph
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
    windows: tuple[tuple[int, int], ...]
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
        except FileNotFoundError:
            raise DktError(
                f"{file} is missing, so {folder} holds no engine; make one with `dkt engine build`"
            ) from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DktError(
                f"{file} cannot be read as JSON: {error}; build it again with `dkt engine build`"
            ) from error
        try:
            return cls.from_dict(content)
        except DktError as error:
            raise DktError(f"{file}: {error}; build it again with `dkt engine build`") from error

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
                    "windows": tuple(_integers(pair, 2) for pair in content["windows"]),
                    "patch": _integers(content["patch"], 3),
                    "graphs": tuple(_graph(graph) for graph in content["graphs"]),
                    "files": {str(k): str(v) for k, v in content["files"].items()},
                }
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise DktError(f"fields are missing, unknown or of the wrong type ({error})") from error
        _require_own_files("constants", manifest.constants)
        _require_own_files("files", *manifest.files)
        if manifest.precision not in PRECISIONS:
            raise DktError(
                f"precision is {manifest.precision!r}, expected one of {', '.join(PRECISIONS)}"
            )
        return manifest

    def write(self, folder: Path) -> None:
        """Writes engine.json whole or not at all."""
        file = folder / MANIFEST_FILE
        draft = file.with_suffix(".json.part")
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, file)


def _graph(content: Mapping[str, Any]) -> GraphSpec:
    def specs(items: Any) -> tuple[TensorSpec, ...]:
        return tuple(_tensor(item) for item in items)

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


def _integers(values: Any, count: int | None = None) -> Any:
    numbers = tuple(values)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    if not whole or (count is not None and len(numbers) != count):
        raise DktError(f"{values!r} is no list of {count or ''} positive integers")
    return numbers
