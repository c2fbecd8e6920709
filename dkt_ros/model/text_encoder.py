"""The prompt's embedding, from Wan's original UMT5 encoder file. Needed once, at conversion.

Knows the encoder's key names in both layouts. Knows nothing of the rest of the network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.model.info import PROMPT_TOKENS
from dkt_ros.model.original import check_complete
from dkt_ros.model.weights import Weights, open_weights

_LAYER = {
    "norm1.weight": "layer.0.layer_norm.weight",
    "attn.q.weight": "layer.0.SelfAttention.q.weight",
    "attn.k.weight": "layer.0.SelfAttention.k.weight",
    "attn.v.weight": "layer.0.SelfAttention.v.weight",
    "attn.o.weight": "layer.0.SelfAttention.o.weight",
    "pos_embedding.embedding.weight": "layer.0.SelfAttention.relative_attention_bias.weight",
    "norm2.weight": "layer.1.layer_norm.weight",
    "ffn.gate.0.weight": "layer.1.DenseReluDense.wi_0.weight",
    "ffn.fc1.weight": "layer.1.DenseReluDense.wi_1.weight",
    "ffn.fc2.weight": "layer.1.DenseReluDense.wo.weight",
}
_TOP = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}


def encode_prompt(encoder: Path, tokenizer: Path, prompt: str) -> torch.Tensor:
    """The prompt's embedding (L, text_dim), L <= PROMPT_TOKENS, the last of which is its end mark.

    encoder: models_t5_umt5-xxl-enc-bf16.pth or a safetensors file with the same keys. tokenizer:
    a folder that transformers' AutoTokenizer reads. Raises DktError naming what does not fit.
    """
    from transformers import AutoTokenizer

    if not tokenizer.is_dir():
        raise DktError(f"tokenizer {tokenizer} is no folder; expected google/umt5-xxl's files")
    try:
        tokenize = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DktError(f"tokenizer {tokenizer} cannot be read: {reason}") from error
    batch = tokenize(prompt, truncation=True, max_length=PROMPT_TOKENS, return_tensors="pt")
    ids = batch["input_ids"]
    model = load_text_encoder(open_weights(encoder))
    vocabulary = model.config.vocab_size
    if ids.numel() == 0 or int(ids.max()) >= vocabulary:
        raise DktError(
            f"tokenizer {tokenizer} gives token ids {ids.tolist()[0]}, the encoder {encoder} has "
            f"{vocabulary}: they do not belong together"
        )
    # Without padding the mask is all ones, so what the reference masks out does not exist here.
    with torch.inference_mode():
        embeds: torch.Tensor = model(input_ids=ids).last_hidden_state[0]
    return embeds


def load_text_encoder(weights: Weights) -> Any:
    """UMT5EncoderModel of transformers with the original file's weights, in the file's own type."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(**umt5_config(weights))
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    tied = "encoder.embed_tokens.weight"  # the same tensor as shared.weight
    expected = {k: tuple(v.shape) for k, v in model.state_dict().items() if k != tied}
    names = umt5_names(weights)
    check_complete(names, weights.shapes, expected, "text encoder")
    tensors = {key: weights.read(original) for key, original in names.items()}
    model.load_state_dict({**tensors, tied: tensors["shared.weight"]}, strict=True, assign=True)
    model.encoder.embed_tokens = model.shared
    return model.eval().requires_grad_(False)


def umt5_names(weights: Weights) -> dict[str, str]:
    """{transformers' key: original key}; unknown keys keep their names."""
    names = {}
    for key in weights.shapes:
        match = re.match(r"blocks\.(\d+)\.(.+)$", key)
        if match and match[2] in _LAYER:
            names[f"encoder.block.{match[1]}.{_LAYER[match[2]]}"] = key
        else:
            names[_TOP.get(key, key)] = key
    return names


def umt5_config(weights: Weights) -> dict[str, object]:
    """Arguments of UMT5Config from the shapes of an original encoder file."""
    shapes = weights.shapes
    try:
        vocab_size, d_model = shapes["token_embedding.weight"]
        inner, _ = shapes["blocks.0.attn.q.weight"]
        buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
        d_ff, _ = shapes["blocks.0.ffn.fc1.weight"]
    except (KeyError, ValueError) as error:
        raise DktError(
            f"{weights.origin} is no Wan text encoder ({error}); expected "
            "models_t5_umt5-xxl-enc-bf16.pth"
        ) from error
    layers = {int(m[1]) for key in shapes if (m := re.match(r"blocks\.(\d+)\.", key))}
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": inner // heads,
        "d_ff": d_ff,
        "num_layers": len(layers),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.0,
    }
