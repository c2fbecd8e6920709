"""A LoRA added to a checkpoint folder: either naming, peft's factor, errors, nothing half done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dkt_ros.cli import main
from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import default_checkpoint, load_checkpoint
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.merge import merge_into_checkpoint

RANK, WIDTH = 2, 24  # the tiny transformer's width


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(5)
    a, b = torch.randn(RANK, WIDTH, generator=source), torch.randn(WIDTH, RANK, generator=source)
    return a, b


@pytest.fixture
def public(tmp_path: Path) -> Path:
    a, b = pair()
    names = {"A": a, "B": b}
    file = tmp_path / "lora.safetensors"
    tensors = {f"blocks.0.self_attn.q.lora_{s}.default.weight": v for s, v in names.items()}
    save_file(tensors, file)
    return file


def write_peft(folder: Path, **config: object) -> Path:
    a, b = pair()
    folder.mkdir()
    name = "base_model.model.blocks.0.attn1.to_q.lora_{}.weight"
    save_file({name.format("A"): a, name.format("B"): b}, folder / "adapter_model.safetensors")
    content = {"r": RANK, "lora_alpha": RANK, **config}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def in_float16(checkpoint: Path, folder: Path) -> Path:
    shutil.copytree(checkpoint, folder)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.half() for key, value in load_file(file).items()}, file)
    return folder


def queries(checkpoint: Path) -> torch.Tensor:
    weight: torch.Tensor = load_checkpoint(checkpoint).transformer.blocks[0].attn1.to_q.weight
    return weight


def test_a_weight_of_the_base_that_is_not_finite_is_named_as_the_bases(
    tiny_checkpoint: Path, public: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    file = base / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["blocks.0.attn1.to_q.weight"][0, 0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(DktError, match=r"base/transformer.*attn1.to_q.weight holds values that"):
        merge_into_checkpoint(base, public, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_the_command_adds_b_a_and_changes_nothing_else(
    tiny_checkpoint: Path, public: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", f"--checkpoint={tiny_checkpoint}", f"--lora={public}"]
    assert main([*words, f"--output={tmp_path / 'merged'}"]) == 0
    before = load_checkpoint(tiny_checkpoint)
    after = load_checkpoint(tmp_path / "merged")
    a, b = pair()
    changed = "blocks.0.attn1.to_q.weight"
    for name, value in before.transformer.state_dict().items():
        delta = b @ a if name == changed else torch.zeros(())
        torch.testing.assert_close(after.transformer.state_dict()[name], value + delta)
    for name, value in before.vae.state_dict().items():
        assert torch.equal(after.vae.state_dict()[name], value), name
    assert torch.equal(after.prompt_embeds, before.prompt_embeds)
    assert after.info.name == "merged"
    assert after.info.steps == before.info.steps
    assert "lora/lora.safetensors" in after.info.sources
    assert "1 LoRA pair of rank 2 with scale 1: the file names no alpha" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "factor"),
    [({}, 1.0), ({"lora_alpha": 8}, 4.0), ({"lora_alpha": 2, "use_rslora": True}, 2**0.5)],
)
def test_peft_files_bring_their_factor(
    tiny_checkpoint: Path, tmp_path: Path, config: dict[str, object], factor: float
) -> None:
    adapter = write_peft(tmp_path / "adapter", **config)
    a, b = pair()
    for index, lora in enumerate((adapter, adapter / "adapter_model.safetensors")):
        output = tmp_path / f"merged{index}"
        merge_into_checkpoint(tiny_checkpoint, lora, output)
        expected = queries(tiny_checkpoint) + factor * b @ a
        torch.testing.assert_close(queries(output), expected)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_alpha": None}, "names no alpha and rank"),
        ({"r": 0}, "names no alpha and rank"),
        ({"rank_pattern": {"(": 4}}, "names no alpha and rank"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights pissa"),
        ({"r": 3}, "says rank 3 of blocks.0.attn1.to_q, the shapes say 2"),
    ],
)
def test_adapters_that_are_more_than_b_a_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, config: dict[str, object], named: str
) -> None:
    adapter = write_peft(tmp_path / "adapter", **config)
    with pytest.raises(DktError, match=named):
        merge_into_checkpoint(tiny_checkpoint, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_whole_weights_of_the_input_take_the_place_of_the_bases(
    tiny_checkpoint: Path, public: Path, tmp_path: Path
) -> None:
    base = in_float16(tiny_checkpoint, tmp_path / "base")
    given = torch.randn(WIDTH)
    save_file(load_file(public) | {"patch_embedding.bias": given}, public)
    said: list[str] = []
    info = merge_into_checkpoint(base, public, tmp_path / "merged", report=said.append)
    assert info.condition == "raw_depth"
    assert any("; patch_embedding.bias in the place of the base's" in line for line in said)
    stored = load_file(tmp_path / "merged/transformer/diffusion_pytorch_model.safetensors")
    assert torch.equal(stored["patch_embedding.bias"], given.half())
    assert {value.dtype for value in stored.values()} == {torch.float16}
    save_file(load_file(public), public, {"dkt_condition": "from_raw_depth"})
    info = merge_into_checkpoint(base, public, tmp_path / "stated")
    assert info.condition == "from_raw_depth"


@pytest.mark.parametrize("what", ["whole", "sum"])
def test_what_a_lora_brings_that_is_not_finite_is_named_as_its_own(
    tiny_checkpoint: Path, public: Path, tmp_path: Path, what: str
) -> None:
    base = in_float16(tiny_checkpoint, tmp_path / "base")
    tensors = {key: value * 300 for key, value in load_file(public).items()}  # beyond float16
    if what == "whole":
        tensors = load_file(public) | {"patch_embedding.bias": torch.full((WIDTH,), torch.nan)}
    save_file(tensors, public)
    with pytest.raises(DktError, match=r"lora\.safetensors: .* not finite"):
        merge_into_checkpoint(base, public, tmp_path / "merged")


def test_a_lora_is_merged_once(tiny_checkpoint: Path, public: Path, tmp_path: Path) -> None:
    merge_into_checkpoint(tiny_checkpoint, public, tmp_path / "one")
    other = write_peft(tmp_path / "adapter")
    info = merge_into_checkpoint(tmp_path / "one", other, tmp_path / "two")
    assert {"base/lora/lora.safetensors", "lora/adapter_model.safetensors"} < set(info.sources)
    again = Path(shutil.copyfile(public, tmp_path / "renamed.safetensors"))
    for base in ("one", "two"):
        with pytest.raises(DktError, match=r"already.*lora/lora\.safetensors.*--lora-scale"):
            merge_into_checkpoint(tmp_path / base, again, tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_a_checkpoint_of_links_is_replaced_and_what_they_point_to_stays(
    tiny_checkpoint: Path, public: Path, tmp_path: Path
) -> None:
    """As one is put together out of a hub's cache."""
    cache = Path(shutil.copytree(tiny_checkpoint, tmp_path / "cache"))
    before = {file: file.read_bytes() for file in cache.rglob("*") if file.is_file()}
    output = tmp_path / "linked"
    output.mkdir()
    for path in cache.iterdir():
        (output / path.name).symlink_to(path)
    merge_into_checkpoint(tiny_checkpoint, public, output)
    assert not torch.equal(queries(output), queries(cache))
    assert {file: file.read_bytes() for file in cache.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("name", ["transformer", "vae", "vae/new"])
def test_nothing_is_written_into_a_part_of_a_checkpoint(
    tiny_checkpoint: Path, public: Path, tmp_path: Path, name: str
) -> None:
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "base"))
    before = sorted(base.rglob("*"))
    with pytest.raises(DktError, match="is in a part of the checkpoint"):
        merge_into_checkpoint(base, public, base / name)
    assert sorted(base.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["vae/Wan2.1_VAE.pth", "transformer/lora.safetensors", "model_index.json"]
)
def test_a_folder_keeps_what_is_no_checkpoints(
    tiny_checkpoint: Path, public: Path, tmp_path: Path, name: str
) -> None:
    output = Path(shutil.copytree(tiny_checkpoint, tmp_path / "output"))
    (output / name).write_bytes(b"mine")
    with pytest.raises(DktError, match=rf"for it holds \S+{name}, .* name another folder"):
        merge_into_checkpoint(tiny_checkpoint, public, output)
    assert (output / name).read_bytes() == b"mine"
    load_checkpoint(output)
    (output / name).unlink()
    (output / "dkt.json").unlink()  # as it is where a conversion was stopped at its end
    merge_into_checkpoint(tiny_checkpoint, public, output)
    load_checkpoint(output)


def test_what_lies_beside_the_weights_is_none_of_them(
    tiny_checkpoint: Path, public: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "base"))
    shutil.copyfile(public, base / "transformer" / "lora.safetensors")
    output = tmp_path / "transformer" / "merged"  # in no checkpoint, whatever it is called
    merge_into_checkpoint(base, public, output)
    a, b = pair()
    torch.testing.assert_close(queries(output), queries(base) + b @ a)


def test_the_embedded_checkpoint_is_merged_into_by_name(tmp_path: Path) -> None:
    width = 192
    a, b = torch.randn(RANK, width), torch.randn(width, RANK)
    name = "lora_unet_blocks_0_self_attn_q.{}"
    tensors = {name.format("lora_down.weight"): a, name.format("lora_up.weight"): b}
    save_file({**tensors, name.format("alpha"): torch.tensor(1.0)}, tmp_path / "l.safetensors")
    words = ["convert", "--checkpoint=dkt-nano", f"--lora={tmp_path / 'l.safetensors'}"]
    assert main([*words, f"--output={tmp_path / 'merged'}", "--lora-scale=4"]) == 0
    delta = queries(tmp_path / "merged") - queries(default_checkpoint())
    torch.testing.assert_close(delta, 2 * b @ a, atol=0.02, rtol=0)  # stored in float16
    assert CheckpointInfo.read(tmp_path / "merged").origin.startswith("dkt-nano with a LoRA")


def test_a_checkpoint_is_never_merged_into_itself(
    tiny_checkpoint: Path, public: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "base"))
    (link := tmp_path / "link").symlink_to(base)
    before = {file: file.read_bytes() for file in base.rglob("*") if file.is_file()}
    for output in (base, link, base / "vae" / ".."):
        with pytest.raises(DktError, match="is the checkpoint itself"):
            merge_into_checkpoint(base, public, output)
    assert {file: file.read_bytes() for file in base.rglob("*") if file.is_file()} == before


def test_what_fits_no_weight_is_named(tiny_checkpoint: Path, public: Path, tmp_path: Path) -> None:
    tensors = load_file(public)
    save_file({key.replace("blocks.0", "blocks.9"): v for key, v in tensors.items()}, public)
    with pytest.raises(DktError, match=r"blocks\.9.* match no weight"):
        merge_into_checkpoint(tiny_checkpoint, public, tmp_path / "merged")
    with pytest.raises(DktError, match="does not exist; make one"):
        merge_into_checkpoint(tmp_path / "none", public, tmp_path / "merged")


@pytest.mark.parametrize(
    "damage", ["vae/config.json", "vae/diffusion_pytorch_model.safetensors", "missing weight"]
)
def test_what_is_damaged_in_the_base_is_not_copied(
    tiny_checkpoint: Path, public: Path, tmp_path: Path, damage: str
) -> None:
    base = Path(shutil.copytree(tiny_checkpoint, tmp_path / "base"))
    if damage == "missing weight":
        file = base / "transformer/diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        del tensors["proj_out.bias"]
        save_file(tensors, file, metadata={"format": "pt"})
    else:
        (base / damage).write_bytes((base / damage).read_bytes()[:-50])
    with pytest.raises(DktError, match=r"base/(vae|transformer)"):
        merge_into_checkpoint(base, public, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
