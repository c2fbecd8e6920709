"""The public reference code as a row of benchmarks/engine.py: its layers, its order of work.

Expects a folder that holds the package `diffsynth` as the public DKT code and DiffSynth-Studio have
it, with models/wan_video_dit.py and models/wan_video_vae.py; those two modules are imported without
the package around them, so that of its requirements only torch, einops and tqdm are needed. The
weights are random: time and memory do not depend on them.

Every image of the clip is encoded, every window of latents goes through the transformer with its
512 prompt and 257 image tokens at every step, the windows' velocities are blended, and all is
decoded, as `DktNetwork` with `model.sampler.sample` does it by the layers of diffusers. Noise,
windows and blending are arithmetic on latents, negligible beside the network, and are this
project's.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.sampler import initial_noise, sample

PROMPT_TOKENS, IMAGE_TOKENS, IMAGE_DIM = 512, 257, 1280
PACKAGES = ("diffsynth", "diffsynth.core", "diffsynth.models")


class Reference:
    """The published network, built from the public code, on clips of any length."""

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        info: CheckpointInfo,
        transformer: dict[str, Any],
    ) -> None:
        """transformer: what WanModel is built with; `published_transformer` or smaller."""
        dit, vae = import_models(folder)
        self.device, self.dtype, self.info = device, dtype, info
        with torch.device(device):
            self.transformer = dit.WanModel(**transformer)
            self.vae = vae.WanVideoVAE(z_dim=16)
        # The table of rotations is kept beside the parameters, in double precision.
        self.transformer.freqs = tuple(part.to(device) for part in self.transformer.freqs)
        self._patchify = self.transformer.patchify
        self.transformer.patchify = self._patches_and_grid
        for part in (self.transformer, self.vae):
            part.to(device, dtype).eval().requires_grad_(False)
        self._context = torch.randn(
            1, PROMPT_TOKENS, transformer["text_dim"], device=device, dtype=dtype
        )
        self._clip = torch.zeros(1, IMAGE_TOKENS, IMAGE_DIM, device=device, dtype=dtype)

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (4N+1, H, W, 3), sides multiples of 16 -> relative disparity (4N+1, H, W)."""
        with torch.inference_mode():
            images = torch.from_numpy(rgb).permute(3, 0, 1, 2)[None]
            images = images.to(self.device, self.dtype) / 127.5 - 1.0
            latents = self.vae.encode(images, device=self.device)
            latents = latents.to(self.device).float()
            result = sample(
                self,
                latents,
                initial_noise(tuple(latents.shape), 1),
                steps=self.info.steps,
                shift=self.info.sigma_shift,
                window=self.info.window,
                overlap=self.info.overlap,
            )
            video = self.vae.decode(result.to(self.dtype), device=self.device)
            disparity: np.ndarray = ((video[0].float().mean(dim=0) + 1) / 2).cpu().numpy()
        return disparity

    def velocity(self, noisy: Tensor, rgb_latents: Tensor, timestep: Tensor | float) -> Tensor:
        """See VelocityModel."""
        condition = torch.cat([rgb_latents, torch.zeros_like(rgb_latents)], dim=1)
        steps = torch.full((1,), float(timestep), device=self.device, dtype=self.dtype)
        velocity: Tensor = self.transformer(
            noisy.to(self.dtype),
            steps,
            self._context,
            clip_feature=self._clip,
            y=condition.to(self.dtype),
        )
        return velocity.float()

    def _patches_and_grid(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Tokens (1, n, dim) and (T, h, w), which WanModel.forward expects of its own patchify.

        Some versions of the public code give (1, dim, T, h, w) there, for their pipeline to unroll.
        """
        patches = self._patchify(x)
        if isinstance(patches, tuple):
            return patches
        return patches.flatten(2).transpose(1, 2), tuple(patches.shape[2:])


def published_transformer() -> dict[str, Any]:
    """Wan2.1-Fun-1.3B-Control as WanModel is told of it."""
    return {
        "dim": 1536,
        "in_dim": 48,
        "ffn_dim": 8960,
        "out_dim": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "eps": 1e-6,
        "patch_size": (1, 2, 2),
        "num_heads": 12,
        "num_layers": 30,
        "has_image_input": True,
    }


def import_models(folder: Path) -> tuple[ModuleType, ModuleType]:
    """The public modules of the transformer and of the VAE; DktError where they are not."""
    root = folder / "diffsynth"
    for name in ("wan_video_dit", "wan_video_vae"):
        if not (root / "models" / f"{name}.py").is_file():
            raise DktError(
                f"no diffsynth/models/{name}.py in {folder}: expected a copy of the public DKT "
                "code or of DiffSynth-Studio"
            )
    for name in PACKAGES:  # in place of the packages' own __init__, which import everything
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    try:
        return (
            importlib.import_module("diffsynth.models.wan_video_dit"),
            importlib.import_module("diffsynth.models.wan_video_vae"),
        )
    except ImportError as error:
        raise DktError(f"the reference code in {folder} needs a package: {error}") from error
