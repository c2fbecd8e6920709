"""The original Wan files: which key is which in diffusers, and what sizes the shapes imply.

Works on names and shapes alone. Knows nothing of files or LoRA.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

from dkt_ros.errors import DktError

Shapes = Mapping[str, tuple[int, ...]]
Z_DIM = 16
"""Latent channels of Wan 2.1's VAE, the only ones whose published mean and std are known."""
HEAD_DIM = 128
"""Width of one attention head in every published Wan 2.1 transformer."""

_TRANSFORMER_ROOTS = (
    "blocks", "head", "img_emb", "patch_embedding", "text_embedding", "time_embedding",
    "time_projection",
)  # fmt: skip
_IGNORED_ROOTS = ("ref_conv",)
_WRAPPERS = re.compile(r"^(?:(?:base_model|model|diffusion_model|transformer|module|pipe|dit)\.)+")
_NAMED = 5  # of many keys
_WITHIN = re.compile(r"(?<![^.])_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
"""What torch.compile and other wrappers put into names, before the first part or any other."""
_LINEAR = (
    *(f"{attention}.{part}" for attention in ("self_attn", "cross_attn") for part in "qkvo"),
    "cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2",
)  # fmt: skip
_OUTER_LINEAR = (
    "head.head", "img_emb.proj.1", "img_emb.proj.3", "text_embedding.0", "text_embedding.2",
    "time_embedding.0", "time_embedding.2", "time_projection.1",
)  # fmt: skip


def split_transformer_keys(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """(keys to convert, ignored keys) of an original transformer file.

    v1.1 of the base model has a `ref_conv`, which DKT does not use: it is ignored. Raises DktError
    naming any other key that DKT's network has no place for.
    """
    keys = list(keys)
    ignored = [key for key in keys if _root(key) in _IGNORED_ROOTS]
    unknown = [key for key in keys if _root(key) not in _TRANSFORMER_ROOTS + _IGNORED_ROOTS]
    if unknown:
        raise DktError(
            f"unknown keys in the transformer: {name_some(unknown)}; expected Wan2.1-Fun-Control's "
            "diffusion_pytorch_model.safetensors"
        )
    return [key for key in keys if _root(key) in _TRANSFORMER_ROOTS], ignored


def transformer_names(keys: Iterable[str]) -> dict[str, str]:
    """{diffusers key: key}; diffusers' own names pass unchanged (its converter moves values)."""
    renamed: dict[str, str] = convert_wan_transformer_to_diffusers(
        {strip_prefix(key): key for key in keys}
    )
    return renamed


def transformer_config(shapes: Shapes, num_heads: int, eps: float) -> dict[str, Any]:
    """Arguments of WanTransformer3DModel from an original file's shapes.

    The number of heads leaves no trace in any shape, and eps none at all.
    """
    named = {strip_prefix(key): shape for key, shape in shapes.items()}
    patch = _shape(named, "patch_embedding.weight", 5)
    dim, in_channels, patch_size = patch[0], patch[1], patch[2:]
    head = _shape(named, "head.head.weight", 2)
    if in_channels % Z_DIM or in_channels < 2 * Z_DIM:
        raise DktError(
            f"the transformer takes {in_channels} channels, expected {3 * Z_DIM} as of "
            "Wan2.1-Fun-Control; those for text alone take 16, Fun-InP and image to video 36"
        )
    out_channels = head[0] // math.prod(patch_size)
    if out_channels != Z_DIM:
        raise DktError(
            f"the transformer gives {head[0]} values for each patch of {math.prod(patch_size)} "
            f"latents, expected {Z_DIM} for each as of Wan2.1-Fun-Control; Wan2.2-TI2V-5B, which "
            "has 48, goes with another VAE"
        )
    if num_heads < 1 or dim % num_heads or (dim // num_heads) % 2:
        raise DktError(
            f"{num_heads} heads do not divide a width of {dim} into even parts; name the right "
            "number with --num-heads"
        )
    blocks = [int(m[1]) for key in named if (m := re.match(r"blocks\.(\d+)\.", key))]
    has_image_branch = "img_emb.proj.0.weight" in named
    return {
        "patch_size": list(patch_size),
        "num_attention_heads": num_heads,
        "attention_head_dim": dim // num_heads,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "text_dim": _shape(named, "text_embedding.0.weight", 2)[1],
        "freq_dim": _shape(named, "time_embedding.0.weight", 2)[1],
        "ffn_dim": _shape(named, "blocks.0.ffn.0.weight", 2)[0],
        "num_layers": max(blocks) + 1,
        "cross_attn_norm": "blocks.0.norm3.weight" in named,
        "qk_norm": "rms_norm_across_heads",
        "eps": eps,
        "image_dim": _shape(named, "img_emb.proj.0.weight", 1)[0] if has_image_branch else None,
        "added_kv_proj_dim": dim if has_image_branch else None,
    }


def transformer_width(shapes: Shapes) -> int:
    """Channels of the residual stream: the first size of the patch embedding."""
    named = {strip_prefix(key): shape for key, shape in shapes.items()}
    return _shape(named, "patch_embedding.weight", 5)[0]


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of AutoencoderKLWan from the shapes of an original Wan2.1_VAE.pth."""
    z_dim = _shape(shapes, "conv2.weight", 5)[0]
    if z_dim != Z_DIM:
        raise DktError(f"the VAE has {z_dim} latent channels, expected {Z_DIM} as in Wan 2.1's")
    conv_in = _shape(shapes, "encoder.conv1.weight", 5)
    base = conv_in[0]
    layers = _layers(shapes)
    resamples = [n for n, parts in layers.items() if "resample" in parts]
    if not resamples:
        raise DktError("the VAE's encoder never downsamples; expected Wan2.1_VAE.pth")
    last_of_stage = [n - 1 for n in resamples] + [max(layers)]
    widths = [
        _shape(shapes, f"encoder.downsamples.{n}.residual.6.weight", 5)[0] for n in last_of_stage
    ]
    multipliers = [width // base for width in widths]
    temporal = ["time_conv" in layers[n] for n in resamples]
    if sum(temporal) != 2:
        raise DktError(
            f"the VAE halves time {sum(temporal)} times, expected 2: DKT encodes 4 frames at once"
        )
    decoder_base = _shape(shapes, "decoder.conv1.weight", 5)[0] // multipliers[-1]
    return {
        "base_dim": base,
        "decoder_base_dim": None if decoder_base == base else decoder_base,
        "z_dim": z_dim,
        "dim_mult": multipliers,
        "num_res_blocks": resamples[0],
        "temperal_downsample": temporal,
        "in_channels": conv_in[1],
        "out_channels": _shape(shapes, "decoder.head.2.weight", 5)[0],
        "scale_factor_temporal": 2 ** sum(temporal),
        "scale_factor_spatial": 2 ** len(resamples),
    }


def vae_names(keys: Iterable[str], num_res_blocks: int) -> dict[str, str]:
    """{diffusers key: original key} of a Wan 2.1 VAE with any number of stages and blocks.

    diffusers' own converter knows four stages of two residual blocks only.
    """
    return {_vae_name(key, num_res_blocks): key for key in keys}


_VAE_PARTS = [
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"coder\.conv1\.", "coder.conv_in."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
    (r"^encoder\.downsamples\.", "encoder.down_blocks."),
]


def _vae_name(key: str, num_res_blocks: int) -> str:
    for pattern, replacement in _VAE_PARTS:
        key = re.sub(pattern, replacement, key)

    def stage(match: re.Match[str]) -> str:
        # The decoder has one residual block more per stage than the encoder, then the resampling.
        block, layer = divmod(int(match[1]), num_res_blocks + 2)
        part = "upsamplers.0" if layer > num_res_blocks else f"resnets.{layer}"
        return f"decoder.up_blocks.{block}.{part}."

    return re.sub(r"^decoder\.upsamples\.(\d+)\.", stage, key)


def check_complete(names: Mapping[str, str], shapes: Shapes, expected: Shapes, what: str) -> None:
    """Every expected diffusers key is named once and has its shape, and nothing else is named.

    names: {diffusers key: original key}; shapes: by original key. Raises DktError naming keys.
    """
    missing = [key for key in expected if key not in names]
    if missing:
        raise DktError(f"the {what} lacks {name_some(missing)} (diffusers' names)")
    unknown = [original for key, original in names.items() if key not in expected]
    if unknown:
        raise DktError(f"unknown keys in the {what}: {name_some(unknown)}")
    if len(names) != len(shapes):
        twice = sorted(set(shapes) - set(names.values()))
        raise DktError(f"the {what} holds the same weight twice, the second as {name_some(twice)}")
    for key, original in names.items():
        if tuple(shapes[original]) != tuple(expected[key]):
            raise DktError(
                f"the {what}'s {original} has shape {tuple(shapes[original])}, the other sizes "
                f"imply {tuple(expected[key])}"
            )


def strip_prefix(key: str) -> str:
    """Drops the wrapper names that some tools put before every key, or into it, however many."""
    return _WRAPPERS.sub("", _WITHIN.sub("", key))


def linear_modules(blocks: Iterable[int]) -> list[str]:
    """Original names of the linear layers of a transformer with these blocks."""
    return [*_OUTER_LINEAR, *(f"blocks.{index}.{name}" for index in blocks for name in _LINEAR)]


def name_some(keys: list[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more


def _root(key: str) -> str:
    return strip_prefix(key).split(".")[0]


def _shape(shapes: Shapes, key: str, rank: int) -> tuple[int, ...]:
    if key not in shapes:
        raise DktError(
            f"{key} is missing: this is not an original Wan 2.1 file, or only part of it"
        )
    if len(shapes[key]) != rank:
        raise DktError(f"{key} has shape {tuple(shapes[key])}, expected {rank} sizes")
    return tuple(shapes[key])


def _layers(shapes: Shapes) -> dict[int, set[str]]:
    """Of the VAE's encoder: {layer number: names of its parts}, in order."""
    layers: dict[int, set[str]] = {}
    for key in shapes:
        if match := re.match(r"encoder\.downsamples\.(\d+)\.(\w+)", key):
            layers.setdefault(int(match[1]), set()).add(match[2])
    return dict(sorted(layers.items()))
