"""A small UMT5 in the original file's names gives transformers' own answer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures.original_files import text_encoder_shapes, write_original_files
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.convert import OriginalFiles, convert
from dkt_ros.model.text_encoder import encode_prompt

WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "depth": 3, "normal": 4, "map": 5}
DIM = 12  # the text width of the tiny transformer


@pytest.fixture(scope="module")
def umt5() -> UMT5EncoderModel:
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=8, d_model=DIM, d_kv=4, d_ff=20, num_layers=2, num_heads=3, dropout_rate=0.0
    )
    model = UMT5EncoderModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


@pytest.fixture
def encoder(umt5: UMT5EncoderModel, tmp_path: Path) -> Path:
    """That model as the original .pth names its weights."""
    theirs = umt5.state_dict()
    tensors = {
        "token_embedding.weight": theirs["shared.weight"],
        "norm.weight": theirs["encoder.final_layer_norm.weight"],
    }
    for n in range(2):
        attention, feed_forward = (f"encoder.block.{n}.layer.{i}" for i in range(2))
        heads = f"{attention}.SelfAttention"
        dense = f"{feed_forward}.DenseReluDense"
        tensors |= {
            f"blocks.{n}.norm1.weight": theirs[f"{attention}.layer_norm.weight"],
            f"blocks.{n}.norm2.weight": theirs[f"{feed_forward}.layer_norm.weight"],
            f"blocks.{n}.pos_embedding.embedding.weight": theirs[
                f"{heads}.relative_attention_bias.weight"
            ],
            f"blocks.{n}.ffn.gate.0.weight": theirs[f"{dense}.wi_0.weight"],
            f"blocks.{n}.ffn.fc1.weight": theirs[f"{dense}.wi_1.weight"],
            f"blocks.{n}.ffn.fc2.weight": theirs[f"{dense}.wo.weight"],
        }
        for part in "qkvo":
            tensors[f"blocks.{n}.attn.{part}.weight"] = theirs[f"{heads}.{part}.weight"]
    expected = text_encoder_shapes(vocabulary=8, dim=DIM, ffn=20, heads=3, layers=2)
    assert {key: tuple(value.shape) for key, value in tensors.items()} == expected
    file = tmp_path / "models_t5_umt5-xxl-enc-bf16.pth"
    torch.save({key: value.clone() for key, value in tensors.items()}, file)
    return file


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words to ids, the end mark appended, as UMT5's does."""
    words = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder = tmp_path / "umt5-xxl"
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("prompt", "ids"), [("depth", [3, 1]), ("  normal \n map ", [4, 5, 1]), ("sky", [2, 1])]
)
def test_the_embedding_is_that_of_the_padded_reference(
    umt5: UMT5EncoderModel, encoder: Path, tokenizer: Path, prompt: str, ids: list[int]
) -> None:
    embeds = encode_prompt(encoder, tokenizer, prompt)
    padded = torch.tensor([ids + [0] * (512 - len(ids))])
    with torch.inference_mode():
        theirs = umt5(input_ids=padded, attention_mask=(padded != 0).long()).last_hidden_state[0]
    assert embeds.shape == (len(ids), DIM)
    torch.testing.assert_close(embeds, theirs[: len(ids)], atol=1e-5, rtol=1e-4)


def test_attention_depends_on_every_mapped_weight(encoder: Path, tokenizer: Path) -> None:
    """No key is mapped to a place where it has no effect."""
    before = encode_prompt(encoder, tokenizer, "depth map normal")
    tensors = torch.load(encoder, weights_only=True)
    for key, value in tensors.items():
        changed = tensors | {key: value + 0.5 * torch.randn_like(value)}
        torch.save(changed, encoder)
        after = encode_prompt(encoder, tokenizer, "depth map normal")
        assert (after - before).abs().max() > 1e-4, key


def test_a_long_prompt_is_cut(encoder: Path, tokenizer: Path) -> None:
    assert encode_prompt(encoder, tokenizer, "depth " * 600).shape == (512, DIM)


def test_conversion_embeds_the_prompt(encoder: Path, tokenizer: Path, tmp_path: Path) -> None:
    written = write_original_files(tmp_path / "original")
    files = OriginalFiles(
        transformer=written["transformer"],
        vae=written["vae"],
        text_encoder=encoder,
        tokenizer=tokenizer,
        task="normal",
        num_heads=2,
    )
    info = convert(files, tmp_path / "out")
    network = load_checkpoint(tmp_path / "out", plain=True)
    expected = encode_prompt(encoder, tokenizer, "normal")
    torch.testing.assert_close(network.prompt_embeds[0, : len(expected)], expected)
    assert not network.prompt_embeds[0, len(expected) :].any()
    assert "prompt/models_t5_umt5-xxl-enc-bf16.pth" in info.sources
    with pytest.raises(DktError, match="--text-encoder with --tokenizer"):
        convert(replace(files, tokenizer=None), tmp_path / "out")


def test_bfloat16_weights_stay_bfloat16(encoder: Path, tokenizer: Path) -> None:
    exact = encode_prompt(encoder, tokenizer, "depth")
    tensors = torch.load(encoder, weights_only=True)
    torch.save({key: value.bfloat16() for key, value in tensors.items()}, encoder)
    rough = encode_prompt(encoder, tokenizer, "depth")
    assert rough.dtype == torch.bfloat16
    assert math.isclose((rough - exact).norm() / exact.norm(), 0, abs_tol=0.1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"norm.weight": None}, "final_layer_norm"),
        ({"blocks.1.ffn.fc1.weight": None}, "wi_1"),
        ({"stranger": torch.ones(1)}, "stranger"),
        ({"token_embedding.weight": None}, "no Wan text encoder"),
        ({"blocks.1.attn.q.weight": torch.ones(1, 1)}, "blocks.1.attn.q.weight"),
    ],
)
def test_keys_that_do_not_fit_are_named(
    encoder: Path, tokenizer: Path, change: dict, named: str
) -> None:
    tensors = torch.load(encoder, weights_only=True) | change
    torch.save({key: value for key, value in tensors.items() if value is not None}, encoder)
    with pytest.raises(DktError, match=named):
        encode_prompt(encoder, tokenizer, "depth")


def test_a_tokenizer_that_does_not_fit_is_named(
    encoder: Path, tokenizer: Path, tmp_path: Path
) -> None:
    with pytest.raises(DktError, match=r"tokenizer .*nowhere is no folder"):
        encode_prompt(encoder, tmp_path / "nowhere", "depth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DktError, match="empty cannot be read"):
        encode_prompt(encoder, tmp_path / "empty", "depth")
    small = torch.load(encoder, weights_only=True)
    small["token_embedding.weight"] = small["token_embedding.weight"][:3]
    torch.save(small, encoder)
    with pytest.raises(DktError, match=r"\[3, 1\].*do not belong together"):
        encode_prompt(encoder, tokenizer, "depth")


def test_safetensors_hold_the_encoder_too(encoder: Path, tokenizer: Path, tmp_path: Path) -> None:
    expected = encode_prompt(encoder, tokenizer, "depth")
    file = tmp_path / "encoder.safetensors"
    save_file(torch.load(encoder, weights_only=True), file)
    assert torch.equal(encode_prompt(file, tokenizer, "depth"), expected)
