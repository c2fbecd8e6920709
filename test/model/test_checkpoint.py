"""Checkpoint folders: what is written is read, and what is damaged is named."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.tiny_checkpoint import TEXT_DIM, make_tiny_checkpoint, tiny_transformer, tiny_vae
from safetensors.torch import load_file, save_file

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import (
    checked_folder,
    checkpoint_folder,
    default_checkpoint,
    empty_network,
    load_checkpoint,
    read_prompt,
    save_checkpoint,
    write_prompt,
)
from dkt_ros.model.info import CONDITIONS, CheckpointInfo
from dkt_ros.model.network import DktNetwork, pad_prompt

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def rewrite_info(folder: Path, **changes: Any) -> None:
    file = folder / "dkt.json"
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    transformer, vae, prompt = tiny_transformer(), tiny_vae(), torch.randn(1, 2, TEXT_DIM)
    info = CheckpointInfo(name="x", steps=3, text_tokens=5, sources={"a": "00"}, origin="a test")
    save_checkpoint(tmp_path / "c", transformer, vae, prompt, info)
    network = load_checkpoint(tmp_path / "c", plain=True)
    assert network.info == info
    for ours, theirs in ((network.transformer, transformer), (network.vae, vae)):
        for key, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
    assert torch.equal(network.prompt_embeds[:, :2], prompt)
    assert network.prompt_embeds.shape == (1, 5, TEXT_DIM)
    assert not network.prompt_embeds[:, 2:].any()
    assert not any(p.requires_grad for p in network.transformer.parameters())
    assert not network.transformer.training


def test_zero_tokens_are_not_stored(tmp_path: Path) -> None:
    prompt = torch.zeros(512, TEXT_DIM)
    prompt[1, :2] = torch.tensor([1.0, -1.0])
    info = CheckpointInfo(name="x")
    save_checkpoint(tmp_path, tiny_transformer(), tiny_vae(), prompt, info)
    assert load_file(tmp_path / "prompt_embeds.safetensors")["prompt_embeds"].shape[0] == 2
    assert torch.equal(load_checkpoint(tmp_path, plain=True).prompt_embeds[0], prompt)
    write_prompt(tmp_path, torch.zeros(3, TEXT_DIM))
    assert read_prompt(tmp_path / "prompt_embeds.safetensors").shape == (1, TEXT_DIM)


def test_other_users_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = make_tiny_checkpoint(tmp_path / "c")
    finally:
        os.umask(before)
    modes = {file.stat().st_mode & 0o777 for file in folder.rglob("*") if file.is_file()}
    assert modes == {0o644}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.bfloat16])
def test_computing_types(tiny_checkpoint: Path, dtype: str | torch.dtype) -> None:
    exact = load_checkpoint(tiny_checkpoint)
    rough = load_checkpoint(tiny_checkpoint, dtype=dtype)
    rgb = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    with torch.inference_mode():
        latents = exact.encode_rgb(rgb)
        noisy = torch.randn(latents.shape)
        for ours, theirs in (
            (rough.encode_rgb(rgb), latents),
            (rough.velocity(noisy, latents, 500.0), exact.velocity(noisy, latents, 500.0)),
            (rough.decode(latents), exact.decode(latents)),
        ):
            assert ours.dtype == torch.float32
            error = (ours - theirs).norm() / theirs.norm()
            assert 0 < error < 0.05


def test_an_image_branch_is_fed_zeros(tmp_path: Path) -> None:
    network = load_checkpoint(make_tiny_checkpoint(tmp_path, image_branch=True), plain=True)
    latents = torch.randn(1, 16, 2, 4, 6)
    with torch.inference_mode():
        ours = network.velocity(latents, latents, 500.0)
        theirs = network.transformer(
            torch.cat([latents, latents, torch.zeros_like(latents)], dim=1),
            torch.tensor([500.0]),
            network.prompt_embeds,
            torch.zeros(1, 257, 32),
        ).sample
    assert torch.equal(ours, theirs)
    assert network.prompt_embeds.shape[1] == 512


@pytest.mark.parametrize("image_branch", [False, True])
def test_the_faster_forms_are_equal_up_to_rounding(tmp_path: Path, image_branch: bool) -> None:
    folder = make_tiny_checkpoint(tmp_path, image_branch=image_branch)
    plain, fast = load_checkpoint(folder, plain=True), load_checkpoint(folder)
    assert fast.prompt_embeds.shape[1] == 3  # two tokens and the padding
    rgb = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    with torch.inference_mode():
        latents = plain.encode_rgb(rgb)
        noisy = torch.randn(latents.shape)
        for ours, theirs in (
            (fast.encode_rgb(rgb), latents),
            (fast.velocity(noisy, latents, 500.0), plain.velocity(noisy, latents, 500.0)),
            (fast.decode(latents), plain.decode(latents)),
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_vae_refuses_other_than_4n_plus_1_frames(tiny_network: DktNetwork) -> None:
    with pytest.raises(ValueError, match="4N"):
        tiny_network.encode_rgb(torch.zeros(1, 3, 4, 16, 16))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format_version": 2}, "format_version is 2"),
        ({"format_version": ...}, "format_version is missing"),
        ({"format_version": 2, "new_field": 1}, "format_version is 2"),
        ({"name": ...}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name is 'a.+nb', expected a name: some text in one line"),
        ({"name": "\x1b[2J"}, "name"),
        ({"condition": "depth"}, "condition"),
        ({"task": "colour"}, "task is 'colour'"),
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"steps": True}, "steps"),
        ({"sigma_shift": 0}, "sigma_shift"),
        ({"sigma_shift": "5"}, "sigma_shift"),
        ({"sigma_shift": True}, "sigma_shift"),
        ({"sigma_shift": 10**400}, "sigma_shift"),
        ({"steps": 2**31}, "steps is 2147483648, expected an integer of at most 2147483647"),
        ({"sigma_shift": float("nan")}, "sigma_shift"),
        ({"window": -1}, "window"),
        ({"overlap": 3}, "overlap"),
        ({"buffer_frames": 4}, "buffer_frames"),
        ({"clip": -1}, "clip"),
        ({"height": 50}, "height"),
        ({"width": None}, "width"),
        ({"text_tokens": 0}, "text_tokens"),
        ({"origin": 3}, "origin"),
        ({"sources": [1]}, "sources"),
        ({"setps": 5}, "setps"),
    ],
)
def test_info_names_the_field_that_is_wrong(copied: Path, changes: dict, named: str) -> None:
    rewrite_info(copied, **changes)
    with pytest.raises(DktError, match=f"dkt.json.*{named}"):
        load_checkpoint(copied)


def test_what_a_condition_means() -> None:
    infos = [CheckpointInfo(name="x", condition=name) for name in CONDITIONS]
    said = {info.condition: (info.sees_depth, info.begins_at_raw_depth) for info in infos}
    assert said == {
        "none": (False, False),
        "raw_depth": (True, False),
        "from_raw_depth": (True, True),
    }


def test_frames_are_answered_one_by_one_where_depth_is_shown_and_one_is_best() -> None:
    shown = CheckpointInfo(name="shown", condition="raw_depth", buffer_frames=1)
    assert shown.one_by_one(None)
    assert not shown.one_by_one(3), "a window was asked for"
    assert not replace(shown, condition="none").one_by_one(None)
    assert not replace(shown, buffer_frames=5).one_by_one(None)


def test_info_with_a_byte_order_mark_is_read(copied: Path) -> None:
    file = copied / "dkt.json"
    before = CheckpointInfo.read(copied)
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert CheckpointInfo.read(copied) == before


@pytest.mark.parametrize("text", ["{", "[1]", "null", "", "[" * 9000, '{"a": ' + "9" * 5000])
def test_info_that_is_no_object_is_refused(copied: Path, text: str) -> None:
    (copied / "dkt.json").write_text(text)
    with pytest.raises(DktError, match=r"dkt\.json"):
        load_checkpoint(copied)


def test_a_missing_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"nowhere does not exist.*dkt convert"):
        load_checkpoint(tmp_path / "nowhere")


def test_the_embedded_checkpoint_has_a_name(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (None, "", "dkt-nano", Path("dkt-nano")):
        assert checkpoint_folder(name) == default_checkpoint()
    assert checked_folder("dkt-nano") == default_checkpoint()
    assert load_checkpoint("dkt-nano").info.name == "dkt-nano"
    assert checkpoint_folder("runs/dkt-nano") == Path("runs/dkt-nano")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoint_folder("~/mine") == tmp_path / "mine"
    shutil.copytree(tiny_checkpoint, tmp_path / "dkt-nano")  # one's own comes first
    assert load_checkpoint("dkt-nano").info.name == "tiny-random"


def test_a_run_s_folder_says_where_its_checkpoint_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """As somebody does who names runs/lora for runs/lora/checkpoint."""
    run = tmp_path / "lora"
    shutil.copytree(tiny_checkpoint, run / "checkpoint")
    expected = f"lora is no checkpoint, but holds one: name {run / 'checkpoint'}$"
    for read in (load_checkpoint, CheckpointInfo.read):
        with pytest.raises(DktError, match=expected):
            read(run)
    with pytest.raises(DktError, match=f"transformer is a part of one: name {run / 'checkpoint'}$"):
        load_checkpoint(run / "checkpoint" / "transformer")
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(DktError, match="is a LoRA, to be merged with `dkt convert"):
        load_checkpoint(run / "adapter")
    (state := run / "states" / "step-00000002").mkdir(parents=True)
    (state / "state.pt").touch()
    shutil.rmtree(run / "checkpoint")
    for folder in (state, state.parent, run):
        with pytest.raises(DktError, match=f"{folder} is of a run: `dkt train --export`"):
            load_checkpoint(folder)


@pytest.mark.parametrize("name", ["Wan2.1_VAE.pth", "model.safetensors"])
def test_a_weight_file_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DktError, match="dkt convert"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "dkt.json",
        "prompt_embeds.safetensors",
        "transformer/config.json",
        f"transformer/{WEIGHTS}",
        "vae/config.json",
        f"vae/{WEIGHTS}",
    ],
)
def test_missing_files_are_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(DktError, match=f"lacks {name}"):
        load_checkpoint(copied)


def test_pickled_weights_do_not_stand_in(copied: Path) -> None:
    file = copied / "vae" / WEIGHTS
    torch.save(load_file(file), copied / "vae" / "diffusion_pytorch_model.bin")
    file.unlink()
    with pytest.raises(DktError, match=f"lacks vae/{WEIGHTS}"):
        load_checkpoint(copied)


@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged_weights_are_named(copied: Path, part: str, damage: str) -> None:
    file = copied / part / WEIGHTS
    data = file.read_bytes()
    file.write_bytes({"truncated": data[:-1000], "garbage": b"x" * 500, "empty": b""}[damage])
    with pytest.raises(DktError, match=part):
        load_checkpoint(copied)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_do_not_fit_the_config_are_named(copied: Path, part: str) -> None:
    file = copied / part / WEIGHTS
    tensors = load_file(file)
    key = min(tensors)
    for changed, named in (
        ({k: v for k, v in tensors.items() if k != key}, "missing"),
        (tensors | {"stranger": torch.zeros(1)}, "stranger"),
        (tensors | {key: torch.zeros(1, 1)}, part),
    ):
        save_file(changed, file, metadata={"format": "pt"})
        for read in (load_checkpoint, empty_network):
            with pytest.raises(DktError, match=named):
                read(copied)


def test_a_network_without_weights_is_the_checkpoints(tiny_checkpoint: Path) -> None:
    network, loaded = empty_network(tiny_checkpoint), load_checkpoint(tiny_checkpoint, plain=True)
    for ours, theirs in (
        (network.transformer, loaded.transformer),
        (network.vae, loaded.vae),
    ):
        assert all(weight.is_meta for weight in ours.parameters())
        shapes = {key: value.shape for key, value in theirs.state_dict().items()}
        assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    assert network.info == loaded.info


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("transformer", None),
        ("transformer", {"num_layers": "two"}),
        ("transformer", {"num_attention_heads": 0}),
        ("vae", {"latents_std": ["x"] * 16}),
        ("vae", {"latents_std": [0.0] * 16}),
        ("vae", {"latents_mean": None}),
        ("vae", {"latents_mean": [float("nan")] * 16}),
    ],
)
def test_a_configuration_that_cannot_be_is_one_line(
    copied: Path, file: str, changes: dict | None, capfd: pytest.CaptureFixture[str]
) -> None:
    config = copied / file / "config.json"
    content = json.loads(config.read_text())
    config.write_text("" if changes is None else json.dumps(content | changes))
    for read in (load_checkpoint, empty_network):
        with pytest.raises(DktError, match=f"{file}.*cannot be read|VAE config") as caught:
            read(copied)
        assert "\n" not in str(caught.value)
        assert str(copied) in str(caught.value)
        assert f"{copied}: {copied}" not in str(caught.value)
    said = capfd.readouterr()
    assert said.out + said.err == ""


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_are_not_finite_are_named(copied: Path, part: str) -> None:
    file = copied / part / WEIGHTS
    tensors = load_file(file)
    key = max(tensors)
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(DktError, match=f"{part}: {key} holds values that are not finite"):
        load_checkpoint(copied)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_weights_that_are_all_zero_are_refused(copied: Path, part: str) -> None:
    """As of a file that was set aside before its content came."""
    file = copied / part / WEIGHTS
    blank = {key: torch.zeros_like(tensor) for key, tensor in load_file(file).items()}
    save_file(blank, file, metadata={"format": "pt"})
    with pytest.raises(DktError, match=f"{part}: .* of one value throughout, the first is .*again"):
        load_checkpoint(copied)


def test_weights_of_another_kind_are_named(copied: Path) -> None:
    file = copied / "transformer" / WEIGHTS
    tensors = load_file(file)
    key = "blocks.0.attn1.to_q.weight"
    save_file(tensors | {key: tensors[key].to(torch.int32)}, file, metadata={"format": "pt"})
    with pytest.raises(DktError, match=f"{key} is stored as I32"):
        load_checkpoint(copied)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DktError, match="is a Git LFS pointer"):
        load_checkpoint(copied)


def test_a_clone_without_git_lfs_is_told_what_to_do(copied: Path) -> None:
    for file in copied.rglob("*.safetensors"):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DktError, match=r"is a Git LFS pointer to the weights; run `git lfs pull`"):
        load_checkpoint(copied)


def test_a_damaged_prompt_is_named(copied: Path) -> None:
    file = copied / "prompt_embeds.safetensors"
    save_file({"other": torch.zeros(1, TEXT_DIM)}, file)
    with pytest.raises(DktError, match=r"prompt_embeds.safetensors.*other"):
        load_checkpoint(copied)
    values = torch.ones(1, TEXT_DIM)
    for wrong in (values[None, None], values * torch.nan, values[:0], values.to(torch.float8_e5m2)):
        save_file({"prompt_embeds": wrong}, file)
        with pytest.raises(
            DktError, match=r"prompt_embeds.safetensors holds float(32|8_e5m2) of s"
        ):
            load_checkpoint(copied)
    save_file({"prompt_embeds": torch.ones(1, TEXT_DIM, dtype=torch.int32)}, file)
    with pytest.raises(DktError, match=r"holds int32 of shape .*expected finite floats"):
        load_checkpoint(copied)
    file.write_bytes(b"12")
    with pytest.raises(DktError, match=r"prompt_embeds.safetensors"):
        load_checkpoint(copied)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "meta:3:4"])
def test_a_device_that_is_not_there_is_named(tiny_checkpoint: Path, device: str) -> None:
    with pytest.raises(DktError, match=device):
        load_checkpoint(tiny_checkpoint, device=device)


@pytest.mark.parametrize("dtype", ["int8", torch.float64, "double"])
def test_other_types_are_refused(tiny_checkpoint: Path, dtype: str | torch.dtype) -> None:
    with pytest.raises(DktError, match="dtype"):
        load_checkpoint(tiny_checkpoint, dtype=dtype)


@pytest.mark.parametrize("shape", [(6, 4), (2, 5), (2, 2, 4, 4)])
def test_a_prompt_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DktError, match="at most 5 tokens of 4"):
        pad_prompt(torch.zeros(shape), 5, 4)


@pytest.mark.parametrize(
    ("changes", "values", "named"),
    [
        ({"in_channels": 31}, {}, "takes 31 and gives 16 .*at least 32 in and 16 out"),
        ({"out_channels": 8}, {}, "takes 48 and gives 8 .*at least 32 in and 16 out"),
        ({"in_channels": 32}, {"condition": "raw_depth"}, "at least 48, .* it is shown raw_depth"),
        ({"image_dim": 32, "added_kv_proj_dim": 24}, {"text_tokens": 4}, "branch needs 512"),
    ],
)
def test_a_transformer_of_other_inputs_and_outputs_is_refused(
    changes: dict[str, int], values: dict[str, Any], named: str
) -> None:
    transformer = tiny_transformer()
    transformer = type(transformer).from_config({**transformer.config, **changes})
    info = CheckpointInfo("x", **values)
    with pytest.raises(DktError, match=named):
        DktNetwork(transformer, tiny_vae(), torch.zeros(1, TEXT_DIM), info)


def test_statistics_of_other_latents_are_refused() -> None:
    vae = tiny_vae()
    vae.register_to_config(latents_mean=[0.0] * 4)
    with pytest.raises(DktError, match="latents_mean has 4 values, z_dim 16"):
        DktNetwork(tiny_transformer(), vae, torch.zeros(1, TEXT_DIM), CheckpointInfo("x"))


def test_parts_that_do_not_fit_each_other_are_refused(copied: Path) -> None:
    rewrite_info(copied, text_tokens=1)
    with pytest.raises(DktError, match=f"{copied}: .*at most 1 tokens"):
        load_checkpoint(copied)
