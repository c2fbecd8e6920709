"""Training samples as latents: drawn from the mixture, encoded once by the frozen VAE, cached.

Knows the order of the work and what a cached sample depends on. Keeps no state that a sample could
depend on, so that any process can make any sample.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.latent_frames import images_of
from dkt_ros.model.network import DktNetwork
from dkt_ros.train.data.augmentation import Augmentation, draw
from dkt_ros.train.data.config import DataConfig
from dkt_ros.train.data.latent_cache import LatentCache, content_key, files_digest, module_digest
from dkt_ros.train.data.latents import LatentBatch
from dkt_ros.train.data.preparation import ClipView, view_clip, view_frame
from dkt_ros.train.data.sources import Mixture, Window
from dkt_ros.wording import counted

_FORMAT = 1
"""Counts changes of the code that change what is encoded: older entries are then left alone."""
_STORED = torch.float16
"""Of all samples, cached or fresh; its rounding is an eighth of bfloat16's, in which is trained."""
_DRAWS = 0x0DA7A
_VARIANTS = 0x0A4615
_MOST_THREADS = 8


class EncodedSource:
    """A LatentSource over the data sets of a recipe.

    mixture: the data sets; mixture.skipped counts and names what was left out. cache: None where
    nothing is kept. encoded: samples encoded so far, the others came from the cache.
    """

    def __init__(
        self,
        network: DktNetwork,
        config: DataConfig,
        seed: int,
        cache: Path | None = None,
        *,
        latent_frames: Iterable[int] = (),
        threads: int | None = None,
    ) -> None:
        """network: its VAE encodes, on its device, where batches lie too.

        cache: folder, unless the configuration names one or asks for no variants. threads: that
        read and resize frames; None: one per core, at most 8. latent_frames: clip lengths that will
        be asked for.
        Raises DktError where a data set cannot be opened, has no clip long enough, or the size does
        not suit the network.
        """
        if network.info.task != "depth":
            raise DktError(
                f"checkpoint {network.info.name} predicts {network.info.task}; training is about "
                "disparity, so start from a depth checkpoint"
            )
        multiple = network.size_multiple
        if any(side % multiple for side in config.size):
            raise DktError(f"size is {list(config.size)}, expected multiples of {multiple}")
        self._network, self._config, self._seed = network, config, seed
        threads = min(_MOST_THREADS, os.cpu_count() or 1) if threads is None else threads
        self.mixture = Mixture(config.data, self._stride, threads)
        for count in sorted(set(latent_frames), reverse=True):
            self.mixture.require(images_of(count))
        self.cache: LatentCache | None = None
        folder = cache if config.cache is None else Path(os.path.expanduser(config.cache))
        if config.augmentation.variants > 0 and folder is not None:
            self.cache = LatentCache(folder)
        self.encoded = 0
        self._files: dict[Path, str] = {}
        self._useless: dict[str, str] = {}
        self._base: dict[str, Any] = {
            "format": _FORMAT,
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "vae": module_digest(network.vae, dict(network.vae.config)),
            "device": network.device.type,
            "size": config.size,
            "disparity": dataclasses.asdict(config.disparity),
        }

    def batch(self, step: int, indices: Sequence[int], latent_frames: int) -> LatentBatch:
        """See LatentSource; float32 on the network's device, rounded to float16."""
        entries = [self._sample(step, index, latent_frames) for index in indices]
        device = self._network.device
        stacked = {
            name: torch.stack([entry[name] for entry in entries]).to(device, torch.float32)
            for name in ("rgb", "disparity", "weight")
        }
        return LatentBatch(**stacked)

    def report(self) -> str:
        """One line on what was encoded, skipped and found damaged so far."""
        parts = [f"{counted(self.encoded, 'sample')} encoded", str(self.mixture.skipped)]
        if self.cache is not None and self.cache.remade:
            count = len(self.cache.remade)
            parts.append(
                f"{count} of the cache's entries damaged, the first {next(iter(self.cache.remade))}"
            )
        return "; ".join(parts)

    def close(self) -> None:
        """Ends the reading threads."""
        self.mixture.close()

    def _stride(self, frames: int) -> int:
        wanted = self._config.augmentation
        return wanted.window_stride or (frames if wanted.variants else 1)

    def _sample(self, step: int, index: int, latent_frames: int) -> dict[str, Tensor]:
        random = np.random.default_rng((self._seed, _DRAWS, step, index))
        frames = images_of(latent_frames)
        for window in self.mixture.candidates(random, frames):
            entry = self._entry(window, self._augmentation(window, random))
            if entry is not None:
                return entry
        raise self.mixture.nothing_left(frames)

    def _augmentation(self, window: Window, random: np.random.Generator) -> Augmentation:
        config, conditioned = self._config.augmentation, self._config.conditioned
        if config.variants == 0:
            return draw(config, random, conditioned)
        # A window's variants are its own, whichever sample asks for them.
        name = f"{self.mixture.sources[window.source].kind}/{window.clip.name}/{window.keys}"
        words = np.frombuffer(hashlib.sha256(os.fsencode(name)).digest(), np.uint32)
        variant = int(random.integers(config.variants))
        seed = (self._seed, _VARIANTS, variant, *(int(word) for word in words))
        return draw(config, np.random.default_rng(seed), conditioned)

    def _entry(self, window: Window, augmentation: Augmentation) -> dict[str, Tensor] | None:
        """The encoded sample, or None where the window is unusable, which is then noted."""
        if self.cache is None:
            return self._encode(window, augmentation)
        key = content_key(self._description(window, augmentation))
        if key in self._useless:
            self.mixture.skipped.add(str(window), self._useless[key])
            return None
        entry = self.cache.load(key)
        if entry is None:
            entry = self._encode(window, augmentation, key)
            if entry is not None:
                self.cache.store(key, entry, str(window))
        return entry

    def _description(self, window: Window, augmentation: Augmentation) -> dict[str, Any]:
        source, path = self.mixture.sources[window.source], window.clip.path
        if path not in self._files:
            self._files[path] = files_digest(path)
        changes = dataclasses.asdict(augmentation)
        if not self._config.shows_depth:
            del changes["sensor"]
        return {
            **self._base,
            "clip": [source.kind, window.clip.name, self._files[path]],
            "frames": window.keys,
            "depth_range": source.depth_range,
            "augmentation": changes,
        }

    def _encode(
        self, window: Window, augmentation: Augmentation, key: str | None = None
    ) -> dict[str, Tensor] | None:
        config = self._config
        depth_range = self.mixture.sources[window.source].depth_range
        view = partial(
            view_frame, augmentation=augmentation, size=config.size, depth_range=depth_range
        )
        frames = self.mixture.read(window, view)
        if frames is None:
            return None
        try:
            clip = view_clip(frames, augmentation, config.disparity, self._network.spatial_ratio)
        except DktError as error:
            self.mixture.skipped.add(str(window), str(error))
            if key is not None:
                self._useless[key] = str(error)
            return None
        self.encoded += 1
        entry = encode_clip(self._network, clip, self._config.shows_depth)
        if not all(bool(tensor.isfinite().all()) for tensor in entry.values()):
            raise DktError(
                f"{window}: the VAE's latents are not finite in {self._network.vae.dtype}; "
                "is the checkpoint sound?"
            )
        return entry


def encode_clip(
    network: DktNetwork, clip: ClipView, shows_depth: bool = False
) -> dict[str, Tensor]:
    """Latents rgb and disparity (Z, n, h, w) and weight (1, n, h, w), float16 on the CPU.

    Where depth is shown rgb has 2 Z channels, the second half of the raw depth, zero where there is
    none. Disparity goes in as three equal channels. One clip at a time, so that its latents do not
    depend on what else is in a batch; without autocast, for the same reason.
    """
    disparity = clip.disparity.expand(-1, 3, -1, -1, -1)
    with torch.no_grad(), torch.autocast(network.device.type, enabled=False):
        latents = {"rgb": network.encode_rgb(clip.rgb), "disparity": network.encode_rgb(disparity)}
        if shows_depth:
            raw = None if clip.raw is None else network.encode_rgb(clip.raw)
            hidden = torch.zeros_like(latents["rgb"]) if raw is None else raw
            latents["rgb"] = torch.cat([latents["rgb"], hidden], dim=1)
    entry = {name: tensor[0].to("cpu", _STORED) for name, tensor in latents.items()}
    return {**entry, "weight": clip.weight.to(_STORED)}
