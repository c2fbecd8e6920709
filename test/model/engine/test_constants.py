"""What an engine needs of its checkpoint, and how it knows which one that was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dkt_ros.errors import DktError
from dkt_ros.model.engine.constants import read_constants, write_constants
from dkt_ros.model.engine.fingerprint import checkpoint_fingerprint
from dkt_ros.model.engine.manifest import Manifest
from dkt_ros.model.fast_transformer import FastTransformer
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.network import DktNetwork

MANIFEST = Manifest(
    system=None,
    checkpoint="",
    info=CheckpointInfo(name="tiny"),
    size=(32, 48),
    windows=((1, 1),),
    precision="fp32",
    steps=3,
    latent_channels=16,
    spatial_ratio=8,
    patch=(1, 2, 2),
    head_dim=12,
    graphs=(),
)


@pytest.fixture
def transformer(tiny_network: DktNetwork) -> FastTransformer:
    return FastTransformer(tiny_network.transformer, tiny_network.prompt_embeds)


def test_modulations_come_back(transformer: FastTransformer, tmp_path: Path) -> None:
    write_constants(tmp_path, transformer, 3, 5.0)
    constants = read_constants(tmp_path, MANIFEST)
    # 1000 s with s = 5 u / (1 + 4 u) at u = 1, 2/3, 1/3.
    assert list(constants) == pytest.approx([1000.0, 1e4 / 11, 5e3 / 7])
    for timestep, found in constants.items():
        for ours, theirs in zip(found, transformer.modulations(timestep), strict=True):
            assert torch.equal(ours, theirs)


def test_constants_that_are_missing_damaged_or_of_other_steps(
    transformer: FastTransformer, tmp_path: Path
) -> None:
    with pytest.raises(DktError, match="dkt engine build"):
        read_constants(tmp_path, MANIFEST)
    write_constants(tmp_path, transformer, 3, 5.0)
    with pytest.raises(DktError, match=r"holds 3 timesteps, engine\.json says 5"):
        read_constants(tmp_path, replace(MANIFEST, steps=5))
    file = tmp_path / MANIFEST.constants
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DktError, match="cannot be read"):
        read_constants(tmp_path, MANIFEST)


def test_a_fingerprint_is_of_the_contents(tiny_checkpoint: Path, tmp_path: Path) -> None:
    before = checkpoint_fingerprint(tiny_checkpoint)
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "elsewhere"))
    (copy / "MODEL_CARD.md").write_text("words change nothing")
    assert checkpoint_fingerprint(copy) == before
    weights = next((copy / "vae").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert checkpoint_fingerprint(copy) != before


def test_no_checkpoint_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"no dkt\.json|has no dkt"):
        checkpoint_fingerprint(tmp_path)
