"""An engine that does not fit says in which points, and what to run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.manifests import GRAPH, HERE, MANIFEST
from fixtures.manifests import REQUEST as ASKED

from dkt_ros.errors import DktError
from dkt_ros.model.compiled.request import (
    checkpoint_fingerprint,
    clip_fingerprint,
    differences,
    require_match,
)

REQUEST = replace(ASKED, options=("--preset", "balanced"))


def test_one_that_fits() -> None:
    assert differences(MANIFEST, REQUEST, HERE) == []
    assert differences(MANIFEST, replace(REQUEST, windows=(1,)), HERE) == []
    require_match(Path("e"), MANIFEST, REQUEST, HERE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "b" * 64}, ["tiny with hash aaaaaaaaaaaa", "bbbbbbbbbbbb"]),
        ({"size": (64, 96)}, ["size is 32x48, expected 64x96"]),
        ({"windows": (1, 6)}, ["of 1, 4 latent frames, expected 6 as well"]),
        ({"windows": (2,)}, ["of 1, 4 latent frames, expected 2 as well"]),
        ({"steps": 3}, ["steps is 5, expected 3"]),
        ({"precision": "fp16"}, ["precision is bf16, expected fp16"]),
        (
            {"precision": "bf16", "calibration": "c" * 64},
            ["clip's hash is None, expected cccccccccccc"],
        ),
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], words: list[str]) -> None:
    [found] = differences(MANIFEST, replace(REQUEST, **changes), HERE)
    assert all(word in found for word in words)


@pytest.mark.parametrize("field", ["gpu", "compute_capability", "tensorrt"])
def test_each_part_of_the_system_is_compared(field: str) -> None:
    other = replace(HERE, **{field: "other"})
    [found] = differences(MANIFEST, REQUEST, other)
    assert f"is {getattr(HERE, field)}, expected other" in found


def test_plans_for_a_compute_capability_run_on_each_such_gpu() -> None:
    ahead = replace(MANIFEST, system=replace(HERE, gpu="", compute_capability="12.0 8.9"))
    assert differences(ahead, REQUEST, HERE) == []
    assert differences(ahead, REQUEST, replace(HERE, gpu="NVIDIA GeForce RTX 4090")) == []
    [found] = differences(ahead, REQUEST, replace(HERE, compute_capability="8.6"))
    assert found == "its compute capability is 12.0 8.9, expected 8.6"


def test_graphs_without_plans() -> None:
    bare = replace(MANIFEST, system=None, graphs=(replace(GRAPH, plan=None, plan_sha256=None),))
    assert differences(bare, REQUEST) == []
    assert differences(bare, REQUEST, HERE) == ["it holds no plans of embed_rgb, only graphs"]


def test_the_error_names_all_and_the_command() -> None:
    wanted = replace(REQUEST, size=(64, 96), steps=3)
    with pytest.raises(DktError) as caught:
        require_match(Path("e"), replace(MANIFEST, precision="fp16"), wanted, HERE)
    message = str(caught.value)
    assert "size" in message
    assert "steps" in message
    assert "\n" not in message
    assert message.endswith(
        "run `dkt engine build --checkpoint 'my checkpoints/tiny' --precision fp16 --preset "
        "balanced --size 64x96 --steps 3 --output e`"
    )


def test_the_command_of_an_fp8_engine_leaves_the_clip_open() -> None:
    """A node does not mind which clip it was."""
    engine = replace(MANIFEST, precision="fp8", calibration="c" * 64)
    assert differences(engine, REQUEST, HERE) == []
    assert "--precision fp8 --calibrate CLIP" in REQUEST.command(Path("e"), engine.precision)


def test_a_fingerprint_is_of_the_contents(tiny_checkpoint: Path, tmp_path: Path) -> None:
    before = checkpoint_fingerprint(tiny_checkpoint)
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "elsewhere"))
    (copy / "MODEL_CARD.md").write_text("words change nothing")
    (copy / "._dkt.json").write_text("nor does what macOS writes beside it")
    assert checkpoint_fingerprint(copy) == before
    (copy / "prompt_embeds.safetensors").rename(copy / "prompt.safetensors")
    assert checkpoint_fingerprint(copy) != before, "a file is what its name says"
    (copy / "prompt.safetensors").rename(copy / "prompt_embeds.safetensors")
    assert checkpoint_fingerprint(copy) == before
    weights = next((copy / "vae").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert checkpoint_fingerprint(copy) != before


def test_no_checkpoint_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"no dkt\.json|has no dkt"):
        checkpoint_fingerprint(tmp_path)


def test_clips_are_told_apart_by_their_pixels() -> None:
    one = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), np.uint8)
    other = one.copy()
    other[4, 0, 0, 0] ^= 1
    assert clip_fingerprint(one) == clip_fingerprint(np.asfortranarray(one))
    prints = {clip_fingerprint(rgb) for rgb in (one, other, one[:4], one.reshape(5, 40, 30, 3))}
    assert len(prints) == 4
