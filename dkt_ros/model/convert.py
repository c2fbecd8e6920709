"""Original files in, checkpoint folder out: what `dkt convert` does.

Everything is checked by names and shapes before the first weight is read; weights pass through
memory one shard at a time. Knows nothing of the command line.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from dkt_ros.errors import DktError
from dkt_ros.files import sha256
from dkt_ros.learned import check_finite
from dkt_ros.model import original
from dkt_ros.model.checkpoint import (
    PROMPT_KEY,
    TRANSFORMER_DIR,
    VAE_DIR,
    WEIGHTS_STEM,
    finish_checkpoint,
    write_prompt,
)
from dkt_ros.model.info import PROMPT_TOKENS, CheckpointInfo
from dkt_ros.model.lora import describe, info_after, match_lora, merge_lora, open_lora
from dkt_ros.model.merge import check_output, new_checkpoint
from dkt_ros.model.network import pad_prompt
from dkt_ros.model.text_encoder import encode_prompt
from dkt_ros.model.weights import Weights, open_weights, write_sharded
from dkt_ros.progress import Report, no_report
from dkt_ros.wording import counted


@dataclass(frozen=True)
class OriginalFiles:
    """What a conversion starts from.

    transformer: base DiT, safetensors (one file, an index of shards, or a folder of them). vae:
    Wan2.1_VAE.pth. lora: DKT's, or None. Either prompt_embeds (safetensors, one tensor of up to
    512 tokens) or text_encoder and tokenizer. task: "depth" or "normal", also the prompt.
    lora_scale: multiplies what the LoRA says of itself, see match_lora.
    num_heads: of the transformer; None looks into the config.json beside it, then takes dim / 128.
    """

    transformer: Path
    vae: Path
    lora: Path | None = None
    prompt_embeds: Path | None = None
    text_encoder: Path | None = None
    tokenizer: Path | None = None
    task: str = "depth"
    num_heads: int | None = None
    lora_scale: float | None = None


@dataclass(frozen=True)
class Part:
    """One network part in diffusers' layout: the config and the weights, still unread."""

    config: dict[str, Any]
    weights: Weights


def convert(
    files: OriginalFiles,
    output: Path,
    dtype: torch.dtype | None = None,
    report: Report = no_report,
) -> CheckpointInfo:
    """Writes a checkpoint folder and returns its `dkt.json`.

    output: made if absent; a checkpoint that lies there is replaced once the new one is whole.
    dtype: stored type of the transformer, the source's by default. report: called with progress.
    Raises DktError naming the file and the key that does not fit; nothing is written then.
    """
    base = open_weights(files.transformer)
    lora = open_lora(files.lora) if files.lora else None
    transformer = convert_transformer(
        base,
        lora,
        num_heads=files.num_heads,
        sidecar=read_sidecar(files.transformer),
        report=report,
        lora_scale=files.lora_scale,
    )
    vae = convert_vae(open_weights(files.vae))
    check_output(output)
    text_dim = int(transformer.config["text_dim"])
    embeds, prompt_files = _prompt_embeds(files, text_dim, report)
    report("hashing the source files")
    groups = {
        "transformer": base.files,
        "vae": vae.weights.files,
        "lora": lora.files if lora else (),
        "prompt": prompt_files,
    }
    sources = {
        f"{role}/{file.name}": sha256(file) for role, group in groups.items() for file in group
    }
    info = CheckpointInfo(
        name=output.resolve().name,
        task=files.task,
        origin="converted from the original files by dkt convert"
        + (", LoRA merged" if files.lora else ", without a LoRA"),
        sources=sources,
    )
    if lora is not None:
        info = info_after(lora, transformer.weights, info)
    weights = transformer.weights.cast(dtype) if dtype else transformer.weights
    with new_checkpoint(output) as folder:
        report(f"writing {counted(len(weights.shapes), 'transformer weight')}")
        parts = folder / TRANSFORMER_DIR, folder / VAE_DIR
        _write_part(WanTransformer3DModel, Part(transformer.config, weights), parts[0])
        report(f"writing {counted(len(vae.weights.shapes), 'VAE weight')}")
        _write_part(AutoencoderKLWan, vae, parts[1])
        write_prompt(folder, embeds)
        finish_checkpoint(folder, info)
    return info


def convert_transformer(
    weights: Weights,
    lora: Weights | None,
    num_heads: int | None = None,
    sidecar: dict[str, Any] | None = None,
    report: Report = no_report,
    lora_scale: float | None = None,
) -> Part:
    """The original transformer in diffusers' names, LoRA merged when a weight is read.

    sidecar: the config.json beside the file, if any. Every key must find its place.
    """
    kept, ignored = original.split_transformer_keys(weights.shapes)
    if ignored:
        report(f"ignored, unused by DKT: {original.name_some(ignored)}")
    shapes = {key: weights.shapes[key] for key in kept}
    width = original.transformer_width(shapes)
    heads, eps = _heads(width, num_heads, sidecar or {}, report)
    config = original.transformer_config(shapes, heads, eps)
    expected = meta_shapes(WanTransformer3DModel, config)
    names = original.transformer_names(kept)
    original.check_complete(names, shapes, expected, "transformer")
    renamed = weights.renamed({key: names[key] for key in expected})
    if lora is None:
        return Part(config, renamed)
    pairs = match_lora(lora, renamed, lora_scale)
    report(describe(lora, pairs))
    return Part(config, merge_lora(renamed, lora, pairs))


def convert_vae(weights: Weights) -> Part:
    """The original VAE in diffusers' names; every key must find its place."""
    stripped = {original.strip_prefix(key): key for key in weights.shapes}
    if len(stripped) == len(weights.shapes):
        weights = weights.renamed(stripped)
    config = original.vae_config(weights.shapes)
    names = original.vae_names(weights.shapes, config["num_res_blocks"])
    expected = meta_shapes(AutoencoderKLWan, config)
    original.check_complete(names, weights.shapes, expected, "VAE")
    return Part(config, weights.renamed({key: names[key] for key in expected}))


def meta_shapes(cls: Any, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of a diffusers model's weights, without allocating any."""
    with torch.device("meta"):
        model = cls.from_config(config)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def read_sidecar(transformer: Path) -> dict[str, Any]:
    """The original config.json beside a transformer file, or nothing where there is none."""
    folder = transformer if transformer.is_dir() else transformer.parent
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    if isinstance(content, dict) and isinstance(content.get("dit"), dict):
        content = content["dit"]
    return content if isinstance(content, dict) else {}


def _heads(
    width: int, requested: int | None, sidecar: dict[str, Any], report: Report
) -> tuple[int, float]:
    """(number of heads, eps): as requested, else from the sidecar, else width / 128."""
    fits = sidecar.get("dim") == width
    eps = sidecar.get("eps") if fits else None
    eps = float(eps) if isinstance(eps, (int, float)) and 0 < eps < 1 else 1e-6
    if requested is not None:
        return requested, eps
    noted = sidecar.get("num_heads")
    if fits and type(noted) is int:  # true is none
        report(f"{counted(noted, 'head')}, from the config.json beside the transformer")
        return noted, eps
    if width % original.HEAD_DIM:
        raise DktError(
            f"the transformer is {width} wide, no multiple of the usual {original.HEAD_DIM} a "
            "head, and no config.json beside it says more: give --num-heads"
        )
    return width // original.HEAD_DIM, eps


def _prompt_embeds(
    files: OriginalFiles, text_dim: int, report: Report
) -> tuple[torch.Tensor, tuple[Path, ...]]:
    """The prompt's embedding (L, text_dim) and the files it came from."""
    if files.prompt_embeds is not None:
        embeds = _read_embeds(files.prompt_embeds)
        source = files.prompt_embeds
    elif files.text_encoder is not None and files.tokenizer is not None:
        report(f"embedding the prompt {files.task!r}")
        embeds = encode_prompt(files.text_encoder, files.tokenizer, files.task)
        source = files.text_encoder
    else:
        raise DktError("no prompt: give --prompt-embeds, or --text-encoder with --tokenizer")
    try:
        pad_prompt(embeds, PROMPT_TOKENS, text_dim)
    except DktError as error:
        raise DktError(f"{source}: {error}, as the transformer takes them") from error
    return embeds, (source,)


def _read_embeds(file: Path) -> torch.Tensor:
    weights = open_weights(file)
    names = list(weights.shapes)
    if PROMPT_KEY not in names and len(names) != 1:
        raise DktError(f"{file} holds {original.name_some(names)}, expected {PROMPT_KEY}")
    embeds = weights.read(PROMPT_KEY if PROMPT_KEY in names else names[0])
    if embeds.dim() == 3 and embeds.shape[0] != 1:
        raise DktError(f"{file} holds {embeds.shape[0]} prompts, expected one")
    check_finite(file, PROMPT_KEY, embeds)
    return embeds


def _write_part(cls: Any, part: Part, folder: Path) -> None:
    folder.mkdir()
    with torch.device("meta"):
        cls.from_config(part.config).save_config(folder)
    write_sharded(part.weights, folder, WEIGHTS_STEM)
