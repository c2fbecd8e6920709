"""Every stage against what the public reference computes with the same weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.original_files import transformer_shapes, vae_shapes
from safetensors.torch import load_file

from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.convert import OriginalFiles, convert
from dkt_ros.model.fast_network import FastNetwork
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.sampler import blended_velocity, initial_noise, sigmas, timesteps
from dkt_ros.predict.clip import PredictOptions, predict_disparity

LATENT_TOLERANCE = 1e-4
DISPARITY_TOLERANCE = 1e-3


@dataclass
class Case:
    folder: Path
    config: dict[str, Any]
    expected: dict[str, torch.Tensor]
    network: DktNetwork
    without_lora: DktNetwork

    @property
    def window(self) -> int:
        return int(self.config["window"])

    @property
    def overlap(self) -> int:
        return self.window - int(self.config["stride"])


@pytest.fixture(scope="module", params=["clip17", "image1"])
def case(
    request: pytest.FixtureRequest, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    folder = shared_folder / "reference" / request.param
    output = tmp_path_factory.mktemp(request.param)
    for name, lora in (("with", folder / "dkt_lora.safetensors"), ("without", None)):
        files = OriginalFiles(
            transformer=folder / "diffusion_pytorch_model.safetensors",
            vae=folder / "Wan2.1_VAE.pth",
            lora=lora,
            prompt_embeds=folder / "prompt_embeds.safetensors",
        )
        convert(files, output / name)
    return Case(
        folder,
        json.loads((folder / "config.json").read_text()),
        load_file(folder / "expected.safetensors"),
        load_checkpoint(output / "with"),
        load_checkpoint(output / "without"),
    )


def worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


@torch.inference_mode()
def test_velocity(case: Case) -> None:
    x, timestep = case.expected["dit.x"], case.expected["dit.timestep"]
    merged = case.network.transform(x, timestep)
    base = case.without_lora.transform(x, timestep)
    assert worst(merged, case.expected["dit.velocity_with_lora"]) < LATENT_TOLERANCE
    assert worst(base, case.expected["dit.velocity_without_lora"]) < LATENT_TOLERANCE
    assert worst(merged, base) > 100 * LATENT_TOLERANCE, "the LoRA changes nothing"


@torch.inference_mode()
def test_vae(case: Case) -> None:
    latents = case.network.encode_rgb(case.expected["vae.input"])
    assert worst(latents, case.expected["vae.latents"]) < LATENT_TOLERANCE
    decoded = case.network.decode(case.expected["vae.latents"])
    assert worst(decoded, case.expected["vae.decoded"]) < LATENT_TOLERANCE


def test_schedule_and_noise(case: Case) -> None:
    levels = sigmas(case.config["steps"], case.config["sigma_shift"])
    assert worst(levels, case.expected["scheduler.sigmas"]) < 1e-6
    assert worst(timesteps(levels), case.expected["scheduler.timesteps"]) < 1e-3
    shape = tuple(case.expected["pipeline.noise"].shape)
    noise = initial_noise(shape, case.config["noise_seed"])
    assert worst(noise, case.expected["pipeline.noise"]) == 0.0


@torch.inference_mode()
def test_blended_velocity_of_every_step(case: Case) -> None:
    rgb = case.expected["pipeline.rgb"].movedim(-1, 0)[None].float() / 127.5 - 1.0
    latents = case.network.encode_rgb(rgb)
    x = case.expected["pipeline.noise"]
    levels = sigmas(case.config["steps"], case.config["sigma_shift"])
    following = torch.cat([levels[1:], torch.zeros(1)])
    for step, (level, after) in enumerate(zip(levels, following, strict=True)):
        v = blended_velocity(case.network, x, latents, 1000 * level, case.window, case.overlap)
        theirs = case.expected["pipeline.velocity_per_step"][step]
        assert worst(v, theirs) < LATENT_TOLERANCE, f"step {step}"
        x = x + theirs * (after - level)
    decoded = case.network.decode(x)
    assert worst(decoded, case.expected["pipeline.decoded"]) < DISPARITY_TOLERANCE


def test_disparity(case: Case) -> None:
    options = PredictOptions(case.config["steps"], case.window, case.overlap, seed=1)
    ours = predict_disparity(
        FastNetwork(case.network), case.expected["pipeline.rgb"].numpy(), options
    )
    theirs = case.expected["pipeline.disparity"].numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < DISPARITY_TOLERANCE
    # The reference's own 8-bit output is as far away as truncation to 8 bits makes it.
    coarse = case.expected["pipeline.disparity_8bit"].numpy()
    assert 0.5 / 255 < np.abs(ours - coarse).max() < 1.1 / 255


def test_files_written_by_the_tests_have_the_original_keys(case: Case) -> None:
    """Ties the shapes that the other tests invent to files that the reference wrote."""
    dit, vae = case.config["dit"], case.config["vae"]
    invented = transformer_shapes(
        dim=dit["dim"],
        ffn=dit["ffn_dim"],
        layers=dit["num_layers"],
        freq=dit["freq_dim"],
        text=dit["text_dim"],
    )
    real = load_file(case.folder / "diffusion_pytorch_model.safetensors")
    assert invented == {key: tuple(value.shape) for key, value in real.items()}
    original = torch.load(case.folder / "Wan2.1_VAE.pth", weights_only=True)
    shapes = {key: tuple(value.shape) for key, value in original.items()}
    assert vae_shapes(vae["dim"], tuple(vae["dim_mult"]), vae["num_res_blocks"]) == shapes
