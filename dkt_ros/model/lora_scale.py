"""What a LoRA file means by B A: the factor alpha / rank, wherever its writer has put it.

Trainers keep it in `.alpha` tensors (kohya, musubi, VideoX-Fun, FastVideo), in the safetensors
header (diffusers, SimpleTuner, kohya), in settings saved beside the tensors or in an
adapter_config.json beside the file (peft). Some formats have none and mean alpha = rank; a peft
file without its configuration may mean anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dkt_ros.errors import DktError
from dkt_ros.model.weights import Weights

CONFIG_FILE = "adapter_config.json"
DIFFUSERS_HEADER = "lora_adapter_metadata"
HEADERS = (
    *(("ss_network_alpha", "ss_network_dim"), ("network_alpha", "network_dim")),
    *(("lora_alpha", "rank"), ("alpha", "rank")),
)
"""Header entries of alpha and rank: kohya's and musubi's, and by their options' names;
SimpleTuner's and LightX2V's; what a loop of one's own saves beside its tensors."""
_MORE = (
    *("use_dora", "fan_in_fan_out", "lora_bias"),
    *("use_qalora", "layer_replication", "alora_invocation_tokens"),
    *("use_bdlora", "kasa_config", "monteclora_config", "arrow_config"),
)
"""peft's settings by which a layer is not W + scale B A, or another one than it was."""
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""peft's ways of beginning that change the base weights, to which B A then belongs."""


@dataclass(frozen=True)
class ScaleRule:
    """What a header or a configuration says. rank: None where it says nothing of it."""

    source: str
    alpha: float
    rank: float | None
    rank_stabilized: bool = False
    alphas: Mapping[str, Any] = field(default_factory=dict)
    ranks: Mapping[str, Any] = field(default_factory=dict)

    def scale(self, names: Collection[str], rank: int) -> float:
        """The factor of one module's B A, whose shapes have this rank; DktError for another.

        names: of the module, as patterns may have it: bare, and behind what it was wrapped in.
        """
        module = min(names, key=len)
        stated = _by_pattern(self.ranks, names, self.rank)
        if stated is not None and stated != rank:
            raise DktError(
                f"{self.source} says rank {stated:g} of {module}, the shapes say {rank}: they do "
                "not belong together"
            )
        alpha = _by_pattern(self.alphas, names, self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def scale_rules(lora: Weights) -> list[ScaleRule]:
    """What the file's header says, and an adapter_config.json beside it.

    Raises DktError for what cannot be read, and for adapters that are more than B A.
    """
    rules = []
    for alpha, rank in HEADERS:
        if alpha in lora.metadata:
            content = {"lora_alpha": lora.metadata[alpha], "r": lora.metadata.get(rank)}
            rules.append(_rule(content, f"{alpha} in the header of {lora.origin}"))
    for name, entry in lora.metadata.items():
        if name == DIFFUSERS_HEADER or _has_settings(entry):
            source = f"{name} in the header of {lora.origin}"
            content = _parsed(entry, source)
            inner = {key.removeprefix("transformer."): value for key, value in content.items()}
            rules.append(_rule({"r": inner.get("rank", inner.get("lora_rank"))} | inner, source))
    for folder in sorted({file.parent for file in lora.files}):
        if (file := folder / CONFIG_FILE).is_file():
            try:
                text = file.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise DktError(f"{file} cannot be read: {error}") from error
            rules.append(_rule(_parsed(text, str(file)), str(file)))
    return rules


def alpha_of(lora: Weights, key: str) -> float:
    """The number in an `.alpha` tensor."""
    tensor = lora.read(key)
    if tensor.numel() != 1 or not 0 < (value := float(tensor)) < math.inf:
        raise DktError(
            f"{lora.origin}: {key} is {tensor.tolist()!r:.60}, expected one number above 0"
        )
    return value


def agreed_scale(
    rules: list[ScaleRule], names: Collection[str], rank: int
) -> tuple[float, str] | None:
    """The factor that all rules give one module, and who says so; None without rules.

    names: see ScaleRule.scale.
    """
    module = min(names, key=len)
    found = [(rule.scale(names, rank), rule.source) for rule in rules]
    for scale, source in found[1:]:
        if not math.isclose(scale, found[0][0], rel_tol=1e-6):
            raise DktError(
                f"{found[0][1]} gives {module} the scale {found[0][0]:g}, {source} gives it "
                f"{scale:g}; remove the one that is not the file's"
            )
    return found[0] if found else None


def _has_settings(text: str) -> bool:
    """Whether an entry of a header is a trainer's configuration of a LoRA."""
    try:
        content = json.loads(text) if "lora_alpha" in text else None
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "lora_alpha" in content


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DktError(f"{source} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise DktError(f"{source} is a {type(content).__name__}, expected a JSON object")
    return content


def _rule(content: Mapping[str, Any], source: str) -> ScaleRule:
    started = str(content.get("init_lora_weights") or "").lower()
    special = [
        *(name for name in _MORE if content.get(name)),
        *(f"init_lora_weights {name}" for name in _CHANGES_BASE if started.startswith(name)),
        *([str(content["peft_type"])] if content.get("peft_type", "LORA") != "LORA" else []),
    ]
    if special:
        raise DktError(f"{source} asks for {', '.join(special)}, expected a plain LoRA")
    patterns = [content.get(name) or {} for name in ("alpha_pattern", "rank_pattern")]
    try:
        alpha, rank = float(content["lora_alpha"]), content["r"]
        for pattern in patterns:
            for key, value in pattern.items():
                re.compile(key)
                _ = _positive(float(value))
        return ScaleRule(
            source,
            _positive(alpha),
            None if rank is None else _positive(float(rank)),
            bool(content.get("use_rslora")),
            *patterns,
        )
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise DktError(f"{source} names no alpha and rank of a LoRA: {error!r}") from error


def _positive(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{value:g} is not above 0")
    return value


def _by_pattern(patterns: Mapping[str, Any], names: Collection[str], default: Any) -> Any:
    """As peft does: the first pattern that a module's name ends in."""
    for pattern, value in patterns.items():
        if any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
            return float(value)
    return default
