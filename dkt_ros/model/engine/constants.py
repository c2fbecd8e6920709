"""What an engine's steps take beside tensors of the stream: modulations, by timestep.

Knows constants.safetensors. With it an engine's folder needs no checkpoint to run.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dkt_ros.errors import DktError
from dkt_ros.model.engine.manifest import CONSTANTS_FILE, Manifest
from dkt_ros.model.fast_transformer import FastTransformer
from dkt_ros.model.sampler import TRAIN_TIMESTEPS, sigmas


def write_constants(
    folder: Path, transformer: FastTransformer, steps: int, sigma_shift: float
) -> None:
    """Writes the modulations of the timesteps of a schedule of `steps` Euler steps.

    timesteps (S,) float64: 1000 sigma; modulation (S, L, 6, D) and final (S, 2, D) float32.
    """
    from safetensors.torch import save

    timesteps = [level * TRAIN_TIMESTEPS for level in sigmas(steps, sigma_shift).tolist()]
    tables = [transformer.modulations(timestep) for timestep in timesteps]
    tensors = {
        "timesteps": torch.tensor(timesteps, dtype=torch.float64),
        "modulation": torch.stack([modulation for modulation, _ in tables]).cpu(),
        "final": torch.stack([final for _, final in tables]).cpu(),
    }
    # Not save_file, which writes for the owner alone, whatever the umask.
    (folder / CONSTANTS_FILE).write_bytes(save(tensors))


def read_constants(
    folder: Path, manifest: Manifest, device: torch.device | str = "cpu"
) -> dict[float, tuple[Tensor, Tensor]]:
    """Timestep -> modulation (L, 6, D) and final (2, D), float32 on the device.

    Raises DktError where the file is missing, damaged or not the manifest's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / manifest.constants
    try:
        tensors = load_file(file)
        timesteps = tensors["timesteps"].tolist()
        pairs = zip(tensors["modulation"].to(device), tensors["final"].to(device), strict=True)
        constants = dict(zip(timesteps, pairs, strict=True))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DktError(
            f"{file} cannot be read ({error}); build it again with `dkt engine build`"
        ) from error
    if len(constants) != manifest.steps:
        raise DktError(
            f"{file} holds {len(constants)} timesteps, engine.json says {manifest.steps}; "
            "build it again with `dkt engine build`"
        )
    return constants
