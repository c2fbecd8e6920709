"""Merging a LoRA into a transformer's weights: W + scale B A.

Reads the names that trainers give: DKT's and DiffSynth's, peft's, diffusers', diffusion-pipe's,
kohya's and musubi's. What the factor is stands in lora_scale.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dkt_ros.errors import DktError
from dkt_ros.learned import check_finite
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.lora_scale import CONFIG_FILE, agreed_scale, alpha_of, scale_rules
from dkt_ros.model.original import linear_modules, name_some, strip_prefix, transformer_names
from dkt_ros.model.weights import Weights, open_weights
from dkt_ros.wording import counted

_SIDE = re.compile(r"^(?P<module>.+)\.lora[_.](?P<side>A|B|down|up)(?:\.[^.]+)?\.weight$")
_ALPHA = re.compile(r"^(?P<module>.+)\.(?:lora_)?alpha$")
_FLAT = re.compile(r"^(?:lora_unet|lora_transformer|lycoris)_+(?P<module>.+)$")
_SIDES = {"down": "A", "up": "B"}
_PEFT = re.compile(r"^(?:.*\.)?base_model\.model\.")
"""What wraps the adapter, as torch.compile and FSDP do, may put names of its own before peft's."""
INPUT_WEIGHTS = ("patch_embedding.weight", "patch_embedding.bias")
STATED = ("condition", "steps", "height", "width")
"""Fields of CheckpointInfo that a file's header may tell of its network, behind dkt_."""
_NOTHING = (
    "; they add NOTHING, for one side of each is zero: was it saved before it was trained, or "
    "where its weights were elsewhere (ZeRO-3, offloading)?"
)
_FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class LoraPair:
    """The LoRA file's keys of A (rank, in) and B (out, rank) for one weight, and B A's factor."""

    a: str
    b: str
    rank: int
    scale: float
    source: str


def open_lora(path: Path) -> Weights:
    """A LoRA file, or the one in a folder of peft's or diffusers'."""
    found = [path / name for name in _FILES if (path / name).is_file()]
    if len(found) > 1:
        raise DktError(
            f"{path} holds {' and '.join(file.name for file in found)}; name the one that is meant"
        )
    return open_weights(found[0] if found else path)


def match_lora(lora: Weights, targets: Weights, scale: float | None = None) -> dict[str, LoraPair]:
    """{diffusers weight key: pair} for every key of a LoRA file.

    Modules have original names (`blocks.0.self_attn.q`) or diffusers' (`blocks.0.attn1.to_q`),
    behind any wrapper's name, or flattened as kohya does (`lora_unet_blocks_0_self_attn_q`), wholly
    or in part (`lora_unet_blocks_0.self_attn.q`).
    scale: multiplies what the file says; where it leaves open what it says, this is the factor.
    Raises DktError naming the key where A or B stands alone, matches no weight, does not fit its
    shape, where nothing says what B A is multiplied by, and for a scale that is not finite.
    """
    if scale is not None and not math.isfinite(scale):
        raise DktError(f"the LoRA's scale is {scale:g}, expected a finite number")
    sides: dict[str, dict[str, str]] = {}
    flat, whole = _flat_names(targets), whole_weights(lora, targets)
    for key in lora.shapes:
        if match := _SIDE.match(key):
            side = _SIDES.get(match["side"], match["side"])
        elif match := _ALPHA.match(key):
            side = "alpha"
        elif key in whole.values():
            continue
        else:
            raise DktError(
                f"{lora.origin}: {key} is no LoRA weight, expected ….lora_A.weight, "
                "….lora_B.weight, their forms lora_down and lora_up, or ….alpha; what an adapter "
                "holds beyond them (DoRA, LoKr, diff, bias) its trainer's tool merges into the base"
            )
        pair = sides.setdefault(_module(match["module"], flat), {})
        if side in pair:
            raise DktError(f"{lora.origin}: {key} and {pair[side]} are the same weight")
        pair[side] = key
    if not sides:
        raise DktError(f"{lora.origin} holds no LoRA weights")
    names = transformer_names(f"{module}.weight" for module in sides)
    modules = {target: name.removesuffix(".weight") for target, name in names.items()}
    if len(modules) != len(sides) or whole.keys() & modules.keys():
        raise DktError(f"{lora.origin} names the same weight in two ways")
    for target, module in modules.items():
        _check_pair(lora, sides[module], target, targets)
    scales = _scales(lora, sides, scale)
    return {
        target: LoraPair(
            sides[module]["A"], sides[module]["B"], _rank(lora, sides[module]), *scales[module]
        )
        for target, module in modules.items()
    }


def whole_weights(lora: Weights, targets: Weights) -> dict[str, str]:
    """{diffusers weight key: key} of the patch embedding, where the file holds it anew.

    `dkt train` puts it beside a LoRA whose network is shown raw depth. Raises DktError where it
    does not fit.
    """
    found = {strip_prefix(key): key for key in lora.shapes}
    found = {name: found[name] for name in INPUT_WEIGHTS if name in found}
    for name, key in found.items():
        if lora.shapes[key] != targets.shapes.get(name):
            raise DktError(
                f"{lora.origin}: {key} {lora.shapes[key]} does not fit the weight "
                f"{targets.shapes.get(name)}"
            )
    return found


def info_after(lora: Weights, targets: Weights, before: CheckpointInfo) -> CheckpointInfo:
    """What a network is once the LoRA is merged: as the header says that `dkt train` writes.

    Where it says nothing, a LoRA that brings the inputs of raw depth is shown that. Raises DktError
    for what the header cannot say.
    """
    shown = {"condition": "raw_depth"} if whole_weights(lora, targets) else {}
    metadata = lora.metadata
    stated = {name: metadata[f"dkt_{name}"] for name in STATED if f"dkt_{name}" in metadata}
    values: dict[str, Any] = {
        name: int(value) if value.isdecimal() else value for name, value in (shown | stated).items()
    }
    try:
        return replace(before, **values)
    except DktError as error:
        raise DktError(f"{lora.origin}: its header's dkt_{error}") from error


def header_of(info: CheckpointInfo) -> dict[str, str]:
    """What info_after reads."""
    return {f"dkt_{name}": str(getattr(info, name)) for name in STATED}


def merge_lora(targets: Weights, lora: Weights, pairs: Mapping[str, LoraPair]) -> Weights:
    """The target weights with each pair added: W + scale B A, computed in float32.

    Whole weights of the file take the place of the target's.
    """
    whole = whole_weights(lora, targets)

    def read(name: str) -> torch.Tensor:
        weight = targets.read(name)
        if name in whole:
            given = lora.read(whole[name]).to(weight.dtype)
            if not given.is_meta:
                check_finite(lora.origin, whole[name], given)
            return given
        if name not in pairs:
            return weight
        pair = pairs[name]
        a, b = lora.read(pair.a).float(), lora.read(pair.b).float()
        flat = weight.float().flatten(1)
        merged = torch.addmm(flat, b.flatten(1), a.flatten(1), alpha=pair.scale).to(weight.dtype)
        if not merged.is_meta and not merged.isfinite().all():
            check_finite(targets.origin, name, weight)
            raise DktError(
                f"{lora.origin}: {pair.b} times {pair.a} is not finite, or not where it is added "
                f"to {name} in {weight.dtype}"
            )
        return merged.view(weight.shape)

    return replace(targets, read=read)


def describe(lora: Weights, pairs: Mapping[str, LoraPair]) -> str:
    """One line: how many pairs, of which ranks, added with which factor, and who says so.

    And how many add nothing at all, and what comes whole.
    """
    whole = [key for key in lora.shapes if strip_prefix(key) in INPUT_WEIGHTS]
    ranks = sorted({pair.rank for pair in pairs.values()})
    scales = [f"{scale:g}" for scale in sorted({pair.scale for pair in pairs.values()})]
    shown = scales[0] if len(scales) == 1 else f"{scales[0]} to {scales[-1]}"
    source = next(iter(pairs.values())).source
    empty = sum(not _adds(lora, pair) for pair in pairs.values())
    some = f"; {empty} of them add nothing, for one side of each is zero: did the file come whole?"
    return (
        f"merging {counted(len(pairs), 'LoRA pair')} of rank {', '.join(map(str, ranks))} with "
        f"scale {shown}: {source}"
        + (f"; {name_some(whole)} in the place of the base's" if whole else "")
        + ("" if not empty else _NOTHING if empty == len(pairs) else some)
    )


def _adds(lora: Weights, pair: LoraPair) -> bool:
    sides = lora.read(pair.b), lora.read(pair.a)
    return all(side.is_meta or bool(side.any()) for side in sides)


def _scales(
    lora: Weights, sides: Mapping[str, Mapping[str, str]], scale: float | None
) -> dict[str, tuple[float, str]]:
    """Module -> B A's factor and where it comes from."""
    has_alpha = any("alpha" in pair for pair in sides.values())
    rules = [] if has_alpha else scale_rules(lora)
    times = "" if scale is None else f", times --lora-scale {scale:g}"
    found = {}
    for module, pair in sides.items():
        rank = _rank(lora, pair)
        if "alpha" in pair:
            stated: tuple[float, str] | None = (
                alpha_of(lora, pair["alpha"]) / rank,
                "alpha tensors in the file",
            )
        elif has_alpha:
            raise DktError(f"{lora.origin}: {pair['A']} has no alpha beside it, others have")
        else:
            wrapped = _after_peft(_SIDE.sub(r"\g<module>", pair["A"]))
            stated = agreed_scale(rules, {module, wrapped}, rank)
        if stated is None:
            stated = _by_convention(lora, pair["A"], scale)
        found[module] = (stated[0] * (1.0 if scale is None else scale), stated[1] + times)
    return found


def _by_convention(lora: Weights, key: str, scale: float | None) -> tuple[float, str]:
    """What a file without any word of alpha means."""
    if _after_peft(key) == key:
        return 1.0, "the file names no alpha, which its format reads as alpha = rank"
    if scale is None:
        raise DktError(
            f"{lora.origin} has peft's names and nothing says its alpha: put peft's {CONFIG_FILE} "
            "beside it, or give alpha / rank as --lora-scale"
        )
    return 1.0, "the file names no alpha"


def _after_peft(name: str) -> str:
    return _PEFT.sub("", name)


def _module(name: str, flat: Mapping[str, str]) -> str:
    if match := _FLAT.match(strip_prefix(name).replace("__orig_mod_", "_")):
        return flat.get(match["module"].replace(".", "_"), name)
    return strip_prefix(name)


def _flat_names(targets: Weights) -> dict[str, str]:
    """`blocks_0_self_attn_q` -> `blocks.0.self_attn.q`, and the same of diffusers' names."""
    theirs = [key.removesuffix(".weight") for key in targets.shapes if key.endswith(".weight")]
    blocks = {int(name.split(".")[1]) for name in theirs if name.startswith("blocks.")}
    return {name.replace(".", "_"): name for name in (*theirs, *linear_modules(blocks))}


def _rank(lora: Weights, pair: Mapping[str, str]) -> int:
    return lora.shapes[pair["A"]][0]


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the ones that a shape of a matrix or more ends in."""
    return _without_ones(shape[:-1]) if len(shape) > 2 and shape[-1] == 1 else tuple(shape)


def _check_pair(lora: Weights, pair: Mapping[str, str], target: str, targets: Weights) -> None:
    for side, other in (("A", "B"), ("B", "A")):
        if side not in pair:
            known = pair.get(other) or pair["alpha"]
            raise DktError(f"{lora.origin}: {known} has no lora_{side} beside it")
    if target not in targets.shapes:
        raise DktError(
            f"{lora.origin}: {name_some(list(pair.values()))} match no weight of the transformer "
            f"({target} in diffusers' names); take the base that it was trained for"
        )
    a, b = lora.shapes[pair["A"]], lora.shapes[pair["B"]]
    if 0 in (*a, *b):
        raise DktError(
            f"{lora.origin}: {pair['A']} {a} and {pair['B']} {b} are empty: it was saved while "
            "ZeRO-3 kept the weights elsewhere; gather them, as by the zero_to_fp32.py beside the "
            "state, and save it again"
        )
    weight = targets.shapes[target]
    fits = len(a) == len(b) > 1 and a[0] == b[1] and set(b[2:]) <= {1}
    # A kernel of one pixel is a matrix: so kohya's tools write those of linear layers.
    if not fits or _without_ones((b[0], *a[1:])) != _without_ones(weight):
        raise DktError(
            f"{lora.origin}: {pair['B']} {b} times {pair['A']} {a} does not fit the weight "
            f"{weight}; take the base that it was trained for"
        )
