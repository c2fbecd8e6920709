"""The published sizes on the meta device: conversion finds a place for every key."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from fixtures.original_files import (
    DIT_1_3B,
    DIT_14B,
    lora_shapes,
    meta_tensors,
    text_encoder_shapes,
    transformer_shapes,
    vae_shapes,
)

from dkt_ros.errors import DktError
from dkt_ros.model.convert import Part, convert_transformer, convert_vae
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.lora import info_after, match_lora
from dkt_ros.model.network import DktNetwork
from dkt_ros.model.text_encoder import load_text_encoder
from dkt_ros.model.weights import Weights
from dkt_ros.train.lora import peft_tensors, public_tensors
from dkt_ros.train.recipe import parse_recipe
from dkt_ros.train.tuning import prepare


def loaded(cls: Any, part: Part) -> Any:
    """The diffusers model of a converted part; strict, so no key is missing or left over."""
    with torch.device("meta"):
        model = cls.from_config(part.config)
    tensors = {key: part.weights.read(key) for key in part.weights.shapes}
    model.load_state_dict(tensors, strict=True, assign=True)
    return model


@pytest.mark.parametrize(("size", "heads"), [(DIT_1_3B, 12), (DIT_14B, 40)], ids=["1.3B", "14B"])
def test_every_transformer_and_lora_key_finds_its_place(size: dict[str, int], heads: int) -> None:
    shapes = transformer_shapes(**size)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    # v1.1 of the base model brings a part that DKT does not use.
    shapes |= {"ref_conv.weight": (size["dim"], 16, 2, 2), "ref_conv.bias": (size["dim"],)}
    sizes = {key: size[key] for key in ("dim", "ffn", "layers")}
    lora = meta_tensors(lora_shapes(**sizes, rank=128))
    said: list[str] = []

    part = convert_transformer(
        Weights.from_tensors(meta_tensors(shapes), "base"),
        Weights.from_tensors(lora, "lora"),
        report=said.append,
    )
    model = loaded(WanTransformer3DModel, part)

    assert part.config["num_attention_heads"] == heads
    assert part.config["attention_head_dim"] == 128
    assert part.config["image_dim"] == 1280
    assert (part.config["in_channels"], part.config["out_channels"]) == (48, 16)
    assert sum(p.numel() for p in model.parameters()) == parameters
    merging = f"merging {10 * size['layers']} LoRA pairs of rank 128 with scale 1: "
    assert any(line.startswith(merging) for line in said)
    assert any("ref_conv.weight" in line for line in said)


def test_what_learns_with_raw_depth_finds_its_place() -> None:
    """All that `dkt train` trains of the published network's width, by the keys it writes."""
    recipe = parse_recipe(
        {"data": [{"path": "none"}], "size": [480, 832], "condition": "raw_depth"}
    )
    with torch.device("meta"):
        transformer = WanTransformer3DModel(
            num_attention_heads=12,
            in_channels=48,
            ffn_dim=8960,
            num_layers=2,
            image_dim=1280,
            added_kv_proj_dim=1536,
        )
        vae = AutoencoderKLWan()
    network = DktNetwork(transformer, vae, torch.zeros(1, 4096), CheckpointInfo(name="dkt-1.3b"))
    learn = prepare(network, recipe)
    assert network.info.condition == "raw_depth"
    assert learn["patch_embedding.weight"].dtype == torch.float32
    lora = Weights.from_tensors(public_tensors(learn), "lora")
    assert len(lora.shapes) == len(learn) == 40 + 2

    base = meta_tensors(transformer_shapes(**(DIT_1_3B | {"layers": 2})))
    part = convert_transformer(Weights.from_tensors(base, "base"), lora)
    model = loaded(WanTransformer3DModel, part)
    assert model.patch_embedding.weight.shape == (1536, 48, 1, 2, 2)
    assert info_after(lora, part.weights, CheckpointInfo("base")).condition == "raw_depth"
    peft = Weights.from_tensors(peft_tensors(learn), "peft")
    assert set(match_lora(peft, part.weights, 1.0)) == set(match_lora(lora, part.weights))
    assert info_after(peft, part.weights, CheckpointInfo("base")).condition == "raw_depth"
    stated = replace(peft, metadata={"dkt_condition": "from_raw_depth", "dkt_steps": "1"})
    assert info_after(stated, part.weights, CheckpointInfo("base")).begins_at_raw_depth
    with pytest.raises(DktError, match="header's dkt_steps is 'few', expected an integer"):
        info_after(
            replace(peft, metadata={"dkt_steps": "few"}), part.weights, CheckpointInfo("base")
        )

    wrong = {**public_tensors(learn), "patch_embedding.bias": torch.zeros(3)}
    with pytest.raises(DktError, match=r"patch_embedding.bias \(3,\) does not fit"):
        match_lora(Weights.from_tensors(wrong, "lora"), part.weights)


def test_every_vae_key_finds_its_place() -> None:
    shapes = vae_shapes()

    part = convert_vae(Weights.from_tensors(meta_tensors(shapes), "vae"))
    model = loaded(AutoencoderKLWan, part)

    assert len(part.weights.shapes) == len(shapes) == 194
    assert sum(p.numel() for p in model.parameters()) == 126_892_531
    published = AutoencoderKLWan.from_config({}).config
    assert {k: published[k] for k in part.config} == part.config | {"decoder_base_dim": None}


def test_vae_keys_are_those_of_diffusers_own_converter() -> None:
    shapes = vae_shapes()
    part = convert_vae(Weights.from_tensors(meta_tensors(shapes), "vae"))
    theirs = convert_wan_vae_to_diffusers(dict(shapes))
    assert theirs == dict(part.weights.shapes)


def test_every_text_encoder_key_finds_its_place() -> None:
    shapes = text_encoder_shapes(vocabulary=256384, dim=4096, ffn=10240, heads=64, layers=24)
    model = load_text_encoder(Weights.from_tensors(meta_tensors(shapes), "umt5-xxl"))
    assert len(shapes) == 2 + 24 * 10
    assert model.config.d_kv == 64
    assert sum(p.numel() for p in model.parameters()) == 5_680_910_336
