"""Adapters: names, files, and that everyone who reads them gets the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixtures.original_files import DIT_1_3B, lora_shapes, write_original_files
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.convert import OriginalFiles, convert
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.merge import merge_into_checkpoint
from dkt_ros.train.lora import (
    PEFT_DIR,
    PUBLIC_FILE,
    TARGETS,
    LoraShape,
    add_lora,
    peft_tensors,
    public_tensors,
    write_adapter,
)

SHAPE = LoraShape(rank=3)
INFO = CheckpointInfo(name="trained")


def adapted(
    checkpoint: Path, shape: LoraShape = SHAPE
) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A transformer whose adapters (B included) are random, and their parameters."""
    transformer = load_checkpoint(checkpoint).transformer
    add_lora(transformer, shape, seed=1)
    source = torch.Generator().manual_seed(2)
    state = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    for parameter in state.values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=source)
    return transformer, {name: p.detach() for name, p in state.items()}


@pytest.fixture
def written(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    write_adapter(tmp_path, adapted(tiny_checkpoint)[1], SHAPE, INFO)
    return tmp_path


def test_a_new_adapter_changes_nothing_and_depends_on_the_seed(tiny_checkpoint: Path) -> None:
    networks = [load_checkpoint(tiny_checkpoint, dtype="bfloat16") for _ in range(3)]
    latents = torch.randn(1, 16, 1, 2, 2)
    before = networks[0].velocity(latents, latents, 500.0)
    torch.manual_seed(123)
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        add_lora(network.transformer, SHAPE, seed)
        torch.randn(5)  # what else draws numbers matters not
    assert torch.equal(networks[0].velocity(latents, latents, 500.0), before)
    first, same, other = (
        {n: p for n, p in network.transformer.named_parameters() if p.requires_grad}
        for network in networks
    )
    assert {p.dtype for p in first.values()} == {torch.float32}
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert {name.rpartition(".lora_")[0].split(".", 2)[2] for name in first} == set(
        TARGETS.values()
    )


def test_public_names_are_those_of_the_published_file(tiny_checkpoint: Path) -> None:
    _, state = adapted(tiny_checkpoint)
    expected = lora_shapes(dim=24, ffn=32, layers=1, rank=3)
    assert {key: tuple(value.shape) for key, value in public_tensors(state).items()} == expected
    assert len(lora_shapes(rank=128, **{k: DIT_1_3B[k] for k in ("dim", "ffn", "layers")})) == 600


def test_peft_loads_what_is_written(tiny_checkpoint: Path, written: Path) -> None:
    latents = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    trained = load_checkpoint(tiny_checkpoint)
    trained.transformer, _ = adapted(tiny_checkpoint)
    expected = trained.velocity(latents, latents, 700.0)

    network = load_checkpoint(tiny_checkpoint)
    assert not torch.allclose(network.velocity(latents, latents, 700.0), expected, atol=1e-3)
    wrapped = PeftModel.from_pretrained(network.transformer, str(written / PEFT_DIR))
    torch.testing.assert_close(network.velocity(latents, latents, 700.0), expected)
    state = load_file(written / PEFT_DIR / "adapter_model.safetensors")
    result = set_peft_model_state_dict(wrapped, {k: v * 0 for k, v in state.items()})
    assert not result.unexpected_keys
    assert not torch.allclose(network.velocity(latents, latents, 700.0), expected, atol=1e-3)
    config = json.loads((written / PEFT_DIR / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 3
    assert set(state) == set(peft_tensors(adapted(tiny_checkpoint)[1]))


def test_peft_loads_the_inputs_that_learned_beside_it(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    latents = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    trained, network = load_checkpoint(tiny_checkpoint), load_checkpoint(tiny_checkpoint)
    trained.transformer, state = adapted(tiny_checkpoint)
    inputs = trained.transformer.patch_embedding
    inputs.weight.data *= 2
    state |= {f"patch_embedding.{n}": p.detach() for n, p in inputs.named_parameters()}
    write_adapter(tmp_path, state, SHAPE, INFO)
    config = json.loads((tmp_path / PEFT_DIR / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["patch_embedding"]
    PeftModel.from_pretrained(network.transformer, str(tmp_path / PEFT_DIR))
    expected = trained.velocity(latents, latents, 700.0)
    torch.testing.assert_close(network.velocity(latents, latents, 700.0), expected)


def test_the_same_files_are_written_every_time(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """In every process: PEFT keeps names in sets, whose order is each one's own."""
    state = adapted(tiny_checkpoint)[1]
    for run in ("1", "2"):
        write_adapter(tmp_path / run, state, SHAPE, INFO)
    names = ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", PUBLIC_FILE]
    for name in names:
        one, other = ((tmp_path / run / name).read_bytes() for run in ("1", "2"))
        assert one == other
    config = json.loads((tmp_path / "1" / PEFT_DIR / "adapter_config.json").read_text())
    lists = [value for value in config.values() if isinstance(value, list)]
    assert max(map(len, lists)) == len(TARGETS)
    assert lists == [sorted(value) for value in lists]


@pytest.mark.parametrize("name", [PUBLIC_FILE, PEFT_DIR])
def test_dkt_convert_merges_either_file_as_peft_does(
    tiny_checkpoint: Path, written: Path, tmp_path: Path, name: str
) -> None:
    merge_into_checkpoint(tiny_checkpoint, written / name, tmp_path / "merged")
    ours = load_checkpoint(tmp_path / "merged").transformer.state_dict()
    base = load_checkpoint(tiny_checkpoint).transformer
    before = {key: value.clone() for key, value in base.state_dict().items()}
    theirs = PeftModel.from_pretrained(base, str(written / PEFT_DIR)).merge_and_unload()
    changed = {k for k in before if not torch.equal(before[k], ours[k])}
    assert len(changed) == len(TARGETS)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours[key], value, msg=key)


def test_an_adapter_trained_on_a_checkpoint_fits_the_original_files(tmp_path: Path) -> None:
    """The way of the public model: base files, our adapter in the public naming, `dkt convert`."""
    files = write_original_files(tmp_path / "original")
    original = OriginalFiles(
        transformer=files["transformer"],
        vae=files["vae"],
        prompt_embeds=files["prompt_embeds"],
        num_heads=2,
    )
    convert(original, tmp_path / "base")
    write_adapter(tmp_path, adapted(tmp_path / "base")[1], SHAPE, INFO)
    merge_into_checkpoint(tmp_path / "base", tmp_path / PUBLIC_FILE, tmp_path / "expected")
    expected = load_checkpoint(tmp_path / "expected").transformer.state_dict()
    for name in (PUBLIC_FILE, PEFT_DIR, f"{PEFT_DIR}/adapter_model.safetensors"):
        with_lora = OriginalFiles(**{**vars(original), "lora": tmp_path / name})
        convert(with_lora, tmp_path / "merged")
        found = load_checkpoint(tmp_path / "merged").transformer.state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
