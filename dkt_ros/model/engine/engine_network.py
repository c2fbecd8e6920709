"""The network as its engine's graphs compute it: what FastNetwork is to torch.

Knows the graphs' names and how their inputs and outputs follow each other. Knows nothing of who
runs a graph (tensorrt_runtime.py, onnx_runtime.py) or where the files lie.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.engine.manifest import (
    DECODER_FIRST,
    DECODER_FOLLOWING,
    EMBED_RGB,
    ENCODER_FIRST,
    ENCODER_FOLLOWING,
    GraphRunner,
    GraphSpec,
    Manifest,
    step_name,
)
from dkt_ros.model.streaming_vae import Caches, First, Following, Stream

Modulations = Mapping[float, tuple[Tensor, Tensor]]
"""Timestep -> modulation (L, 6, D) and final (2, D), float32 on the engine's device."""
SAME_TIMESTEP = 1e-2
"""Timesteps nearer than this are one: float32 and float64 round 1000 sigma differently."""


class EngineNetwork:
    """A StreamingNetwork over an engine's graphs; all without gradients, at one fixed size."""

    def __init__(
        self,
        manifest: Manifest,
        runners: Mapping[str, GraphRunner],
        modulations: Modulations,
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
        self._modulations = modulations

    def encoder_stream(self) -> Stream:
        """At the start of a clip: images (1, 3, 1 then 4, H, W) -> latents (1, Z, 1, h, w).

        H and W are the engine's; its `advance` raises DktError for others.
        """
        return Stream(self._first(ENCODER_FIRST), self._following(ENCODER_FOLLOWING))

    def decoder_stream(self) -> Stream:
        """At the start of a clip: latents (1, Z, 1, h, w) -> images (1, 3, 1 then 4, H, W)."""
        return Stream(self._first(DECODER_FIRST), self._following(DECODER_FOLLOWING))

    @torch.inference_mode()
    def embed_rgb(self, latents: Tensor) -> Tensor:
        """RGB latents (1, Z, T, h, w) -> what conditions the velocity, T at dimension 2."""
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
        window = (noisy.shape[2], noisy.shape[2] if keep is None else keep)
        if window not in self._manifest.windows:
            raise DktError(
                f"the engine has no graph for windows of {window[0]} latent frames of which "
                f"{window[1]} are new, only {_pairs(self._manifest.windows)}; build it for this "
                "sampler's windows with `dkt engine build`, or take the preset it was built for"
            )
        modulation, final = self._modulation(float(timestep))
        return self._run(step_name(*window), noisy, rgb_latents, modulation, final)[0]

    def _first(self, name: str) -> First:
        def run(chunk: Tensor) -> tuple[Tensor, Caches]:
            result, *caches = self._run(name, chunk)
            return result, tuple(caches)

        return run

    def _following(self, name: str) -> Following:
        def run(chunk: Tensor, caches: Caches) -> tuple[Tensor, Caches]:
            result, *new = self._run(name, chunk, *caches)
            return result, tuple(new)

        return run

    def _run(self, name: str, *arguments: Tensor) -> list[Tensor]:
        graph = self._manifest.graph(name)
        inputs = _named(graph, arguments)
        outputs = self._runners[name](inputs)
        return [outputs[spec.name] for spec in graph.outputs]

    def _modulation(self, timestep: float) -> tuple[Tensor, Tensor]:
        nearest = min(self._modulations, key=lambda known: abs(known - timestep))
        if abs(nearest - timestep) > SAME_TIMESTEP:
            known = ", ".join(f"{known:g}" for known in sorted(self._modulations, reverse=True))
            raise DktError(
                f"the engine has no constants for timestep {timestep:g}, only for {known} "
                f"({self._manifest.steps} steps); build it for this number of steps with "
                "`dkt engine build --steps`"
            )
        return self._modulations[nearest]


def _named(graph: GraphSpec, arguments: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The arguments by the names of the graph's inputs; DktError where one does not fit."""
    if len(arguments) != len(graph.inputs):
        raise ValueError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(arguments)}")
    for spec, argument in zip(graph.inputs, arguments, strict=True):
        if tuple(argument.shape) != spec.shape:
            raise DktError(
                f"the engine's graph {graph.name} takes {spec.name} of "
                f"{_by(spec.shape)}, got {_by(tuple(argument.shape))}; an engine works at the one "
                "size it was built for: set the working size to it, or build another"
            )
    return {spec.name: value for spec, value in zip(graph.inputs, arguments, strict=True)}


def _pairs(windows: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(f"{keep} of {frames}" for frames, keep in windows)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
