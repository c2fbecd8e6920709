"""Merging a LoRA into a transformer's weights: W + B A.

Knows the names that LoRA files use. Knows nothing of files, checkpoints or training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from dkt_ros.errors import DktError
from dkt_ros.model.original import name_some, transformer_names
from dkt_ros.model.weights import Weights

_KEY = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight$")
_PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.")


@dataclass(frozen=True)
class LoraPair:
    """The LoRA file's keys of A (rank, in) and B (out, rank) for one weight."""

    a: str
    b: str
    rank: int


def match_lora(lora: Weights, targets: Weights) -> dict[str, LoraPair]:
    """{diffusers weight key: pair} for every key of a LoRA file.

    Accepts the original module names (`blocks.0.self_attn.q`) and diffusers' (`blocks.0.attn1.
    to_q`), `lora_A.weight` with or without an adapter's name, and the prefixes `diffusion_model.`,
    `transformer.` and `base_model.model.`. Raises DktError naming the key where A or B stands
    alone, matches no weight, or does not fit its shape.
    """
    sides: dict[str, dict[str, str]] = {}
    for key in lora.shapes:
        match = _KEY.match(key)
        if match is None:
            raise DktError(
                f"{lora.origin}: {key} is no LoRA weight, expected ….lora_A.weight or "
                "….lora_B.weight"
            )
        pair = sides.setdefault(_module(match["module"]), {})
        if match["side"] in pair:
            raise DktError(f"{lora.origin}: {key} and {pair[match['side']]} are the same weight")
        pair[match["side"]] = key
    if not sides:
        raise DktError(f"{lora.origin} holds no LoRA weights")
    names = transformer_names(f"{module}.weight" for module in sides)
    pairs = {}
    for target, original in names.items():
        pair = sides[original.removesuffix(".weight")]
        pairs[target] = _checked_pair(lora, pair, target, targets)
    if len(pairs) != len(sides):
        raise DktError(f"{lora.origin} names the same weight in two ways")
    return pairs


def merge_lora(
    targets: Weights, lora: Weights, pairs: Mapping[str, LoraPair], scale: float = 1.0
) -> Weights:
    """The target weights with each pair added: W + scale B A, computed in float32."""

    def read(name: str) -> torch.Tensor:
        weight = targets.read(name)
        if name not in pairs:
            return weight
        a, b = (lora.read(key).float() for key in (pairs[name].a, pairs[name].b))
        return torch.addmm(weight.float(), b, a, alpha=scale).to(weight.dtype)

    return replace(targets, read=read)


def _module(name: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                name, stripped = name[len(prefix) :], True
    return name


def _checked_pair(lora: Weights, pair: dict[str, str], target: str, targets: Weights) -> LoraPair:
    known = pair.get("A") or pair["B"]
    if len(pair) < 2:
        missing = "B" if "A" in pair else "A"
        raise DktError(f"{lora.origin}: {known} has no lora_{missing} beside it")
    if target not in targets.shapes:
        raise DktError(
            f"{lora.origin}: {name_some(list(pair.values()))} match no weight of the transformer "
            f"({target} in diffusers' names)"
        )
    a, b = lora.shapes[pair["A"]], lora.shapes[pair["B"]]
    weight = targets.shapes[target]
    fits = len(a) == len(b) == len(weight) == 2 and a[0] == b[1] and (b[0], a[1]) == tuple(weight)
    if not fits:
        raise DktError(
            f"{lora.origin}: {pair['B']} {b} times {pair['A']} {a} does not fit the weight {weight}"
        )
    return LoraPair(pair["A"], pair["B"], a[0])
