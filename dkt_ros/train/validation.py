"""The loss of a few fixed clips at fixed noise and noise levels: comparable from step to step.

Knows how a clip becomes a batch. Knows nothing of training steps or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dkt_ros.model.network import DktNetwork
from dkt_ros.train.data.augmentation import AS_IT_IS, Augmentation
from dkt_ros.train.data.encoded_source import encode_clip
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.data.preparation import view_clip
from dkt_ros.train.objective import ask, losses
from dkt_ros.train.preview import PreviewClip
from dkt_ros.train.recipe import Recipe

DRAWS = 4
"""Noises and noise levels of each clip."""


class ValidationLoss:
    """The recipe's loss, without augmentation and with each sensor's own faults alone."""

    def __init__(self, recipe: Recipe, clips: Sequence[PreviewClip]) -> None:
        self._recipe, self._clips = recipe, clips
        self._encoded: list[LatentBatch] = []  # once: the VAE does not learn

    @torch.no_grad()
    def __call__(self, network: DktNetwork) -> float:
        """The mean over clips and draws; the network's weights are those to be judged."""
        recipe = self._recipe
        if not self._encoded:
            self._encoded = [self._encode(network, clip) for clip in self._clips]
        found = []
        for place, kept in enumerate(self._encoded):
            batch = LatentBatch(*(value.to(network.device) for value in vars(kept).values()))
            for draw in range(DRAWS):
                index, seed = place * DRAWS + draw, recipe.preview.seed
                question = ask(recipe.objective, batch, seed, 0, [index], network.info)
                velocity = network.velocity(question.noisy, batch.rgb, question.timestep)
                parts = losses(recipe.objective, question, velocity, batch)
                found.append(float(torch.stack(list(parts.values())).sum()))
        return sum(found) / len(found)

    def _encode(self, network: DktNetwork, clip: PreviewClip) -> LatentBatch:
        data, ratio = self._recipe.data, network.spatial_ratio
        shown = AS_IT_IS if data.shows_depth else None
        view = view_clip(clip.views, Augmentation(sensor=shown), data.disparity, ratio)
        entry = encode_clip(network, view, data.shows_depth)
        return LatentBatch(**{name: value[None].float() for name, value in entry.items()})
