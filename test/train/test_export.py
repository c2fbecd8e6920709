"""What a run leaves: it follows the run's own recipe, and is whole or as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.folders import contents
from fixtures.train_process import run_small, small_recipe

from dkt_ros.errors import DktError
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.model.info import CheckpointInfo
from dkt_ros.model.merge import merge_into_checkpoint
from dkt_ros.train.export import export_best, export_run
from dkt_ros.train.recipe import load_recipe

OWN: dict[str, Any] = {
    "name": "glass",
    "steps": 1,
    "size": [48, 64],
    "objective": {"kind": "one_step"},
    "lora": {"rank": 8, "targets": ["self_attn.q", "ffn.0"]},
}


@pytest.fixture(scope="module")
def run(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step whose recipe has little in common with the default."""
    output = tmp_path_factory.mktemp("run")
    run_small(small_recipe(tiny_checkpoint, **OWN), output)
    return output


def test_the_runs_own_recipe_exports_the_same_again(run: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    expected = contents(whole)
    for name in ("adapter", "checkpoint"):
        shutil.rmtree(whole / name)
    (whole / "dkt_lora.safetensors").unlink()
    info = export_run(load_recipe(whole / "recipe.yaml"), whole)
    assert contents(whole) == expected
    assert (info.name, info.steps, info.height, info.width) == ("glass", 1, 48, 64)
    assert "LoRA of rank 8 over 1 step of dkt train, one_step" in info.origin
    config = json.loads((whole / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], sorted(config["target_modules"])) == (8, ["attn1.to_q", "ffn.net.0.proj"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lora": {"rank": 4}}, r"lora.rank was 8, the recipe says 4, .* --set lora.rank=8 --set"),
        ({"lora": {"rank": 8}}, r"lora.targets was \['self_attn\.q', 'ffn\.0'\]"),
        ({"objective": {}}, "objective.kind was one_step, .* --set 'objective.kind=\"one_step\"'"),
        ({"size": [32, 48]}, r"size was \[48, 64\], the recipe says \[32, 48\]"),
        ({"name": None}, "name was glass, the recipe says None; .* --set 'name=\"glass\"'"),
        ({"method": "full"}, "method was lora, the recipe says full"),
    ],
)
def test_a_recipe_that_is_not_the_runs_is_refused(
    tiny_checkpoint: Path, run: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(DktError, match=named):
        export_run(small_recipe(tiny_checkpoint, **{**OWN, **changes}), whole)
    assert contents(whole) == contents(run)


def test_what_decides_nothing_may_differ(tiny_checkpoint: Path, run: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    other = small_recipe(tiny_checkpoint, **{**OWN, "steps": 9, "data": [{"path": "moved"}]})
    export_run(other, whole)
    assert contents(whole) == contents(run)


def test_the_base_may_have_moved_but_not_changed(
    tiny_checkpoint: Path, run: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    recipe = small_recipe(tiny_checkpoint, **OWN)
    moved = shutil.copytree(tiny_checkpoint, tmp_path / "moved")
    export_run(replace(recipe, checkpoint=str(moved)), whole)
    assert contents(whole) == contents(run)
    merge_into_checkpoint(tiny_checkpoint, run / "adapter", tmp_path / "other")
    with pytest.raises(DktError, match=r"other holds other weights than the run in .*run began"):
        export_run(replace(recipe, checkpoint=str(tmp_path / "other")), whole)
    assert contents(whole) == contents(run)


@pytest.mark.parametrize(
    "name", ["dkt_lora.safetensors", "adapter", "states/step-00000001/adapter"]
)
def test_a_merged_adapter_is_the_network_that_was_trained(
    tiny_checkpoint: Path, run: Path, tmp_path: Path, name: str
) -> None:
    """Shown what it was trained with, whatever the base was shown, at its size, in its steps."""
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    before = CheckpointInfo.read(base)
    replace(before, condition="from_raw_depth").write(base)
    merge_into_checkpoint(base, run / name, tmp_path / "merged")
    merged, trained = (CheckpointInfo.read(p) for p in (tmp_path / "merged", run / "checkpoint"))
    for stated in ("condition", "steps", "height", "width"):
        assert getattr(merged, stated) == getattr(trained, stated)
    assert merged.steps == 1 < before.steps


def test_the_best_of_an_earlier_end_goes_where_the_last_is_best(
    tiny_checkpoint: Path, run: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    shutil.copytree(whole / "states", whole / "best")  # of step 1
    recipe = small_recipe(tiny_checkpoint, **OWN)
    export_best(recipe, whole, done=2)
    assert "over 1 step of" in CheckpointInfo.read(whole / "checkpoint-best").origin
    export_best(recipe, whole, done=1)
    assert not (whole / "checkpoint-best").exists()


def test_a_resumed_run_is_exported_as_it_is_now(
    tiny_checkpoint: Path, run: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    run_small(small_recipe(tiny_checkpoint, **{**OWN, "name": "new"}), whole, resume=True)
    assert CheckpointInfo.read(whole / "checkpoint").name == "new"


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("adapter/adapter_config.json", "run cannot be exported to"),
        ("adapter/adapter_model.safetensors", "run cannot be exported to"),
        ("checkpoint/transformer/diffusion_pytorch_model.safetensors", "checkpoint cannot be"),
    ],
)
def test_a_full_disk_is_named_and_leaves_what_was_there(
    tiny_checkpoint: Path,
    run: Path,
    tmp_path: Path,
    limit_files: Callable[[int], AbstractContextManager[None]],
    file: str,
    named: str,
) -> None:
    whole = shutil.copytree(run, tmp_path / "run")
    recipe = small_recipe(tiny_checkpoint, **OWN)
    room = (run / file).stat().st_size - 1
    with limit_files(room), pytest.raises(DktError, match=rf"{named}.*File too large"):
        export_run(recipe, whole)
    assert contents(whole) == contents(run)
    export_run(recipe, whole)
    assert load_checkpoint(whole / "checkpoint").info.name == "glass"


def test_a_run_without_a_state_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DktError, match="nothing to export yet"):
        export_run(small_recipe(tiny_checkpoint), tmp_path)
