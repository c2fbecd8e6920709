"""Low-rank adapters in the transformer: put in, named, and written in both layouts.

Knows peft and the two ways of naming a module. Knows nothing of losses, steps or checkpoints.
W + B A, without a factor: peft's alpha equals the rank, as the public DKT code adds B A as it is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from dkt_ros.checks import check
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.lora import INPUT_WEIGHTS, header_of
from dkt_ros.model.weights import file_bytes
from dkt_ros.train.fields import at_least

TARGETS = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
"""A block's linear layers: DKT's (and Wan's) name -> diffusers' name."""
ADAPTER = "default"
PUBLIC_FILE = "dkt_lora.safetensors"
PEFT_DIR = "adapter"


@dataclass(frozen=True)
class LoraShape:
    """The `lora` part of a recipe. targets: layers of every block, by the names of TARGETS."""

    rank: int = 128
    targets: tuple[str, ...] = tuple(TARGETS)

    def __post_init__(self) -> None:
        at_least(1, self, "rank")
        targets = list(self.targets)
        valid = targets and set(targets) <= set(TARGETS) and len(set(targets)) == len(targets)
        check("targets", targets, f"some of {', '.join(TARGETS)}", valid)


def peft_config(shape: LoraShape, inputs: bool = False) -> LoraConfig:
    """The adapter as peft describes it; inputs: with the patch embedding as a whole."""
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.rank,
        target_modules=sorted(TARGETS[target] for target in shape.targets),
        modules_to_save=["patch_embedding"] if inputs else None,
    )


def add_lora(transformer: WanTransformer3DModel, shape: LoraShape, seed: int) -> None:
    """Puts adapters into the transformer, in place: A random, B zero, float32, all that learns.

    A depends on the seed alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(peft_config(shape), transformer, ADAPTER)
    for name, parameter in transformer.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            parameter.data = parameter.data.float()


def public_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapter parameters under the public DKT file's keys, `blocks.0.self_attn.q.lora_A....`.

    state: by the names of the transformer's parameters.
    """
    public = {theirs: ours for ours, theirs in TARGETS.items()}
    named = {name: state[name] for name in INPUT_WEIGHTS if name in state}
    for name, value in state.items():
        if name in named:
            continue
        module, _, side = name.partition(".lora_")
        block, theirs = module.split(".", 2)[:2], module.split(".", 2)[2]
        named[f"{'.'.join(block)}.{public[theirs]}.lora_{side}"] = value
    return named


def peft_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapter parameters under the keys of peft's adapter_model.safetensors."""
    return {
        f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": value
        for name, value in state.items()
    }


def write_adapter(
    folder: Path, state: Mapping[str, Tensor], shape: LoraShape, info: CheckpointInfo
) -> None:
    """Writes `adapter/` as peft reads it, and the public DKT file beside it, both float32.

    info: of the network that it makes, which their headers say.
    What lies there is replaced file by file, once all of the new is written. Raises OSError or
    SafetensorError where that fails; what lay there stays then.
    """
    state = {name: value.detach().float().cpu().contiguous() for name, value in state.items()}
    config = peft_config(shape, any(name in state for name in INPUT_WEIGHTS))
    config.target_modules = sorted(config.target_modules or ())  # a set's order is each process's
    metadata = {"format": "pt", **header_of(info)}
    (folder / PEFT_DIR).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as staging:
        made = Path(staging)
        adapter = made / PEFT_DIR
        config.save_pretrained(str(adapter))
        # safetensors' own writing lets nobody but the owner read.
        weights = {
            adapter / "adapter_model.safetensors": peft_tensors,
            made / PUBLIC_FILE: public_tensors,
        }
        for file, naming in weights.items():
            file.write_bytes(file_bytes(naming(state), metadata))
        for file in sorted(path for path in made.rglob("*") if path.is_file()):
            os.replace(file, folder / file.relative_to(made))
