"""A LoRA's factor is read from wherever its trainer writes it, said, or the file is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dkt_ros.errors import DktError
from dkt_ros.model.lora import describe, match_lora, merge_lora, open_lora
from dkt_ros.model.weights import Weights

RANK, WIDTH = 4, 8
Q, K = "blocks.0.self_attn.q", "blocks.0.self_attn.k"
FLAT = "lora_unet_blocks_0_self_attn_q"
PEFT = "base_model.model.blocks.0.attn1.to_q"
TARGET = "blocks.0.attn1.to_q.weight"
BASE = Weights.from_tensors(
    {f"blocks.0.attn1.to_{part}.weight": torch.zeros(WIDTH, WIDTH) for part in "qk"}, "base"
)
A = torch.arange(RANK * WIDTH).reshape(RANK, WIDTH) / 10
B = torch.arange(RANK * WIDTH).reshape(WIDTH, RANK) / 7


def pair(module: str, a: str = "lora_A", b: str = "lora_B") -> dict[str, torch.Tensor]:
    return {f"{module}.{a}.weight": A, f"{module}.{b}.weight": B}


def alpha(module: str, value: object, name: str = "alpha", **kind: Any) -> dict[str, torch.Tensor]:
    return {f"{module}.{name}": torch.tensor(value, **kind)}


def of_diffusers(**content: object) -> dict[str, str]:
    flat = {f"transformer.{key}": value for key, value in {"r": RANK, **content}.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(flat)}


def written(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: dict[str, str] | None = None,
    config: Mapping[str, object] | None = None,
    name: str = "glass.safetensors",
) -> Path:
    save_file({key: value.clone() for key, value in tensors.items()}, folder / name, metadata)
    if config is not None:
        content = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, **config}
        (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder / name


def factor(path: Path, scale: float | None = None) -> tuple[Any, str]:
    """What B A is in fact multiplied by, and what is said about it."""
    lora = open_lora(path)
    pairs = match_lora(lora, BASE, scale)
    merged = merge_lora(BASE, lora, pairs).read(TARGET)
    found = float((merged * (B @ A)).sum() / (B @ A).square().sum())
    torch.testing.assert_close(merged, found * (B @ A))
    return pytest.approx(found), describe(lora, pairs)


@pytest.mark.parametrize(
    ("tensors", "metadata", "config", "scale", "says"),
    [
        (pair(Q, "lora_A.default", "lora_B.default"), None, None, 1, "reads as alpha = rank"),
        (pair(f"pipe.dit.{Q}", "lora_A.default", "lora_B.default"), None, None, 1, "alpha = rank"),
        (pair(Q) | alpha(Q, 2.0), None, None, 0.5, "alpha tensors"),
        (pair(Q) | alpha(Q, 2.0, "lora_alpha"), None, None, 0.5, "alpha tensors"),
        (pair(Q) | alpha(Q, 8, dtype=torch.int64), None, None, 2, "alpha tensors"),
        (pair(FLAT, "lora_down", "lora_up") | alpha(FLAT, 2.0), {"ss_network_alpha": "2.0",
         "ss_network_dim": "4"}, None, 0.5, "alpha tensors"),
        (pair("lora_unet_blocks_0.self_attn.q", "lora_down", "lora_up") |
         alpha("lora_unet_blocks_0.self_attn.q", 2.0), None, None, 0.5, "alpha tensors"),
        (pair("lycoris_blocks_0_self_attn_q", "lora_down", "lora_up"), None, None, 1, "= rank"),
        (pair(f"diffusion_model.{Q}", "lora_down", "lora_up"), None, None, 1, "alpha = rank"),
        (pair(f"diffusion_model.{Q}"), {"ss_network_alpha": "2", "ss_network_dim": "4"}, None, 0.5,
         "ss_network_alpha"),
        (pair(Q), {"lora_alpha": "2"}, None, 0.5, "lora_alpha in the header"),
        (pair(f"transformer.{TARGET.removesuffix('.weight')}"), of_diffusers(lora_alpha=8), None, 2,
         "lora_adapter_metadata"),
        (pair(TARGET.removesuffix(".weight")), of_diffusers(lora_alpha=8, use_rslora=True), None, 4,
         "lora_adapter_metadata"),
        (pair(PEFT), None, {}, 2, "adapter_config.json"),
        (pair(PEFT), None, {"use_rslora": True}, 4, "adapter_config.json"),
        (pair(PEFT), None, {"r": 16, "rank_pattern": {"to_q": 4}}, 2, "adapter_config.json"),
        (pair(PEFT), None, {"alpha_pattern": {r"attn1\.to_.": 2}}, 0.5, "adapter_config.json"),
        (pair(PEFT), None, {"alpha_pattern": {"q": 2}}, 2, "adapter_config.json"),
        (pair(PEFT), of_diffusers(lora_alpha=8), {}, 2, "lora_adapter_metadata"),
        (pair("transformer.blocks.0.attn1.to_q"), of_diffusers(lora_alpha=8, alpha_pattern={
         "^blocks.0.attn1.to_q": 2}), None, 0.5, "lora_adapter_metadata"),
        (pair(f"base_model.model.pipe.dit.{Q}"), None, {"alpha_pattern": {f"^pipe.dit.{Q}": 2}},
         0.5, "adapter_config.json"),
        (pair(f"_orig_mod.base_model.model.pipe.dit.{Q}"), None, {"alpha_pattern": {
         f"^pipe.dit.{Q}": 2}}, 0.5, "adapter_config.json"),
        (pair(f"base_model.model.dit.{Q}"), None, {"r": 9, "rank_pattern": {f"dit.{Q}": 4}}, 2,
         "adapter_config.json"),
        (pair(Q), {"network_alpha": "2", "network_dim": "4"}, None, 0.5, "network_alpha in the"),
        (pair(Q), {"alpha": "2", "rank": "4"}, None, 0.5, "alpha in the header"),
        ({k: v[..., None, None] for k, v in pair(FLAT, "lora_down", "lora_up").items()}, None, None,
         1, "= rank"),
    ],
)  # fmt: skip
def test_the_factor_is_the_writers(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None,
    config: dict[str, object] | None, scale: float, says: str,
) -> None:  # fmt: skip
    found, said = factor(written(tmp_path, tensors, metadata, config))
    assert found == scale
    assert f"with scale {scale:g}: " in said
    assert says in said


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_factor_that_is_no_number_is_refused(tmp_path: Path, scale: float) -> None:
    lora = open_lora(written(tmp_path, pair(Q)))
    with pytest.raises(DktError, match=f"the LoRA's scale is {scale:g}, expected a finite number"):
        match_lora(lora, BASE, scale)


def test_every_module_has_its_own(tmp_path: Path) -> None:
    tensors = pair(Q) | alpha(Q, 2.0) | pair(K) | alpha(K, 4.0)
    lora = open_lora(written(tmp_path, tensors))
    pairs = match_lora(lora, BASE)
    assert {name.split(".")[-2]: found.scale for name, found in pairs.items()} == {
        "to_q": 0.5,
        "to_k": 1.0,
    }
    assert "with scale 0.5 to 1: " in describe(lora, pairs)


@pytest.mark.parametrize(
    ("tensors", "metadata", "config", "says"),
    [
        (pair(PEFT), None, None, r"nothing says its alpha.*adapter_config\.json.*--lora-scale"),
        (pair(f"_orig_mod.{PEFT}"), None, None, "nothing says its alpha"),
        (pair(f"module.{PEFT}"), None, None, "nothing says its alpha"),
        (pair(Q), of_diffusers(lora_alpha=4), {}, "gives .* the scale 1, .* gives it 2"),
        (pair(Q), {"lora_alpha": "2", "rank": "8"}, None, "says rank 8 .* the shapes say 4"),
        (pair(Q), {"ss_network_alpha": "2", "ss_network_dim": "Dynamic"}, None, "Dynamic"),
        (pair(Q), {"lora_alpha": "nan"}, None, "nan is not above 0"),
        (pair(PEFT), None, {"alpha_pattern": {"to_k": 0}}, "0 is not above 0"),
        (pair(Q), {"lora_adapter_metadata": "{"}, None, "lora_adapter_metadata .* is no JSON"),
        (pair(Q), {"lora_adapter_metadata": "[]"}, None, "is a list, expected a JSON object"),
        (pair(Q), of_diffusers(lora_alpha=8.4), {}, r"the scale 2\.1, .* gives it 2"),
        (pair(Q), of_diffusers(lora_alpha=4, use_dora=True), None, "use_dora"),
        (pair(Q), of_diffusers(lora_alpha=4, init_lora_weights="PiSSA"), None, "init_.* pissa"),
        (pair(Q), of_diffusers(lora_alpha=4, fan_in_fan_out=True), None, "asks for fan_in_fan_out"),
        (pair(Q), of_diffusers(lora_alpha=4, lora_bias=True), None, "asks for lora_bias"),
        (pair(PEFT), None, {"use_qalora": True}, "asks for use_qalora"),
        (pair(PEFT), None, {"layer_replication": [[0, 1]]}, "asks for layer_replication"),
        (pair(PEFT), None, {"kasa_config": {"beta": 1e-4}}, "asks for kasa_config"),
        (pair(PEFT), None, {"use_bdlora": {"nblocks": 2}}, "asks for use_bdlora"),
        (pair(Q) | alpha(Q, -2.0), None, None, r"alpha is -2\.0, expected one number above 0"),
        (pair(Q) | alpha(Q, float("inf")), None, None, "alpha is inf, expected one number above 0"),
        (pair(Q) | alpha(Q, 0.0), None, None, r"alpha is 0\.0, expected one number above 0"),
        (pair(Q) | alpha(Q, [1.0, 2.0]), None, None, r"alpha is \[1\.0, 2\.0\]"),
        (pair(Q) | alpha(Q, 2.0) | pair(K), None, None, "no alpha beside it, others have"),
    ],
)  # fmt: skip
def test_a_factor_that_is_open_or_contradicted_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None,
    config: dict[str, object] | None, says: str,
) -> None:  # fmt: skip
    with pytest.raises(DktError, match=says) as caught:
        factor(written(tmp_path, tensors, metadata, config))
    assert "\n" not in str(caught.value)


def test_the_option_multiplies_and_closes_what_is_open(tmp_path: Path) -> None:
    assert factor(written(tmp_path, pair(Q) | alpha(Q, 2.0)), 3.0)[0] == 1.5
    found, said = factor(written(tmp_path, pair(PEFT)), 0.25)
    assert found == 0.25
    assert said.endswith("scale 0.25: the file names no alpha, times --lora-scale 0.25")


def test_a_folder_is_its_adapter(tmp_path: Path) -> None:
    written(tmp_path, pair(PEFT), config={}, name="adapter_model.safetensors")
    written(tmp_path, pair(Q), name="another.safetensors")
    assert factor(tmp_path)[0] == 2
    written(tmp_path, pair(Q), name="pytorch_lora_weights.safetensors")
    with pytest.raises(DktError, match=r"adapter_model\S+ and pytorch_lora\S+; name the one"):
        factor(tmp_path)


@pytest.mark.parametrize("wrap", [lambda tensors: tensors, lambda tensors: {"state_dict": tensors}])
def test_pytorch_files(tmp_path: Path, wrap: Any) -> None:
    tensors = pair(f"module.{Q}") | alpha(f"module.{Q}", 2, dtype=torch.int64)
    torch.save(wrap(tensors), tmp_path / "lora.ckpt")
    assert factor(tmp_path / "lora.ckpt")[0] == 0.5


@pytest.mark.parametrize("name", ["alpha", "lora_alpha"])
def test_what_a_loop_saves_beside_its_tensors_counts(tmp_path: Path, name: str) -> None:
    torch.save({"lora": pair(Q), "rank": RANK, name: 8}, tmp_path / "lora.pt")
    found, said = factor(tmp_path / "lora.pt")
    assert found == 2
    assert f": {name} in the header of" in said


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"lora_alpha": 8, "r": RANK, "dtype": torch.float16}, 2),
        ({"lora_alpha": 8, "lora_rank": RANK, "use_rslora": True}, 4),
    ],
)
def test_the_settings_that_a_trainer_saves_beside_its_tensors_count(
    tmp_path: Path, settings: dict[str, object], scale: float
) -> None:
    torch.save({"state_dict": pair(Q), "hyper_parameters": settings}, tmp_path / "lora.ckpt")
    found, said = factor(tmp_path / "lora.ckpt")
    assert found == scale
    assert ": hyper_parameters in the header of" in said
    header = {"lora_config": json.dumps(settings, default=str), "note": "lora_alpha as before"}
    assert factor(written(tmp_path, pair(Q), header))[0] == scale
    torch.save(
        {"state_dict": pair(Q), "hyper_parameters": settings | {"lora_rank": 9, "r": 9}},
        tmp_path / "lora.ckpt",
    )
    with pytest.raises(DktError, match=r"says rank 9 of blocks\.0\.self_attn\.q, the shapes say 4"):
        factor(tmp_path / "lora.ckpt")


def test_a_convolution_is_merged_over_its_kernel() -> None:
    weight = torch.zeros(WIDTH, 3, 1, 2, 2)
    base = Weights.from_tensors({"patch_embedding.weight": weight}, "base")
    a, b = torch.randn(RANK, 3, 1, 2, 2), torch.randn(WIDTH, RANK, 1, 1, 1)
    tensors = {"patch_embedding.lora_A.weight": a, "patch_embedding.lora_B.weight": b}
    lora = Weights.from_tensors(tensors, "lora")
    merged = merge_lora(base, lora, match_lora(lora, base)).read("patch_embedding.weight")
    torch.testing.assert_close(merged, torch.einsum("or...,rcdhw->ocdhw", b[:, :, 0, 0, 0], a))
    for wrong in (a.flatten(1), b), (a, b.expand(-1, -1, 1, 2, 2)), (a[:, :2], b):
        named = dict(zip(tensors, wrong, strict=True))
        with pytest.raises(DktError, match="does not fit the weight"):
            match_lora(Weights.from_tensors(named, "lora"), base)
    whole = Weights.from_tensors(tensors | {"patch_embedding.weight": weight}, "lora")
    with pytest.raises(DktError, match="the same weight in two ways"):
        match_lora(whole, base)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, pair(Q) | {f"{Q}.lora_B.weight": B / 0})
    with pytest.raises(DktError, match="is not finite"):
        factor(file)


@pytest.mark.parametrize("zero", ["lora_A", "lora_B"])
def test_a_lora_that_adds_nothing_is_told(tmp_path: Path, zero: str) -> None:
    """Saved before it was trained, or where its weights were on other devices."""
    tensors = pair(Q) | pair(K)
    some = {k: v * (zero not in k or "self_attn.k" in k) for k, v in tensors.items()}
    assert "add NOTHING" not in factor(written(tmp_path, some))[1]
    lora = open_lora(written(tmp_path, some))
    assert "; 1 of them add nothing, for one side of" in describe(lora, match_lora(lora, BASE))
    lora = open_lora(written(tmp_path, tensors))
    assert "nothing" not in describe(lora, match_lora(lora, BASE))
    lora = open_lora(written(tmp_path, {k: v * (zero not in k) for k, v in tensors.items()}))
    said = describe(lora, match_lora(lora, BASE))
    assert "they add NOTHING, for one side of each is zero" in said


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_a_lora_whose_weights_zero_3_kept_is_told(tmp_path: Path, shape: tuple[int, ...]) -> None:
    empty = {key: torch.zeros(shape) for key in pair(Q)}
    with pytest.raises(DktError, match=r"are empty: it was saved while ZeRO-3 kept the weights"):
        match_lora(open_lora(written(tmp_path, empty)), BASE)
