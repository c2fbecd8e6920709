"""Original files to checkpoint: LoRA variants, key checks, heads, shards, replacement."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.original_files import (
    TINY_DIT,
    lora_shapes,
    random_tensors,
    transformer_shapes,
    vae_shapes,
    write_original_files,
)
from safetensors.torch import load_file, save_file

from dkt_ros.errors import DktError
from dkt_ros.files import only_process, sha256
from dkt_ros.model import convert as convert_module
from dkt_ros.model import weights as weights_module
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.convert import OriginalFiles, convert, convert_transformer
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.weights import Weights

Tensors = dict[str, torch.Tensor]
QUERY = "blocks.0.self_attn.q"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> OriginalFiles:
    """Tiny original files; two heads, which nothing but this says."""
    written = write_original_files(tmp_path_factory.mktemp("original"))
    return OriginalFiles(
        transformer=written["transformer"],
        vae=written["vae"],
        lora=written["lora"],
        prompt_embeds=written["prompt_embeds"],
        num_heads=2,
    )


@pytest.fixture
def files(original: OriginalFiles, tmp_path: Path) -> OriginalFiles:
    """Such files that a test may rewrite."""
    folder = original.vae.parent
    shutil.copytree(folder, tmp_path / "original")
    own: Any = {
        role: tmp_path / "original" / getattr(original, role).relative_to(folder)
        for role in ("transformer", "vae", "lora", "prompt_embeds")
    }
    return replace(original, **own)


@pytest.fixture(scope="module")
def expected(original: OriginalFiles, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """The transformer that they become as they are."""
    return transformer_state(original, tmp_path_factory.mktemp("expected") / "out")


def lora_file(files: OriginalFiles) -> Path:
    assert files.lora is not None
    return files.lora


def rewrite(file: Path, change: Callable[[Tensors], Tensors]) -> None:
    tensors = load_file(file)
    save_file({key: value.contiguous() for key, value in change(tensors).items()}, file)


def transformer_state(files: OriginalFiles, output: Path) -> Tensors:
    convert(files, output)
    return dict(load_checkpoint(output).transformer.state_dict())


def test_every_weight_arrives_with_the_lora_added(files: OriginalFiles, tmp_path: Path) -> None:
    merged = transformer_state(files, tmp_path / "merged")
    original, lora = load_file(files.transformer), load_file(lora_file(files))
    delta = lora[f"{QUERY}.lora_B.default.weight"] @ lora[f"{QUERY}.lora_A.default.weight"]
    assert delta.abs().max() > 0.01
    expected = original[f"{QUERY}.weight"] + delta
    torch.testing.assert_close(merged["blocks.0.attn1.to_q.weight"], expected)

    base = transformer_state(replace(files, lora=None), tmp_path / "base")
    changed = {key for key in base if not torch.equal(base[key], merged[key])}
    assert len(changed) == len(lora) // 2 == 10 * TINY_DIT["layers"]
    values = sorted(value.double().sum().item() for value in original.values())
    assert sorted(value.double().sum().item() for value in base.values()) == values


def test_dkt_json_says_where_it_comes_from(files: OriginalFiles, tmp_path: Path) -> None:
    info = convert(replace(files, task="normal"), tmp_path / "mine")
    assert (info.name, info.task, info.text_tokens) == ("mine", "normal", 512)
    assert load_checkpoint(tmp_path / "mine").info == info
    modes = {file.stat().st_mode for file in (tmp_path / "mine").rglob("*") if file.is_file()}
    assert len(modes) == 1, "some files are readable by fewer users than others"
    assert info.sources["vae/Wan2.1_VAE.pth"] == sha256(files.vae)
    assert sorted(info.sources) == [
        "lora/dkt_lora.safetensors",
        "prompt/prompt_embeds.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/Wan2.1_VAE.pth",
    ]


def test_dkt_json_is_what_the_header_of_the_lora_says(files: OriginalFiles, tmp_path: Path) -> None:
    file = lora_file(files)
    save_file(load_file(file), file, {"dkt_condition": "raw_depth", "dkt_steps": "3"})
    info = convert(files, tmp_path / "out")
    assert (info.condition, info.steps) == ("raw_depth", 3)
    assert CheckpointInfo.read(tmp_path / "out") == info


@pytest.mark.parametrize("eps", ["-1e-6", "0", "NaN"])
def test_an_eps_that_can_be_none_is_not_taken(
    files: OriginalFiles, tmp_path: Path, eps: str
) -> None:
    beside = files.transformer.parent / "config.json"
    beside.write_text(f'{{"dim": 24, "num_heads": 2, "eps": {eps}}}')
    convert(files, tmp_path / "out")
    config = json.loads((tmp_path / "out/transformer/config.json").read_text())
    assert config["eps"] == 1e-6


def in_diffusers_names(key: str) -> str:
    for old, new in (
        ("self_attn.o", "attn1.to_out.0"),
        ("cross_attn.o", "attn2.to_out.0"),
        ("self_attn.", "attn1.to_"),
        ("cross_attn.", "attn2.to_"),
        ("ffn.0", "ffn.net.0.proj"),
        ("ffn.2", "ffn.net.2"),
    ):
        if old in key:
            return key.replace(old, new)
    raise AssertionError(key)


def kohya(key: str, prefix: str) -> str:
    module, _, side = key.replace(".default", "").partition(".lora_")
    return f"{prefix}{module.replace('.', '_')}.lora_{'down' if side[0] == 'A' else 'up'}.weight"


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.replace(".default", ""),
        lambda key: key.replace(".default", ".my_adapter"),
        lambda key: f"diffusion_model.{key}",
        lambda key: f"diffusion_model.{key.replace('.default', '')}",
        lambda key: f"transformer.{in_diffusers_names(key).replace('.default', '')}",
        lambda key: f"pipe.dit.{key}",
        lambda key: f"module.dit.{key}",
        lambda key: key.replace("lora_A.default", "lora_down").replace("lora_B.default", "lora_up"),
        lambda key: kohya(key, "lora_unet_"),
        lambda key: kohya(key, "lora_unet__"),
        lambda key: kohya(in_diffusers_names(key), "lora_transformer_"),
        in_diffusers_names,
        lambda key: f"diffusion_model._orig_mod.{key}",
        lambda key: key.replace("blocks.0.", "blocks.0._orig_mod."),
        lambda key: kohya(key, "lora_unet__orig_mod_"),
        lambda key: kohya(key, "lora_unet_").replace("_blocks_0", "_blocks_0__orig_mod"),
    ],
    ids=[
        "plain", "adapter", "prefix", "prefix-plain", "diffusers", "diffsynth", "module", "down-up",
        "kohya", "videox", "kohya-diffusers", "names", "compiled", "compiled-block",
        "kohya-compiled", "kohya-compiled-block",
    ],
)  # fmt: skip
def test_lora_names_that_occur_merge_alike(
    files: OriginalFiles, expected: Tensors, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    rewrite(lora_file(files), lambda lora: {rename(key): value for key, value in lora.items()})
    state = transformer_state(files, tmp_path / "renamed")
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_the_rank_is_read_from_the_shapes(files: OriginalFiles, tmp_path: Path, rank: int) -> None:
    sizes = {key: TINY_DIT[key] for key in ("dim", "ffn", "layers")}
    save_file(random_tensors(lora_shapes(**sizes, rank=rank)), lora_file(files))
    said: list[str] = []
    convert(files, tmp_path / "out", report=said.append)
    assert any(line.startswith(f"merging 20 LoRA pairs of rank {rank} with") for line in said)


def test_a_lora_may_cover_some_layers_only(files: OriginalFiles, tmp_path: Path) -> None:
    rewrite(
        lora_file(files),
        lambda lora: {key: value for key, value in lora.items() if key.startswith(QUERY)},
    )
    said: list[str] = []
    convert(files, tmp_path / "out", report=said.append)
    assert any(line.startswith("merging 1 LoRA pair of rank 3 with scale 1:") for line in said)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t | {"blocks.7.self_attn.q.lora_A.weight": torch.ones(3, 24),
                        "blocks.7.self_attn.q.lora_B.weight": torch.ones(24, 3)},
         r"blocks\.7\.self_attn\.q.*match no weight"),
        (lambda t: {k: v for k, v in t.items() if k != f"{QUERY}.lora_B.default.weight"},
         f"{QUERY}.lora_A.default.weight has no lora_B"),
        (lambda t: {k: v for k, v in t.items() if k != f"{QUERY}.lora_A.default.weight"},
         f"{QUERY}.lora_B.default.weight has no lora_A"),
        (lambda t: t | {f"{QUERY}.alpha": torch.ones(1)}, "has no alpha beside it, others have"),
        (lambda t: t | {f"{QUERY}.diff_b": torch.ones(24)}, f"{QUERY}.diff_b is no LoRA weight"),
        (lambda t: t | {f"{QUERY}.lora_magnitude_vector": torch.ones(24)}, "is no LoRA weight"),
        (lambda t: t | {"blocks.7.self_attn.q.alpha": torch.ones(1)}, "has no lora_A beside it"),
        (lambda t: t | {f"{QUERY}.lora_A.default.weight": torch.ones(3, 7)}, "does not fit"),
        (lambda t: t | {f"{QUERY}.lora_A.default.weight": torch.ones(2, 24)}, "does not fit"),
        (lambda t: t | {"patch_embedding.weight": torch.ones(24, 36, 1, 2, 2)},
         r"patch_embedding\.weight \(24, 36, 1, 2, 2\) does not fit the weight \(24, 48,"),
        (lambda t: t | {f"{QUERY}.lora_B.default.weight": torch.ones(24, 3, 1)}, "does not fit"),
        (lambda t: t | {f"diffusion_model.{QUERY}.lora_A.weight": torch.ones(3, 24)}, "the same"),
        (lambda t: t | {"blocks.0.attn1.to_q.lora_A.weight": torch.ones(3, 24),
                        "blocks.0.attn1.to_q.lora_B.weight": torch.ones(24, 3)}, "in two ways"),
        (lambda t: {}, "holds no LoRA weights"),
    ],
)  # fmt: skip
def test_a_lora_that_does_not_fit_is_named(
    files: OriginalFiles, tmp_path: Path, change: Callable[[Tensors], Tensors], named: str
) -> None:
    rewrite(lora_file(files), change)
    with pytest.raises(DktError, match=named):
        convert(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ref_conv_is_ignored_and_said(
    files: OriginalFiles, expected: Tensors, tmp_path: Path
) -> None:
    rewrite(
        files.transformer,
        lambda t: (
            t | {"ref_conv.weight": torch.ones(24, 16, 2, 2), "ref_conv.bias": torch.ones(24)}
        ),
    )
    said: list[str] = []
    convert(files, tmp_path / "out", report=said.append)
    assert any(
        line.startswith("ignored, unused by DKT: ") and "ref_conv.weight" in line for line in said
    )
    state = load_checkpoint(tmp_path / "out").transformer.state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t | {"control_adapter.conv.weight": torch.ones(1)}, "control_adapter.conv.wei"),
        (lambda t: t | {"blocks.0.self_attn.gate.weight": torch.ones(1)}, "self_attn.gate.weight"),
        (lambda t: t | {"head.extra": torch.ones(1)}, "head.extra"),
        (lambda t: {k: v for k, v in t.items() if k != "blocks.1.cross_attn.k_img.bias"},
         "blocks.1.attn2.add_k_proj.bias"),
        (lambda t: {k: v for k, v in t.items() if "blocks." not in k}, "blocks.0.ffn.0.weight"),
        (lambda t: {"decoder.weight": torch.ones(1)}, "unknown keys in the transformer"),
        (lambda t: t | {"blocks.1.ffn.0.weight": torch.ones(41, 24)}, "blocks.1.ffn.0.weight"),
        (lambda t: t | {"patch_embedding.weight": torch.ones(24, 48)}, "patch_embedding.weight"),
        (lambda t: t | {"diffusion_model.head.head.bias": torch.ones(64)}, "twice"),
        (lambda t: t | {"_orig_mod.head.head.bias": torch.ones(64)}, "twice"),
        (lambda t: t | {"patch_embedding.weight": torch.ones(24, 16, 1, 2, 2)},
         "takes 16 channels, expected 48 as of Wan2.1-Fun-Control"),
        (lambda t: t | {"patch_embedding.weight": torch.ones(24, 36, 1, 2, 2)},
         "takes 36 channels, expected 48 as of Wan2.1-Fun-Control"),
        (lambda t: t | {"head.head.weight": torch.ones(192, 24), "head.head.bias": torch.ones(192)},
         r"gives 192 values for each patch of 4 latents, expected 16 .* Wan2\.2-TI2V-5B"),
    ],
)  # fmt: skip
def test_transformer_keys_that_do_not_fit_are_named(
    files: OriginalFiles, tmp_path: Path, change: Callable[[Tensors], Tensors], named: str
) -> None:
    rewrite(files.transformer, change)
    with pytest.raises(DktError, match=named):
        convert(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: f"model.diffusion_model.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: key.replace("blocks.1.", "blocks.1._orig_mod."),
        lambda key: f"_fsdp_wrapped_module.{key}".replace("s.0.", "s.0._fsdp_wrapped_module."),
        lambda key: key.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."),
    ],
    ids=["model", "compiled", "compiled-block", "fsdp", "recomputed"],
)
def test_a_wrapped_transformer_is_unwrapped(
    files: OriginalFiles, expected: Tensors, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    rewrite(files.transformer, lambda t: {rename(k): v for k, v in t.items()})
    state = transformer_state(files, tmp_path / "out")
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("sidecar", "heads"),
    [
        ({"dim": 24, "num_heads": 3}, 3),
        ({"dit": {"dim": 24, "num_heads": 4, "eps": 1e-5}}, 4),
    ],
)
def test_heads_come_from_the_config_beside_the_file(
    files: OriginalFiles, tmp_path: Path, sidecar: dict, heads: int
) -> None:
    beside = files.transformer.parent / "config.json"
    beside.write_text(json.dumps(sidecar), encoding="utf-8-sig")  # as Windows' editors do
    convert(replace(files, num_heads=None), tmp_path / "out")
    config = load_checkpoint(tmp_path / "out").transformer.config
    assert config["num_attention_heads"] == heads
    assert config["eps"] == sidecar.get("dit", {}).get("eps", 1e-6)
    convert(files, tmp_path / "out")
    given = load_checkpoint(tmp_path / "out").transformer.config
    assert (given["num_attention_heads"], given["eps"]) == (2, config["eps"])


@pytest.mark.parametrize(
    "sidecar",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"dim": 99, "num_heads": 3}',
        '{"dim": 24, "num_heads": true}',
        None,
    ],
)
def test_without_a_fitting_config_the_heads_must_be_given(
    files: OriginalFiles, tmp_path: Path, sidecar: str | None
) -> None:
    if sidecar is not None:
        (files.transformer.parent / "config.json").write_text(sidecar)
    with pytest.raises(DktError, match="--num-heads"):
        convert(replace(files, num_heads=None), tmp_path / "out")


@pytest.mark.parametrize("heads", [5, 24])
def test_heads_that_do_not_divide_the_width_are_refused(
    files: OriginalFiles, tmp_path: Path, heads: int
) -> None:
    with pytest.raises(DktError, match="--num-heads"):
        convert(replace(files, num_heads=heads), tmp_path / "out")


@pytest.mark.parametrize(
    ("dim", "multipliers", "blocks"),
    [(4, (1, 2, 2, 2), 2), (8, (1, 1, 3, 2), 1), (2, (1, 2, 4), 3)],
)
def test_vae_sizes_come_from_the_shapes(
    files: OriginalFiles, tmp_path: Path, dim: int, multipliers: tuple[int, ...], blocks: int
) -> None:
    shapes = vae_shapes(dim, multipliers, blocks)
    torch.save(random_tensors(shapes), files.vae)
    try:
        convert(files, tmp_path / "out")
    except DktError as error:
        # diffusers' decoder halves a stage's width; the original can only do the same.
        pytest.fail(str(error))
    vae = load_checkpoint(tmp_path / "out").vae
    assert vae.config["base_dim"] == dim
    assert tuple(vae.config["dim_mult"]) == multipliers
    assert vae.config["num_res_blocks"] == blocks


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "encoder.middle.1.proj.bias"},
         "encoder.mid_block.attentions.0.proj.bias"),
        (lambda t: t | {"stranger": torch.ones(1)}, "stranger"),
        (lambda t: t | {"conv2.weight": torch.ones(8, 8, 1, 1, 1)}, "8 latent channels"),
        (lambda t: {k: v for k, v in t.items() if "time_conv" not in k}, "halves time 0 times"),
        (lambda t: {k: v for k, v in t.items() if "resample" not in k}, "never downsamples"),
        (lambda t: {"x": torch.ones(1)}, "conv2.weight is missing"),
        (lambda t: t | {"encoder.conv1.bias": torch.ones(9)}, "encoder.conv1.bias"),
        (lambda t: t | {"step": 3}, "'step' is a int"),
        (lambda t: t | {"conv2.weight": torch.ones(16, dtype=torch.int64)}, "type torch.int64"),
        (lambda t: [t], "holds a list"),
    ],
)  # fmt: skip
def test_vae_keys_that_do_not_fit_are_named(
    files: OriginalFiles, tmp_path: Path, change: Callable[[Tensors], object], named: str
) -> None:
    torch.save(change(torch.load(files.vae, weights_only=True)), files.vae)
    with pytest.raises(DktError, match=named):
        convert(files, tmp_path / "out")


class RunsCode:
    """Unpickling this would make a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = str(proof)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.proof,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(
    files: OriginalFiles, tmp_path: Path, zipped: bool
) -> None:
    proof = tmp_path / "proof"
    tensors = torch.load(files.vae, weights_only=True) | {"x": RunsCode(proof)}
    torch.save(tensors, files.vae, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DktError, match=r"Wan2\.1_VAE\.pth.*not loaded"):
        convert(files, tmp_path / "out")
    assert not proof.exists()


def test_files_in_the_old_pickle_format_are_read(files: OriginalFiles, tmp_path: Path) -> None:
    tensors = torch.load(files.vae, weights_only=True)
    torch.save(tensors, files.vae, _use_new_zipfile_serialization=False)
    convert(files, tmp_path / "out")
    state = load_checkpoint(tmp_path / "out").vae.state_dict()
    assert torch.equal(state["post_quant_conv.weight"], tensors["conv2.weight"])


@pytest.mark.parametrize("role", ["transformer", "vae", "lora", "prompt_embeds"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing", "renamed"])
def test_damaged_files_are_named(
    files: OriginalFiles, tmp_path: Path, role: str, damage: str
) -> None:
    file: Path = getattr(files, role)
    data = file.read_bytes()
    if damage in ("missing", "renamed"):
        file.unlink()
    else:
        file.write_bytes({"truncated": data[:-99], "garbage": b"x" * 999, "empty": b""}[damage])
    if damage == "renamed":
        file = file.with_suffix(".dat")
        file.write_bytes(data)
        changed: Any = {role: file}
        files = replace(files, **changed)
    with pytest.raises(DktError, match=file.name):
        convert(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({"prompt_embeds": torch.ones(1, 513, 12)}, r"\(1, 513, 12\)"),
        ({"prompt_embeds": torch.ones(1, 512, 13)}, r"\(1, 512, 13\)"),
        ({"prompt_embeds": torch.ones(2, 512, 12)}, "2 prompts"),
        ({"a": torch.ones(1, 2, 12), "b": torch.ones(1, 2, 12)}, "holds a, b"),
        ({"prompt_embeds": torch.ones(2, 12, dtype=torch.int64)}, "I64"),
        ({"prompt_embeds": torch.full((2, 12), float("nan"))}, "not finite"),
    ],
)
def test_a_prompt_that_does_not_fit_is_named(
    files: OriginalFiles, tmp_path: Path, tensors: Tensors, named: str
) -> None:
    assert files.prompt_embeds is not None
    save_file(tensors, files.prompt_embeds)
    with pytest.raises(DktError, match=named):
        convert(files, tmp_path / "out")


def test_a_short_prompt_is_padded(files: OriginalFiles, tmp_path: Path) -> None:
    assert files.prompt_embeds is not None
    save_file({"anything": torch.ones(3, 12)}, files.prompt_embeds)
    convert(files, tmp_path / "out")
    embeds = load_checkpoint(tmp_path / "out", plain=True).prompt_embeds
    assert embeds.shape == (1, 512, 12)
    assert embeds.sum() == 36


def test_a_conversion_needs_a_prompt(files: OriginalFiles, tmp_path: Path) -> None:
    with pytest.raises(DktError, match="--prompt-embeds"):
        convert(replace(files, prompt_embeds=None), tmp_path / "out")


def test_a_checkpoint_is_replaced_and_other_files_stay(
    files: OriginalFiles, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    convert(files, output)
    (output / "notes.txt").write_text("mine")
    (output / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    convert(replace(files, lora=None, task="normal"), output)
    network = load_checkpoint(output)
    assert network.info.task == "normal"
    key = "blocks.0.attn1.to_q.weight"
    expected = load_file(files.transformer)[f"{QUERY}.weight"]
    assert torch.equal(network.transformer.state_dict()[key], expected)
    names = ["dkt.json", "notes.txt", "prompt_embeds.safetensors", "transformer", "vae"]
    assert sorted(path.name for path in output.iterdir()) == names


def test_a_failed_conversion_leaves_the_old_checkpoint(
    files: OriginalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    before = convert(files, output)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(weights_module, "save_file", full_disk)
    with pytest.raises(DktError, match="no space left"):
        convert(replace(files, task="normal"), output)
    assert load_checkpoint(output).info == before
    assert not list(output.glob(".partial*"))
    with pytest.raises(DktError, match="no space left"):
        convert(files, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_parts_of_two_checkpoints_are_never_taken_for_one(
    files: OriginalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    convert(files, output)
    move = Path.replace

    def killed_halfway(source: Path, target: Path) -> Path:
        if target == output / "prompt_embeds.safetensors":
            raise KeyboardInterrupt
        return move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed_halfway)
        with pytest.raises(KeyboardInterrupt):
            convert(replace(files, lora=None), output)
    with pytest.raises(DktError, match=r"lacks dkt\.json"):
        load_checkpoint(output)
    info = convert(files, output)
    assert load_checkpoint(output).info == info
    assert not list(output.glob(".*"))


def test_what_a_killed_conversion_left_goes_with_the_next(
    files: OriginalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def killed(folder: Path, _info: CheckpointInfo) -> None:
        shutil.copytree(tmp_path / "made", output)  # what is there at that moment
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(convert_module, "finish_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            convert(files, tmp_path / "made")
    assert len(list(output.glob(".*"))) > 0
    convert(files, output)
    assert list(output.glob(".*")) == []
    with only_process(output / ".partial.lock", ""), pytest.raises(DktError, match="wait for it"):
        convert(files, output)


def test_an_output_that_is_a_file_is_refused(files: OriginalFiles, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DktError, match="is a file"):
        convert(files, tmp_path / "out")


def test_the_stored_type_can_be_chosen(files: OriginalFiles, tmp_path: Path) -> None:
    convert(files, tmp_path / "out", dtype=torch.bfloat16)
    stored = load_file(tmp_path / "out/transformer/diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    original, lora = load_file(files.transformer), load_file(lora_file(files))
    delta = lora[f"{QUERY}.lora_B.default.weight"] @ lora[f"{QUERY}.lora_A.default.weight"]
    expected = (original[f"{QUERY}.weight"] + delta).bfloat16()
    torch.testing.assert_close(stored["blocks.0.attn1.to_q.weight"], expected)


def test_a_stored_type_that_is_too_small_is_named(files: OriginalFiles, tmp_path: Path) -> None:
    rewrite(files.transformer, lambda t: t | {"blocks.1.ffn.2.bias": torch.full((24,), -1e6)})
    with pytest.raises(
        DktError, match=r"ffn\S+ holds 1e\+06, too large for float16; take bfloat16"
    ):
        convert(files, tmp_path / "out", dtype=torch.float16)
    assert not (tmp_path / "out").exists()
    convert(files, tmp_path / "out", dtype=torch.bfloat16)


def test_half_precision_weights_are_merged_in_float32() -> None:
    tensors = random_tensors(transformer_shapes(**TINY_DIT, image=8), seed=1)
    base = Weights.from_tensors({k: v.bfloat16() for k, v in tensors.items()}, "base")
    sizes = {key: TINY_DIT[key] for key in ("dim", "ffn", "layers")}
    lora = random_tensors(lora_shapes(**sizes, rank=2))
    part = convert_transformer(base, Weights.from_tensors(lora, "lora"), num_heads=2)
    delta = lora[f"{QUERY}.lora_B.default.weight"] @ lora[f"{QUERY}.lora_A.default.weight"]
    expected = (base.read(f"{QUERY}.weight").float() + delta).bfloat16()
    merged = part.weights.read("blocks.0.attn1.to_q.weight")
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(merged, expected, rtol=0, atol=0)


def test_large_transformers_are_written_and_read_in_shards(
    files: OriginalFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    expected = transformer_state(files, tmp_path / "whole")
    monkeypatch.setattr(weights_module, "SHARD_BYTES", 20_000)
    state = transformer_state(files, tmp_path / "cut")
    assert len(list((tmp_path / "cut/transformer").glob("*-of-*.safetensors"))) > 3
    assert "checkpoint shards" not in capfd.readouterr().err  # diffusers' bars
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("given", ["folder", "index"])
def test_sharded_originals_are_read(
    files: OriginalFiles, expected: Tensors, tmp_path: Path, given: str
) -> None:
    tensors = load_file(files.transformer)
    shards = tmp_path / "shards"
    shards.mkdir()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for name, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, shards / name)
    index = shards / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {k: n for n, keys in parts.items() for k in keys}}))
    source = shards if given == "folder" else index
    state = transformer_state(replace(files, transformer=source), tmp_path / "out")
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    # What else lies there is no part of it.
    (shards / "._a.safetensors").write_bytes(b"macOS")
    save_file({"blocks.0.ffn.0.lora_A.weight": torch.ones(1, 24)}, shards / "lora.safetensors")
    state = transformer_state(replace(files, transformer=source), tmp_path / "amid")
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    (shards / "b.safetensors").unlink()
    with pytest.raises(DktError, match=r"names b\.safetensors, which is missing"):
        convert(replace(files, transformer=source), tmp_path / "again")


def test_shards_of_pytorch_s_are_read_by_their_index(
    files: OriginalFiles, expected: Tensors, tmp_path: Path
) -> None:
    tensors = load_file(files.transformer)
    names = sorted(tensors)
    parts = {"a.bin": names[::2], "b.bin": names[1::2]}
    for name, keys in parts.items():
        torch.save({key: tensors[key] for key in keys}, tmp_path / name)
    index = tmp_path / "model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {k: n for n, keys in parts.items() for k in keys}}))
    state = transformer_state(replace(files, transformer=index), tmp_path / "out")
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    torch.save(tensors, tmp_path / "b.bin")
    with pytest.raises(DktError, match=r"b\.bin holds .*, which another shard of"):
        convert(replace(files, transformer=index), tmp_path / "out")


def test_a_wrapped_vae_is_unwrapped(files: OriginalFiles, tmp_path: Path) -> None:
    convert(files, tmp_path / "expected")
    stored = torch.load(files.vae, weights_only=True)
    torch.save({"state_dict": {f"model.{k}": v for k, v in stored.items()}}, files.vae)
    convert(files, tmp_path / "out")
    file = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "expected" / file).read_bytes()
