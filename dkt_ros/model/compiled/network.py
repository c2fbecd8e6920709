"""The network as its engine's graphs compute it: what FastNetwork is to torch.

Graphs are run by tensorrt_runtime.py or onnx_runtime.py. Beside tensors of the stream a step takes
modulations and rotary tables, which constants.safetensors holds: an engine needs no checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.graphs import NetworkGraphs
from dkt_ros.model.compiled.manifest import (
    CONSTANTS_FILE,
    DECODER_FIRST,
    DECODER_FOLLOWING,
    EMBED_RGB,
    ENCODER_FIRST,
    ENCODER_FOLLOWING,
    REBUILD,
    GraphRunner,
    GraphSpec,
    Manifest,
    by,
    step_name,
)
from dkt_ros.model.compiled.request import in_words
from dkt_ros.model.sampler import TRAIN_TIMESTEPS, sigmas
from dkt_ros.model.streaming_vae import Caches, Stream
from dkt_ros.wording import counted

SAME_TIMESTEP = 1e-2
"""Timesteps nearer than this are one: float32 and float64 round 1000 sigma differently."""


@dataclass(frozen=True, eq=False)
class Constants:
    """What a step takes beside tensors of the stream, float32 on the engine's device.

    modulations: timestep -> modulation (L, 6, D) and final (2, D). cos, sin: rotary tables
    (T, n, d / 2) of the longest window, with which those of shorter ones begin.
    """

    modulations: Mapping[float, tuple[Tensor, Tensor]]
    cos: Tensor
    sin: Tensor


class EngineNetwork:
    """A StreamingNetwork over an engine's graphs; all without gradients, at one fixed size."""

    def __init__(
        self,
        manifest: Manifest,
        runners: Mapping[str, GraphRunner],
        constants: Constants,
        device: torch.device,
    ) -> None:
        """runners: one for each of the manifest's graphs, by name.

        device: where inputs are given and outputs come back.
        """
        self.info = manifest.info
        self.device = device
        self.fixed_size: tuple[int, int] | None = manifest.size
        self.latent_channels = manifest.latent_channels
        self.spatial_ratio = manifest.spatial_ratio
        self.size_multiple = manifest.size_multiple
        self._manifest = manifest
        self._runners = runners
        self._constants = constants

    def encoder_stream(self) -> Stream:
        """At the start of a clip: images (1, 3, 1 then 4, H, W) -> latents (1, Z, 1, h, w).

        H and W are the engine's; its `advance` raises DktError for others.
        """
        return self._stream(ENCODER_FIRST, ENCODER_FOLLOWING)

    def decoder_stream(self) -> Stream:
        """At the start of a clip: latents (1, Z, 1, h, w) -> images (1, 3, 1 then 4, H, W)."""
        return self._stream(DECODER_FIRST, DECODER_FOLLOWING)

    @torch.inference_mode()
    def embed_rgb(self, latents: Tensor) -> Tensor:
        """Latents (1, Z or 2 Z, T, h, w) -> what conditions the velocity, T at dimension 2."""
        tokens = [self._run(EMBED_RGB, latent)[0] for latent in latents.split(1, dim=2)]
        return tokens[0] if len(tokens) == 1 else torch.cat(tokens, dim=2)

    @torch.inference_mode()
    def velocity(
        self, noisy: Tensor, rgb_latents: Tensor, timestep: Tensor | float, keep: int | None = None
    ) -> Tensor:
        """Flow velocity (1, Z, keep, h, w) of the last `keep` frames (all), float32.

        noisy: (1, Z, T, h, w); rgb_latents: as `embed_rgb` made of them; timestep: 1000 sigma.
        Raises DktError for a window or a timestep that the engine was not built for.
        """
        frames, tables = noisy.shape[2], self._constants
        if frames not in self._manifest.windows:
            raise DktError(
                f"the engine has no graph for windows of {counted(frames, 'latent frame')}, only "
                f"of {in_words(self._manifest.windows)}; build it for this sampler's windows with "
                "`dkt engine build`, or take the preset it was built for"
            )
        modulation, final = self._modulation(float(timestep))
        length = frames // self._manifest.patch[0]
        rope = (tables.cos[:length], tables.sin[:length])
        [velocity] = self._run(step_name(frames), noisy, rgb_latents, modulation, final, *rope)
        return velocity if keep is None else velocity[:, :, -keep:]

    def _stream(self, first: str, following: str) -> Stream:
        # No functions of its own, which a stream that is saved could not be found by.
        return Stream(partial(self._chunk, first), partial(self._chunk, following))

    def _chunk(self, name: str, chunk: Tensor, caches: Caches = ()) -> tuple[Tensor, Caches]:
        result, *new = self._run(name, chunk, *caches)
        return result, tuple(new)

    def _run(self, name: str, *arguments: Tensor) -> list[Tensor]:
        graph = self._manifest.graph(name)
        inputs = _named(graph, arguments)
        outputs = self._runners[name](inputs)
        return [outputs[spec.name] for spec in graph.outputs]

    def _modulation(self, timestep: float) -> tuple[Tensor, Tensor]:
        modulations = self._constants.modulations
        nearest = min(modulations, key=lambda known: abs(known - timestep))
        if abs(nearest - timestep) > SAME_TIMESTEP:
            known = ", ".join(f"{known:g}" for known in sorted(modulations, reverse=True))
            raise DktError(
                f"the engine has no constants for timestep {timestep:g}, only for {known} "
                f"({counted(self._manifest.steps, 'step')}); build it for this number of steps "
                "with `dkt engine build --steps`"
            )
        return modulations[nearest]


def _named(graph: GraphSpec, arguments: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The arguments by the names of the graph's inputs; DktError where one does not fit."""
    if len(arguments) != len(graph.inputs):
        raise ValueError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(arguments)}")
    for spec, argument in zip(graph.inputs, arguments, strict=True):
        if tuple(argument.shape) != spec.shape:
            raise DktError(
                f"the engine's graph {graph.name} takes {spec.name} of "
                f"{by(spec.shape)}, got {by(argument.shape)}; an engine works at the one "
                "size it was built for: set the working size to it, or build another"
            )
    return {spec.name: value for spec, value in zip(graph.inputs, arguments, strict=True)}


def write_constants(
    folder: Path, graphs: NetworkGraphs, steps: int, windows: Sequence[int], sigma_shift: float
) -> None:
    """Writes rotary tables, and the modulations of a schedule of `steps` Euler steps.

    timesteps (S,) float64: 1000 sigma; modulation (S, L, 6, D) and final (S, 2, D) float32; cos and
    sin (T, n, d / 2) float32, T of the longest window.
    """
    from safetensors.torch import save

    timesteps = [level * TRAIN_TIMESTEPS for level in sigmas(steps, sigma_shift).tolist()]
    tables = [graphs.transformer.modulations(timestep) for timestep in timesteps]
    cos, sin = graphs.rope(max(windows))
    tensors = {
        "cos": cos.cpu().contiguous(),
        "sin": sin.cpu().contiguous(),
        "timesteps": torch.tensor(timesteps, dtype=torch.float64),
        "modulation": torch.stack([modulation for modulation, _ in tables]).cpu(),
        "final": torch.stack([final for _, final in tables]).cpu(),
    }
    # Not save_file, which writes for the owner alone, whatever the umask.
    (folder / CONSTANTS_FILE).write_bytes(save(tensors))


def read_constants(
    folder: Path, manifest: Manifest, device: torch.device | str = "cpu"
) -> Constants:
    """Raises DktError where the file is missing, damaged or not the manifest's."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / manifest.constants
    try:
        tensors = load_file(file)
        timesteps = tensors["timesteps"].tolist()
        pairs = zip(tensors["modulation"].to(device), tensors["final"].to(device), strict=True)
        modulations = dict(zip(timesteps, pairs, strict=True))
        constants = Constants(modulations, tensors["cos"].to(device), tensors["sin"].to(device))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DktError(f"{file} cannot be read ({error}); {REBUILD}") from error
    if len(modulations) != manifest.steps:
        raise DktError(
            f"{file} holds {counted(len(modulations), 'timestep')}, engine.json says "
            f"{manifest.steps}; {REBUILD}"
        )
    return constants
