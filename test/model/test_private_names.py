"""Names of diffusers and torch that their makers promise nothing about, and who uses them here.

A release that changes one fails here, by name, before it fails on a robot. requirements/core.txt
bounds the versions; raise a bound when this passes with the new one.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample
from fixtures.tiny_checkpoint import tiny_vae

import dkt_ros

_PACKAGE = Path(dkt_ros.__file__).parent
_KNOWN = {
    "_conv_idx",
    "_encode",
    "_feat_map",
    "_padding",
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
    "torch.utils._triton",
}
"""Private names and modules that are used here, each of which has a test below."""

_VERSIONS = f"diffusers {diffusers.__version__}, torch {torch.__version__}"


@functools.cache
def _sources() -> dict[Path, str]:
    """The package's files."""
    return {file: file.read_text("utf-8") for file in sorted(_PACKAGE.rglob("*.py"))}


def _require(holds: bool, name: str, meaning: str) -> None:
    attribute = name.rpartition(".")[2]
    users = [
        str(file.relative_to(_PACKAGE.parent))
        for file, text in _sources().items()
        if attribute in text and re.search(rf"\b{re.escape(name)}\b|[.\w]\.{attribute}\b", text)
    ]
    assert users, f"nothing uses {name} any more: remove it here"
    assert holds, (
        f"{_VERSIONS}: {name} is no longer {meaning}. Adapt what uses it ({', '.join(users)}), or "
        "lower the bound in requirements/core.txt."
    )


@pytest.fixture(scope="module")
def vae() -> Any:
    return tiny_vae()


@pytest.mark.parametrize("name", ["_conv_idx", "_feat_map"])
def test_the_vae_keeps_its_caches_where_the_nano_network_looks(vae: Any, name: str) -> None:
    vae.clear_cache()
    held = getattr(vae, name, None)
    _require(isinstance(held, list), name, "a list on AutoencoderKLWan after a clear")
    _require(
        held == ([0] if name == "_conv_idx" else [None] * len(held or ())),
        name,
        "empty after clear_cache()",
    )


def test_the_vae_encodes_without_sampling(vae: Any) -> None:
    encode = getattr(vae, "_encode", None)
    _require(callable(encode), "_encode", "a method of AutoencoderKLWan")
    moments = vae._encode(torch.zeros(1, 3, 5, 16, 16))
    channels = 2 * vae.config["z_dim"]
    _require(
        isinstance(moments, torch.Tensor) and moments.shape == (1, channels, 2, 2, 2),
        "_encode",
        "means and variances of two latent frames for five images",
    )


def test_the_causal_convolution_pads_as_the_stacked_one_expects() -> None:
    padding = getattr(WanCausalConv3d(2, 2, (3, 5, 7), padding=(1, 2, 3)), "_padding", None)
    _require(
        padding == (3, 3, 2, 2, 2, 0),
        "WanCausalConv3d._padding",
        "(width, width, height, height, 2 x time, 0)",
    )


@pytest.mark.parametrize(
    "mode", ["none", "upsample2d", "upsample3d", "downsample2d", "downsample3d"]
)
def test_resampling_layers_know_their_mode(mode: str) -> None:
    layer = WanResample(8, mode=mode)
    _require(getattr(layer, "mode", None) == mode, "WanResample.mode", f"{mode!r}")
    _require(
        hasattr(layer, "time_conv") == mode.endswith("3d"),
        "WanResample.time_conv",
        "there in the modes that change the frame rate, and only there",
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._dynamo", "config"),
        ("torch._subclasses.fake_tensor", "FakeTensorMode"),
        ("torch.utils._triton", "has_triton"),
    ],
)
def test_torch_has_the_private_modules(module: str, name: str) -> None:
    found = hasattr(importlib.import_module(module), name)
    _require(found, module, f"there with {name}")


def test_every_private_name_in_use_is_known_here() -> None:
    nodes = {file: list(ast.walk(ast.parse(text))) for file, text in _sources().items()}
    own = {name for of_file in nodes.values() for name in _defined(of_file)}
    foreign = {
        name
        for file, of_file in nodes.items()
        if "ros" not in file.relative_to(_PACKAGE).parts
        for name in _private(of_file)
        if name not in own and name not in ("_SubParsersAction", "_exit")
    }
    assert foreign <= _KNOWN, f"private names without a test: {foreign - _KNOWN}"


def _private(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if not node.attr.startswith("__"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and "._" in (node.module or ""):
            yield node.module or ""


def _defined(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr
